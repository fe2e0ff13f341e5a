import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given
from hypothesis import strategies as st
from tensorflow.python.saved_model.loader_impl import parse_saved_model

from mmnet import config
from mmnet.checks import InputError
from mmnet.data import dataset as datasets
from mmnet.data import input_tables, spelling
from mmnet.data.windows import Windows
from mmnet.flags import parse
from mmnet.models import REGISTRY
from mmnet.models.mmnet import attention_probe, fusion_names, mmnet
from mmnet.models.mmved import mmved
from mmnet.models.options import MMNetOptions, MmvedOptions
from mmnet.schema import FeatureSpec, FieldSpec
from mmnet.serving import examples, export, exported
from mmnet.tasks import building
from mmnet.training import resume
from tests.data import test_spelling as spellings
from tests.serving import exported as small


@pytest.fixture(scope="module")
def trained(run_dir):
    """The trained model rebuilt from its run, and its test windows."""
    flags = parse(config.TrainConfig, [f"--flagfile={run_dir / 'flags.txt'}"])
    dataset = datasets.load(run_dir / "dataset")
    builder, options = building.model_options(flags)
    model = builder(dataset.fitted.spec, **builder.accepted(options))
    resume.load_weights(model, run_dir / building.WEIGHTS, dataset.fingerprint)
    return model, dataset


@pytest.fixture(scope="module")
def batch(trained):
    _, dataset = trained
    return next(Windows(dataset).batches(dataset.split.test, 64))[1]


@pytest.fixture(scope="module")
def loaded(run_dir):
    """The run's export."""
    return export.load(run_dir / "export")[0]


@pytest.fixture(scope="module")
def light(trained):
    """A model of the same inputs that is exported in less time, and what was fitted."""
    _, dataset = trained
    return mmved(dataset.fitted.spec, MmvedOptions(units=4, field_width=2)), dataset.fitted


def test_named_tensors_score_as_the_model_does(loaded, trained, batch):
    model, _ = trained
    found = loaded.signatures["serving_default"](**batch)[exported.OUTPUT]
    # Two orders of float32 sums: relative 1e-5 of rates of a few percent.
    np.testing.assert_allclose(found, model(batch, training=False), rtol=1e-5, atol=1e-5)


def test_raw_columns_score_as_the_named_tensors_do(loaded, trained, batch):
    _, dataset = trained
    panel, examples, window = dataset.panel, dataset.split.test, dataset.fitted.spec.window
    items, times = examples.items[:64], examples.times[:64]

    def history(counts):
        padded = np.pad(counts, ((0, 0), (window - 1, 0)))
        return padded[items[:, None], times[:, None] + np.arange(window)]

    table = input_tables.load_tables(dataset.fitted.tables).items.data.to_pandas().iloc[items]
    raw = {
        "clicks": history(panel.clicks),
        "shares": history(panel.shares),
        "taxonomy_rate": batch["taxonomy_rate"],
        "taxonomy_missing_flag": batch["taxonomy_missing_flag"],
        "vector_cover": batch["vector_cover"],
        "number_duration": table["duration"].to_numpy("float32"),
        **{
            f"item_{column}": table[column].to_numpy(str)
            for column in ("category", "tags", "author", "title")
        },
    }
    scored = loaded.signatures["raw_columns"](**{k: tf.constant(v) for k, v in raw.items()})
    wanted = loaded.signatures["serving_default"](**batch)[exported.OUTPUT]
    # The same graph on inputs equal up to one float32 rounding of the rate and the number.
    np.testing.assert_allclose(scored[exported.OUTPUT], wanted, rtol=1e-5, atol=1e-5)


def test_raw_columns_take_what_training_never_saw(loaded, trained):
    fitted = trained[1].fitted
    raw = {
        name: tf.zeros([2, *spec.shape[1:]], spec.dtype)
        if spec.dtype != tf.string
        else tf.constant(["", "never; seen ;;猫"])
        for name, spec in export.raw_inputs(fitted).items()
    }
    raw["number_duration"] = tf.constant([np.nan, 1e30])
    scored = loaded.signatures["raw_columns"](**raw)[exported.OUTPUT].numpy()
    assert np.isfinite(scored).all()


@given(st.lists(spellings.TEXT, max_size=20))
@example([before + word for word in spellings.WORDS for before in spellings.SPACES])
def test_a_graph_spells_values_as_tables_do(values):
    found = export.spelled(tf.constant(values, tf.string)).numpy().tolist()
    assert [one.decode() for one in found] == [spelling.spelled(value) for value in values]


