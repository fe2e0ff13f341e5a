"""Counts of clicks and shares per item and period, as dense arrays on a calendar.

The table is read once, in chunks, and its rows are sorted into shards of items; the panel is then
filled one shard at a time. A single shard is the whole panel.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from mmnet import schema
from mmnet.checks import InputError, quoted
from mmnet.config import TableFlags, TaskFlags
from mmnet.data import budgets, periods, rates, repeats, time_columns
from mmnet.data.arrays import FEWER, Allocate, exact_sum, in_memory
from mmnet.data.calendars import MAX_PERIODS, Calendar
from mmnet.data.columns import id_texts, integers
from mmnet.data.ids import ItemIds, check_unknown, item_ids
from mmnet.data.ledger import Rule, so_far
from mmnet.data.numbers import Marks, recognised, reported
from mmnet.data.parquet import PIECE_ROWS
from mmnet.data.periods import Survey
from mmnet.data.spool import Spool
from mmnet.data.tables import Rows, Table

LARGEST_RATE_SUM = int(schema.LARGEST_RATE)
"""Percent; taxonomy means add up rates as int64 multiples of 2**-24 percent."""

CELL_BYTES = 33
"""Bytes per item, period and rate of a shard: clicks, shares, a flag, and two running sums."""

ROW = np.dtype(
    [(name, "i8") for name in ("item", "period", "clicks", "shares", "at")] + [("again", "?")]
)
"""A row in the spool: the item's row in its table, the period's number, its counts, its row in the
counts table, and whether the clock shows the period for the second time. `row_type` adds the counts
of further rates."""


NO_PERIOD = np.iinfo(np.int64).min
"""Number of an unknown period."""


def row_type(rates: int) -> np.dtype:
    """Returns `ROW` with the counts of further rates, `clicks 0` and `shares 0` of the first."""
    further = [
        (f"{name} {number}", "i8") for number in range(rates) for name in ("clicks", "shares")
    ]
    return np.dtype([*ROW.descr, *further]) if rates else ROW


class Counts(NamedTuple):
    """The counts of a further rate; as `clicks` and `shares` of `Panel`."""

    clicks: np.ndarray
    shares: np.ndarray


@dataclass
class Panel:
    """Dense counts, one row per item of the items table, one column per period.

    Attributes:
        item_ids: [items], strings, in the items table's order.
        clicks: int64 [items, periods].
        shares: int64 [items, periods].
        release: int64 [items], column in which an item was released (negative: before the first);
            the number of periods if the release is unknown and the item has no clicks.
        calendar: division of time into periods.
        first_period: the calendar number of column 0.
        release_given: bool [items], whether the items table has the release; None: for no item.
        rates: name of a further rate -> its counts, in the order of `--also_predict`.
    """

    item_ids: np.ndarray
    clicks: np.ndarray
    shares: np.ndarray
    release: np.ndarray
    calendar: Calendar
    first_period: int
    release_given: np.ndarray | None = None
    rates: dict[str, Counts] = field(default_factory=dict)

    def of_rate(self, rate: str) -> Panel:
        """Returns the panel of one rate, without the others.

        Args:
            rate: name of a further rate; empty for the main one.
        """
        if not rate:
            return dataclasses.replace(self, rates={}) if self.rates else self
        return dataclasses.replace(self, **self.rates[rate]._asdict(), rates={})

    def origins(self, *, given: bool) -> np.ndarray:
        """Returns the numbers of the periods that ages are counted from, int64 [items].

        Args:
            given: whether to use the releases of the items table, with `NO_PERIOD` where it has
                none, or else the first clicks.
        """
        start = self.release + self.first_period
        if not given:
            return start
        known = np.zeros(len(start), bool) if self.release_given is None else self.release_given
        return np.where(known, start, NO_PERIOD)

    @property
    def num_periods(self) -> int:
        """Columns."""
        return self.clicks.shape[1]

    def label(self, column: int) -> int | str:
        """Returns the period of a column as users write it."""
        return self.calendar.label(self.first_period + int(column))

    def clicks_in(self, column: int) -> int:
        """Returns the clicks of all items in a column's period, exact beyond int64."""
        return exact_sum(self.clicks[:, column])

    def part(self, items: slice) -> Panel:
        """Returns the panel of a range of items."""
        return dataclasses.replace(
            self,
            item_ids=self.item_ids[items],
            clicks=self.clicks[items],
            shares=self.shares[items],
            release=self.release[items],
            release_given=None if self.release_given is None else self.release_given[items],
            rates={
                name: Counts(*(array[items] for array in counts))
                for name, counts in self.rates.items()
            },
        )

    def columns(self, first: int, stop: int) -> Panel:
        """Returns the panel of a range of periods; negative `first` adds periods without clicks."""

        def cut(array: np.ndarray) -> np.ndarray:
            return np.pad(array[:, max(first, 0) : stop], ((0, 0), (max(-first, 0), 0)))

        return dataclasses.replace(
            self,
            clicks=cut(self.clicks),
            shares=cut(self.shares),
            release=self.release - first,
            first_period=self.first_period + first,
            rates={name: Counts(*map(cut, counts)) for name, counts in self.rates.items()},
        )


