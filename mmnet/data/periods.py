"""The periods of a log, found in one pass over its times and compared with `--period`.

A calendar that does not fit the log is easy to miss: with weekly counts and daily periods, training
and scoring run, but six of seven periods are empty. The actual periods of a log are therefore
compared with the calendar first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mmnet.checks import InputError
from mmnet.config import TableFlags, TaskFlags
from mmnet.data import calendars, time_columns
from mmnet.data.calendars import MAX_PERIODS, Calendar
from mmnet.data.columns import floats
from mmnet.data.ledger import Rule
from mmnet.data.parquet import PIECE_ROWS
from mmnet.data.tables import Rows
from mmnet.data.time_columns import Reading
from mmnet.data.zones import SECOND

MOST_TIMES = 100_000
"""Maximum number of distinct times to compare; a log with more has no regular periods."""

ALIKE = 0.9
"""Share of the steps between periods that must be multiples of a step to accept it."""

CHANCE = 1e-3
"""Maximum probability that a sparse log shows an accepted step by chance."""

FEW = 0.01
"""Maximum number of rows in stray periods, as a share of all rows."""

NEAR = 10
"""Periods within this distance of the others are never stray."""

BEFORE = 7
"""Number of periods that the last one is compared with."""

FEWEST = 30
"""Minimum rows or clicks of each of them; with fewer, a third of it may be chance."""

FEWER = f"less than a third of any of the {BEFORE} periods before"
"""Reason for leaving out such a period."""

INDEX = "--time_unit=index if it is the number of a period"

STRAY = "not in a period far away from all others"
"""Name of the ledger's rule about stray periods."""

SHOWN = 5
"""Maximum number of periods to list in a message."""

_DAY = 86_400
_MONTH, _UNEVEN = 365.2425 / 12 * _DAY, 2.6 * _DAY
"""Mean length of a month, and the maximum deviation of a run of months from multiples of it."""


@dataclass(frozen=True)
class Survey:
    """The periods found in a column.

    Attributes:
        calendar: the periods.
        reading: format of the column of periods.
        first: number of the first period that is not stray.
        last: number of the last one.
        stray: description of the stray periods for the ledger, possibly empty.
    """

    calendar: Calendar
    reading: Reading
    first: int
    last: int
    stray: str = ""


