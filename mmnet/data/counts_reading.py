"""Rows of a counts table: chunks of it are read, checked and counted by the rules of the ledger."""

from __future__ import annotations

import collections
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from mmnet import schema
from mmnet.checks import InputError, quoted
from mmnet.config import TableFlags, TaskFlags
from mmnet.data import periods, rates
from mmnet.data.calendars import MAX_PERIODS
from mmnet.data.columns import id_texts, integers
from mmnet.data.ids import ItemIds, check_unknown
from mmnet.data.ledger import Rule
from mmnet.data.numbers import Marks
from mmnet.data.periods import Survey
from mmnet.data.tables import Rows, Table

LARGEST_RATE_SUM = int(schema.LARGEST_RATE)
"""Percent; taxonomy means add up rates as int64 multiples of 2**-24 percent."""

ROW = np.dtype(
    [(name, "i8") for name in ("item", "period", "clicks", "shares", "at")] + [("again", "?")]
)
"""A row in the spool: the item's row in its table, the period's number, its counts, its row in the
counts table, and whether the clock shows the period for the second time. `row_type` adds the counts
of further rates."""


def row_type(rates: int) -> np.dtype:
    """Returns `ROW` with the counts of further rates, `clicks 0` and `shares 0` of the first."""
    further = [
        (f"{name} {number}", "i8") for number in range(rates) for name in ("clicks", "shares")
    ]
    return np.dtype([*ROW.descr, *further]) if rates else ROW


NEVER = np.iinfo(np.int64).max
"""Period of the first click of an item that has none."""


@dataclass
class Chunk:
    """The contents of a chunk of a counts table, up to its first mistake.

    Attributes:
        rows: the rows that are kept, as `row_type`.
        reached: number of rows that reached the rule of each name, after it was applied.
        again: number of rows of a period that the clock shows for the second time.
        first, last: numbers of the first and last period.
        per_period: rows, clicks, and rows before the release, by number of the period.
        rates: columns of a rate, number of a period -> sum of rates.
        error: the mistake.
    """

    rows: np.ndarray
    reached: dict[str, int] = field(default_factory=dict)
    again: int = 0
    first: int = NEVER
    last: int = -NEVER
    per_period: pd.DataFrame | None = None
    rates: dict[tuple[rates.Columns, int], float] = field(default_factory=dict)
    error: InputError | None = None


