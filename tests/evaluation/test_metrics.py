"""Metrics against hand-worked numbers, brute force and simulation."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmnet.evaluation.metrics import (
    calibration_by_decile,
    error_by,
    mae,
    mse,
    sampling_noise,
    spearman,
)
from mmnet.evaluation.precision import precision_at

# Few values, so that ties abound.
RATES = st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0, 30.0]), min_size=1, max_size=40)
PERCENT = st.sampled_from([0.1, 1, 5, 10, 33.3, 50, 100])


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
