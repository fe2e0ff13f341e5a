import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmnet.layers.trees import Trees
from mmnet.models.forests import count_at_most, float32_at_most, lightgbm_forest
from tests.extremes import FLOATS

lightgbm = pytest.importorskip("lightgbm", reason="the extra [baselines] is not installed")

QUICK = {"num_threads": 1, "verbosity": -1, "learning_rate": 0.3}
LOGGED = [False, False, False, True, False]
KINDS = {
    "deep": {"num_leaves": 63, "min_data_in_leaf": 1, "max_bin": 1000},
    "categories": {"num_leaves": 31, "min_data_per_group": 1, "cat_smooth": 0.1, "cat_l2": 0.1},
    "one categories": {"num_leaves": 7, "max_cat_to_onehot": 200, "min_data_in_leaf": 3},
    "without missing values": {"num_leaves": 15, "use_missing": False},
    "odds": {"num_leaves": 15, "objective": "cross_entropy"},
    "nothing to split": {"num_leaves": 15, "min_data_in_leaf": 5000},
}


def rows(draw, count):
    """Two categories, numbers without and with missing ones, and a count."""
    found = draw.normal(size=(count, 5)).astype("float32")
    found[:, 0] = draw.integers(0, 70, count)
    found[:, 1] = np.where(draw.random(count) < 0.2, np.nan, draw.integers(0, 9, count))
    found[:, 3] = draw.poisson(2.0 ** draw.integers(0, 25, count))
    found[draw.random(count) < 0.2, 3:] = np.nan
    return found


def read_by_lightgbm(read):
    """The same rows with the logarithm of the count."""
    found = read.copy()
    found[:, 3] = np.log1p(found[:, 3])
    return found


@pytest.fixture(scope="module", params=KINDS)
def grown(request):
    """A booster, and the layer that was made of it."""
    draw = np.random.default_rng(1)
    read = rows(draw, 600)
    known = np.nan_to_num(read_by_lightgbm(read))
    target = np.sin(3 * known[:, 0]) + known[:, 1:].sum(axis=1) + draw.normal(size=len(read))
    target = (target - target.min()) / np.ptp(target)  # within one, for odds
    data = lightgbm.Dataset(read_by_lightgbm(read), target, categorical_feature=[0, 1])
    booster = lightgbm.train(QUICK | KINDS[request.param], data, 25)
    forest = lightgbm_forest(booster.model_to_string(), LOGGED)
    return booster, Trees.of(forest)


NUMBERS = st.one_of(
    st.floats(width=32, allow_infinity=False),
    st.sampled_from([*FLOATS.tolist(), float("nan"), 0.0, -0.0, 1e-35, -1e-36]),
    st.integers(-2, 100).map(float),
)
COUNTS = st.one_of(
    st.floats(0, 2.0**63, width=32), st.integers(0, 2**26).map(float), st.just(float("nan"))
)
ROWS = st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS, COUNTS, NUMBERS), min_size=1, max_size=8)


@settings(max_examples=6)
@given(drawn=ROWS, seed=st.integers(0, 2**31))
def test_a_forest_scores_as_lightgbm_does(grown, drawn, seed):
    booster, layer = grown
    # Filled up to one size, with rows as in training; half of the numbers of these are drawn too.
    read = rows(np.random.default_rng(seed), 40)
    read[:20][np.random.default_rng(seed + 1).random((20, 5)) < 0.5] = drawn[0][2]
    read[:, 3] = np.abs(read[:, 3])
    read[: len(drawn)] = np.array(drawn, "float32")
    expected = booster.predict(read_by_lightgbm(read), raw_score=True)
    # Sums of 25 float64 numbers in two orders.
    np.testing.assert_allclose(layer(read), expected, rtol=1e-12, atol=1e-12)


def test_rows_of_training_score_as_lightgbm_scores_them(grown):
    booster, layer = grown
    read = rows(np.random.default_rng(1), 600)
    expected = booster.predict(read_by_lightgbm(read), raw_score=True)
    np.testing.assert_allclose(layer(read), expected, rtol=1e-12, atol=1e-12)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_threshold_in_float32_parts_the_same_numbers(threshold):
    rounded = float32_at_most(np.array([threshold]))[0]
    near = np.float32(np.clip(threshold, -3e38, 3e38))
    around = [near, np.nextafter(near, np.float32(-np.inf)), np.nextafter(near, np.float32(np.inf))]
    for x in (*around, np.float32(0)):
        if x == 0 or abs(x) > 1e-35:  # what lies between is read as 0
            assert (x <= rounded) == (float(x) <= threshold), x


@given(st.floats(-1, 89, width=32), st.integers(0, 2**40))
def test_a_split_on_a_logarithm_is_one_on_the_count(threshold, count):
    most = count_at_most(np.array([threshold], "float32"))[0]
    for x in np.array([count, np.clip(np.expm1(threshold), 0, 3e38)], "float32"):
        assert (x <= most) == (np.log1p(x) <= threshold)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [({"zero_as_missing": True}, "take 0 for missing"), ({"linear_tree": True}, "constant leaves")],
)
def test_trees_of_other_kinds_are_refused(parameters, message):
    draw = np.random.default_rng(0)
    read = draw.poisson(1, (200, 5)).astype("float64")
    data = lightgbm.Dataset(read, read.sum(axis=1), params=parameters)
    text = lightgbm.train(QUICK | parameters, data, 2).model_to_string()
    with pytest.raises(ValueError, match=message):
        lightgbm_forest(text, LOGGED)
