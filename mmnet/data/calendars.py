"""Calendars: what a period is, and which one a time belongs to."""

from __future__ import annotations

import re
import zoneinfo

import numpy as np
import pandas as pd
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from mmnet.checks import InputError
from mmnet.config import TableFlags
from mmnet.data.columns import floats
from mmnet.data.parquet import PIECE_ROWS
from mmnet.data.tables import Rows, Table

ANCHOR = pd.Timestamp("1970-01-05")
"""Periods are counted from this Monday, so their borders never depend on the data."""

MAX_PERIODS = 20_000


class Calendar(BaseModel):
    """Maps periods, as users write them, to integers and back.

    An integer period stands for itself. A time belongs to the bin of `width` that it falls into;
    bins are cut on the clock of `time_zone` and counted from Monday, 1970-01-05, so a 7-day bin
    starts on a Monday whatever the data.

    Attributes:
        kind: integer or time.
        width: of a bin, in seconds; 0 for integers.
        time_zone: whose clock cuts the bins.
    """

    model_config = ConfigDict(frozen=True)

    kind: str
    width: int = 0
    time_zone: str = "UTC"

    def numbers(
        self, table: Table, column: str, flag: str, *, allow_empty: bool = False
    ) -> np.ndarray:
        """Period numbers of a column, float64 with NaN where empty.

        Raises:
            InputError: a value that is no period, with its row.
        """
        data = table.need(column, flag)
        if self.kind == "integer":
            values = floats(table, column, flag, rule=self._rule)
            whole = (values == np.floor(values)) & (np.abs(values) < 2**53)  # beyond, floats skip
            bad = ~np.isnan(values) & ~whole
        else:
            times = _times(data, self.time_zone)
            values = ((times - ANCHOR) // pd.Timedelta(seconds=self.width)).to_numpy(float)
            empty = data.to_pandas().astype("string").fillna("").str.strip() == ""
            bad = np.isnan(values) & ~empty.to_numpy()
        if not allow_empty:
            bad |= np.isnan(values)
        if bad.any():
            row = int(np.argmax(bad))
            raise InputError(
                f"{table.where(row, column)}: {self._rule}. Received: {data[row].as_py()!r}"
            )
        return values

    def describe(self) -> str:
        """The calendar in words, for messages."""
        if self.kind == "integer":
            return "periods given as integers"
        return f"periods of {pd.Timedelta(seconds=self.width)} on the clock of {self.time_zone}"

    @property
    def _rule(self) -> str:
        wanted = "a whole number" if self.kind == "integer" else "a date or time (ISO 8601)"
        return f"a period must be {wanted}"

    def label(self, number: int) -> int | str:
        """A period as users write it: the integer, or the ISO start of the bin."""
        if self.kind == "integer":
            return int(number)
        start = ANCHOR + int(number) * pd.Timedelta(seconds=self.width)
        return start.date().isoformat() if start == start.normalize() else start.isoformat()

    def periods(self, numbers: np.ndarray) -> pd.Series:
        """Periods as a column of the input's own type: integers, dates or times."""
        if self.kind == "integer":
            return pd.Series(numbers, dtype="int64")
        starts = pd.Series(ANCHOR + numbers * pd.Timedelta(seconds=self.width))
        days = self.width % 86_400 == 0
        return starts.dt.date if days else starts.astype("datetime64[s]")

    def number(self, label: str, flag: str) -> int:
        """The number of a period given on the command line.

        Raises:
            InputError: it is no period.
        """
        column = pa.chunked_array([pa.array([label])])
        try:
            values = self.numbers(Table(pa.table({flag: column}), "flag"), flag, flag)
        except InputError:
            raise InputError(f"--{flag}: {self._rule}. Received: {label!r}") from None
        return int(values[0])


_ZONED = r"[T ]\d{2}.*(?:Z|[+-]\d{2}(?::?\d{2})?)$"


def _times(data: pa.ChunkedArray, time_zone: str) -> pd.Series:
    """Times on the clock of a zone; NaT where there is none.

    A time without a zone is already on that clock; one with an offset is converted, each by its
    own, since the offsets of a zone with daylight saving differ within a year.
    """
    if pa.types.is_timestamp(data.type):
        return _on_clock(pd.to_datetime(data.to_pandas()), time_zone)
    if pa.types.is_date(data.type):
        return data.cast(pa.timestamp("ms")).to_pandas()
    raw = data.to_pandas().astype("string").str.strip()
    zoned = raw.str.contains(_ZONED).fillna(False).to_numpy(bool)
    times = pd.to_datetime(raw.mask(zoned), errors="coerce", format="ISO8601")
    if zoned.any():
        converted = pd.to_datetime(raw[zoned], errors="coerce", format="ISO8601", utc=True)
        times = times.astype("datetime64[us]")
        times[zoned] = _on_clock(converted, time_zone)
    return times


def _on_clock(times: pd.Series, time_zone: str) -> pd.Series:
    return times if times.dt.tz is None else times.dt.tz_convert(time_zone).dt.tz_localize(None)


def check_same(counts: Rows, flags: TableFlags, fitted: Calendar) -> None:
    """Refuses counts whose periods are not those that a model was trained on.

    Raises:
        InputError: the sentence names both.
    """
    now = calendar_of(counts, flags)
    if now != fitted:
        raise InputError(
            f"{counts.origin()}: the model was trained on {fitted.describe()}, but these counts "
            f"(with --period and --time_zone) have {now.describe()}"
        )


def calendar_of(table: Rows, flags: TableFlags) -> Calendar:
    """Chooses the calendar that a counts table's period column needs.

    Raises:
        InputError: `--period` or `--time_zone` cannot be read, or the periods are dates written
            as numbers (a year of them would read as 1,131 periods, most of them empty).
    """
    column, flag = flags.period_column, "period_column"
    calendar = Calendar(kind="integer")
    numbers, rows, dates = 0, 0, None
    for piece in table.pieces(PIECE_ROWS, {column: flag}):
        data = piece.need(column, flag)
        if pa.types.is_temporal(data.type):
            return calendar_of_times(flags)
        if pa.types.is_integer(data.type) or pa.types.is_floating(data.type):
            numbers += len(data)
        else:
            raw = data.to_pandas().astype("string").str.strip()
            numbers += int(raw.str.fullmatch(r"-?\d+").fillna(False).sum())
        rows += len(data)
        if 2 * numbers > rows and dates is not False:
            found = calendar.numbers(piece, column, flag, allow_empty=True)
            found = found[~np.isnan(found)]
            dates = are_dates(found) if len(found) else dates
    if 2 * numbers <= rows:
        return calendar_of_times(flags)
    if dates:
        first = next(iter(table.pieces(1, {column: flag})))
        value = first.data[column][0].as_py()
        raise InputError(
            f"{first.where(0, column)}: {value} is a date written as a number, and numbers count "
            "periods; write it as 2024-05-31"
        )
    return calendar


def calendar_of_times(flags: TableFlags) -> Calendar:
    """The calendar that `--period` and `--time_zone` describe.

    Raises:
        InputError: one of the two cannot be read.
    """
    width = seconds(flags.period, "period")
    try:
        zoneinfo.ZoneInfo(flags.time_zone)
    except (KeyError, ValueError, OSError):  # unknown; no name of a zone; a directory of zones
        raise InputError(
            f"--time_zone must be a name such as Asia/Shanghai. Received: {flags.time_zone!r}"
        ) from None
    return Calendar(kind="time", width=width, time_zone=flags.time_zone)


def seconds(text: str, flag: str) -> int:
    """The length of a width such as 1h, 1d or 7d.

    Raises:
        InputError: it is none, or not of whole seconds.
    """
    try:
        # pandas spells days and weeks with a capital.
        spelled = re.sub(r"\d\s*[dw](?![a-z])", lambda unit: unit[0].upper(), text)
        width = pd.Timedelta(spelled).total_seconds()
    except ValueError:
        width = 0
    if not width >= 1 or width % 1:
        raise InputError(f"--{flag} must be a width such as 1h, 1d or 7d. Received: {text!r}")
    return int(width)


def are_dates(numbers: np.ndarray) -> bool:
    """Whether all numbers read as yyyymmdd of the years 1900 to 2199."""
    year, month, day = numbers // 10_000, numbers // 100 % 100, numbers % 100
    dates = (year >= 1900) & (year < 2200) & (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)
    return len(numbers) > 0 and bool(dates.all())