def test_raw_columns_are_cut_at_the_separator_of_the_tables():
    spec = FeatureSpec(window=1, horizon=1, fields=(FieldSpec(name="tags", size=4, max_values=3),))
    own = small.fitted(spec)
    own = own.model_copy(
        update={
            "vocabularies": {"field_tags": ["a;b", "true"]},
            "tables": config.TableFlags(list_separator="|"),
        }
    )
    model = REGISTRY["gru"](spec)
    counts = tf.zeros([2, 1], tf.int64)
    columns = {"item_tags": tf.constant(["TRUE | a;b", "a|"]), "clicks": counts, "shares": counts}
    found = export.Servable(model, own).read(**columns)
    assert found["field_tags"].numpy().tolist() == [[3, 2, 0], [1, 0, 0]]


def test_loads_with_plain_tensorflow(run_dir, batch, tmp_path):
    np.savez(tmp_path / "batch.npz", **{name: t.numpy() for name, t in batch.items()})
    example = examples.serialize({"item_category": np.array(["comedy"], object)})[0]
    np.save(tmp_path / "row.npy", np.frombuffer(example, np.uint8))
    script = f"""
        import sys, numpy as np, tensorflow as tf
        model = tf.saved_model.load({str(run_dir / "export" / "1")!r})
        batch = np.load({str(tmp_path / "batch.npz")!r})
        inputs = {{name: tf.constant(batch[name]) for name in batch.files}}
        score = model.signatures["serving_default"](**inputs)["predicted_share_rate"]
        explained = model.signatures["explained"](**inputs)["fusion_weights"]
        assert explained.shape[0] == score.shape[0]
        row = np.load({str(tmp_path / "row.npy")!r})
        found = model.signatures["examples"](examples=tf.constant([row.tobytes(), b""]))
        assert np.isfinite(found["predicted_share_rate"]).all()
        # TensorFlow itself imports keras, so that one says nothing.
        foreign = ("mmnet", "tcn", "tf_keras", "tensorflow_serving")
        foreign = [m for m in sys.modules if m.split(".")[0] in foreign]
        print(score.shape[0], foreign)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "64 []", done.stderr


def test_the_explained_signature_gives_the_probes_weights_beside_the_score(
    run_dir, loaded, trained, batch
):
    model, _ = trained
    signatures = loaded.signatures
    assert (
        signatures["explained"].structured_input_signature
        == signatures["serving_default"].structured_input_signature
    )
    found = signatures["explained"](**batch)
    # The same graph twice; another order of float32 sums.
    wanted = signatures["serving_default"](**batch)[exported.OUTPUT]
    np.testing.assert_allclose(found[exported.OUTPUT], wanted, rtol=1e-5, atol=1e-5)
    weights = found[export.WEIGHTS].numpy()
    np.testing.assert_allclose(weights, attention_probe(model)(batch)["fusion"], rtol=1e-5)
    assert exported.modalities(run_dir / "export") == tuple(fusion_names(model))
    assert weights.shape == (64, len(fusion_names(model)))


def test_an_item_without_a_title_is_scored_from_what_it_has(run_dir, loaded, batch):
    names = exported.modalities(run_dir / "export" / "1")
    untitled = {**batch, "text_title": tf.zeros_like(batch["text_title"])}
    weights = loaded.signatures["explained"](**untitled)[export.WEIGHTS].numpy()
    np.testing.assert_array_equal(weights[:, names.index("text_title")], 0)
    # Float32 weights of three modalities.
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-6)


def test_a_model_without_a_gate_has_nothing_to_explain(light, batch, tmp_path):
    export.export(*light, tmp_path)
    loaded, _ = export.load(tmp_path)
    assert set(loaded.signatures) == {
        "serving_default",
        "raw_columns",
        "examples",
        "static",
        "from_static",
    }
    scored = loaded.signatures["from_static"](**in_two_steps(loaded.signatures, batch))
    assert set(scored) == {exported.OUTPUT}
    with pytest.raises(InputError, match="has no gated fusion with weights to show"):
        exported.modalities(tmp_path)


def test_what_was_fitted_goes_along(run_dir, trained):
    _, dataset = trained
    _, fitted = export.load(run_dir / "export" / "1")
    assert fitted == dataset.fitted
    about = json.loads(
        (run_dir / "export" / "1" / exported.AboutShareRates.FILE).read_text(encoding="utf-8")
    )
    assert about["flags"]["model"] == "mmnet"


def test_a_model_that_would_score_otherwise_is_not_exported(light, batch, tmp_path, monkeypatch):
    real = export.Servable.tensors
    monkeypatch.setattr(
        export.Servable,
        "tensors",
        lambda self, **inputs: {exported.OUTPUT: real(self, **inputs)[exported.OUTPUT] + 0.01},
    )
    with pytest.raises(RuntimeError, match="not exported"):
        export.export(*light, tmp_path / "out", check={k: v.numpy() for k, v in batch.items()})
    assert list((tmp_path / "out").iterdir()) == []


def test_a_newer_version_stands_beside_the_older_and_is_found(light, tmp_path):
    for version in (1, 2):
        export.export(*light, tmp_path, version=version)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1", "2"]
    export.load(tmp_path)


def test_a_version_that_was_moved_aside_is_found_until_the_new_one_is_there(tmp_path):
    """What a process leaves that was killed while it replaced version 2, and wrote version 3."""
    old = ".2.new-0123456789ab-old"
    for name in ("1", old, ".2.new-0123456789ab", ".3.new-0123456789ab"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "saved_model.pb").touch()
    assert exported.version_directory(tmp_path) == tmp_path / old
    assert exported.version_directory(tmp_path / "2") == tmp_path / old
    assert exported.version_directory(tmp_path / "1") == tmp_path / "1"
    with pytest.raises(InputError, match="no SavedModel there"):
        exported.version_directory(tmp_path / "3")
    (tmp_path / ".2.new-0123456789ab").rename(tmp_path / "2")
    assert exported.version_directory(tmp_path) == tmp_path / "2"
    assert exported.version_directory(tmp_path / "2") == tmp_path / "2"


def test_a_pointer_names_the_version_to_use(tmp_path):
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "saved_model.pb").touch()
    pointer = tmp_path / exported.CHAMPION
    pointer.write_text("1\n")
    assert exported.version_directory(tmp_path) == tmp_path / "1"
    assert exported.version_directory(tmp_path / "2") == tmp_path / "2"
    for text in ("3\n", "", "²"):
        pointer.write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match="champion must name one of the versions 1, 2; "):
            exported.version_directory(tmp_path)


def test_signatures_share_one_trace_of_the_network(small_export):
    library = parse_saved_model(str(small_export)).meta_graphs[0].graph_def.library
    head = "/standardised_share_rate"  # in the network itself, and in its half of the history
    traces = [one for one in library.function if any(head in node.name for node in one.node_def)]
    assert len(traces) == 2
    found = export.load(small_export)[0].signatures
    assert {"serving_default", "raw_columns", "examples", "explained", "from_static"} <= set(found)


def test_a_directory_without_a_saved_model_is_named(tmp_path):
    with pytest.raises(InputError, match="no SavedModel there"):
        export.load(tmp_path)


def in_two_steps(signatures, batch):
    """The inputs of `from_static`."""
    static = signatures["static"].structured_input_signature[1]
    kept = signatures["static"](**{name: batch[name] for name in static})
    return {**{name: one for name, one in batch.items() if name not in static}, **kept}


def test_the_two_halves_score_as_the_whole_does(loaded, trained, batch):
    model, _ = trained
    signatures = loaded.signatures
    inputs = in_two_steps(signatures, batch)
    # A vector of 8 and a flag for the meta features, the title and the cover.
    assert inputs["static"].shape == (64, 3 * (8 + 1))
    found, wanted = signatures["from_static"](**inputs), signatures["explained"](**batch)
    # The same operations in two graphs; another order of float32 sums.
    for name in (exported.OUTPUT, export.WEIGHTS):
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found[exported.OUTPUT], model(batch), rtol=1e-5, atol=1e-5)


def test_a_half_that_would_score_otherwise_is_not_exported(light, batch, tmp_path, monkeypatch):
    real = export.Servable.static
    monkeypatch.setattr(
        export.Servable,
        "static",
        lambda self, **inputs: {"static": real(self, **inputs)["static"] * 1.1},
    )
    check = {name: tensor.numpy() for name, tensor in batch.items()}
    with pytest.raises(RuntimeError, match=r"not exported: .*from_static returns row"):
        export.export(*light, tmp_path / "out", check=check)


def test_a_model_without_content_has_no_halves(trained, tmp_path):
    fitted = trained[1].fitted
    bare = fitted.spec.model_copy(update={"fields": (), "numerics": (), "texts": (), "vectors": ()})
    fitted = fitted.model_copy(update={"spec": bare})
    export.export(mmnet(bare, MMNetOptions(units=4)), fitted, tmp_path)
    signatures = export.load(tmp_path)[0].signatures
    assert set(signatures) == {"serving_default", "explained", "raw_columns", "examples"}
