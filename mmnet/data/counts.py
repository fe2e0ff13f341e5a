"""Counts of clicks and shares per item and period, as dense arrays on a calendar.

The table is read once, in chunks, and its rows are sorted into shards of items; the panel is then
filled one shard at a time. A single shard is the whole panel.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from mmnet.checks import quoted
from mmnet.config import TableFlags, TaskFlags
from mmnet.data import budgets, periods, rates, repeats, time_columns
from mmnet.data.arrays import FEWER, Allocate, exact_sum, in_memory
from mmnet.data.calendars import Calendar
from mmnet.data.counts_reading import NEVER, Chunk, Reader, row_type
from mmnet.data.ids import ItemIds, item_ids
from mmnet.data.ledger import Rule, so_far
from mmnet.data.numbers import recognised, reported
from mmnet.data.parquet import PIECE_ROWS
from mmnet.data.spool import Spool
from mmnet.data.tables import Block, Rows
from mmnet.data.threads import in_order

CELL_BYTES = 33
"""Bytes per item, period and rate of a shard: clicks, shares, a flag, and two running sums."""

SHARD_CELLS = 1 << 24
"""Most items × periods × rates of a shard, unless one item has more: half a gigabyte."""

NO_PERIOD = np.iinfo(np.int64).min
"""Number of an unknown period."""


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
        borders: first item of each shard, and the number of items; shards of `count`, divided where
            they would have more than `SHARD_CELLS`.
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
    _spooled: np.ndarray = field(repr=False)
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
        for items, rows in self._rows():
            yield items, self._checked(rows, items)

    def panel_of(self, number: int) -> Panel:
        """Builds the panel of one shard; several threads may build those of different shards.

        Raises:
            InputError: an item has two rows for one period.
        """
        items = slice(int(self.borders[number]), int(self.borders[number + 1]))
        spooled = int(np.searchsorted(self._spooled, items.start, side="right")) - 1
        return self._checked(self._own(self._read(spooled), items, spooled), items)

    def _checked(self, rows: np.ndarray, items: slice) -> Panel:
        """Builds the panel of a shard from its rows, without duplicates."""
        with so_far(lambda: self._rules):
            kept = self._without_repeats(rows, items)
        left_out = rows[~kept]
        early = left_out["period"] - self.first_period < self.release[left_out["item"]]
        clicks = ["clicks", *(f"clicks {of}" for of in range(len(self._rates)))]
        of_rates = (int((early & (left_out[name] > 0)).sum()) for name in clicks)
        self._repeats[items.start] = len(left_out), *of_rates
        return self._panel(rows[kept], items)

    def _rows(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Yields the items and the rows of each shard."""
        read = -1
        for items in self.shards:
            number = int(np.searchsorted(self._spooled, items.start, side="right")) - 1
            if number != read:
                rows, read = self._read(number), number
            yield items, self._own(rows, items, number)

    def _read(self, number: int) -> np.ndarray:
        """Returns the rows of a range of items as spooled, without those of later periods."""
        rows = self._spool.shard(number)
        return rows[rows["period"] < self.first_period + self.num_periods]

    def _own(self, rows: np.ndarray, items: slice, number: int) -> np.ndarray:
        """Returns the rows of some items of a range as spooled."""
        if (items.start, items.stop) == tuple(self._spooled[number : number + 2]):
            return rows
        return rows[(rows["item"] >= items.start) & (rows["item"] < items.stop)]

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
    threads: int = 1,
) -> Counted:
    """Checks a counts table, and sorts its rows into shards of items.

    Args:
        counts: one row per (item, period), in any order.
        items: one row per item; its order is the panel's.
        flags: column names, and how to handle unknown items.
        task: the first period to read.
        calendar: a fitted calendar that the period column must match; default: detect it.
        borders: first item of each shard, and the number of items; default: shards of at most
            `flags.shard_items` and `SHARD_CELLS`.
        threads: number of threads that read the table.

    Raises:
        InputError: a row breaks a rule of the counts table; the message has file, row and column.

    >>> import pyarrow as pa
    >>> from mmnet.data.tables import Table
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
    divide = borders is None
    if borders is None:
        borders = [*range(0, len(ids), flags.shard_items), len(ids)]
    spooled = np.asarray(borders, np.int64)
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
    reader = Reader(ids, flags, task, surveyed, given, marks)
    spool = Spool(row_type(len(further)), len(spooled) - 1, flags.engine_spill or None)

    def read(block: Block) -> list[tuple[Chunk, tuple[np.ndarray, np.ndarray]]]:
        found = []
        for piece in counts.pieces(PIECE_ROWS, columns(flags), [block]):
            chunk = reader.read(piece)
            shards = np.searchsorted(spooled, chunk.rows["item"], side="right") - 1
            found.append((chunk, spool.sorted(shards, chunk.rows)))
            if chunk.error is not None:
                break
        return found

    with so_far(reader.ledger):
        for chunks in in_order(read, counts.blocks(PIECE_ROWS), threads):
            for chunk, by_shard in chunks:
                reader.add(chunk)
                spool.hold(*by_shard)
        first, num_periods = reader.span(counts)
    finer = spooled
    if divide:
        finer = divided(spooled, SHARD_CELLS // max(1, num_periods * (1 + len(further))))
    largest = int(np.diff(finer).max(initial=0))
    budgets.check_memory(
        largest * num_periods * CELL_BYTES * (1 + len(further)),
        f"{counts.origin()}: {num_periods:,} periods of {largest:,} items",
        f"{FEWER}, or set a smaller --shard_items",
    )
    never = reader.first_seen == NEVER
    observed = np.where(never, num_periods, reader.first_seen - first)
    release = np.where(np.isnan(given), observed, given - first).astype(np.int64)
    return Counted(
        ids,
        finer,
        calendar,
        first,
        num_periods,
        release,
        ~np.isnan(given),
        np.where(never, NO_PERIOD, reader.first_seen),
        [*reported(counts, marks), *reader.ledger()],
        spool,
        spooled,
        counts,
        flags,
        tuple(further),
    )


def divided(borders: np.ndarray, most: int) -> np.ndarray:
    """Divides ranges of items into ranges of at most `most` items, or of one.

    >>> divided(np.array([0, 5, 7]), 2)
    array([0, 2, 4, 5, 7])
    """
    parts = [np.arange(start, stop, max(most, 1)) for start, stop in itertools.pairwise(borders)]
    return np.concatenate([*parts, borders[-1:]])


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