@dataclass
class Counted:
    """A checked counts table, with its rows sorted into shards of items.

    Attributes:
        ids: ids of all items.
        borders: first item of each shard, and the number of items.
        calendar: division of time into periods.
        first_period: the calendar number of a panel's column 0.
        num_periods: number of columns of a panel.
        release: int64 [items], as in `Panel`.
        release_given: bool [items], as in `Panel`.
        first_seen: int64 [items], number of the period of an item's first click; `NO_PERIOD` if
            it has no clicks.
        ledger: rows dropped by each rule; exact duplicates are counted only once the panels have
            been built.
    """

    ids: ItemIds
    borders: np.ndarray
    calendar: Calendar
    first_period: int
    num_periods: int
    release: np.ndarray
    release_given: np.ndarray
    first_seen: np.ndarray
    _rules: list[Rule] = field(repr=False)
    _spool: Spool = field(repr=False)
    _table: Rows = field(repr=False)
    _flags: TableFlags = field(repr=False)
    _rates: tuple[str, ...] = field(repr=False, default=())
    _repeats: dict[int, tuple[int, ...]] = field(repr=False, default_factory=dict)

    @property
    def ledger(self) -> list[Rule]:
        """Rows that each rule of the table dropped."""
        if self._flags.repeats == "fail":
            return self._rules
        rates = 1 + len(self._rates)
        rules, releases = self._rules[:-rates], self._rules[-rates:]
        nothing = (0,) * (1 + rates)
        repeated, *early = map(sum, zip(nothing, *self._repeats.values(), strict=True))
        rows_in = releases[0].rows_in
        rows = rows_in - repeated
        return [
            *rules,
            Rule("counts", repeats.RULE, rows_in, rows),
            *(
                dataclasses.replace(
                    release, rows_in=rows, rows_out=release.rows_out - repeated + of_rate
                )
                for release, of_rate in zip(releases, early, strict=True)
            ),
        ]

    def label(self, column: int) -> int | str:
        """Returns the period of a column as users write it."""
        return self.calendar.label(self.first_period + int(column))

    @property
    def shards(self) -> list[slice]:
        """The items of each shard."""
        return [slice(int(a), int(b)) for a, b in itertools.pairwise(self.borders)]

    def panels(self) -> Iterator[tuple[slice, Panel]]:
        """Yields the items and the panel of each shard.

        Raises:
            InputError: an item has two rows for one period.
        """
        for number, items in enumerate(self.shards):
            rows = self._spool.shard(number)
            rows = rows[rows["period"] < self.first_period + self.num_periods]
            with so_far(lambda: self._rules):
                kept = self._without_repeats(rows, items)
            left_out = rows[~kept]
            early = left_out["period"] - self.first_period < self.release[left_out["item"]]
            clicks = ["clicks", *(f"clicks {of}" for of in range(len(self._rates)))]
            of_rates = (int((early & (left_out[name] > 0)).sum()) for name in clicks)
            self._repeats[number] = len(left_out), *of_rates
            yield items, self._panel(rows[kept], items)

    def panel(self, allocate: Allocate = in_memory) -> Panel:
        """Builds the panel of all items, shard by shard.

        Args:
            allocate: allocates its arrays by name, shape and dtype.

        Raises:
            InputError: an item has two rows for one period.
        """
        shape = (len(self.ids), self.num_periods)
        clicks, shares = (allocate(name, shape, "int64") for name in ("clicks", "shares"))
        rates = {
            rate: Counts(*(allocate(f"{name}-{rate}", shape, "int64") for name in Counts._fields))
            for rate in self._rates
        }
        for items, part in self.panels():
            clicks[items], shares[items] = part.clicks, part.shares
            for rate, counts in rates.items():
                for array, of_part in zip(counts, part.rates[rate], strict=True):
                    array[items] = of_part
        ids = self.ids.part(slice(0, len(self.ids)))
        return Panel(
            *(ids, clicks, shares, self.release, self.calendar, self.first_period),
            *(self.release_given, rates),
        )

    def _panel(self, rows: np.ndarray, items: slice) -> Panel:
        shape = (items.stop - items.start, self.num_periods)
        cells = self._cells(rows, items)

        def filled(name: str) -> np.ndarray:
            found = np.zeros(shape[0] * shape[1], np.int64)
            for again in (False, True):  # the repeated hour at the end of summer time is added up
                part = rows["again"] == again
                if part.any():
                    found[cells[part]] += rows[name][part]
            return found.reshape(shape)

        return Panel(
            self.ids.part(items),
            filled("clicks"),
            filled("shares"),
            self.release[items],
            self.calendar,
            self.first_period,
            self.release_given[items],
            {
                rate: Counts(filled(f"clicks {number}"), filled(f"shares {number}"))
                for number, rate in enumerate(self._rates)
            },
        )

    def _cells(self, rows: np.ndarray, items: slice) -> np.ndarray:
        """Returns the position of each row in the flattened panel of its shard."""
        return (rows["item"] - items.start) * self.num_periods + rows["period"] - self.first_period

    def _without_repeats(self, rows: np.ndarray, items: slice) -> np.ndarray:
        """Marks the rows of a shard that are not exact duplicates of an earlier row, bool [rows].

        Raises:
            InputError: an item has two rows for one period, unless duplicates may be dropped.
        """
        of_panel = (items.stop - items.start) * self.num_periods
        cells = self._cells(rows, items) + of_panel * rows["again"]  # a repeated hour counts twice
        there = np.zeros(2 * of_panel, bool)
        there[cells] = True
        if there.sum() == len(rows):
            return np.ones(len(rows), bool)
        first = repeats.firsts(cells)
        again = np.flatnonzero(first < np.arange(len(rows)))
        pairs = rows["at"][first[again]], rows["at"][again]
        differs = repeats.differences(self._table, *pairs) != ""
        if differs.any() or self._flags.repeats == "fail":
            # Contradictions come first, since exact duplicates can be dropped by a flag.
            row = int(np.argmax(differs))
            self._refuse_repeated(rows[again[row]], *(int(place[row]) for place in pairs))
        return np.arange(len(rows)) == first

    def _refuse_repeated(self, row: np.ndarray, one: int, other: int) -> None:
        """Raises the error about two rows for one item and period."""
        name = self.ids.values[int(row["item"])].as_py()
        key = f"item {quoted(name)} in period {self.calendar.label(int(row['period']))}"
        advice = "keep the right one, or add them up if they are parts of one count"
        if self.calendar.kind == "time":
            advice += ", or make --period narrower if their times differ"
        raise repeats.refusal(self._table, one, other, key, advice)


