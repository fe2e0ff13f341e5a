import numpy as np

from mmnet.mma4ctr.baselines.interest import MLP, WIDTH, EvolvingInterest, NextItem
from tests.conformance import check_layer

DRAW = np.random.default_rng(0)
STATES, ITEMS = (DRAW.normal(size=(2, 3, WIDTH)).astype("float32") for _ in range(2))
THERE = np.array([[1, 1, 1], [0, 0, 1]], "float32")
WEIGHTS = THERE * np.array([[0.2, 0.5, 0.3], [0.0, 0.0, 1.0]], "float32")


def test_the_next_item_conforms(tmp_path):
    layer = NextItem(range(len(MLP) + 1))
    check_layer(layer, [STATES, ITEMS, THERE], tmp_path=tmp_path)


def test_the_next_item_is_told_from_that_of_the_next_row():
    layer = NextItem(range(len(MLP) + 1))
    assert layer([STATES, ITEMS, THERE], training=True) is not None
    (found,) = (float(loss) for loss in layer.losses)

    def scores(states, items):
        x = np.concatenate([states, items])
        for kernel, bias in zip(*[iter(w.numpy() for w in layer.weights)] * 2, strict=True):
            x = x @ kernel + bias
            x = 1 / (1 + np.exp(-x)) if len(bias) > 1 else x
        return x.item()

    # Only row 0 has two steps in a row, at which the other row has a step too: 1 -> 2 has, 0 -> 1
    # has not.
    right, wrong = scores(STATES[0, 1], ITEMS[0, 2]), scores(STATES[0, 1], ITEMS[1, 2])
    expected = np.log1p(np.exp(-right)) + np.log1p(np.exp(wrong))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_evolving_interest_conforms(tmp_path):
    check_layer(EvolvingInterest(0), [STATES, WEIGHTS, THERE], tmp_path=tmp_path)
