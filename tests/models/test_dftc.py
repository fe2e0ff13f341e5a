import keras
import numpy as np
import pytest

from mmnet.models.dftc import dftc
from mmnet.models.options import DftcOptions
from tests.conformance import check_model
from tests.models.test_step_vectors import BARE, SMALL, trainable
from tests.models.tiny import SPEC, batch


def test_has_the_published_number_of_parameters():
    model = dftc(BARE, DftcOptions())
    parts = {
        "history_long": 33_024,
        "fluctuations": 12_352,
        "history_short": 4_224,
        "gated_fusion": 4_224,
    }
    assert {name: model.get_layer(name).count_params() for name in parts} == parts
    assert trainable(model) == 448 + sum(parts.values()) + 4_225 == 448 + 58_049


def test_the_long_view_can_be_a_gru_and_the_kernel_narrower():
    model = dftc(BARE, DftcOptions(dftc_rnn="gru", kernel=2))
    assert model.get_layer("history_long").count_params() == 24_960
    assert model.get_layer("fluctuations").count_params() == 2 * 64 * 64 + 64


def test_the_short_view_never_reads_beyond_the_window():
    model = dftc(BARE, DftcOptions(**SMALL))
    layer = model.get_layer("fluctuations")
    assert layer.output.shape == (None, 6 - 3 + 1, 4)
    steps, found = (
        np.asarray(keras.Model(model.input, tensor)(batch(BARE)))
        for tensor in (layer.input, layer.output)
    )
    kernel, bias = (np.asarray(weight) for weight in layer.weights)
    for position in range(4):
        seen = np.einsum("bkc,kcu->bu", steps[:, position : position + 3], kernel) + bias
        # Sums of twelve products of about 1, in another order.
        np.testing.assert_allclose(found[:, position], np.maximum(seen, 0), atol=1e-5)


@pytest.mark.parametrize(("window", "kernel"), [(2, 3), (6, 0)])
def test_refuses_a_kernel_beyond_the_window(window, kernel):
    spec = BARE.model_copy(update={"window": window})
    with pytest.raises(ValueError, match=f"kernel={kernel}, window={window}"):
        dftc(spec, DftcOptions(kernel=kernel))


def test_refuses_an_unknown_recurrent_layer():
    with pytest.raises(ValueError, match=r"dftc_rnn\n.*'lstm' or 'gru'"):
        dftc(BARE, DftcOptions(dftc_rnn="rnn"))


def test_conforms(tmp_path):
    check_model(dftc(SPEC, DftcOptions(seed=0, **SMALL)), batch(), tmp_path=tmp_path)
