import keras
import numpy as np
import pytest

from mmnet.models.options import TransformerOptions
from mmnet.models.transformer import PositionVectors, transformer
from tests.conformance import check_layer, check_model
from tests.models.test_step_vectors import BARE, SMALL, cold, trainable
from tests.models.tiny import SPEC, batch

STEP_LAYER, FUSION, HEAD = 448, 4_224, 4_225


def history(model):
    """q, [batch, units]."""
    return keras.Model(model.input, model.get_layer("transformer").output)


def attending(model):
    """Gives the attention weights far from uniform: at the start all steps weigh nearly alike."""
    draw = np.random.default_rng(1)
    for variable in model.trainable_variables:
        variable.assign_add(0.3 * draw.normal(size=variable.shape))
    return model


def test_has_the_parameters_of_its_layers():
    # Four maps of the attention with biases, two scales, and the two dense layers.
    layer = 4 * (64 * 64 + 64) + 2 * 64 + (64 * 256 + 256) + (256 * 64 + 64)
    found = trainable(transformer(BARE, TransformerOptions()))
    assert found == STEP_LAYER + 6 * 64 + 2 * layer + 64 + FUSION + HEAD == 109_057
    options = TransformerOptions(num_layers=1, feed_forward_units=32, num_heads=1)
    small = layer - 224 * (64 + 1 + 64)
    assert trainable(transformer(BARE, options)) == found - 2 * layer + small


def test_every_step_is_read_and_its_place_counts():
    inputs = batch()
    model = history(attending(transformer(SPEC, TransformerOptions(**SMALL))))
    wanted = np.asarray(model(inputs))
    for step in range(6):
        changed = inputs["taxonomy_rate"].copy()
        changed[:, step] += 1
        assert np.all(np.any(np.asarray(model({**inputs, "taxonomy_rate": changed})) != wanted, 1))
    # The first five steps in another order, which attention alone cannot tell apart.
    order = [4, 3, 2, 1, 0, 5]
    names = ("share_rate", "missing_flag", "clicks", "taxonomy_rate", "taxonomy_missing_flag")
    turned = {**inputs, **{name: inputs[name][:, order] for name in names}}
    assert np.all(np.any(np.abs(np.asarray(model(turned)) - wanted) > 1e-4, axis=1))


def test_without_positions_it_could_not_tell_one_order_of_the_steps_from_another():
    inputs = batch()
    whole = attending(transformer(SPEC, TransformerOptions(**SMALL)))
    positions = whole.get_layer("positions").positions
    positions.assign(0 * positions)
    order = [4, 3, 2, 1, 0, 5]
    names = ("share_rate", "missing_flag", "clicks", "taxonomy_rate", "taxonomy_missing_flag")
    turned = {**inputs, **{name: inputs[name][:, order] for name in names}}
    # The same sums in another order, a dozen operations in float32.
    np.testing.assert_allclose(history(whole)(turned), history(whole)(inputs), atol=1e-5)


@pytest.mark.parametrize("window", [1, 6])
def test_an_item_without_a_history_has_a_finite_score(window):
    spec = SPEC.model_copy(update={"window": window})
    inputs = cold(batch(spec))
    gone = {"taxonomy_rate": 0.0, "taxonomy_missing_flag": 1.0}
    inputs |= {name: np.full_like(inputs[name], value) for name, value in gone.items()}
    found = transformer(spec, TransformerOptions(**SMALL))(inputs)
    assert np.all(np.isfinite(found))


def test_dropout_is_of_the_training_alone():
    inputs = batch()
    plain = transformer(SPEC, TransformerOptions(**SMALL))
    dropping = transformer(SPEC, TransformerOptions(dropout=0.5, **SMALL))
    np.testing.assert_array_equal(dropping(inputs), plain(inputs))
    names = {layer.name for layer in dropping.layers} - {layer.name for layer in plain.layers}
    kinds = ("attention", "dense")
    assert {f"{kind}_dropout_{number}" for kind in kinds for number in (1, 2)} <= names


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_layers": 0}, "`num_layers` must be at least 1"),
        ({"num_heads": 0}, "`num_heads` must be at least 1"),
        ({"feed_forward_units": 0}, "`feed_forward_units` must be at least 1"),
        ({"num_heads": 3}, "`num_heads` must divide `units`. Received: num_heads=3, units=4"),
    ],
)
def test_refuses_sizes_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        transformer(SPEC, TransformerOptions(**SMALL | options))


def test_positions_are_added_step_by_step(tmp_path):
    vectors = np.arange(12, dtype="float32").reshape(2, 3, 2)
    layer = PositionVectors()
    check_layer(layer, vectors, tmp_path=tmp_path)
    np.testing.assert_array_equal(layer(vectors), vectors + np.asarray(layer.positions))


def test_conforms(tmp_path):
    model = transformer(SPEC, TransformerOptions(seed=0, evidence=True, **SMALL))
    check_model(model, batch(), tmp_path=tmp_path)


def test_with_a_smoothed_history_the_network_is_only_the_prior():
    inputs = batch()
    model = transformer(SPEC, TransformerOptions(smoothed_history=True, evidence=True, **SMALL))
    prior = keras.Model(model.input, model.get_layer("prior_share_rate").output)
    np.testing.assert_array_equal(prior(inputs), prior(cold(inputs)))
    unclipped = np.asarray(prior(cold(inputs)))
    np.testing.assert_array_equal(model(cold(inputs)), np.clip(unclipped, 0, 100))
    assert np.all(np.asarray(model(inputs)) != np.asarray(model(cold(inputs))))
