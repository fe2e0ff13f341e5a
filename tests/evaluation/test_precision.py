"""P@N % against hand-worked numbers, brute force and repeated rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmnet.evaluation.precision import (
    Ranked,
    is_tied,
    precision_at,
    precision_per_period,
    top_sizes,
)

# Few values, so that ties abound.
FEW_VALUES = st.sampled_from([0.0, 0.5, 1.0, 2.0, 30.0])
RATES = st.lists(FEW_VALUES, min_size=1, max_size=40)
PERCENT = st.sampled_from([0.1, 1, 5, 10, 33.3, 50, 100])


def mostly_zeros(n=1000):
    """99 % zeros, then ten different rates."""
    truth = np.zeros(n)
    truth[-n // 100 :] = np.arange(1, n // 100 + 1)
    return truth


def test_a_perfect_order_scores_one_and_a_reversed_one_less_than_chance():
    truth = np.random.default_rng(0).normal(size=1000)
    for percent in (5, 10):
        assert precision_at(percent, truth, np.exp(truth)) == 1
        assert precision_at(percent, truth, -truth) == 0


def test_a_random_order_scores_chance():
    draw = np.random.default_rng(0)
    truth = draw.gamma(2, 2, 4000)
    found = [precision_at(10, draw.permutation(truth), truth) for _ in range(50)]
    # P@10 of a random order has mean 0.1 and, over 50 shuffles of 400 places, a standard error of
    # sqrt(.1 * .9 * .9 / 400 / 50) = 0.002.
    assert np.mean(found) == pytest.approx(0.1, abs=0.006)


@pytest.mark.parametrize("n", [1, 7, 100, 999, 1000, 12_345])
@pytest.mark.parametrize("percent", [5, 10])
def test_a_constant_scores_chance_to_the_bit(n, percent):
    k = max(1, percent * n // 100)
    truths = np.random.default_rng(0).normal(size=n), np.zeros(n), np.arange(n) % 3
    for truth in truths:
        assert precision_at(percent, truth, np.full(n, 4.2)) == k / n


def test_a_constant_scores_chance_with_99_percent_zeros():
    truth = mostly_zeros()
    assert precision_at(5, truth, np.ones(1000)) == 50 / 1000
    assert precision_at(10, truth, np.ones(1000)) == 100 / 1000
    assert precision_at(1, truth, np.ones(1000)) == 10 / 1000


def test_99_percent_zeros_by_hand():
    truth = mostly_zeros()
    # Top 1 % is the ten rates: no ties, and the truth scores one.
    assert precision_at(1, truth, truth) == 1
    # Top 5 % is the ten rates and 40 of 990 zeros, drawn afresh on each side.
    assert precision_at(5, truth, truth) == pytest.approx((10 + 40 * 40 / 990) / 50, rel=1e-15)


def test_ties_on_one_side_by_hand():
    truth = [5.0, 4.0, 3.0, 2.0]
    # Top half is the first two rows; predicted: the first row, and one of the other three.
    assert precision_at(50, truth, [9.0, 1.0, 1.0, 1.0]) == pytest.approx((1 + 1 / 3) / 2)


def test_the_top_is_rounded_down_but_never_empty():
    truth = np.arange(39.0)
    assert precision_at(5, truth, truth == 38) == 1  # floor(1.95) = 1 row
    assert precision_at(5, truth[:3], truth[:3] == 2) == 1  # floor(0.15) = 0 rows, so 1
    assert precision_at(100, truth, -truth) == 1


def test_a_decimal_percentage_is_exact():
    # In binary 0.57 * 10,000 / 100 is 56.99999999999999.
    truth = np.arange(10_000.0)
    assert precision_at(0.57, truth, np.zeros(10_000)) == 57 / 10_000


@pytest.mark.parametrize("percent", [0, -5, 101, float("nan")])
def test_refuses_a_percentage_out_of_range(percent):
    with pytest.raises(ValueError, match="`percent` must be in"):
        precision_at(percent, [1.0, 2.0], [1.0, 2.0])


@pytest.mark.parametrize("percent", [5, 10, 50])
def test_agrees_with_brute_force_over_random_tie_orders(percent):
    draws = np.random.default_rng(3)
    truth = draws.integers(0, 4, 60).astype(float)
    predicted = draws.integers(0, 5, 60) + truth.round()
    k = max(1, percent * 60 // 100)
    trials = 4000
    scores = np.empty(trials)
    for trial in range(trials):
        true_top = np.lexsort((draws.random(60), truth))[-k:]
        predicted_top = np.lexsort((draws.random(60), predicted))[-k:]
        scores[trial] = len(np.intersect1d(true_top, predicted_top)) / k
    # Four standard errors of the mean of the trials.
    error = 4 * scores.std() / np.sqrt(trials)
    assert error > 0
    assert precision_at(percent, truth, predicted) == pytest.approx(scores.mean(), abs=error)


@given(truth=RATES, percent=PERCENT, draws=st.randoms())
def test_precision_is_a_probability_that_only_order_moves(truth, percent, draws):
    truth = np.array(truth)
    predicted = np.array([draws.choice([0.0, 1.0, 2.0]) for _ in truth])
    score = precision_at(percent, truth, predicted)
    assert 0 <= score <= 1
    assert precision_at(percent, predicted, truth) == score  # both sides are treated alike
    assert precision_at(percent, truth, np.exp(3 * predicted)) == score
    order = np.array(draws.sample(range(len(truth)), len(truth)))
    assert precision_at(percent, truth[order], predicted[order]) == score


@given(truth=RATES, percent=PERCENT)
def test_nothing_beats_the_truth_and_nothing_is_worse_than_its_reverse(truth, percent):
    truth = np.array(truth)
    chance = precision_at(percent, truth, np.zeros(len(truth)))
    assert precision_at(percent, truth, -truth) <= chance <= precision_at(percent, truth, truth)


@given(truth=RATES, percent=PERCENT)
def test_the_truth_scores_one_where_no_tie_crosses_the_boundary(truth, percent):
    truth = np.unique(truth)
    assert precision_at(percent, truth, truth) == 1
    assert not is_tied(percent, truth)


def test_tied_where_the_boundary_group_exceeds_the_top():
    assert not is_tied(1, mostly_zeros())
    assert is_tied(5, mostly_zeros())
    # The top two of four: a group of exactly two fits, a group of three does not.
    assert not is_tied(50, [1.0, 2.0, 3.0, 3.0])
    assert is_tied(50, [1.0, 3.0, 3.0, 3.0])


def test_each_period_counts_alike():
    # Period 0: 20 rows, perfect. Period 1: 40 rows, reversed. Rows of both are mixed.
    period = np.array([0] * 20 + [1] * 40)
    truth = np.arange(60.0)
    predicted = np.where(period == 0, truth, -truth)
    order = np.random.default_rng(0).permutation(60)
    score = precision_per_period(5, truth[order], predicted[order], period[order])
    assert score == pytest.approx((1 + 0) / 2)


def test_periods_too_small_for_one_row_of_the_top_are_left_out():
    period = np.array(["2021-01-01"] * 20 + ["2021-01-02"] * 19, "datetime64[D]")
    truth = np.arange(39.0)
    predicted = np.where(np.arange(39) < 20, truth, -truth)
    assert precision_per_period(5, truth, predicted, period) == 1
    assert precision_per_period(10, truth, predicted, period) == pytest.approx((1 + 0) / 2)
    assert np.isnan(precision_per_period(1, truth, predicted, period))


def test_a_period_wide_level_counts_only_when_rows_are_pooled():
    """The day's level moves the pooled ranking; a filter within a day does not see it."""
    draws = np.random.default_rng(0)
    period = np.repeat(np.arange(20), 100)
    truth = 10.0 * period + draws.random(2000)
    assert precision_at(5, truth, period) == 1  # the last day is the top 5 %
    assert precision_per_period(5, truth, period, period) == pytest.approx(0.05)


