"""The width of a period is compared with the log, and months are periods."""

import pytest

from tests.cases import worlds

FLAGS = ("--counts=counts.csv", "--items=items.csv", *worlds.FIELDS)


def write(**how):
    table = worlds.counts(**how)
    table.to_csv("counts.csv", index=False)
    worlds.joined(worlds.items()).to_csv("items.csv", index=False)
    return worlds.of_counts(table)


def test_weekly_counts_with_periods_of_a_day_are_refused(drives):
    write(freq="W-MON")
    assert drives.refused(*FLAGS) == (
        "counts.csv, column period: periods are 7d apart, but --period=1d; set --period=7d"
    )


def test_weekly_counts_with_periods_of_a_week_are_all_read(drives):
    expected = write(freq="W-MON")
    made = drives.made(*FLAGS, "--period=7d")
    worlds.holds(made, expected)
    assert made.panel.label(19) == "2024-07-15"
    assert drives.rule("counts: item is in") == (
        "counts: item is in the items table: 800 in, 0 dropped"
    )


@pytest.mark.parametrize("period", ["1d", "30d", "7d"])
def test_monthly_counts_with_periods_of_days_are_refused(drives, period):
    write(first="2022-01-01", freq="MS")
    said = drives.refused(*FLAGS, f"--period={period}")
    assert said == (
        f"counts.csv, column period: periods are 1M apart, but --period={period}; set --period=1M"
    )


def test_monthly_counts_with_periods_of_a_month_are_all_read(drives):
    expected = write(first="2022-01-01", freq="MS")
    made = drives.made(*FLAGS, "--period=1M")
    worlds.holds(made, expected)
    assert (made.panel.label(0), made.panel.label(19)) == ("2022-01-01", "2023-08-01")


def test_one_minute_is_no_month(drives):
    write(first="2022-01-01", freq="MS")
    said = drives.refused(*FLAGS, "--period=1m")
    assert "--period=1M" in said or "1M for calendar months" in said
    assert "'1m'" in said or "--period=1m" in said
