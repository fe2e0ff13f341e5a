"""Which (item, t) are examples, and which of them train, validate and test."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmnet.checks import InputError
from mmnet.config import TaskFlags
from mmnet.data import share_rates
from mmnet.data.counts import Counted, Panel
from mmnet.data.ledger import Rule
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


class Splitter:
    """Finds every example, shard by shard of items, and splits them.

    An example is every (item, t) whose target period t + h is observed and not before release,
    however many of its window's entries are missing. Targets of validation and test need
    `min_target_clicks`, of training `min_train_clicks`.

    The chronological split cuts the calendar: targets before t1 train, before t2 validate, the
    rest test. With `origin` k all cuts lie k test spans earlier, and what comes after the test
    span is in no split. by_item and random_window split by a hash of the item (and period).

    Args:
        calendar: a panel, or whatever knows `num_periods` and `label` of its columns.
        task: the rules.
        seed: of the hashes.

    Raises:
        InputError: fewer periods than window + horizon, split ratios that are none.
    """

    def __init__(self, calendar: Panel | Counted, task: TaskFlags, seed: int = 0):
        num_periods, least = calendar.num_periods, task.window + task.horizon
        if num_periods < least:
            raise InputError(
                f"the counts table spans {num_periods} periods ({calendar.label(0)} to "
                f"{calendar.label(num_periods - 1)}); --window={task.window} and "
                f"--horizon={task.horizon} need at least {least}"
            )
        ratios = np.array(task.split_ratios)
        if len(ratios) != 3 or not (np.isfinite(ratios) & (ratios > 0)).all():
            given = ",".join(f"{ratio:g}" for ratio in ratios)
            raise InputError(f"--split_ratios must be three positive numbers. Received: {given}")
        if task.origin and task.split != "chronological":
            raise InputError(
                f"--origin={task.origin} needs --split=chronological, not {task.split}"
            )
        self._task, self._seed = task, seed
        chronological = task.split == "chronological"
        self._cuts = _cuts(num_periods, task) if chronological else ()
        self._parts: dict[str, list[Examples]] = {name: [] for name in SPLITS}
        self._candidates = 0
        # Of each split: candidates, those in time, those with enough clicks.
        self._rows = {name: np.zeros(3, np.int64) for name in SPLITS}

    def add(self, panel: Panel, first_item: int = 0) -> Examples:
        """Takes a shard of items in.

        Args:
            panel: its counts.
            first_item: its first row in the items table.

        Returns:
            The shard's training examples, with rows that count from its own first.
        """
        task = self._task
        seen = share_rates.observed(panel, 1)
        seen[:, : task.horizon] = False  # no t before the first column
        items, targets = np.nonzero(seen)
        clicks = panel.clicks[items, targets]
        which = self._assign(panel, items, targets)
        times = (targets - task.horizon).astype(np.int32)
        self._candidates += len(which)
        for number, name in enumerate(SPLITS):
            candidates = which == number
            in_time = candidates
            if self._has_late(name):
                # An earlier t would be scored by weights fitted on targets that lie after it.
                in_time = candidates & (times >= self._cuts[number] - 1)
            chosen = in_time & (clicks >= self._fewest(name))
            self._rows[name] += [candidates.sum(), in_time.sum(), chosen.sum()]
            self._parts[name].append(
                Examples((items[chosen] + first_item).astype(np.int32), times[chosen])
            )
        train = self._parts["train"][-1]
        return Examples(train.items - np.int32(first_item), train.times)

    def split(self) -> tuple[Split, list[Rule]]:
        """The examples of all shards so far, and what the rules left out.

        Raises:
            InputError: an empty split, too few test rows.
        """
        task, parts = self._task, {}
        ledger: list[Rule] = []
        if task.origin:
            inside = sum(int(rows[0]) for rows in self._rows.values())
            rule = f"before origin {task.origin}"
            ledger.append(Rule("examples", rule, self._candidates, inside))
        for name in SPLITS:
            candidates, in_time, chosen = map(int, self._rows[name])
            if self._has_late(name):
                rule = f"{name} example has its t at the end of the span before, or later"
                ledger.append(Rule("examples", rule, candidates, in_time))
            rule = f"{name} target has {self._fewest(name)} clicks or more"
            ledger.append(Rule("examples", rule, in_time, chosen))
            parts[name] = Examples(
                np.concatenate([part.items for part in self._parts[name]]),
                np.concatenate([part.times for part in self._parts[name]]),
            )
        for name, part in parts.items():
            least_rows = task.min_test_rows if name == "test" else 1
            if len(part) < least_rows:
                flag = "min_train_clicks" if name == "train" else "min_target_clicks"
                raise InputError(
                    f"the {name} split has {len(part)} examples, fewer than {least_rows}; lower "
                    f"--{flag} (now {getattr(task, flag)}) or --min_test_rows, or bring more "
                    "periods"
                )
        return Split(**parts, first_targets=self._cuts[:3]), ledger

    def _fewest(self, name: str) -> int:
        task = self._task
        return task.min_train_clicks if name == "train" else task.min_target_clicks

    def _has_late(self, name: str) -> bool:
        """Whether the first h - 1 targets of a split's span are left out."""
        return name != "train" and self._task.horizon > 1 and bool(self._cuts)

    def _assign(self, panel: Panel, items: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Number of the split of each candidate; 3 = none."""
        task = self._task
        if self._cuts:
            return np.searchsorted(self._cuts, targets, side="right") - 1
        borders = np.cumsum(task.split_ratios) / np.sum(task.split_ratios)
        hashes = hash_items(panel.item_ids)[items]
        periods = (panel.first_period + targets) if task.split == "random_window" else 0
        draw = uniform(hashes, self._seed, periods)
        return np.minimum(np.searchsorted(borders, draw, side="right"), 2)


def _cuts(num_periods: int, task: TaskFlags) -> tuple[int, int, int, int]:
    """The first target column of each split of the calendar, and the one after the last."""
    borders = np.cumsum(task.split_ratios) / np.sum(task.split_ratios)
    num_targets = num_periods - task.horizon
    # The first h - 1 targets of a span are left out, so it needs at least h.
    test = max(task.horizon, round(num_targets * (1 - borders[1])))
    validation = max(task.horizon, round(num_targets * (borders[1] - borders[0])))
    end = num_periods - task.origin * test
    if task.origin and end - test - validation <= task.horizon:
        raise InputError(
            f"--origin={task.origin} leaves no periods to train on: {num_periods} in "
            f"all, {test} of them in each test span; lower it, or bring more periods"
        )
    return task.horizon, max(task.horizon, end - test - validation), end - test, end


def split_examples(panel: Panel, task: TaskFlags, seed: int = 0) -> tuple[Split, list[Rule]]:
    """Splits the examples of one panel; see `Splitter`."""
    splitter = Splitter(panel, task, seed)
    splitter.add(panel)
    return splitter.split()
