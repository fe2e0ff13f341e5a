"""A time is the same time in every type that a column may have."""

import datetime
import decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mmnet.checks import InputError
from mmnet.config import TableFlags
from mmnet.data import time_columns
from mmnet.data.tables import Table

SECONDS = [1_709_573_164, 1_714_521_600]
TEXT = ["2024-03-04T17:26:04Z", "2024-05-01T00:00:00Z"]


def read(values, *, time_zone="UTC", **flags):
    """Microseconds on the clock, None where a value is no time."""
    table = Table(pa.table({"at": values}), "counts")
    reading = time_columns.reading_of(table, "at", "period_column", TableFlags(**flags))
    found = time_columns.read(table.data["at"], reading, time_zone)
    return [int(x) if good else None for x, good in zip(found.local, found.good, strict=True)]


def scaled(unit):
    return [second * time_columns.PER_SECOND[unit] for second in SECONDS]


@pytest.mark.parametrize(
    "values",
    [
        *[pa.array(scaled(unit)) for unit in ("s", "ms", "us", "ns")],
        *[pa.array(list(map(str, scaled(unit)))) for unit in ("s", "ms", "us", "ns")],
        *[pa.array(map(float, scaled(unit))) for unit in ("s", "ms", "us", "ns")],
        pa.array(scaled("s"), pa.uint32()),
        pa.array(scaled("ns"), pa.uint64()),
        pa.array([decimal.Decimal(second) for second in SECONDS], pa.decimal128(12, 2)),
        pa.array([f" {second}.000 " for second in SECONDS]),
        pa.array(TEXT),
        pa.array(TEXT, pa.large_string()),
        pa.array(TEXT).dictionary_encode(),
        *[pa.array(scaled(unit), pa.timestamp(unit, "UTC")) for unit in ("s", "ms", "us", "ns")],
        pa.array(scaled("ms"), pa.timestamp("ms")),
    ],
    ids=lambda values: f"{values.type}-{values[0]}",
)
def test_types_of_columns_agree(values):
    assert read(values) == [second * 10**6 for second in SECONDS]


def test_dates_are_their_midnights():
    days = [datetime.date(2024, 3, 4), None, datetime.date(1960, 1, 1)]
    for kind in (pa.date32(), pa.date64()):
        assert read(pa.array(days, kind)) == [19_786 * 86_400 * 10**6, None, -3653 * 86_400 * 10**6]


def test_nanoseconds_are_cut_off_towards_the_past():
    last = 1_714_521_600 * 10**9 - 1
    wanted = 1_714_521_600 * 10**6 - 1
    for values in ([last], [str(last)], pa.array([last], pa.timestamp("ns"))):
        assert read(values) == [wanted]
    assert read(pa.array([-1], pa.timestamp("ns"))) == [-1]


@settings(max_examples=60)
@given(
    st.integers(631_152_000, 4_102_444_799),
    st.integers(0, 999_999),
    st.sampled_from(["s", "ms", "us", "ns"]),
)
def test_a_number_of_any_unit_is_recognised_by_its_size(second, micros, unit):
    per_second = time_columns.PER_SECOND[unit]
    value = second * per_second + micros * per_second // 10**6
    table = Table(pa.table({"at": [value]}), "counts")
    # From 2030 to 2039, seconds may be a day and an hour as well: 2024053108.
    assume(unit != "s" or not 1_900_000_000 < second < 2_200_000_000)
    reading = time_columns.reading_of(table, "at", "period_column", TableFlags())
    assert reading.unit == unit
    found = time_columns.read(table.data["at"], reading, "UTC").local[0]
    assert found == value * 10**6 // per_second


def test_fractions_of_a_unit_are_read():
    assert read(["1714521600.25", "1714521600.000057"]) == [1714521600250000, 1714521600000057]
    assert read(["1714521600000.5"]) == [1714521600000500]
    assert read([1714521600.25]) == [1714521600250000]


def test_a_value_of_another_unit_is_no_time_unless_a_unit_is_given():
    assert read([0, 1_714_521_600, 1_714_521_601]) == [None, 1714521600000000, 1714521601000000]
    assert read([0, 1_714_521_600], time_unit="s") == [0, 1714521600000000]
    assert read([1_714_521_600, 1_714_521_600_000, 1], time_unit="ms")[2] == 1000


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            [10**10, 10**10 + 1],
            "row 1, column at: 10000000000 is too large for a period and is not a time of 1990 to "
            "2099 in s, ms, us or ns since 1970; set --time_unit",
        ),
        (
            [5, 202405310815, 202405310816],
            "row 2, column at: 202405310815 is too large for a period and is not a time of 1990 to "
            "2099 in s, ms, us or ns since 1970; set --time_format=%Y%m%d%H%M",
        ),
        (
            ["2024053108", "2024053109"],
            "row 1, column at: 2024053108 is a date written as a number, and numbers count "
            "periods; write it as 2024-05-31, or set --time_format=%Y%m%d%H, or --time_unit=s if "
            "it counts s since 1970",
        ),
    ],
)
def test_numbers_of_no_unit_are_refused(values, said):
    with pytest.raises(InputError) as caught:
        read(values)
    assert str(caught.value) == f"counts table {said}"


@pytest.mark.parametrize(
    "values",
    [
        pa.array([["2024-05-31"], ["2024-06-01"]]),
        pa.array([{"at": 1}, {"at": 2}]),
        pa.array([1, 2], pa.duration("s")),
        pa.array([1, 2], pa.time32("s")),
        pa.array([True, False]),
        pa.array([[], None], pa.list_(pa.int8())),
    ],
    ids=lambda values: str(values.type),
)
def test_other_types_are_no_times(values):
    assert read(values) == [None, None]


def test_empty_values_decide_nothing():
    values = [None] * 300 + ["", " ", "2024-05-31"]
    assert read(values) == [None] * 302 + [1717113600000000]
    assert read(pa.array([np.nan, None, 1.7e9])) == [None, None, 1_700_000_000_000_000]
    assert read(pa.array([None], pa.null())) == [None]
