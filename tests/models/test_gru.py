import keras
import numpy as np
import pytest

from mmnet.models.gru import gru
from mmnet.models.options import GruOptions
from tests.conformance import check_model
from tests.models.test_step_vectors import BARE, SMALL, cold, trainable
from tests.models.tiny import SPEC, batch

STEP_LAYER, FUSION, HEAD = 448, 4_224, 4_225


def test_has_the_published_number_of_parameters():
    model = gru(BARE, GruOptions())
    assert model.get_layer("gru").count_params() == 24_960
    assert trainable(model) == STEP_LAYER + 24_960 + FUSION + HEAD == 33_857
    assert (
        trainable(gru(BARE, GruOptions(reset_after=False))) == STEP_LAYER + 24_768 + FUSION + HEAD
    )


def test_a_wider_state_is_brought_back_to_the_common_width():
    model = gru(BARE, GruOptions(gru_units=256))
    assert model.get_layer("gru").count_params() == 3 * (64 * 256 + 256**2 + 2 * 256) == 247_296
    assert model.get_layer("gated_fusion").count_params() == FUSION


def test_with_a_mask_an_item_without_history_has_no_q_and_no_taxonomies():
    def history(model, inputs):
        return keras.Model(model.input, model.get_layer("gru").output)(inputs)

    inputs = batch()
    model, masked = gru(SPEC, GruOptions(**SMALL)), gru(SPEC, GruOptions(gru_mask=True, **SMALL))
    assert np.all(np.any(np.asarray(history(model, cold(inputs))) != 0, axis=-1))
    np.testing.assert_array_equal(history(masked, cold(inputs)), np.zeros((4, 4)))
    # Nor does anything of a missing step get through, whatever its taxonomies say.
    changed = inputs["taxonomy_rate"] + 9 * inputs["missing_flag"][..., None]
    np.testing.assert_array_equal(masked(inputs), masked({**inputs, "taxonomy_rate": changed}))


def test_a_long_window_loops_to_the_same_result():
    spec = BARE.model_copy(update={"window": 20})
    model = gru(spec, GruOptions(**SMALL))
    assert not model.get_layer("gru").unroll
    layer = keras.layers.GRU(4, unroll=True)
    vectors = np.random.default_rng(0).normal(size=(3, 20, 4)).astype("float32")
    layer.build(vectors.shape)
    layer.set_weights(model.get_layer("gru").get_weights())
    # The same sums, rounded once per step.
    np.testing.assert_allclose(layer(vectors), model.get_layer("gru")(vectors), atol=1e-5)


def test_refuses_a_mask_that_it_must_not_see():
    with pytest.raises(ValueError, match="`gru_mask` must be False"):
        gru(SPEC, GruOptions(gru_mask=True, baseline_inputs="rate_only"))
    with pytest.raises(ValueError, match="`gru_units` must be at least 1"):
        gru(SPEC, GruOptions(gru_units=0))


def test_conforms(tmp_path):
    check_model(gru(SPEC, GruOptions(seed=0, **SMALL)), batch(), tmp_path=tmp_path)


def test_conforms_with_a_mask(tmp_path):
    model = gru(SPEC, GruOptions(gru_mask=True, gru_units=5, evidence=True, **SMALL))
    check_model(model, batch(), tmp_path=tmp_path, golden="gru_with_mask")


def test_with_a_smoothed_history_the_network_is_only_the_prior():
    inputs = batch()
    model = gru(SPEC, GruOptions(smoothed_history=True, evidence=True, **SMALL))
    prior = keras.Model(model.input, model.get_layer("prior_share_rate").output)
    np.testing.assert_array_equal(prior(inputs), prior(cold(inputs)))
    unclipped = np.asarray(prior(cold(inputs)))
    np.testing.assert_array_equal(model(cold(inputs)), np.clip(unclipped, 0, 100))
    assert np.all(np.asarray(model(inputs)) != np.asarray(model(cold(inputs))))
