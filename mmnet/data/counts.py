"""Counts of clicks and shares per item and period, as dense arrays on a calendar."""

from __future__ import annotations

import re
import zoneinfo
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from mmnet.checks import InputError
from mmnet.config import TableFlags, TaskFlags
from mmnet.data import tables
from mmnet.data.tables import Rule, Table

ANCHOR = pd.Timestamp("1970-01-05")
"""Periods are counted from this Monday, so their borders never depend on the data."""

MAX_PERIODS = 20_000

LARGEST_RATE_SUM = 1 << 38
"""Percent; taxonomy means add rates up as int64 multiples of 2**-24 percent."""


class Calendar(BaseModel):
    """Maps periods, as users write them, to integers and back.

    An integer period stands for itself. A time belongs to the bin of `width` that it falls into;
    bins are cut on the clock of `time_zone` and counted from Monday, 1970-01-05, so a 7-day bin
    starts on a Monday whatever the data.

    Attributes:
        kind: integer or time.
        width: of a bin, in seconds; 0 for integers.
        time_zone: whose clock cuts the bins.
    """

    model_config = ConfigDict(frozen=True)

    kind: str
    width: int = 0
    time_zone: str = "UTC"

    def numbers(
        self, table: Table, column: str, flag: str, *, allow_empty: bool = False
    ) -> np.ndarray:
        """Period numbers of a column, float64 with NaN where empty.

        Raises:
            InputError: a value that is no period, with its row.
        """
        data = table.need(column, flag)
        if self.kind == "integer":
            values = tables.floats(table, column, flag, rule=self._rule)
            whole = (values == np.floor(values)) & (np.abs(values) < 2**53)  # beyond, floats skip
            bad = ~np.isnan(values) & ~whole
        else:
            times = _times(data, self.time_zone)
            values = ((times - ANCHOR) // pd.Timedelta(seconds=self.width)).to_numpy(float)
            empty = data.to_pandas().astype("string").fillna("").str.strip() == ""
            bad = np.isnan(values) & ~empty.to_numpy()
        if not allow_empty:
            bad |= np.isnan(values)
        if bad.any():
            row = int(np.argmax(bad))
            raise InputError(
                f"{table.where(row, column)}: {self._rule}. Received: {data[row].as_py()!r}"
            )
        return values

    def describe(self) -> str:
        """The calendar in words, for messages."""
        if self.kind == "integer":
            return "periods given as integers"
        return f"periods of {pd.Timedelta(seconds=self.width)} on the clock of {self.time_zone}"

    @property
    def _rule(self) -> str:
        wanted = "a whole number" if self.kind == "integer" else "a date or time (ISO 8601)"
        return f"a period must be {wanted}"

    def label(self, number: int) -> int | str:
        """A period as users write it: the integer, or the ISO start of the bin."""
        if self.kind == "integer":
            return int(number)
        start = ANCHOR + int(number) * pd.Timedelta(seconds=self.width)
        return start.date().isoformat() if start == start.normalize() else start.isoformat()

    def periods(self, numbers: np.ndarray) -> pd.Series:
        """Periods as a column of the input's own type: integers, dates or times."""
        if self.kind == "integer":
            return pd.Series(numbers, dtype="int64")
        starts = pd.Series(ANCHOR + numbers * pd.Timedelta(seconds=self.width))
        days = self.width % 86_400 == 0
        return starts.dt.date if days else starts.astype("datetime64[s]")

    def number(self, label: str, flag: str) -> int:
        """The number of a period given on the command line.

        Raises:
            InputError: it is no period.
        """
        column = pa.chunked_array([pa.array([label])])
        try:
            values = self.numbers(Table(pa.table({flag: column}), "flag"), flag, flag)
        except InputError:
            raise InputError(f"--{flag}: {self._rule}. Received: {label!r}") from None
        return int(values[0])


_ZONED = r"[T ]\d{2}.*(?:Z|[+-]\d{2}(?::?\d{2})?)$"


def _times(data: pa.ChunkedArray, time_zone: str) -> pd.Series:
    """Times on the clock of a zone; NaT where there is none.

    A time without a zone is already on that clock; one with an offset is converted, each by its
    own, since the offsets of a zone with daylight saving differ within a year.
    """
    if pa.types.is_timestamp(data.type):
        return _on_clock(pd.to_datetime(data.to_pandas()), time_zone)
    if pa.types.is_date(data.type):
        return data.cast(pa.timestamp("ms")).to_pandas()
    raw = data.to_pandas().astype("string").str.strip()
    zoned = raw.str.contains(_ZONED).fillna(False).to_numpy(bool)
    times = pd.to_datetime(raw.mask(zoned), errors="coerce", format="ISO8601")
    if zoned.any():
        converted = pd.to_datetime(raw[zoned], errors="coerce", format="ISO8601", utc=True)
        times = times.astype("datetime64[us]")
        times[zoned] = _on_clock(converted, time_zone)
    return times


def _on_clock(times: pd.Series, time_zone: str) -> pd.Series:
    return times if times.dt.tz is None else times.dt.tz_convert(time_zone).dt.tz_localize(None)


def calendar_of(table: Table, flags: TableFlags) -> Calendar:
    """Chooses the calendar that a counts table's period column needs.

    Raises:
        InputError: `--period` or `--time_zone` cannot be read, or the periods are dates written
            as numbers (a year of them would read as 1,131 periods, most of them empty).
    """
    data = table.need(flags.period_column, "period_column")
    numeric = pa.types.is_integer(data.type) or pa.types.is_floating(data.type)
    if not numeric and not pa.types.is_temporal(data.type):
        raw = data.to_pandas().astype("string").str.strip()
        numeric = bool(raw.str.fullmatch(r"-?\d+").fillna(False).mean() > 0.5)
    if numeric:
        calendar = Calendar(kind="integer")
        numbers = calendar.numbers(table, flags.period_column, "period_column", allow_empty=True)
        if are_dates(numbers[~np.isnan(numbers)]):
            raise InputError(
                f"{table.where(0, flags.period_column)}: {data[0].as_py()} is a date written as a "
                "number, and numbers count periods; write it as 2024-05-31"
            )
        return calendar
    return calendar_of_times(flags)


def calendar_of_times(flags: TableFlags) -> Calendar:
    """The calendar that `--period` and `--time_zone` describe.

    Raises:
        InputError: one of the two cannot be read.
    """
    width = seconds(flags.period, "period")
    try:
        zoneinfo.ZoneInfo(flags.time_zone)
    except (KeyError, ValueError, OSError):  # unknown; no name of a zone; a directory of zones
        raise InputError(
            f"--time_zone must be a name such as Asia/Shanghai. Received: {flags.time_zone!r}"
        ) from None
    return Calendar(kind="time", width=width, time_zone=flags.time_zone)


def seconds(text: str, flag: str) -> int:
    """The length of a width such as 1h, 1d or 7d.

    Raises:
        InputError: it is none, or not of whole seconds.
    """
    try:
        # pandas spells days and weeks with a capital.
        spelled = re.sub(r"\d\s*[dw](?![a-z])", lambda unit: unit[0].upper(), text)
        width = pd.Timedelta(spelled).total_seconds()
    except ValueError:
        width = 0
    if not width >= 1 or width % 1:
        raise InputError(f"--{flag} must be a width such as 1h, 1d or 7d. Received: {text!r}")
    return int(width)


def are_dates(numbers: np.ndarray) -> bool:
    """Whether all numbers read as yyyymmdd of the years 1900 to 2199."""
    year, month, day = numbers // 10_000, numbers // 100 % 100, numbers % 100
    dates = (year >= 1900) & (year < 2200) & (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)
    return len(numbers) > 0 and bool(dates.all())


@dataclass
class Panel:
    """Dense counts, one row per item of the items table, one column per period.

    Attributes:
        item_ids: [items], strings, in the items table's order.
        clicks: int64 [items, periods].
        shares: int64 [items, periods].
        release: int64 [items], column in which an item was released (negative: before the first);
            the number of periods where it is not known and nothing was observed yet.
        calendar: what the columns mean.
        first_period: the calendar number of column 0.
    """

    item_ids: np.ndarray
    clicks: np.ndarray
    shares: np.ndarray
    release: np.ndarray
    calendar: Calendar
    first_period: int

    @property
    def num_periods(self) -> int:
        """Columns."""
        return self.clicks.shape[1]

    def label(self, column: int) -> int | str:
        """The period of a column as users write it."""
        return self.calendar.label(self.first_period + int(column))


def item_ids(items: Table, flags: TableFlags) -> np.ndarray:
    """Returns the ids of the items table.

    Raises:
        InputError: an empty or repeated id, with its row.
    """
    ids = tables.strings(items, flags.item_column, "item_column")
    empty = ids == ""
    if empty.any():
        raise InputError(
            f"{items.where(int(np.argmax(empty)), flags.item_column)}: an item id is empty"
        )
    repeated = pd.Series(ids).duplicated().to_numpy()
    if repeated.any():
        row = int(np.argmax(repeated))
        raise InputError(
            f"{items.where(row, flags.item_column)}: item {ids[row]!r} stands here a second time; "
            "the items table needs one row per item"
        )
    return ids


def panel(
    counts: Table,
    items: Table,
    flags: TableFlags,
    task: TaskFlags,
    *,
    calendar: Calendar | None = None,
) -> tuple[Panel, list[Rule]]:
    """Checks a counts table and lays it out as a dense panel.

    Args:
        counts: one row per (item, period), in any order.
        items: one row per item; its order is the panel's.
        flags: column names, and what to do with unknown items.
        task: the first period to read.
        calendar: a fitted one; otherwise the one that the period column needs.

    Returns:
        The panel and the ledger of what was dropped.

    Raises:
        InputError: a row breaks a rule of the counts table; it names file, row and column.

    >>> columns = {"item_id": ["b", "b"], "period": [3, 5], "clicks": [4, 2], "shares": [1, 0]}
    >>> counts = pa.table(columns)
    >>> items = Table(pa.table({"item_id": ["a", "b"]}), "items")
    >>> found, _ = panel(Table(counts, "counts"), items, TableFlags(), TaskFlags())
    >>> found.clicks
    array([[0, 0, 0],
           [4, 0, 2]])
    >>> found.release  # a: never seen; b: in the first column
    array([3, 0])
    """
    ids = item_ids(items, flags)
    calendar = calendar or calendar_of(counts, flags)
    ledger = []

    who = tables.strings(counts, flags.item_column, "item_column")
    rows = pd.Index(ids).get_indexer(who)
    known = rows >= 0
    if not known.all() and flags.unknown_items == "fail":
        row = int(np.argmax(~known))
        raise InputError(
            f"{counts.where(row, flags.item_column)}: item {who[row]!r} is not in the items table "
            f"({np.sum(~known)} such rows); add it, or set --unknown_items=drop"
        )
    ledger.append(Rule("counts", "item is in the items table", len(counts), int(known.sum())))
    counts, rows = counts.keep(known), rows[known]

    numbers = calendar.numbers(counts, flags.period_column, "period_column").astype(np.int64)
    if task.first_period:
        late = numbers >= calendar.number(task.first_period, "first_period")
        ledger.append(Rule("counts", "not before --first_period", len(counts), int(late.sum())))
        counts, rows, numbers = counts.keep(late), rows[late], numbers[late]
    if not len(counts):
        raise InputError(f"{counts.origin()}: no row of the table is left after the rules above")

    first, last = int(numbers.min()), int(numbers.max())
    columns = numbers - first
    num_periods = last - first + 1
    if num_periods > MAX_PERIODS:
        raise InputError(
            f"{counts.origin()}: periods run from {calendar.label(first)} to "
            f"{calendar.label(last)}, {num_periods} of them; dates must be written as 2024-05-31, "
            "and --period may be wider"
        )

    clicks = tables.integers(counts, flags.denominator, "denominator", what=flags.denominator)
    shares = tables.integers(counts, flags.numerator, "numerator", what=flags.numerator)
    above = shares > clicks
    if above.any() and not flags.rate_may_exceed_one:
        row = int(np.argmax(above))
        raise InputError(
            f"{counts.where(row, flags.numerator)}: {shares[row]} {flags.numerator} of "
            f"{clicks[row]} {flags.denominator}; a share is counted only where there is a click. "
            "If the numerator is no part of the denominator, set --rate_may_exceed_one"
        )
    order = np.lexsort((columns, rows))
    again = (np.diff(rows[order]) == 0) & (np.diff(columns[order]) == 0)
    if again.any():
        row = int(order[1:][again].min())
        raise InputError(
            f"{counts.where(row)}: item {ids[rows[row]]!r} has two rows for period "
            f"{calendar.label(int(numbers[row]))}; add them up, or make --period narrower"
        )

    shape = (len(ids), num_periods)
    dense_clicks, dense_shares = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    dense_clicks[rows, columns] = clicks
    dense_shares[rows, columns] = shares
    if flags.rate_may_exceed_one:
        rates = 100.0 * shares / np.maximum(clicks, 1)
        if np.bincount(columns, rates).max() >= LARGEST_RATE_SUM:
            raise InputError(
                f"{counts.origin()}: rates add up to more than {LARGEST_RATE_SUM:,} percent in one "
                f"period; give {flags.denominator} in a smaller unit, or {flags.numerator} in a "
                "larger one"
            )
    release = _release(items, flags, calendar, first, dense_clicks)
    early = np.arange(num_periods) < release[:, None]
    before = int((early & (dense_clicks > 0)).sum())
    ledger.append(
        Rule(
            "counts",
            "not before the item's release",
            len(counts),
            len(counts) - before,
            "earlier periods count as missing",
        )
    )
    return Panel(ids, dense_clicks, dense_shares, release, calendar, first), ledger


def _release(
    items: Table, flags: TableFlags, calendar: Calendar, first: int, clicks: np.ndarray
) -> np.ndarray:
    seen = clicks > 0
    observed = np.where(seen.any(axis=1), seen.argmax(axis=1), clicks.shape[1])
    if not flags.release:
        return observed
    given = calendar.numbers(items, flags.release, "release", allow_empty=True) - first
    return np.where(np.isnan(given), observed, given).astype(np.int64)
