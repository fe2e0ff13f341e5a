"""Counts of clicks and shares per item and period, as dense arrays on a calendar."""

from __future__ import annotations

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
            values = tables.floats(table, column, flag)
            bad = values != np.floor(values)
        else:
            times = _times(data, self.time_zone)
            values = np.floor((times - ANCHOR) / pd.Timedelta(seconds=self.width)).to_numpy(float)
            empty = data.to_pandas().astype("string").fillna("").str.strip() == ""
            bad = np.isnan(values) & ~empty.to_numpy()
        if not allow_empty:
            bad |= np.isnan(values)
        else:
            bad &= ~np.isnan(values) | (self.kind == "time")
        if bad.any():
            row = int(np.argmax(bad))
            wanted = "a whole number" if self.kind == "integer" else "a date or time (ISO 8601)"
            raise InputError(
                f"{table.where(row, column)}: a period must be {wanted}. "
                f"Received: {data[row].as_py()!r}"
            )
        return values

    def label(self, number: int) -> int | str:
        """A period as users write it: the integer, or the ISO start of the bin."""
        if self.kind == "integer":
            return int(number)
        start = ANCHOR + int(number) * pd.Timedelta(seconds=self.width)
        return start.date().isoformat() if start == start.normalize() else start.isoformat()

    def number(self, label: str, flag: str) -> int:
        """The number of a period given on the command line.

        Raises:
            InputError: it is no period.
        """
        column = pa.chunked_array([pa.array([label])])
        try:
            values = self.numbers(Table(pa.table({flag: column}), "flag"), flag, flag)
        except InputError:
            wanted = "a whole number" if self.kind == "integer" else "a date or time (ISO 8601)"
            raise InputError(f"--{flag}: a period must be {wanted}. Received: {label!r}") from None
        return int(values[0])


def _times(data: pa.ChunkedArray, time_zone: str) -> pd.Series:
    """Local naive times; NaT where there is none."""
    values = data.to_pandas()
    if pa.types.is_timestamp(data.type) or pa.types.is_date(data.type):
        times = pd.to_datetime(values)
    else:
        times = pd.to_datetime(values.astype("string"), errors="coerce", format="ISO8601", utc=None)
    if times.dt.tz is not None:
        times = times.dt.tz_convert(time_zone).dt.tz_localize(None)
    return times


def calendar_of(table: Table, flags: TableFlags) -> Calendar:
    """Chooses the calendar that a counts table's period column needs.

    Raises:
        InputError: `--period` or `--time_zone` cannot be read.
    """
    data = table.need(flags.period_column, "period_column")
    numeric = pa.types.is_integer(data.type) or pa.types.is_floating(data.type)
    if not numeric and not pa.types.is_temporal(data.type):
        raw = data.to_pandas().astype("string").str.strip()
        numeric = bool(raw.str.fullmatch(r"-?\d+").fillna(False).mean() > 0.5)
    if numeric:
        return Calendar(kind="integer")
    try:
        width = pd.Timedelta(flags.period).total_seconds()
    except ValueError:
        width = 0
    if width < 1:
        raise InputError(
            f"--period must be a width such as 1h, 1d or 7d. Received: {flags.period!r}"
        )
    try:
        pd.Timestamp("2000-01-01", tz=flags.time_zone)
    except Exception as error:  # the zone libraries raise their own kinds
        raise InputError(f"--time_zone: {error}. Use a name such as Asia/Shanghai") from None
    return Calendar(kind="time", width=int(width), time_zone=flags.time_zone)


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
        InputError: what DESIGN calls bad input, with file, row and column.

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
        raise InputError(
            f"{counts.origin()}: no row of the counts table is left after the rules above"
        )

    first, last = int(numbers.min()), int(numbers.max())
    columns = numbers - first
    num_periods = last - first + 1
    if num_periods > MAX_PERIODS:
        raise InputError(
            f"{counts.origin()}: periods run from {calendar.label(first)} to {calendar.label(last)}, "
            f"{num_periods} of them; dates must be written as 2024-05-31, and --period may be wider"
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
