import numpy as np
import pytest

from mmnet.layers.trees import PIECE, WORD, Forest, TreeRate, Trees
from tests.conformance import check_layer
from tests.extremes import FLOATS

NAN, INF = np.nan, np.inf
# Tree 1: x0 <= 2 ? (x1 in {0, 17} ? 1 : 2) : 4; NaN of x0 goes left. Tree 2: x0 <= -1 ? 8 : 16;
# NaN goes right. Tree 3 is one leaf, 32.
FOREST = Forest(
    feature=np.array([0, 0]),
    threshold=np.array([2.0, -1.0]),
    missing_left=np.array([True, False]),
    category_feature=np.array([1]),
    first_word=np.array([1]),
    num_words=np.array([2]),
    words=np.array([0, 1, 2]),  # of which the last two are {0, 16 + 1}
    condition=np.array([0, 2, 1]),
    left=np.array([1, 3, 6]),
    right=np.array([5, 4, 7]),
    root=np.array([0, 2, 8]),
    value=np.array([1.0, 2, 4, 8, 16, 32]),
    alive=(2, 1),
)
SIZES = {name: len(array) for name, array in FOREST.arrays().items()}
ROWS = {
    (2.0, 17.0): 1 + 16 + 32,
    (2.0, 16.0): 2 + 16 + 32,
    (2.0, 0.0): 1 + 16 + 32,
    (2.0, -0.5): 1 + 16 + 32,  # truncated, as in C
    (2.0, -1.0): 2 + 16 + 32,
    (2.0, 49.0): 2 + 16 + 32,  # beyond the bitset
    (2.0, 1e30): 2 + 16 + 32,
    (2.0, NAN): 2 + 16 + 32,
    (2.0000002, 17.0): 4 + 16 + 32,
    (NAN, 17.0): 1 + 16 + 32,
    (-1.0, 17.0): 1 + 8 + 32,
    (-INF, 5.0): 2 + 8 + 32,
    (INF, 5.0): 4 + 16 + 32,
}
FEATURES = np.array(list(ROWS), "float32")


def test_a_forest_worked_by_hand():
    found = Trees.of(FOREST)(FEATURES)
    assert found.dtype == "float64"
    np.testing.assert_array_equal(found, list(ROWS.values()))


@pytest.mark.parametrize("rows", [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 3])
def test_a_batch_of_any_size_is_walked_in_pieces(rows):
    draw = np.random.default_rng(rows)
    which = draw.integers(0, len(ROWS), rows)
    found = Trees.of(FOREST)(FEATURES[which])
    np.testing.assert_array_equal(found, np.array(list(ROWS.values()))[which])


def test_numbers_next_to_zero_are_read_as_zero():
    at_zero = Forest(**{**vars(FOREST), "threshold": np.array([0.0, -1e-35])})
    layer = Trees.of(at_zero)
    tiny = [1e-36, -1e-36, 1e-45, 0.0, -0.0]
    rows = np.array([[x, 17.0] for x in tiny], "float32")
    np.testing.assert_array_equal(layer(rows), [1 + 16 + 32] * len(tiny))


def test_every_number_has_a_leaf():
    rows = np.stack([np.repeat(FLOATS, len(FLOATS)), np.tile(FLOATS, len(FLOATS))], axis=1)
    assert np.isin(Trees.of(FOREST)(rows), np.unique(list(ROWS.values()))).all()


def test_sizes_must_be_those_of_a_forest():
    with pytest.raises(ValueError, match="`sizes` must have the arrays of a forest"):
        Trees({"value": 1}, ())
    with pytest.raises(ValueError, match="`words` must be"):
        Trees(SIZES | {"words": 0}, ())
    assert WORD <= 30  # a word is an int32 that is never below 0


SCORE = np.array([-3.0, 0.0, 1.0, 150.0])
START = np.array([50.0, 20.0, 0.0, 100.0], "float32")


def test_a_score_is_a_rate_within_its_range():
    np.testing.assert_array_equal(TreeRate("identity")(SCORE), [0, 0, 1, 100])
    np.testing.assert_array_equal(TreeRate("identity", None)(SCORE), [0, 0, 1, 150])
    np.testing.assert_array_equal(TreeRate("identity")(SCORE, START), [47, 20, 1, 100])


def test_a_score_of_log_odds_is_added_to_those_of_the_start():
    # exp(-3) = 0.0497871: odds of the first 1 * 0.0497871, of the second 0.25.
    found = TreeRate("logistic")(SCORE, START)
    assert found.dtype == "float32"
    np.testing.assert_allclose(found[:2], [4.742587, 20], rtol=1e-6)
    np.testing.assert_allclose(found[2:], [2.718281e-5, 100], rtol=1e-6)  # 1e-7 at least
    np.testing.assert_allclose(TreeRate("logistic")(SCORE)[1], 50)
    assert np.isfinite(TreeRate("logistic")(np.array([-1e300, 1e300]))).all()


def test_links_are_checked():
    with pytest.raises(ValueError, match="`link` must be one of"):
        TreeRate("probit")


def test_trees_conform(tmp_path):
    layer = Trees.of(FOREST)
    check_layer(layer, FEATURES, tmp_path=tmp_path)


def test_rates_conform(tmp_path):
    check_layer(TreeRate("logistic", None), SCORE, START, tmp_path=tmp_path)
