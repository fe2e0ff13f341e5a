"""All rows of the counts, with everything that is wrong with them rather than the first mistake.

Preparing a dataset stops at the first row that breaks a rule. Here such a row is counted and
skipped, so that one pass finds every kind of mistake. Rows are sorted into shards of items as
there, and large arrays of items and periods are kept in files.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmnet.checks import InputError, quoted
from mmnet.config import TableFlags, TaskFlags
from mmnet.data import calendars, numbers, periods, rates, repeats, spelling, time_columns
from mmnet.data.arrays import Allocate, in_memory, new_array
from mmnet.data.calendars import MAX_PERIODS, Calendar
from mmnet.data.columns import LARGEST, id_texts, integers
from mmnet.data.counts import Panel
from mmnet.data.ids import ItemIds, check_unknown
from mmnet.data.numbers import PLAIN, Marks
from mmnet.data.parquet import PIECE_ROWS
from mmnet.data.periods import Survey
from mmnet.data.spool import Spool
from mmnet.data.tables import Rows, Table
from mmnet.files import scratch_directory

IN_MEMORY = 1 << 28
"""Bytes of the arrays of items and periods beyond which they are kept in files."""

MOST_PAIRS = 1000
"""Maximum number of rows of one key to compare in all columns."""

ROW = np.dtype(
    [*((name, "i8") for name in ("item", "period", "clicks", "shares", "at")), ("again", "?")]
)
"""As `counts_reading.ROW`: `again` marks the second occurrence of a repeated hour."""


@dataclass(frozen=True)
class Problem:
    """One kind of mistake.

    Attributes:
        sentence: the error message about its first place.
        rows: number of affected rows; 0 if it does not concern rows.
        fix: flag and value that make the tables readable and keep all correct rows.
    """

    sentence: str
    rows: int = 0
    fix: tuple[str, str] | None = None


@dataclass(frozen=True)
class Duplicates:
    """Rows with the same item and period as an earlier row.

    Attributes:
        rows: number of such rows.
        equal: number of those with the same numerator and denominator as the first row of the key.
        exact: number of those that are equal in all columns, among the compared ones.
        compared: number of rows compared in all columns.
        example: places of two of them.
        differing: a column in which rows with equal counts differ.
    """

    rows: int = 0
    equal: int = 0
    exact: int = 0
    compared: int = 0
    example: str = ""
    differing: str = ""


@dataclass
class Cells:
    """The counts on their calendar.

    Attributes:
        panel: counts of all items; its release is the first period with clicks.
        first_seen: int64 [items], column of that period; the number of periods if never seen.
        rows: number of rows read.
        above: number of rows whose numerator exceeds the denominator.
        above_example: place of the first of them.
        duplicates: rows for one key; the first of them counts.
        problems: everything else.
        periods_with_rows: bool [periods].
        scratch: keeps the files of the arrays.
    """

    panel: Panel
    first_seen: np.ndarray
    rows: int
    above: int
    above_example: str
    duplicates: Duplicates
    problems: list[Problem]
    periods_with_rows: np.ndarray
    scratch: Any = field(default=None, repr=False)


def collected(problems: list[Problem], step: Callable[[], Any]) -> Any:
    """Returns the result of a step; if it raises `InputError`, adds a problem and returns None.

    >>> found = []
    >>> collected(found, lambda: TableFlags().no)
    Traceback (most recent call last):
    AttributeError: 'TableFlags' object has no attribute 'no'
    """
    try:
        return step()
    except InputError as error:
        problems.append(Problem(str(error)))
        return None


def surveyed(counts: Rows, flags: TableFlags, task: TaskFlags) -> tuple[Survey, Problem | None]:
    """Finds the calendar of the counts; returns any error about it with the flag that helps.

    Raises:
        InputError: the column and the flags do not define a calendar.
    """
    try:
        return periods.survey(counts, flags, task), None
    except InputError as error:
        for name, value in (("stray_periods", "drop"), ("time_unit", "index")):
            if name in flags.model_fields_set:
                continue
            with contextlib.suppress(InputError):
                wanted = flags.model_copy(update={name: value})
                found = periods.survey(counts, wanted, task)
                return found, Problem(str(error), fix=(name, value))
        return _unchecked(counts, flags), Problem(str(error))


def _unchecked(counts: Rows, flags: TableFlags) -> Survey:
    """Returns the calendar of a column with possibly wrong values."""
    column = flags.period_column
    reading = time_columns.reading_of(counts, column, "period_column", flags)
    by_number = reading.unit == "period"
    calendar = Calendar(kind="integer") if by_number else calendars.calendar_of_times(flags)
    return Survey(calendar, reading, 0, -1)


def read(counts: Rows, ids: ItemIds, flags: TableFlags, task: TaskFlags, survey: Survey) -> Cells:
    """Reads all rows of the counts table in chunks.

    Args:
        counts: one row per item and period.
        ids: ids of the items table.
        flags: flags that name the columns.
        task: its first period; earlier periods are ignored.
        survey: the periods.

    Raises:
        InputError: no correct row is left, or there are too many periods.
    """
    reader = _Reader(counts, ids, flags, task, survey)
    shards = range(0, len(ids), flags.shard_items)
    spool = Spool(ROW, len(shards), flags.engine_spill or None)
    for piece in counts.pieces(PIECE_ROWS, dict.fromkeys(_columns(flags), "counts")):
        rows = reader.read(piece)
        spool.add(rows["item"] // flags.shard_items, rows)
    if reader.last < reader.first:
        raise InputError(f"{counts.origin()}: every row is wrong, so no rows are left")
    first, number = reader.first, reader.last - reader.first + 1
    if number > MAX_PERIODS:
        label = survey.calendar.label
        raise InputError(
            f"{counts.origin()}: periods run from {label(first)} to {label(reader.last)}, "
            f"which are {number:,}; use a wider --period"
        )
    allocate, scratch = _place(len(ids) * number * 16, flags)
    clicks, shares = (allocate(name, (len(ids), number), "int64") for name in ("clicks", "shares"))
    found = Duplicates()
    for shard in range(len(shards)):
        rows = spool.shard(shard)
        kept, found = _without_duplicates(counts, rows, found, ids, survey.calendar)
        rows = rows[kept]
        for again in (False, True):  # the repeated hour at the end of summer time is added up
            part = rows[rows["again"] == again]
            place = part["item"], part["period"] - first
            clicks[place] += part["clicks"]
            shares[place] += part["shares"]
    seen = np.full(len(ids), number)
    for start in shards:
        part = clicks[start : start + flags.shard_items] > 0
        seen[start : start + len(part)] = np.where(part.any(axis=1), part.argmax(axis=1), number)
    panel = Panel(ids.part(slice(0, len(ids))), clicks, shares, seen, survey.calendar, first)
    there = np.isin(np.arange(first, first + number), list(reader.periods))
    return Cells(
        panel,
        seen,
        reader.rows,
        reader.above,
        reader.above_example,
        found,
        reader.problems(),
        there,
        scratch,
    )


def _columns(flags: TableFlags) -> list[str]:
    names = ("item_column", "period_column", "denominator", "numerator")
    further = (column for of_rate in rates.further(flags).values() for column in of_rate)
    return list(dict.fromkeys([*(getattr(flags, name) for name in names), *further]))


def _place(size: int, flags: TableFlags) -> tuple[Allocate, Any]:
    if size <= IN_MEMORY:
        return in_memory, None
    scratch = scratch_directory(flags.engine_spill or None)
    return functools.partial(new_array, Path(scratch.name)), scratch


class _Reader:
    """Reads chunks of a counts table, and collects what is wrong with them."""

    def __init__(
        self, counts: Rows, ids: ItemIds, flags: TableFlags, task: TaskFlags, survey: Survey
    ):
        self._ids, self._flags, self._survey = ids, flags, survey
        self._first_period = -math.inf
        if task.first_period:
            self._first_period = survey.calendar.number(task.first_period, "first_period")
        self._marks: dict[str, Marks] = {}
        self._wrong: dict[str, Problem] = {}
        self._further = rates.further(flags)
        counted = [(flags.denominator, "denominator"), (flags.numerator, "numerator")]
        counted += [(column, "rate") for of_rate in self._further.values() for column in of_rate]
        for column, flag in counted:
            try:
                self._marks[column] = numbers.recognised(counts, column, flag, flags, whole=True)
            except InputError as error:
                self._add(f"marks {column}", str(error), 0)
        self.first, self.last = 2**62, -(2**62)
        self.rows = self.above = 0
        self.above_example = ""
        self.periods: set[int] = set()

    def problems(self) -> list[Problem]:
        """Every kind of mistake, in the order in which it was found."""
        return list(self._wrong.values())

    def read(self, piece: Table) -> np.ndarray:
        """Returns the rows of a chunk that have no mistake, as `ROW`."""
        flags, rows = self._flags, len(piece)
        self.rows += rows
        good, items = self._items(piece)
        numbers_of_periods, dated, again = self._periods(piece)
        clicks, fine = self._counts(piece, flags.denominator, "denominator")
        shares, also = self._counts(piece, flags.numerator, "numerator")
        good &= dated & fine & also
        above = good & (shares > clicks)
        if above.any() and not self.above:
            row = int(np.argmax(above))
            self.above_example = (
                f"{piece.where(row, flags.numerator)}: {shares[row]:,} {flags.numerator} of "
                f"{clicks[row]:,} {flags.denominator}"
            )
        self.above += int(above.sum())
        self._check_further(piece)
        found = np.empty(int(good.sum()), ROW)
        named = {"item": items, "period": numbers_of_periods, "at": piece.places, "again": again}
        for name, values in (named | {"clicks": clicks, "shares": shares}).items():
            found[name] = values[good]
        if len(found):
            here = np.unique(found["period"])
            self.first, self.last = min(self.first, int(here[0])), max(self.last, int(here[-1]))
            self.periods.update(here.tolist())
        return found

    def _check_further(self, piece: Table) -> None:
        """Records mistakes in the counts of further rates."""
        for rate, columns in self._further.items():
            below, fine = self._counts(piece, columns.denominator, "rate")
            numerator, also = self._counts(piece, columns.numerator, "rate")
            above = fine & also & (numerator > below)
            if above.any() and not self._flags.rate_may_exceed_one:
                row = int(np.argmax(above))
                sentence = (
                    f"{piece.where(row, columns.numerator)}: {numerator[row]:,} "
                    f"{columns.numerator} of {below[row]:,} {columns.denominator}: the numerator "
                    f"of --also_predict={rate} is above its denominator; correct the counts, or "
                    "set --rate_may_exceed_one"
                )
                self._add(f"rate {rate}", sentence, int(above.sum()))

    def _add(self, key: str, sentence: str, rows: int, fix: tuple[str, str] | None = None) -> None:
        before = self._wrong.get(key)
        if before is None:
            self._wrong[key] = Problem(sentence, rows, fix)
        else:
            self._wrong[key] = Problem(before.sentence, before.rows + rows, before.fix)

    def _items(self, piece: Table) -> tuple[np.ndarray, np.ndarray]:
        column, flags = self._flags.item_column, self._flags
        try:
            who = id_texts(piece, column, "item_column")
        except InputError as error:
            self._add("ids", str(error), len(piece))
            return np.zeros(len(piece), bool), np.zeros(len(piece), np.int64)
        items = self._ids.rows(who)
        known = items >= 0
        if not known.all() and flags.unknown_items == "fail":
            row = int(np.argmax(~known))
            place = piece.where(row, column)
            try:
                check_unknown(self._ids, pc.unique(who.filter(pa.array(~known))), place, drop=False)
                sentence = (
                    f"{place}: item {who[row].as_py()!r} is not in the items table; add it, or set "
                    "--unknown_items=drop"
                )
                self._add("items", sentence, int((~known).sum()), ("unknown_items", "drop"))
            except InputError as error:
                self._add("spelling", str(error), int((~known).sum()))
        return known, items

    def _periods(self, piece: Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        calendar, reading = self._survey.calendar, self._survey.reading
        column = self._flags.period_column
        again = np.zeros(len(piece), bool)
        try:
            read_periods = calendar.read(piece, column, "period_column", reading)
            found, again = read_periods.numbers, read_periods.again
        except InputError as error:
            found = _loosely(piece.need(column, "period_column"), calendar, self._survey)
            self._add("periods", str(error), int(np.isnan(found).sum()))
        good = np.isfinite(found) & (found >= self._first_period)
        if self._survey.stray:
            good &= (found >= self._survey.first) & (found <= self._survey.last)
        return np.where(good, found, 0).astype(np.int64), good, again

    def _counts(self, piece: Table, column: str, flag: str) -> tuple[np.ndarray, np.ndarray]:
        marks, zero = self._marks.get(column, PLAIN), self._flags.empty_counts == "zero"
        try:
            found = integers(piece, column, flag, what=column, marks=marks, empty_is_zero=zero)
            return found, np.ones(len(found), bool)
        except InputError as error:
            values = as_numbers(piece.need(column, flag), marks)
            good = np.isfinite(values) & (values == np.floor(values))
            good &= (values >= 0) & (values < LARGEST)
            self._add(f"counts {column}", str(error), int((~good).sum()))
            return np.where(good, values, 0).astype(np.int64), good


def as_numbers(data: pa.ChunkedArray, marks: Marks = PLAIN) -> np.ndarray:
    """Returns the numbers of a column as float64, NaN where it is empty.

    >>> as_numbers(pa.chunked_array([["1", "x"]]))
    array([ 1., nan])
    """
    if spelling.is_text(data.type):
        found = numbers.parsed(numbers.written(data), marks)
        return found.to_numpy(zero_copy_only=False).astype(float)
    if pa.types.is_boolean(data.type):
        data = data.cast(pa.int8())
    if pa.types.is_nested(data.type) or pa.types.is_temporal(data.type):
        return np.full(len(data), np.nan)
    return data.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)


def _loosely(data: pa.ChunkedArray, calendar: Calendar, survey: Survey) -> np.ndarray:
    """Returns numbers of periods, NaN where a value is not a period."""
    if calendar.kind == "integer":
        found = as_numbers(data)
        return np.where((found == np.floor(found)) & (np.abs(found) < 2**53), found, np.nan)
    times = time_columns.read(data, survey.reading, calendar.time_zone)
    return np.where(times.good, calendar.bins(times.local), np.nan)


def _without_duplicates(
    counts: Rows, rows: np.ndarray, so_far: Duplicates, ids: ItemIds, calendar: Calendar
) -> tuple[np.ndarray, Duplicates]:
    """Marks the first row of each item and period in a shard, and describes the others."""
    number = (rows["period"] - rows["period"].min(initial=0)) * 2 + rows["again"]
    keys = rows["item"] * (number.max(initial=0) + 1) + number
    first = repeats.firsts(keys)
    again = np.flatnonzero(first < np.arange(len(rows)))
    if not len(again):
        return np.ones(len(rows), bool), so_far
    one, other = rows[first[again]], rows[again]
    equal = (one["clicks"] == other["clicks"]) & (one["shares"] == other["shares"])
    exact, compared, differing = so_far.exact, so_far.compared, so_far.differing
    left = max(MOST_PAIRS - compared, 0)
    if left:
        columns = repeats.differences(counts, one["at"][:left], other["at"][:left])
        exact, compared = exact + int((columns == "").sum()), compared + len(columns)
        named = columns[(columns != "") & equal[:left]]
        differing = differing or (str(named[0]) if len(named) else "")
    example = so_far.example or (
        f"{counts.where_place(int(other['at'][0]))}: duplicate row for item "
        f"{quoted(ids.values[int(other['item'][0])].as_py())} in period "
        f"{calendar.label(int(other['period'][0]))}, after "
        f"{counts.where_place(int(one['at'][0]))}"
    )
    return first == np.arange(len(rows)), Duplicates(
        so_far.rows + len(again),
        so_far.equal + int(equal.sum()),
        exact,
        compared,
        example,
        differing,
    )
