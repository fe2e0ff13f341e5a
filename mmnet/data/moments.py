"""Age of the item, and position in the calendar, at the time of the target.

Both are known before the period begins. The same functions compute them in training, in scoring
and inside the exported graph: they accept integers, arrays and tensors.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from mmnet.checks import InputError
from mmnet.config import TableFlags, TaskFlags
from mmnet.data.calendars import Calendar
from mmnet.data.counts import NO_PERIOD, Counted, Panel
from mmnet.data.ledger import Rule
from mmnet.data.splits import Examples
from mmnet.data.time_texts import month_of
from mmnet.schema import (
    AGE,
    AGE_AT_LEAST,
    CYCLES,
    FIRST_ID,
    MISSING_ID,
    UNKNOWN_ID,
    AgeSpec,
    CycleSpec,
    FeatureSpec,
    LifetimeSpec,
)

if TYPE_CHECKING:
    import tensorflow as tf

DAY = 86_400
MONDAY = 4
"""Days from 1970-01-01 to the Monday that periods are counted from."""
TURNS = 2
"""Minimum number of turns of a cycle in training: seen once, a Monday is just a date."""

MOST = 0.5
"""Share of items whose release equals the period of their first click, from which on releases
are assumed to be derived from first clicks."""

LENGTHS = {"hour": (DAY, "day"), "weekday": (7 * DAY, "week"), "month": (365 * DAY, "year")}
"""Length of a cycle in seconds, and its name."""


def cycles_of(calendar: Calendar) -> tuple[str, ...]:
    """Returns the cycles in which a calendar's periods have a position.

    >>> cycles_of(Calendar(kind="time", width=3600)), cycles_of(Calendar(kind="integer"))
    (('hour', 'weekday'), ())
    """
    if calendar.kind == "integer":
        return ()
    if calendar.months:
        return ("month",) if calendar.months < 12 else ()
    if calendar.width < DAY:
        return ("hour", "weekday")
    if calendar.width == DAY:
        return ("weekday",)
    return ("month",) if calendar.width >= 7 * DAY else ()


def place(calendar: Calendar, cycle: str, periods: Any) -> Any:
    """Returns the position of periods in a cycle, from 0 (midnight, Monday, January).

    Args:
        calendar: division of time into periods.
        cycle: one of `cycles_of(calendar)`.
        periods: numbers of periods: an integer, an int64 array, or a tensor.

    >>> days = Calendar(kind="time", width=86_400)
    >>> place(days, "weekday", days.number("2024-02-29", "as_of"))  # a Thursday
    3
    """
    if calendar.months:
        return (periods * calendar.months) % CYCLES["month"]
    seconds = periods * calendar.width
    if cycle == "hour":
        return seconds % DAY // 3600
    if cycle == "weekday":
        return seconds // DAY % 7
    return month_of(seconds // DAY + MONDAY) % CYCLES["month"]


def fit_cycles(calendar: Calendar, targets: np.ndarray) -> tuple[list[CycleSpec], list[str]]:
    """Finds the cycles that training covers often enough to learn from.

    Args:
        calendar: division of time into periods.
        targets: numbers of the training targets' periods, int64 [any].

    Returns:
        The cycles, and a note about each one that is left out.

    >>> fit_cycles(Calendar(kind="time", width=86_400), np.arange(13))
    ([], ['the weekday is left out: training covers 1.8 weeks, not 2'])
    """
    periods = np.unique(targets)
    found, notes = [], []
    for name in cycles_of(calendar):
        length, turn = LENGTHS[name]
        span = int(periods[-1] - periods[0]) + 1
        turns = span * calendar.months / 12 if calendar.months else span * calendar.width / length
        if turns >= TURNS:
            seen = np.unique(place(calendar, name, periods))
            found.append(CycleSpec(name=name, seen=tuple(seen.tolist())))
        else:
            rounded = f"{int(10 * turns) / 10} {turn}s"
            notes.append(f"the {name} is left out: training covers {rounded}, not {TURNS}")
    return found, notes


def fit(
    counted: Counted, flags: TableFlags, task: TaskFlags, train: Examples
) -> tuple[dict[str, Any], list[Rule]]:
    """Chooses the inputs of `--inputs`.

    Returns:
        `age`, `cycles`, `lifetime` and `taxonomy_evidence` of the `FeatureSpec`, and lines for the
        ledger.

    Raises:
        InputError: as `check_inputs`.
    """
    check_inputs(flags, task)
    found: dict[str, Any] = {"age": None, "cycles": (), "lifetime": None}
    found["taxonomy_evidence"] = "taxonomy_evidence" in task.inputs
    ledger = []
    if "age" in task.inputs:
        found["age"], note = _fit_age(counted, flags)
        ledger.append(_line(len(counted.ids), "age at the target", [note]))
    if "calendar" in task.inputs:
        targets = np.unique(train.times).astype(np.int64) + counted.first_period + task.main_horizon
        cycles, notes = fit_cycles(counted.calendar, targets)
        if not cycles_of(counted.calendar):
            notes = [f"none: {counted.calendar.describe()} have no position in a week or a year"]
        found["cycles"] = tuple(cycles)
        names = [f"its {cycle.name}" for cycle in cycles]
        ledger.append(_line(len(train), "calendar of the target", [*names, *notes]))
    if "lifetime" in task.inputs:
        found["lifetime"] = LifetimeSpec(log_start=counted.first_period)
        note = f"clicks and shares since {counted.label(0)}, hidden with the oldest step"
        ledger.append(_line(len(counted.ids), "counts before the window", [note]))
    if "taxonomy_evidence" in task.inputs:
        of = "clicks" if task.taxonomy_weighting == "clicks" else "items"
        ledger.append(_line(len(counted.ids), "evidence of taxonomy means", [f"counted in {of}"]))
    return found, ledger


def check_inputs(flags: TableFlags, task: TaskFlags) -> None:
    """Makes sure that the inputs of `--inputs` can be made.

    Raises:
        InputError: they are about taxonomies, and no taxonomies are given.
    """
    if "taxonomy_evidence" in task.inputs and not flags.taxonomies:
        raise InputError(
            "--inputs=taxonomy_evidence is about the means of taxonomies, and --taxonomies is not "
            "given; name their columns there, or remove taxonomy_evidence from --inputs"
        )


def _line(rows: int, rule: str, notes: Iterable[str]) -> Rule:
    return Rule("inputs", rule, rows, rows, "; ".join(notes))


def _fit_age(counted: Counted, flags: TableFlags) -> tuple[AgeSpec, str]:
    """Chooses the origin of ages, and returns a note about it."""
    if not flags.release:
        start = counted.label(0)
        return (
            AgeSpec(since="first_click", hidden=True, log_start=counted.first_period),
            f"counted from the first click, and hidden with the history; counts begin with {start}",
        )
    given = counted.release_given
    both = given & (counted.first_seen != NO_PERIOD)
    released = counted.release[both] + counted.first_period
    alike = float(np.mean(released == counted.first_seen[both])) if both.any() else 0.0
    note = f"{int(given.sum()):,} of {len(given):,} items have a release"
    hidden = flags.release_from == "log" or (flags.release_from == "auto" and alike > MOST)
    if hidden and flags.release_from == "auto":
        note += (
            f", for {alike:.0%} of those with clicks the period of their first click, so they may "
            "be derived from the log: the age is hidden with the history; set "
            "--release_from=catalogue if releases are known before the first click"
        )
    return AgeSpec(since="release", hidden=hidden), note


def origins(
    panel: Panel, spec: FeatureSpec, *, start: int, allow_short: bool = False
) -> np.ndarray:
    """Returns the periods that the ages of items are counted from.

    Args:
        panel: releases, and first clicks.
        spec: inputs of the model.
        start: number of the first period of the counts, of which a panel may be the end.
        allow_short: whether counts may begin later than the training log did; ages counted from
            first clicks are then unknown, since items would look newer than they are.

    Returns:
        Numbers of periods, int64 [items]; `NO_PERIOD` where the age is unknown.

    Raises:
        InputError: the counts begin too late.
    """
    age = spec.age
    if age is None or age.log_start is None:
        return panel.origins(given=age is not None)
    if start <= age.log_start:
        return panel.origins(given=False)
    if allow_short:
        return np.full(len(panel.release), NO_PERIOD)
    calendar = panel.calendar
    raise InputError(
        f"the counts begin with {calendar.label(start)}, but the model counts the age of an item "
        f"from its first click since {calendar.label(age.log_start)}; provide counts since then, "
        "or, to predict without ages, set --allow_short_history"
    )


# ------------------------------------------------------------------------------------- tensors


def tensors(
    spec: FeatureSpec, calendar: Calendar, origin: Any, target: Any
) -> dict[str, tf.Tensor]:
    """Computes the age and calendar inputs of a model.

    Args:
        spec: inputs of the model.
        calendar: division of time into periods.
        origin: numbers of the periods that the items' ages are counted from, int64 [batch];
            `NO_PERIOD` if unknown.
        target: numbers of the target periods, int64 [batch]; `NO_PERIOD` if unknown.

    Returns:
        Tensor name -> [batch].

    >>> spec = FeatureSpec(window=2, horizon=1, age=AgeSpec(since="release", hidden=False))
    >>> found = tensors(spec, Calendar(kind="integer"), np.array([3, NO_PERIOD]), np.array([8, 8]))
    >>> found["age"].numpy()
    array([ 5., -1.], dtype=float32)
    """
    import tensorflow as tf

    origin, target = tf.convert_to_tensor(origin), tf.convert_to_tensor(target)
    told = target != NO_PERIOD
    some = tf.where(told, target, 0)
    found = {}
    if spec.age:
        known = told & (origin != NO_PERIOD)
        if spec.age.since == "first_click":  # later clicks are not known as of t
            known &= origin <= some - spec.horizon
        start = tf.where(known, origin, some)
        age = tf.clip_by_value(some - start, 0, int(AGE.limits[1]))
        found[AGE.name] = tf.where(known, tf.cast(age, tf.float32), AGE.limits[0])
        bound = tf.zeros_like(found[AGE.name])
        if spec.age.log_start is not None:
            bound = tf.cast(known & (start <= spec.age.log_start), tf.float32)
        found[AGE_AT_LEAST.name] = bound
    for cycle in spec.cycles:
        ids = np.full(CYCLES[cycle.name], UNKNOWN_ID, np.int32)
        ids[list(cycle.seen)] = FIRST_ID + np.array(cycle.seen, np.int32)
        at = tf.gather(tf.constant(ids), place(calendar, cycle.name, some))
        found[cycle.tensor] = tf.where(told, at, MISSING_ID)
    return found
