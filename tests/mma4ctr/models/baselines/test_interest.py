import numpy as np
import pytest

from mmnet.checks import InputError
from mmnet.mma4ctr.models.baselines.interest import (
    MLP,
    WIDTH,
    Dice,
    EvolvingInterest,
    NextItem,
    OtherItems,
    left_aligned,
)
from mmnet.mma4ctr.models.deviations import DEVIATIONS
from tests.conformance import check_layer
from tests.mma4ctr.baselines import baseline, named, probabilities, redrawn, sigmoid, weight

DRAW = np.random.default_rng(0)
STATES, ITEMS, OTHERS = (DRAW.normal(size=(2, 3, WIDTH)).astype("float32") for _ in range(3))
THERE = np.array([[1, 1, 1], [0, 1, 1]], "float32")
WEIGHTS = THERE * np.array([[0.2, 0.5, 0.3], [0.0, 0.6, 0.4]], "float32")
HISTORY = np.array([[0, 0, 3, 1, 4], [2, 5, 2, 1, 3], [0, 0, 0, 0, 2]], "int32")
DRAWN = np.array([[0, 0, 2, 2, 1], [1, 3, 5, 4, 4], [0, 0, 0, 0, 5]], "int32")
ROWS = [0, 1, 2, 1], [1, 1, 4, 3]  # states, which are users too, and items counted from 0
# Probabilities in float32 after four products with matrices of 256 rows.
CLOSE = {"atol": 1e-6, "rtol": 0}


def test_dice_conforms(tmp_path):
    layer = Dice(3)
    layer.slope.assign([0.1, 0.2, -0.3])
    check_layer(layer, STATES[:, 0, :3], tmp_path=tmp_path)


def test_dice_by_hand():
    layer, s = Dice(2), np.array([[1.0, 4.0], [3.0, -2.0], [2.0, 1.0]], "float32")
    layer.slope.assign([0.5, -1.0])
    # Means 2 and 1, variances 2/3 and 6.
    p = sigmoid((s - [2, 1]) / np.sqrt([2 / 3, 6]))
    expected = p * s + (1 - p) * np.array([0.5, -1.0]) * s
    np.testing.assert_allclose(layer(s, training=True), expected, rtol=1e-5)


def test_other_items_conform(tmp_path):
    check_layer(OtherItems(5, 0), HISTORY, tmp_path=tmp_path)


def test_other_items_are_all_but_the_item_alike():
    found = OtherItems(4, 0)(np.tile(np.array([[0, 3]], "int32"), [3000, 1]), training=True)
    assert (found[:, 0].numpy() == 0).all()
    # Five standard errors of a share of 1/3 among 3,000.
    shares = np.bincount(found[:, 1].numpy(), minlength=5) / 3000
    np.testing.assert_allclose(shares, [0, 1 / 3, 1 / 3, 0, 1 / 3], atol=5 * (2 / 9 / 3000) ** 0.5)
    assert shares[3] == 0


def test_a_history_moves_to_the_left():
    found = left_aligned(DRAWN, HISTORY).numpy()
    assert found.tolist() == [[2, 2, 1, 0, 0], [1, 3, 5, 4, 4], [5, 0, 0, 0, 0]]


@pytest.mark.parametrize("linear", [False, True])
def test_the_next_item_conforms(linear, tmp_path):
    layer = NextItem(range(len(MLP) + 1), linear=linear)
    golden = "NextItem_linear" if linear else "NextItem"
    check_layer(layer, [STATES, ITEMS, OTHERS, THERE], tmp_path=tmp_path, golden=golden)


def softplus(x):
    return np.log1p(np.exp(x))


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("padded", [False, True])
def test_the_auxiliary_loss_by_hand(linear, padded):
    layer = NextItem(range(len(MLP) + 1), linear=linear, padded=padded)
    assert layer([STATES, ITEMS, OTHERS, THERE], training=True) is not None
    (found,) = (float(loss) for loss in layer.losses)

    def score(state, item):
        if not linear:
            return state @ item
        x = np.concatenate([state, item])
        for kernel, bias in zip(*[iter(w.numpy() for w in layer.weights)] * 2, strict=True):
            x = x @ kernel + bias
        return x.item()

    # From step to step; the second row begins with nothing.
    steps = [(0, 0), (0, 1), (1, 0), (1, 1)] if padded else [(0, 0), (0, 1), (1, 1)]
    losses = [
        softplus(-score(STATES[row, step], ITEMS[row, step + 1]))
        + softplus(score(STATES[row, step], OTHERS[row, step + 1]))
        for row, step in steps
    ]
    assert found == pytest.approx(np.mean(losses) / (2 if padded else 1), rel=1e-5)


def test_evolving_interest_conforms(tmp_path):
    check_layer(EvolvingInterest(0), [STATES, WEIGHTS], tmp_path=tmp_path)


def gru_step(x, state, kernel, recurrent, bias, attention=1.0):
    """One step as PyTorch's GRU, whose update gate keeps 1 - u of the state."""
    given, kept = np.split(x @ kernel + bias[0], 3), np.split(state @ recurrent + bias[1], 3)
    update = attention * sigmoid(given[0] + kept[0])
    fresh = np.tanh(given[2] + sigmoid(given[1] + kept[1]) * kept[2])
    return (1 - update) * state + update * fresh


def keras_step(x, state, kernel, recurrent, bias):
    """One step of Keras' GRU, whose update gate keeps z of the state."""
    given, kept = np.split(x @ kernel + bias[0], 3), np.split(state @ recurrent + bias[1], 3)
    keep = sigmoid(given[0] + kept[0])
    fresh = np.tanh(given[2] + sigmoid(given[1] + kept[1]) * kept[2])
    return keep * state + (1 - keep) * fresh


