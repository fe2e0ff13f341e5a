import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax

from mmnet.mma4ctr.data.features import Features, Scaler
from mmnet.mma4ctr.models.network import Clicks, GatheredRows, ListwiseCrossEntropy, network
from tests.conformance import check_config, check_golden


def parameters(model):
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


@pytest.mark.parametrize(
    ("columns", "arch", "expected"),
    [
        (194, "readme", 29_225),
        (169, "readme", 26_025),
        (194, "head_adaptive", 92_185),
        (169, "head_adaptive", 85_785),
    ],
)
def test_published_numbers_of_parameters(columns, arch, expected):
    assert parameters(network(columns, arch=arch, seed=0)) == expected


@pytest.mark.parametrize(("columns", "first"), [(201, 256), (200, 256), (100, 64), (60, 32)])
def test_the_authors_code_has_other_widths_for_other_inputs(columns, first):
    net = network(columns, arch="head_adaptive", seed=0)
    assert net.layers[1].units == first
    with pytest.raises(ValueError, match="5 to 500"):
        network(501, arch="head_adaptive", seed=0)


def test_weights_and_biases_start_within_one_over_the_root_of_the_fan_in():
    net = network(194, seed=3, arch="readme")
    for layer in net.layers:
        if isinstance(layer, keras.layers.Dense):
            bound = layer.kernel.shape[0] ** -0.5
            for weight in (layer.kernel.numpy(), layer.bias.numpy()):
                assert np.abs(weight).max() <= bound
            if layer.kernel.shape[0] > 100:
                # A uniform's sd is bound/sqrt(3); 24,832 draws tell it to one percent.
                sd = layer.kernel.numpy().std() * np.sqrt(3) / bound
                assert sd == pytest.approx(1, abs=0.01)
                assert np.abs(layer.bias.numpy()).max() > bound / 2
    again = network(194, seed=3, arch="readme")
    for mine, other in zip(net.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)
    assert (network(194, seed=4, arch="readme").get_weights()[0] != net.get_weights()[0]).any()


def test_it_is_three_tanh_layers_and_a_sigmoid(tmp_path):
    net = network(5, arch="readme", seed=0)
    rows = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    hidden = rows
    weights = net.get_weights()
    for kernel, bias in zip(weights[:-2:2], weights[1:-2:2], strict=True):
        hidden = np.tanh(hidden @ kernel + bias)
    probability = 1 / (1 + np.exp(-(hidden @ weights[-2] + weights[-1])[:, 0]))
    found = net(rows)
    np.testing.assert_allclose(found[0], probability, atol=1e-6)
    np.testing.assert_allclose(found[1], hidden, atol=1e-6)
    check_golden("mma4ctr", net, found)


STATES = np.arange(6, dtype=np.float32).reshape(3, 2)
ITEMS = 10 * np.arange(8, dtype=np.float32).reshape(4, 2)


def test_rows_are_gathered_and_scaled():
    layer = GatheredRows((3, 2), (4, 2))
    layer.state_table.assign(STATES)
    layer.item_table.assign(ITEMS)
    layer.low.assign([0, 1, 0, 10])
    layer.factor.assign([1, 2, 0, 0.1])
    state, item = np.array([2, 0], "int32"), np.array([1, 3], "int32")
    found = layer(state, item)
    np.testing.assert_allclose(found, [[4, 8, 0, 2], [0, 0, 0, 6]])
    assert not layer.trainable_weights
    np.testing.assert_allclose(tf.function(layer)(state, item), found)
    check_config(layer)
    check_golden("GatheredRows", layer, [found])


def test_rows_have_the_columns_of_the_item_at_the_moment_of_the_state():
    moments = 100 + np.arange(12, dtype=np.float32).reshape(12, 1)  # of 4 items, 3 moments each
    states = np.arange(12, dtype=np.float32).reshape(6, 2)  # of 2 users
    scale = Scaler(np.arange(5, dtype=np.float32), np.float32([1, 2, 3, 4, 5]))
    features = Features(states, ITEMS, {"train": scale}, {}, moments)
    model = Clicks(features, network(5, arch="readme", seed=0))
    state, item = np.repeat(np.arange(6, dtype="int32"), 4), np.tile(np.arange(4, dtype="int32"), 6)
    wanted = [
        [*states[s], *ITEMS[i], 100 + 3 * i + s % 3] for s, i in zip(state, item, strict=True)
    ]
    wanted = (np.array(wanted) - scale.low) * scale.factor
    np.testing.assert_allclose(model.rows(state, item), wanted, rtol=1e-6)
    np.testing.assert_allclose(features.rows(state, item, "train"), wanted, rtol=1e-6)
    check_config(model.rows)


def test_the_model_knows_one_scale_per_split():
    scalers = {
        "train": Scaler(np.zeros(4, np.float32), np.ones(4, np.float32)),
        "test": Scaler(np.zeros(4, np.float32), np.zeros(4, np.float32)),
    }
    features = Features(STATES, ITEMS, scalers, {})
    net = network(4, arch="readme", seed=0)
    model = Clicks(features, net)
    inputs = {"state": np.array([1], "int32"), "item": np.array([2], "int32")}
    np.testing.assert_allclose(model(inputs), net(features.rows([1], [2], "train"))[0], rtol=1e-6)
    model.scale_for("test")
    np.testing.assert_allclose(model(inputs), net(np.zeros((1, 4), "float32"))[0], rtol=1e-6)
    assert parameters(model) == parameters(net)


def value_and_gradient(label, probability):
    p = tf.constant(probability, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(p)
        loss = ListwiseCrossEntropy()(tf.constant(label, tf.float32), p)
    return float(loss), tape.gradient(loss, p).numpy()


@given(st.integers(1, 200), st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_the_loss_takes_the_batch_for_one_example(rows, seed):
    draw = np.random.default_rng(seed)
    label, p = draw.integers(0, 2, rows), draw.random(rows)
    loss, gradient = value_and_gradient(label, p)
    # float32 sums of up to 200 terms of size 5.
    assert loss == pytest.approx(-np.sum(label * log_softmax(p)), rel=1e-5, abs=1e-5)
    np.testing.assert_allclose(gradient, label.sum() * softmax(p) - label, atol=1e-5)


def test_without_positives_there_is_neither_loss_nor_gradient():
    loss, gradient = value_and_gradient(np.zeros(5), np.random.default_rng(0).random(5))
    assert loss == 0
    np.testing.assert_array_equal(gradient, 0)


def test_the_level_of_the_probabilities_means_nothing_to_the_loss():
    draw = np.random.default_rng(0)
    label, p = draw.integers(0, 2, 50), 0.5 * draw.random(50)
    assert value_and_gradient(label, p)[0] == pytest.approx(
        value_and_gradient(label, p + 0.4)[0], rel=1e-5
    )


def test_the_loss_of_equal_scores_is_positives_times_log_of_rows():
    assert value_and_gradient([1, 0, 1, 0], [0.3] * 4)[0] == pytest.approx(2 * np.log(4), rel=1e-6)


def test_the_loss_is_that_of_pytorch():
    torch = pytest.importorskip("torch")
    draw = np.random.default_rng(0)
    label = draw.integers(0, 2, 64).astype(np.float32)
    p = torch.tensor(draw.random(64).astype(np.float32), requires_grad=True)
    theirs = torch.nn.CrossEntropyLoss()(p, torch.tensor(label))
    theirs.backward()
    loss, gradient = value_and_gradient(label, p.detach().numpy())
    assert loss == pytest.approx(float(theirs), rel=1e-5)
    np.testing.assert_allclose(gradient, p.grad.numpy(), atol=1e-5)
