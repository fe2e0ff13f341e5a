"""Layout of the log: the columns of ids and times, the period, the rate, running totals."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from mmnet.checks import InputError
from mmnet.data import rates as data_rates
from mmnet.data import table_files
from mmnet.data.calendars import MAX_PERIODS
from mmnet.data.columns import id_texts
from mmnet.data.tables import Rows, Table
from mmnet.inspection import keys, rates, samples, times
from mmnet.inspection.cells import as_numbers
from mmnet.inspection.choices import Choices
from mmnet.inspection.columns import Profile
from mmnet.inspection.rates import Rate

ITEMS = 2000
"""Number of items whose steps are examined."""

ONE_EACH = 0.9
"""Minimum share of the rows of counts with a unique pair of item and period."""

SEVERAL = 3
"""Maximum number of other rates in a comment."""


@dataclass(frozen=True)
class Layout:
    """The layout of the log.

    Attributes:
        item: the column of ids.
        time: the column of times or periods.
        rates: rates from its columns, the proposed one first.
        totals: columns of running totals.
    """

    item: str
    time: str
    rates: tuple[Rate, ...]
    totals: tuple[str, ...] = ()


def of_log(
    log: Table, rows: Rows | None, items: Table, found: Sequence[Profile], choices: Choices
) -> Layout:
    """Finds the layout of the log, and proposes the flags that describe it.

    Args:
        log: counts or events, or some of their rows.
        rows: all of the counts; None for events.
        items: the items table.
        found: the log's columns.
        choices: receives the proposed flags.

    Raises:
        InputError: there is no column of ids, times or counts; the sentence names the flag to set.
    """
    item = _item(log, items, choices)
    time = _time(log, item, found, rows is None, choices)
    columns = [one for one in found if one.name not in (item, time.name)]
    totals: tuple[str, ...] = ()
    if rows is None:
        made = _of_events(log, item, time, columns, choices)
    else:
        made, totals = _of_counts(log, rows, item, time, columns, choices)
    _width(log, time, choices)
    _numerator(made, log, choices)
    if totals:
        _snapshots(time.name, totals, choices)
    flags = choices.tables
    used = {flags.numerator, flags.denominator, *data_rates.columns_of(flags)}
    for one in columns:
        if one.name not in used:
            choices.leave_out(log.name, one.name, _why_unused(one, made))
    return Layout(item, time.name, tuple(made), totals)


def _item(log: Table, items: Table, choices: Choices) -> str:
    given = choices.given.item_column
    if choices.is_given("item_column"):
        for table in (log, items):
            table_files.need_column(table.origin(), table.names, given, "item_column")
        return given
    found = keys.keys(log, items)
    if not found:
        advice = "name it with --item_column"
        if other := keys.elsewhere(log, items):
            advice = (
                f"column {other[0]!r} of the one has the ids of column {other[1]!r} of the other: "
                "give both columns the same name"
            )
        raise InputError(
            f"{log.origin()} and {items.origin()} have no common column of item ids; {advice}"
        )
    best = found[0]
    reason = (
        f"in both tables; unique in the items table ({best.once:.1%} are different), which has "
        f"{best.met:.1%} of the log's ids"
    )
    choices.propose("item_column", best.column, reason)
    return best.column


# ------------------------------------------------------------------------------------------ time


def _time(
    log: Table, item: str, found: Sequence[Profile], of_events: bool, choices: Choices
) -> Profile:
    flag = "time_column" if of_events else "period_column"
    by_name = {one.name: one for one in found}
    name = getattr(choices.given, flag)
    if choices.is_given(flag):
        table_files.need_column(log.origin(), log.names, name, flag)
    elif name not in by_name:
        name = _best_time(log, item, found, of_events, flag)
    chosen, why = by_name[name], ""
    if of_events and not choices.is_given(flag):
        chosen, why = _days_of(log, chosen, found)
    reading = chosen.time
    about = reading.reason if reading else "whole numbers"
    choices.propose(flag, chosen.name, why or about)
    for other, value in reading.flags if reading else ():
        choices.propose(other, value, f"{chosen.name} has {about}")
    return chosen


def _best_time(log: Table, item: str, found: Sequence[Profile], of_events: bool, flag: str) -> str:
    times_of = [one for one in found if one.time and one.name != item and one.distinct > 1]
    ids = _codes(log, item)

    def order(one: Profile) -> tuple[object, ...]:
        time = one.time
        own = 1.0 if of_events else _own(ids, _codes(log, one.name))
        certain = bool(time and time.certain)
        span = (time.last - time.first) if of_events and time and certain else 0
        return own < ONE_EACH, not certain, -(one.filled > 0.99), -min(span, 1), one.name

    if times_of:
        return min(times_of, key=order).name
    if not of_events:
        whole = [
            one
            for one in found
            if one.whole and one.name != item and 1 < one.distinct <= MAX_PERIODS
        ]
        whole = [one for one in whole if _own(ids, _codes(log, one.name)) >= ONE_EACH]
        if whole:
            return min(whole, key=lambda one: one.distinct).name
    raise InputError(
        f"{log.origin()} has no column that is recognised as times or periods; name it with "
        f"--{flag}"
    )


def _codes(table: Table, column: str) -> np.ndarray:
    found = table.data[column].combine_chunks()
    if pa.types.is_nested(found.type):
        return np.zeros(len(found), np.int64)
    return pd.factorize(pd.Series(found.to_pandas()))[0].astype(np.int64)


def _own(ids: np.ndarray, times_of: np.ndarray) -> float:
    """Returns the share of rows whose pair of item and time is new."""
    pairs = ids * (times_of.max(initial=0) + 2) + times_of
    return len(np.unique(pairs)) / max(len(pairs), 1)


def _days_of(log: Table, chosen: Profile, found: Sequence[Profile]) -> tuple[Profile, str]:
    """Finds a column of whole days with the same days as instants, on the publisher's clock."""
    if not chosen.time:
        return chosen, ""
    others = [one for one in found if one.time and one.time.certain and one.name != chosen.name]
    for one in [chosen, *others]:
        for other in [chosen, *others]:
            if not (one.time and other.time and one.time.of_days) or other.time.of_days:
                continue
            days, instants = (_seconds(log, which) for which in (one, other))
            there = np.isfinite(days) & np.isfinite(instants)
            ahead = times.same_days(days[there], instants[there]) if there.any() else None
            if ahead is not None:
                sign = "ahead of" if ahead >= 0 else "behind"
                return one, (
                    f"{one.time.reason}: the days of {other.name} on a clock {abs(ahead)} h {sign} "
                    "UTC"
                )
    return chosen, ""


