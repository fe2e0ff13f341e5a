"""How far predictions are from the truth, in percent, and how well they rank.

Every metric takes `truth` and `predicted`, float [examples], finite, in percent. One that is not
defined on the rows at hand (a correlation with a constant) is NaN, never a number that could be
mistaken for a score; the report writes it as null.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pandas as pd

from mmnet import checks

TOP_PERCENT = 5
"""The true top that filtering must not lose."""


def mse(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Mean squared error, percent² (Eq. 11).

    >>> mse([10.0, 20.0], [12.0, 19.0])
    2.5
    """
    truth, predicted = _checked(truth, predicted)
    return float(np.mean(np.square(predicted - truth)))


def mae(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Mean absolute error, percent.

    >>> mae([10.0, 20.0], [12.0, 19.0])
    1.5
    """
    truth, predicted = _checked(truth, predicted)
    return float(np.mean(np.abs(predicted - truth)))


def spearman(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Spearman's rank correlation, ties at their mean rank; NaN where either side is constant.

    A constant orders nothing, so 0 would claim a measured absence of order.

    >>> spearman([1.0, 2.0, 3.0], [10.0, 30.0, 20.0])
    0.5
    """
    truth, predicted = _checked(truth, predicted)
    if np.ptp(truth) == 0 or np.ptp(predicted) == 0:
        return float("nan")
    from scipy import stats  # half a second, and most that needs this file ranks nothing

    return float(stats.spearmanr(truth, predicted).statistic)


# -------------------------------------------------------------------------- precision at N %


def precision_at(percent: float, truth: np.ndarray, predicted: np.ndarray) -> float:
    """P@N%: the part of the predicted top N % that is in the true top N %.

    The expectation under independent random ties on each side. The top holds
    k = max(1, floor(N n / 100)) rows: with certainty those above the k-th value, and each of the
    t rows tied at it with probability (k - above) / t. P@N is the sum over rows of both sides'
    probabilities, over k. A perfect order scores 1 where truth has no ties, and a constant scores
    chance, exactly k / n, whatever the truth.

    Args:
        percent: N, in (0, 100].
        truth: share rates, [examples].
        predicted: anything that orders them, [examples].

    >>> precision_at(50, [1.0, 2.0, 3.0, 4.0], [1.0, 4.0, 2.0, 3.0])
    0.5
    >>> precision_at(25, [0.0, 0.0, 0.0, 4.0], [7.0, 7.0, 7.0, 7.0])
    0.25
    """
    truth, predicted = _checked(truth, predicted)
    true_top, predicted_top = _top(percent, truth), _top(percent, predicted)
    # In integers up to the one division: sums of float probabilities would miss k / n by a bit.
    expected = sum(
        Fraction(int(np.count_nonzero(in_true & in_predicted))) * of_true * of_predicted
        for in_true, of_true in true_top.groups
        for in_predicted, of_predicted in predicted_top.groups
    )
    return float(expected / true_top.size)


def is_tied(percent: float, truth: np.ndarray) -> bool:
    """Whether ties decide the true top N %: more rows share the k-th value than fit in it.

    P@N then says little: with 99 % zeros even the truth itself cannot score 1.

    >>> is_tied(25, [0.0, 0.0, 0.0, 4.0]), is_tied(50, [0.0, 0.0, 0.0, 4.0])
    (False, True)
    """
    (truth,) = _checked(truth)
    top = _top(percent, truth)
    return bool(np.count_nonzero(top.boundary) > top.size)


def in_top(percent: float, values: np.ndarray) -> np.ndarray:
    """The probability of each row to be among the top N % under random ties, [examples].

    >>> in_top(50, [4.0, 2.0, 2.0, 1.0])
    array([1. , 0.5, 0.5, 0. ])
    """
    (values,) = _checked(values)
    top = _top(percent, values)
    (above, _), (boundary, drawn) = top.groups
    return np.where(above, 1.0, np.where(boundary, float(drawn), 0.0))


def precision_per_period(
    percent: float, truth: np.ndarray, predicted: np.ndarray, period: np.ndarray
) -> float:
    """P@N% of each period by itself, then the mean over periods: what a filter does.

    Every period counts alike, since each is one decision. Periods of fewer than 100 / N rows are
    left out: their top N % is less than one row, and a top of one would be another question. NaN
    where no period is left.

    Args:
        percent: N, in (0, 100].
        truth: share rates, [examples].
        predicted: anything that orders them, [examples].
        period: the target's period of each row, anything sortable, [examples].

    >>> precision_per_period(50, [1.0, 2.0, 3.0, 4.0], [2.0, 1.0, 3.0, 4.0], [0, 0, 1, 1])
    0.5
    """
    truth, predicted = _checked(truth, predicted)
    _, number = np.unique(np.asarray(period), return_inverse=True)
    checks.same_shape(truth=truth, period=number)
    order = np.argsort(number, kind="stable")
    starts = np.cumsum(np.bincount(number))[:-1]
    scores = [
        precision_at(percent, truth[rows], predicted[rows])
        for rows in np.split(order, starts)
        if _percent(percent) * len(rows) >= 1
    ]
    return float(np.mean(scores)) if scores else float("nan")


@dataclass(frozen=True)
class _Top:
    """The top k rows under random ties: `above` for certain, `boundary` by a fair draw."""

    size: int
    above: np.ndarray
    boundary: np.ndarray

    @property
    def groups(self) -> tuple[tuple[np.ndarray, Fraction], ...]:
        """(rows, probability that one of them is in the top) of both groups."""
        left = self.size - int(np.count_nonzero(self.above))
        drawn = Fraction(left, int(np.count_nonzero(self.boundary)))
        return (self.above, Fraction(1)), (self.boundary, drawn)


def _top(percent: float, values: np.ndarray) -> _Top:
    size = max(1, int(_percent(percent) * len(values)))
    last = np.partition(values, len(values) - size)[len(values) - size]
    return _Top(size, values > last, values == last)


def _percent(percent: float) -> Fraction:
    """N % as an exact fraction: 0.1 % of 1,000 rows is one row, not 0.999…."""
    if not 0 < percent <= 100:
        raise ValueError(f"`percent` must be in (0, 100]. Received: percent={percent}")
    return Fraction(str(percent)) / 100


# --------------------------------------------------------------- where the error comes from


def calibration_by_decile(truth: np.ndarray, predicted: np.ndarray) -> pd.DataFrame:
    """Mean prediction beside mean truth, by tenths of the rows in order of prediction.

    Rows of one prediction share their mean truth, which is the expectation under random ties, so
    the order of rows changes nothing. Fewer than ten rows give fewer deciles.

    Returns:
        `decile` (1 = lowest predictions), `n`, `mean_predicted` and `mean_true` in percent.

    >>> calibration_by_decile([1.0, 3.0, 9.0], [2.0, 2.0, 5.0])
       decile  n  mean_predicted  mean_true
    0       1  1             2.0        2.0
    1       2  1             2.0        2.0
    2       3  1             5.0        9.0
    """
    truth, predicted = _checked(truth, predicted)
    _, group = np.unique(predicted, return_inverse=True)
    shared = (np.bincount(group, truth) / np.bincount(group))[group]
    order = np.argsort(predicted, kind="stable")
    parts = [rows for rows in np.array_split(order, 10) if len(rows)]
    return pd.DataFrame(
        {
            "decile": np.arange(1, len(parts) + 1),
            "n": [len(rows) for rows in parts],
            "mean_predicted": [float(predicted[rows].mean()) for rows in parts],
            "mean_true": [float(shared[rows].mean()) for rows in parts],
        }
    )


def sampling_noise(clicks: np.ndarray, share_rate: np.ndarray) -> np.ndarray:
    """The squared error that no model can remove: the variance of a share rate given its clicks.

    With r ~ Binomial(p, λ), 10⁴ (r/p)(1 - r/p) / (p - 1) has the mean 10⁴ λ(1 - λ) / p, which is
    E[(100 r/p - 100 λ)²]. It needs no model of λ, and a mean over rows estimates the MSE of a
    perfect one. Defined only where the numerator counts a subset of the denominator (shares of
    clicks; not forks per star, not durations).

    Args:
        clicks: p, [examples].
        share_rate: 100 r / p, percent in [0, 100], [examples].

    Returns:
        percent², [examples]; NaN where p < 2.

    Raises:
        ValueError: a rate outside [0, 100].

    >>> sampling_noise([1, 5, 50], [100.0, 20.0, 20.0]).round(3).tolist()
    [nan, 400.0, 32.653]
    """
    clicks, share_rate = _checked(clicks, share_rate)
    if share_rate.min() < 0 or share_rate.max() > 100:
        raise ValueError(
            "`share_rate` must be in [0, 100]. "
            f"Received: share_rate in [{share_rate.min()}, {share_rate.max()}]"
        )
    known = clicks >= 2
    chance = share_rate / 100
    return np.where(known, 1e4 * chance * (1 - chance) / np.where(known, clicks - 1, 1), np.nan)


def error_by(
    frame: pd.DataFrame, column: str, starts: Sequence[float] | None = None
) -> pd.DataFrame:
    """Error of the groups of one column, in their order; rows with an empty value are left out.

    Args:
        frame: `share_rate`, `predicted_share_rate`, the column, and `sampling_noise` where known.
        column: what to group by.
        starts: ascending lower ends of bins, the last one open; None takes each value as a group.
            Values below the first start are left out.

    Returns:
        The group in a column of its own name (a value, or the start of its bin), then `n`, `mse`,
        `mae`, `mean_true`, `mean_predicted` and `sampling_noise_mse` (NaN where not known).

    >>> frame = pd.DataFrame({"age": [0, 5, 7], "share_rate": [4.0, 2.0, 2.0],
    ...                       "predicted_share_rate": [1.0, 3.0, 2.0]})
    >>> error_by(frame, "age", starts=[0, 1, 4])[["age", "n", "mse", "mae"]]
       age  n  mse  mae
    0    0  1  9.0  3.0
    1    4  2  0.5  0.5
    """
    frame = frame[frame[column].notna()]
    groups = frame[column]
    if starts is not None:
        edges = np.asarray(starts)
        found = np.searchsorted(edges, groups.to_numpy(), side="right") - 1
        frame, groups = frame[found >= 0], pd.Series(edges[found[found >= 0]], name=column)
    error = (frame["predicted_share_rate"] - frame["share_rate"]).to_numpy(float)
    noise = frame.get("sampling_noise", np.nan)
    rows = pd.DataFrame(
        {
            column: groups.to_numpy(),
            "n": 1,
            "mse": error**2,
            "mae": np.abs(error),
            "mean_true": frame["share_rate"].to_numpy(float),
            "mean_predicted": frame["predicted_share_rate"].to_numpy(float),
            "sampling_noise_mse": np.asarray(noise, float) + np.zeros(len(frame)),
        }
    )
    means = dict.fromkeys(rows.columns[2:], "mean")  # a mean leaves out noise that is not known
    return rows.groupby(column, sort=True).agg({"n": "sum", **means}).reset_index()


def _checked(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    """The arrays as float64 [examples], once they can be compared."""
    found = tuple(np.asarray(array, np.float64) for array in arrays)
    shapes = [array.shape for array in found]
    if len(set(shapes)) > 1 or len(shapes[0]) != 1 or shapes[0][0] == 0:
        raise ValueError(f"Metrics need at least one row and one axis. Received shapes: {shapes}")
    if not all(np.isfinite(array).all() for array in found):
        raise ValueError("Metrics need finite values. Received: NaN or infinity")
    return found
