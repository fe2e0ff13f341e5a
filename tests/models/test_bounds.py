"""No finite input makes a score that is not finite, whatever the model."""

import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from mmnet.models import REGISTRY
from mmnet.models.estimator import SAME_SCORE, Sample
from mmnet.schema import (
    LARGEST_COUNT,
    LARGEST_ENTRY,
    LARGEST_NUMBER,
    LARGEST_RATE,
    OF_PERIODS,
    AgeSpec,
    CycleSpec,
    LifetimeSpec,
    VectorSpec,
)
from mmnet.serving.halves import STATIC, halves
from tests import extremes
from tests.extremes import ROWS
from tests.models import tiny

SPEC = tiny.SPEC.model_copy(
    update={
        "vectors": (*tiny.SPEC.vectors, VectorSpec(name="words", dim=3, of="text")),
        "age": AgeSpec(since="release", hidden=True),
        "cycles": (CycleSpec(name="weekday", seen=(0, 1, 2)),),
        "lifetime": LifetimeSpec(log_start=0),
        "taxonomy_evidence": True,
    }
)
BATCH = tiny.batch(SPEC, examples=ROWS)
SMALL = {"units": 4, "field_width": 2}
# Each with the options that add arithmetic of their own.
NETWORKS = {
    "mmnet": {"evidence": True, "smoothed_history": True, "link": "logit"},
    "gru": {"gru_mask": True, "link": "log", "gru_units": 3, "head": "mixed"},
    "encoder_decoder": {"evidence": True},
    "mmved": {"evidence": True},
    "dftc": {"evidence": True},
    "transformer": {"evidence": True, "num_layers": 1, "num_heads": 2},
}
OTHERS = sorted(set(REGISTRY) - set(NETWORKS))
MIXED = "mmnet in bfloat16"
# XLA compiles each for seconds, after it has compiled the whole network for the test before.
DYNAMIC_PARTS = [
    *("mmnet", "gru"),
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in (*NETWORKS, MIXED)
        if name not in ("mmnet", "gru")
    ),
]


def predictor(name, **options):
    """A network whose weights all have a value, compiled by XLA: that shows the most NaNs."""
    model = REGISTRY[name](SPEC, **SMALL, **options)
    draw = np.random.default_rng(1)
    for variable in model.trainable_variables:
        variable.assign_add(0.5 * draw.normal(size=variable.shape))
    static, dynamic = halves(model, SPEC)
    return model, compiled(model), (static.output.shape[-1], compiled(dynamic))


def compiled(model):
    return tf.function(lambda inputs: model(inputs, training=False), jit_compile=True)


@pytest.fixture(scope="module", params=[*NETWORKS, MIXED])
def network(request):
    name, _, half = request.param.partition(" in ")
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16" if half else "float32")
    try:
        return predictor(name, **NETWORKS[name])
    finally:
        keras.config.set_dtype_policy(policy)


@settings(max_examples=12)
@given(drawn=extremes.draws(BATCH))
def test_a_network_scores_extreme_numbers_with_finite_ones(network, drawn):
    _, predict, _ = network
    assert np.isfinite(predict(as_tensors(extremes.made_extreme(BATCH, drawn)))).all()


@pytest.mark.parametrize("network", DYNAMIC_PARTS, indirect=True)
@settings(max_examples=10)
@given(drawn=extremes.draws([STATIC]))
def test_an_extreme_static_part_is_scored_with_finite_numbers(network, drawn):
    _, _, (width, predict) = network
    dynamic = {name: one for name, one in BATCH.items() if name in OF_PERIODS}
    static = extremes.made_extreme({STATIC: np.zeros((ROWS, width), "float32")}, drawn)
    assert np.isfinite(predict(as_tensors(dynamic | static))).all()


def as_tensors(batch):
    return {name: tf.constant(one) for name, one in batch.items()}


def test_every_float_input_of_a_network_is_bounded_and_its_inputs_keep_their_names(network):
    model, *_ = network
    assert set(model.input) == set(SPEC.tensors())
    bounded = {layer.name for layer in model.layers if type(layer).__name__ == "Bounded"}
    assert bounded == {f"bounded_{name}" for name in SPEC.limits()}


