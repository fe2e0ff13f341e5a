"""Columns of times in memory: detection of their format, and their local times.

The format of a column is decided once, by its first values; a value in another format is an error.
The format of times in events is decided by the same function, `decide`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmnet.checks import InputError
from mmnet.config import TableFlags
from mmnet.data import time_texts, zones
from mmnet.data.parquet import PIECE_ROWS
from mmnet.data.tables import Rows, Table
from mmnet.data.time_texts import Format
from mmnet.data.zones import DAY, SECOND

SAMPLE = 100
"""Number of first non-empty values of a column that decide its format."""

PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
FRACTION = {"s": 6, "ms": 3, "us": 0, "ns": 0}
"""Digits after the decimal point that count, in microseconds."""

EARLIEST, LATEST = 631_152_000, zones.END // SECOND
"""Seconds since 1970: integers of 1990 to 2099 are times, in whichever unit puts them there."""

NUMBER = r"^[+-]?([0-8]?[0-9]{1,18})(\.[0-9]*)?$"
"""Matches text with a number below 2**63, in RE2, Java and Python."""


@dataclass(frozen=True)
class Reading:
    """Format of a column of times.

    Attributes:
        unit: unit of numbers: period, s, ms, us or ns; empty for text and types of time.
        format: format of text, or of numbers that are dates; None otherwise.
        earliest: first time that a number may be, in seconds since 1970.
    """

    unit: str = ""
    format: Format | None = None
    earliest: int = 0

    @property
    def rule(self) -> str:
        """Rule for values, for messages."""
        if self.unit == "period":
            return "a whole number"
        if self.unit:
            years = f"{1970 if self.earliest == 0 else 1990} to {zones.END_YEAR - 1}"
            return f"a time of {years} in {self.unit} since 1970"
        if self.format and self.format not in time_texts.BUILT_IN:
            return f"written as --time_format={self.format.name}"
        return "a date or time (ISO 8601)"


@dataclass(frozen=True)
class Times:
    """The times of a column.

    Attributes:
        local: int64 [rows], microseconds since 1970 on the clock of a zone; 0 where not `good`.
        instant: int64 [rows], microseconds since 1970 in UTC, where `zoned`.
        zoned: bool [rows], whether a value has a time zone.
        good: bool [rows], whether a value is a time.
        filled: bool [rows], whether there is a value.
    """

    local: np.ndarray
    instant: np.ndarray
    zoned: np.ndarray
    good: np.ndarray
    filled: np.ndarray


# -------------------------------------------------------------------------------- how it is written


def reading_of(table: Rows, column: str, flag: str, flags: TableFlags) -> Reading:
    """Detects the format of a column of times.

    Args:
        table: the table.
        column: one of its columns.
        flag: flag that names the column.
        flags: `--time_format` and `--time_unit`.

    Raises:
        InputError: numbers could be times, but in no unit; or dates are written as numbers.

    >>> times = Table(pa.table({"at": ["1717142400000"]}), "counts")
    >>> reading_of(times, "at", "period_column", TableFlags()).unit
    'ms'
    """
    found: list[pa.Array] = []
    places: list[tuple[Table, int]] = []
    for piece in table.pieces(PIECE_ROWS, {column: flag}):
        data = plain(piece.need(column, flag))
        if pa.types.is_timestamp(data.type) or pa.types.is_date(data.type):
            return Reading()
        rows = np.flatnonzero(filled(data))[: SAMPLE - len(places)]
        found.append(as_texts(data.take(pa.array(rows))))
        places += [(piece, int(row)) for row in rows]
        if len(places) == SAMPLE:
            break

    def where(index: int) -> str:
        piece, row = places[index]
        return piece.where(row, column)

    texts = pa.chunked_array(found, pa.string()).to_pylist()
    return decide(texts, flags, where, numeric=is_numeric(table.schema.field(column).type))


def decide(
    first: list[str], flags: TableFlags, where: Callable[[int], str], *, numeric: bool
) -> Reading:
    """Decides the format of a column by its first non-empty values.

    `--time_format` is used if any of the values has that format; otherwise the format is detected.

    Args:
        first: values as text, stripped.
        flags: `--time_format` and `--time_unit`.
        where: returns the place of one of them, for messages.
        numeric: whether the column has a numeric type; text counts as numeric if most of it is.

    Raises:
        InputError: see `reading_of`.

    >>> decide(["2024/05/31 08:00"], TableFlags(), str, numeric=False).format.name
    'YYYY/MM/DD'
    """
    if flags.time_format:
        given = time_texts.read_format(flags.time_format)
        if any(map(given.matches, first)):
            return Reading(format=given)
    numbers = pc.match_substring_regex(pa.array(first, pa.string()), NUMBER).to_pylist()
    if not numeric and 2 * sum(numbers) <= len(first):
        best = max(time_texts.BUILT_IN, key=lambda one: sum(map(one.matches, first)))
        return Reading(format=best)
    if flags.time_unit in PER_SECOND:
        return Reading(flags.time_unit)
    if flags.time_unit == "index":
        return Reading("period")
    at = [index for index, number in enumerate(numbers) if number]
    units = [_unit(float(first[index])) for index in at]
    unit = Counter(units or ["period"]).most_common(1)[0][0]
    if unit == "period":
        return Reading(unit)
    example = at[units.index(unit)]
    if unit:
        what = f"--time_unit={unit} if it counts {unit} since 1970"
        refuse_codes([first[index] for index in at], where(example), first[example], what)
        return Reading(unit, earliest=EARLIEST)
    advice = time_texts.suggestion([first[example]])
    raise InputError(
        f"{where(example)}: {first[example]} is too large for a period and is not a time of 1990 "
        f"to {zones.END_YEAR - 1} in s, ms, us or ns since 1970{advice or '; set --time_unit'}"
    )


def _unit(number: float) -> str:
    """Returns the unit of a number by its size; empty if the size does not decide."""
    if number < EARLIEST:
        return "period"
    return next((u for u, k in PER_SECOND.items() if EARLIEST * k <= number < LATEST * k), "")


def refuse_codes(numbers: list[str], where: str, example: str, otherwise: str) -> None:
    """Raises an error for integers that are all dates, such as 20240531, 202441 or 202405.

    Args:
        numbers: distinct numbers.
        where: place of one of them, for the message.
        example: that number.
        otherwise: flag to set if they are not dates.

    Raises:
        InputError: the sentence lists the formats that fit all of them.

    >>> refuse_codes(["202451", "202502"], "row 1", "202451", "--time_unit=index")
    Traceback (most recent call last):
    mmnet.checks.InputError: row 1: 202451 is a date written as a number, and numbers count \
