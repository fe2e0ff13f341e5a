import keras
import numpy as np
import pytest
import tensorflow as tf

from mmnet.layers.disturbance import hide_all
from mmnet.models.gru import gru
from mmnet.models.heads import PredictedRate
from mmnet.models.mmnet import (
    attention_probe,
    explained,
    explained_names,
    fusion_names,
    head_weights,
    mmnet,
)
from mmnet.models.options import GruOptions, MMNetOptions
from mmnet.schema import FeatureSpec, VectorSpec
from mmnet.training import losses
from tests.conformance import check_layer, check_model
from tests.models.tiny import SPEC, batch

SMALL = {"units": 4, "field_width": 2}
BARE = FeatureSpec(window=6, horizon=1)
ONLY_COVERS = FeatureSpec(window=6, horizon=1, vectors=(VectorSpec(name="cover", dim=3),))


def test_predictions_are_clipped_at_inference_only():
    layer = PredictedRate(scale=10, mean=2, max_rate=20, link="identity")
    standardised = np.array([[-1.0], [0.5], [3.0]], "float32")
    np.testing.assert_array_equal(layer(standardised), [0, 7, 20])
    np.testing.assert_array_equal(layer(standardised, training=True), [-8, 7, 32])
    above_one = PredictedRate(scale=10, mean=2, max_rate=None, link="identity")
    np.testing.assert_array_equal(above_one(standardised), [0, 7, 32])


def test_refuses_a_scale_of_zero():
    with pytest.raises(ValueError, match="`scale` must be above 0"):
        PredictedRate(scale=0, link="identity")


def test_predicted_rate_conforms(tmp_path):
    standardised = np.array([[-1.0], [0.5], [3.0]], "float32")
    check_layer(PredictedRate(10, 2, 20, link="identity"), standardised, tmp_path=tmp_path)


