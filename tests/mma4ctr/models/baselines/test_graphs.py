import numpy as np
import pytest

from mmnet.mma4ctr.models.baselines.graphs import LightGraph, NeuralGraph
from tests.conformance import check_layer
from tests.mma4ctr.baselines import baseline, named, probabilities, redrawn, sigmoid

USER, ITEM = np.array([2, 0], "int32"), np.array([3, 1], "int32")
PAIRS = np.array([[0, 0, 1, 2], [1, 2, 2, 3]])
STATES, ITEMS = [0, 1, 2, 2], [1, 2, 0, 3]  # item 0 was never taken
# float32 products of vectors of 64 and of 256 entries, in another order.
CLOSE = {"atol": 1e-6, "rtol": 0}
NGCF = ("layer_biases", "normalized_layers")


@pytest.mark.parametrize("layers", [2, 3])
def test_a_light_graph_conforms(layers, tmp_path):
    layer = LightGraph(3, 4, PAIRS, [0, 1], layers=layers)
    golden = "LightGraph" if layers == 3 else "LightGraph_two_layers"
    check_layer(layer, [USER, ITEM], tmp_path=tmp_path, golden=golden)


@pytest.mark.parametrize("recbole", [False, True])
def test_a_neural_graph_conforms(recbole, tmp_path):
    layer = NeuralGraph(3, 4, PAIRS, range(8), biases=recbole, normalized=recbole, norms=recbole)
    golden = "NeuralGraph_recbole" if recbole else "NeuralGraph"
    check_layer(layer, [USER, ITEM], tmp_path=tmp_path, golden=golden)


def spread(nodes):
    """A dense normalised adjacency matrix times the nodes."""
    adjacency = np.zeros((7, 7))
    for user, item in zip(*PAIRS, strict=True):
        adjacency[user, 3 + item] = adjacency[3 + item, user] = 1
    degree = np.maximum(adjacency.sum(axis=1), 1)
    return (adjacency / np.sqrt(np.outer(degree, degree))) @ nodes


def first_layer(model):
    return np.concatenate([named(model, "graph/user"), named(model, "graph/item")])


def light(model, layers):
    found = [first_layer(model)]
    for _ in range(layers):
        found.append(spread(found[-1]))
    return np.mean(found, axis=0)


def neural(model, *, recbole):
    found = [first_layer(model)]
    for number in range(3):
        nodes, around = found[-1], spread(found[-1])
        outputs = (nodes + around) @ named(model, f"dense_{2 * number}/kernel")
        outputs = outputs + (nodes * around) @ named(model, f"dense_{2 * number + 1}/kernel")
        if recbole:
            outputs = outputs + named(model, f"dense_{2 * number}/bias")
            outputs = outputs + named(model, f"dense_{2 * number + 1}/bias")
        outputs = np.where(outputs > 0, outputs, 0.2 * outputs)
        if recbole:
            outputs = outputs / np.linalg.norm(outputs, axis=1, keepdims=True)
        found.append(outputs)
    return np.concatenate(found, axis=1)


def scored(nodes):
    return np.array([nodes[u] @ nodes[3 + i] for u, i in zip(STATES, ITEMS, strict=True)])


@pytest.mark.parametrize(("deviations", "layers"), [((), 3), (("two_layers",), 2)])
def test_lightgcn_by_hand(deviations, layers):
    model = baseline("lightgcn", 3, 4, PAIRS, deviations=deviations)
    redrawn(model)
    expected = sigmoid(scored(light(model, layers)))
    np.testing.assert_allclose(probabilities(model, STATES, ITEMS), expected, **CLOSE)
    # The other number of layers is far from that.
    assert np.abs(sigmoid(scored(light(model, 5 - layers))) - expected).max() > 1e-2


@pytest.mark.parametrize("deviations", [(), NGCF])
def test_ngcf_by_hand(deviations):
    model = baseline("ngcf", 3, 4, PAIRS, deviations=deviations)
    redrawn(model, 0.1)
    expected = sigmoid(scored(neural(model, recbole=bool(deviations))))
    np.testing.assert_allclose(probabilities(model, STATES, ITEMS), expected, **CLOSE)
    if deviations:
        model.net.get_layer("graph").normalized = False
        assert np.abs(probabilities(model, STATES, ITEMS) - expected).max() > 1e-2


def trained_on(model):
    """Regularizer of two pairs: users 0 and 2, who took items 1 and 3, but not 0 and 2."""
    users, items = np.array([0, 0, 2, 2]), np.array([1, 0, 3, 2])
    model.net([users, items, np.zeros((4, 0), "int32")], training=True)
    (loss,) = model.losses
    return float(loss), (users[::2], 3 + items[::2], 3 + items[1::2])


def test_the_regularizer_of_lightgcn_by_hand():
    model = baseline("lightgcn", 3, 4, PAIRS)
    redrawn(model)
    nodes, (loss, rows) = first_layer(model), trained_on(model)
    assert loss == pytest.approx(1e-4 * sum((nodes[one] ** 2).sum() for one in rows) / 2, rel=1e-5)
    model = baseline("lightgcn", 3, 4, PAIRS, deviations=["norm_regularizer"])
    redrawn(model)
    loss, _ = trained_on(model)
    expected = 1e-5 * sum(np.linalg.norm(nodes[one]) for one in rows) / 2
    assert loss == pytest.approx(expected, rel=1e-5)


def test_the_regularizer_of_ngcf_by_hand(monkeypatch):
    monkeypatch.setattr("mmnet.mma4ctr.models.baselines.graphs.MESSAGE_DROPOUT", 0.0)
    model = baseline("ngcf", 3, 4, PAIRS)
    redrawn(model)
    nodes, (loss, rows) = first_layer(model), trained_on(model)
    squares = sum((nodes[one] ** 2).sum() for one in rows)
    squares += sum((named(model, f"dense_{n}/kernel") ** 2).sum() for n in range(6))
    assert loss == pytest.approx(1e-5 * squares / 2, rel=1e-5)
    model = baseline("ngcf", 3, 4, PAIRS, deviations=["norm_regularizer", *NGCF])
    redrawn(model)
    nodes, (loss, _) = neural(model, recbole=True), trained_on(model)
    expected = 1e-5 * sum(np.linalg.norm(nodes[one]) for one in rows) / 2
    assert loss == pytest.approx(expected, rel=1e-5)


def test_ngcf_hides_a_tenth_of_its_messages_in_training_and_in_recbole_always():
    for deviations, at_test in (([], False), (["dropout_at_test"], True)):
        layer = baseline("ngcf", 40, 60, PAIRS, deviations=deviations).net.get_layer("graph")
        for dense in [one for pair in layer.dense for one in pair]:
            dense.kernel.assign(np.ones_like(dense.kernel))
        for training in (True, False):
            nodes = layer.propagate(np.ones((100, 64), "float32"), training).numpy()[:, 64:128]
            hidden = (nodes == 0).mean()
            # Five standard errors of a Bernoulli(0.1) mean of 6,400.
            expected = 0.1 if training or at_test else 0.0
            assert hidden == pytest.approx(expected, abs=5 * (0.09 / 6400) ** 0.5)
