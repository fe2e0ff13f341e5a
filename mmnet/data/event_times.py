"""Times of events, as whole numbers that every engine counts alike.

Engines differ in their time zones, in how they cut time into bins and in how they read text; so a
time becomes microseconds, and a clock the offsets that Python's own zone database has.
"""

from __future__ import annotations

import datetime
import functools
import zoneinfo
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from mmnet.checks import InputError
from mmnet.config import TableFlags
from mmnet.data import calendars, expressions
from mmnet.data.calendars import ANCHOR, Calendar
from mmnet.data.columns import LARGEST
from mmnet.data.engines import Engine, Events

if TYPE_CHECKING:
    import ibis.expr.types as ir

FIRST_YEAR, END_YEAR = 1970, 2100
"""A time outside these years is a mistake of the log."""

SECOND = 1_000_000
"""In microseconds, the unit of all times here."""

_DAY = 86_400 * SECOND
_END = (datetime.date(END_YEAR, 1, 1) - datetime.date(FIRST_YEAR, 1, 1)).days * _DAY
_ANCHOR = int(ANCHOR.timestamp()) * SECOND
_UNITS = {"s": SECOND, "ms": 1000, "us": 1}


@dataclass(frozen=True)
class When:
    """A column of times, as columns that `when` has added to a table.

    Attributes:
        local: microseconds since 1970 on the clock of the time zone, or the period's own number;
            null where there is no time.
        order: what to sort by.
        instant: microseconds since 1970 in UTC, null where a row does not say which instant;
            None where no row does.
        is_period: whether `local` is the period.
    """

    local: str
    order: str
    instant: str | None = None
    is_period: bool = False

    def period(self, table: ir.Table, calendar: Calendar) -> ir.IntegerValue:
        """The number of the period, by the rule of the calendar; null without a time."""
        import ibis

        if self.is_period:
            return table[self.local]
        width = ibis.literal(calendar.width * SECOND, "int64")
        return ((table[self.local] - _ANCHOR) // width).cast("int64")

    def since(self, other: When, table: ir.Table) -> ir.IntegerValue:
        """Microseconds from another time to this one; by the clock where that is all there is."""
        by_clock = table[self.local] - table[other.local]
        if not self.instant or not other.instant:
            return by_clock
        return (table[self.instant] - table[other.instant]).coalesce(by_clock)

    def place_of(self, text: str, flags: TableFlags) -> int:
        """Where a time or period given as `--events_until` stands in `local`.

        Raises:
            InputError: it is none.
        """
        if self.is_period:
            return Calendar(kind="integer").number(text, "events_until")
        seconds = Calendar(kind="time", width=1, time_zone=flags.time_zone)
        return seconds.number(text, "events_until") * SECOND + _ANCHOR


def when(
    engine: Engine, events: Events, table: ir.Table, flags: TableFlags, flag: str
) -> tuple[ir.Table, When]:
    """Reads the column of times that a flag names.

    A time without a zone is on the clock of `--time_zone` already; one with a zone or offset, and
    a number of units since 1970, is an instant.

    Args:
        engine: whose table it is.
        events: the events, for messages.
        table: the events, perhaps with columns added.
        flags: names the column and the time zone.
        flag: time_column or ingestion_column.

    Returns:
        The table with columns added, step by step: an expression that was written into another
        one once for each of its uses would grow beyond all bounds.

    Raises:
        InputError: the column is not there, or holds no times.
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
    if kind == "text" and not _holds_numbers(engine, events, of):
        return _of_text(engine, table.mutate(**{name: value}), name, flags)
    if kind not in ("number", "text"):
        raise InputError(
            f"{events.origin}, column {column}: a time must be a timestamp, a date, ISO 8601 text "
            f"or a number. Received: {of.type()} values"
        )
    table = table.mutate(**{name: expressions.number(value)})
    if flags.time_unit == "period":
        if flag != "time_column":
            raise InputError(
                f"{events.origin}, column {column}: say with --time_unit=s, ms or us what the "
                f"numbers of --{flag} count"
            )
        return table.mutate(**{name: _whole(table[name])}), When(name, name, is_period=True)
    table = table.mutate(**{name: _of_units(table[name], _UNITS[flags.time_unit])})
    return _on_clock(table, name, flags)


def _on_clock(table: ir.Table, name: str, flags: TableFlags) -> tuple[ir.Table, When]:
    """Adds the time on the clock of the time zone to a column of instants."""
    local = f"{name} on the clock"
    table = table.mutate(**{local: table[name] + _offset(table[name], flags)})
    return table, When(local, name, name)


def _or_null(good: Any, value: Any) -> Any:
    import ibis

    return ibis.ifelse(good, value, ibis.null(value.type()))


def _sane(micros: Any) -> Any:
    return _or_null((micros >= 0) & (micros < _END), micros)


def _whole(value: Any) -> Any:
    """Whole numbers as int64, null where it is none."""
    import ibis

    good = value.abs() < LARGEST
    if value.type().is_floating():
        good &= value == value.floor()
    return _or_null(good, ibis.ifelse(good, value, 0).cast("int64"))


def _of_units(value: Any, size: int) -> Any:
    """Microseconds of a number of units; what would not fit is null first."""
    value = _or_null((value >= 0) & (value < _END // size), value)
    if value.type().is_floating():
        return (value * size).floor().cast("int64")
    return value.cast("int64") * size


def _holds_numbers(engine: Engine, events: Events, value: Any) -> bool:
    """Whether a column of text holds numbers, by most of its first values."""
    text = expressions.filled(value)
    first = events.data.select(text=text).filter(lambda t: t.text.notnull()).limit(100)
    run = functools.partial(engine.backend.to_pyarrow, first)
    found = engine.run(run, f"reading {events.origin}")["text"]
    matches = pc.match_substring_regex(found, r"^[+-]?\d+(\.\d*)?$")
    return bool(len(found)) and pc.sum(matches).as_py() * 2 > len(found)


_ISO = (
    r"^\d{4}-\d{2}-\d{2}"
    r"([T ]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d([.,]\d+)?)?(Z|[+-]\d{2}(:?\d{2})?)?)?$"
)


def _of_text(
    engine: Engine, table: ir.Table, name: str, flags: TableFlags
) -> tuple[ir.Table, When]:
    """Reads ISO 8601 text by its positions: engines agree on nothing else about it."""
    import ibis

    def digits(part: Any) -> Any:
        return part.nullif("").try_cast("int64").fill_null(0)

    def add(**more: Any) -> None:
        nonlocal table
        table = table.mutate(**{f"{name} {part}": value for part, value in more.items()})

    def at(part: str) -> Any:
        return table[f"{name} {part}"]

    add(text=expressions.filled(table[name]))
    add(text=_or_null(at("text").re_search(_ISO), at("text")))
    add(
        day=at("text").substr(0, 10).try_cast("date").cast("timestamp"),
        rest=at("text").substr(16),  # from the seconds on
        minutes=digits(at("text").substr(11, 2)) * 60 + digits(at("text").substr(14, 2)),
    )
    add(
        seconds=digits(at("rest").re_extract(r"^:(\d{2})", 1)),
        fraction=at("rest").re_extract(r"[.,](\d+)", 1).fill_null("") + "000000",
        zone=at("rest").re_extract(r"(Z|[+-]\d{2}:?\d{0,2})$", 1).fill_null("").replace(":", ""),
    )
    ahead = digits(at("zone").substr(1, 2)) * 60 + digits(at("zone").substr(3, 2))
    add(
        naive=engine.micros(at("day"))
        + (at("minutes") * 60 + at("seconds")) * SECOND
        + digits(at("fraction").substr(0, 6)),
        ahead=ibis.ifelse(at("zone").startswith("-"), -ahead, ahead) * 60 * SECOND,
    )
    add(order=_sane(at("naive") - at("ahead")))
    # Where there is no offset, the time is on the clock already.
    add(local=at("order") + ibis.ifelse(at("zone") == "", 0, _offset(at("order"), flags)))
    add(instant=at("order").nullif(ibis.ifelse(at("zone") == "", at("order"), -1)))
    return table, When(f"{name} local", f"{name} order", f"{name} instant")


def _offset(instant: Any, flags: TableFlags) -> Any:
    """Microseconds that the clock of the time zone is ahead of UTC: a tree of comparisons."""
    import ibis

    calendars.calendar_of_times(flags)  # refuses an unknown zone
    starts, offsets = offsets_of(flags.time_zone)

    def between(first: int, last: int) -> Any:
        if first == last:
            return ibis.literal(offsets[first], "int64")
        middle = (first + last + 1) // 2
        return ibis.ifelse(
            instant < ibis.literal(starts[middle], "int64"),
            between(first, middle - 1),
            between(middle, last),
        )

    return between(0, len(starts) - 1)


@functools.lru_cache(maxsize=8)
def offsets_of(time_zone: str) -> tuple[list[int], list[int]]:
    """When a zone's clock is changed, and how far it is ahead of UTC from then on.

    Returns:
        Instants and offsets, in microseconds; the first instant is the start of 1970.

    >>> starts, offsets = offsets_of("Europe/Berlin")
    >>> [offset // 3_600_000_000 for offset in offsets[:3]]  # summer time came back in 1980
    [1, 2, 1]
    """
    zone = zoneinfo.ZoneInfo(time_zone)

    def ahead(second: int) -> int:
        delta = datetime.datetime.fromtimestamp(second, zone).utcoffset()
        return int((delta or datetime.timedelta()).total_seconds())

    starts, offsets = [0], [ahead(0)]
    for day in range(86_400, _END // SECOND + 1, 86_400):
        while ahead(day) != offsets[-1]:
            low, high = max(day - 86_400, starts[-1]), day  # the change is in (low, high]
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (low, middle) if ahead(middle) != offsets[-1] else (middle, high)
            starts.append(high)
            offsets.append(ahead(high))
    return [start * SECOND for start in starts], [offset * SECOND for offset in offsets]
