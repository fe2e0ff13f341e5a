"""Calendars: the division of time into numbered periods."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from mmnet.checks import InputError
from mmnet.config import TableFlags
from mmnet.data import time_columns, time_texts, zones
from mmnet.data.columns import floats
from mmnet.data.tables import Table
from mmnet.data.time_columns import Reading
from mmnet.data.zones import DAY, SECOND

ANCHOR = pd.Timestamp("1970-01-05")
"""Periods are counted from this Monday, so that their borders never depend on the data."""

_ANCHOR = int(ANCHOR.timestamp()) * SECOND
MAX_PERIODS = 20_000

BY_COLUMN = TableFlags()
"""Format of times on the command line, as for columns without flags."""


@dataclass(frozen=True)
class Periods:
    """The periods of a column of times.

    Attributes:
        numbers: float64 [rows], NaN where empty.
        again: bool [rows], whether the clock shows this period for the second time, as in the
            repeated hour at the end of summer time.
    """

    numbers: np.ndarray
    again: np.ndarray


class Calendar(BaseModel):
    """Maps periods, as users write them, to integers and back.

    In a calendar of integers, a period is its own number. In a calendar of times, bins are cut on
    the clock of `time_zone`. Bins of a `width` are counted from Monday, 1970-01-05, so a 7-day bin
    starts on a Monday in any data; bins of `months` are counted from January 1970.

    Attributes:
        kind: integer or time.
        width: length of a bin in seconds; 0 for integers and for months.
        time_zone: time zone whose clock defines the bins.
        months: length of a bin in months; 0 for all other bins.
    """

    model_config = ConfigDict(frozen=True)

    kind: str
    width: int = 0
    time_zone: str = "UTC"
    months: int = 0

    def read(
        self,
        table: Table,
        column: str,
        flag: str,
        reading: Reading,
        *,
        allow_empty: bool = False,
    ) -> Periods:
        """Reads a column into numbers of periods.

        Args:
            table: table that has the column.
            column: name of the column.
            flag: flag that names the column.
            reading: format of the column.
            allow_empty: whether a row may have no period.

        Raises:
            InputError: a value that is not a period, with its row.
        """
        data = table.need(column, flag)
        rule = f"a period must be {'a whole number' if self.kind == 'integer' else reading.rule}"
        again = np.zeros(len(data), bool)
        if self.kind == "integer":
            values = floats(table, column, flag, rule=rule)
            whole = (values == np.floor(values)) & (np.abs(values) < 2**53)  # beyond, floats skip
            bad = ~np.isnan(values) & ~whole
        elif reading.unit == "period":
            rule = f"a period must be {Reading().rule}"
            values = np.full(len(data), np.nan)
            bad = time_columns.filled(data)
        else:
            times = time_columns.read(data, reading, self.time_zone)
            values = np.where(times.good, self.bins(times.local), np.nan)
            bad = times.filled & ~times.good
            if not self.months:
                again[times.zoned] = zones.repeated(
                    times.instant[times.zoned], self.time_zone, self.width * SECOND
                )
        if not allow_empty:
            bad = bad | np.isnan(values)
        if bad.any():
            rows = np.flatnonzero(bad)
            unit = "" if reading.earliest else reading.unit  # else its size told the unit
            advice = time_columns.suggestion(data, rows, unit) if self.kind == "time" else ""
            raise InputError(
                f"{table.where(int(rows[0]), column)}: {rule}{advice}. "
                f"Received: {data[int(rows[0])].as_py()!r}"
            )
        return Periods(values, again)

    def bins(self, local: Any) -> Any:
        """Returns the numbers of the bins that contain times.

        Args:
            local: whole microseconds since 1970 on the clock; an array, or an engine's column.
        """
        if self.months:
            return (time_texts.month_of(local // DAY) - 12 * 1970) // self.months
        return (local - _ANCHOR) // (self.width * SECOND)

    def start(self, number: int) -> pd.Timestamp:
        """Returns the first moment of a bin, on the clock."""
        if self.months:
            days = time_texts.first_of_month(12 * 1970 + int(number) * self.months)
            return pd.Timestamp(np.datetime64(int(days), "D"))  # of any year
        return ANCHOR + int(number) * pd.Timedelta(seconds=self.width)

    @property
    def of_days(self) -> bool:
        """True if every bin starts at midnight."""
        return self.months > 0 or self.width % 86_400 == 0

    def describe(self) -> str:
        """Describes the calendar in words, for messages."""
        if self.kind == "integer":
            return "periods given as integers"
        return f"periods of {self.flag_value} on the clock of {self.time_zone}"

    @property
    def flag_value(self) -> str:
        """The length of a bin in the notation of `--period`."""
        return f"{self.months}M" if self.months else spelled(self.width)

    def label(self, number: int) -> int | str:
        """Returns a period as users write it: the integer, or the ISO start of the bin."""
        if self.kind == "integer":
            return int(number)
        start = self.start(number)
        return start.date().isoformat() if start == start.normalize() else start.isoformat()

    def periods(self, numbers: np.ndarray) -> pd.Series:
        """Returns periods as a column of the input's own type: integers, dates or times."""
        if self.kind == "integer":
            return pd.Series(numbers, dtype="int64")
        if self.months:
            days = time_texts.first_of_month(12 * 1970 + np.asarray(numbers) * self.months)
            starts = pd.Series(pd.Timestamp(0) + pd.to_timedelta(days, unit="D"))
        else:
            starts = pd.Series(ANCHOR + numbers * pd.Timedelta(seconds=self.width))
        return starts.dt.date if self.of_days else starts.astype("datetime64[s]")

    def number(self, label: str, flag: str) -> int:
        """Returns the number of a period given on the command line.

        Raises:
            InputError: it is not a period.
        """
        table = Table(pa.table({flag: pa.chunked_array([pa.array([label])])}), "flag")
        try:
            reading = time_columns.reading_of(table, flag, flag, BY_COLUMN)
            return int(self.read(table, flag, flag, reading).numbers[0])
        except InputError:
            rule = "a whole number" if self.kind == "integer" else Reading().rule
            raise InputError(f"--{flag}: a period must be {rule}. Received: {label!r}") from None