def columns(flags: TableFlags) -> dict[str, str]:
    """Returns the columns of the counts table -> the flags that name them."""
    names = ("item_column", "period_column", "denominator", "numerator")
    found = {getattr(flags, name): name for name in names}
    for of_rate in rates.further(flags).values():
        found |= {column: "rate" for column in of_rate if column not in found}
    return found


def count(
    counts: Rows,
    items: Rows,
    flags: TableFlags,
    task: TaskFlags,
    *,
    calendar: Calendar | None = None,
    borders: Sequence[int] | np.ndarray | None = None,
) -> Counted:
    """Checks a counts table, and sorts its rows into shards of items.

    Args:
        counts: one row per (item, period), in any order.
        items: one row per item; its order is the panel's.
        flags: column names, and how to handle unknown items.
        task: the first period to read.
        calendar: a fitted calendar that the period column must match; default: detect it.
        borders: first item of each shard, and the number of items; default: shards of
            `flags.shard_items`.

    Raises:
        InputError: a row breaks a rule of the counts table; the message has file, row and column.

    >>> import pyarrow as pa
    >>> columns = {"item_id": ["b", "b"], "period": [3, 5], "clicks": [4, 2], "shares": [1, 0]}
    >>> counts = Table(pa.table(columns), "counts")
    >>> items = Table(pa.table({"item_id": ["a", "b"]}), "items")
    >>> panel = count(counts, items, TableFlags(), TaskFlags()).panel()
    >>> panel.clicks
    array([[0, 0, 0],
           [4, 0, 2]])
    >>> panel.release  # a: never seen; b: in the first column
    array([3, 0])
    """
    ids = item_ids(items, flags)
    if borders is None:
        borders = [*range(0, len(ids), flags.shard_items), len(ids)]
    borders = np.asarray(borders, np.int64)
    surveyed = periods.survey(counts, flags, task, calendar)
    calendar = surveyed.calendar
    given = _given_release(items, flags, calendar, len(ids))
    further = rates.further(flags)
    counted = {flags.denominator: "denominator", flags.numerator: "numerator"}
    for of_rate in further.values():
        counted |= {column: "rate" for column in of_rate if column not in counted}
    marks = {
        column: recognised(counts, column, flag, flags, whole=True)
        for column, flag in counted.items()
    }
    reader = _Reader(ids, flags, task, surveyed, given, marks)
    spool = Spool(row_type(len(further)), len(borders) - 1, flags.engine_spill or None)
    # Each lookup of ids first hashes all of them, so with many items the chunks are larger.
    with so_far(reader.ledger):
        for piece in counts.pieces(max(PIECE_ROWS, len(ids)), columns(flags)):
            rows = reader.read(piece)
            spool.add(np.searchsorted(borders, rows["item"], side="right") - 1, rows)
        first, num_periods = reader.span(counts)
    largest = int(np.diff(borders).max(initial=0))
    budgets.check_memory(
        largest * num_periods * CELL_BYTES * (1 + len(further)),
        f"{counts.origin()}: {num_periods:,} periods of {largest:,} items",
        f"{FEWER}, or set a smaller --shard_items",
    )
    never = reader.first_seen == _NEVER
    observed = np.where(never, num_periods, reader.first_seen - first)
    release = np.where(np.isnan(given), observed, given - first).astype(np.int64)
    return Counted(
        ids,
        borders,
        calendar,
        first,
        num_periods,
        release,
        ~np.isnan(given),
        np.where(never, NO_PERIOD, reader.first_seen),
        [*reported(counts, marks), *reader.ledger()],
        spool,
        counts,
        flags,
        tuple(further),
    )


