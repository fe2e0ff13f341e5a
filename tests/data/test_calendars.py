import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmnet.checks import InputError
from mmnet.config import TableFlags, TaskFlags
from mmnet.data import periods
from mmnet.data.calendars import Calendar, calendar_of_times
from mmnet.data.tables import Table


def numbers(values, *, kind=None, **flags):
    """Period numbers of a period column."""
    table = Table(pa.table({"period": pa.array(values, kind)}), "counts")
    flags = TableFlags(**flags)
    found = periods.survey(table, flags, TaskFlags())
    read = found.calendar.read(table, "period", "period_column", found.reading)
    return found.calendar, read.numbers.tolist()


def labels(values, **how):
    calendar, found = numbers(values, **how)
    return [calendar.label(int(number)) for number in found]


def test_whole_numbers_are_periods_of_their_own():
    calendar, found = numbers([3, -1, 7])
    assert (calendar.kind, found) == ("integer", [3, -1, 7])
    assert numbers(["3", " 4 "])[1] == [3, 4]
    assert numbers([3.0, 4.0])[1] == [3, 4]


def test_a_date_is_a_day():
    assert labels(["2024-02-28", "2024-02-29", "2024-03-01"]) == [
        "2024-02-28",
        "2024-02-29",
        "2024-03-01",
    ]
    _, found = numbers([datetime.date(2024, 2, 28), datetime.date(2024, 3, 1)])
    assert found[1] - found[0] == 2


def test_seven_day_bins_start_on_mondays_whatever_the_data():
    # 2024-05-29 is a Wednesday, 2024-06-02 a Sunday, 2024-06-03 a Monday.
    assert labels(["2024-05-29", "2024-06-02", "2024-06-03"], period="7d") == [
        "2024-05-27",
        "2024-05-27",
        "2024-06-03",
    ]


def test_hours_are_labelled_with_their_start():
    found = labels(["2024-05-29T03:59:59", "2024-05-29 04:00", "2024-05-29"], period="1h")
    assert found == ["2024-05-29T03:00:00", "2024-05-29T04:00:00", "2024-05-29"]


def test_a_time_without_a_zone_is_on_the_clock_of_the_zone():
    assert labels(["2024-05-29T23:30:00"], time_zone="Asia/Shanghai") == ["2024-05-29"]


def test_a_time_with_a_zone_is_converted():
    # Half past midnight in Shanghai, eight hours ahead, is the day before in UTC.
    assert labels(["2024-05-29T00:30:00+08:00"]) == ["2024-05-28"]
    assert labels(["2024-05-28T16:30:00Z"], time_zone="Asia/Shanghai") == ["2024-05-29"]


def test_zones_may_be_mixed_in_one_column():
    # A local clock writes two offsets a year; a date stays the date it is.
    found = labels(
        [
            "2024-01-05T23:30:00-05:00",
            "2024-07-05T23:30:00-04:00",
            "2024-07-06T03:30:00Z",
            "2024-07-05",
        ],
        time_zone="America/New_York",
    )
    assert found == ["2024-01-05", "2024-07-05", "2024-07-05", "2024-07-05"]


def test_days_follow_daylight_saving_of_a_named_zone():
    # New York, 2024-11-03: clocks go back, and the day has 25 hours, 04:00 to 05:00 UTC.
    times = [
        "2024-11-03T03:59:59Z",
        "2024-11-03T04:00:00Z",
        "2024-11-04T04:59:59Z",
        "2024-11-04T05:00:00Z",
    ]
    found = labels(times, time_zone="America/New_York")
    assert found == ["2024-11-02", "2024-11-03", "2024-11-03", "2024-11-04"]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_timestamps_of_any_unit_are_read(unit):
    values = np.array(["2024-05-29T23:59:59", "2024-05-30"], f"datetime64[{unit}]")
    assert labels(values) == ["2024-05-29", "2024-05-30"]
    zoned = pa.array(values).cast(pa.timestamp(unit, "UTC"))
    assert labels(zoned, kind=zoned.type, time_zone="Asia/Tokyo") == ["2024-05-30", "2024-05-30"]


def test_the_border_of_a_bin_is_exact_to_the_nanosecond():
    before = np.array(["2024-05-29T23:59:59.999999999"], "datetime64[ns]")
    assert labels(before) == ["2024-05-29"]


