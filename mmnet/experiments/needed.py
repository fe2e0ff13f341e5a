"""Sizes (test rows, seeds) that would decide a comparison that is open."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mmnet.evaluation.significance import half_width

MOST = 1000.0
"""Multiples above this one are not searched for."""


@dataclass(frozen=True)
class Needed:
    """Smallest sizes at which the interval of an unchanged value would exclude 0.

    None is a size that does not exist, or is more than `MOST` times the present one.

    Args:
        rows: multiple of the present number of test rows, with the same seeds.
        seeds: seeds of each system, with the same test rows.
        both: multiple of test rows and seeds at once.
    """

    rows: float | None
    seeds: int | None
    both: float | None

    def __str__(self) -> str:
        """The sizes as a clause.

        >>> str(Needed(2.04, None, 1.8))
        'decided by 2.1 times the test rows; more seeds alone would not do'
        >>> str(Needed(None, None, 3.0))
        'decided by 3 times the test rows and seeds; more of one alone would not do'
        >>> str(Needed(4.0, 12, 2.0))
        'decided by 4 times the test rows, or by 12 seeds'
        """
        rows = f"{_shown(self.rows)} times the test rows" if self.rows else ""
        seeds = f"{self.seeds:,} seeds" if self.seeds else ""
        if rows and seeds:
            return f"decided by {rows}, or by {seeds}"
        if rows:
            return f"decided by {rows}; more seeds alone would not do"
        if seeds:
            return f"decided by {seeds}; more test rows alone would not do"
        if self.both:
            both = f"{_shown(self.both)} times the test rows and seeds"
            return f"decided by {both}; more of one alone would not do"
        return f"not even decided by {MOST:,.0f} times the test rows and seeds"


def to_decide(
    value: float, variances: Sequence[float], freedoms: Sequence[float], confidence: float
) -> Needed:
    """Compute the sizes at which the interval of a value would exclude 0.

    The value is taken to stay what it is. Variances fall with the number of rows or seeds, and
    degrees of freedom grow with it, as in `significance.combine`.

    Args:
        value: the estimate.
        variances: its parts: test rows first, then the seeds of each system.
        freedoms: their degrees of freedom; those of seeds are one less than their number.
        confidence: confidence level of the interval.
    """
    parts, freedom = np.asarray(variances, np.float64), np.asarray(freedoms, np.float64)
    seeds = freedom[1:] + 1

    def decided(times_rows: float, of_seeds: np.ndarray) -> bool:
        times = np.r_[times_rows, of_seeds / seeds]
        grown = np.r_[freedom[0] * times_rows, of_seeds - 1]
        return bool(half_width(parts / times, grown, 1 - confidence) < abs(value))

    rows = _smallest(lambda times: decided(times, seeds))
    both = _smallest(lambda times: decided(times, times * seeds))
    return Needed(rows, _number_of(lambda n: decided(1, np.maximum(n, seeds)), seeds), both)


def _number_of(decided: Callable[[int], bool], seeds: np.ndarray) -> int | None:
    """The smallest number of seeds of each system that decides."""
    if not len(seeds) or not decided(most := int(MOST * seeds.max())):
        return None
    # More seeds decide no less, so the numbers that decide follow those that do not.
    return bisect.bisect_left(range(most), True, key=decided)


def _smallest(decided: Callable[[float], bool]) -> float | None:
    """The smallest multiple from 1 to `MOST` that decides, to three digits."""
    if not decided(MOST):
        return None
    low, high = 1.0, MOST  # it takes more than `low`, or no more than 1
    while high / low > 1.001:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if decided(middle) else (middle, high)
    return high


def _shown(times: float) -> str:
    """A multiple, rounded up to two digits.

    >>> _shown(1.234), _shown(12.01), _shown(345.2)
    ('1.3', '13', '350')
    """
    unit = 10.0 ** (math.floor(math.log10(times)) - 1)
    return f"{math.ceil(round(times / unit, 6)) * unit:.4g}"