_NEVER = np.iinfo(np.int64).max


class _Reader:
    """Reads and checks chunks of a counts table, and keeps the state between chunks."""

    def __init__(
        self,
        ids: ItemIds,
        flags: TableFlags,
        task: TaskFlags,
        surveyed: Survey,
        given_release: np.ndarray,
        marks: Mapping[str, Marks],
    ):
        self._ids, self._flags, self._marks = ids, flags, marks
        self._surveyed, self._calendar = surveyed, surveyed.calendar
        self._release = given_release
        self._first_period: int | None = None
        if task.first_period:
            self._first_period = self._calendar.number(task.first_period, "first_period")
        self.first_seen = np.full(len(ids), _NEVER)
        # Rows that reached each rule after it was applied, and rows that it kept.
        self._read = self._known = self._dated = self._in_time = self._near = 0
        self._counted = self._again = 0
        self._first, self._last = _NEVER, -_NEVER
        self._further = rates.further(flags)
        self._rates: dict[tuple[rates.Columns, int], float] = {}
        self._per_period: list[pd.DataFrame] = []
        self._partial: Rule | None = None

    def read(self, piece: Table) -> np.ndarray:
        """Returns the rows of a chunk that are kept, as `ROW`."""
        flags = self._flags
        rows_in = len(piece)
        piece, items = self._of_known_items(piece)
        self._read, self._known = self._read + rows_in, self._known + len(piece)
        found = self._calendar.read(
            piece, flags.period_column, "period_column", self._surveyed.reading
        )
        numbers, again, rows_in = found.numbers.astype(np.int64), found.again, len(piece)
        if self._first_period is not None:
            late = numbers >= self._first_period
            piece, items, numbers = piece.keep(late), items[late], numbers[late]
            again = again[late]
        self._dated, self._in_time = self._dated + rows_in, self._in_time + len(piece)
        if self._surveyed.stray:
            near = (numbers >= self._surveyed.first) & (numbers <= self._surveyed.last)
            piece, items, numbers = piece.keep(near), items[near], numbers[near]
            again = again[near]
        self._near += len(piece)
        own = rates.Columns(flags.denominator, flags.numerator)
        clicks = self._counts(piece, own.denominator, "denominator")
        shares = self._counts(piece, own.numerator, "numerator")
        self._check_rates(piece, numbers, own, clicks, shares)
        if len(piece):
            self._first = min(self._first, int(numbers.min()))
            self._last = max(self._last, int(numbers.max()))
        self._counted += len(piece)
        seen = clicks > 0
        np.minimum.at(self.first_seen, items[seen], numbers[seen])
        self._again += int(again.sum())
        here = {"rows": 1, "clicks": clicks.astype(float)}
        early = numbers < self._release[items]
        here["early"] = seen & early
        rows = np.empty(len(piece), row_type(len(self._further)))
        for number, (rate, columns) in enumerate(self._further.items()):
            below, above = (self._counts(piece, column, "rate") for column in columns)
            self._check_rates(piece, numbers, columns, below, above)
            here[f"early {rate}"] = (below > 0) & early
            rows[f"clicks {number}"], rows[f"shares {number}"] = below, above
        self._per_period.append(pd.DataFrame(here, index=numbers).groupby(level=0).sum())
        rows["item"], rows["period"], rows["at"] = items, numbers, piece.places
        rows["clicks"], rows["shares"], rows["again"] = clicks, shares, again
        return rows

    def _counts(self, piece: Table, column: str, flag: str) -> np.ndarray:
        zero = self._flags.empty_counts == "zero"
        marks = self._marks[column]
        return integers(piece, column, flag, what=column, marks=marks, empty_is_zero=zero)

    def span(self, counts: Rows) -> tuple[int, int]:
        """Returns the first period and the number of periods, without an incomplete last one.

        Raises:
            InputError: there are no periods, or too many.
        """
        if not self._near:
            raise InputError(f"{counts.origin()}: no rows are left after the rules above")
        num_periods = self._last - self._first + 1
        if num_periods > MAX_PERIODS:
            label = self._calendar.label
            raise InputError(
                f"{counts.origin()}: periods run from {label(self._first)} to "
                f"{label(self._last)}, which are {num_periods}; write dates as 2024-05-31, "
                "or use a wider --period"
            )
        for columns, number in self._rates:
            if self._rates[columns, number] >= LARGEST_RATE_SUM:
                raise InputError(
                    f"{counts.origin()}: rates add up to more than {LARGEST_RATE_SUM:,} percent in "
                    f"one period; use a smaller unit for {columns.denominator}, or a larger one "
                    f"for {columns.numerator}"
                )
        return self._first, num_periods - self._leave_out_partial(num_periods)

    def _leave_out_partial(self, num_periods: int) -> bool:
        """Checks whether the last period has so few clicks that it must be incomplete."""
        table = pd.concat(self._per_period).groupby(level=0).sum()
        clicks = table["clicks"].reindex(range(self._first, self._last + 1), fill_value=0)
        # For events, this was checked when they were counted, with exact times.
        if self._flags.use_partial or self._flags.events or not periods.too_few(clicks.to_numpy()):
            return False
        lost = int(table["rows"].iloc[-1])
        reason = f"has {int(clicks.iloc[-1]):,} {self._flags.denominator}, {periods.FEWER}"
        label = self._calendar.label(self._last)
        self._partial = periods.partial_rule("counts", label, reason, self._near, self._near - lost)
        self._per_period = [table.iloc[:-1]]
        return True

    def ledger(self) -> list[Rule]:
        """Returns how many rows each rule has dropped so far."""
        found = [Rule("counts", "item is in the items table", self._read, self._known)]
        if self._first_period is not None:
            found.append(Rule("counts", "not before --first_period", self._dated, self._in_time))
        if stray := self._surveyed.stray:
            found.append(Rule("counts", periods.STRAY, self._in_time, self._near, stray))
        if self._partial:
            found.append(self._partial)
        left = self._partial.rows_out if self._partial else self._counted
        if self._again:
            rule = "both occurrences of the repeated hour at the end of summer time are added up"
            note = f"{self._again:,} rows were of the second one"
            found.append(Rule("counts", rule, left, left, note))
        note = "earlier periods count as missing"
        for rate in ("", *self._further):
            column, stage = (f"early {rate}", f"counts, {rate}") if rate else ("early", "counts")
            early = int(sum(table[column].sum() for table in self._per_period))
            found.append(Rule(stage, "not before the item's release", left, left - early, note))
        return [rule for rule in found if rule.rows_in]

    def _of_known_items(self, piece: Table) -> tuple[Table, np.ndarray]:
        column = self._flags.item_column
        who = id_texts(piece, column, "item_column")
        items = self._ids.rows(who)
        known = items >= 0
        if known.all():
            return piece, items
        row, drop = int(np.argmax(~known)), self._flags.unknown_items == "drop"
        unknown = pc.unique(who.filter(pa.array(~known)))
        check_unknown(self._ids, unknown, piece.where(row, column), drop=drop)
        if not drop:
            fix = "add it, or set --unknown_items=drop"
            if not known.any():  # nothing would be left
                fix = f"nor is any other; does --item_column={column} name the ids of both tables?"
            raise InputError(
                f"{piece.where(row, column)}: item {quoted(who[row].as_py())} is not in the items "
                f"table ({np.sum(~known)} such rows); {fix}"
            )
        return piece.keep(known), items[known]

    def _check_rates(
        self,
        piece: Table,
        numbers: np.ndarray,
        columns: rates.Columns,
        clicks: np.ndarray,
        shares: np.ndarray,
    ) -> None:
        """Raises an error if shares exceed clicks; if that is allowed, sums the rates by period."""
        above = shares > clicks
        if self._flags.rate_may_exceed_one:
            found = pd.Series(100.0 * shares / np.maximum(clicks, 1)).groupby(numbers).sum()
            for number, rate in found.items():
                key = columns, number
                self._rates[key] = self._rates.get(key, 0.0) + rate
        elif above.any():
            row = int(np.argmax(above))
            raise InputError(
                f"{piece.where(row, columns.numerator)}: {shares[row]} {columns.numerator} of "
                f"{clicks[row]} {columns.denominator}; {columns.numerator} must not exceed "
                f"{columns.denominator}. If they are not a subset, set --rate_may_exceed_one"
            )


def _given_release(
    items: Rows, flags: TableFlags, calendar: Calendar, num_items: int
) -> np.ndarray:
    """Returns the period number of each item's release, float64 [items]; NaN where not given."""
    if not flags.release:
        return np.full(num_items, np.nan)
    reading = time_columns.reading_of(items, flags.release, "release", flags)
    pieces = items.pieces(PIECE_ROWS, {flags.release: "release"})
    return np.concatenate(
        [
            calendar.read(piece, flags.release, "release", reading, allow_empty=True).numbers
            for piece in pieces
        ]
    )
