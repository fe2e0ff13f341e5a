"""Examples (item, t), and their split into train, validation and test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmnet.checks import InputError
from mmnet.config import TaskFlags
from mmnet.data import share_rates
from mmnet.data.counts import Panel
from mmnet.data.ledger import Rule, so_far
from mmnet.hashing import hash_items, uniform

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Examples:
    """Examples of one split, by item and then by time.

    Attributes:
        items: int32 [examples], row of the item.
        times: int32 [examples], column t, the last period of the window; the target is t + horizon.
    """

    items: np.ndarray
    times: np.ndarray

    def __len__(self) -> int:
        return len(self.items)

    def part(self, rows: slice) -> Examples:
        """Returns the examples of a range of items, with rows counted from the first of them.

        >>> Examples(np.array([0, 2, 3, 3]), np.array([4, 4, 4, 5])).part(slice(2, 4))
        Examples(items=array([0, 1, 1]), times=array([4, 4, 5]))
        """
        low, high = np.searchsorted(self.items, [rows.start, rows.stop])
        return Examples(self.items[low:high] - rows.start, self.times[low:high])


@dataclass(frozen=True)
class Split:
    """The examples of all splits, and the first target column of each in a chronological split."""

    train: Examples
    validation: Examples
    test: Examples
    first_targets: tuple[int, ...] = ()

    def __getitem__(self, name: str) -> Examples:
        return getattr(self, name)

    def closed(self) -> Split:
        """Returns the same splits with the test examples locked.

        >>> nothing = Examples(np.array([]), np.array([]))
        >>> Split(nothing, nothing, nothing).closed()["test"]
        Traceback (most recent call last):
        ...
        RuntimeError: the test split is closed until a system is chosen
        """
        return _TestClosed(self.train, self.validation, self.validation, self.first_targets)


@dataclass(frozen=True)
class _TestClosed(Split):
    """Splits for code that must not see the test examples."""

    def __getattribute__(self, name: str):
        if name == "test":
            raise RuntimeError("the test split is closed until a system is chosen")
        return super().__getattribute__(name)


@dataclass(frozen=True)
class Candidates:
    """Candidates of one split in one shard of items.

    Attributes:
        examples: those in the split; rows of items are counted from the shard's first.
        candidates: number of targets in the split's span.
        in_time: number of those whose t is late enough.
    """

    examples: Examples
    candidates: int
    in_time: int


def split_examples(
    panel: Panel,
    task: TaskFlags,
    shards: Sequence[slice] = (),
    groups: np.ndarray | None = None,
    *,
    refit: bool = False,
) -> tuple[Split, list[Rule]]:
    """Builds all examples and splits them.

    An example is every (item, t) whose target period t + h is observed and not before release,
    however many of its window's entries are missing. Targets of validation and test need
    `min_target_clicks`, of training `min_train_clicks`.

    The chronological split divides the calendar: targets before t1 train, before t2 validate, the
    rest test; with `test_periods` k, the last k targets test. With `origin` k all boundaries are k
    test spans earlier, and targets after the test span are in no split. by_item and random_window
    split by a hash of the item (and period) and `split_seed`; all items of a group have the same
    hash.

    Args:
        panel: counts of all items.
        task: flags of the examples and of the split.
        shards: ranges of items to process together; default: all at once.
        groups: uint64 [items], equal for items that by_item keeps together; see
            `groups.hashes`. None: each item is its own group.
        refit: whether targets of validation and test train as well; for a model whose recipe has
            been chosen and tested before.

    Returns:
        The examples, and the ledger of what the rules left out.

    Raises:
        InputError: there are fewer periods than window + horizon, the split ratios are invalid, a
            split is empty, or there are too few test rows.

    >>> from mmnet.data.calendars import Calendar
    >>> clicks = np.ones((2, 12), np.int64)
    >>> release, days = np.zeros(2, np.int64), Calendar(kind="integer")
    >>> panel = Panel(np.array(["a", "b"]), clicks, clicks, release, days, first_period=0)
    >>> task = TaskFlags(window=2, min_target_clicks=1, min_test_rows=1)
    >>> found, ledger = split_examples(panel, task)
    >>> found.test  # each item's last period is a target, and t the one before it
    Examples(items=array([0, 1], dtype=int32), times=array([10, 10], dtype=int32))
    """
    _check(panel, task)
    cuts = _cuts(panel.num_periods, task) if task.split == "chronological" else ()
    shards = shards or [slice(0, len(panel.clicks))]
    hashes = hash_items(panel.item_ids) if groups is None else groups
    parts = [_split_shard(panel.part(rows), hashes[rows], task, cuts, refit) for rows in shards]
    ledger: list[Rule] = []
    if task.origin:
        names = ("train",) if refit else SPLITS  # which then has the targets of all of them
        inside = sum(part[name].candidates for part, _ in parts for name in names)
        rule = f"before origin {task.origin}"
        ledger.append(Rule("examples", rule, sum(number for _, number in parts), inside))
    splits = {}
    for name in SPLITS:
        found = [part[name] for part, _ in parts]
        items = [one.examples.items + rows.start for one, rows in zip(found, shards, strict=True)]
        splits[name] = Examples(
            np.concatenate(items).astype(np.int32),
            np.concatenate([one.examples.times for one in found]),
        )
        in_time = sum(one.in_time for one in found)
        if _has_late(name, task, cuts):
            rule = f"{name} example has its t at the end of the span before, or later"
            ledger.append(Rule("examples", rule, sum(one.candidates for one in found), in_time))
        rule = f"{name} target has {_fewest(name, task)} clicks or more"
        ledger.append(Rule("examples", rule, in_time, len(splits[name])))
    with so_far(lambda: ledger):
        for name, part in splits.items():
            _check_rows(name, len(part), task)
    # After a refit, no period of the log is one that the model has not learned from.
    first_targets = (*cuts[:1], *[panel.num_periods] * 2) if refit and cuts else cuts[:3]
    return Split(**splits, first_targets=first_targets), ledger


def _check_rows(name: str, number: int, task: TaskFlags) -> None:
    least_rows = task.min_test_rows if name == "test" else 1
    if number < least_rows:
        flag = "min_train_clicks" if name == "train" else "min_target_clicks"
        fix = "or use data with more periods"
        if task.split_group:
            together = ",".join(task.split_group)
            fix = f"{fix}, or keep fewer items together than --split_group={together} does"
        raise InputError(
            f"the {name} split has {number} examples, fewer than {least_rows}; lower "
            f"--{flag} (now {getattr(task, flag)}) or --min_test_rows, {fix}"
        )


def _check(panel: Panel, task: TaskFlags) -> None:
    num_periods, least = panel.num_periods, task.window + task.horizon
    if num_periods < least:
        raise InputError(
            f"the counts table spans {num_periods} periods ({panel.label(0)} to "
            f"{panel.label(num_periods - 1)}); --window={task.window} and "
            f"--horizon={task.horizon} need at least {least}"
        )
    ratios = np.array(task.split_ratios)
    if len(ratios) != 3 or not (np.isfinite(ratios) & (ratios > 0)).all():
        given = ",".join(f"{ratio:g}" for ratio in ratios)
        raise InputError(f"--split_ratios must be three positive numbers. Received: {given}")
    for name in ("origin", "test_periods"):
        if (value := getattr(task, name)) and task.split != "chronological":
            raise InputError(f"--{name}={value} needs --split=chronological, not {task.split}")
    # Of a span, the first h - 1 targets are left out.
    if task.test_periods and num_periods <= 2 * task.horizon + _test_span(task):
        raise InputError(
            f"--test_periods={task.test_periods} leaves no periods to train on and to validate on: "
            f"the counts table spans {num_periods} periods; lower it, or use data with more periods"
        )


def _split_shard(
    panel: Panel, hashes: np.ndarray, task: TaskFlags, cuts: tuple[int, ...], refit: bool
) -> tuple[dict[str, Candidates], int]:
    """Returns the examples of one shard of items by split, and their number of candidates."""
    seen = share_rates.observed(panel, 1)
    seen[:, : task.horizon] = False  # these targets would need a t before the first column
    items, targets = np.nonzero(seen)
    clicks = panel.clicks[items, targets]
    which = _assign(panel.first_period, hashes[items], targets, task, cuts)
    times = (targets - task.horizon).astype(np.int32)
    found = {}
    for number, name in enumerate(SPLITS):
        candidates = which < len(SPLITS) if refit and name == "train" else which == number
        in_time = candidates
        if _has_late(name, task, cuts):
            # For an earlier t, the weights would have been fitted on targets that are after t.
            in_time = candidates & (times >= cuts[number] - 1)
        chosen = in_time & (clicks >= _fewest(name, task))
        examples = Examples(items[chosen].astype(np.int32), times[chosen])
        found[name] = Candidates(examples, int(candidates.sum()), int(in_time.sum()))
    return found, len(which)


def _fewest(name: str, task: TaskFlags) -> int:
    return task.min_train_clicks if name == "train" else task.min_target_clicks


def _has_late(name: str, task: TaskFlags, cuts: tuple[int, ...]) -> bool:
    """Checks whether the first h - 1 targets of a split's span are left out."""
    return name != "train" and task.horizon > 1 and bool(cuts)