def _seconds(log: Table, one: Profile) -> np.ndarray:
    """Returns seconds since 1970 of a column of times in UTC, NaN where it is empty."""
    from mmnet.config import TableFlags
    from mmnet.data import time_columns

    data = log.data[one.name]
    flags = TableFlags(**dict(one.time.flags if one.time else ()))
    alone = Table(pa.table({"time": data}), "events")
    reading = time_columns.reading_of(alone, "time", "time_column", flags)
    read = time_columns.read(data, reading, "UTC")
    return np.where(read.good, read.local / 1e6, np.nan)


def _width(log: Table, time: Profile, choices: Choices) -> None:
    if time.time is None or time.time.index or choices.is_given("period"):
        return
    seconds = times.local_times(log.data[time.name], time.time, choices.tables)
    value, reason = times.width(seconds)
    choices.propose("period", value, reason)


# ------------------------------------------------------------------------------------------ rates


def _of_counts(
    log: Table,
    rows: Rows,
    item: str,
    time: Profile,
    columns: Sequence[Profile],
    choices: Choices,
) -> tuple[list[Rate], tuple[str, ...]]:
    given = {
        getattr(choices.given, name)
        for name in ("numerator", "denominator")
        if choices.is_given(name)
    }
    counts = [one.name for one in columns if (one.whole and one.low >= 0) or one.name in given]
    if not counts:
        raise InputError(
            f"{log.origin()} has no column of counts (whole numbers of 0 or more) besides {item} "
            f"and {time.name}; name two with --numerator and --denominator"
        )
    some = samples.some_ids(log, item, ITEMS)
    series = Table(samples.of_items(rows, item, some, [time.name, *counts]), "counts")
    ids = pd.factorize(id_texts(series, item, "item_column").to_pandas())[0]
    when = _ordered(series, time)
    values = {name: as_numbers(series.data[name]) for name in counts}
    totals = tuple(
        name for name, column in values.items() if rates.steps(ids, when, column).of_totals
    )
    if len(totals) < 2 or choices.is_given("source"):
        sampled = {name: as_numbers(log.data[name]) for name in counts}
        return rates.rates_of_counts(sampled), ()
    grown = rates.differences(ids, when, [values[name] for name in totals])
    gained = dict(zip(totals, grown, strict=True))
    return rates.rates_of_counts(gained, rates.HOLDS_OF_TOTALS), totals