def calendar_of_times(flags: TableFlags) -> Calendar:
    """Returns the calendar that `--period` and `--time_zone` describe.

    Raises:
        InputError: one of the two cannot be parsed.

    >>> calendar_of_times(TableFlags(period="1M")).label(650)
    '2024-03-01'
    """
    zones.check(flags.time_zone)
    months = re.fullmatch(r"\s*([1-9]\d{0,3})\s*M\s*", flags.period)
    if months:
        return Calendar(kind="time", time_zone=flags.time_zone, months=int(months[1]))
    if minutes := re.fullmatch(r"\s*(\d+)\s*m\s*", flags.period):
        raise InputError(
            f"--period={flags.period} is ambiguous: it may be minutes or months; set "
            f"--period={minutes[1]}min or --period={minutes[1]}M"
        )
    return Calendar(kind="time", width=seconds(flags.period, "period"), time_zone=flags.time_zone)


def check_names(calendar: Calendar, reading: Reading, where: str) -> None:
    """Raises an error for times that name whole weeks, months or years if periods are shorter.

    Args:
        calendar: the periods.
        reading: format of the times.
        where: place of their column, for the message.

    Raises:
        InputError: the sentence names the `--period` to set.
    """
    names = reading.format.names if reading.format else "day"
    least = {"week": 7 * 86_400, "month": 1, "year": 12}.get(names, 0)
    long = calendar.months or (names == "week" and calendar.width)
    if long < least:
        wide = {"week": "7d", "month": "1M", "year": "12M"}[names]
        raise InputError(
            f"{where}: values are {names}s, but periods are {calendar.flag_value} long; set "
            f"--period={wide}"
        )


def spelled(width: int) -> str:
    """Formats a width in seconds in the notation of `--period`.

    >>> spelled(604_800), spelled(5400)
    ('7d', '90min')
    """
    units = {"d": 86_400, "h": 3600, "min": 60, "s": 1}
    unit = next(name for name, size in units.items() if width % size == 0)
    return f"{width // units[unit]}{unit}"


def seconds(text: str, flag: str) -> int:
    """Parses a width such as 1h, 1d or 7d into seconds.

    Raises:
        InputError: it is not a width, or not a whole number of seconds.
    """
    try:
        # pandas spells days and weeks with a capital.
        spelled = re.sub(r"\d\s*[dw](?![a-z])", lambda unit: unit[0].upper(), text)
        width = pd.Timedelta(spelled).total_seconds()
    except ValueError:
        width = 0
    if not width >= 1 or width % 1:
        widths = "1h, 1d, 7d or 1M" if flag == "period" else "1h, 1d or 7d"
        raise InputError(f"--{flag} must be a width such as {widths}. Received: {text!r}")
    return int(width)