@pytest.mark.parametrize("name", NETWORKS)
def test_ordinary_inputs_score_as_without_bounds_to_the_bit(name, monkeypatch):
    wanted = REGISTRY[name](SPEC, **SMALL, seed=1)(BATCH)
    module = sys.modules[f"mmnet.models.{name}"]
    monkeypatch.setattr(module, "bounded", lambda inputs, spec: inputs)
    free = REGISTRY[name](SPEC, **SMALL, seed=1)
    assert not any(layer.name.startswith("bounded_") for layer in free.layers)
    # The same operations on the same numbers, one by one.
    np.testing.assert_array_equal(free(BATCH), wanted)


def test_ordinary_inputs_are_inside_the_limits():
    limits = SPEC.limits()
    assert set(limits) == {name for name, one in BATCH.items() if one.dtype == "float32"}
    for name, (lowest, highest) in limits.items():
        assert lowest <= BATCH[name].min()
        assert BATCH[name].max() <= highest
    assert (limits["share_rate"], limits["clicks"]) == ((0, LARGEST_RATE), (0, LARGEST_COUNT))
    assert limits["numeric_duration"] == (-LARGEST_NUMBER, LARGEST_NUMBER)
    assert limits["vector_cover"] == (-LARGEST_ENTRY, LARGEST_ENTRY)
    # What a limit is must survive float32, or a value at the limit would not pass.
    assert all(np.float32(one) == one for pair in limits.values() for one in pair)


@pytest.fixture(scope="module", params=OTHERS)
def other(request):
    """A model without a network, fitted where it has anything to fit."""
    name = request.param
    options = {}
    if name in ("lightgbm", "catboost"):
        pytest.importorskip(name, reason="the extra [baselines] is not installed")
        pytest.importorskip("sklearn", reason="the extra [baselines] is not installed")
        options = {"num_trees": 5, "text_components": 2}
        options |= {"min_data_in_leaf": 5} if name == "lightgbm" else {}
    model = REGISTRY[name](SPEC, **options)
    if REGISTRY[name].kind == "estimator":
        rate = BATCH["share_rate"].mean(axis=1) + BATCH["field_category"][:, 0]
        ones = np.ones(ROWS, "float32")
        sample = Sample(BATCH, rate.astype("float32"), 50 * ones, ones)
        model.fit(sample, {"normal": sample})
    return model


@settings(max_examples=12)
@given(drawn=extremes.draws(BATCH))
def test_a_model_without_a_network_does_too(other, drawn):
    with np.errstate(over="raise"):  # what is bounded overflows nowhere on its way either
        found = other.predict(extremes.made_extreme(BATCH, drawn))
    assert found.dtype == np.float32
    assert np.isfinite(found).all()


@settings(max_examples=12)
@given(drawn=extremes.draws(BATCH))
def test_the_network_of_an_estimator_scores_extreme_numbers_as_it_does(other, drawn):
    if not hasattr(other, "network"):
        pytest.skip("it is not exported")
    extreme = {
        # TensorFlow may read a subnormal number as 0, and 0 is special in ages and vectors.
        name: np.where(np.abs(one) < 1e-37, np.zeros_like(one), one)
        for name, one in extremes.made_extreme(BATCH, drawn).items()
    }
    found, expected = other.network()(extreme), other.predict(extreme)
    np.testing.assert_allclose(found, expected, rtol=SAME_SCORE, atol=SAME_SCORE * SPEC.rate_scale)


@given(ids=st.lists(st.integers(-(2**31), 2**31 - 1), min_size=ROWS, max_size=ROWS))
@settings(max_examples=12)
def test_an_id_outside_its_vocabulary_reads_as_unknown(other, ids):
    ids = np.array(ids, "int32")[:, None]
    size = SPEC.fields[0].size
    unknown = np.where((ids >= 0) & (ids < size), ids, 1)
    found = [other.predict({**BATCH, "field_category": of}) for of in (ids, unknown)]
    np.testing.assert_array_equal(*found)