@pytest.mark.parametrize(
    ("link", "outputs", "expected"),
    [
        # Odds of 20 % are 1/4; times 4, they are even.
        ("logit", [0, np.log(4), -40, 40], [20, 50, 0, 100]),
        ("log", [0, np.log(3), -40], [20, 60, 0]),
    ],
)
def test_links_keep_rates_in_their_range_in_training_too(link, outputs, expected):
    layer = PredictedRate(scale=7, mean=20, link=link)
    outputs = np.array(outputs, "float32")[:, None]
    # float32: e⁻⁴⁰ is no longer seen beside 1, and is 10⁻¹⁶ percent beside 0.
    np.testing.assert_allclose(layer(outputs, training=True), expected, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(layer(outputs), expected, rtol=1e-5, atol=1e-9)


def test_a_link_must_fit_the_rates():
    with pytest.raises(ValueError, match="`link` must be one of identity, logit, log"):
        PredictedRate(link="probit")
    with pytest.raises(ValueError, match="`link` must be identity or log where rates may exceed"):
        PredictedRate(mean=5, max_rate=None, link="logit")
    with pytest.raises(ValueError, match=r"`mean` must be inside \(0, inf\) with link=log"):
        PredictedRate(mean=0, link="log")


# ---------------------------------------------------------------------------- the mixed head


def cold(inputs):
    names = ("missing_flag", "share_rate", "clicks")
    hidden = map(np.asarray, hide_all(*(inputs[name] for name in names)))
    return {**inputs, **dict(zip(names, hidden, strict=True))}


def awake(model):
    """Gives every weight a value, so that everything that is read counts."""
    draw = np.random.default_rng(1)
    for variable in model.trainable_variables:
        variable.assign_add(0.1 * draw.normal(size=variable.shape))
    return model


@pytest.fixture(scope="module")
def of_mmnet():
    return awake(mmnet(SPEC, MMNetOptions(head="mixed", **SMALL)))


@pytest.fixture(scope="module", params=["mmnet", "gru"])
def mixed(request, of_mmnet):
    return (
        of_mmnet
        if request.param == "mmnet"
        else awake(gru(SPEC, GruOptions(head="mixed", **SMALL)))
    )


def parts_of(model):
    """The prior, s, f, g and the prediction."""
    names = ("prior_share_rate", "smoothed_share_rate", "direct_share_rate", "direct_weight")
    found = [keras.tree.flatten(model.get_layer(name).output)[0] for name in names]
    return keras.Model(model.input, [*found, model.output])


def test_the_mixed_head_is_between_a_smoothed_and_a_direct_rate(mixed):
    _, smoothed, direct, weight, predicted = map(np.asarray, parts_of(mixed)(batch(examples=16)))
    assert np.all((weight > 0) & (weight < 1))
    # The same sum in float32.
    np.testing.assert_allclose(predicted, smoothed + weight * (direct - smoothed), rtol=1e-5)
    assert np.all(smoothed != direct)


def test_the_mixed_heads_prior_does_not_read_the_history(mixed):
    inputs = batch(examples=8)
    seen, hidden = (list(map(np.asarray, parts_of(mixed)(one))) for one in (inputs, cold(inputs)))
    np.testing.assert_array_equal(seen[0], hidden[0])
    np.testing.assert_array_equal(hidden[1], np.clip(hidden[0], 0, 100))  # s of a cold item
    for one, other in zip(seen[1:], hidden[1:], strict=True):
        assert np.all(one != other)


def test_the_direct_part_reads_the_clicks_behind_each_rate(mixed):
    inputs = batch(examples=8)
    more = {**inputs, "clicks": 10 * inputs["clicks"]}
    assert np.all(np.asarray(parts_of(mixed)(inputs)[2]) != parts_of(mixed)(more)[2])


def test_the_weights_of_the_head_are_those_of_its_three_parts(of_mmnet):
    model = of_mmnet
    assert list(head_weights(model)) == ["own_clicks", "prior", "direct"]
    # With rates all 7, s is between μ and 7, and the prediction the weighted sum of the three.
    inputs = batch(examples=8)
    inputs["share_rate"] = 7 * (1 - inputs["missing_flag"])
    prior, _, direct, _, predicted = map(np.asarray, parts_of(model)(inputs))
    own, left, g = (
        np.asarray(part) for part in keras.Model(model.input, head_weights(model))(inputs).values()
    )
    np.testing.assert_allclose(own + left + g, 1, rtol=1e-6)
    np.testing.assert_allclose(predicted, 7 * own + left * prior + g * direct, rtol=1e-5)
    smoothed_only = mmnet(BARE, MMNetOptions(head="smoothed", **SMALL))
    assert list(head_weights(smoothed_only)) == ["own_clicks", "prior"]
    assert head_weights(mmnet(BARE, MMNetOptions(**SMALL))) == {}


@pytest.mark.parametrize("spec", [SPEC, ONLY_COVERS, BARE], ids=["all", "covers", "bare"])
def test_the_explained_weights_of_a_mixed_head_sum_to_one(spec, of_mmnet):
    model = of_mmnet
    if spec is not SPEC:
        model = awake(mmnet(spec, MMNetOptions(head="mixed", **SMALL)))
    inputs = batch(spec, examples=6)
    if spec.vectors:
        inputs["vector_cover"][:3] = 0
    predicted, weights = explained(model)(inputs)
    names = explained_names(model)
    assert names == ["own_clicks", *fusion_names(model)]
    np.testing.assert_allclose(np.sum(weights, axis=-1), 1, rtol=1e-5)
    assert np.min(weights) >= 0
    np.testing.assert_array_equal(predicted, model(inputs))
    if spec.vectors:  # what is not there counts for nothing
        assert np.all(np.asarray(weights)[:3, names.index("vector_cover")] == 0)
    assert np.all(np.asarray(explained(model)(cold(inputs))[1])[:, 0] == 0)


def test_the_probe_shows_both_fusions_of_a_mixed_head(of_mmnet):
    model = of_mmnet
    weights = attention_probe(model)(batch(examples=4))
    assert {"fusion", "prior_fusion", "head"} <= set(weights)
    assert fusion_names(model, "prior_fusion") == [
        "taxonomies",
        "meta",
        "text_title",
        "vector_cover",
    ]
    for weight in weights.values():
        np.testing.assert_allclose(np.sum(weight, axis=-1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("loss", "link"), [("mse", "identity"), ("binomial", "logit"), ("poisson", "log")]
)
def test_a_mixed_head_trains_by_every_loss(loss, link):
    model = mmnet(
        SPEC, MMNetOptions(seed=1, head="mixed", link=link, modality_dropout=0.3, **SMALL)
    )
    losses.check_loss(loss, model)
    with tf.GradientTape() as tape:
        predicted = model(batch(examples=64), training=True)
        value = losses.loss_named(loss, 2.0)(np.full(64, 3.0, "float32"), predicted)
    gradients = tape.gradient(value, model.trainable_weights)
    for weight, gradient in zip(model.trainable_weights, gradients, strict=True):
        assert gradient is not None, weight.path
        found = tf.convert_to_tensor(gradient).numpy()
        assert np.isfinite(found).all(), weight.path
        assert np.any(found != 0), weight.path


def test_a_mixed_head_is_float32_under_mixed_precision():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        half = mmnet(SPEC, MMNetOptions(head="mixed", **SMALL))
    finally:
        keras.config.set_dtype_policy(policy)
    assert {str(one.dtype) for one in parts_of(half)(batch())} == {"<dtype: 'float32'>"}


def test_the_mixed_head_conforms(tmp_path):
    model = mmnet(SPEC, MMNetOptions(seed=0, head="mixed", link="logit", **SMALL))
    check_model(model, batch(), tmp_path=tmp_path, golden="mmnet_mixed")
