"""No finite input of a signature makes a score that is not finite."""

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from mmnet.data import items
from mmnet.data.tables import Table
from mmnet.schema import LARGEST_NUMBER, NumericSpec
from mmnet.serving import examples, export
from mmnet.serving.requests import from_tf_serving
from tests import extremes
from tests.extremes import ROWS
from tests.serving.exported import in_two_steps

TINY = np.finfo("float32").tiny
SIGNATURES = ("serving_default", "explained", "raw_columns", "examples", "from_static")


@pytest.fixture(scope="module")
def signatures(small_export):
    loaded, fitted = export.load(small_export)
    return loaded.signatures, fitted


def ordinary(specs):
    """A batch of zeros and empty texts."""
    return {
        name: np.full((ROWS, *one.shape[1:]), b"" if one.dtype == tf.string else 0).astype(
            object if one.dtype == tf.string else one.dtype.as_numpy_dtype
        )
        for name, one in specs.items()
    }


@pytest.mark.parametrize("name", SIGNATURES)
@settings(max_examples=10)
@given(data=st.data())
def test_a_signature_scores_extreme_numbers_with_finite_ones(signatures, name, data):
    signatures, fitted = signatures
    raw = name in ("raw_columns", "examples")
    if raw:
        specs = export.raw_inputs(fitted)
    else:
        specs = signatures["serving_default"].structured_input_signature[1]
    batch = ordinary(specs)
    drawn = data.draw(extremes.draws(key for key, one in batch.items() if one.dtype != object))
    batch = extremes.made_extreme(batch, drawn)
    if name == "examples":
        batch = {examples.INPUT: examples.serialize(batch)}
    elif name == "from_static":
        batch = in_two_steps(signatures, batch)
        assert np.isfinite(batch["static"]).all()
    found = signatures[name](**{key: tf.constant(one) for key, one in batch.items()})
    for one in found.values():
        assert np.isfinite(one).all()


FLOAT64 = st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=8)
@given(columns=st.lists(st.lists(FLOAT64, min_size=1), min_size=8, max_size=8), seed=st.integers(0))
def test_preparation_and_raw_columns_standardise_to_the_same_bits(columns, seed):
    draw = np.random.default_rng(seed)
    # TensorFlow's threads read subnormal numbers as 0, NumPy does not.
    extreme = np.where(np.abs(extremes.FLOATS) < TINY, np.float32(0), extremes.FLOATS)
    specs, raw = [], []
    for column in columns:
        mean, sd = items.mean_and_sd(np.array(column))
        assert np.isfinite([mean, sd]).all()
        assert sd > 0
        specs.append(NumericSpec(name="length", mean=mean, sd=sd))
        near = draw.normal(size=100) * 10.0 ** draw.integers(-3, 6, 100)
        with np.errstate(over="ignore"):
            near = (mean + sd * near).astype("float32")
        near = near[np.isfinite(near) & (np.abs(near) >= TINY)]
        raw.append(np.concatenate([near, extreme, [np.nan, np.inf]]).astype("float32"))

    def served(*numbers):
        return [export.standardised(*one) for one in zip(numbers, specs, strict=True)]

    for spec, numbers, found in zip(specs, raw, tf.function(served)(*raw), strict=True):
        table = Table(pa.table({"length": numbers.astype("float64")}), "items")
        prepared = items.encode_numeric(table, spec)
        assert np.abs(prepared).max() <= LARGEST_NUMBER
        normal = np.abs(prepared) > TINY  # what is rounded up to TINY may have been 0 before
        np.testing.assert_array_equal(found.numpy()[normal], prepared[normal])
        assert (np.abs(found.numpy()[~normal]) <= TINY).all()


def test_a_number_that_json_can_hold_and_float32_cannot_stays_finite():
    specs = {"x": tf.TensorSpec([None], tf.float32)}
    found = from_tf_serving({"inputs": {"x": [1e300, -1e300, 2.0]}}, specs)["x"]
    largest = np.finfo("float32").max
    np.testing.assert_array_equal(found, [largest, -largest, 2])
