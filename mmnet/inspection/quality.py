"""Quality of the counts: coverage, evidence per cell, and the variance that is only chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmnet.config import TaskFlags
from mmnet.data import share_rates, splits
from mmnet.data.counts import Panel

BORDERS = (1, 5, 10, 20, 50, 200, 1000)
"""Lower limits of clicks in the rows of the table of evidence."""

THRESHOLDS = (50, 20, 10, 5, 2, 1)
"""Values of `--min_target_clicks` to try, the largest first."""

ENOUGH = 1000
"""Number of validation and test targets that makes errors comparable: the standard error of a mean
of 1,000 squared errors is a few percent of it."""

PART = 0.1
"""Minimum share of the validation and test candidates that a threshold must leave, so that results
are not only about the few most popular items."""

NEARLY_ALL = 0.9
"""Share of the candidates that is always enough."""


@dataclass(frozen=True)
class Evidence:
    """Cells with about the same number of clicks.

    Attributes:
        least: minimum clicks of each.
        cells: number of items and periods.
        clicks: clicks of all of them.
        noise: share of the variance of their rates that is sampling noise, in [0, 1]; NaN if it
            cannot be estimated.
    """

    least: int
    cells: int
    clicks: int
    noise: float


@dataclass(frozen=True)
class Quality:
    """Statistics of a panel.

    Attributes:
        items, periods: numbers of items and periods.
        observed_items: number of items with clicks at any time.
        cells: number of items and periods with clicks.
        coverage: share of the periods from each item's first clicks on that have clicks.
        quantiles: clicks of a cell with clicks: 10 %, median, 90 %.
        rate: pooled rate, in percent.
        positive: share of the cells with clicks whose rate is above 0.
        noise: share of the variance between all cells with two or more clicks that is chance.
        evidence: the same by the clicks of a cell.
        empty_periods: number of empty periods between the first and the last one.
    """

    items: int
    periods: int
    observed_items: int
    cells: int
    coverage: float
    quantiles: tuple[float, float, float]
    rate: float
    positive: float
    noise: float
    evidence: tuple[Evidence, ...]
    empty_periods: int


class _Sums:
    """Sums over cells that determine total variance and sampling noise."""

    def __init__(self) -> None:
        self.cells = self.used = self.clicks = 0
        self.rate = self.square = self.noise = 0.0

    def add(self, clicks: np.ndarray, shares: np.ndarray) -> None:
        self.cells += len(clicks)
        self.clicks += int(clicks.sum())
        used = (clicks >= 2) & (shares <= clicks)
        rate = shares[used] / clicks[used]
        self.used += len(rate)
        self.rate += float(rate.sum())
        self.square += float((rate * rate).sum())
        self.noise += float((rate * (1 - rate) / (clicks[used] - 1)).sum())

    def noise_share(self) -> float:
        if self.used < 2:
            return float("nan")
        total = self.square / self.used - (self.rate / self.used) ** 2
        return min(self.noise / self.used / total, 1.0) if total > 0 else float("nan")


def of_panel(panel: Panel, first_seen: np.ndarray, shards: Sequence[slice]) -> Quality:
    """Computes the statistics of a panel, one shard of items at a time.

    Args:
        panel: counts.
        first_seen: int64 [items], column of the first clicks.
        shards: ranges of its items.
    """
    sums = [_Sums() for _ in BORDERS]
    every = _Sums()
    histogram = np.zeros(0, np.int64)
    positive = shared = 0
    by_period = np.zeros(panel.num_periods, np.int64)
    for part in shards:
        clicks, shares = panel.clicks[part], panel.shares[part]
        seen = clicks > 0
        by_period += seen.sum(axis=0)
        clicks, shares = clicks[seen], shares[seen]
        every.add(clicks, shares)
        positive, shared = positive + int((shares > 0).sum()), shared + int(shares.sum())
        which = np.searchsorted(BORDERS, clicks, side="right") - 1
        for number, one in enumerate(sums):
            one.add(clicks[which == number], shares[which == number])
        # Quantiles of counts up to 2**16; larger ones are one bin, whose lower limit is shown.
        here = np.bincount(np.minimum(clicks, 1 << 16))
        size = max(len(here), len(histogram))
        histogram = np.pad(histogram, (0, size - len(histogram))) + np.pad(
            here, (0, size - len(here))
        )
    observed = first_seen < panel.num_periods
    possible = int((panel.num_periods - first_seen[observed]).sum())
    cumulative = np.cumsum(histogram) / max(histogram.sum(), 1)
    quantiles = [float(np.searchsorted(cumulative, level)) for level in (0.1, 0.5, 0.9)]
    return Quality(
        items=len(first_seen),
        periods=panel.num_periods,
        observed_items=int(observed.sum()),
        cells=every.cells,
        coverage=every.cells / max(possible, 1),
        quantiles=(quantiles[0], quantiles[1], quantiles[2]),
        rate=100 * shared / max(every.clicks, 1),
        positive=positive / max(every.cells, 1),
        noise=every.noise_share(),
        evidence=tuple(
            Evidence(least, one.cells, one.clicks, one.noise_share())
            for least, one in zip(BORDERS, sums, strict=True)
        ),
        empty_periods=int((by_period == 0).sum()),
    )


def start_after_gap(there: np.ndarray, least: int) -> int:
    """Returns the column after the last run of at least `least` empty periods; 0 without one.

    No window reaches across such a gap, so the periods before it only add training examples from
    another time. A later start is proposed if more periods are after the gap than in it, and enough
    are left.

    Args:
        there: bool [periods], whether a period has rows.
        least: number of periods of a window.

    >>> start_after_gap(np.array([1] * 5 + [0] * 4 + [1] * 30, bool), least=3)
    9
    >>> start_after_gap(np.array([1] * 30 + [0] * 2 + [1] * 30, bool), least=3)
    0
    """
    gaps = np.flatnonzero(np.diff(np.r_[True, there, True].astype(int)) != 0).reshape(-1, 2)
    for start, stop in gaps[::-1]:
        if stop - start >= least:
            left = len(there) - stop
            return int(stop) if left >= 5 * least and left > stop - start else 0
    return 0


def examples(panel: Panel, task: TaskFlags, shards: Sequence[slice]) -> dict[str, int]:
    """Returns the number of examples of each split.

    Raises:
        InputError: there are too few periods, or the ratios are invalid.
    """
    loose = task.model_copy(update={"min_test_rows": 1})
    found, _ = splits.split_examples(panel, loose, shards)
    return {name: len(found[name]) for name in splits.SPLITS}


def least_clicks(panel: Panel, task: TaskFlags, shards: Sequence[slice]) -> tuple[int, str]:
    """Returns the `--min_target_clicks` that leaves enough examples for evaluation, and the reason.

    Targets are counted in the periods of validation and test, for any kind of split.
    """
    ratios = np.array(task.split_ratios) / sum(task.split_ratios)
    start = max(int(panel.num_periods * ratios[0]), task.main_horizon)
    clicks = np.concatenate(
        [
            panel.clicks[part][:, start:][share_rates.observed(panel.part(part), 1)[:, start:]]
            for part in shards
        ]
    )
    needed = 2 * max(ENOUGH, task.min_test_rows)
    for least in THRESHOLDS:
        left = int((clicks >= least).sum())
        if left >= min(max(needed, PART * len(clicks)), NEARLY_ALL * len(clicks)):
            return least, f"{left:,} of {len(clicks):,} late cells have as many"
    fewest = THRESHOLDS[-1]
    return fewest, f"there are only {len(clicks):,} late cells with clicks"
