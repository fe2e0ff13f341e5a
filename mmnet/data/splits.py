"""Examples (item, t), and their split into train, validation and test."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

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
        eligible: bool [examples, outputs], which targets of several outputs belong to the split,
            in the order of `FeatureSpec.outputs`; None with one output, whose targets all do.
    """

    items: np.ndarray
    times: np.ndarray
    eligible: np.ndarray | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.items)

    def taken(self, rows: np.ndarray) -> Examples:
        """Returns some of the examples, by their rows or by a mask."""
        eligible = None if self.eligible is None else self.eligible[rows]
        return Examples(self.items[rows], self.times[rows], eligible)

    def of_output(self, number: int) -> Examples:
        """Returns the examples whose target of one output belongs to the split, with that alone.

        >>> eligible = np.array([[True, False], [True, True]])
        >>> Examples(np.array([0, 0]), np.array([4, 5]), eligible).of_output(1)
        Examples(items=array([0]), times=array([5]))
        """
        if self.eligible is None:
            return self
        return dataclasses.replace(self.taken(self.eligible[:, number]), eligible=None)

    def part(self, rows: slice) -> Examples:
        """Returns the examples of a range of items, with rows counted from the first of them.

        >>> Examples(np.array([0, 2, 3, 3]), np.array([4, 4, 4, 5])).part(slice(2, 4))
        Examples(items=array([0, 1, 1]), times=array([4, 4, 5]))
        """
        low, high = np.searchsorted(self.items, [rows.start, rows.stop])
        eligible = None if self.eligible is None else self.eligible[low:high]
        return Examples(self.items[low:high] - rows.start, self.times[low:high], eligible)


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

    def of_output(self, number: int) -> Split:
        """Returns the examples of one output alone; see `Examples.of_output`."""
        train, validation, test = (self[name].of_output(number) for name in SPLITS)
        return Split(train, validation, test, self.first_targets)


@dataclass(frozen=True)
class _TestClosed(Split):
    """Splits for code that must not see the test examples."""

    def __getattribute__(self, name: str):
        if name == "test":
            raise RuntimeError("the test split is closed until a system is chosen")
        return super().__getattribute__(name)

    def of_output(self, number: int) -> Split:
        """Returns the examples of one output, with its test examples locked."""
        train, validation = (self[name].of_output(number) for name in ("train", "validation"))
        return _TestClosed(train, validation, validation, self.first_targets)


