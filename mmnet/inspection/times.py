"""Format of a column of times, and length of a period."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from mmnet.checks import InputError
from mmnet.config import TableFlags
from mmnet.data import periods, time_columns, time_texts
from mmnet.data.tables import Table
from mmnet.data.time_columns import Reading
from mmnet.data.zones import DAY, SECOND

NAMED = re.compile(
    r"(^|_)(time|date|day|week|month|ts|timestamp|at|dt|datetime|period|hour|when|epoch|release|"
    r"released|published|created|uploaded|updated)(_|$)|(time|date|day|week|month|period)$",
    re.IGNORECASE,
)
"""Typical names of columns of times."""

READ = 0.99
"""Minimum share of the filled values that must be times."""

CODES = ("%Y%m%d", "%Y%m%d%H", "%Y%m%d%H%M", "%Y%m%d%H%M%S", "%G%V", "%Y%m")
"""Formats of dates that are whole numbers, in the order in which they are tried."""

SPAN_OF_HOURS, SPAN_OF_DAYS, SPAN_OF_WEEKS = 10, 400, 3650
"""Maximum days up to which 1h, 1d and 7d are proposed if the times have no regular step."""


@dataclass(frozen=True)
class TimeReading:
    """The format in which a column is read as times.

    Attributes:
        reason: the reason in a phrase.
        certain: whether its values alone show it, and not only its name.
        flags: `--time_format` and other flags that reading it needs.
        of_days: whether it has whole days only, so that its clock is the publisher's.
        index: whether it counts periods.
        first, last: seconds since 1970, in the examined rows; or numbers of periods.
    """

    reason: str
    certain: bool
    flags: tuple[tuple[str, str], ...] = ()
    of_days: bool = False
    index: bool = False
    first: int = 0
    last: int = 0


def reading_of_column(table: Table, name: str, flags: TableFlags) -> TimeReading | None:
    """Detects how a column is read as times; None if it cannot be.

    >>> days = Table(pa.table({"day": ["20240530", "20240531"]}), "counts")
    >>> found = reading_of_column(days, "day", TableFlags())
    >>> found.flags, found.of_days
    ((('time_format', '%Y%m%d'),), True)
    """
    data = table.data[name]
    named = bool(NAMED.search(name))
    if pa.types.is_temporal(data.type) and not (
        pa.types.is_timestamp(data.type) or pa.types.is_date(data.type)
    ):
        return None
    if pa.types.is_temporal(data.type):
        return _described(data, Reading(), "of a type of time", certain=True)
    if pa.types.is_boolean(data.type) or pa.types.is_nested(data.type):
        return None
    full = np.flatnonzero(time_columns.filled(data))
    if not len(full):
        return None
    some = time_columns.as_texts(data.take(pa.array(full[:: max(len(full) // 2000, 1)])))
    texts = list(dict.fromkeys(some.to_pylist()))
    numeric = all(re.search(time_columns.NUMBER, text) for text in texts)
    if not numeric:
        return _of_text(data, texts, flags)
    for code in (flags.time_format, *CODES) if flags.time_format else CODES:
        if code and _dates(texts, code):
            several = len({text[:4] for text in texts}) > 1
            if code == "%G%V" and several and _dates(texts, "%Y%m"):
                continue
            certain = named or code not in ("%G%V", "%Y%m")
            found = _described(
                data,
                Reading(format=time_texts.read_format(code)),
                f"dates that are written as numbers ({code})",
                certain=certain,
            )
            return found and _with(found, ("time_format", code))
    if not named:
        return None
    try:
        reading = time_columns.decide(texts[:100], TableFlags(), str, numeric=True)
    except InputError:
        return None
    if reading.unit != "period":
        return _described(data, reading, f"{reading.unit} since 1970", certain=True)
    whole = [float(text) for text in texts]
    if all(number == int(number) for number in whole):
        low, high = int(min(whole)), int(max(whole))
        return TimeReading("numbers of periods", False, index=True, first=low, last=high)
    return None


def _of_text(data: pa.ChunkedArray, texts: list[str], flags: TableFlags) -> TimeReading | None:
    formats = [flags.time_format] if flags.time_format else []
    best = max(time_texts.BUILT_IN, key=lambda one: sum(map(one.matches, texts)))
    if sum(map(best.matches, texts)) >= READ * len(texts):
        return _described(data, Reading(format=best), f"written as {best.name}", certain=True)
    advice = time_texts.suggestion(texts[:200])
    formats += re.findall(r"--time_format='?([^']+?)'?(?: or|$)", advice)
    for name in formats:
        reading = Reading(format=time_texts.read_format(name))
        found = _described(data, reading, f"written as {name}", certain=True)
        if found:
            return _with(found, ("time_format", name))
    return None


def _with(found: TimeReading, flag: tuple[str, str]) -> TimeReading:
    return TimeReading(**{**vars(found), "flags": (flag,)})


def _dates(texts: list[str], code: str) -> bool:
    """Checks whether nearly all texts are dates of 1990 to 2099 in a format of digits."""
    fmt = time_texts.read_format(code)
    good = [text for text in texts if fmt.matches(text) and text[:2] in ("19", "20")]
    if len(good) < READ * len(texts):
        return False
    found = time_columns.read(pa.chunked_array([good]), Reading(format=fmt), "UTC")
    years = found.local // (365.25 * DAY) + 1970
    return bool((found.good & (years >= 1990) & (years < 2100)).all())


def _described(
    data: pa.ChunkedArray, reading: Reading, reason: str, *, certain: bool
) -> TimeReading | None:
    found = time_columns.read(data, reading, "UTC")
    if found.good.sum() < READ * found.filled.sum() or not found.good.any():
        return None
    local = found.local[found.good]
    of_days = bool((local % DAY == 0).all()) and not found.zoned.any()
    first, last = int(local.min() // SECOND), int(local.max() // SECOND)
    return TimeReading(reason, certain, of_days=of_days, first=first, last=last)


def local_times(data: pa.ChunkedArray, found: TimeReading, flags: TableFlags) -> np.ndarray:
    """Returns local times of a column in seconds since 1970, sorted, without duplicates."""
    wanted = flags.model_copy(update=dict(found.flags))
    reading = time_columns.reading_of(
        Table(pa.table({"time": data}), "table"), "time", "time_column", wanted
    )
    read = time_columns.read(data, reading, flags.time_zone)
    return np.unique(read.local[read.good] // SECOND)


def width(seconds: np.ndarray) -> tuple[str, str]:
    """Proposes the length of a period in the notation of `--period`, with the reason.

    Args:
        seconds: times, distinct and sorted; a sample is enough.

    >>> width(np.arange(0, 40 * 604_800, 604_800) + 345_600)
    ('7d', 'the times are 7d apart')
    >>> width(np.sort(np.random.default_rng(0).integers(0, 30 * 86_400, 5_000)))
    ('1d', 'the log has 30 days')
    """
    step = periods.step_of(seconds)
    hours = 3600
    if step and (step.of_months or step.size >= hours) and step.times >= 3:
        if step.of_months or step.size >= 86_400:
            return step.flag_value, f"the times are {step.flag_value} apart"
        seconds = seconds - seconds % hours
    days = int((seconds[-1] - seconds[0]) / 86_400) + 1 if len(seconds) else 0
    which = np.searchsorted([SPAN_OF_HOURS, SPAN_OF_DAYS, SPAN_OF_WEEKS], days)
    return ("1h", "1d", "7d", "1M")[which], f"the log has {days:,} days"


def same_days(days: np.ndarray, instants: np.ndarray) -> int | None:
    """Returns the hours by which a column of days is ahead of another column's clock, or None.

    Args:
        days: seconds since 1970 of midnights, by row.
        instants: seconds since 1970 in UTC, by row.

    >>> same_days(np.array([0, 86_400]), np.array([-20_000, 60_000]))
    8
    """
    low, high = (days - instants).max(), (days + 86_400 - instants).min()
    hours = -(-low // 3600)
    return int(hours) if low <= high and hours * 3600 < high and -12 <= hours <= 14 else None
