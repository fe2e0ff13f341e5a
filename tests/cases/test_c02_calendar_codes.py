"""Weeks and months written as numbers are refused, or read as a flag says."""

import pytest

from tests.cases import worlds


def write(code, **how):
    table = worlds.counts(**how)
    table.assign(period=code(table["period"].dt)).to_csv("counts.csv", index=False)
    worlds.joined(worlds.items()).to_csv("items.csv", index=False)
    return worlds.of_counts(table)


def year_week(dates):
    iso = dates.isocalendar()
    return iso.year * 100 + iso.week


def year_month(dates):
    return dates.strftime("%Y%m").astype(int)


WEEKS = {"first": "2024-10-07", "freq": "W-MON"}  # over a New Year
MONTHS = {"first": "2022-06-01", "freq": "MS"}
FLAGS = ("--counts=counts.csv", "--items=items.csv", *worlds.FIELDS)


@pytest.mark.parametrize(
    ("code", "how", "value", "time_format"),
    [(year_week, WEEKS, 202441, "%G%V"), (year_month, MONTHS, 202206, "%Y%m")],
)
def test_codes_are_no_counters(drives, code, how, value, time_format):
    write(code, **how)
    said = drives.refused(*FLAGS)
    assert said.startswith(f"counts.csv line 2, column period: {value} is a date written as a")
    assert f"--time_format={time_format}" in said


@pytest.mark.parametrize(
    ("code", "how", "flags"),
    [
        (year_week, WEEKS, ["--time_format=%G%V", "--period=7d"]),
        (year_month, MONTHS, ["--time_format=%Y%m", "--period=1M"]),
    ],
)
def test_codes_are_read_as_a_flag_says(drives, code, how, flags):
    expected = write(code, **how)
    worlds.holds(drives.made(*FLAGS, *flags), expected)


@pytest.mark.parametrize(
    ("code", "how", "time_format", "period"),
    [(year_week, WEEKS, "%G%V", "7d"), (year_month, MONTHS, "%Y%m", "1M")],
)
def test_codes_have_a_width(drives, code, how, time_format, period):
    write(code, **how)
    said = drives.refused(*FLAGS, f"--time_format={time_format}")
    assert said.endswith(f"; set --period={period}")


def test_months_as_text_are_no_days(drives):
    expected = write(lambda dates: dates.strftime("%Y-%m"), **MONTHS)
    assert drives.refused(*FLAGS) == (
        "counts.csv, column period: values are months, but periods are 1d long; set --period=1M"
    )
    worlds.holds(drives.made(*FLAGS, "--period=1M"), expected)
