"""Rules for events, as expressions that find the first rule that each event breaks.

Rules are applied in order. Those about a single row are one expression; those about several rows,
such as duplicates or limits, only see events that the earlier rules kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmnet.checks import InputError
from mmnet.config import TableFlags, TaskFlags
from mmnet.data import calendars, event_times, expressions, spelling
from mmnet.data.calendars import Calendar
from mmnet.data.engines import Engine, Events
from mmnet.data.zones import END_YEAR, FIRST_YEAR

if TYPE_CHECKING:
    import ibis.expr.types as ir

ITEM, PERIOD, LOST = "mmnet item", "mmnet period", "mmnet lost digits"
"""Columns that are added to the events; those of `event_times` also begin with `mmnet`."""

LOST_DIGITS = -1
"""Number of the rule that no flag can turn off: ids must keep their digits."""

NO_ITEM = 1
"""Number of the rule that an event has an item."""


class Marking:
    """Events with the number of the rule that each breaks, and the values to count.

    Attributes:
        events: the events table.
        rates: the rates to count.
        when: the time of each event.
        calendar: division of time into periods.
        table: the events with their item and period, `ITEM` and `PERIOD`.
        rules: name of each rule in the ledger, and which events break it.

    Raises:
        InputError: the flags do not fit the events.
    """

    def __init__(
        self,
        engine: Engine,
        events: Events,
        flags: TableFlags,
        task: TaskFlags,
    ):
        self.events, self.flags = events, flags
        self.rates = expressions.rates(flags, events.data.columns, events.origin)
        table, self.when = event_times.when(engine, events, events.data, flags, "time_column")
        self.calendar = (
            Calendar(kind="integer") if self.when.is_period else calendars.calendar_of_times(flags)
        )
        if flags.max_delay:
            self._check_delay()
            table, self.arrived = event_times.when(engine, events, table, flags, "ingestion_column")
        self.table = table.mutate(
            **{ITEM: _item_text(events, flags), PERIOD: self.when.period(table, self.calendar)},
            **{LOST: spelling.lost_in_ibis(table[flags.item_column])},
        )
        if flags.empty_counts == "zero":
            counts = [c for rate in self.rates for c in (rate.numerator, rate.denominator)]
            plain = {name for one in counts if not one.is_condition for name in one.columns}
            self.table = self.table.mutate(
                **{name: _or_zero(self.table[name]) for name in sorted(plain)}
            )
        self.rules = self._rules_of_rows(task)

    def _rules_of_rows(self, task: TaskFlags) -> list[tuple[str, ir.BooleanValue | None]]:
        """Returns name and condition of each rule; None for rules that need window functions.

        The first two rules define bad events.
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
                    "--max_events_per_user_item_period needs --user_column, the column of user ids"
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
                f"--max_delay needs times, but --time_column={flags.time_column} has periods; "
                "remove --max_delay, or set the unit of the numbers with --time_unit"
            )

    def marked(self, extra: dict[str, ir.Value] | None = None, *, spelled: bool = True) -> ir.Table:
        """Returns every event with item, period, values, and the number of the rule it breaks.

        Args:
            extra: further columns.
            spelled: False returns ids as they are in the events, and ignores the rules about them.
        """
        import ibis

        flags, table = self.flags, self.table
        broken = [(breaks, number) for number, (_, breaks) in enumerate(self.rules, 1)]
        cases = [(table[LOST], LOST_DIGITS)] if spelled else []
        cases += [
            (breaks, number)
            for breaks, number in broken
            if breaks is not None and (spelled or number != NO_ITEM)
        ]
        columns: dict[str, Any] = {
            "item": table[ITEM if spelled else flags.item_column],
            "period": table[PERIOD],
            "rule": ibis.cases(*cases, else_=0).cast("int64"),
            "time": table[self.when.local],
            **(extra or {}),
        }
        counts = [each for rate in self.rates for each in (rate.numerator, rate.denominator)]
        table, counted = expressions.counted(counts, table, flags.null_comparisons)
        for number in range(len(self.rates)):
            (numerator, good), (denominator, also_good) = counted[2 * number : 2 * number + 2]
            columns |= {
                f"numerator_{number}": numerator,
                f"denominator_{number}": denominator,
                f"good_{number}": good & also_good,
            }
        windows = [number for breaks, number in broken if breaks is None]
        if windows:  # sort by all columns, so that the result does not depend on the row order
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

    def cells(self) -> ir.Table:
        """Returns sums by item and period; dropped events are under item '' and their rule."""
        import ibis

        # The spelling of an id is searched for in every cell, not in every event, unless a rule
        # about several events needs it.
        spelled = any(breaks is None for _, breaks in self.rules)
        marked = self.marked(spelled=spelled)
        cells = marked.group_by(
            item=marked.item,
            rule=marked.rule,
            period=ibis.ifelse(marked.rule == 0, marked.period, marked.rule),
        ).agg(**self._sums(marked))
        cells = cells.mutate(
            **{name: cells[of].cast("float64") for name, of in self._numbers_of_events().items()}
        )
        if not spelled:
            item = spelling.in_ibis(cells.item)
            lost = spelling.lost_in_ibis(cells.item)
            rule = ibis.cases((lost, LOST_DIGITS), (item == "", NO_ITEM), else_=cells.rule)
            cells = cells.mutate(item=item, rule=rule.cast("int64"))
        stays = cells.rule == 0
        return cells.group_by(
            item=ibis.ifelse(stays, cells.item, ""),
            period=ibis.ifelse(stays, cells.period, cells.rule),
        ).agg(**self._sums_of_sums(cells))

    def _sums(self, marked: ir.Table) -> dict[str, Any]:
        """Returns the sums of marked events."""
        import ibis

        sums: dict[str, Any] = {
            "num_events": marked.count(),
            "first_time": marked.time.min(),
            "last_time": marked.time.max(),
        }
        summed = self._numbers_of_events()
        for number in range(len(self.rates)):
            good = marked[f"good_{number}"]
            for name in (f"numerator_{number}", f"denominator_{number}"):
                if name in summed:
                    continue
                # As floats, so that no engine overflows: exact up to 2**53, which is the limit.
                sums[name] = ibis.ifelse(good, marked[name], 0).cast("float64").sum()
            sums[f"good_{number}"] = good.ifelse(1, 0).cast("int64").sum().cast("int64")
        return sums

    def _numbers_of_events(self) -> dict[str, str]:
        """Returns sums that are a number of events -> the sum that is the same number."""
        return {
            f"{kind}_{number}": f"good_{number}"
            for number, rate in enumerate(self.rates)
            for kind, count in (("numerator", rate.numerator), ("denominator", rate.denominator))
            if count.is_every_event
        }

    def _sums_of_sums(self, cells: ir.Table) -> dict[str, Any]:
        """Returns the same sums of cells that are joined."""
        kinds = {"first_time": "min", "last_time": "max"}
        found = {
            name: getattr(cells[name], kinds.get(name, "sum"))()
            for name in cells.columns
            if name not in ("item", "rule", "period")
        }
        whole = ("num_events", *(f"good_{number}" for number in range(len(self.rates))))
        return found | {name: found[name].cast("int64") for name in whole}


