"""Both readers of times, Arrow's and the engines', read what Python's datetime reads."""

import datetime
import functools
import re
import zoneinfo

import ibis
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmnet.checks import InputError
from mmnet.config import TableFlags
from mmnet.data import event_times, time_columns, time_texts, zones
from mmnet.data.engines import Engine, Events
from mmnet.data.tables import Table

UTC = datetime.timezone.utc
MICROSECOND = datetime.timedelta(microseconds=1)
EPOCH = datetime.datetime(1970, 1, 1)


def iso(time, offset, rng):
    """One of the spellings of ISO 8601, and the time that it still says."""
    clock = rng.choice(["", "%H", "%H:%M", "%H:%M:%S", "%H:%M:%S.%f", "%H:%M:%S,%f"])
    return _spelled(time.strftime("%Y-%m-%d"), clock, rng.choice(["T", " "]), time, offset, rng)


def slashes(time, offset, rng):
    clock = rng.choice(["", "%H", "%H:%M", "%H:%M:%S"])
    return _spelled(time.strftime("%Y/%m/%d"), clock, " ", time, offset, rng)


def compact(time, offset, rng):
    clock = rng.choice(["%H", "%H%M", "%H%M%S", "%H%M%S.%f"])
    return _spelled(time.strftime("%Y%m%d"), clock, "T", time, offset, rng)


def _spelled(date, clock, between, time, offset, rng):
    known = {"%H": "hour", "%M": "minute", "%S": "second", "%f": "microsecond"}
    kept = {name: getattr(time, name) for code, name in known.items() if code in clock}
    time = datetime.datetime(time.year, time.month, time.day, **kept)
    if not clock:
        return date, time, None
    text = date + between + time.strftime(clock)
    if offset is None:
        return text, time, None
    sign, minutes = "-" if offset < 0 else "+", abs(offset)
    shown = f"{sign}{minutes // 60:02}"
    if minutes % 60 or rng.random() < 0.7:
        shown += rng.choice(["", ":"]) + f"{minutes % 60:02}"
    if offset == 0:
        shown = rng.choice([shown, "Z", "UTC", "GMT"])
    return text + rng.choice(["", " "]) + shown, time, offset


GIVEN = (
    *("%d.%m.%Y", "%m/%d/%Y %H:%M", "%Y-%j", "%y%m%d", "%Y%m%d%H", "%d-%b-%Y %H:%M:%S"),
    *("%A, %d %B %Y", "%a %b %d %H:%M:%S +0000 %Y", "%I:%M:%S %p %d/%m/%Y", "%Y%m%d%H%M%S%f"),
    *("%G-W%V-%u", "%G%V%u", "%d/%b/%Y:%H:%M:%S %z", "%Y %m %d %Z", "%d%%%m%%%Y"),
)


@functools.cache
def engine(name):
    """An engine of the process; SQLite stands for all that have no time zones of their own."""
    return Engine(getattr(ibis, name).connect(), name)


def both(texts, time_zone, time_format="", *, engines=("duckdb",), period="1d"):
    """Microseconds on the clock and in UTC, None where there is no time, by each reader."""
    named = {"time_zone": time_zone, "time_format": time_format, "period": period}
    flags = TableFlags(time_column="t", **named)
    table = Table(pa.table({"t": pa.array(texts, pa.string())}), "counts")
    reading = time_columns.reading_of(table, "t", "period_column", flags)
    read = time_columns.read(table.data["t"], reading, time_zone)
    found = [
        [
            (int(local), int(instant) if zoned else None) if good else (None, None)
            for local, instant, zoned, good in zip(
                read.local, read.instant, read.zoned, read.good, strict=True
            )
        ]
    ]
    for name in engines:
        one = engine(name)
        rows = pa.table({"number": range(len(texts)), "t": pa.array(texts, pa.string())})
        data = ibis.memtable(rows)
        events = Events(data, "times", "events")
        out, when = event_times.when(one, events, data, flags, "time_column")
        out = out.select("number", local=out[when.local], instant=out[when.instant])
        rows = one.backend.to_pyarrow(out.order_by("number")).to_pylist()
        found.append([(row["local"], row["instant"]) for row in rows])
    return found


