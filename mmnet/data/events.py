"""Events to counts: one definition, in Ibis expressions, for every engine.

    item_id  timestamp         play_ms          item_id  period      events  play_ms >= 3000
    a        2024-05-31 08:00     4000    ->    a        2024-05-31       2                1
    a        2024-05-31 21:30      900

Rules are applied in order, and the first one that an event breaks drops it. One pass of the engine
sums up the others by item and period, and the dropped events by rule, so the ledger and the counts
come from the same result. The engine writes the counts itself.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from mmnet.checks import InputError, quoted, shown
from mmnet.config import TableFlags, TaskFlags
from mmnet.data import (
    engines,
    event_files,
    periods,
    time_columns,
)
from mmnet.data.arrays import HALF_BITS, LOWER_HALF, exact_sum
from mmnet.data.calendars import MAX_PERIODS
from mmnet.data.columns import lost_digits
from mmnet.data.engines import Engine, Events
from mmnet.data.event_rules import LOST, LOST_DIGITS, Marking
from mmnet.data.expressions import Rate
from mmnet.data.ids import ItemIds, check_unknown
from mmnet.data.ledger import Rule, check_chain, so_far
from mmnet.data.spelling import LARGEST
from mmnet.data.zones import END_YEAR, FIRST_YEAR

if TYPE_CHECKING:
    import ibis.expr.types as ir

TELLING = 20
"""Minimum number of events for which a single value of all of them is not chance."""

MOST_UNKNOWN = 100_000
"""Maximum number of unknown items to compare with the items table for other spellings."""


def count(
    flags: TableFlags,
    task: TaskFlags,
    item_ids: np.ndarray | None,
    output: Path,
    *,
    scratch: Path | None = None,
) -> list[Rule]:
    """Counts events by item and period, and writes the counts as Parquet.

    Args:
        flags: the files of events, and what to count.
        task: the first period.
        item_ids: ids of the items table; None counts the events of every item.
        output: path of the counts; a file, or a directory of files if the engine writes one. It is
            written atomically.
        scratch: directory for temporary data; default: next to the output.

    Returns:
        The ledger. Its sums have been checked: the rows that each rule kept reached the next one,
        and the engine wrote what it had counted.

    Raises:
        InputError: the events do not match the flags.
        ValueError: the sums do not balance.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     columns = {"item_id": ["a", "a"], "timestamp": [3, 3], "play_ms": [4000, 900]}
    ...     pa.parquet.write_table(pa.table(columns), f"{place}/events.parquet")
    ...     flags = TableFlags(
    ...         events=f"{place}/events.parquet", numerator="play_ms>=3000", denominator="events"
    ...     )
    ...     _ = count(flags, TaskFlags(), None, Path(place, "counts.parquet"))
    ...     pa.parquet.read_table(f"{place}/counts.parquet").to_pylist()
    [{'item_id': 'a', 'period': 3, 'events': 2, 'play_ms>=3000': 1}]
    """
    own = output.with_name(f".{output.stem}.{uuid.uuid4().hex[:12]}")
    beside = own.with_suffix(output.suffix)
    try:
        with engines.connected(flags, scratch or own) as engine:
            events = event_files.events_of(engine, flags, (scratch or own) / "events")
            ledger = _Counting(engine, events, flags, task, item_ids).write(beside)
            ledger = [*events.rules, *ledger]
        if output.is_dir():
            shutil.rmtree(output)
        os.replace(beside, output)
    finally:
        for left in (own, beside):
            shutil.rmtree(left, ignore_errors=True)
        with contextlib.suppress(OSError):
            beside.unlink()
    return ledger


# --------------------------------------------------------------------------------- counting


class _Counting:
    """The counting of one events table."""

    def __init__(
        self,
        engine: Engine,
        events: Events,
        flags: TableFlags,
        task: TaskFlags,
        item_ids: np.ndarray | None,
    ):
        self.engine, self.events, self.flags = engine, events, flags
        self.item_ids = item_ids
        self.marking = Marking(engine, events, flags, task)
        self.calendar, self.when = self.marking.calendar, self.marking.when
        self.rates, self.rules = self.marking.rates, self.marking.rules

    def write(self, output: Path) -> list[Rule]:
        """Counts, checks the sums, writes the counts and returns the ledger."""
        origin = self.events.origin
        cells = self.engine.run(
            lambda: self.engine.computed(self.marking.cells()), f"counting {origin}"
        )
        known, totals, ledger = self._judged(cells)
        self.engine.run(
            lambda: self.engine.write_parquet(self._output(known, totals), output),
            f"writing the counts of {origin}",
        )
        self._check_written(output, totals)
        return ledger

    def _judged(self, cells: ir.Table) -> tuple[ir.Table, dict[str, Any], list[Rule]]:
        """Returns the cells to count, their sums, and the ledger of all events.

        Raises:
            InputError: the flags do not allow some events, or no event is left.
        """
        left_out = dict.fromkeys(range(1, len(self.rules) + 1), 0)
        found = self._fetch(
            cells.filter(cells.item == "").group_by("period").agg(rows=cells.num_events.sum()),
        )
        left_out |= {row["period"]: row["rows"] for row in found}
        if left_out.pop(LOST_DIGITS, 0):
            self._refuse_lost_digits()
        done: list[Rule] = []
        with so_far(lambda: done):
            return self._accepted(cells, left_out, done)

    def _accepted(
        self, cells: ir.Table, left_out: dict[int, int], done: list[Rule]
    ) -> tuple[ir.Table, dict[str, Any], list[Rule]]:
        """Does the work of `_judged`; rules that have run are added to `done`."""
        live = cells.filter(cells.item != "")
        reached = self._fetch(live.agg(rows=live.num_events.sum()))[0]["rows"] or 0
        ledger = self._rules_of_rows(left_out, reached)
        for rule in (1, 2):
            if left_out[rule] and self.flags.bad_events == "fail":
                self._refuse_rows(rule, left_out[rule], ledger[0].rows_in)
            done.append(ledger[rule - 1])
        done += ledger[2:]
        known = live
        if self.item_ids is not None:
            known = live.semi_join(self._known(), "item")
        num_known = self._fetch(known.agg(rows=known.num_events.sum()))[0]["rows"] or 0
        if num_known < reached:
            self._refuse_unknown(live, reached - num_known, num_known)
        if self.item_ids is not None:
            done.append(Rule("events", "item is in the items table", reached, num_known))
        if not num_known:
            raise InputError(self._nothing_left(done))
        known, of_periods = self._of_periods(known)
        done += of_periods
        check_chain(done)
        totals = _joined(self._fetch(self._totals(known))[0])
        for number, rate in enumerate(self.rates):
            bad = totals["rows"] - (totals[f"good_{number}"] or 0)
            constant = _constant(totals, number)
            if bad and (constant or self.flags.bad_events == "fail"):
                self._refuse_values(number, rate, bad, constant)
        self._check_sizes(known, totals)
        return known, totals, [*done, *self._rules_of_values(totals)]

    def _of_periods(self, known: ir.Table) -> tuple[ir.Table, list[Rule]]:
        """Leaves out cells of stray or incomplete periods, and returns the ledger's lines."""
        by_period = known.group_by("period").agg(
            rows=known.num_events.sum(),
            first=known.first_time.min(),
            last=known.last_time.max(),
        )
        found = self._fetch(by_period.order_by("period").limit(MAX_PERIODS + 1))
        first, last, rules = periods.of_events(
            pd.DataFrame(found).set_index("period"), self.calendar, self.flags, self.events.origin
        )
        if rules:
            known = known.filter((known.period >= first) & (known.period <= last))
        return known, rules

    def _fetch(self, expression: ir.Table) -> list[dict[str, Any]]:
        """Returns the rows of a small result."""
        run = functools.partial(self.engine.backend.to_pyarrow, expression)
        return self.engine.run(run, f"counting {self.events.origin}").to_pylist()

    def _totals(self, cells: ir.Table) -> ir.Table:
        sums: dict[str, Any] = {
            "rows": cells.num_events.sum(),
            "cells": cells.count(),
            "first": cells.period.min(),
            "last": cells.period.max(),
        }
        for number in range(len(self.rates)):
            sums[f"good_{number}"] = cells[f"good_{number}"].sum()
            for name in (f"numerator_{number}", f"denominator_{number}"):
                whole: Any = self._whole(cells[name])
                sums |= {
                    f"{name}_largest": cells[name].max(),
                    f"{name}_upper": (whole >> HALF_BITS).sum(),
                    f"{name}_lower": (whole & LOWER_HALF).sum(),
                }
        return cells.agg(**sums)

    @staticmethod
    def _whole(count: ir.NumericColumn) -> Any:
        """Returns a count of a cell as int64; 0 if it is too large, which is an error later."""
        import ibis

        return ibis.ifelse(count < LARGEST, count, 0.0).cast("int64")

    def _output(self, cells: ir.Table, totals: dict[str, Any]) -> ir.Table:
        """Returns the counts table, sorted by item and period."""
        import ibis

        flags = self.flags
        if self.calendar.kind == "time":
            numbers = range(totals["first"], totals["last"] + 1)
            starts = ibis.memtable(
                pa.table(
                    {
                        "number": pa.array(numbers, pa.int64()),
                        "start": [str(self.calendar.label(number)) for number in numbers],
                    }
                )
            )
            cells = cells.join(starts, cells.period == starts.number)
            start = (
                cells.start.cast("date")
                if self.calendar.of_days
                else self.engine.timestamp(cells.start)
            )
            cells = cells.mutate(period=start)
        columns = {flags.item_column: cells.item, flags.period_column: cells.period}
        for number, rate in enumerate(self.rates):
            columns[rate.denominator_column] = self._whole(cells[f"denominator_{number}"])
            columns[rate.numerator_column] = self._whole(cells[f"numerator_{number}"])
        table = cells.select(**columns)
        return table.order_by([ibis.asc(table[name]) for name in table.columns[:2]])

    # ---------------------------------------------------------------------- ledger and checks

    def _rules_of_rows(self, left_out: dict[int, int], reached: int) -> list[Rule]:
        """Returns the ledger's lines about rules for single events and for groups of events."""
        rows = sum(left_out.values()) + reached
        if self.events.rows is not None and rows != self.events.rows:
            raise ValueError(
                f"{self.events.origin} has {self.events.rows} rows, but {rows} were counted"
            )
        if not rows:
            raise InputError(f"{self.events.origin}: the events table has no rows")
        ledger = []
        for number, (name, _) in enumerate(self.rules, 1):
            ledger.append(Rule("events", name, rows, rows - left_out[number]))
            rows -= left_out[number]
        return ledger

    def _rules_of_values(self, totals: dict[str, Any]) -> list[Rule]:
        """Returns the ledger's lines about how many events each rate counts."""
        known, ledger = totals["rows"] or 0, []
        for number, rate in enumerate(self.rates):
            numerator, denominator = (
                totals.get(f"{name}_{number}", 0) for name in ("numerator", "denominator")
            )
            ledger.append(
                Rule(
                    f"events, {rate.name}" if rate.name else "events",
                    f"{rate.numerator.title} and {rate.denominator.title} can be counted",
                    known,
                    totals[f"good_{number}"] or 0,
                    f"{totals['cells']:,} counts rows: {denominator:,} of "
                    f"{rate.denominator_column}, {numerator:,} of {rate.numerator_column}",
                )
            )
        return ledger

    def _nothing_left(self, ledger: Sequence[Rule]) -> str:
        dropped = ", ".join(f"{rule.dropped:,} by '{rule.rule}'" for rule in ledger if rule.dropped)
        return f"{self.events.origin}: no events are left after the rules; dropped: {dropped}"

    def _refuse_unknown(self, live: ir.Table, events: int, known: int) -> None:
        """Raises the error about unknown items, unless the flags allow to drop them."""
        drop, column = self.flags.unknown_items == "drop", self.flags.item_column
        unknown = live.anti_join(self._known(), "item").select("item").distinct()
        found = [row["item"] for row in self._fetch(unknown.order_by("item").limit(MOST_UNKNOWN))]
        ids = ItemIds(pa.chunked_array([pa.array(self.item_ids, pa.string())]))
        place = f"{self.events.origin}, column {column}"
        check_unknown(ids, pa.array(found, pa.string()), place, drop=drop)
        if drop:
            return
        fix = "add it, or set --unknown_items=drop"
        if not known:  # nothing would be left
            fix = f"nor is any other; does --item_column={column} name the ids of both tables?"
        raise InputError(
            f"{self.events.origin}: item {quoted(found[0])} is not in the items table "
            f"({events:,} such events); {fix}"
        )

    def _refuse_rows(self, rule: int, rows: int, of: int) -> None:
        """Raises the error about events without item, or without time."""
        column, column_flag = self.flags.item_column, "item_column"
        wanted = "item"
        advice = ""
        came_column = self.flags.item_column if rule == 1 else self.flags.time_column
        broken = self.marking.marked({"came": self.marking.table[came_column]})
        few = broken.filter(broken.rule == rule).select("came").limit(time_columns.SAMPLE)
        came = [row["came"] for row in self._fetch(few)]
        if rule == 2:
            column, column_flag = self.flags.time_column, "time_column"
            wanted = "time (a period as a whole number)"
            if not self.when.is_period:
                wanted = (
                    f"time of {FIRST_YEAR} to {END_YEAR - 1} (ISO 8601, or as set by --time_unit "
                    "or --time_format)"
                )
                texts = [str(one).strip() for one in came]
                advice = time_columns.advice(texts, self.flags.time_unit)
        fix = "; correct them, or set --bad_events=drop"
        if 2 * rows > of:  # most events are affected, so a single column is likely the wrong one
            fix = (
                f"; these are most of the events, so --{column_flag}={column} may be the wrong "
                "column"
            )
            fix = "" if advice else fix
        raise InputError(
            f"{self.events.origin}, column {column}: {rows:,} events have no {wanted}{advice}"
            f"{fix}. Received: {quoted(came[0])}"
        )

    def _refuse_lost_digits(self) -> None:
        """Raises the error about ids that passed through a float, before they count as unknown."""
        column, table = self.flags.item_column, self.marking.table
        lost = table.filter(table[LOST]).select(came=table[column]).limit(1)
        place = f"{self.events.origin}, column {column}"
        raise InputError(lost_digits(place, self._fetch(lost)[0]["came"]))

    def _refuse_values(self, number: int, rate: Rate, rows: int, constant: str) -> None:
        """Raises the error about events whose numerator or denominator cannot be counted."""
        data = {f"came_{n}": self.marking.table[name] for n, name in enumerate(rate.columns)}
        broken = self.marking.marked(data)
        broken = broken.filter((broken.rule == 0) & ~broken[f"good_{number}"])
        if self.item_ids is not None:
            broken = broken.semi_join(self._known(), "item")
        came = self._first(broken, *data)
        received = ", ".join(
            f"{shown(name)}={quoted(came[f'came_{n}'])}" for n, name in enumerate(rate.columns)
        )
        fix = "correct them, or set --bad_events=drop"
        if constant:
            fix = (
                f"without them {constant}, so they cannot be dropped: correct them, or set "
                "--empty_counts=zero if empty means 0"
            )
        if rate.numerator.is_condition or rate.denominator.is_condition:
            fix += ", or --null_comparisons=false if an empty value should fail a comparison"
        raise InputError(
            f"{self.events.origin}: {rows:,} events of --{rate.numerator.flag}="
            f"{rate.numerator.title} and --{rate.denominator.flag}={rate.denominator.title} cannot "
            "be counted; values must be whole numbers of 0 or more, and both sides of a comparison "
            f"must not be empty: {fix}. Received: {received} (item {quoted(came['item'])})"
        )

    def _first(self, events: ir.Table, *columns: str) -> dict[str, Any]:
        return self._fetch(events.select("item", *columns).limit(1))[0]

    def _known(self) -> ir.Table:
        """Returns the ids of the items table."""
        import ibis

        return ibis.memtable(pa.table({"item": pa.array(self.item_ids, pa.string())}))

    def _check_sizes(self, cells: ir.Table, totals: dict[str, Any]) -> None:
        """Raises an error if a count of one item and period exceeds what float64 holds exactly."""
        for number, rate in enumerate(self.rates):
            for kind, count in (("numerator", rate.numerator), ("denominator", rate.denominator)):
                name = f"{kind}_{number}"
                if (totals[f"{name}_largest"] or 0) < LARGEST:
                    continue
                of_cell = cells.filter(cells[name] >= LARGEST).select("item", "period", name)
                (cell,) = self._fetch(of_cell.limit(1))
                raise InputError(
                    f"{self.events.origin}: --{count.flag}={count.text} adds up to "
                    f"{cell[name]:.4g} for item {quoted(cell['item'])} in period "
                    f"{self.calendar.label(cell['period'])}, but a count must stay below 2**53 = "
                    f"{LARGEST:,}; use a larger unit, or make --period narrower"
                )

    def _check_written(self, output: Path, totals: dict[str, Any]) -> None:
        """Compares what was written with what was counted.

        Raises:
            ValueError: they differ.
        """
        columns = {
            column: totals.get(f"{name}_{number}", 0)
            for number, rate in enumerate(self.rates)
            for name, column in (
                ("numerator", rate.numerator_column),
                ("denominator", rate.denominator_column),
            )
        }
        written = pa.parquet.read_table(output, columns=list(columns), partitioning=None)
        sums = {name: exact_sum(written[name].to_numpy()) for name in columns}
        if written.num_rows != totals["cells"] or sums != columns:
            raise ValueError(
                f"{totals['cells']} counts rows of {columns} were counted, but "
                f"{written.num_rows} of {sums} written"
            )


def _constant(totals: dict[str, Any], number: int) -> str:
    """Describes a rate that would be the same everywhere; empty if it is not."""
    above, below = (totals.get(f"{name}_{number}", 0) for name in ("numerator", "denominator"))
    if (totals[f"good_{number}"] or 0) < TELLING:
        return ""
    return (
        "every rate would be 100 %"
        if above == below
        else ""
        if above
        else "every rate would be 0 %"
    )


def _joined(totals: dict[str, Any]) -> dict[str, Any]:
    """Joins the upper and lower halves of each sum in totals, as integers of any size."""
    sums = {
        name.removesuffix("_upper"): (totals[name] << HALF_BITS)
        + totals[f"{name.removesuffix('_upper')}_lower"]
        for name in totals
        if name.endswith("_upper") and totals[name] is not None
    }
    return totals | sums
