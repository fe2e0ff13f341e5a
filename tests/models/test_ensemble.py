import keras
import numpy as np
import pytest
from hypothesis import given, settings

from mmnet.models import REGISTRY
from mmnet.models.ensemble import (
    AveragedEstimator,
    averaged,
    ensemble,
    layers_named,
    mean_prediction,
    own_name,
)
from mmnet.models.mmnet import (
    attention_probe,
    explained,
    explained_names,
    fusion_names,
    head_weights,
)
from mmnet.serving.halves import STATIC, halves
from tests import extremes
from tests.conformance import check_config
from tests.models.tiny import SPEC, batch

# The same sums in another order.
SAME = {"rtol": 1e-6, "atol": 1e-6}


@pytest.fixture(scope="module")
def made():
    """Two members whose weights and statistics all differ, and the ensemble of them."""
    options = {"dropout": 0.1, "content_dropout": 0.3, "smoothed_history": True}
    members = [
        REGISTRY["mmnet"](SPEC, units=4, field_width=2, seed=seed, **options) for seed in range(2)
    ]
    draw = np.random.default_rng(1)
    for model in members:
        for variable in model.weights:
            variable.assign_add(0.1 * np.abs(draw.normal(size=variable.shape)))
    return members, ensemble(members)


def arrays(of):
    return [np.asarray(one) for one in keras.tree.flatten(of)]


def test_the_prediction_is_the_mean_of_the_members_predictions(made):
    members, model = made
    inputs = batch(SPEC, 7)
    alone = arrays([member(inputs) for member in members])
    assert np.ptp(alone, axis=0).min() > 0.01  # else any of them would do
    np.testing.assert_allclose(model(inputs), sum(alone) / 2, **SAME)
    np.testing.assert_array_equal(model(inputs), mean_prediction(alone))


def test_it_is_a_functional_model_of_the_same_tensors_that_keras_saves(made, tmp_path):
    members, model = made
    assert list(model.input) == list(members[0].input)
    assert model.name == members[0].name
    assert not [layer for layer in model.layers if isinstance(layer, keras.Model)]
    assert len({weight.path for weight in model.weights}) == len(model.weights)
    assert model.count_params() == sum(member.count_params() for member in members)
    check_config(model)
    model.save(tmp_path / "ensemble.keras")
    loaded = keras.models.load_model(tmp_path / "ensemble.keras")
    inputs = batch(SPEC, 7)
    # The same graph, called in the order of the loaded layers.
    np.testing.assert_allclose(loaded(inputs), model(inputs), **SAME)
    assert fusion_names(loaded) == fusion_names(members[0])


def test_attention_and_gates_are_means_under_a_members_names(made):
    members, model = made
    inputs = batch(SPEC, 7)
    assert fusion_names(model) == fusion_names(members[0])
    found = attention_probe(model)(inputs)
    alone = [attention_probe(member)(inputs) for member in members]
    assert list(found) == list(alone[0])
    for kind, weights in found.items():
        expected = sum(np.asarray(one[kind]) for one in alone) / 2
        np.testing.assert_allclose(weights, expected, **SAME)
    predicted, weights = explained(model)(inputs)
    np.testing.assert_array_equal(predicted, model(inputs))
    np.testing.assert_array_equal(weights, found["fusion"])
    np.testing.assert_allclose(np.sum(weights, axis=1), 1, rtol=1e-6)


def test_what_counts_in_the_mixed_head_is_a_mean_too():
    options = {"units": 4, "field_width": 2, "head": "mixed"}
    members = [REGISTRY["mmnet"](SPEC, seed=seed, **options) for seed in range(2)]
    model, inputs = ensemble(members), batch(SPEC, 7)
    assert explained_names(model) == explained_names(members[0])
    _, weights = explained(model)(inputs)
    alone = [np.asarray(explained(one)(inputs)[1]) for one in members]
    np.testing.assert_allclose(weights, sum(alone) / 2, **SAME)
    np.testing.assert_allclose(np.sum(weights, axis=1), 1, rtol=1e-5)
    assert list(head_weights(model)) == list(head_weights(members[0]))