periods; write it as 2024-05-31, or set --time_format=%G%V --period=7d, or --time_unit=index
    """
    codes = [name for name in time_texts.NUMBER_CODES if _all_dates(numbers, name)]
    if "%Y%m" in codes and "%G%V" in codes and len({number[:4] for number in numbers}) > 1:
        codes.remove("%G%V")  # ISO weeks go beyond 12, months do not
    if codes:
        widths = {"%Y%m": " --period=1M", "%G%V": " --period=7d"}
        flags = " or ".join(f"--time_format={name}{widths.get(name, '')}" for name in codes)
        raise InputError(
            f"{where}: {example} is a date written as a number, and numbers count periods; "
            f"write it as 2024-05-31, or set {flags}, or {otherwise}"
        )


def _all_dates(numbers: list[str], name: str) -> bool:
    """Checks whether all numbers are dates of the years 1900 to 2199 in a format."""
    fmt = time_texts.read_format(name)
    if not numbers or not all(map(fmt.matches, numbers)):
        return False
    local, _, _, good = _read_texts(pa.array(numbers, pa.string()), fmt)
    first, end = (time_texts.first_of_month(12 * year) * DAY for year in (1900, 2200))
    return bool((good & (local >= first) & (local < end)).all())


# ------------------------------------------------------------------------------------ reading


def read(data: pa.ChunkedArray, reading: Reading, time_zone: str) -> Times:
    """Reads the times of a column; a time without a zone is already local.

    Args:
        data: a column, or a part of it.
        reading: its format; not periods.
        time_zone: time zone of the result.
    """
    column = plain(data)
    full = filled(column)
    zoned = np.zeros(len(column), bool)
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        local = _of_type(column)
        good = full
        if pa.types.is_timestamp(column.type) and column.type.tz:
            zoned = good
    elif reading.format:
        places = pc.dictionary_encode(as_texts(column))
        rows = pc.fill_null(places.indices, 0).to_numpy(zero_copy_only=False)
        texts = places.dictionary if len(places.dictionary) else pa.array([""])
        local, ahead, zoned, good = (part[rows] for part in _read_texts(texts, reading.format))
        local, good = np.where(zoned, local - ahead, local), good & full
        zoned &= good
    else:
        local, good = _of_units(column, reading)
        zoned = good
    first, end = (time_texts.first_of_month(12 * year) * DAY for year in (1, 10_000))
    good = good & (local >= first + DAY) & (local < end - DAY)  # a day of margin for any zone
    instant = np.where(good, local, 0)
    local = instant.copy()
    if zoned.any():
        local[zoned] = zones.on_clock(instant[zoned], time_zone)
    return Times(local, instant, zoned & good, good, full)


def suggestion(data: pa.ChunkedArray, rows: np.ndarray, unit: str = "") -> str:
    """Returns the advice for rows of a column that cannot be read; see `advice`."""
    texts = as_texts(plain(data).take(pa.array(rows[:SAMPLE])))
    return advice(pc.drop_null(texts).to_pylist(), unit)


def advice(texts: Sequence[str], unit: str = "") -> str:
    """Returns advice about values that cannot be read: the flag that would read them.

    Args:
        texts: some of the values, stripped.
        unit: unit of numbers, if `--time_unit` sets it.

    >>> advice(["1709573164000"], "us"), advice(["2024-064"]), advice(["soon"], "s")
    ('; set --time_unit=ms', '; set --time_format=%Y-%j', '')
    """
    numbers = [text for text in texts if re.search(NUMBER, text)]
    if unit in PER_SECOND and numbers:
        units = {_unit(float(text)) for text in numbers}
        right = len(units) == 1 and units <= PER_SECOND.keys()
        return f"; set --time_unit={units.pop()}" if right else ""
    return time_texts.suggestion(texts)


def is_numeric(kind: pa.DataType) -> bool:
    """Checks whether a column has a numeric type."""
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def plain(data: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Returns a column as one array of a type of time, of numbers or of text."""
    if pa.types.is_dictionary(data.type):
        data = data.cast(data.type.value_type)
    if pa.types.is_decimal(data.type):
        data = data.cast(pa.string())
    kept = (pa.types.is_timestamp, pa.types.is_date, pa.types.is_integer, pa.types.is_floating)
    cast = (pa.types.is_string, pa.types.is_large_string, pa.types.is_null, pa.types.is_boolean)
    if any(kind(data.type) for kind in cast):
        data = data.cast(pa.string())
    elif not any(kind(data.type) for kind in kept):  # such as lists, which are not times
        data = pa.array(
            [None if one is None else str(one) for one in data.to_pylist()], pa.string()
        )
    if isinstance(data, pa.Array):
        return data
    return pa.concat_arrays(data.chunks) if data.num_chunks else pa.array([], data.type)


