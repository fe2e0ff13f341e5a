"""Statistics of how well columns of items explain their rates: taxonomies and releases."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TELLS = 0.02
"""Minimum share of the true variance between items that the other items of a value must explain
for a column to be a taxonomy; a smaller effect is lost in the noise of its means."""

PRIOR_CLICKS = 100.0
"""Weight, in clicks, of the overall rate in the mean of a few other items."""

FULL_WEIGHT = 100.0
"""Number of clicks from which an item has its full weight."""

FEWEST_ITEMS = 50
"""Minimum number of items with clicks for any statement."""

NOT_AFTER = 0.95
"""Minimum share of the items whose release must not be after their first clicks."""

MOST = 0.5
"""A release is history if it equals the first clicks of more than this share of the items."""


def told(rows: np.ndarray, values: np.ndarray, clicks: np.ndarray, shares: np.ndarray) -> float:
    """Computes how well the other items of a value explain an item's rate.

    Each item is predicted by the mean rate of the other items with its values, mixed with the
    overall mean. Items are weighted by clicks up to a limit, so that a few large ones do not
    dominate.

    Args:
        rows: item of each pair of item and value, int64.
        values: value of each pair, int64, numbered from 0.
        clicks: clicks of each item in the training span, int64.
        shares: shares of each item.

    Returns:
        The explained share of the variance between items without sampling noise, in (-inf, 1];
        NaN with too few items.

    >>> rate = np.repeat([0.1, 0.5], 50)
    >>> clicks = np.full(100, 1000)
    >>> round(told(np.arange(100), np.repeat([0, 1], 50), clicks, rate * clicks), 2)
    1.0
    """
    used = (clicks > 0) & (shares <= clicks)
    if used.sum() < FEWEST_ITEMS:
        return float("nan")
    n = np.where(used, clicks, 0).astype(float)
    rate = np.where(used, shares, 0) / np.maximum(n, 1)
    weight = np.minimum(n, FULL_WEIGHT)
    mean = (weight * rate).sum() / weight.sum()
    sums = []
    for own in (weight, weight * rate):
        of_value = np.bincount(values, own[rows])[values] if len(values) else np.zeros(0)
        sums.append(np.bincount(rows, of_value - own[rows], minlength=len(n)))
    predicted = (sums[1] + PRIOR_CLICKS * mean) / (sums[0] + PRIOR_CLICKS)
    total = (weight * (rate - mean) ** 2).sum()
    left = (weight * (rate - predicted) ** 2).sum()
    noise = (weight * rate * (1 - rate) / np.maximum(n - 1, 1)).sum()
    if total <= 0:
        return float("nan")
    return float((total - left) / max(total - noise, 0.05 * total))


@dataclass(frozen=True)
class Release:
    """Comparison of a column of times with the first clicks of items.

    Attributes:
        column: name of the items column.
        known: share of the items with clicks that have a time.
        not_after: share of those whose time is not after the first clicks.
        equal: share of those whose time is the period of the first clicks, without items that had
            clicks in the first period of the log, where it is unknown; NaN without other items.
    """

    column: str
    known: float
    not_after: float
    equal: float

    @property
    def fits(self) -> bool:
        """True if the column can be a release."""
        return self.known >= MOST and self.not_after >= NOT_AFTER

    @property
    def is_history(self) -> bool:
        """True if the column repeats the first clicks, so that it is not known before them."""
        return bool(self.equal > MOST)


def release(column: str, periods: np.ndarray, first_seen: np.ndarray, num_periods: int) -> Release:
    """Compares a column of times with the first clicks.

    Args:
        column: name of the column.
        periods: float64 [items], column of the panel of each time; NaN where it is empty.
        first_seen: int64 [items], column of the first clicks; `num_periods` without clicks.
        num_periods: number of periods of the panel.

    >>> release("born", np.array([-3.0, 1.0, 2.0]), np.array([0, 1, 2]), 5)
    Release(column='born', known=1.0, not_after=1.0, equal=1.0)
    """
    observed = first_seen < num_periods
    there = observed & np.isfinite(periods)
    if not there.any():
        return Release(column, 0.0, 0.0, float("nan"))
    later = there & (first_seen > first_seen.min())
    equal = float((periods[later] == first_seen[later]).mean()) if later.any() else float("nan")
    return Release(
        column,
        float(there.sum() / observed.sum()),
        float((periods[there] <= first_seen[there]).mean()),
        equal,
    )
