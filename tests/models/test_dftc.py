import keras
import numpy as np
import pytest

from mmnet.models.dftc import dftc
from mmnet.models.mmnet import fusion_names
from mmnet.models.options import DftcOptions
from mmnet.schema import AgeSpec
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


AGED = BARE.model_copy(update={"age": AgeSpec(since="release", hidden=True)})


def test_the_fusion_weighs_by_the_stage_of_life():
    model, inputs = dftc(AGED, DftcOptions(stage=True, **SMALL)), batch(AGED, examples=5)
    inputs["age"], inputs["age_at_least"] = (
        np.float32([-1, 0, 5, 100, 5]),
        np.float32([0] * 3 + [1, 1]),
    )
    inputs["missing_flag"][4] = 1  # the age is of a history that is hidden
    layer = model.get_layer("gated_fusion")
    layer.bias.assign(0.1 * np.arange(1, 5))
    layer.stage_kernel.assign(3 * layer.stage_kernel)
    vectors = [model.get_layer(name).output for name in ("history_long", "history_short")]
    vectors[1] = vectors[1][0]
    *vectors, found = keras.Model(model.input, [*vectors, layer.output[1]])(inputs)
    stage, fusion = (
        {weight.name: np.asarray(weight) for weight in model.get_layer(name).weights}
        for name in ("stage", "gated_fusion")
    )
    rows = [0, 1, 5, 14, 0]  # unknown; below 1; 4 to 6; 96 to 128; unknown
    for n, row in enumerate(rows):
        e = stage["bin_vectors"][row].copy()
        if row:
            e += np.log1p(inputs["age"][n]) * stage["log_vector"]
            e += inputs["age_at_least"][n] * stage["bound_vector"]
        scores = []
        for vector in vectors:
            x = np.asarray(vector)[n]
            u = np.tanh(x @ fusion["kernel"] + fusion["bias"] + e @ fusion["stage_kernel"])
            scores.append(np.exp(u @ fusion["context"])[0])
        # A dozen products of about 1 in float32.
        np.testing.assert_allclose(found[n], np.array(scores) / sum(scores), rtol=1e-5)
    # The same vectors are weighed otherwise at another age.
    inputs["age"] = inputs["age"] + 20
    later = np.asarray(keras.Model(model.input, layer.output[1])(inputs))
    assert (later != np.asarray(found)).any(axis=1).tolist() == [True, True, True, True, False]


def test_the_stage_adds_nothing_unless_asked_for_and_is_refused_without_ages():
    plain, staged = (dftc(AGED, DftcOptions(stage=stage, **SMALL)) for stage in (False, True))
    names = [{weight.path for weight in model.weights} for model in (plain, staged)]
    stage = {"stage/bin_vectors", "stage/log_vector", "stage/bound_vector"}
    assert names[1] - names[0] == {*stage, "gated_fusion/stage_kernel"}
    # The stage moves the weights of the vectors, and has none itself.
    assert fusion_names(staged) == fusion_names(plain) == ["history_long", "history_short"]
    with pytest.raises(ValueError, match="`stage` needs the items' ages; add --inputs=age"):
        dftc(BARE, DftcOptions(stage=True))


@pytest.mark.slow
def test_conforms_with_a_stage(tmp_path):
    model = dftc(AGED, DftcOptions(seed=0, stage=True, **SMALL))
    check_model(model, batch(AGED), tmp_path=tmp_path, golden="dftc_stage")
