import numpy as np

from mmnet.layers.age import BORDERS, AgeEmbedding, KnownAge
from tests.conformance import check_layer

AGES = np.array([-1, 0, 1, 2, 5, 6, 1000], "float32")
BOUND = np.array([1, 0, 0, 1, 0, 0, 1], "float32")


def embedding(units=3):
    layer = AgeEmbedding(units)
    layer.build((None,), (None,))
    draw = np.random.default_rng(0)
    layer.set_weights([draw.normal(size=weight.shape) for weight in layer.weights])
    return layer


def test_an_age_is_its_bin_its_logarithm_and_whether_it_is_a_bound():
    layer = embedding()
    bins, slope, bound = (np.asarray(weight) for weight in layer.weights)
    assert bins.shape == (33, 3)
    wanted = []
    for age, at_least in zip(AGES, BOUND, strict=True):
        if age < 0:
            wanted.append(bins[0])
            continue
        row = 1 + len([border for border in BORDERS if border <= age])
        wanted.append(bins[row] + np.log(1 + age) * slope + at_least * bound)
    # Two roundings of float32, of sums around 10.
    np.testing.assert_allclose(layer(AGES, BOUND), wanted, rtol=1e-5, atol=1e-5)


def test_bins_double_in_two_steps():
    assert BORDERS[:8] == (1, 2, 3, 4, 6, 8, 12, 16)
    np.testing.assert_array_equal(np.unique(BORDERS), BORDERS)


def test_ages_that_bfloat16_would_round_stay_apart():
    layer = AgeEmbedding(2, dtype="mixed_bfloat16")
    # bfloat16 has no 767; its neighbour 768 begins a bin.
    before, first = np.asarray(layer(np.array([767, 768], "float32"), np.zeros(2, "float32")))
    assert not np.array_equal(before, first)


def test_conforms(tmp_path):
    check_layer(AgeEmbedding(4), AGES, BOUND, tmp_path=tmp_path)


def test_an_age_of_the_history_is_hidden_with_it(tmp_path):
    age, bound = np.array([3, 4, -1], "float32"), np.array([1, 1, 0], "float32")
    missing = np.array([[1, 0, 1], [1, 1, 1], [0, 0, 0]], "float32")
    shown = KnownAge()(age, bound, missing)
    np.testing.assert_array_equal(shown, [[3, -1, -1], [1, 0, 0]])
    check_layer(KnownAge(), age, bound, missing, tmp_path=tmp_path)
