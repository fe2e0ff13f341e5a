"""The signature `decide`: what NumPy decides, inside a graph."""

import keras
import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from keras import ops

from mmnet import config, tasks
from mmnet.data import dataset as datasets
from mmnet.data.splits import Examples
from mmnet.data.windows import Windows
from mmnet.evaluation.conformal import Group, Intervals
from mmnet.models.fine_granularity import model_inputs
from mmnet.serving import decision, export, exported, golden, reasons
from mmnet.serving.decision import Decisions, Explore, Rule
from mmnet.serving.exported import AboutShareRates
from tests.models import tiny
from tests.serving import exported as small

QUOTA = Rule(
    kind="keep",
    value=0.3,
    threshold=4.0,
    kept_share=0.3,
    recall=0.9,
    n=900,
    per="category",
    thresholds={"w0": 3.0, "w2": 5.0},
    band_share=0.2,
    explore_probability=0.25,
)
GROUPS = [("normal", 0, -1.0, 1.0), ("normal", 100, -0.5, 0.5), ("cold_start", 0, -1.0, 2.0)]
NAMES = ("scenario", "clicks", "low", "high")


def decisions(max_rate=100.0, groups=GROUPS, **changed):
    return Decisions(
        top_percent=5,
        rules={"keep=0.3 per category": QUOTA.model_copy(update=changed)},
        intervals=Intervals(
            level=0.9,
            floor=0.1,
            max_rate=max_rate,
            groups=tuple(Group(n=500, **dict(zip(NAMES, one, strict=True))) for one in groups),
        ),
        explore=Explore(salt="00112233445566778899aabbccddeeff", share=0.05),
    )


def model():
    """The mean rate of the window, and half of the vector's first entry."""
    inputs = model_inputs(tiny.SPEC)
    own = ops.mean(inputs["share_rate"], axis=1)
    return keras.Model(inputs, ops.relu(own + 0.5 * inputs["vector_cover"][:, 0]))


@pytest.fixture(scope="module")
def fitted():
    return small.fitted(tiny.SPEC)


def servable(fitted, **changed):
    return export.Servable(model(), fitted, decisions(**changed))


def columns(fitted, rows=4, seed=0):
    """Raw columns of some items, a third of them without history."""
    draw = np.random.default_rng(seed)
    found = {}
    for name, one in export.raw_inputs(fitted).items():
        shape = (rows, *one.shape[1:])
        if one.dtype == tf.string:
            found[name] = np.array([f"w{number}" for number in draw.integers(0, 5, rows)], object)
        else:
            found[name] = draw.normal(size=shape).astype(one.dtype.as_numpy_dtype)
    found["clicks"] = draw.integers(0, 60, (rows, tiny.SPEC.window))
    found["clicks"][::3] = 0
    found["shares"] = draw.binomial(found["clicks"], draw.beta(2, 30, (rows, 1)))
    found["id"] = np.array([f"item {number}" for number in range(rows)], object)
    found["target_period"] = np.array(["7"] * rows, object)
    return found


def decided(served, given):
    found = served.decide(**{name: tf.constant(array) for name, array in given.items()})
    return {name: np.asarray(tensor) for name, tensor in found.items()}


def test_an_item_is_decided_by_hand(fitted):
    given = columns(fitted, rows=4)
    given["clicks"][:] = [[10] * 6, [10] * 6, [0] * 6, [100] * 6]
    given["shares"][:] = [[1, 0, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0], [0] * 6, [0, 30, 0, 0, 0, 0]]
    given["vector_cover"][:, 0] = [1, -4, 8, 1]
    given["item_category"][:] = ["w0", "w2", "nobody knows", ""]
    found = decided(servable(fitted, explore_probability=1.0), given)
    # Means of the window 10/6, 5, none, 5; half of the vector's entry 0.5, -2, 4, 0.5.
    score = np.array([10 / 6 + 0.5, 3.0, 4.0, 5.5])
    # float32 sums of six numbers.
    near = {"rtol": 1e-6, "atol": 1e-6}
    np.testing.assert_allclose(found["predicted_share_rate"], score, **near)
    np.testing.assert_allclose(found["reason_own_clicks"], [10 / 6, 3.0, 0.0, 5.0], **near)
    np.testing.assert_allclose(found["reason_vector_cover"], [0.5, -2.0, 4.0, 0.5], **near)
    np.testing.assert_array_equal(found["reason_text_title"], np.zeros(4))
    # Intervals of 60, 60, 0 and 600 clicks seen: ± sqrt, new items to twice that, half of it.
    high = score + np.array([1, 1, 2, 0.5]) * np.sqrt(score)
    np.testing.assert_allclose(found["share_rate_high"], high, **near)
    np.testing.assert_allclose(
        found["share_rate_low"], score - np.array([1, 1, 1, 0.5]) * np.sqrt(score), **near
    )
    # Thresholds 3, 5, and 4 for values that are unknown or missing.
    assert found["decision"].tolist() == [b"explore", b"drop", b"keep", b"keep"]
    assert found["propensity"].tolist() == [1, 0, 1, 1]


