import dataclasses
import math

import numpy as np
import pytest

from mmnet.checks import InputError
from mmnet.mma4ctr.config import TrainConfig
from mmnet.mma4ctr.models import REGISTRY, NumberSpec
from mmnet.mma4ctr.models.baselines import sequences
from mmnet.mma4ctr.models.baselines.graphs import GRAPH_LAYERS
from mmnet.mma4ctr.models.baselines.model import Baseline, StateRows
from mmnet.mma4ctr.system import System
from tests.conformance import check_layer
from tests.mma4ctr.logs import log

NUMBERS = [name for name, builder in REGISTRY.items() if builder.reads == "numbers"]
SEQUENTIAL = [name for name in NUMBERS if REGISTRY[name].loss == "items"]


def baseline(name, users, items, pairs=((0,), (1,)), states=3, history=None):
    builder = REGISTRY[name]
    if history is None:
        history = np.zeros((states, builder.history), np.int32)
    spec = NumberSpec(users, items, history.shape[1], np.array(pairs), batch_size=1, seed=0)
    state_user = np.arange(states, dtype=np.int32) % users
    return Baseline(builder(spec), state_user, history, builder.score_rows)


def test_rows_of_states_conform(tmp_path):
    layer = StateRows((3, 2))
    layer.users.assign([7, 8, 9])
    layer.history.assign([[0, 0], [0, 1], [2, 3]])
    check_layer(layer, np.array([2, 1], "int32"), tmp_path=tmp_path)


def parameters(model):
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bpr", 7_460_224),
        ("fpmc", 19_820_544),
        ("ngcf", 7_485_184),
        ("lightgcn", 7_460_224),
        ("din", 1_449_310),
        ("dien", 1_587_847),
        ("bert4rec", 6_915_904),
        ("gcsan", 6_908_032),
    ],
)
def test_published_numbers_of_parameters(name, expected):
    # RecBole's tables have a row for nobody; ours of DIN and DIEN do too.
    users, items = (20_001, 96_565) if REGISTRY[name].loss == "pairs" else (20_000, 96_564)
    if name in SEQUENTIAL:  # those were given all feeds, not only the ones that were shown
        items = 106_444
    assert parameters(baseline(name, users, items)) == expected


def probabilities(model, state, item):
    inputs = {"state": np.array(state, "int32"), "item": np.array(item, "int32")}
    return model(inputs).numpy()


@pytest.mark.parametrize("name", NUMBERS)
def test_every_baseline_gives_probabilities(name):
    model = baseline(name, 3, 4)
    redrawn(model, 3.0)
    found = np.concatenate([probabilities(model, [state] * 4, range(4)) for state in range(3)])
    assert ((found >= 0) & (found <= 1)).all()


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x)))


def test_factors_by_hand():
    model = baseline("bpr", 3, 4)
    user, item = model.net.get_weights()
    np.testing.assert_allclose(
        probabilities(model, [2, 1], [3, 0]),
        sigmoid([user[2] @ item[3], user[1] @ item[0]]),
        rtol=1e-5,
    )


def test_a_chain_by_hand():
    history = np.zeros((3, 10), np.int32)
    history[1, -1] = 3  # item 2 was taken last
    model = baseline("fpmc", 3, 4, history=history)
    user, item, last, following = model.net.get_weights()
    np.testing.assert_allclose(
        probabilities(model, [0, 1], [3, 3]),
        sigmoid([user[0] @ item[3], user[1] @ item[3] + last[2] @ following[3]]),
        rtol=1e-5,
    )


def spread(nodes, pairs, users):
    """A dense normalised adjacency matrix times the nodes."""
    number = len(nodes)
    adjacency = np.zeros((number, number))
    for user, item in zip(*pairs, strict=True):
        adjacency[user, users + item] = adjacency[users + item, user] = 1
    degree = np.maximum(adjacency.sum(axis=1), 1)
    return (adjacency / np.sqrt(np.outer(degree, degree))) @ nodes


def test_a_light_graph_by_hand():
    pairs = [[0, 0, 1, 2], [1, 2, 2, 3]]
    model = baseline("lightgcn", 3, 4, pairs)
    layers = [np.concatenate(model.net.get_weights())]
    for _ in range(GRAPH_LAYERS):
        layers.append(spread(layers[-1], pairs, 3))
    nodes = np.mean(layers, axis=0)
    expected = sigmoid([nodes[1] @ nodes[3 + 2]])
    np.testing.assert_allclose(probabilities(model, [1], [2]), expected, rtol=1e-5)


def test_a_neural_graph_by_hand():
    pairs = [[0, 0, 1, 2], [1, 2, 2, 3]]
    model = baseline("ngcf", 3, 4, pairs)
    user, item, *dense = model.net.get_weights()
    layers = [np.concatenate([user, item])]
    for number in range(GRAPH_LAYERS):
        first, first_bias, second, second_bias = dense[4 * number : 4 * number + 4]
        around = spread(layers[-1], pairs, 3)
        nodes = (layers[-1] + around) @ first + first_bias
        nodes = nodes + (layers[-1] * around) @ second + second_bias
        nodes = np.where(nodes > 0, nodes, 0.2 * nodes)
        layers.append(nodes / np.linalg.norm(nodes, axis=1, keepdims=True))
    nodes = np.concatenate(layers, axis=1)
    expected = sigmoid([nodes[0] @ nodes[3 + 1]])
    np.testing.assert_allclose(probabilities(model, [0], [1]), expected, rtol=1e-4)