def micros(time):
    return (time - EPOCH) // MICROSECOND


def wanted(time, offset, time_zone):
    """What a reader must say of a time that is written with an offset in minutes, or none."""
    if offset is None:
        return micros(time), None
    instant = time - datetime.timedelta(minutes=offset)
    local = instant.replace(tzinfo=UTC).astimezone(zoneinfo.ZoneInfo(time_zone))
    return micros(local.replace(tzinfo=None)), micros(instant)


times = st.datetimes(datetime.datetime(1970, 1, 3), datetime.datetime(2099, 12, 29))
offsets = st.sampled_from([None, 0, 60, 330, -210, 765])
zone_names = st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns"])


@settings(max_examples=9)
@given(
    st.lists(st.tuples(times, offsets), min_size=50, max_size=90),
    st.sampled_from([iso, slashes, compact]),
    zone_names,
    st.randoms(use_true_random=False),
)
def test_known_spellings_are_read_as_datetime_has_them(rows, spelling, time_zone, rng):
    spelled = [spelling(time, offset, rng) for time, offset in rows]
    texts = [f" {text} " if rng.random() < 0.1 else text for text, _, _ in spelled]
    right = [wanted(time, offset, time_zone) for _, time, offset in spelled]
    for found in both(texts, time_zone):
        assert found == right


@pytest.mark.parametrize("time_format", GIVEN)
def test_a_time_format_is_read_as_strptime_reads_it(time_format):
    draw, time_zone = np.random.default_rng(3), "America/St_Johns"
    seconds = [3 * 86_400, 951_782_400, *draw.integers(3 * 86_400, 4_102_000_000, 60)]
    rows = [EPOCH.replace(tzinfo=UTC) + datetime.timedelta(seconds=int(one)) for one in seconds]
    if "%y" in time_format:  # strptime's two digits are the years from 1969 to 2068
        rows = [time.replace(year=1971 + time.year % 97, day=min(time.day, 28)) for time in rows]
    texts = [time.strftime(time_format) for time in rows]
    parsed = [datetime.datetime.strptime(text, time_format) for text in texts]
    zoned = "%z" in time_format or "%Z" in time_format
    right = [wanted(time.replace(tzinfo=None), 0 if zoned else None, time_zone) for time in parsed]
    for found in both(texts, time_zone, time_format):
        assert found == right


def test_another_engine_reads_alike():
    texts = ["2024-05-31", "2024-05-31T08:00:00.25+02:00", "2024-02-30", "2024-05-31 08 UTC", ""]
    arrow, sqlite = both(texts, "Europe/Berlin", engines=("sqlite",))
    assert arrow == sqlite
    assert [local is None for local, _ in arrow] == [False, False, True, False, True]


@pytest.mark.parametrize("time_zone", ["UTC", "Europe/Berlin", "Africa/Casablanca"])
def test_engines_change_the_clock_when_python_does(time_zone):
    starts, _ = zones.offsets_of(time_zone)
    around = [start + step for start in starts for step in (-1, 0) if start + step >= 0]
    times = [EPOCH + one * MICROSECOND for one in around]
    right = [wanted(time, 0, time_zone) for time in times]
    for found in both([f"{time.isoformat()}Z" for time in times], time_zone):
        assert found == right


def test_names_and_the_clock_of_twelve_hours_are_read_in_any_case():
    dated = ["4 MAY 24 1:05 pm", "31 jun 24 1:05 AM", "1 Jan 70 12:00 AM"]
    right = [micros(datetime.datetime(2024, 5, 4, 13, 5)), None, 0]
    for found in both(dated, "UTC", "%d %b %y %I:%M %p"):
        assert [local for local, _ in found] == right