def _item_text(events: Events, flags: TableFlags) -> ir.StringValue:
    """Returns item ids as text, '' where empty."""
    column: Any = events.need(flags.item_column, "item_column")
    of = column.type()
    if of.is_nested():
        raise InputError(
            f"{events.origin}: column {flags.item_column!r} named by --item_column has {of} "
            "values; each row must have a single value"
        )
    return spelling.in_ibis(column)


def _or_zero(column: ir.Value) -> ir.Value:
    """Replaces empty values of a count column by 0; other columns are unchanged."""
    import ibis

    kind = expressions.kind_of(column)
    if kind == "text":
        return ibis.ifelse(expressions.filled(column).isnull(), "0", column)  # type: ignore[arg-type]
    return ibis.coalesce(expressions.number(column), 0) if kind in expressions.NUMBERS else column


def _identity(column: ir.Value) -> ir.Value:
    """Returns a column that identifies users or events, null where empty."""
    return column.nullif("") if column.type().is_string() else column


def _beyond(
    table: ir.Table, of: list[str], filled: list[str], order: list[str], most: int, rule: int
) -> ir.Table:
    """Marks the kept events that come after the first few of their group.

    Args:
        table: marked events.
        of: columns that define a group.
        filled: columns of these that must not be empty; otherwise an event is in no group.
        order: sort order of the events.
        most: number of events to keep per group.
        rule: number to mark the others with.
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
