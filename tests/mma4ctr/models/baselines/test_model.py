import dataclasses
import math

import numpy as np
import pytest

from mmnet.checks import InputError
from mmnet.mma4ctr.config import TrainConfig
from mmnet.mma4ctr.models import REGISTRY, deviations
from mmnet.mma4ctr.models.baselines import sequences
from mmnet.mma4ctr.models.baselines.model import StateRows
from mmnet.mma4ctr.system import System
from tests.conformance import check_layer
from tests.mma4ctr.baselines import baseline, parameters, probabilities, redrawn, sigmoid
from tests.mma4ctr.logs import log

NUMBERS = [name for name, builder in REGISTRY.items() if builder.reads == "numbers"]
SEQUENTIAL = [name for name in NUMBERS if REGISTRY[name].loss == "items"]


def test_rows_of_states_conform(tmp_path):
    layer = StateRows((3, 2))
    layer.users.assign([7, 8, 9])
    layer.history.assign([[0, 0], [0, 1], [2, 3]])
    check_layer(layer, np.array([2, 1], "int32"), tmp_path=tmp_path)


def test_rows_of_states_with_other_items_conform(tmp_path):
    layer = StateRows((3, 2), others=True)
    layer.others.assign([[0, 0], [0, 4], [5, 6]])
    check_layer(layer, np.array([2, 1], "int32"), tmp_path=tmp_path, golden="StateRows_others")


def test_tables_of_64_bits_hold_the_same_rows():
    found = []
    for dtype in ("int32", "int64"):
        layer = StateRows((3, 2), tables=dtype)
        layer.users.assign([7, 8, 9])
        layer.history.assign([[0, 0], [0, 1], [2, 3]])
        assert {weight.dtype for weight in layer.weights} == {dtype}
        found.append(layer(np.array([2, 1], "int32")))
    for one, other in zip(*found, strict=True):
        assert one.dtype == other.dtype == "int32"
        np.testing.assert_array_equal(one, other)


PUBLISHED = {
    "bpr": (7_460_224, 195_060_416),
    "fpmc": (19_820_544, 584_966_336),
    "ngcf": (7_485_184, 195_085_376),
    "lightgcn": (7_460_224, 195_060_416),
    "bert4rec": (6_915_904, 195_056_384),
    "gcsan": (6_908_032, 195_048_512),
    "din": (1_449_310, 30_761_840),
    "dien": (1_587_847, 30_900_377),
}
"""Trainable parameters in the authors' README, WeChat and TikTok."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_numbers_of_parameters(name):
    whole = deviations.of(name, ("recbole",), "c1")
    # Counted for small tables, and the rows that are missing added: TikTok's take 0.8 GB.
    small = parameters(baseline(name, 2, 3, deviations=whole))
    more = parameters(baseline(name, 3, 3, deviations=whole)) - small
    per_item = parameters(baseline(name, 2, 4, deviations=whole)) - small
    # RecBole's tables have a padding row; so have ours of sequential models but FPMC.
    spare = REGISTRY[name].history > 1
    for data, (users, items) in enumerate(((20_001, 96_565), (1_679, 3_046_140))):
        if name in SEQUENTIAL and data == 0:  # given all feeds, not only the ones that were shown
            items = 106_445
        found = small + more * (users - 2 - spare) + per_item * (items - 3 - spare)
        # RecBole's DIN has a table of users that it never reads.
        assert found + (10 * users if name == "din" else 0) == PUBLISHED[name][data]


@pytest.mark.parametrize("name", NUMBERS)
def test_every_baseline_gives_probabilities(name):
    model = baseline(name, 3, 4)
    redrawn(model, 3.0)
    found = np.concatenate([probabilities(model, [state] * 4, range(4)) for state in range(3)])
    assert ((found >= 0) & (found <= 1)).all()


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
    epochs = {"din": 10, "dien": 4}.get(name, 8)
    flags = TrainConfig(
        model=name,
        protocol="c1",
        epochs=epochs,
        batch_size=256,
        learning_rate=0.006 if name in ("din", "dien") else 0.01,
        jit=False,
        schedule="constant",
    )
    made = System(data, flags)
    found = made.report(made.fit(None)).test
    # 300 test rows: chance has an sd of 0.035; a model that knows users and items reaches 0.9.
    assert found["auc"] > 0.75


@pytest.mark.parametrize("name", ["bpr", "din"])
def test_under_recbole_rows_are_scored_by_what_a_model_returns(name):
    made = System(log(items=60, rows=300), TrainConfig(model=name, protocol="recbole"))
    redrawn(made.model, 0.4 if name == "bpr" else 0.2)
    part = made.protocol.parts["test"]
    rows = {"state": made.protocol.state[part], "item": made.protocol.item[part]}
    score = made.model.raw(rows).numpy().astype("float64")
    output = score if name == "bpr" else sigmoid(score)  # as RecBole's models return it
    label = made.protocol.label[part]
    pairs = [(p > n) + (p == n) / 2 for p in output[label == 1] for n in output[label == 0]]
    losses = []
    for one, p in zip(label, output, strict=True):
        p = min(max(p, 1e-15), 1 - 1e-15)
        losses.append(-math.log(p) if one else -math.log(1 - p))
    found = made.test()
    assert found["auc"] == pytest.approx(np.mean(pairs))
    assert found["log_loss_raw"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert (found["log_loss_raw"] > 2) == (name == "bpr")
    probability = sigmoid(score)
    losses = -np.where(label == 1, np.log(probability), np.log1p(-probability))
    assert found["log_loss"] == pytest.approx(np.mean(losses), rel=1e-5)


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