def survey(
    table: Rows, flags: TableFlags, task: TaskFlags, fitted: Calendar | None = None
) -> Survey:
    """Reads the column of periods once, chooses its calendar, and checks that `--period` fits.

    Args:
        table: the counts, or snapshots of them.
        flags: flags of the column, the calendar and stray periods.
        task: its first period; earlier periods are ignored.
        fitted: the calendar that a model was trained on.

    Raises:
        InputError: `--period` or `--time_zone` cannot be parsed; the calendar differs from the
            fitted one or does not fit the column; dates are numbers; or periods are stray.
    """
    column, flag = flags.period_column, "period_column"
    reading = time_columns.reading_of(table, column, flag, flags)
    calendar = Calendar(kind="integer")
    if reading.unit != "period":
        calendar = calendars.calendar_of_times(flags)
    if fitted is not None and calendar != fitted:
        raise InputError(
            f"{table.origin()}: the model was trained on {fitted.describe()}, but these counts "
            f"(with --period and --time_zone) have {calendar.describe()}"
        )
    calendars.check_names(calendar, reading, f"{table.origin()}, column {column}")
    rows, times = pd.Series(dtype="int64"), np.zeros(0, np.int64)
    for piece in table.pieces(PIECE_ROWS, {column: flag}):
        if calendar.kind == "integer":
            rule = f"a period must be {reading.rule}"
            values = floats(piece, column, flag, rule=rule)
            numbers = values[np.abs(values) < 2**53].astype(np.int64)
        else:
            found = time_columns.read(piece.need(column, flag), reading, calendar.time_zone)
            local = found.local[found.good]
            numbers = calendar.bins(local)
            if len(times) <= MOST_TIMES:
                times = np.union1d(times, local // SECOND)
        here = pd.Series(1, index=numbers).groupby(level=0).sum()
        rows = rows.add(here, fill_value=0).astype("int64")
    if task.first_period:
        rows = rows[rows.index >= calendar.number(task.first_period, "first_period")]
    where = f"{table.origin()}, column {column}"
    if calendar.kind == "integer" and flags.time_unit != "index":
        first = next(iter(table.pieces(1, {column: flag})))
        example = time_columns.as_texts(first.need(column, flag))[0].as_py() or ""
        time_columns.refuse_codes(
            [str(number) for number in rows.index],
            first.where(0, column),
            example,
            INDEX,
        )
    if not len(rows) or flags.events:  # events were checked when they were counted
        return Survey(calendar, reading, *_ends(rows))
    kept, stray = without_strays(rows, calendar, flags, where)
    if calendar.kind == "time":
        bins = calendar.bins(times * SECOND)
        times = times[(bins >= kept.index[0]) & (bins <= kept.index[-1])]
    if calendar.kind == "time" or flags.time_unit != "index":
        known = times if len(times) <= MOST_TIMES else None
        check_steps(kept.index.to_numpy(), calendar, where, known)
    return Survey(calendar, reading, *_ends(kept), stray)


def _ends(rows: pd.Series) -> tuple[int, int]:
    return (int(rows.index[0]), int(rows.index[-1])) if len(rows) else (0, -1)


# ----------------------------------------------------------------------------------- stray periods


def without_strays(
    rows: pd.Series, calendar: Calendar, flags: TableFlags, where: str
) -> tuple[pd.Series, str]:
    """Leaves out the few rows whose periods are far from all others, if the flags allow it.

    Args:
        rows: period number -> number of rows, sorted.
        calendar: the calendar of the numbers.
        flags: `--stray_periods`.
        where: place of the column, for the message.

    Returns:
        The periods that are kept, and a description of the others; empty if all are kept.

    Raises:
        InputError: there are stray periods, with `--stray_periods=fail`.
    """
    bulk = bulk_of(rows.index.to_numpy(), rows.to_numpy())
    outside = pd.concat([rows[: bulk.start], rows[bulk.stop :]])
    if not len(outside) or flags.stray_periods == "keep":
        return rows, ""
    named = [f"{calendar.label(number)} ({count:,})" for number, count in outside.items()]
    stray = ", ".join(named[:SHOWN]) + (", ..." if len(named) > SHOWN else "")
    if flags.stray_periods == "drop":
        return rows[bulk], stray
    kept = rows[bulk].index
    raise InputError(
        f"{where}: {outside.sum():,} of {rows.sum():,} rows are in periods far away from all "
        f"others, {calendar.label(kept[0])} to {calendar.label(kept[-1])}: {stray}; correct "
        "them, or set --stray_periods=drop (or keep, if they are correct)"
    )


def bulk_of(numbers: np.ndarray, rows: np.ndarray) -> slice:
    """Returns the range of periods without those that are few and far from the others.

    Periods are cut off at the widest gap as long as it is longer than the whole span on the side
    with more rows, and as long as no more than one row in a hundred is cut off in total.

    Args:
        numbers: numbers of the periods, sorted.
        rows: number of rows of each.
        rows: of each.

    >>> bulk_of(np.array([-20_000, 0, 1, 3]), np.array([1, 80, 90, 70]))
    slice(1, 4, None)
    """
    low, high, total = 0, len(numbers), rows.sum()
    while high - low > 1:
        gaps = np.diff(numbers[low:high])
        cut = low + int(np.argmax(gaps)) + 1
        before = rows[low:cut].sum() < rows[cut:high].sum()
        left, right = (cut, high) if before else (low, cut)
        span = numbers[right - 1] - numbers[left]
        lost = total - rows[left:right].sum()
        if gaps.max() <= max(span, NEAR) or lost > FEW * total:
            break
        low, high = left, right
    return slice(low, high)


# --------------------------------------------------------------------------------------- the width


@dataclass(frozen=True)
class Step:
    """The most frequent step between the periods of a log.

    Attributes:
        size: length in seconds, or in months.
        of_months: whether it is in months.
        times: number of steps that were multiples of it.
    """

    size: int
    of_months: bool
    times: int

    @property
    def flag_value(self) -> str:
        """The step in the notation of `--period`."""
        return f"{self.size}M" if self.of_months else calendars.spelled(self.size)


def step_of(times: np.ndarray) -> Step | None:
    """Finds the step of which nearly all steps between times are multiples.

    Args:
        times: seconds since 1970, distinct and sorted.

    >>> weeks = np.array(["2024-03-04", "2024-03-11", "2024-03-25"], "datetime64[s]")
    >>> step_of(weeks.astype(int)).flag_value
    '7d'
    """
    steps = np.diff(times)
    if not len(steps):
        return None
    months = np.rint(steps / _MONTH).astype(np.int64)
    uneven = np.abs(steps - months * _MONTH) > _UNEVEN
    monthly = None if np.mean(uneven | (months == 0)) > 1 - ALIKE else _commonest(months[~uneven])
    even = _commonest(steps)
    days = pd.Series(pd.to_datetime(times, unit="s")).dt.day
    same_day = days.value_counts(normalize=True).iloc[0] >= ALIKE
    if monthly and (same_day or not even):
        return Step(monthly[0], True, monthly[1])
    return Step(even[0], False, even[1]) if even else None


def _commonest(steps: np.ndarray) -> tuple[int, int] | None:
    """Returns the most frequent step and the number of its multiples, if nearly all are."""
    sizes, number = np.unique(steps, return_counts=True)
    size = int(sizes[np.argmax(number)])
    multiples = int((steps % size == 0).sum()) if size else 0
    return (size, multiples) if multiples >= ALIKE * len(steps) else None


def check_steps(
    numbers: np.ndarray, calendar: Calendar, where: str, times: np.ndarray | None = None
) -> None:
    """Raises an error if periods of the calendar are shorter than the steps of the log.

    All items are considered together, and a step is only accepted if it is unlikely to be chance,
    so that gaps of a sparse log do not cause an error.

    Args:
        numbers: numbers of the periods, sorted.
        calendar: their calendar.
        where: place of the column, for the message.
        times: seconds since 1970, distinct and sorted, if known. Both the times and the starts of
            the periods are checked, since only one of them may be evenly spaced.

    Raises:
        InputError: the sentence names the step found, and the flag.
    """
    if calendar.kind == "integer":
        found = _commonest(np.diff(numbers)) if len(numbers) > 1 else None
        if found and found[0] > 1 and _believed(found[0], found[1]):
            shown = ", ".join(str(number) for number in numbers[:3])
            raise InputError(
                f"{where}: period numbers are {found[0]} apart ({shown}, ...), so all periods "
                "in between would be empty; number them consecutively, or set --time_unit=index if "
                "they are empty"
            )
        return
    starts = pd.DatetimeIndex([calendar.start(number) for number in numbers])
    of_periods = starts.to_numpy("datetime64[s]").astype(np.int64)
    for seconds in (of_periods,) if times is None else (times, of_periods):
        step = step_of(seconds)
        if step is not None and _too_short(calendar, step):
            raise InputError(
                f"{where}: periods are {step.flag_value} apart, but "
                f"--period={calendar.flag_value}; set --period={step.flag_value}"
            )


def _too_short(calendar: Calendar, step: Step) -> bool:
    """Checks whether periods are shorter than a step that is unlikely to be chance."""
    if step.of_months:
        finer = 28 * step.size / max(calendar.months * 28, 1)
        short = step.size > calendar.months and calendar.width <= step.size * 31 * _DAY
    else:
        width = calendar.width or calendar.months * 31 * _DAY
        finer, short = step.size / width, step.size > width
    return short and _believed(finer, step.times)


def _believed(ratio: float, times: int) -> bool:
    """Checks whether so many multiples of a step are unlikely to be chance.

    The first step only defines the unit of the others.
    """
    return (times - 1) * math.log(ratio) > -math.log(CHANCE)


# ------------------------------------------------------------------------------ the last period


def too_few(amounts: np.ndarray) -> bool:
    """Checks whether the last period has less than a third of each of the seven before it.

    Args:
        amounts: clicks or events of all periods in order, empty ones too.

    >>> too_few(np.array([90, 80, 95, 90, 92, 94, 60, 19])), too_few(np.array([60] * 7 + [20]))
    (True, False)
    """
    if len(amounts) <= BEFORE:
        return False
    least = amounts[-1 - BEFORE : -1].min()
    return bool(least >= FEWEST and 3 * amounts[-1] < least)


def too_early(missing: Sequence[float]) -> bool:
    """Checks whether the last period ends early, by the times of its events.

    It does if its last event is more than a tenth of a period from the end, and more than three
    times as far as in any of the seven periods before.

    Args:
        missing: share of each period after its last event, in order; 1 where it has none.

    >>> too_early([0.02] * 7 + [0.4]), too_early([0.2] * 7 + [0.4])
    (True, False)
    """
    if len(missing) <= BEFORE:
        return False
    return missing[-1] > max(0.1, 3 * max(missing[-1 - BEFORE : -1]))


def partial_rule(table: str, label: int | str, reason: str, rows: int, left: int) -> Rule:
    """Returns the ledger's line about an incomplete last period.

    Args:
        table: counts or events.
        label: name of the period.
        reason: sign that it is incomplete.
        rows: number of rows before.
        left: number of rows after.
    """
    return Rule(
        table,
        "in a complete period",
        rows,
        left,
        f"{label} {reason}; --use_partial keeps it",
    )


# ------------------------------------------------------------------------------------------ events


def of_events(
    table: pd.DataFrame, calendar: Calendar, flags: TableFlags, origin: str
) -> tuple[int, int, list[Rule]]:
    """Compares counted events with the calendar and returns the periods that are kept.

    Args:
        table: period number -> rows, and first and last: the local times of the first and last
            event in microseconds; sorted, at most `MAX_PERIODS` plus one.
        calendar: the periods.
        flags: how to handle stray periods and an incomplete last one.
        origin: name of the events in messages.

    Returns:
        Numbers of the first and last period that are kept, and the ledger's lines.

    Raises:
        InputError: see `survey`; or there are too many periods.
    """
    where, rows = f"{origin}, column {flags.time_column}", table["rows"].astype("int64")
    by_number = calendar.kind == "integer"
    if by_number and flags.time_unit != "index":
        numbers = [str(number) for number in rows.index]
        time_columns.refuse_codes(numbers, where, numbers[0], INDEX)
    kept, stray = rows, ""
    if len(rows) <= MAX_PERIODS:
        kept, stray = without_strays(rows, calendar, flags, where)
    first, last = _ends(kept)
    if last - first >= MAX_PERIODS:
        fix = "use a wider --period, or limit the span with --first_period and --events_until"
        if by_number:
            fix = "if these are times, set their unit with --time_unit=s, ms, us or ns"
        raise InputError(
            f"{where}: periods run from {calendar.label(first)} to {calendar.label(last)}, "
            f"which are {last - first + 1:,}; {fix}"
        )
    if not by_number or flags.time_unit != "index":
        # Where times are farther apart than periods are long, no period has a third one.
        ends = None if by_number else table.loc[first:last, ["first", "last"]].to_numpy(np.int64)
        times = None if ends is None else np.unique(ends // SECOND)
        check_steps(kept.index.to_numpy(), calendar, where, times)
    ledger, left = [], int(kept.sum())
    if stray:
        ledger.append(Rule("events", STRAY, int(rows.sum()), left, stray))
    reason = "" if flags.use_partial else _incomplete(table.loc[first:last], calendar)
    if reason:
        label, lost = calendar.label(last), int(kept.iloc[-1])
        ledger.append(partial_rule("events", label, reason, left, left - lost))
        last -= 1
    return first, last, ledger


def _incomplete(table: pd.DataFrame, calendar: Calendar) -> str:
    """Describes what the last period of events lacks; empty if it is complete."""
    every = table.reindex(range(table.index[0], table.index[-1] + 1))
    rows = every["rows"].fillna(0).to_numpy(float)
    if too_few(rows):
        return f"has {int(rows[-1]):,} events, {FEWER}"
    if calendar.kind == "integer":
        return ""
    recent = every["last"].iloc[-1 - BEFORE :]
    missing = []
    for number, time in recent.items():
        start, end = (calendar.start(number + more).value // 1000 for more in (0, 1))
        missing.append(1.0 if pd.isna(time) else (end - int(time)) / (end - start))
    if not too_early(missing):
        return ""
    end = pd.Timestamp(int(recent.iloc[-1]), unit="us").isoformat(" ", "minutes")
    return f"has no event after {end}, though each of the {BEFORE} before runs to its end"