@pytest.mark.parametrize("name", ["din", "dien"])
def test_interest_models_read_the_history_and_nothing_where_there_is_none(name):
    history = np.zeros((3, 10), np.int32)
    history[1, -2:] = 3, 2
    history[2, -2:] = 1, 2
    model = baseline(name, 1, 4, history=history)  # one user in three states
    found = probabilities(model, [0, 1, 2], [1, 1, 1])
    assert len(set(found.tolist())) == 3
    # What stands for nothing is read nowhere: its row may be anything.
    table = next(w for w in model.net.weights if w.path.startswith("items"))
    table.assign(np.concatenate([[[9.0] * 10], table.numpy()[1:]]))
    again = probabilities(model, [0, 1, 2], [1, 1, 1])
    np.testing.assert_allclose(again, found, rtol=1e-5)


@pytest.mark.parametrize("name", SEQUENTIAL)
def test_in_training_a_distribution_over_all_items_that_does_not_know_the_answer(name, monkeypatch):
    monkeypatch.setattr(sequences, "DROPOUT", 0.0)
    monkeypatch.setattr(sequences, "MASKED_SHARE", 0.0)
    history = np.zeros((1, 50), np.int32)
    history[0, -3:] = 2, 5, 2
    model = baseline(name, 1, 6, states=1, history=history)
    assert model.net([*given(6), np.repeat(history, 6, axis=0)], training=True).shape == (6,)
    found = model.net([*given(6), np.repeat(history, 6, axis=0)], training=True).numpy()
    assert np.exp(found).sum() == pytest.approx(1, rel=1e-5)
    assert found.std() > 1e-4
    # The same order as by the scores: softmax and sigmoid are monotone.
    scores = model.net([*given(6), np.repeat(history, 6, axis=0)]).numpy()
    np.testing.assert_array_equal(np.argsort(found), np.argsort(scores))


def given(items):
    """A user, and each item once."""
    return [np.zeros(items, np.int32), np.arange(items, dtype=np.int32)]


def test_holes_are_the_last_place_and_a_fifth_of_the_others():
    layer = sequences.Cloze(30, 50, 3)
    whole = np.ones((2000, 51), np.int32)
    whole[:, :30] = 0  # twenty taken before
    place, hole = (x.numpy() for x in layer.hide(whole))
    assert (place[:, 0] == 50).all()
    assert (place[hole > 0] >= 30).all()
    for row, there in zip(place, hole, strict=True):
        assert len(set(row[there > 0])) == there.sum()
    # Binomial(20, 0.2), but never more than 10: 3 standard errors of a mean over 2000 rows.
    assert hole[:, 1:].sum(axis=1).mean() == pytest.approx(
        4, abs=3 * (20 * 0.2 * 0.8 / 2000) ** 0.5
    )


def normalised(x, weights):
    gain, shift = weights
    x = x - x.mean(axis=-1, keepdims=True)
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-12) * gain + shift


def gelu(x):
    return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2


def transformed(x, sees, layer):
    """One layer of a transformer, step by step and head by head; sees [steps, steps]."""

    def find(name):
        return next(w.numpy() for w in layer.attention.weights if w.path.endswith(name))

    heads = find("query/kernel").shape[1]
    found = np.zeros_like(x)
    for head in range(heads):
        query, key, value = (
            x @ find(f"{part}/kernel")[:, head] + find(f"{part}/bias")[head]
            for part in ("query", "key", "value")
        )
        for step in range(len(x)):
            if not sees[step].any():
                continue
            score = np.array([query[step] @ key[other] for other in np.flatnonzero(sees[step])])
            score = np.exp(score / math.sqrt(query.shape[1]))
            mean = (score / score.sum()) @ value[sees[step]]
            found[step] += mean @ find("attention_output/kernel")[head]
    found += find("attention_output/bias")
    x = normalised(x + found, [w.numpy() for w in layer.norms[0].weights])
    inner = gelu(x @ layer.inner.kernel.numpy() + layer.inner.bias.numpy())
    outer = inner @ layer.outer.kernel.numpy() + layer.outer.bias.numpy()
    return normalised(x + outer, [w.numpy() for w in layer.norms[1].weights])


def redrawn(model, size=0.3):
    """Weights of a size that lets every part of a network be seen."""
    draw = np.random.default_rng(1)
    for weight in model.net.trainable_weights:
        weight.assign(draw.normal(0, size, weight.shape) + (weight.path.endswith("gamma")))