def _ordered(table: Table, time: Profile) -> np.ndarray:
    if time.time is None or time.time.index:
        return as_numbers(table.data[time.name])
    return _seconds(table, time)


def _of_events(
    log: Table, item: str, time: Profile, columns: Sequence[Profile], choices: Choices
) -> list[Rate]:
    choices.propose("denominator", "events", "every event counts")
    truths = {one.name: as_numbers(log.data[one.name]) for one in columns if one.truth}
    if not truths and not choices.is_given("numerator"):
        raise InputError(
            f"{log.origin()} has no column of 0 and 1 besides ids and times; set --numerator to "
            "a column to count or an expression such as 'play_ms >= 3000'"
        )
    when = _ordered(log, time)
    if time.time and not time.time.index:
        when = when // 86_400
    return rates.rates_of_events(_codes(log, item), np.nan_to_num(when), truths)


def _numerator(made: Sequence[Rate], log: Table, choices: Choices) -> None:
    wanted = [
        one
        for one in made
        if all(
            not choices.is_given(name) or getattr(choices.given, name) == getattr(one, name)
            for name in ("numerator", "denominator")
        )
    ]
    if not wanted:
        flags = choices.tables
        of_flags = [flags.numerator, flags.denominator]
        if choices.is_given("numerator") or set(of_flags) <= {*log.names, "events"}:
            return  # mistakes in them are reported with their rows
        raise InputError(
            f"{log.origin()}: no count is a subset of another in {rates.HOLDS:.0%} of the rows; "
            "name the two with --numerator and --denominator, and set --rate_may_exceed_one if the "
            "numerator is not a subset of the denominator"
        )
    best, others = wanted[0], [one for one in made if one.denominator == wanted[0].denominator][1:]
    tells = "" if np.isnan(best.signal) else f", of whose variance {1 - best.signal:.0%} is noise"
    choices.propose("denominator", best.denominator, "the count that includes the others")
    choices.propose(
        "numerator",
        best.numerator,
        f"{best.rate:.3g} per 100 {best.denominator}{tells}" + _listed(others),
    )


def _listed(others: Sequence[Rate]) -> str:
    shown = ", ".join(
        f"{one.numerator} {one.rate:.3g}"
        + ("" if np.isnan(one.signal) else f" ({1 - one.signal:.0%} noise)")
        for one in others
    )
    return f"; others: {shown}" if others else ""


def _snapshots(time: str, totals: Sequence[str], choices: Choices) -> None:
    """Proposes the source of running totals, whose files must be in one directory."""
    given = choices.given
    places = [os.path.abspath(place) for place in (given.counts, given.items)]
    folder = os.path.commonpath([os.path.dirname(place) for place in places])
    names = [os.path.relpath(place, folder) for place in places]
    relative = os.path.relpath(folder)
    shown = folder if os.path.isabs(given.counts) or relative.startswith("..") else relative
    why = f"{', '.join(totals)} are running totals: they hardly ever fall within an item"
    choices.withdraw("period_column")  # an option of the source names it
    choices.propose("source", "snapshots", why)
    choices.propose("source_dir", shown, "the directory of both tables")
    choices.propose(
        "source_set",
        (f"snapshots={names[0]}", f"items={names[1]}", f"time={time}"),
        "the two tables, and the column of times",
    )


def _why_unused(one: Profile, made: Sequence[Rate]) -> str:
    for rate in made:
        if one.name in (rate.numerator, rate.denominator):
            return f"another rate: {rate.rate:.3g} {rate.numerator} per 100 {rate.denominator}"
    if one.time and one.time.certain:
        return f"another time ({one.time.reason})"
    if one.distinct <= 1:
        return "has one value only"
    if one.numeric and not one.truth:
        kind = "a code" if one.named_as_code else "numbers that are not a subset of another count"
        return f"{kind} ({one.low:g} to {one.high:g})"
    return f"not an id, time or count ({one.distinct:,} values)"
