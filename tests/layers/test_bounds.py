import numpy as np
import pytest
import tensorflow as tf

from mmnet.layers.bounds import Bounded
from tests.conformance import check_layer
from tests.extremes import FLOATS

X = np.array([[-3.4e38, -2.5, -2e-38, 0.3], [1.0000001, 7.0, 7.1, 3.4e38]], "float32")
BETWEEN = np.array([[-2.5, -2.5, -2e-38, 0.3], [1.0000001, 7.0, 7.0, 7.0]], "float32")


def test_what_is_outside_is_the_nearest_limit_and_what_is_inside_passes_to_the_bit():
    np.testing.assert_array_equal(Bounded(-2.5, 7.0)(X), BETWEEN)


@pytest.mark.parametrize("jit", [False, True])
def test_every_finite_number_and_infinity_too_come_out_within_the_limits(jit):
    layer = Bounded(-1e4, 1e4)
    found = tf.function(layer, jit_compile=jit)(np.append(FLOATS, [np.inf, -np.inf])).numpy()
    assert np.abs(found).max() == 1e4
    np.testing.assert_array_equal(found[-2:], [1e4, -1e4])


def test_half_precision_does_not_round_what_passes():
    found = Bounded(0.0, 100.0, dtype="mixed_bfloat16")(X)
    assert found.dtype == "float32"
    assert found[1, 0] == X[1, 0]


@pytest.mark.parametrize("limits", [(1.0, 1.0), (2.0, 1.0), (-np.inf, 1.0), (0.0, 1e39)])
def test_limits_must_be_finite_and_in_order(limits):
    with pytest.raises(ValueError, match="must be"):
        Bounded(*limits)


def test_conforms(tmp_path):
    check_layer(Bounded(-2.5, 7.0), X, tmp_path=tmp_path)
