"""Events to counts: one definition, in Ibis expressions, for every engine.

    item_id  timestamp         play_ms          item_id  period      events  play_ms >= 3000
    a        2024-05-31 08:00     4000    ->    a        2024-05-31       2                1
    a        2024-05-31 21:30      900

Every event meets the rules in their order, and the first one that it breaks leaves it out. One
pass of the engine adds up the others by item and period, and what was left out by rule; so the
ledger and the counts are two readings of one result. The engine writes the counts itself.
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
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from mmnet.checks import InputError
from mmnet.config import TableFlags, TaskFlags
from mmnet.data import (
    calendars,
    engines,
    event_files,
    event_times,
    expressions,
)
from mmnet.data.calendars import MAX_PERIODS, Calendar
from mmnet.data.columns import LARGEST
from mmnet.data.engines import Engine, Events
from mmnet.data.event_times import END_YEAR, FIRST_YEAR
from mmnet.data.expressions import Rate
from mmnet.data.ledger import Rule, check_chain

if TYPE_CHECKING:
    import ibis.expr.types as ir

ITEM, PERIOD = "mmnet item", "mmnet period"
"""Columns that are added to the events; those of `event_times` begin alike."""


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
        flags: where events are, and what is counted of them.
        task: the first period.
        item_ids: of the items table; None counts the events of every item.
        output: the counts; a file, or a directory of files where the engine writes one. It is
            there whole or not at all.
        scratch: a directory for what does not fit in memory; default: beside the output.

    Returns:
        The ledger. Its sums have been compared: rows that left one rule reached the next one, and
        what the engine wrote is what it had counted.

    Raises:
        InputError: the events are not as the flags say.
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
    """One table of events on its way to counts."""

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
        self.rates = expressions.rates(flags, events.data.columns)
        table, self.when = event_times.when(engine, events, events.data, flags, "time_column")
        self.calendar = (
            Calendar(kind="integer") if self.when.is_period else calendars.calendar_of_times(flags)
        )
        if flags.max_delay:
            self._check_delay()
            table, self.arrived = event_times.when(engine, events, table, flags, "ingestion_column")
        self.table = table.mutate(
            **{ITEM: _item_text(events, flags), PERIOD: self.when.period(table, self.calendar)}
        )
        self.rules = self._rules_of_rows(task)

    def write(self, output: Path) -> list[Rule]:
        """Counts, checks the sums, writes the counts and returns the ledger."""
        origin = self.events.origin
        cells = self.engine.run(lambda: self.engine.computed(self._cells()), f"counting {origin}")
        known, totals, ledger = self._judged(cells)
        self.engine.run(
            lambda: self.engine.write_parquet(self._output(known, totals), output),
            f"writing the counts of {origin}",
        )
        self._check_written(output, totals)
        return ledger

    def _judged(self, cells: ir.Table) -> tuple[ir.Table, dict[str, Any], list[Rule]]:
        """The cells that are counts, their sums, and the ledger of all events.

        Raises:
            InputError: events that the flags do not allow, or none that they do.
        """
        left_out = dict.fromkeys(range(1, len(self.rules) + 1), 0)
        found = self._fetch(
            cells.filter(cells.item == "").group_by("period").agg(rows=cells.num_events.sum()),
        )
        left_out |= {row["period"]: row["rows"] for row in found}
        for rule in (1, 2):
            if left_out[rule] and self.flags.bad_events == "fail":
                self._refuse_rows(rule, left_out[rule])

        live = cells.filter(cells.item != "")
        reached = self._fetch(live.agg(rows=live.num_events.sum()))[0]["rows"] or 0
        known = live
        if self.item_ids is not None:
            known = live.semi_join(self._known(), "item")
        totals = self._fetch(self._totals(known))[0]
        num_known = totals["rows"] or 0
        if num_known < reached and self.flags.unknown_items == "fail":
            example = self._fetch(live.anti_join(self._known(), "item").select("item").limit(1))
            raise InputError(
                f"{self.events.origin}: item {example[0]['item']!r} is not in the items table "
                f"({reached - num_known:,} such events); add it, or set --unknown_items=drop"
            )
        ledger = self._ledger(left_out, reached, totals)
        for number, rate in enumerate(self.rates):
            if (totals[f"good_{number}"] or 0) < num_known and self.flags.bad_events == "fail":
                self._refuse_values(number, rate, num_known - (totals[f"good_{number}"] or 0))
        if not num_known:
            raise InputError(self._nothing_left(ledger))
        self._check_periods(totals)
        return known, totals, ledger

    def _fetch(self, expression: ir.Table) -> list[dict[str, Any]]:
        """The rows of a small result."""
        run = functools.partial(self.engine.backend.to_pyarrow, expression)
        return self.engine.run(run, f"counting {self.events.origin}").to_pylist()

    # ------------------------------------------------------------ expressions, in their order

    def _rules_of_rows(self, task: TaskFlags) -> list[tuple[str, ir.BooleanValue | None]]:
        """The ledger's words for a rule, and which events break it; None for what windows say.

        The first two are those of bad events.
        """
        import ibis

        flags, when, table = self.flags, self.when, self.table
        span = "" if when.is_period else f" of {FIRST_YEAR} to {END_YEAR - 1}"
        found: list[tuple[str, Any]] = [
            (f"has an item ({flags.item_column})", table[ITEM] == ""),
            (f"has a time{span} ({flags.time_column})", table[when.local].isnull()),
        ]
        if task.first_period:
            first = self.calendar.number(task.first_period, "first_period")
            found.append(("not before --first_period", table[PERIOD] < first))
        if flags.events_until:
            until = when.place_of(flags.events_until, flags)
            late = table[when.local] >= ibis.literal(until, "int64")
            found.append(("before --events_until", late))
        if flags.max_delay:
            most = calendars.seconds(flags.max_delay, "max_delay") * event_times.SECOND
            delayed = self.arrived.since(when, table) > ibis.literal(most, "int64")
            found.append(("arrived within --max_delay", delayed))
        if flags.event_key:
            found.append((f"first event of its {', '.join(flags.event_key)}", None))
        if flags.max_events_per_user_item_period:
            if not flags.user_column:
                raise InputError(
                    "--max_events_per_user_item_period needs --user_column, the column of users"
                )
            limit = flags.max_events_per_user_item_period
            found.append((f"among the first {limit:,} of its user, item and period", None))
        return found

    def _check_delay(self) -> None:
        flags = self.flags
        if not flags.ingestion_column:
            raise InputError("--max_delay needs --ingestion_column, the column of arrival times")
        if self.when.is_period:
            raise InputError(
                f"--max_delay needs times, but --time_column={flags.time_column} holds periods; "
                "leave it out, or say with --time_unit what its numbers count"
            )

    def _marked(self, extra: dict[str, ir.Value] | None = None) -> ir.Table:
        """Every event: its item, period and values, and the number of the rule that it breaks."""
        import ibis

        flags, table = self.flags, self.table
        broken = [(breaks, number) for number, (_, breaks) in enumerate(self.rules, 1)]
        cases = [(breaks, number) for breaks, number in broken if breaks is not None]
        columns: dict[str, Any] = {
            "item": table[ITEM],
            "period": table[PERIOD],
            "rule": ibis.cases(*cases, else_=0).cast("int64"),
            **(extra or {}),
        }
        for number, rate in enumerate(self.rates):
            numerator, good = expressions.counted(rate.numerator, table)
            denominator, also_good = expressions.counted(rate.denominator, table)
            columns |= {
                f"numerator_{number}": numerator,
                f"denominator_{number}": denominator,
                f"good_{number}": good & also_good,
            }
        windows = [number for breaks, number in broken if breaks is None]
        if windows:  # an order that is the same whatever the order of the rows, and the rates
            columns["order"] = ibis.coalesce(table[self.when.order], 0)
            kinds = {
                name: expressions.kind_of(self.events.data[name])
                for name in self.events.data.columns
            }
            simple = [
                name for name, kind in kinds.items() if kind in {*expressions.NUMBERS, "time"}
            ]
            columns |= {
                f"tie_{number}": _identity(table[name]) for number, name in enumerate(simple)
            }
        for number, name in enumerate(flags.event_key):
            self.events.need(name, "event_key")
            columns[f"key_{number}"] = _identity(table[name])
        if flags.max_events_per_user_item_period:
            self.events.need(flags.user_column, "user_column")
            columns["user"] = _identity(table[flags.user_column])
        marked = table.select(**columns)
        order = [name for name in columns if name == "order" or name.startswith("tie_")]
        if flags.event_key:
            keys = [f"key_{number}" for number in range(len(flags.event_key))]
            marked = _beyond(marked, keys, keys, order, 1, windows.pop(0))
        if windows:
            most = flags.max_events_per_user_item_period
            of = ["user", "item", "period"]
            marked = _beyond(marked, of, ["user"], order, most, windows.pop(0))
        return marked

    def _cells(self) -> ir.Table:
        """Sums by item and period; what a rule left out, under item '' and the rule's number."""
        import ibis

        marked = self._marked()
        stays = marked.rule == 0
        sums: dict[str, Any] = {"num_events": marked.count()}
        for number in range(len(self.rates)):
            good = marked[f"good_{number}"]
            for name in (f"numerator_{number}", f"denominator_{number}"):
                sums[name] = ibis.ifelse(good, marked[name], 0).sum().cast("int64")
            sums[f"good_{number}"] = good.ifelse(1, 0).cast("int64").sum().cast("int64")
        return marked.group_by(
            item=ibis.ifelse(stays, marked.item, ""),
            period=ibis.ifelse(stays, marked.period, marked.rule),
        ).agg(**sums)

    def _totals(self, cells: ir.Table) -> ir.Table:
        sums: dict[str, Any] = {
            "rows": cells.num_events.sum(),
            "cells": cells.count(),
            "first": cells.period.min(),
            "last": cells.period.max(),
        }
        for number in range(len(self.rates)):
            for name in (f"numerator_{number}", f"denominator_{number}", f"good_{number}"):
                sums[name] = cells[name].sum()
        return cells.agg(**sums)

    def _output(self, cells: ir.Table, totals: dict[str, Any]) -> ir.Table:
        """The counts table, in the order of items and periods."""
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
            whole_days = self.calendar.width % 86_400 == 0
            cells = cells.join(starts, cells.period == starts.number)
            start = cells.start.cast("date") if whole_days else self.engine.timestamp(cells.start)
            cells = cells.mutate(period=start)
        columns = {flags.item_column: cells.item, flags.period_column: cells.period}
        for number, rate in enumerate(self.rates):
            columns[rate.denominator_column] = cells[f"denominator_{number}"]
            columns[rate.numerator_column] = cells[f"numerator_{number}"]
        table = cells.select(**columns)
        return table.order_by([ibis.asc(table[name]) for name in table.columns[:2]])

    # ---------------------------------------------------------------------- ledger and checks

    def _ledger(self, left_out: dict[int, int], reached: int, totals: dict[str, Any]) -> list[Rule]:
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
        known = totals["rows"] or 0
        if self.item_ids is not None:
            ledger.append(Rule("events", "item is in the items table", rows, known))
        check_chain(ledger)
        for number, rate in enumerate(self.rates):
            numerator, denominator = (
                totals[f"{name}_{number}"] or 0 for name in ("numerator", "denominator")
            )
            ledger.append(
                Rule(
                    f"events, {rate.name}" if rate.name else "events",
                    f"{rate.numerator.text} and {rate.denominator.text} can be counted",
                    known,
                    totals[f"good_{number}"] or 0,
                    f"{totals['cells']:,} counts rows: {denominator:,} of "
                    f"{rate.denominator_column}, {numerator:,} of {rate.numerator_column}",
                )
            )
        return ledger

    def _nothing_left(self, ledger: Sequence[Rule]) -> str:
        dropped = ", ".join(f"{rule.dropped:,} by '{rule.rule}'" for rule in ledger if rule.dropped)
        return f"{self.events.origin}: no event is left after the rules; left out: {dropped}"

    def _refuse_rows(self, rule: int, rows: int) -> None:
        """Raises: events without item, or without time."""
        flags, column = self.flags, self.flags.item_column
        wanted = "item"
        if rule == 2:
            column = flags.time_column
            wanted = "time (a period as a whole number)"
            if not self.when.is_period:
                wanted = (
                    f"time of {FIRST_YEAR} to {END_YEAR - 1} (ISO 8601, or as --time_unit says)"
                )
        broken = self._marked({"came": self.table[column]})
        came = self._first(broken.filter(broken.rule == rule), "came")
        raise InputError(
            f"{self.events.origin}, column {column}: {rows:,} events have no {wanted}; correct "
            f"them, or set --bad_events=drop. Received: {came['came']!r}"
        )

    def _refuse_values(self, number: int, rate: Rate, rows: int) -> None:
        """Raises: events whose numerator or denominator cannot be counted."""
        data = {f"came_{n}": self.table[name] for n, name in enumerate(rate.columns)}
        broken = self._marked(data)
        broken = broken.filter((broken.rule == 0) & ~broken[f"good_{number}"])
        if self.item_ids is not None:
            broken = broken.semi_join(self._known(), "item")
        came = self._first(broken, *data)
        shown = ", ".join(f"{name}={came[f'came_{n}']!r}" for n, name in enumerate(rate.columns))
        raise InputError(
            f"{self.events.origin}: {rows:,} events of --{rate.numerator.flag}="
            f"{rate.numerator.text} and --{rate.denominator.flag}={rate.denominator.text} cannot "
            "be counted; values must be whole numbers of 0 or more, or both sides of a comparison "
            f"filled in: correct them, or set --bad_events=drop. Received: {shown} "
            f"(item {came['item']!r})"
        )

    def _first(self, events: ir.Table, *columns: str) -> dict[str, Any]:
        return self._fetch(events.select("item", *columns).limit(1))[0]

    def _known(self) -> ir.Table:
        """The ids of the items table."""
        import ibis

        return ibis.memtable(pa.table({"item": pa.array(self.item_ids, pa.string())}))

    def _check_periods(self, totals: dict[str, Any]) -> None:
        first, last = totals["first"], totals["last"]
        if last - first < MAX_PERIODS:
            return
        fix = "if these are no periods but times, say with --time_unit=s, ms or us what they count"
        if not self.when.is_period:
            fix = "--period may be wider, and --first_period and --events_until cut the ends off"
        raise InputError(
            f"{self.events.origin}, column {self.flags.time_column}: periods run from "
            f"{self.calendar.label(first)} to {self.calendar.label(last)}, {last - first + 1:,} of "
            f"them; {fix}"
        )

    def _check_written(self, output: Path, totals: dict[str, Any]) -> None:
        """Compares what was written with what was counted.

        Raises:
            ValueError: they differ.
        """
        columns = {
            column: totals[f"{name}_{number}"]
            for number, rate in enumerate(self.rates)
            for name, column in (
                ("numerator", rate.numerator_column),
                ("denominator", rate.denominator_column),
            )
        }
        written = pa.parquet.read_table(output, columns=list(columns), partitioning=None)
        sums = {name: pc.sum(written[name]).as_py() or 0 for name in columns}
        if written.num_rows != totals["cells"] or sums != columns:
            raise ValueError(
                f"{totals['cells']} counts rows of {columns} were counted, but "
                f"{written.num_rows} of {sums} written"
            )


