"""Which (item, t) are examples, and which of them train, validate and test."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from mmnet.checks import InputError
from mmnet.config import TaskFlags
from mmnet.data import share_rates
from mmnet.data.counts import Panel
from mmnet.data.tables import Rule

SPLITS = ("train", "validation", "test")


def hash_items(ids: np.ndarray) -> np.ndarray:
    """A stable 64-bit hash of each item id, uint64 [items]; the same in every table and order."""
    return pd.util.hash_array(
        np.asarray(ids, object), hash_key="mmnet item hash.", categorize=False
    )


def uniform(*keys: np.ndarray | int) -> np.ndarray:
    """A number in [0, 1) that is a pure function of 64-bit keys (splitmix64), broadcast.

    >>> bool(uniform(1, 2) == uniform(1, 2)), bool(uniform(1, 2) == uniform(2, 1))
    (True, False)
    """
    mixed = np.zeros(1, np.uint64)
    for key in keys:
        key = np.asarray(key)
        mixed = mixed ^ (key if key.dtype == np.uint64 else key.astype(np.int64).view(np.uint64))
        mixed = mixed + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed = mixed ^ (mixed >> np.uint64(31))
    return (mixed >> np.uint64(11)).astype(np.float64) / float(1 << 53)


@dataclass(frozen=True)
class Examples:
    """Examples of one split, by item and then by time.

    Attributes:
        items: int32 [examples], row of the item.
        times: int32 [examples], column t of the last period seen; the target is t + horizon.
    """

    items: np.ndarray
    times: np.ndarray

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True)
class Split:
    """The examples of all splits, and the first target column of each where time decides."""

    train: Examples
    validation: Examples
    test: Examples
    first_targets: tuple[int, ...] = ()

    def __getitem__(self, name: str) -> Examples:
        return getattr(self, name)


def split_examples(panel: Panel, task: TaskFlags, seed: int = 0) -> tuple[Split, list[Rule]]:
    """Finds every example and splits them (spec section 2).

    An example is every (item, t) whose target period t + h is observed and not before release,
    however many of its window's entries are missing. Targets of validation and test need
    `min_target_clicks`, of training `min_train_clicks`.

    The chronological split cuts the calendar: targets before t1 train, before t2 validate, the
    rest test. by_item and random_window split by a hash of the item (and period).

    Raises:
        InputError: fewer periods than window + horizon, an empty split, too few test rows.
    """
    least = task.window + task.horizon
    if panel.num_periods < least:
        raise InputError(
            f"the counts table spans {panel.num_periods} periods ({panel.label(0)} to "
            f"{panel.label(panel.num_periods - 1)}); --window={task.window} and "
            f"--horizon={task.horizon} need at least {least}"
        )
    if len(task.split_ratios) != 3 or min(task.split_ratios) <= 0:
        raise InputError(
            f"--split_ratios must be three positive numbers. Received: {task.split_ratios}"
        )
    seen = share_rates.observed(panel, 1)
    seen[:, : task.horizon] = False  # no t before the first column
    items, targets = np.nonzero(seen)
    clicks = panel.clicks[items, targets]
    which, first_targets = _assign(panel, task, seed, items, targets)
    fewest = np.array([task.min_train_clicks, task.min_target_clicks, task.min_target_clicks])
    enough = clicks >= fewest[which]
    parts, ledger = {}, []
    for number, name in enumerate(SPLITS):
        candidates = which == number
        chosen = candidates & enough
        ledger.append(
            Rule(
                "examples",
                f"{name} target has {fewest[number]} clicks or more",
                int(candidates.sum()),
                int(chosen.sum()),
            )
        )
        parts[name] = Examples(
            items[chosen].astype(np.int32), (targets[chosen] - task.horizon).astype(np.int32)
        )
    for name, part in parts.items():
        least_rows = task.min_test_rows if name == "test" else 1
        if len(part) < least_rows:
            flag = "min_train_clicks" if name == "train" else "min_target_clicks"
            raise InputError(
                f"the {name} split has {len(part)} examples, fewer than {least_rows}; lower "
                f"--{flag} (now {getattr(task, flag)}) or --min_test_rows, or bring more periods"
            )
    return Split(**parts, first_targets=first_targets), ledger


def _assign(
    panel: Panel, task: TaskFlags, seed: int, items: np.ndarray, targets: np.ndarray
) -> tuple[np.ndarray, tuple[int, ...]]:
    """Number of the split of each candidate, and the first target column of each split."""
    borders = np.cumsum(task.split_ratios) / np.sum(task.split_ratios)
    if task.split == "chronological":
        num_targets = panel.num_periods - task.horizon
        # At least one period each; the test span is what the ratios leave, rounded.
        test = max(1, round(num_targets * (1 - borders[1])))
        validation = max(1, round(num_targets * (borders[1] - borders[0])))
        first_test = panel.num_periods - test
        cuts = (task.horizon, max(task.horizon, first_test - validation), first_test)
        return np.searchsorted(cuts, targets, side="right") - 1, cuts
    hashes = hash_items(panel.item_ids)[items]
    periods = (panel.first_period + targets) if task.split == "random_window" else 0
    draw = uniform(hashes, seed, periods)
    return np.minimum(np.searchsorted(borders, draw, side="right"), 2), ()