def as_texts(data: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Returns values as stripped text; whole numbers without a decimal point."""
    column = plain(data)
    if pa.types.is_floating(column.type):
        values = column.cast(pa.float64())
        whole = pc.and_(pc.equal(pc.floor(values), values), pc.less(pc.abs(values), 2.0**63))
        if pc.all(whole, min_count=0).as_py():
            column = values.cast(pa.int64())
    column = column.cast(pa.string())
    return pc.replace_substring_regex(
        pc.utf8_trim_whitespace(column), r"^([+-]?[0-9]+)\.0*$", r"\1"
    )


def filled(data: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """Marks rows that have a value, bool [rows]."""
    column = plain(data)
    full = pc.is_valid(column)
    if pa.types.is_floating(column.type):
        full = pc.and_(full, pc.invert(pc.fill_null(pc.is_nan(column), True)))
    elif pa.types.is_string(column.type):
        full = pc.and_(full, pc.not_equal(pc.fill_null(pc.utf8_trim_whitespace(column), ""), ""))
    return full.to_numpy(zero_copy_only=False)


def _of_type(column: pa.Array) -> np.ndarray:
    """Returns microseconds of timestamps and dates, rounded down."""
    if pa.types.is_date(column.type):
        return pc.fill_null(column.cast(pa.date32()).cast(pa.int32()), 0).to_numpy() * np.int64(DAY)
    return _micros(pc.fill_null(column.cast(pa.int64()), 0).to_numpy(), column.type.unit)[0]


def _micros(numbers: np.ndarray, unit: str) -> tuple[np.ndarray, np.ndarray]:
    """Converts whole numbers of a unit to microseconds, and marks those that fit."""
    per_second = PER_SECOND[unit]
    if per_second > SECOND:
        return numbers // (per_second // SECOND), np.ones(len(numbers), bool)
    size = SECOND // per_second
    fits = np.abs(numbers) < 2**62 // size
    return np.where(fits, numbers, 0) * size, fits


def _of_units(column: pa.Array, reading: Reading) -> tuple[np.ndarray, np.ndarray]:
    """Converts numbers to microseconds since 1970, and marks those in the unit's years."""
    per_second, rest = PER_SECOND[reading.unit], np.zeros(len(column), np.int64)
    if pa.types.is_integer(column.type):
        whole = pc.fill_null(column.cast(pa.int64(), safe=False), -1).to_numpy()
    elif pa.types.is_floating(column.type):
        values = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
        good = (values >= reading.earliest * per_second) & (values < LATEST * per_second)
        values, size = np.where(good, values, 0), per_second // SECOND
        micros = values / size if size else values * (SECOND // per_second)
        return np.floor(micros).astype(np.int64), good
    else:
        texts = pc.fill_null(pc.utf8_trim_whitespace(column), "")
        found = pc.extract_regex(
            texts, r"^(?P<whole>[+-]?[0-8]?[0-9]{1,18})(?:\.(?P<rest>[0-9]*))?$"
        )
        whole = pc.struct_field(found, "whole")
        whole = pc.fill_null(pc.utf8_ltrim(whole, "+").cast(pa.int64()), -1).to_numpy()
        if places := FRACTION[reading.unit]:
            digits = pc.utf8_rpad(pc.fill_null(pc.struct_field(found, "rest"), ""), places, "0")
            rest = _digits(pc.utf8_slice_codeunits(digits, 0, places))
    good = (whole >= reading.earliest * per_second) & (whole < LATEST * per_second)
    micros, _ = _micros(np.where(good, whole, 0), reading.unit)
    return micros + rest, good


def _read_texts(
    texts: pa.Array, fmt: Format
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Parses texts of a format.

    Returns:
        Microseconds since 1970 as written, the zone's offset from UTC, whether there is a zone, and
        whether the text is a time at all.
    """
    found = pc.extract_regex(texts, fmt.pattern)
    good = pc.is_valid(found).to_numpy(zero_copy_only=False)
    part = {}
    zone = pa.array([""] * len(texts))
    for name, place in fmt.parts.items():
        text = pc.fill_null(pc.struct_field(found, place.group), "")
        if name == "zone":
            zone = pc.replace_substring(text, ":", "")
            continue
        stop = None if place.length is None else place.start + place.length
        text = pc.utf8_slice_codeunits(text, place.start, stop)
        if place.names:
            number = pc.index_in(pc.utf8_lower(text), pa.array(place.names))
            part[name] = pc.fill_null(number, 0).to_numpy().astype(np.int64) + place.first
            continue
        if name == "fraction":
            text = pc.utf8_rpad(text, 6, "0")
        part[name] = _digits(text, time_texts.DEFAULTS.get(name, 0))
    days, exists = time_texts.days_of(part)
    minutes = _digits(pc.utf8_slice_codeunits(zone, 1, 3)) * 60
    minutes += _digits(pc.utf8_slice_codeunits(zone, 3, 5))
    behind = pc.starts_with(zone, "-").to_numpy(zero_copy_only=False)
    return (
        days * DAY + time_texts.clock_of(part),
        np.where(behind, -minutes, minutes) * 60 * SECOND,
        pc.not_equal(zone, "").to_numpy(zero_copy_only=False),
        good & exists,
    )


def _digits(text: pa.Array, default: int = 0) -> np.ndarray:
    """Parses whole numbers; texts without digits become the default."""
    text = pc.if_else(pc.match_substring_regex(text, "^[0-9]+$"), text, str(default))
    return text.cast(pa.int64()).to_numpy()
