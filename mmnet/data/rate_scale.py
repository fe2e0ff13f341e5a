"""The scale of the rates, fitted on what training reads: one sd and one mean, in percent."""

from __future__ import annotations

import numpy as np

from mmnet.config import TaskFlags
from mmnet.data import items, share_rates
from mmnet.data.counts import Panel
from mmnet.data.splits import Examples
from mmnet.data.spool import Spool


class RateScale:
    """Sd of the rates observed in training windows and targets; mean of the training targets.

    Args:
        task: window, horizon and `min_clicks`.
        spill: a directory for what does not fit in memory; none: the system's temporary one.
    """

    def __init__(self, task: TaskFlags, spill: str | None = None):
        self._task = task
        self._used, self._targets = (Spool(np.dtype(np.float64), 1, spill) for _ in range(2))

    def add(self, panel: Panel, examples: Examples) -> None:
        """Adds a shard, with its training examples."""
        task = self._task
        rate, _ = share_rates.share_rates(panel, 1)
        # A rate that several windows read counts once.
        used = np.zeros(rate.shape, bool)
        for back in range(task.window):
            column = examples.times - back
            inside = column >= 0
            used[examples.items[inside], column[inside]] = True
        used &= share_rates.observed(panel, task.min_clicks)
        used[examples.items, examples.times + task.horizon] = True
        for spool, rates in (
            (self._used, rate[used]),
            (self._targets, rate[examples.items, examples.times + task.horizon]),
        ):
            spool.add(np.zeros(len(rates), np.int64), rates.astype(np.float64))

    def sd_and_mean(self) -> tuple[float, float]:
        """Both in percent, the same to the bit however the items were cut into shards."""
        _, sd = items.mean_and_sd(self._used.mapped(0))
        mean, _ = items.mean_and_sd(self._targets.mapped(0))
        return sd, mean