def _assign(
    first_period: int,
    hashes: np.ndarray,
    targets: np.ndarray,
    task: TaskFlags,
    cuts: tuple[int, ...],
) -> np.ndarray:
    """Returns the number of the split of each candidate by its item's hash; 3 = none."""
    if cuts:
        return np.searchsorted(cuts, targets, side="right") - 1
    borders = np.cumsum(task.split_ratios) / np.sum(task.split_ratios)
    periods = (first_period + targets) if task.split == "random_window" else 0
    draw = uniform(hashes, task.split_seed, periods)
    return np.minimum(np.searchsorted(borders, draw, side="right"), 2)


def _cuts(num_periods: int, task: TaskFlags) -> tuple[int, int, int, int]:
    """Returns the first target column of each split by time, and the end of the last one."""
    borders = np.cumsum(task.split_ratios) / np.sum(task.split_ratios)
    num_targets = num_periods - task.horizon
    # The first h - 1 targets of a span are left out, so it needs at least h.
    test = _test_span(task) or max(task.horizon, round(num_targets * (1 - borders[1])))
    validation = max(task.horizon, round(num_targets * (borders[1] - borders[0])))
    end = num_periods - task.origin * test
    if task.origin and end - test - validation <= task.horizon:
        raise InputError(
            f"--origin={task.origin} leaves no periods to train on: of {num_periods} "
            f"periods, each test span has {test}; lower it, or use data with more periods"
        )
    return task.horizon, max(task.horizon, end - test - validation), end - test, end


def _test_span(task: TaskFlags) -> int:
    """Returns the columns of the test span that `--test_periods` asks for; 0 without it."""
    return task.test_periods + task.horizon - 1 if task.test_periods else 0