def _item_text(events: Events, flags: TableFlags) -> ir.StringValue:
    """Item ids as text, '' where empty; whole numbers written as floats lose their '.0'."""
    import ibis

    column: Any = events.need(flags.item_column, "item_column")
    of = column.type()
    if of.is_nested():
        raise InputError(
            f"{events.origin}: column {flags.item_column!r} named by --item_column holds {of} "
            "values; one value per row is wanted"
        )
    if of.is_floating():
        column = column.cast("float64")
        filled = column.notnull() & ~column.isnan()
        whole = filled & (column == column.floor()) & (column.abs() < LARGEST)
        number = ibis.ifelse(whole, column, 0.0).cast("int64").cast("string")
        column = ibis.ifelse(whole, number, ibis.ifelse(filled, column.cast("string"), ""))
    return column.cast("string").fill_null("")


def _identity(column: ir.Value) -> ir.Value:
    """A column that tells users or events apart, null where empty."""
    return column.nullif("") if column.type().is_string() else column


def _beyond(
    table: ir.Table, of: list[str], filled: list[str], order: list[str], most: int, rule: int
) -> ir.Table:
    """Marks, of the events so far kept, those that come after the first few of their kind.

    Args:
        table: marked events.
        of: columns that make a kind.
        filled: those of them that must not be empty; otherwise an event is of no kind.
        order: which events come first.
        most: how many of a kind stay.
        rule: the number to mark the others with.
    """
    import ibis

    counts_here = table.rule == 0
    for name in filled:
        counts_here &= table[name].notnull()
    table = table.mutate(counts_here=counts_here)
    window = ibis.window(group_by=["counts_here", *of], order_by=order)
    table = table.mutate(place=ibis.row_number().over(window))
    beyond = table.counts_here & (table.place >= most)
    return table.mutate(rule=ibis.ifelse(beyond, rule, table.rule).cast("int64")).drop(
        "counts_here", "place"
    )