@settings(deadline=None, max_examples=50)
@given(st.integers(-30_000, 80_000), st.sampled_from(["1h", "1d", "7d"]))
def test_a_label_reads_back_to_its_number(number, period):
    seconds = {"1h": 3600, "1d": 86_400, "7d": 604_800}[period]
    calendar = Calendar(kind="time", width=seconds)
    assert calendar.number(calendar.label(number), "as_of") == number


WHOLE = "column period: a period must be a whole number. Received:"
DATE = "column period: a period must be a date or time (ISO 8601). Received:"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["2024-05-29", "soon"], f"row 2, {DATE} 'soon'"),
        (["2024-05-29", ""], f"row 2, {DATE} ''"),
        (["2024-02-30"], f"row 1, {DATE} '2024-02-30'"),
        (["1", "2", "x"], f"row 3, {WHOLE} 'x'"),
        ([1.0, 2.5], f"row 2, {WHOLE} 2.5"),
        ([1.0, None], f"row 2, {WHOLE} None"),
        ([1.0, float("nan")], f"row 2, {WHOLE} nan"),
        ([1.0, float("inf")], f"row 2, {WHOLE} inf"),
        (
            [20240531, 20240601],
            "row 1, column period: 20240531 is a date written as a number, and numbers count "
            "periods; write it as 2024-05-31, or set --time_format=%Y%m%d, or "
            "--time_unit=index if it is the number of a period",
        ),
        (
            ["20240531", "20240601"],
            "row 1, column period: 20240531 is a date written as a number, and numbers count "
            "periods; write it as 2024-05-31, or set --time_format=%Y%m%d, or "
            "--time_unit=index if it is the number of a period",
        ),
    ],
)  # fmt: skip
def test_a_value_that_is_no_period_is_refused(values, said):
    with pytest.raises(InputError) as caught:
        numbers(values)
    assert str(caught.value) == f"counts table {said}"


@pytest.mark.parametrize("period", ["", "7", "-1d", "nat", "1500ms", "month"])
def test_a_width_that_is_none_is_refused(period):
    with pytest.raises(InputError) as caught:
        numbers(["2024-05-29"], period=period)
    wanted = "--period must be a width such as 1h, 1d, 7d or 1M."
    assert str(caught.value) == f"{wanted} Received: {period!r}"


def test_a_zone_that_is_none_is_refused():
    with pytest.raises(InputError) as caught:
        numbers(["2024-05-29"], time_zone="Asia/Shangai")
    wanted = "--time_zone must be a name such as Asia/Shanghai."
    assert str(caught.value) == f"{wanted} Received: 'Asia/Shangai'"


def test_a_period_of_the_command_line_that_is_none_is_refused():
    with pytest.raises(InputError) as caught:
        Calendar(kind="integer").number("2024-05-29", "as_of")
    assert str(caught.value) == "--as_of: a period must be a whole number. Received: '2024-05-29'"


# ---------------------------------------------------------------------------------- months


def test_months_are_those_of_the_calendar():
    found = labels(["2024-01-31", "2024-02-29 23:59:59", "2024-03-01"], period="1M")
    assert found == ["2024-01-01", "2024-02-01", "2024-03-01"]
    # Half past midnight in Shanghai on March 1 is still February in UTC.
    assert labels(["2024-03-01T00:30:00+08:00"], period="1M") == ["2024-02-01"]
    assert labels(["2024-06-30", "2024-07-01"], period="3M") == ["2024-04-01", "2024-07-01"]
    assert labels(["2023", "2024"], period="12M", time_format="%Y") == ["2023-01-01", "2024-01-01"]


@settings(max_examples=50)
@given(
    st.datetimes(datetime.datetime(1900, 1, 1), datetime.datetime(2200, 1, 1)),
    st.sampled_from([1, 2, 3, 6, 12]),
)
def test_a_month_has_the_number_of_its_first_day(time, months):
    calendar = calendar_of_times(TableFlags(period=f"{months}M"))
    since = 12 * (time.year - 1970) + time.month - 1
    number = calendar.number(time.isoformat(), "as_of")
    assert number == since // months
    assert calendar.number(calendar.label(number), "as_of") == number
    assert calendar.start(number) <= pd.Timestamp(time) < calendar.start(number + 1)
    assert calendar.periods(np.array([number]))[0].isoformat() == calendar.label(number)


def test_one_m_may_be_a_minute_or_a_month():
    with pytest.raises(InputError) as caught:
        calendar_of_times(TableFlags(period="1m"))
    assert str(caught.value) == (
        "--period=1m is ambiguous: it may be minutes or months; set --period=1min or --period=1M"
    )


