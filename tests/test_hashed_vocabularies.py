"""`--hash_vocabularies`: the scores of a run without it, and an export without users' values."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import tensorflow as tf

from mmnet import config, driver, tasks
from mmnet.checks import InputError
from mmnet.data import dataset as datasets
from mmnet.data import items
from mmnet.data.tables import Table
from mmnet.data.windows import Windows
from mmnet.encoders import value_hashes
from mmnet.flags import parse
from mmnet.models import REGISTRY
from mmnet.serving import export, exported, golden, known_values, profile

VALUES = {
    "genre": ["genre-zebra", "genre-okapi", "genre-tapir"],
    "tags": ["tag-walrus", "tag-lemur", "tag-gecko", "tag-bison"],
    "author": ["author-quokka", "author-narwhal", "TRUE"],
}
WORDS = ["wordalpaca", "wordcondor", "wordibis"]
ITEMS, PERIODS = 120, 12


def tables(place):
    """An items table with recognisable values, and counts that depend on them."""
    draw = np.random.default_rng(0)
    of = {name: draw.integers(0, len(values), ITEMS) for name, values in VALUES.items()}
    rows = {name: [VALUES[name][one] for one in of[name]] for name in ("genre", "author")}
    tags = VALUES["tags"]
    rows["tags"] = [f"{tags[one]};{tags[(one + 1) % 4]}" for one in of["tags"]]
    rows["title"] = [f"{WORDS[n % 3]} {WORDS[n % 2]}!" for n in range(ITEMS)]
    rows["title"][5] += " wordrare"
    rows["item_id"] = [f"itemid{n}" for n in range(ITEMS)]
    unseen = {"genre": "genre-unseen", "author": "author-unseen", "tags": "tag-unseen"}
    for name, value in (unseen | {"title": "wordlate wordlate", "item_id": "itemidlate"}).items():
        rows[name].append(value)  # an item without counts
    pa.parquet.write_table(pa.table(rows), place / "items.parquet")
    item, period = np.divmod(np.arange(ITEMS * PERIODS), PERIODS)
    clicks = draw.integers(50, 90, len(item))
    counts = {
        "item_id": [rows["item_id"][one] for one in item],
        "period": period,
        "clicks": clicks,
        "shares": draw.binomial(clicks, 0.1 + 0.2 * of["genre"][item]),
    }
    pa.parquet.write_table(pa.table(counts), place / "counts.parquet")
    return [f"--items={place}/items.parquet", f"--counts={place}/counts.parquet"]


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """Tables, and exports of one network by a dataset without hashes and by one with them."""
    place = tmp_path_factory.mktemp("hashed")
    flags, found = tables(place), {}
    flags += ["--taxonomies=genre,tags", "--categoricals=author", "--texts=title", "--window=3"]
    flags += ["--min_target_clicks=1", "--min_test_rows=1"]
    network = None
    for name, more in (("plain", []), ("hashed", ["--hash_vocabularies"])):
        directory = f"--dataset_dir={place / name}"
        tasks.prepare(parse(config.PrepareConfig, [*flags, *more, directory]))
        dataset = datasets.load(place / name)
        network = network or REGISTRY["gru"](dataset.fitted.spec, units=4, field_width=2)
        windows, examples = Windows(dataset), dataset.examples("validation")
        described = profile.fit(
            dataset, windows, dataset.examples("train"), examples, windows.targets(examples)
        )
        found[name] = export.export(
            network,
            dataset.fitted,
            place / f"{name}-export",
            rows=golden.rows(dataset, windows, examples),
            assets={profile.FILE: described.model_dump(mode="json")},
        )
    return found, flags[:2]


@pytest.fixture(scope="module")
def loaded(exports):
    """The signatures of both exports."""
    # A signature does not keep its variables alive; its module does.
    return [tf.saved_model.load(str(path)) for path in exports[0].values()]


def test_the_ids_of_values_are_those_without_hashes(exports):
    plain, hashed = (datasets.load(path.parents[1] / name) for name, path in exports[0].items())
    assert plain.tensors.keys() == hashed.tensors.keys()
    for name, array in plain.tensors.items():
        np.testing.assert_array_equal(hashed.tensors[name], array)
    assert plain.fingerprint != hashed.fingerprint


@pytest.mark.slow
def test_scores_of_tables_are_those_without_hashes_bit_for_bit(exports, tmp_path):
    found, where = [], exports[1]
    for name, path in exports[0].items():
        scores = tmp_path / f"{name}.parquet"
        flags = [f"--saved_model={path}", *where, f"--output={scores}"]
        assert driver.run(config.PredictConfig, None, "predict", flags) == driver.OK
        found.append(pyarrow.parquet.read_table(scores))
    assert found[1].equals(found[0])
    assert len(set(found[0]["predicted_share_rate"].to_pylist())) > 10


def test_scores_of_raw_columns_are_too_and_a_client_may_hash_itself(loaded):
    raw = {
        "clicks": np.full((3, 3), 60),
        "shares": np.full((3, 3), 9),
        "taxonomy_rate": np.full((3, 3, 2), 12, np.float32),
        "taxonomy_missing_flag": np.zeros((3, 3, 2), np.float32),
        "item_genre": np.array(["genre-okapi", "unseen", ""]),
        "item_tags": np.array([" tag-gecko ;tag-lemur", "tag-bison;unseen", ""]),
        "item_author": np.array(["true", "author-narwhal", "author-quokka"]),
        "item_title": np.array(["WordAlpaca, wordibis", "unseen", ""]),
    }

    def score(module, **changed):
        inputs = {name: tf.constant(array) for name, array in (raw | changed).items()}
        return module.signatures["raw_columns"](**inputs)[exported.OUTPUT].numpy()

    plain, hashed = loaded
    wanted = score(plain)
    np.testing.assert_array_equal(score(hashed), wanted)
    own = np.array([*value_hashes.hash_texts(["genre-okapi", "unseen"]), ""], object)
    np.testing.assert_array_equal(score(hashed, item_genre=own), wanted)
    unseen = np.array(["unseen"] * 3)
    assert score(hashed, item_genre=unseen, item_tags=unseen)[0] != wanted[0]


def bytes_of(export):
    """Every byte of an export's files; texts in JSON without their escapes."""
    found = b""
    for path in sorted(export.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            found += content.decode("unicode_escape").encode() if path.suffix == ".json" else b""
            found += content
    return found.lower()


def test_no_value_of_a_column_of_texts_is_in_the_export(exports):
    values = [value.lower().encode() for of in VALUES.values() for value in of if value != "TRUE"]
    values += [word.encode() for word in WORDS]
    plain, hashed = map(bytes_of, exports[0].values())
    assert [value for value in values if value not in plain] == []  # the search finds them
    # What docs/compatibility.md says that no export contains.
    others = [b"itemid", b"wordrare", b"wordlate", b"unseen", b"wordalpaca wordalpaca!"]
    assert [value for value in others if value in plain or value in hashed] == []
    assert [value for value in values if value in hashed] == []


def test_the_golden_rows_hold_hashes_and_the_scores_of_values(exports, loaded):
    path = exports[0]["hashed"]
    rows = {
        one.signature: one
        for one in golden.read(path / golden.FILE)
        if len(next(iter(one.outputs.values()))) > 1
    }
    one = rows["raw_columns"]
    values = set(one.inputs["item_genre"].tolist()) - {b"", b"neverseenintraining"}
    assert len(values) > 1
    assert all(value.startswith(b"h64x") for value in values)
    tolerance = exported.about(path, exported.AboutShareRates).tolerance
    assert golden.differences(loaded[1].signatures, one, tolerance) == ""
    wanted = rows["serving_default"].outputs[exported.OUTPUT]
    np.testing.assert_allclose(one.outputs[exported.OUTPUT], wanted, rtol=1e-5)  # `PARITY`


def test_unknown_values_are_counted_alike(exports):
    plain, hashed = map(exported.fitted, exports[0].values())
    table = Table(
        pa.table(
            {"genre": ["genre-okapi", "?"], "tags": ["tag-lemur;?", ""], "author": ["TRUE", "?"]}
        ),
        "items",
    )
    of_tables = [known_values.of_items(table, fitted) for fitted in (plain, hashed)]
    numbers = [[(one.field, one.filled, one.unknown) for one in found] for found in of_tables]
    assert numbers[0] == numbers[1] == [("genre", 2, 1), ("tags", 2, 1), ("author", 2, 1)]
    request = {"item_genre": np.array([b"genre-okapi", b"?"], object)}
    for fitted in (plain, hashed):
        assert known_values.ValueCounts(fitted).count(request) == ({"genre": 1}, [])
    assert known_values.Seen("genre", 2, 2, ["?"], hashed.vocabularies["field_genre"]).warning(
        "items.csv"
    ) == (
        "items.csv: genre: 2 of 2 values are unknown to the model, such as '?', and are scored as "
        "unknown; values of training are stored as hashes. Check how the column is written"
    )


def test_the_profile_has_the_same_shares_under_hashes(exports):
    plain, hashed = (
        exported.document(path, profile.FILE, profile.Profile).inputs["field: tags"]
        for path in exports[0].values()
    )
    names = value_hashes.hash_texts(plain.values).tolist()
    assert dict(zip(hashed.values, hashed.shares, strict=False)) == dict(
        zip(names, plain.shares, strict=False)
    )


def test_a_separator_that_would_cut_hashes_is_refused():
    table = Table(pa.table({"tags": ["a6b"]}), "items")
    flags = config.TableFlags(taxonomies=("tags",), list_separator="6")
    with pytest.raises(InputError, match=r"--hash_vocabularies: .*Received: --list_separator=6"):
        items.fit_fields(table, np.array([True]), flags, hashed=True)
