import numpy as np
import pyarrow as pa
import pytest

from mmnet.config import TableFlags
from mmnet.data.tables import Table
from mmnet.inspection import times

DAY = 86_400


def read(name, values):
    return times.reading_of_column(Table(pa.table({name: values}), "t"), name, TableFlags())


@pytest.mark.parametrize(
    ("name", "values", "flags"),
    [
        ("day", ["2024-05-30", "2024-05-31"], ()),
        ("day", ["30.05.2024", "31.05.2024"], (("time_format", "%d.%m.%Y"),)),
        ("anything", [20240530, 20240531], (("time_format", "%Y%m%d"),)),
        ("week", [202451, 202452, 202501], (("time_format", "%G%V"),)),
        ("month", [202411, 202412, 202501], (("time_format", "%Y%m"),)),
        ("ts", [1_714_521_600, 1_714_608_000], ()),
        ("at", np.array(["2024-05-30T10:00"], "datetime64[us]"), ()),
    ],
)
def test_times_are_read(name, values, flags):
    assert read(name, values).flags == flags


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("clicks", [3, 5, 8]),
        ("music_id", [1_714_521_600, 1_714_608_000]),  # as large as a time
        ("title", ["one", "two"]),
        ("day", [None, None]),
        ("day", [1.5, 2.5]),
        ("pair", [[1], [2]]),
    ],
)
def test_what_is_no_time_is_not_read_as_one(name, values):
    assert read(name, values) is None


def test_numbers_of_periods_are_told_by_their_name():
    found = read("period", [3, 4, 9])
    assert (found.index, found.certain, found.first, found.last) == (True, False, 3, 9)


@pytest.mark.parametrize(
    ("step", "number", "width"),
    [(3600, 100, "1h"), (DAY, 50, "1d"), (7 * DAY, 50, "7d"), (2 * 3600, 300, "1d")],
)
def test_the_width_of_a_period(step, number, width):
    assert times.width(1_704_067_200 + np.arange(number) * step)[0] == width


def test_months_are_no_width_in_days():
    starts = np.arange("2020-01", "2023-01", dtype="datetime64[M]").astype("datetime64[s]")
    assert times.width(starts.astype(int))[0] == "1M"


def test_instants_of_other_days_have_no_common_clock():
    assert times.same_days(np.array([0, DAY, 0]), np.array([10, DAY + 10, 2 * DAY])) is None
    assert times.same_days(np.array([0, DAY]), np.array([0, 2 * DAY - 1])) == 0
