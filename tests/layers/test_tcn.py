import keras
import numpy as np
import pytest
import tcn

from mmnet.layers.tcn import TemporalConvolution
from tests.conformance import check_layer

STEPS = np.random.default_rng(0).normal(size=(3, 6, 5)).astype("float32")  # [batch, window, d]


def test_has_345408_parameters_at_the_papers_sizes():
    layer = TemporalConvolution((256, 128, 64), kernel_size=2, dropout=0.0)
    layer.build((None, 6, 64))
    # Per block two convolutions with kernel 2 and the 1×1 one of the skip, all with biases.
    first = (2 * 64 * 256 + 256) + (2 * 256 * 256 + 256) + (64 * 256 + 256)
    second = (2 * 256 * 128 + 128) + (2 * 128 * 128 + 128) + (256 * 128 + 128)
    third = (2 * 128 * 64 + 64) + (2 * 64 * 64 + 64) + (128 * 64 + 64)
    assert layer.count_params() == first + second + third == 345_408


@pytest.mark.parametrize("kernel_size", [1, 2, 3])
def test_equals_keras_tcn(kernel_size):
    filters = (8, 5, 4, 4)  # dilation 8 reaches beyond the window; the last needs no 1×1
    layer = TemporalConvolution(filters, kernel_size, dropout=0.0)
    ours = layer(STEPS)
    theirs = tcn.TCN.call(layer, STEPS)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("step", range(6))
def test_a_step_changes_no_earlier_one(step):
    layer = TemporalConvolution((8, 4), dropout=0.0)
    changed = STEPS.copy()
    changed[:, step] += 1
    before, after = np.asarray(layer(STEPS)), np.asarray(layer(changed))
    np.testing.assert_array_equal(before[:, :step], after[:, :step])
    assert np.any(before[:, step:] != after[:, step:])


def test_dropout_acts_in_training_only():
    layer = TemporalConvolution((8, 4), dropout=0.5)
    np.testing.assert_array_equal(layer(STEPS), layer(STEPS))
    assert np.any(np.asarray(layer(STEPS, training=True)) != layer(STEPS))


def test_conforms(tmp_path):
    check_layer(TemporalConvolution((8, 4), dropout=0.0), STEPS, tmp_path=tmp_path)


def test_trains_under_xla():
    model = keras.Sequential([keras.Input((6, 5)), TemporalConvolution((4, 2), dropout=0.0)])
    model.compile("sgd", "mse", jit_compile=True)
    assert np.isfinite(model.train_on_batch(STEPS, np.zeros((3, 6, 2))))