@dataclass(frozen=True)
class Candidates:
    """Candidates of one split and one output in one shard of items.

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
    `min_target_clicks`, of training `min_train_clicks`. With several outputs, each target is
    judged by these rules and by its own period, and an example needs one that belongs to the split.

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
    outputs = [(rate, horizon) for rate in ("", *panel.rates) for horizon in task.horizon]
    found = _Found(len(outputs), panel.num_periods)
    for rows in shards:
        found.add(
            rows.start,
            [
                _split_shard(
                    panel.of_rate(rate).part(rows), hashes[rows], task, horizon, cuts, refit
                )
                for rate, horizon in outputs
            ],
        )
    splits = {name: found.examples(name) for name in SPLITS}
    ledger: list[Rule] = []
    for number, (rate, horizon) in enumerate(outputs):
        words = _words(rate, horizon, task)
        if task.origin:
            names = ("train",) if refit else SPLITS  # which then has the targets of all of them
            inside = sum(found.candidates[name][number] for name in names)
            rule = f"before origin {task.origin}{words}"
            ledger.append(Rule("examples", rule, found.all[number], inside))
        for name in SPLITS:
            in_time = found.in_time[name][number]
            if _has_late(name, horizon, cuts):
                rule = f"{name} example{words} has its t at the end of the span before, or later"
                ledger.append(Rule("examples", rule, found.candidates[name][number], in_time))
            rule = f"{name} target{words} has {_fewest(name, task)} clicks or more"
            ledger.append(Rule("examples", rule, in_time, found.chosen[name][number]))
    with so_far(lambda: ledger):
        for name in SPLITS:
            for (rate, horizon), number in zip(outputs, found.chosen[name], strict=True):
                _check_rows(name, number, task, _words(rate, horizon, task))
    # After a refit, no period of the log is one that the model has not learned from.
    first_targets = (*cuts[:1], *[panel.num_periods] * 2) if refit and cuts else cuts[:3]
    return Split(**splits, first_targets=first_targets), ledger


def _words(rate: str, horizon: int, task: TaskFlags) -> str:
    """Names an output in a sentence; the main one has no name."""
    if horizon == task.main_horizon:
        return f" of {rate}" if rate else ""
    return f" of {rate} at horizon {horizon}" if rate else f" at horizon {horizon}"


def _check_rows(name: str, number: int, task: TaskFlags, words: str) -> None:
    least_rows = task.min_test_rows if name == "test" else 1
    if number < least_rows:
        flag = "min_train_clicks" if name == "train" else "min_target_clicks"
        fix = "or use data with more periods"
        if task.split_group:
            together = ",".join(task.split_group)
            fix = f"{fix}, or keep fewer items together than --split_group={together} does"
        raise InputError(
            f"the {name} split has {number} examples{words}, fewer than {least_rows}; lower "
            f"--{flag} (now {getattr(task, flag)}) or --min_test_rows, {fix}"
        )


def _check(panel: Panel, task: TaskFlags) -> None:
    num_periods, least = panel.num_periods, task.window + task.longest_horizon
    if num_periods < least:
        raise InputError(
            f"the counts table spans {num_periods} periods ({panel.label(0)} to "
            f"{panel.label(num_periods - 1)}); --window={task.window} and "
            f"--horizon={','.join(map(str, task.horizon))} need at least {least}"
        )
    ratios = np.array(task.split_ratios)
    if len(ratios) != 3 or not (np.isfinite(ratios) & (ratios > 0)).all():
        given = ",".join(f"{ratio:g}" for ratio in ratios)
        raise InputError(f"--split_ratios must be three positive numbers. Received: {given}")
    for name in ("origin", "test_periods"):
        if (value := getattr(task, name)) and task.split != "chronological":
            raise InputError(f"--{name}={value} needs --split=chronological, not {task.split}")
    # Of a span, the first h - 1 targets are left out.
    if task.test_periods and num_periods <= 2 * task.longest_horizon + _test_span(task):
        raise InputError(
            f"--test_periods={task.test_periods} leaves no periods to train on and to validate on: "
            f"the counts table spans {num_periods} periods; lower it, or use data with more periods"
        )


class _Found:
    """The examples of every split, and how many targets of each output reached each rule.

    Args:
        outputs: number of outputs.
        num_periods: columns of the panel.

    Attributes:
        all: candidates of each output.
        candidates: split -> those in its span, by output.
        in_time: split -> those whose t is late enough, by output.
        chosen: split -> those that belong to it, by output.
    """

    def __init__(self, outputs: int, num_periods: int):
        self.all = [0] * outputs
        self.candidates, self.in_time, self.chosen = (
            {name: [0] * outputs for name in SPLITS} for _ in range(3)
        )
        self._num_periods = num_periods
        self._parts: dict[str, list[Examples]] = {name: [] for name in SPLITS}

    def add(self, start: int, outputs: Sequence[tuple[dict[str, Candidates], int]]) -> None:
        """Adds a shard of items, the first of which is `start`; one element for each output."""
        for number, (found, candidates) in enumerate(outputs):
            self.all[number] += candidates
            for name, of in found.items():
                self.candidates[name][number] += of.candidates
                self.in_time[name][number] += of.in_time
                self.chosen[name][number] += len(of.examples)
        for name, parts in self._parts.items():
            of_outputs = [found[name].examples for found, _ in outputs]
            part = of_outputs[0] if len(outputs) == 1 else self._united(of_outputs)
            parts.append(dataclasses.replace(part, items=part.items + start))

    def _united(self, outputs: Sequence[Examples]) -> Examples:
        """Joins the examples of all outputs, by item and then by time."""
        keys = [one.items.astype(np.int64) * self._num_periods + one.times for one in outputs]
        every = np.unique(np.concatenate(keys))
        eligible = np.zeros((len(every), len(keys)), bool)
        for number, of_output in enumerate(keys):
            eligible[np.searchsorted(every, of_output), number] = True
        items, times = np.divmod(every, self._num_periods)
        return Examples(items, times.astype(np.int32), eligible)

    def examples(self, name: str) -> Examples:
        """Returns the examples of a split."""
        parts = self._parts[name]
        eligible = [part.eligible for part in parts if part.eligible is not None]
        return Examples(
            np.concatenate([part.items for part in parts]).astype(np.int32),
            np.concatenate([part.times for part in parts]),
            np.concatenate(eligible) if eligible else None,
        )


def _split_shard(
    panel: Panel,
    hashes: np.ndarray,
    task: TaskFlags,
    horizon: int,
    cuts: tuple[int, ...],
    refit: bool,
) -> tuple[dict[str, Candidates], int]:
    """Returns the examples of one shard and one output by split, and the number of candidates."""
    seen = share_rates.observed(panel, 1)
    seen[:, :horizon] = False  # these targets would need a t before the first column
    items, targets = np.nonzero(seen)
    clicks = panel.clicks[items, targets]
    which = _assign(panel.first_period, hashes[items], targets, task, cuts)
    times = (targets - horizon).astype(np.int32)
    found = {}
    for number, name in enumerate(SPLITS):
        candidates = which < len(SPLITS) if refit and name == "train" else which == number
        in_time = candidates
        if _has_late(name, horizon, cuts):
            # For an earlier t, the weights would have been fitted on targets that are after t.
            in_time = candidates & (times >= cuts[number] - 1)
        chosen = in_time & (clicks >= _fewest(name, task))
        examples = Examples(items[chosen].astype(np.int32), times[chosen])
        found[name] = Candidates(examples, int(candidates.sum()), int(in_time.sum()))
    return found, len(which)


def _fewest(name: str, task: TaskFlags) -> int:
    return task.min_train_clicks if name == "train" else task.min_target_clicks


def _has_late(name: str, horizon: int, cuts: tuple[int, ...]) -> bool:
    """Checks whether the first h - 1 targets of a split's span are left out."""
    return name != "train" and horizon > 1 and bool(cuts)


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
    num_targets, longest = num_periods - task.main_horizon, task.longest_horizon
    # The first h - 1 targets of a span are left out, so it needs at least h.
    test = _test_span(task) or max(longest, round(num_targets * (1 - borders[1])))
    validation = max(longest, round(num_targets * (borders[1] - borders[0])))
    end = num_periods - task.origin * test
    if task.origin and end - test - validation <= longest:
        raise InputError(
            f"--origin={task.origin} leaves no periods to train on: of {num_periods} "
            f"periods, each test span has {test}; lower it, or use data with more periods"
        )
    first = task.main_horizon
    return first, max(first, end - test - validation), end - test, end


def _test_span(task: TaskFlags) -> int:
    """Returns the columns of the test span that `--test_periods` asks for; 0 without it."""
    return task.test_periods + task.longest_horizon - 1 if task.test_periods else 0