@pytest.mark.parametrize(
    "text",
    [
        *("2024-02-30", "2024-13-01", "2024-05-32", "2024-05-31T24:00", "2024-05-31T08:60"),
        *("2024-05-31T", "2024-05-31Z", "2024-05-31T08:00:00+24:00", "2024-05/31", "2024-5-1"),
        *("2024-W54", "2023-W53", "2024-W10-8", "20240531", "20240230T10", "0000-05-31", "now"),
        "2024-05-31T08:00:00Z\n2024",
    ],
)
def test_what_is_no_time_is_none_to_both(text):
    good = "20240531T10" if "T10" in text else "2024-W10" if "W" in text else "2024-05-31"
    if text.endswith("-8"):
        good += "-1"
    for found in both([good, good, text], "UTC", period="7d"):
        assert [local is None for local, _ in found] == [False, False, True]


def test_weeks_and_months_are_their_first_days():
    for text, period, first in [
        ("2024-W01", "7d", "2024-01-01"),
        ("2020-W53-7", "1d", "2021-01-03"),
        ("2024-02", "1M", "2024-02-01"),
    ]:
        right = micros(datetime.datetime.fromisoformat(first))
        found = both([text], "UTC", period=period)
        assert [rows[0][0] for rows in found] == [right, right]


def test_a_column_in_no_time_format_is_read_without_it():
    # The counts may be German and the items' releases ISO 8601.
    assert both(["2024-05-31"], "UTC", "%d.%m.%Y") == both(["2024-05-31"], "UTC")
    # But a column that has any such value is in it: 2024-31-05 is no ISO date.
    for found in both(["2024-31-05", "2024-05-31"], "UTC", "%Y-%d-%m"):
        assert [local is None for local, _ in found] == [False, True]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("%Q", "%Q is not a known code; the codes are %Y, %y, %m, %d, "),
        ("%d.%m", "it must have one year"),
        ("%Y-%y", "it must have one year"),
        ("%Y %j %m", "it must have one year, with a month and day, a day of the year or an ISO"),
        ("%Y-%d", "a day (%d) needs a month"),
        ("%Y-W%V", "an ISO week needs both %G and %V"),
        ("%G-%m", "%G is the year of an ISO week"),
        ("%Y-%m-%d %I:%M", "%I and %p belong together"),
        ("%m %b %Y", "the month is given twice"),
        ("%Y-%m-%d %", "% is not a known code"),
        ("plainly", "it must have one year"),
    ],
)
def test_a_time_format_that_leaves_the_date_open_is_refused(text, said):
    with pytest.raises(InputError, match=re.escape(said)) as caught:
        time_texts.read_format(text)
    assert str(caught.value).startswith(f"--time_format={text}: ")


@pytest.mark.parametrize(
    ("texts", "formats"),
    [
        (["3/4/2024", "4/4/2024"], ["%d/%m/%Y", "%m/%d/%Y"]),
        (["3/4/2024", "14/4/2024"], ["%d/%m/%Y"]),
        (["04.03.2024"], ["%d.%m.%Y"]),
        (["Mon Mar 04 17:26:04 +0000 2024"], ["'%a %b %d %H:%M:%S %z %Y'"]),
        (["2024-064"], ["%Y-%j"]),
        (["soon"], []),
        (["2024-02-30"], []),  # an ISO date, of a day that there is not
    ],
)
def test_a_message_names_the_formats_that_fit(texts, formats):
    found = time_texts.suggestion(texts)
    assert re.findall(r"--time_format=('[^']*'|\S+)", found) == formats


def test_days_of_every_year_are_those_of_the_calendar():
    first = np.datetime64("1900-01-01", "D")
    days = np.arange(first, np.datetime64("2101-01-01"))
    months = days.astype("datetime64[M]")
    numbers, since = days.astype(np.int64), months.astype(np.int64) + 12 * 1970
    np.testing.assert_array_equal(time_texts.month_of(numbers), since)
    starts = months.astype("datetime64[D]").astype(np.int64)
    np.testing.assert_array_equal(time_texts.first_of_month(since), starts)
    iso_days = [day.isocalendar() for day in days.tolist()]
    year, week, weekday = np.array(iso_days, np.int64).T
    found, exist = time_texts.days_of({"year": year, "week": week, "weekday": weekday})
    np.testing.assert_array_equal(found, numbers)
    assert exist.all()
