"""Times of events as whole numbers, with the same result in every engine.

Engines differ in their time zones, in how they divide time into bins and in how they parse text. So
timestamps become microseconds, text is split into the parts of a `time_texts.Format`, and a time
zone is represented by the offsets in Python's own zone database.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mmnet.checks import InputError
from mmnet.config import TableFlags
from mmnet.data import calendars, expressions, time_columns, time_texts, zones
from mmnet.data.calendars import Calendar
from mmnet.data.columns import LARGEST
from mmnet.data.engines import Engine, Events
from mmnet.data.time_columns import FRACTION, LATEST, PER_SECOND, Reading
from mmnet.data.time_texts import Format
from mmnet.data.zones import DAY, END, SECOND

if TYPE_CHECKING:
    import ibis.expr.types as ir


@dataclass(frozen=True)
class When:
    """A column of times, as columns that `when` has added to a table.

    Attributes:
        local: microseconds since 1970 on the clock of the time zone, or the period's own number;
            null where there is no time.
        order: columns to sort by.
        instant: microseconds since 1970 in UTC, null where a row has no zone; None if no row has.
        is_period: whether `local` is the period.
    """

    local: str
    order: str
    instant: str | None = None
    is_period: bool = False

    def period(self, table: ir.Table, calendar: Calendar) -> ir.IntegerValue:
        """Returns the number of the period in the calendar; null without a time."""
        if self.is_period:
            return table[self.local]
        return calendar.bins(table[self.local]).cast("int64")

    def since(self, other: When, table: ir.Table) -> ir.IntegerValue:
        """Returns microseconds from another time to this one; without zones, by local time."""
        by_clock = table[self.local] - table[other.local]
        if not self.instant or not other.instant:
            return by_clock
        return (table[self.instant] - table[other.instant]).coalesce(by_clock)

    def place_of(self, text: str, flags: TableFlags) -> int:
        """Returns the value of `--events_until`, a time or period, on the scale of `local`.

        Raises:
            InputError: it is not a time or period.
        """
        if self.is_period:
            return Calendar(kind="integer").number(text, "events_until")
        seconds = Calendar(kind="time", width=1, time_zone=flags.time_zone)
        start = seconds.start(seconds.number(text, "events_until"))
        return int(start.timestamp()) * SECOND


def when(
    engine: Engine, events: Events, table: ir.Table, flags: TableFlags, flag: str
) -> tuple[ir.Table, When]:
    """Reads the column of times that a flag names.

    A time without a zone is already on the clock of `--time_zone`; one with a zone or offset, or a
    number of units since 1970, is an instant.

    Args:
        engine: engine of the table.
        events: the events, for messages.
        table: the events, possibly with added columns.
        flags: flags with the column and the time zone.
        flag: time_column or ingestion_column.

    Returns:
        The table with columns added step by step: nesting expressions instead would repeat each
        one at every use, and the query would become huge.

    Raises:
        InputError: the column does not exist, or does not have times.
    """
    column, name = getattr(flags, flag), f"mmnet {flag}"
    of: Any = events.need(column, flag)
    value, kind = table[column], expressions.kind_of(of)
    if kind == "time":
        if of.type().is_date():
            value = value.cast("timestamp")
        table = table.mutate(**{name: engine.micros(value)})
        table = table.mutate(**{name: _sane(table[name])})
        if not of.type().is_timestamp() or not engine.is_instant(events, column):
            return table, When(name, name)
        return _on_clock(table, name, flags)
    if kind not in ("number", "text"):
        raise InputError(
            f"{events.origin}, column {column}: a time must be a timestamp, a date, ISO 8601 text "
            f"or a number. Received: {of.type()} values"
        )
    reading = _reading(engine, events, of, column, flags)
    if reading.format:
        if kind == "number":  # dates written as numbers, such as 20240531
            value = _whole(expressions.number(value)).cast("string")
        return _of_text(engine, table.mutate(**{name: value}), name, flags, reading.format)
    if kind == "text":
        table, rest = _split(table.mutate(**{name: value}), name)
    else:
        table, rest = table.mutate(**{name: expressions.number(value)}), None
    if reading.unit == "period":
        if flag != "time_column":
            raise InputError(
                f"{events.origin}, column {column}: the unit of its numbers is unknown; set "
                f"--time_unit=s, ms, us or ns (--{flag})"
            )
        whole = table[name] if rest is None else _or_null(_digits(rest) == 0, table[name])
        return table.mutate(**{name: _whole(whole)}), When(name, name, is_period=True)
    table = table.mutate(**{name: _of_units(table[name], rest, reading)})
    return _on_clock(table, name, flags)


def _split(table: ir.Table, name: str) -> tuple[ir.Table, Any]:
    """Splits a column of text into whole numbers, exact in 64 bits, and the decimals.

    Returns:
        The table with whole numbers for the text, null where it is not a number; and the digits
        after the decimal point.
    """
    pattern, text = r"^\+?(-?[0-8]?[0-9]{1,18})(?:\.([0-9]*))?$", expressions.filled(table[name])
    rest = f"{name} rest"
    table = table.mutate(**{name: text.re_extract(pattern, 1), rest: text.re_extract(pattern, 2)})
    table = table.mutate(**{name: table[name].nullif("").cast("int64")})
    return table, table[rest]


def _reading(engine: Engine, events: Events, value: Any, column: str, flags: TableFlags) -> Reading:
    """Detects the format of a column by its first values; see `time_columns.decide`."""
    filled = expressions.filled(value) if value.type().is_string() else value
    first = events.data.select(value=filled).filter(lambda t: t.value.notnull())
    run = functools.partial(engine.backend.to_pyarrow, first.limit(time_columns.SAMPLE))
    found = engine.run(run, f"reading {events.origin}")["value"]
    texts = time_columns.as_texts(found.filter(time_columns.filled(found)))
    where = f"{events.origin}, column {column}"
    numeric = not value.type().is_string()
    reading = time_columns.decide(texts.to_pylist(), flags, lambda _: where, numeric=numeric)
    if column == flags.time_column and reading.unit != "period":
        calendars.check_names(calendars.calendar_of_times(flags), reading, where)
    return reading


def _on_clock(table: ir.Table, name: str, flags: TableFlags) -> tuple[ir.Table, When]:
    """Adds the local time in the time zone to a column of instants."""
    local = f"{name} on the clock"
    table = table.mutate(**{local: table[name] + _offset(table[name], flags)})
    return table, When(local, name, name)


def _or_null(good: Any, value: Any) -> Any:
    import ibis

    return ibis.ifelse(good, value, ibis.null(value.type()))


def _sane(micros: Any) -> Any:
    return _or_null((micros >= 0) & (micros < END), micros)


def _whole(value: Any) -> Any:
    """Returns whole numbers as int64, null for other values."""
    import ibis

    good = value.abs() < LARGEST
    if value.type().is_floating():
        good &= value == value.floor()
    return _or_null(good, ibis.ifelse(good, value, 0).cast("int64"))


def _of_units(value: Any, rest: Any, reading: Reading) -> Any:
    """Converts a number of units to microseconds; null if it is outside the years of the unit.

    Args:
        value: numbers.
        rest: digits after the decimal point of numbers in text; None for others.
        reading: the unit, and its range of years.
    """
    per_second = PER_SECOND[reading.unit]
    inside = (value >= reading.earliest * per_second) & (value < LATEST * per_second)
    value = _or_null(inside, value)
    if value.type().is_floating():
        size = per_second // SECOND
        micros = value / size if size else value * (SECOND // per_second)
        return micros.floor().cast("int64")
    value = value.cast("int64")
    if per_second > SECOND:  # engines divide in float64, which cannot represent nanoseconds
        below = value % per_second
        seconds = ((value - below) / per_second).round().cast("int64")
        return seconds * SECOND + (below // (per_second // SECOND)).cast("int64")
    micros, places = value * (SECOND // per_second), FRACTION[reading.unit]
    if rest is None or not places:
        return micros
    return micros + _digits((rest.fill_null("") + "0" * places).substr(0, places))


def _with_groups(engine: Engine, table: ir.Table, name: str, fmt: Format) -> ir.Table:
    """Adds the groups of a pattern in texts that match it or are null, '' for absent parts."""
    import ibis

    text, found = table[f"{name} text"], f"{name} groups"
    if engine.name != "duckdb":
        columns = {
            group: text.re_extract(fmt.unnamed, number).fill_null("")
            for group, number in fmt.groups.items()
        }
    else:

        def function(text, pattern, names): ...  # one search finds all groups

        names = [f"group_{number + 1}" for number in range(max(fmt.groups.values()))]
        kind = f"struct<{', '.join(f'{one}: string' for one in names)}>"
        signature = (("string", "string", "array<string>"), kind)
        extract: Any = ibis.udf.scalar.builtin(function, name="regexp_extract", signature=signature)
        table = table.mutate(**{found: extract(text, fmt.unnamed, ibis.array(names))})
        columns = {
            group: table[found][f"group_{number}"].fill_null("")  # type: ignore[index]
            for group, number in fmt.groups.items()
        }
    return table.mutate(**{f"{name} group {group}": value for group, value in columns.items()})


def _digits(text: Any, default: int = 0) -> Any:
    return text.nullif("").cast("int64").fill_null(default)


def _of_text(
    engine: Engine, table: ir.Table, name: str, flags: TableFlags, fmt: Format
) -> tuple[ir.Table, When]:
    """Parses text by the parts of a format, since engines agree on nothing else about it."""
    import ibis

    def add(**more: Any) -> None:
        nonlocal table
        table = table.mutate(**{f"{name} {part}": value for part, value in more.items()})

    def at(part: str) -> Any:
        return table[f"{name} {part}"]

    def part_of(part: str, place: time_texts.Part) -> Any:
        text = at(f"group {place.group}")
        if place.length is not None:
            text = text.substr(place.start, place.length)
        if place.names:
            known = [(text.lower() == known, n) for n, known in enumerate(place.names, place.first)]
            return ibis.cases(*known, else_=place.first).cast("int64")
        if part == "fraction":
            text = (text + "000000").substr(0, 6)
        return _digits(text, time_texts.DEFAULTS.get(part, 0))

    add(text=expressions.filled(table[name]))
    add(text=_or_null(at("text").re_search(fmt.unnamed), at("text")))
    table = _with_groups(engine, table, name, fmt)
    places = {part: place for part, place in fmt.parts.items() if part != "zone"}
    add(**{part: part_of(part, place) for part, place in places.items()})
    zone = at("group zone").replace(":", "") if "zone" in fmt.parts else ibis.literal("")
    add(zone=zone)
    signed = at("zone").startswith("+") | at("zone").startswith("-")
    add(offset=ibis.ifelse(signed, at("zone"), ""))
    minutes = _digits(at("offset").substr(1, 2)) * 60 + _digits(at("offset").substr(3, 2))
    add(minutes=minutes)

    def keep(step: str, value: Any) -> Any:
        add(**{f"day {step}": value})
        return at(f"day {step}")

    days, exists = time_texts.days_of({part: at(part) for part in places}, keep)
    add(days=_or_null(at("text").notnull() & exists, days).cast("int64"))
    add(
        naive=at("days") * DAY + time_texts.clock_of({part: at(part) for part in places}),
        ahead=ibis.ifelse(at("zone").startswith("-"), -at("minutes"), at("minutes")) * 60 * SECOND,
    )
    add(order=_sane(at("naive") - at("ahead")))
    # Without an offset, the time is already local.
    add(local=at("order") + ibis.ifelse(at("zone") == "", 0, _offset(at("order"), flags)))
    add(instant=at("order").nullif(ibis.ifelse(at("zone") == "", at("order"), -1)))
    return table, When(f"{name} local", f"{name} order", f"{name} instant")


FAN_OUT = 16
"""Branches of a case in the tree of `_offset`. A tree of two makes a query half as long again, and
an engine parses it longer than it would compare."""


def _offset(instant: Any, flags: TableFlags) -> Any:
    """Returns the UTC offset of the time zone in microseconds, as a tree of comparisons."""
    import ibis

    zones.check(flags.time_zone)
    starts, offsets = zones.offsets_of(flags.time_zone)

    def among(first: int, end: int) -> Any:
        if end - first == 1:
            return ibis.literal(offsets[first], "int64")
        size = -(-(end - first) // FAN_OUT)
        *edges, last = range(first, end, size)
        branches = [
            (instant < ibis.literal(starts[edge + size], "int64"), among(edge, edge + size))
            for edge in edges
        ]
        return ibis.cases(*branches, else_=among(last, end))

    return among(0, len(starts))
