"""Metrics against hand-worked numbers, brute force and simulation."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmnet.evaluation.metrics import (
    calibration_by_decile,
    error_by,
    is_tied,
    mae,
    mse,
    precision_at,
    precision_per_period,
    sampling_noise,
    spearman,
)

# Few values, so that ties abound.
RATES = st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0, 30.0]), min_size=1, max_size=40)
PERCENT = st.sampled_from([0.1, 1, 5, 10, 33.3, 50, 100])


def mostly_zeros(n=1000):
    """99 % zeros, then ten different rates."""
    truth = np.zeros(n)
    truth[-n // 100 :] = np.arange(1, n // 100 + 1)
    return truth


def test_squared_and_absolute_errors_by_hand():
    truth, predicted = [1.0, 2.0, 4.0], [2.0, 2.0, 1.0]
    assert mse(truth, predicted) == pytest.approx((1 + 0 + 9) / 3)
    assert mae(truth, predicted) == pytest.approx((1 + 0 + 3) / 3)


def test_errors_of_float32_predictions_are_summed_in_float64():
    truth, predicted = np.zeros(100_000), np.full(100_000, 0.1, "float32")
    assert mse(truth, predicted) == pytest.approx(float(np.float32(0.1)) ** 2, rel=1e-12)


def test_spearman_by_hand():
    # Ranks 1 2 3 4 against 2 1 4 3: 1 - 6 (1 + 1 + 1 + 1) / (4 (16 - 1)) = 0.6.
    assert spearman([1, 2, 3, 4], [20, 10, 40, 30]) == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("truth", "predicted"), [([1, 2, 3], [5, 5, 5]), ([5, 5], [1, 2]), ([1], [1])]
)
def test_spearman_of_a_constant_is_undefined(truth, predicted):
    assert np.isnan(spearman(truth, predicted))


@pytest.mark.parametrize("metric", [mse, mae, spearman, lambda t, p: precision_at(5, t, p)])
@pytest.mark.parametrize(
    ("truth", "predicted", "message"),
    [
        ([], [], "at least one row"),
        ([1.0, 2.0], [1.0], "Received shapes"),
        ([[1.0]], [[1.0]], "one axis"),
        ([1.0, 2.0], [1.0, np.nan], "finite"),
        ([1.0, np.inf], [1.0, 2.0], "finite"),
    ],
)
def test_refuses_what_cannot_be_compared(metric, truth, predicted, message):
    with pytest.raises(ValueError, match=message):
        metric(truth, predicted)


# -------------------------------------------------------------------------- precision at N %


def test_a_perfect_order_scores_one_and_a_reversed_one_less_than_chance():
    truth = np.random.default_rng(0).normal(size=1000)
    for percent in (5, 10):
        assert precision_at(percent, truth, np.exp(truth)) == 1
        assert precision_at(percent, truth, -truth) == 0


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


# --------------------------------------------------------------- where the error comes from


def test_deciles_by_hand():
    predicted = np.arange(20.0)[::-1]
    table = calibration_by_decile(2 * predicted, predicted)
    assert table["decile"].tolist() == list(range(1, 11))
    assert table["n"].tolist() == [2] * 10
    np.testing.assert_allclose(table["mean_predicted"], np.arange(0.5, 20, 2))
    np.testing.assert_allclose(table["mean_true"], np.arange(1.0, 40, 4))


def test_the_order_of_tied_rows_moves_no_decile():
    draws = np.random.default_rng(0)
    truth, predicted = draws.random(997), draws.integers(0, 4, 997)
    order = draws.permutation(997)
    table = calibration_by_decile(truth, predicted)
    pd.testing.assert_frame_equal(calibration_by_decile(truth[order], predicted[order]), table)
    assert (table["mean_true"] * table["n"]).sum() == pytest.approx(truth.sum())
    constant = calibration_by_decile(truth, np.ones(997))
    np.testing.assert_allclose(constant["mean_true"], truth.mean())


def test_few_rows_make_few_deciles():
    assert len(calibration_by_decile([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])) == 3


def test_sampling_noise_by_hand():
    # 10⁴ · 0.1 · 0.9 / (10 - 1) = 100.
    np.testing.assert_allclose(sampling_noise([10, 10, 2], [10.0, 0.0, 50.0]), [100, 0, 2500])


def test_sampling_noise_of_one_click_is_unknown():
    assert np.isnan(sampling_noise([0, 1], [0.0, 100.0])).all()


@pytest.mark.parametrize("clicks", [2, 5, 50])
@pytest.mark.parametrize("chance", [0.02, 0.3])
def test_sampling_noise_is_unbiased(clicks, chance):
    shares = np.random.default_rng(0).binomial(clicks, chance, 200_000)
    rate = 100 * shares / clicks
    estimate = sampling_noise(np.full(len(rate), clicks), rate)
    # Four standard errors of the mean, and four of the error of a model that knows the chance.
    tolerance = 4 * estimate.std() / np.sqrt(len(rate))
    assert estimate.mean() == pytest.approx(1e4 * chance * (1 - chance) / clicks, abs=tolerance)
    squared = (rate - 100 * chance) ** 2
    tolerance += 4 * squared.std() / np.sqrt(len(rate))
    assert mse(rate, np.full(len(rate), 100 * chance)) == pytest.approx(
        estimate.mean(), abs=tolerance
    )


@pytest.mark.parametrize("rate", [-1.0, 130.0])
def test_sampling_noise_needs_shares_of_clicks(rate):
    with pytest.raises(ValueError, match=r"`share_rate` must be in \[0, 100\]"):
        sampling_noise([10], [rate])


def errors():
    return pd.DataFrame(
        {
            "age": [0.0, 1.0, 3.0, 9.0, np.nan],
            "kind": ["b", "a", "b", None, "a"],
            "share_rate": [1.0, 2.0, 3.0, 4.0, 5.0],
            "predicted_share_rate": [2.0, 2.0, 0.0, 8.0, 5.0],
            "sampling_noise": [1.0, np.nan, 3.0, 5.0, np.nan],
        }
    )


def test_error_by_value():
    table = error_by(errors(), "kind")
    assert table["kind"].tolist() == ["a", "b"]
    assert table["n"].tolist() == [2, 2]
    assert table["mse"].tolist() == [0, (1 + 9) / 2]
    assert table["mae"].tolist() == [0, (1 + 3) / 2]
    assert table["mean_true"].tolist() == [3.5, 2]
    assert table["mean_predicted"].tolist() == [3.5, 1]
    np.testing.assert_array_equal(table["sampling_noise_mse"], [np.nan, 2])


def test_error_by_bins_that_start_where_told():
    table = error_by(errors(), "age", starts=[1, 3, 5, 7])
    assert table["age"].tolist() == [1, 3, 7]  # 0 is below the first, nothing is in 5 to 7
    assert table["n"].tolist() == [1, 1, 1]
    assert table["mse"].tolist() == [0, 9, 16]


def test_error_by_nothing_known_is_an_empty_table():
    table = error_by(errors().assign(age=np.nan), "age", starts=[0])
    assert len(table) == 0
    assert "mse" in table


@given(truth=RATES, draws=st.randoms())
def test_groups_add_up_to_the_whole(truth, draws):
    frame = pd.DataFrame({"share_rate": truth})
    frame["predicted_share_rate"] = [draws.random() for _ in truth]
    frame["group"] = [draws.randrange(3) for _ in truth]
    table = error_by(frame, "group")
    assert table["n"].sum() == len(frame)
    whole = mse(frame["share_rate"], frame["predicted_share_rate"])
    assert np.average(table["mse"], weights=table["n"]) == pytest.approx(whole)
