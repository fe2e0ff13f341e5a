"""Counts of a log that make a rate, and detection of running totals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mmnet.config import TableFlags

HOLDS = 0.95
"""Minimum share of the rows in which a numerator must not exceed its denominator."""

HOLDS_OF_TOTALS = 0.7
"""The same for gains of running totals; the source of snapshots leaves out the other rows."""

FALLS, LOST = 0.3, 0.25
"""Maximum share of the steps of a running total that fall, of those that change it, and maximum
loss as a share of the gains. For counts, half of the steps fall and lose about as much; published
totals do fall sometimes, when counts are corrected."""

STEPS = 100
"""Minimum number of steps for this test."""

FEWEST = 2
"""Minimum denominator of a cell whose sampling noise is estimated."""


@dataclass(frozen=True)
class Rate:
    """A numerator and a denominator.

    Attributes:
        numerator, denominator: columns, or `events`.
        rate: pooled rate of all examined rows, in percent.
        holds: share of the rows whose numerator does not exceed the denominator.
        signal: share of the variance between cells that is not sampling noise; NaN if there
            are too few cells.
    """

    numerator: str
    denominator: str
    rate: float
    holds: float
    signal: float


def noise_share(above: np.ndarray, below: np.ndarray) -> float:
    """Returns binomial variance of rates as a share of their total variance, in [0, 1], or NaN.

    The variance of one rate is estimated by r (1 - r) / (n - 1), which is unbiased for any true
    rates; the share is 1 if chance alone explains the differences.

    Args:
        above: shares of each cell.
        below: clicks of each cell; cells with fewer than 2 are left out.

    >>> round(noise_share(np.array([0, 0, 50, 50]), np.array([100, 100, 100, 100])), 3)
    0.02
    """
    used = (below >= FEWEST) & (above <= below)
    rate = above[used] / below[used]
    total = rate.var() if len(rate) > 1 else 0.0
    if not total:
        return float("nan")
    return float(min((rate * (1 - rate) / (below[used] - 1)).mean() / total, 1.0))


@dataclass(frozen=True)
class Steps:
    """Changes of a column from one row of an item to the next.

    Attributes:
        number: number of steps that change the value.
        falling: share of them that fall.
        lost: sum of the falls as a share of the sum of the rises.
    """

    number: int
    falling: float
    lost: float

    @property
    def of_totals(self) -> bool:
        """True if the column is a running total."""
        return self.number >= STEPS and self.falling <= FALLS and self.lost <= LOST


def steps(items: np.ndarray, times: np.ndarray, values: np.ndarray) -> Steps:
    """Computes the steps of a column.

    Args:
        items: item of each row, in any order.
        times: time of each row.
        values: value of each row.

    >>> steps(np.array([1, 1, 1, 2]), np.array([0, 2, 1, 0]), np.array([5, 11, 12, 3]))
    Steps(number=2, falling=0.5, lost=0.14285714285714285)
    """
    (grown,) = differences(items, times, [values], signed=True)
    grown = grown[np.isfinite(grown) & (grown != 0)]
    if not len(grown):
        return Steps(0, float("nan"), float("nan"))
    rises = grown[grown > 0].sum()
    lost = -grown[grown < 0].sum() / rises if rises else float("inf")
    return Steps(len(grown), float((grown < 0).mean()), float(lost))


def rates_of_counts(columns: dict[str, np.ndarray], holds: float = HOLDS) -> list[Rate]:
    """Finds the rates that columns of counts make, the proposed one first.

    The denominator is the count that includes most others. Of its parts, the numerator is the one
    whose rate has the largest share of variance that is not sampling noise. Columns with the
    default names of the flags are preferred.

    Args:
        columns: column -> counts of each row, NaN where it is empty.
        holds: minimum share of the rows in which a numerator must not exceed its denominator.

    >>> shown = np.array([100.0, 200, 100, 300])
    >>> [rate.numerator for rate in rates_of_counts({"shown": shown, "sent": shown // 9})]
    ['sent']
    """
    found = [
        _rate(above, below, columns[above], columns[below])
        for below in columns
        for above in columns
        if above != below
    ]
    found = [one for one in found if one.holds >= holds and 0 < one.rate < 100]
    parts = pd.Series([one.denominator for one in found], dtype=object).value_counts()
    size = {name: np.nansum(values) for name, values in columns.items()}
    defaults = TableFlags()

    def order(one: Rate) -> tuple[float, ...]:
        return (
            one.denominator != defaults.denominator,
            -parts[one.denominator],
            -size[one.denominator],
            one.numerator != defaults.numerator,
            -np.nan_to_num(one.signal),
        )

    return sorted(found, key=order)


def _rate(above: str, below: str, numerator: np.ndarray, denominator: np.ndarray) -> Rate:
    there = np.isfinite(numerator) & np.isfinite(denominator) & (denominator + numerator > 0)
    numerator, denominator = numerator[there], denominator[there]
    total = denominator.sum()
    holds = float((numerator <= denominator).mean()) if len(numerator) else 0.0
    rate = 100 * numerator.sum() / total if total else float("nan")
    return Rate(above, below, float(rate), holds, 1 - noise_share(numerator, denominator))


def rates_of_events(
    items: np.ndarray, periods: np.ndarray, flags: dict[str, np.ndarray]
) -> list[Rate]:
    """Finds the rates of columns of 0 and 1 per event, the most informative first.

    Args:
        items: item of each event.
        periods: period of each event.
        flags: column -> 0 or 1 of each event, NaN where empty.
    """
    frame = pd.DataFrame({"item": items, "period": periods, "events": 1.0} | flags)
    cells = frame.groupby(["item", "period"], sort=False).sum()
    below = cells["events"].to_numpy()
    found = [_rate(name, "events", cells[name].to_numpy(), below) for name in flags]
    found = [one for one in found if 0 < one.rate < 100]
    return sorted(found, key=lambda one: -np.nan_to_num(one.signal))


def differences(
    items: np.ndarray,
    times: np.ndarray,
    columns: Sequence[np.ndarray],
    *,
    signed: bool = False,
) -> list[np.ndarray]:
    """Returns the gains of columns since the previous row of the same item; NaN in its first row.

    Args:
        items: item of each row.
        times: time of each row.
        columns: values of each row.
        signed: whether to keep losses; otherwise they are NaN.

    Returns:
        Each column in the order of items and times.
    """
    order = np.lexsort((times, items))
    same = np.r_[False, items[order][1:] == items[order][:-1]]
    found = []
    for values in columns:
        grown = np.r_[np.nan, np.diff(values[order])]
        found.append(np.where(same & (signed | (grown >= 0)), grown, np.nan))
    return found