# -------------------------------------------------------------------- how a column is written


@pytest.mark.parametrize(
    ("values", "period", "wide"),
    [
        (["2024-03", "2024-04"], "30d", "month: 1M"),
        (["2024-W10", "2024-W11"], "1d", "week: 7d"),
        (["2024-W10", "2024-W11"], "1M", "week: 7d"),
    ],
)
def test_names_of_weeks_and_months_need_periods_of_their_length(values, period, wide):
    names, wide = wide.split(": ")
    with pytest.raises(InputError) as caught:
        numbers(values, period=period)
    assert str(caught.value) == (
        f"counts table, column period: values are {names}s, but periods are {period} long; "
        f"set --period={wide}"
    )
    found = numbers(values, period=wide)[1]
    assert found[1] - found[0] == 1


def test_calendar_codes_are_read_when_a_format_says_so():
    assert labels([20240531, 20240601], time_format="%Y%m%d") == ["2024-05-31", "2024-06-01"]
    assert labels(["240531"], time_format="%y%m%d") == ["2024-05-31"]
    assert labels([202441, 202442], time_format="%G%V", period="7d") == ["2024-10-07", "2024-10-14"]
    assert labels([202412, 202501], time_format="%Y%m", period="1M") == ["2024-12-01", "2025-01-01"]
    assert labels([2024053108], time_format="%Y%m%d%H", period="1h") == ["2024-05-31T08:00:00"]


@pytest.mark.parametrize(
    ("values", "formats"),
    [
        ([202441, 202442, 202501], ["%G%V --period=7d"]),
        ([202411, 202412], ["%Y%m --period=1M", "%G%V --period=7d"]),
        ([202411, 202412, 202501], ["%Y%m --period=1M"]),
        ([240531, 240601], ["%y%m%d"]),
        (["20240531", "20240601"], ["%Y%m%d"]),
    ],
)
def test_calendar_codes_are_refused_without_a_format(values, formats):
    with pytest.raises(InputError) as caught:
        numbers(values)
    flags = " or ".join(f"--time_format={one}" for one in formats)
    assert str(caught.value) == (
        f"counts table row 1, column period: {values[0]} is a date written as a number, and "
        f"numbers count periods; write it as 2024-05-31, or set {flags}, or "
        "--time_unit=index if it is the number of a period"
    )
    assert numbers(values, time_unit="index")[1] == [int(value) for value in values]


def test_numbers_that_are_no_dates_count_periods():
    for values in ([202413, 202354], [240532, 240533], [20240230, 20240231], [190000, 190001]):
        assert numbers(values)[1] == values


def test_days_before_months_are_never_guessed():
    said = "row 1, column period: a period must be a date or time (ISO 8601); set "
    both = "--time_format=%d/%m/%Y or --time_format=%m/%d/%Y"
    for values, formats in [(["3/4/2024"], both), (["3/4/2024", "13/4/2024"], both[:22])]:
        with pytest.raises(InputError) as caught:
            numbers(values)
        assert str(caught.value) == f"counts table {said}{formats}. Received: '3/4/2024'"
    found = labels(["3/4/2024"], time_format="%d/%m/%Y")
    assert found == ["2024-04-03"]


ODD = st.one_of(
    st.text(max_size=12),
    st.text("0123456789-/:. TWZ+", max_size=24),
    st.sampled_from(["0001-01-01", "9999-12-31T23:59:59+00:00", "0001-01-02T00:00Z", "٢٠٢٤-٠٥-٣١"]),
)
COLUMNS = st.one_of(
    st.lists(ODD, min_size=1, max_size=6),
    st.lists(st.floats() | st.none(), min_size=1),
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1),
)


@settings(max_examples=150)
@given(
    COLUMNS,
    st.sampled_from(["UTC", "Asia/Kathmandu"]),
    st.sampled_from(["", "%Y%m%d", "%d %b %Y"]),
    st.sampled_from(["1d", "1h", "1M"]),
)
def test_any_column_is_read_or_refused_in_one_sentence(values, time_zone, time_format, period):
    flags = {"time_zone": time_zone, "time_format": time_format, "period": period}
    try:
        calendar, found = numbers(values, **flags)
    except InputError:
        return
    assert len([calendar.label(int(number)) for number in found]) == len(values)