def test_a_cloze_by_hand():
    history = np.zeros((2, 50), np.int32)
    history[1, -3:] = 4, 2, 4
    model = baseline("bert4rec", 2, 5, states=2, history=history)
    redrawn(model)
    layer = next(one for one in model.net.layers if isinstance(one, sequences.Cloze))
    items, places = layer.items.numpy(), layer.places.numpy()
    expected = []
    for state in (0, 1):
        tokens = np.append(history[state], 6)  # five items, and the hole after them
        x = normalised(items[tokens] + places, [w.numpy() for w in layer.norm.weights])
        for block in layer.blocks:
            x = transformed(x, np.repeat(tokens[None] > 0, 51, axis=0), block)
        expected.append(sigmoid(x[-1] @ items[3 + 1]))
    np.testing.assert_allclose(probabilities(model, [0, 1], [3, 3]), expected, rtol=1e-4)


def test_a_session_graph_by_hand():
    history = np.zeros((2, 50), np.int32)
    history[0, -6:] = 4, 2, 4, 5, 2, 4  # edges 4>2, 2>4, 4>5, 5>2
    model = baseline("gcsan", 2, 5, states=2, history=history)
    redrawn(model)
    layer = next(one for one in model.net.layers if isinstance(one, sequences.SessionGraph))
    items = layer.items.numpy()
    edges = {(4, 2), (2, 4), (4, 5), (5, 2)}
    after = {node: [v for u, v in sorted(edges) if u == node] for node in (2, 4, 5)}
    before = {node: [u for u, v in sorted(edges) if v == node] for node in (2, 4, 5)}
    nodes = {}
    for node in (2, 4, 5):
        heard = np.concatenate(
            [
                np.mean([items[n] @ side.kernel.numpy() for n in around[node]], axis=0)
                + side.bias.numpy()
                for around, side in zip((before, after), layer.sides, strict=True)
            ]
        )
        given = np.split(heard @ layer.kernel.numpy() + layer.bias.numpy(), 3)
        kept = np.split(items[node] @ layer.recurrent.numpy() + layer.recurrent_bias.numpy(), 3)
        reset, update = sigmoid(given[0] + kept[0]), sigmoid(given[1] + kept[1])
        fresh = np.tanh(given[2] + reset * kept[2])
        nodes[node] = (1 - update) * items[node] + update * fresh
    x = np.array([nodes[item] for item in history[0, -6:]])
    attended = transformed(x, np.tril(np.ones((6, 6), bool)), layer.attention)
    last = 0.6 * attended[-1] + 0.4 * nodes[4]
    np.testing.assert_allclose(
        probabilities(model, [0, 1], [2, 2]), [sigmoid(last @ items[3]), 0.5], rtol=1e-4
    )


@pytest.mark.parametrize(
    "name",
    [name if name == "bpr" else pytest.param(name, marks=pytest.mark.slow) for name in NUMBERS],
)
def test_every_baseline_learns_who_takes_what(name):
    """Users of even numbers take even items.

    What a sequential model scores is which item is next and not whether one is taken; here both
    are the same.
    """
    data = log(rows=4000, users=12, items=30, min_rows=3)
    likes = (data.user + data.item) % 2 == 0
    label = np.where(likes, data.label | (data.device == 1), 0).astype(np.int8)
    data = dataclasses.replace(data, label=label)
    deep = name in ("din", "dien")
    flags = TrainConfig(
        model=name,
        protocol="c1",
        epochs=25 if deep else 8,
        batch_size=256,
        learning_rate=0.002 if deep else 0.01,
        jit=False,
        schedule="constant",
    )
    made = System(data, flags)
    found = made.report(made.fit(None)).test
    # 300 test rows: chance has an sd of 0.035; a model that knows users and items reaches 0.9.
    assert found["auc"] > 0.75


def test_numbers_of_users_mean_nothing_where_no_user_is_known():
    with pytest.raises(InputError, match="use --protocol=c1"):
        System(log(), TrainConfig(model="bpr", protocol="p0"))


@pytest.mark.parametrize("name", SEQUENTIAL)
def test_too_many_items_for_a_batch_are_told(name, monkeypatch):
    monkeypatch.setattr(sequences, "MOST_LOGITS_BYTES", 4 * 30 * 100)
    data = log(rows=900, users=40, items=30, min_rows=3)
    with pytest.raises(InputError, match=f"--batch_size=2200: --model={name} scores all 30 items"):
        System(data, TrainConfig(model=name, protocol="c1", batch_size=2200))


@pytest.mark.slow
@pytest.mark.parametrize("name", SEQUENTIAL)
def test_holes_and_dropout_go_on_where_they_stopped(name, tmp_path):
    data = log(rows=900, users=40, items=30, min_rows=3)
    flags = TrainConfig(model=name, protocol="c1", epochs=3, batch_size=16, jit=False)

    def trained(flags, run_dir, resume=False):
        made = System(data, flags.model_copy(update={"resume": resume}))
        made.fit(run_dir)
        return made.model.net.get_weights()

    whole = trained(flags, tmp_path / "whole")
    trained(flags.model_copy(update={"epochs": 2}), tmp_path / "parts")
    for one, other in zip(whole, trained(flags, tmp_path / "parts", True), strict=True):
        np.testing.assert_array_equal(one, other)
