"""P@N %: the part of the true top N % that is in the predicted top N %; its only definition.

One rule defines how many rows the top holds (`top_size`), and one how ties at its edge count: each
of the tied rows is in the top with the same probability. `precision_at` applies them exactly;
`Ranked` applies them to rows that count several times, as in a bootstrap, in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from mmnet import checks
from mmnet.evaluation.metrics import checked

TOP_PERCENT = 5
"""Percentage of the true top that filtering must not lose."""


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
    truth, predicted = checked(truth, predicted)
    true_top, predicted_top = _top(percent, truth), _top(percent, predicted)
    # In integers up to the one division: sums of float probabilities would miss k / n by a bit.
    expected = sum(
        Fraction(int(np.count_nonzero(in_true & in_predicted))) * of_true * of_predicted
        for in_true, of_true in true_top.groups
        for in_predicted, of_predicted in predicted_top.groups
    )
    return float(expected / true_top.size)


def is_tied(percent: float, truth: np.ndarray) -> bool:
    """Return whether ties decide the true top N %: more rows share the k-th value than fit in it.

    P@N then says little: with 99 % zeros even the truth itself cannot score 1.

    >>> is_tied(25, [0.0, 0.0, 0.0, 4.0]), is_tied(50, [0.0, 0.0, 0.0, 4.0])
    (False, True)
    """
    (truth,) = checked(truth)
    top = _top(percent, truth)
    return bool(np.count_nonzero(top.boundary) > top.size)


def in_top(percent: float, values: np.ndarray) -> np.ndarray:
    """The probability of each row to be among the top N % under random ties, [examples].

    >>> in_top(50, [4.0, 2.0, 2.0, 1.0])
    array([1. , 0.5, 0.5, 0. ])
    """
    (values,) = checked(values)
    top = _top(percent, values)
    (above, _), (boundary, drawn) = top.groups
    return np.where(above, 1.0, np.where(boundary, float(drawn), 0.0))


def precision_per_period(
    percent: float, truth: np.ndarray, predicted: np.ndarray, period: np.ndarray
) -> float:
    """Compute P@N% of each period, then the mean over periods, as a filter decides.

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
    truth, predicted = checked(truth, predicted)
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
    size = int(top_size(percent, len(values)))
    last = np.partition(values, len(values) - size)[len(values) - size]
    return _Top(size, values > last, values == last)


def top_size(percent: float, rows: int | np.ndarray) -> np.ndarray:
    """Number of `rows` in the top N %, a whole number: k = max(1, floor(N rows / 100)).

    >>> int(top_size(5, 39)), int(top_size(5, 3))
    (1, 1)
    """
    share = _percent(percent)
    return np.maximum(1, rows * share.numerator // share.denominator)


def _percent(percent: float) -> Fraction:
    """N % as an exact fraction: 0.1 % of 1,000 rows is one row, not 0.999…."""
    if not 0 < percent <= 100:
        raise ValueError(f"`percent` must be in (0, 100]. Received: percent={percent}")
    return Fraction(str(percent)) / 100


# ------------------------------------------------------------------------------ weighted rows


def top_sizes(percent: float, weights: np.ndarray) -> np.ndarray:
    """`top_size` of each replicate, [replicates].

    Args:
        percent: N, in (0, 100].
        weights: how often a row counts, whole numbers, [rows, replicates], no replicate empty.
    """
    rows = weights.sum(axis=0).astype(np.int64)
    if not rows.all():
        raise ValueError("`weights` must leave at least one row. Received: a replicate of none")
    return top_size(percent, rows)


class Ranked:
    """Rows in falling order of a value, sorted once for all replicates.

    >>> weights = np.array([[1.0, 1.0], [1.0, 2.0], [2.0, 1.0]])  # [rows, replicates]
    >>> size = top_sizes(50, weights)
    >>> in_true_top = Ranked(np.array([1.0, 2.0, 3.0])).top(weights, size).member()
    >>> top = Ranked(np.array([1.0, 3.0, 2.0])).top(weights, size)
    >>> top.total(in_true_top * weights) / size  # P@50 % of each replicate
    array([0.5, 0.5])
    """

    def __init__(self, values: np.ndarray):
        self.order = np.argsort(-values, kind="stable")
        ends = np.flatnonzero(np.diff(values[self.order], append=np.nan)) + 1
        tied = np.diff(ends, prepend=0)
        self.end = np.repeat(ends, tied)  # of the tied rows around each place
        self.start = self.end - np.repeat(tied, tied)

    def top(self, weights: np.ndarray, size: np.ndarray) -> WeightedTop:
        """The top `size`, [replicates], of `weights`, [rows, replicates]."""
        # The top is a small part of the rows: look no deeper than it takes.
        depth = int(1.25 * len(weights) * np.max(size / weights.sum(axis=0))) + 1
        while True:
            depth = int(self.end[min(depth, len(weights)) - 1])
            running = _running_sum(weights, self.order[:depth])
            if (running[-1] >= size).all():
                break
            depth *= 2
        # The place of the size-th row in each replicate; rows tied with it share what is left of
        # the size.
        last = np.count_nonzero(running[1:] < size, axis=0)
        start, end = self.start[last], self.end[last]
        replicate = np.arange(len(size))
        above, through = running[start, replicate], running[end, replicate]
        return WeightedTop(self.order, start, end, (size - above) / (through - above))


@dataclass(frozen=True)
class WeightedTop:
    """Top of each replicate: places before `start` for certain, before `end` by chance."""

    order: np.ndarray
    start: np.ndarray
    end: np.ndarray
    probability: np.ndarray

    def total(self, values: np.ndarray) -> np.ndarray:
        """Expected sum of `values`, [rows, replicates], over the top: [replicates]."""
        running = _running_sum(values, self.order[: self.end.max()])
        replicate = np.arange(len(self.start))
        above, through = running[self.start, replicate], running[self.end, replicate]
        return above + self.probability * (through - above)

    def member(self) -> np.ndarray:
        """Probability of each row to be in the top, [rows, replicates]."""
        place = np.argsort(self.order)[:, None]
        return np.where(place < self.start, 1.0, np.where(place < self.end, self.probability, 0.0))


def _running_sum(values: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Sums of the first 0, 1, 2, … rows of `order`, [len(order) + 1, replicates]."""
    found = np.zeros((len(order) + 1, values.shape[1]))
    np.cumsum(values[order], axis=0, out=found[1:])
    return found