class Reader:
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
        self.first_seen = np.full(len(ids), NEVER)
        self._reached: collections.Counter[str] = collections.Counter()
        self._again = 0
        self._first, self._last = NEVER, -NEVER
        self._further = rates.further(flags)
        self._rates: dict[tuple[rates.Columns, int], float] = {}
        self._per_period: list[pd.DataFrame] = []
        self._partial: Rule | None = None

    def read(self, piece: Table) -> Chunk:
        """Reads a chunk, in any thread; `add` takes it into account."""
        chunk = Chunk(np.zeros(0, row_type(len(self._further))))
        try:
            self._read(piece, chunk)
        except InputError as error:
            chunk.error = error
        return chunk

    def add(self, chunk: Chunk) -> None:
        """Adds a chunk to those before, in the order of the table.

        Raises:
            InputError: the chunk has a mistake.
        """
        self._reached.update(chunk.reached)
        for key, rate in chunk.rates.items():
            self._rates[key] = self._rates.get(key, 0.0) + rate
        self._again += chunk.again
        self._first, self._last = min(self._first, chunk.first), max(self._last, chunk.last)
        if chunk.error is not None:
            raise chunk.error
        if chunk.per_period is not None:
            self._per_period.append(chunk.per_period)
        seen = chunk.rows["clicks"] > 0
        np.minimum.at(self.first_seen, chunk.rows["item"][seen], chunk.rows["period"][seen])

    def _read(self, piece: Table, chunk: Chunk) -> None:
        flags, reached = self._flags, chunk.reached
        rows_in = len(piece)
        piece, items = self._of_known_items(piece)
        reached |= {"read": rows_in, "known": len(piece)}
        found = self._calendar.read(
            piece, flags.period_column, "period_column", self._surveyed.reading
        )
        numbers, again, rows_in = found.numbers.astype(np.int64), found.again, len(piece)
        if self._first_period is not None:
            late = numbers >= self._first_period
            piece, items, numbers = piece.keep(late), items[late], numbers[late]
            again = again[late]
        reached |= {"dated": rows_in, "in_time": len(piece)}
        if self._surveyed.stray:
            near = (numbers >= self._surveyed.first) & (numbers <= self._surveyed.last)
            piece, items, numbers = piece.keep(near), items[near], numbers[near]
            again = again[near]
        reached["near"] = len(piece)
        own = rates.Columns(flags.denominator, flags.numerator)
        clicks = self._counts(piece, own.denominator, "denominator")
        shares = self._counts(piece, own.numerator, "numerator")
        self._check_rates(piece, numbers, own, clicks, shares, chunk)
        if len(piece):
            chunk.first, chunk.last = int(numbers.min()), int(numbers.max())
        reached["counted"] = len(piece)
        chunk.again = int(again.sum())
        here = {"rows": np.ones(len(piece)), "clicks": clicks.astype(float)}
        early = numbers < self._release[items]
        here["early"] = (clicks > 0) & early
        rows = np.empty(len(piece), row_type(len(self._further)))
        for number, (rate, columns) in enumerate(self._further.items()):
            below, above = (self._counts(piece, column, "rate") for column in columns)
            self._check_rates(piece, numbers, columns, below, above, chunk)
            here[f"early {rate}"] = (below > 0) & early
            rows[f"clicks {number}"], rows[f"shares {number}"] = below, above
        chunk.per_period = _by_period(numbers, here)
        rows["item"], rows["period"], rows["at"] = items, numbers, piece.places
        rows["clicks"], rows["shares"], rows["again"] = clicks, shares, again
        chunk.rows = rows

    def _counts(self, piece: Table, column: str, flag: str) -> np.ndarray:
        zero = self._flags.empty_counts == "zero"
        marks = self._marks[column]
        return integers(piece, column, flag, what=column, marks=marks, empty_is_zero=zero)

    def span(self, counts: Rows) -> tuple[int, int]:
        """Returns the first period and the number of periods, without an incomplete last one.

        Raises:
            InputError: there are no periods, or too many.
        """
        if not self._reached["near"]:
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
        rows = self._reached["near"]
        self._partial = periods.partial_rule("counts", label, reason, rows, rows - lost)
        self._per_period = [table.iloc[:-1]]
        return True

    def ledger(self) -> list[Rule]:
        """Returns how many rows each rule has dropped so far."""
        reached = self._reached
        found = [Rule("counts", "item is in the items table", reached["read"], reached["known"])]
        if self._first_period is not None:
            dated, in_time = reached["dated"], reached["in_time"]
            found.append(Rule("counts", "not before --first_period", dated, in_time))
        if stray := self._surveyed.stray:
            rows_in, rows_out = reached["in_time"], reached["near"]
            found.append(Rule("counts", periods.STRAY, rows_in, rows_out, stray))
        if self._partial:
            found.append(self._partial)
        left = self._partial.rows_out if self._partial else reached["counted"]
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
        chunk: Chunk,
    ) -> None:
        """Raises an error if shares exceed clicks; if that is allowed, sums the rates by period."""
        above = shares > clicks
        if self._flags.rate_may_exceed_one:
            found = pd.Series(100.0 * shares / np.maximum(clicks, 1)).groupby(numbers).sum()
            for number, rate in found.items():
                chunk.rates[columns, int(number)] = rate
        elif above.any():
            row = int(np.argmax(above))
            raise InputError(
                f"{piece.where(row, columns.numerator)}: {shares[row]} {columns.numerator} of "
                f"{clicks[row]} {columns.denominator}; {columns.numerator} must not exceed "
                f"{columns.denominator}. If they are not a subset, set --rate_may_exceed_one"
            )


def _by_period(numbers: np.ndarray, columns: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Sums columns by the number of the period.

    >>> _by_period(np.array([7, 5, 7]), {"clicks": np.array([1.0, 2.0, 3.0])})
       clicks
    5     2.0
    7     4.0
    """
    if not len(numbers) or numbers.max() - numbers.min() > MAX_PERIODS:  # refused later
        return pd.DataFrame(columns, index=numbers).groupby(level=0).sum()
    first = numbers.min()
    places = numbers - first
    there = np.flatnonzero(np.bincount(places))
    sums = {name: np.bincount(places, column)[there] for name, column in columns.items()}
    return pd.DataFrame(sums, index=first + there)