def test_many_rows_are_decided_as_numpy_decides(fitted):
    given, served = columns(fitted, rows=3000), servable(fitted)
    raw = {name: tf.constant(array) for name, array in given.items()}
    read = {name: np.asarray(tensor) for name, tensor in served.read(**raw).items()}
    variants = [read, *(read | reasons.filled(read, one) for one in HIDDEN.values())]
    network = model()
    scores = np.stack([np.asarray(network(one)) for one in variants])
    tolerance = AboutShareRates(fitted=fitted).tolerance
    wanted, far = served.decider.expected({exported.OUTPUT: scores}, read, given, tolerance)
    found = decided(served, given)
    assert set(found) == set(wanted)
    assert set(wanted["decision"]) == {b"keep", b"explore", b"drop"}
    assert far.mean() > 0.99
    for name, array in wanted.items():
        if array.dtype == object:
            np.testing.assert_array_equal(found[name][far], array[far])
        else:  # float32 sums, in another order for other batches
            np.testing.assert_allclose(found[name][far], array[far], rtol=1e-5, atol=1e-5)


HIDDEN = reasons.hidden(tiny.SPEC)


def test_another_spelling_of_the_period_explores_the_same_items(fitted):
    served, given = servable(fitted), columns(fitted, rows=600)
    first = decided(served, given)["decision"]
    spelled = given | {"target_period": np.array([" +07"] * 600, object)}
    np.testing.assert_array_equal(decided(served, spelled)["decision"], first)
    later = given | {"target_period": np.array(["8"] * 600, object)}
    assert (decided(served, later)["decision"] != first).any()


@pytest.mark.parametrize("name", ["id", "target_period"])
def test_what_a_draw_depends_on_must_be_there(fitted, name):
    given = columns(fitted)
    given[name][2] = ""
    with pytest.raises(tf.errors.InvalidArgumentError, match="id and target_period must not be"):
        decided(servable(fitted), given)
    decided(servable(fitted, explore_probability=0.0), given)  # nothing is drawn


def test_an_interval_without_an_end_stays_finite(fitted):
    groups = [("normal", 0, None, None)]
    found = decided(servable(fitted, max_rate=None, groups=groups), columns(fitted))
    assert (found["share_rate_low"] == 0).all()
    assert np.isfinite(found["share_rate_high"]).all()


def test_decisions_within_rounding_of_a_threshold_are_no_golden_rows(fitted, tmp_path):
    """A threshold that is the score of every row must not make an export depend on rounding."""
    given = columns(fitted, rows=4)
    given["shares"][:], given["vector_cover"][:] = 0, 8.0  # every score is 4
    rows = golden.Rows(
        tiny.batch(tiny.SPEC),
        {name: given[name] for name in export.raw_inputs(fitted)},
        {name: given[name] for name in ("id", "target_period")},
    )
    flat = {"threshold": 4.0, "thresholds": {}}
    export.export(model(), fitted, tmp_path, rows=rows, decisions=decisions(**flat))
    batches = golden.read(tmp_path / "1" / golden.FILE)
    *_, batch = (one for one in batches if one.signature == exported.DECIDE)
    assert len(batch.inputs["id"]) == 4
    assert not {"decision", "propensity"} & set(batch.outputs)
    assert {"share_rate_high", "reason_own_clicks"} < set(batch.outputs)


def test_the_exported_signature_decides_as_predict_does(run_dir, tmp_path):
    dataset = datasets.load(run_dir / "dataset")
    panel, items = dataset.panel, len(dataset.panel.item_ids)
    as_of = panel.clicks.shape[1] - 2
    output = tmp_path / "scores.parquet"
    common = {"saved_model": str(run_dir / "export"), "dataset_dir": str(run_dir / "dataset")}
    asked = {"rule": "stored", "explore": True, "explain": True}
    flags = config.PredictConfig(
        **common, **asked, output=str(output), as_of=str(panel.label(as_of))
    )
    tasks.predict(flags)
    predicted = pq.read_table(output)
    last = Examples(np.arange(items, dtype=np.int32), np.full(items, as_of, np.int32))
    rows = golden.rows(dataset, Windows(dataset), last, items)
    signature = export.load(run_dir / "export")[0].signatures[exported.DECIDE]
    own = rows.columns | rows.keys
    found = signature(**{name: tf.constant(array) for name, array in own.items()})
    assert rows.keys["id"].tolist() == predicted["item_id"].to_pylist()
    stored = exported.document(run_dir / "export", decision.FILE, Decisions)
    threshold = stored.rule("stored").threshold
    # Golden rows hide the history of every other item.
    close = np.zeros(items, bool)
    for name in ("predicted_share_rate", "share_rate_high"):
        close |= np.abs(predicted[name].to_numpy() - threshold) < 1e-5
    assert close.sum() < 5
    for name in set(found) - {"decision"}:
        wanted = predicted[name].to_numpy()[::2]
        # Float32 sums in another order, and one rounding of a number that was standardised.
        np.testing.assert_allclose(found[name][::2], wanted, rtol=1e-5, atol=2e-5, err_msg=name)
    given = np.array([one.decode() for one in found["decision"].numpy()])
    wanted = np.array(predicted["decision"].to_pylist())
    far = ~close[::2]
    np.testing.assert_array_equal(given[::2][far], wanted[::2][far])