def attention_unit(model, target, step):
    x = np.concatenate([target, step, target - step, target * step])
    for number in range(len(MLP)):
        x = sigmoid(linear_layer(model, f"attention_{number}", x))
    return linear_layer(model, f"attention_{len(MLP)}", x).item()


def linear_layer(model, name, x):
    return x @ named(model, f"{name}/kernel") + named(model, f"{name}/bias")


def last_layers(model, vectors, *, recbole):
    """The network over vectors; moving averages of batches as they start, mean 0 and variance 1."""
    x = np.concatenate(vectors)
    for number in range(len(MLP)):
        x = linear_layer(model, f"dense_{number}", x)
        if recbole:
            norm = f"normalization_{number}/"
            x = x / np.sqrt(1 + 1e-5) * named(model, f"{norm}gamma") + named(model, f"{norm}beta")
            x = x * sigmoid(x)
        else:
            p = sigmoid(x / np.sqrt(1 + 1e-8))
            x = p * x + (1 - p) * named(model, f"dice_{number}/slope") * x
    return sigmoid(linear_layer(model, f"dense_{len(MLP)}", x)).item()


def din_by_hand(model, user, item, *, recbole):
    items = named(model, "items/embeddings")
    target, interest = items[item + 1], np.zeros(WIDTH)
    for step in HISTORY[user][HISTORY[user] > 0]:
        weight = attention_unit(model, target, items[step])
        interest += weight / (np.sqrt(10) if recbole else 1) * items[step]
    if recbole:
        return last_layers(model, [interest, target, interest * target], recbole=True)
    vectors = [named(model, "users/embeddings")[user + 1], interest, target]
    return last_layers(model, vectors, recbole=False)


def dien_by_hand(model, user, item, *, recbole):
    items = named(model, "items/embeddings")
    target = items[item + 1]
    gru = [named(model, f"gru/gru_cell/{part}") for part in ("kernel", "recurrent_kernel", "bias")]
    state, states = np.zeros(WIDTH), []
    for step in HISTORY[user][HISTORY[user] > 0]:
        state = keras_step(items[step], state, *gru)
        states.append(state)
    if recbole:
        weights = [attention_unit(model, target, state) / np.sqrt(10) for state in states]
    else:
        weights = [state @ (target @ named(model, "attention/kernel")) for state in states]
        weights = np.exp(weights) / np.exp(weights).sum()
    augru = [named(model, f"evolving_interest/{part}") for part in ("kernel", "recurrent", "bias")]
    evolved = np.zeros(WIDTH)
    for state, share in zip(states, weights, strict=True):
        evolved = gru_step(state, evolved, *augru, attention=share)
    vectors = [evolved, target, named(model, "users/embeddings")[user + 1]]
    return last_layers(model, vectors, recbole=recbole)


def built(name, deviations):
    others = DRAWN if "fixed_auxiliary_negatives" in deviations else None
    model = baseline(name, 3, 5, history=HISTORY, others=others, deviations=deviations)
    redrawn(model, 0.12)
    return model


@pytest.mark.parametrize("recbole", [False, True])
@pytest.mark.parametrize(("name", "by_hand"), [("din", din_by_hand), ("dien", dien_by_hand)])
def test_interest_models_by_hand(name, by_hand, recbole):
    model = built(name, DEVIATIONS[name] if recbole else ())
    for one in model.net.weights:  # large vectors, so that histories and users matter
        if one.path.endswith("embeddings"):
            one.assign(8 * one)
    expected = [by_hand(model, *row, recbole=recbole) for row in zip(*ROWS, strict=True)]
    np.testing.assert_allclose(probabilities(model, *ROWS), expected, **CLOSE)
    assert np.std(expected) > 0.02


PRINTED = {
    "din": [(40, 256), (256, 256), (256, 256), (256, 1), (30, 256), (256, 256), (256, 256)],
    "dien": [
        *[(20, 256), (256, 256), (256, 256), (256, 1)],
        *[(40, 256), (256, 256), (256, 256), (256, 1), (30, 256), (256, 256), (256, 256)],
    ],
}
"""Linear layers in the authors' README, before the last one."""


@pytest.mark.parametrize("name", PRINTED)
def test_layers_are_those_that_the_authors_print(name):
    model = built(name, DEVIATIONS[name])
    kernels = [tuple(w.shape) for w in model.net.weights if w.path.endswith("kernel")]
    # Of GRU(10, 10) both, and the one of AUGRUCell() that is not called recurrent.
    recurrent = [(10, 30)] * 3 if name == "dien" else []
    expected = [*PRINTED[name], (256, 1), *recurrent]
    assert sorted(kernels) == sorted(expected)


def nothing_is(model, value):
    table = weight(model, "items/embeddings")
    table.assign(np.concatenate([[[value] * WIDTH], table.numpy()[1:]]))


@pytest.mark.parametrize("deviations", [[], ["padding_in_auxiliary"]])
def test_the_auxiliary_loss_of_recbole_alone_reads_its_padding(deviations):
    model, losses = built("dien", ["fixed_auxiliary_negatives", *deviations]), []
    for value in (0.0, 9.0):
        nothing_is(model, value)
        user, item = np.arange(3, dtype="int32"), np.zeros(3, "int32")
        model.net([user, item, HISTORY, DRAWN], training=True)
        losses.append(float(sum(model.losses)))
    assert (abs(losses[1] - losses[0]) > 1e-3) == bool(deviations)


def test_a_log_of_one_item_has_no_others():
    with pytest.raises(InputError, match="the log has a single item"):
        baseline("dien", 3, 1)
