"""Which counts of a log make a rate, and whether they are running totals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mmnet.config import TableFlags

HOLDS = 0.95
"""Share of the rows in which a numerator must not exceed its denominator."""

HOLDS_OF_TOTALS = 0.7
"""The same of what running totals gain, whose other rows the source of snapshots leaves out."""

FALLS, LOST = 0.3, 0.25
"""Most steps of a running total that fall, of those that are not level, and most that they lose of
what the others gain. Of counts, half of the steps fall and lose about as much; published totals do
fall, where what was counted is taken back."""

STEPS = 100
"""Fewest steps of which that can be said."""

FEWEST = 2
"""Fewest of the denominator in a cell whose sampling noise is estimated."""


@dataclass(frozen=True)
class Rate:
    """A numerator and a denominator.

    Attributes:
        numerator, denominator: columns, or `events`.
        rate: of all rows that were looked at, in percent.
        holds: share of the rows whose numerator does not exceed the denominator.
        signal: share of the variance between cells that is no sampling noise; NaN where there
            are too few cells.
    """

    numerator: str
    denominator: str
    rate: float
    holds: float
    signal: float


def noise_share(above: np.ndarray, below: np.ndarray) -> float:
    """Binomial variance of rates as a share of all of their variance, in [0, 1]; NaN without any.

    The variance of one rate is estimated by r (1 - r) / (n - 1), whose mean is right whatever the
    true rates are; the share is 1 where chance alone explains the differences.

    Args:
        above: shares of each cell.
        below: its clicks; cells with fewer than 2 are left out.

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
    """How a column goes from one row of an item to the next.

    Attributes:
        number: of steps that are not level.
        falling: share of them that fall.
        lost: sum of the falls as a share of the sum of the rises.
    """

    number: int
    falling: float
    lost: float

    @property
    def of_totals(self) -> bool:
        """Whether the column is a running total."""
        return self.number >= STEPS and self.falling <= FALLS and self.lost <= LOST


def steps(items: np.ndarray, times: np.ndarray, values: np.ndarray) -> Steps:
    """Looks at the steps of a column.

    Args:
        items: of each row, in any order.
        times: of each row.
        values: of each row.

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
    """The rates that columns of counts make, the proposed one first.

    A denominator is what most others are parts of. Of its parts, the numerator is the one whose
    rate tells most: the share of its variance that is no sampling noise is largest. The names that
    the flags have by default are taken first.

    Args:
        columns: column -> counts of each row, NaN where it is empty.
        holds: share of the rows in which a numerator must not exceed its denominator.

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
    """The rates of columns of 0 and 1 per event, the one that tells most first.

    Args:
        items: of each event.
        periods: of each event.
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
    """What columns gained since the row before of the same item; NaN in its first row.

    Args:
        items: of each row.
        times: of each row.
        columns: values of each row.
        signed: whether losses are wanted too; without, they are NaN.

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
