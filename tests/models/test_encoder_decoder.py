import numpy as np
import pytest

from mmnet.models.encoder_decoder import RateDecoder, encoder_decoder
from mmnet.models.options import EncoderDecoderOptions
from tests.conformance import check_layer, check_model
from tests.models.test_step_vectors import BARE, SMALL, trainable
from tests.models.tiny import SPEC, batch

DRAW = np.random.default_rng(0)
SUMMARY = DRAW.normal(size=(3, 2)).astype("float32")  # [batch=3, units=2]
START = DRAW.normal(size=(3, 2)).astype("float32")
# Last rates that were seen: 4, 1, none. [batch, window=3]
RATE = np.array([[2, 0, 4], [1, 0, 0], [0, 0, 0]], "float32")
MISSING = np.array([[0, 1, 0], [0, 1, 1], [1, 1, 1]], "float32")
LAST = np.array([[4], [1], [0]], "float32")

# Float32 against float64, through three steps of a few sums each.
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gru_step(x, state, kernel, recurrent, bias):
    """h' = z h + (1 - z) tanh(W x + r (U h + b)), the parts in Keras' order z, r, h."""
    z, r, new = np.split(x @ kernel + bias[0], 3, axis=-1)
    from_z, from_r, from_new = np.split(state @ recurrent + bias[1], 3, axis=-1)
    z, r = sigmoid(z + from_z), sigmoid(r + from_r)
    return z * state + (1 - z) * np.tanh(new + r * from_new)


def with_random_weights(layer):
    layer.build(SUMMARY.shape, START.shape)
    layer.set_weights([DRAW.normal(size=weight.shape) for weight in layer.weights])
    return layer, [np.asarray(weight, "float64") for weight in layer.weights]


def test_at_horizon_one_it_takes_exactly_one_step_from_the_last_seen_rate():
    layer, cell = with_random_weights(RateDecoder(1))
    assert len(cell) == 3  # and there is no read-out
    expected = gru_step(np.hstack([LAST, SUMMARY]), START, *cell)
    np.testing.assert_allclose(layer(SUMMARY, START, RATE, MISSING), expected, **CLOSE)


def test_at_horizon_three_it_goes_on_from_its_own_rates():
    layer, (*cell, kernel, bias) = with_random_weights(RateDecoder(3))
    state = gru_step(np.hstack([LAST, SUMMARY]), START, *cell)
    for _ in range(2):
        rate = state @ kernel + bias
        state = gru_step(np.hstack([rate, SUMMARY]), state, *cell)
    np.testing.assert_allclose(layer(SUMMARY, START, RATE, MISSING), state, **CLOSE)


def test_without_flags_it_starts_from_the_last_step_as_it_stands():
    layer, _ = with_random_weights(RateDecoder(1))
    seen = np.zeros_like(RATE)
    np.testing.assert_array_equal(
        layer(SUMMARY, START, RATE), layer(SUMMARY, START, RATE[:, -1:], seen[:, -1:])
    )


def test_has_the_published_number_of_parameters():
    fusion_and_head = 4_224 + 4_225
    assert (
        trainable(encoder_decoder(BARE, EncoderDecoderOptions())) == 448 + 58_432 + fusion_and_head
    )
    further = encoder_decoder(BARE.model_copy(update={"horizon": 3}), EncoderDecoderOptions())
    assert trainable(further) == 448 + 58_432 + 65 + fusion_and_head
    assert further.get_layer("decoder").count_params() == 25_152 + 65


def test_refuses_a_horizon_of_zero():
    with pytest.raises(ValueError, match="`horizon` must be at least 1"):
        RateDecoder(0)


def test_the_decoder_conforms(tmp_path):
    check_layer(RateDecoder(3), SUMMARY, START, RATE, MISSING, tmp_path=tmp_path)


def test_conforms(tmp_path):
    check_model(
        encoder_decoder(SPEC, EncoderDecoderOptions(seed=0, **SMALL)), batch(), tmp_path=tmp_path
    )