# ------------------------------------------------------------------------------ weighted rows


def weighted_precision_at(percent, truth, predicted, weights):
    """P@N % of rows that count several times or not at all, as the bootstrap computes it."""
    weights = np.asarray(weights, np.float64).T
    size = top_sizes(percent, weights)
    in_true_top = Ranked(np.asarray(truth, np.float64)).top(weights, size).member()
    top = Ranked(np.asarray(predicted, np.float64)).top(weights, size)
    return top.total(in_true_top * weights) / size


@given(
    st.lists(st.tuples(FEW_VALUES, FEW_VALUES, st.integers(0, 4)), min_size=1, max_size=40),
    PERCENT,
)
@settings(deadline=None)
def test_weighted_precision_is_that_of_rows_repeated(rows, percent):
    truth, predicted, weights = (np.array(column) for column in zip(*rows, strict=True))
    weights[0] += not weights.any()
    both = np.stack([weights, np.ones_like(weights)])
    expected = [precision_at(percent, np.repeat(truth, w), np.repeat(predicted, w)) for w in both]
    np.testing.assert_allclose(
        weighted_precision_at(percent, truth, predicted, both), expected, rtol=1e-12, atol=1e-15
    )


def test_weighted_precision_refuses_a_replicate_without_rows():
    with pytest.raises(ValueError, match="at least one row"):
        weighted_precision_at(5, [1.0], [1.0], [[0]])
    with pytest.raises(ValueError, match="`percent`"):
        weighted_precision_at(0, [1.0], [1.0], [[1]])
