"""Which (item, t) are examples, and which of them train, validate and test."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmnet.checks import InputError
from mmnet.config import TaskFlags
from mmnet.data import share_rates
from mmnet.data.counts import Panel
from mmnet.data.tables import Rule
from mmnet.hashing import hash_items, uniform

SPLITS = ("train", "validation", "test")


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
    """Finds every example and splits them.

    An example is every (item, t) whose target period t + h is observed and not before release,
    however many of its window's entries are missing. Targets of validation and test need
    `min_target_clicks`, of training `min_train_clicks`.

    The chronological split cuts the calendar: targets before t1 train, before t2 validate, the
    rest test. With `origin` k all cuts lie k test spans earlier, and what comes after the test
    span is in no split. by_item and random_window split by a hash of the item (and period).

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
    ratios = np.array(task.split_ratios)
    if len(ratios) != 3 or not (np.isfinite(ratios) & (ratios > 0)).all():
        given = ",".join(f"{ratio:g}" for ratio in ratios)
        raise InputError(f"--split_ratios must be three positive numbers. Received: {given}")
    seen = share_rates.observed(panel, 1)
    seen[:, : task.horizon] = False  # no t before the first column
    items, targets = np.nonzero(seen)
    clicks = panel.clicks[items, targets]
    ledger: list[Rule] = []
    which, first_targets = _assign(panel, task, seed, items, targets)
    fewest = np.array([task.min_train_clicks, task.min_target_clicks, task.min_target_clicks])
    if task.origin:
        ledger.append(
            Rule("examples", f"before origin {task.origin}", len(which), int((which < 3).sum()))
        )
    enough = clicks >= fewest[np.minimum(which, 2)]
    parts = {}
    for number, name in enumerate(SPLITS):
        candidates = which == number
        if number and task.horizon > 1 and first_targets:
            # An earlier t would be scored by weights fitted on targets that lie after it.
            in_time = targets - task.horizon >= first_targets[number] - 1
            rule = f"{name} example has its t at the end of the span before, or later"
            rows = int(candidates.sum())
            candidates &= in_time
            ledger.append(Rule("examples", rule, rows, int(candidates.sum())))
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
    """Number of the split of each candidate (3 = none), and the first target column of each."""
    borders = np.cumsum(task.split_ratios) / np.sum(task.split_ratios)
    if task.split == "chronological":
        num_targets = panel.num_periods - task.horizon
        # The first h - 1 targets of a span are left out, so it needs at least h.
        test = max(task.horizon, round(num_targets * (1 - borders[1])))
        validation = max(task.horizon, round(num_targets * (borders[1] - borders[0])))
        end = panel.num_periods - task.origin * test
        if task.origin and end - test - validation <= task.horizon:
            raise InputError(
                f"--origin={task.origin} leaves no periods to train on: {panel.num_periods} in "
                f"all, {test} of them in each test span; lower it, or bring more periods"
            )
        cuts = (task.horizon, max(task.horizon, end - test - validation), end - test)
        return np.searchsorted((*cuts, end), targets, side="right") - 1, cuts
    if task.origin:
        raise InputError(f"--origin={task.origin} needs --split=chronological, not {task.split}")
    hashes = hash_items(panel.item_ids)[items]
    periods = (panel.first_period + targets) if task.split == "random_window" else 0
    draw = uniform(hashes, seed, periods)
    return np.minimum(np.searchsorted(borders, draw, side="right"), 2), ()
