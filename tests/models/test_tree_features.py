import keras
import numpy as np
import pytest
import tensorflow as tf

from mmnet.models.estimator import Sample
from mmnet.models.smoothed_history import posterior_mean
from mmnet.models.tree_features import LOGGED, SMOOTHED, TreeColumns, TreeFeatures
from mmnet.schema import AgeSpec, CycleSpec, LifetimeSpec, NumericSpec
from tests.conformance import check_layer
from tests.models import tiny

pytest.importorskip("sklearn", reason="the extra [baselines] is not installed")

EXAMPLES = 10_000


def spec_of(window):
    """Every kind of tensor."""
    return tiny.SPEC.model_copy(
        update={
            "window": window,
            "age": AgeSpec(since="release", hidden=True),
            "cycles": (CycleSpec(name="weekday", seen=(0, 1)),),
            "lifetime": LifetimeSpec(log_start=0),
            "taxonomy_evidence": True,
            "numerics": (*tiny.SPEC.numerics, NumericSpec(name="size", mean=0.0, sd=1.0)),
        }
    )


def batch(spec, examples=EXAMPLES):
    """With items that lack a history, the taxonomies, a title or a cover."""
    found = tiny.batch(spec, examples=examples)
    for start, name, absent in (
        (0, "missing_flag", 1),
        (1, "taxonomy_missing_flag", 1),
        (2, "text_title", 0),
        (3, "vector_cover", 0),
        (4, "field_tags", 1),
        (5, "taxonomy_evidence", -1),
    ):
        found[name][start::20] = absent
    found["clicks"][::3] *= 54_321  # logarithms of such counts are rounded to few values
    return found


def fitted(window, components=4):
    spec = spec_of(window)
    inputs = batch(spec)
    features = TreeFeatures(spec, coarse=True, text_components=components, seed=0)
    ones = np.ones(EXAMPLES, "float32")
    rate = inputs["share_rate"].mean(axis=1)
    features.fit(Sample(inputs, rate, 50 * ones, ones), "lightgbm")
    return features, inputs


@pytest.fixture(scope="module")
def both():
    return fitted(11)


@pytest.mark.parametrize("compiled", [False, True])
def test_columns_of_training_and_of_exports_are_the_same_to_the_bit(both, compiled):
    features, inputs = both
    layer, expected = features.layer(), features.array(inputs)
    logged = [name.startswith(LOGGED) for name in features.names()]
    assert sum(logged) == features.spec.window + 2  # and all in the window, and before it
    call = tf.function(layer, jit_compile=compiled)
    found = np.array(call({name: tf.constant(one) for name, one in inputs.items()}))
    found[:, logged] = np.log1p(found[:, logged])
    np.testing.assert_array_equal(found, expected)  # takes NaN for equal to NaN


def test_the_smoothed_rate_is_the_posterior_mean(both):
    features, inputs = both
    mu, kappa = features.state["prior"]
    np.testing.assert_array_equal(
        features.columns(inputs)[SMOOTHED],
        posterior_mean(inputs, mu, kappa).astype("float32"),
    )


@pytest.mark.parametrize("window", [1, 7, 8, 16, 19, 128, 129, 300])
def test_means_are_summed_in_the_order_of_numpy(window):
    spec = tiny.SPEC.model_copy(update={"window": window, "texts": (), "fields": ()})
    features = TreeFeatures(spec, coarse=True, text_components=0, seed=0)
    features.state = {"prior": np.array([0.1, 10.0])}
    inputs = tiny.batch(spec, examples=200)
    columns = features.columns(inputs)
    seen = inputs["missing_flag"] < 1
    some = seen.any(axis=1)
    mean = (inputs["share_rate"].sum(axis=1) / np.maximum(seen.sum(axis=1), 1)).astype("float32")
    np.testing.assert_array_equal(columns["mean_rate"], np.where(some, mean, np.nan))
    clicks = inputs["clicks"].sum(axis=1)
    pooled = (inputs["share_rate"] * inputs["clicks"]).sum(axis=1) / np.maximum(clicks, 1)
    np.testing.assert_array_equal(columns["pooled_rate"], np.where(some, pooled, np.nan))
    np.testing.assert_array_equal(columns["log_total_clicks"], np.log1p(clicks))


def test_what_a_mean_rests_on_is_read_as_it_is_and_hides_the_mean_where_it_is_unknown(both):
    features, inputs = both
    columns = features.columns(inputs)
    evidence, flag = inputs["taxonomy_evidence"], inputs["taxonomy_missing_flag"]
    seen = (evidence >= 0) & (flag < 1)
    assert (evidence[5::20] == -1).all()
    for step in (0, features.spec.window - 1):
        for number, name in enumerate(("category", "tags")):
            at = (slice(None), step, number)
            for column, values in (("evidence", evidence), ("rate", inputs["taxonomy_rate"])):
                found = columns[f"taxonomy_{name}_{column}_{step}"]
                np.testing.assert_array_equal(found, np.where(seen, values, np.nan)[at])
            found = columns[f"taxonomy_{name}_flag_{step}"]
            np.testing.assert_array_equal(found, np.where(evidence < 0, 1, flag)[at])


def test_a_column_has_the_name_that_it_had(both):
    features, _ = both
    names = features.names()
    assert len(names) == len(set(names))
    window = features.spec.window
    assert names[0] == "share_rate_0"
    assert names[2 * window : 2 * window + 2] == ["log_clicks_0", "log_clicks_1"]
    for name in ("field_tags_category", "field_tags_2", "text_title_0", "vector_cover_2", "age"):
        assert name in names
    assert "field_tags_0" not in names


def test_conforms(tmp_path):
    features, inputs = fitted(3)
    few = {name: one[1:2] for name, one in inputs.items()}
    state = {name: list(one.shape) for name, one in features.state.items()}
    spec = features.spec.model_dump(mode="json")
    layer = TreeColumns(spec, state, coarse=True)
    for name, weight in layer.state.items():
        weight.assign(features.state[name])
    keras.utils.clear_session(False)
    check_layer(layer, few, tmp_path=tmp_path)
