"""Errors of predictions in percent, and how well they rank.

Every metric takes `truth` and `predicted`, float [examples], finite, in percent. One that is not
defined on the rows at hand (a correlation with a constant) is NaN, never a number that could be
mistaken for a score; the report writes it as null.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd


def mse(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Mean squared error, percent² (Eq. 11).

    >>> mse([10.0, 20.0], [12.0, 19.0])
    2.5
    """
    truth, predicted = checked(truth, predicted)
    return float(np.mean(np.square(predicted - truth)))


def mae(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Mean absolute error, percent.

    >>> mae([10.0, 20.0], [12.0, 19.0])
    1.5
    """
    truth, predicted = checked(truth, predicted)
    return float(np.mean(np.abs(predicted - truth)))


def spearman(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Spearman's rank correlation, ties at their mean rank; NaN where either side is constant.

    A constant orders nothing, so 0 would claim a measured absence of order.

    >>> spearman([1.0, 2.0, 3.0], [10.0, 30.0, 20.0])
    0.5
    """
    truth, predicted = checked(truth, predicted)
    if np.ptp(truth) == 0 or np.ptp(predicted) == 0:
        return float("nan")
    from scipy import stats  # half a second, and most that needs this file ranks nothing

    return float(stats.spearmanr(truth, predicted).statistic)


# --------------------------------------------------------------- where the error comes from


def calibration_by_decile(truth: np.ndarray, predicted: np.ndarray) -> pd.DataFrame:
    """Mean prediction and mean truth by decile of the prediction.

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
    truth, predicted = checked(truth, predicted)
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
    clicks, share_rate = checked(clicks, share_rate)
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
    """Error by group of one column, in the groups' order; rows with an empty value are left out.

    Args:
        frame: `share_rate`, `predicted_share_rate`, the column, and, where known, `sampling_noise`
            and `kept` (whether a filter keeps the row).
        column: what to group by.
        starts: ascending lower ends of bins, the last one open; None takes each value as a group.
            Values below the first start are left out.

    Returns:
        The group in a column of its own name (a value, or the start of its bin), then `n`, `mse`,
        `mae`, `mean_true`, `mean_predicted`, and `sampling_noise_mse` and `kept` (the share that is
        kept), both NaN where not known.

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
            "kept": np.asarray(frame.get("kept", np.nan), float) + np.zeros(len(frame)),
        }
    )
    means = dict.fromkeys(rows.columns[2:], "mean")  # a mean leaves out noise that is not known
    return rows.groupby(column, sort=True).agg({"n": "sum", **means}).reset_index()


def checked(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    """Check that arrays can be compared, and return them as float64 [examples]."""
    found = tuple(np.asarray(array, np.float64) for array in arrays)
    shapes = [array.shape for array in found]
    if len(set(shapes)) > 1 or len(shapes[0]) != 1 or shapes[0][0] == 0:
        raise ValueError(f"Metrics need at least one row and one axis. Received shapes: {shapes}")
    if not all(np.isfinite(array).all() for array in found):
        raise ValueError("Metrics need finite values. Received: NaN or infinity")
    return found