def test_it_is_cut_in_two_halves_that_are_the_whole_to_the_bit(made):
    members, model = made
    inputs = batch(SPEC, 7)
    whole = explained(model) or model
    static, dynamic = halves(whole, SPEC)
    # Nothing of the content is shared, so that each member's part of it is kept.
    assert static.output.shape[1] == 2 * halves(members[0], SPEC)[0].output.shape[1]
    kept = static({name: inputs[name] for name in static.input})
    read = {STATIC: np.asarray(kept), **inputs}
    found = dynamic({name: read[name] for name in dynamic.input})
    for ours, theirs in zip(arrays(found), arrays(whole(inputs)), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_members_are_only_read(made):
    members, model = made
    before = [weight.numpy().copy() for member in members for weight in member.weights]
    for weight in model.weights:
        weight.assign(weight * 0)
    after = [weight.numpy() for member in members for weight in member.weights]
    for was, now in zip(before, after, strict=True):
        np.testing.assert_array_equal(now, was)


def line(number):
    """A network of one layer."""
    share_rate = keras.Input((6,), name="share_rate")
    slope = keras.layers.Dense(
        1, kernel_initializer=keras.initializers.Constant(number), name="slope"
    )
    return keras.Model({"share_rate": share_rate}, keras.ops.squeeze(slope(share_rate), -1))


def test_half_precision_is_averaged_in_float32():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = ensemble([line(1), line(1 + 2**-7)])
    finally:
        keras.config.set_dtype_policy(policy)
    assert model.dtype_policy.name == "mixed_bfloat16"  # of which the export takes its tolerance
    found = arrays(model({"share_rate": np.eye(1, 6, dtype="float32")}))[0]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [1 + 2**-8])  # bfloat16 has 8 bits, and would round it


EXTREME = batch(SPEC, extremes.ROWS)


@settings(max_examples=10)
@given(drawn=extremes.draws(EXTREME))
def test_extreme_numbers_have_finite_scores(made, drawn):
    assert np.isfinite(made[1](extremes.made_extreme(EXTREME, drawn))).all()


def test_layers_are_found_by_the_name_that_a_network_calls_them():
    members = [line(number) for number in range(12)]
    model = ensemble(members)
    assert [layer.name for layer in layers_named(members[0], "slope")] == ["slope"]
    # In the order of the members: the tenth comes after the second.
    found = layers_named(model, "slope")
    assert [layer.name for layer in found] == [f"member_{number}.slope" for number in range(1, 13)]
    assert [int(layer.get_weights()[0][0, 0]) for layer in found] == list(range(12))
    assert layers_named(model, "slop") == []
    assert attention_probe(model) is explained(model) is None
    assert own_name("remember_2.slope") == "remember_2.slope"
    ones = np.ones((2, 6), "float32")
    np.testing.assert_array_equal(model({"share_rate": ones}), [33.0, 33.0])  # 6 * 5.5


def test_members_must_be_there_and_read_the_same_tensors():
    with pytest.raises(ValueError, match=r"at least one model\. Received: no model"):
        ensemble([])
    clicks = keras.Input((6,), name="clicks")
    other = keras.Model({"clicks": clicks}, keras.ops.sum(clicks, axis=1))
    with pytest.raises(
        ValueError, match=r"must have the same inputs\. Received: .*share_rate.*cli"
    ):
        ensemble([line(1), other])


class Constant:
    """An estimator that predicts one value, and may have a network."""

    def __init__(self, value, model=None):
        self.value, self.model = value, model

    def predict(self, inputs):
        return np.full(len(inputs["clicks"]), self.value, np.float32)

    def network(self):
        return self.model


def test_estimators_are_averaged_as_they_predict():
    inputs = batch(SPEC, 2)
    three = averaged([Constant(1.0), Constant(2.0), Constant(6.0)])
    np.testing.assert_array_equal(three.predict(inputs), np.float32([3.0, 3.0]))
    assert three.predict(inputs).dtype == np.float32
    only = Constant(1.0)
    assert averaged([only]) is only


def test_estimators_export_the_ensemble_of_their_networks_where_all_have_one():
    first, second = line(1), line(2)
    inputs = {"share_rate": np.ones((2, 6), "float32")}
    both = AveragedEstimator([Constant(1.0, first), Constant(1.0, second)]).network()
    np.testing.assert_array_equal(both(inputs), [9.0, 9.0])
    assert AveragedEstimator([Constant(1.0, first), Constant(1.0)]).network() is None
