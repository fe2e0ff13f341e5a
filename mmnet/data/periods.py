"""The periods of a log: one pass over its times, and what they say about `--period`.

A calendar that does not fit the log is the quietest of mistakes: weekly counts on daily periods
train, and score, with six empty periods out of seven. So the periods that a log really has are
compared with the calendar before anything is made of them.
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
"""Distinct times that are compared; a log with more of them is not counted by periods."""

ALIKE = 0.9
"""Share of the steps between periods that must be multiples of one, to say that it is the step."""

CHANCE = 1e-3
"""A step is believed where a sparse log would show it by chance with a smaller probability."""

FEW = 0.01
"""Most rows that stray periods have, as a share of all."""

NEAR = 10
"""Periods so near to the others are never stray."""

BEFORE = 7
"""Periods before the last one that say what is usual."""

FEWEST = 30
"""Rows or clicks that each of them must have: with less, a third of it may be chance."""

FEWER = f"less than a third of any of the {BEFORE} periods before"
"""Why such a period is left out."""

INDEX = "--time_unit=index if it is the number of a period"

STRAY = "not in a period far away from all others"
"""The ledger's rule of stray periods."""

SHOWN = 5
"""Most periods that a message names."""

_DAY = 86_400
_MONTH, _UNEVEN = 365.2425 / 12 * _DAY, 2.6 * _DAY
"""The mean length of a month, and how far runs of months are from multiples of it."""


@dataclass(frozen=True)
class Survey:
    """What the pass found.

    Attributes:
        calendar: the periods.
        reading: how the column of periods is written.
        first: number of the first period that is not stray.
        last: of the last one.
        stray: what lies outside, for the ledger; empty where nothing does.
    """

    calendar: Calendar
    reading: Reading
    first: int
    last: int
    stray: str = ""


def survey(
    table: Rows, flags: TableFlags, task: TaskFlags, fitted: Calendar | None = None
) -> Survey:
    """Reads the column of periods once: which calendar it needs, and whether `--period` fits.

    Args:
        table: the counts, or snapshots of them.
        flags: name the column, the calendar and what to do with stray periods.
        task: its first period; what is before does not count.
        fitted: the calendar that a model was trained on.

    Raises:
        InputError: `--period` or `--time_zone` cannot be read; the calendar is not the fitted one,
            or does not fit the column; dates are written as numbers; a few periods are far away.
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
    if not len(rows) or flags.events:  # events were looked at when they were counted
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
    """Leaves out the few rows whose periods are far away from all others, if wanted.

    Args:
        rows: period number -> rows, sorted.
        calendar: what the numbers are.
        flags: `--stray_periods`.
        where: names the column, for the message.

    Returns:
        The periods that stay, and the others in words; empty where there are none.

    Raises:
        InputError: there are some, with `--stray_periods=fail`.
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
        f"others, {calendar.label(kept[0])} to {calendar.label(kept[-1])}: {stray}; correct them, "
        "or set --stray_periods=drop (or keep, if they are right)"
    )


def bulk_of(numbers: np.ndarray, rows: np.ndarray) -> slice:
    """Which periods are left without those that are few and far away.

    Periods are cut off at the widest gap as long as it is longer than all that is on the side with
    more rows, and no more than one row in a hundred is cut off in all.

    Args:
        numbers: of periods, sorted.
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
    """The commonest step between the periods of a log.

    Attributes:
        size: in seconds, or in months.
        of_months: which of the two.
        times: how many steps were multiples of it.
    """

    size: int
    of_months: bool
    times: int

    @property
    def flag_value(self) -> str:
        """As `--period` takes it."""
        return f"{self.size}M" if self.of_months else calendars.spelled(self.size)


def step_of(times: np.ndarray) -> Step | None:
    """The step of which nearly all steps between times are multiples.

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
    """The commonest step and how many are multiples of it, if nearly all are."""
    sizes, number = np.unique(steps, return_counts=True)
    size = int(sizes[np.argmax(number)])
    multiples = int((steps % size == 0).sum()) if size else 0
    return (size, multiples) if multiples >= ALIKE * len(steps) else None


def check_steps(
    numbers: np.ndarray, calendar: Calendar, where: str, times: np.ndarray | None = None
) -> None:
    """Refuses a calendar whose periods are shorter than the steps of the log.

    All items are looked at together, and a step is only believed where chance would hardly show it,
    so that gaps of a sparse log are no reason.

    Args:
        numbers: of the periods, sorted.
        calendar: what they are.
        where: names the column, for the message.
        times: seconds since 1970, distinct and sorted, where they are known; they and the starts
            of the periods are looked at, since either may be evenly spaced alone.

    Raises:
        InputError: the sentence names the step found, and the flag.
    """
    if calendar.kind == "integer":
        found = _commonest(np.diff(numbers)) if len(numbers) > 1 else None
        if found and found[0] > 1 and _believed(found[0], found[1]):
            shown = ", ".join(str(number) for number in numbers[:3])
            raise InputError(
                f"{where}: period numbers are {found[0]} apart ({shown}, ...), so that all periods "
                "between them would be empty; number them one by one, or set --time_unit=index if "
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
    """Whether periods are shorter than a step that chance would hardly show."""
    if step.of_months:
        finer = 28 * step.size / max(calendar.months * 28, 1)
        short = step.size > calendar.months and calendar.width <= step.size * 31 * _DAY
    else:
        width = calendar.width or calendar.months * 31 * _DAY
        finer, short = step.size / width, step.size > width
    return short and _believed(finer, step.times)


def _believed(ratio: float, times: int) -> bool:
    """Whether that many steps are hardly multiples of so many periods by chance.

    One of them only says what the others have to be multiples of.
    """
    return (times - 1) * math.log(ratio) > -math.log(CHANCE)


# ------------------------------------------------------------------------------ the last period


def too_few(amounts: np.ndarray) -> bool:
    """Whether the last period has less than a third of any of the seven before it.

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
    """Whether the last period ends early, by the clock of its events.

    Its last event is more than a tenth of a period from the end, and more than three times as far
    as in any of the seven periods before.

    Args:
        missing: share of each period after its last event, in order; 1 where it has none.

    >>> too_early([0.02] * 7 + [0.4]), too_early([0.2] * 7 + [0.4])
    (True, False)
    """
    if len(missing) <= BEFORE:
        return False
    return missing[-1] > max(0.1, 3 * max(missing[-1 - BEFORE : -1]))


def partial_rule(table: str, label: int | str, reason: str, rows: int, left: int) -> Rule:
    """The ledger's line of a last period that was left out.

    Args:
        table: counts or events.
        label: of the period.
        reason: what it lacks.
        rows: before.
        left: after.
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
    """Which periods of counted events stay, once they are compared with the calendar.

    Args:
        table: period number -> rows, and first and last: the times of the first and of the last
            one, in microseconds on the clock; sorted, no more than `MAX_PERIODS` and one.
        calendar: the periods.
        flags: what to do with stray periods, and with a last one that is not complete.
        origin: of the events.

    Returns:
        Numbers of the first and last period that stay, and the ledger of what was left out.

    Raises:
        InputError: see `survey`; or the periods are too many.
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
        fix = "--period may be wider, and --first_period and --events_until cut the ends off"
        if by_number:
            fix = "if these are times, say with --time_unit=s, ms, us or ns what they count"
        raise InputError(
            f"{where}: periods run from {calendar.label(first)} to {calendar.label(last)}, "
            f"{last - first + 1:,} of them; {fix}"
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
    """What the last period of events lacks; empty where it is like those before it."""
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
