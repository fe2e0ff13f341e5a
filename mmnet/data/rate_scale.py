"""The scale of share rates in training: one standard deviation and one mean, in percent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmnet.config import TaskFlags
from mmnet.data import items, share_rates
from mmnet.data.counts import Panel
from mmnet.data.splits import Examples
from mmnet.data.spool import Spool


def rate_scale(
    panel: Panel,
    train: Examples,
    targets: Sequence[Examples],
    task: TaskFlags,
    shards: Sequence[slice],
    spill: str | None = None,
) -> tuple[float, float]:
    """Computes the sd of rates in training windows and targets, and the mean of training targets.

    Args:
        panel: counts of all items, of one rate.
        train: the training examples, whose windows are read.
        targets: the training examples of each horizon of the rate.
        task: window, horizons and `min_clicks`.
        shards: ranges of items to process together.
        spill: directory for data that do not fit in memory; default: the system's.

    Returns:
        Sd and mean in percent, bit-for-bit the same for any shards.
    """
    used, of_targets = (Spool(np.dtype(np.float64), 1, spill) for _ in range(2))
    for rows in shards:
        parts = [one.part(rows) for one in targets]
        found = _rates(panel.part(rows), train.part(rows), parts, task)
        for spool, rates in zip((used, of_targets), found, strict=True):
            spool.add(np.zeros(len(rates), np.int64), rates.astype(np.float64))
    _, sd = items.mean_and_sd(used.mapped(0))
    mean, _ = items.mean_and_sd(of_targets.mapped(0))
    return sd, mean


def _rates(
    panel: Panel, train: Examples, targets: Sequence[Examples], task: TaskFlags
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rates of one shard that training reads, and those of its targets."""
    rate, _ = share_rates.share_rates(panel, 1)
    # A rate in several windows counts once.
    used = np.zeros(rate.shape, bool)
    for back in range(task.window):
        column = train.times - back
        inside = column >= 0
        used[train.items[inside], column[inside]] = True
    used &= share_rates.observed(panel, task.min_clicks)
    of_targets = []
    for horizon, examples in zip(task.horizon, targets, strict=True):
        target = examples.items, examples.times + horizon
        used[target] = True
        of_targets.append(rate[target])
    return rate[used], np.concatenate(of_targets)
