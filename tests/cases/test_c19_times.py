"""Counts and events read the same ways to write a time; others need `--time_format`."""

import pandas as pd
import pytest

from tests.cases import worlds

FLAGS = ("--items=items.csv", worlds.TAXONOMIES)

OF_EVENTS = {
    "bigquery": lambda times: times.dt.strftime("%Y-%m-%d %H:%M:%S") + " UTC",
    "ruby": lambda times: times.dt.strftime("%Y-%m-%d %H:%M:%S") + " +0000",
    "nanoseconds": lambda times: times.astype("datetime64[ns]").astype("int64"),
    "microseconds": lambda times: times.astype("datetime64[us]").astype("int64"),
    "milliseconds": lambda times: times.astype("datetime64[ms]").astype("int64"),
    "seconds": lambda times: times.astype("datetime64[s]").astype("int64"),
    "slashes": lambda times: times.dt.strftime("%Y/%m/%d %H:%M:%S"),
    "hour": lambda times: times.dt.strftime("%Y-%m-%d %H"),
    "compact": lambda times: times.dt.strftime("%Y%m%dT%H%M%SZ"),
    "mixed": lambda times: (
        times.dt.tz_localize("UTC")
        .dt.tz_convert("Europe/Berlin")
        .astype(str)
        .where(times.index % 2 == 0, times.dt.strftime("%Y-%m-%dT%H:%M:%SZ"))
    ),
}
OF_COUNTS = {
    "bigquery": lambda days: days.dt.strftime("%Y-%m-%d %H:%M:%S") + " UTC",
    "slashes": lambda days: days.dt.strftime("%Y/%m/%d"),
    "hour": lambda days: days.dt.strftime("%Y-%m-%d %H"),
    "week": lambda days: days.dt.strftime("%G-W%V-%u"),
    "milliseconds": lambda days: days.astype("datetime64[ms]").astype("int64"),
}
WITH_A_FORMAT = {
    "twitter": "%a %b %d %H:%M:%S +0000 %Y",
    "excel": "%m/%d/%Y %H:%M",
    "german": "%d.%m.%Y",
    "day of the year": "%Y-%j",
    "compact": "%Y%m%d",
    "short": "%y%m%d",
}


def events(write):
    table = worlds.events()
    table.assign(timestamp=write(table["timestamp"])).to_csv("events.csv", index=False)
    worlds.joined(worlds.items()).to_csv("items.csv", index=False)
    return worlds.of_events(table)


def counts(write):
    table = worlds.counts()
    table.assign(period=write(table["period"])).to_csv("counts.csv", index=False)
    worlds.joined(worlds.items()).to_csv("items.csv", index=False)
    return worlds.of_counts(table)


@pytest.mark.parametrize("name", OF_EVENTS)
def test_times_of_events_that_need_no_flag(drives, name):
    expected = events(OF_EVENTS[name])
    made = drives.made("--events=events.csv", *FLAGS, *worlds.COUNTED)
    worlds.holds(made, expected)
    assert made.panel.label(0) == worlds.FIRST


@pytest.mark.parametrize("name", OF_COUNTS)
def test_times_of_counts_that_need_no_flag(drives, name):
    expected = counts(OF_COUNTS[name])
    made = drives.made("--counts=counts.csv", *FLAGS)
    worlds.holds(made, expected)
    assert made.panel.label(0) == worlds.FIRST


@pytest.mark.parametrize(
    ("table", "name"),
    [("counts", name) for name in WITH_A_FORMAT]
    + [("events", name) for name in ("twitter", "excel", "compact")],
)
def test_other_times_are_refused_and_read_with_a_format(drives, table, name):
    written = WITH_A_FORMAT[name]
    make = counts if table == "counts" else events
    expected = make(lambda times: times.dt.strftime(written))
    flags = [f"--{table}={table}.csv", *FLAGS, *(worlds.COUNTED if table == "events" else ())]
    named = written.replace("+0000", "%z")
    said = drives.refused(*flags)
    assert said.startswith(f"{table}.csv")
    assert named in said
    assert "bad_events" not in said
    worlds.holds(drives.made(*flags, f"--time_format={named}"), expected)


def test_a_unit_is_held_against_the_years_it_leads_to(drives):
    expected = events(OF_EVENTS["nanoseconds"])
    flags = "--events=events.csv", *FLAGS, *worlds.COUNTED
    said = drives.refused(*flags, "--time_unit=us")
    assert said.startswith(
        "events.csv, column timestamp: 3,360 events have no time of 1970 to 2099"
    )
    assert "; set --time_unit=ns. Received: '17095" in said
    worlds.holds(drives.made(*flags, "--time_unit=ns"), expected)


def test_both_hours_at_the_end_of_summer_time_are_counted(drives):
    zone = "Europe/Berlin"
    hours = pd.date_range("2024-10-26 22:00", periods=worlds.NUM_PERIODS, freq="h", tz="UTC")
    table = worlds.counts()
    table["period"] = list(hours) * worlds.NUM_ITEMS
    clicks, _ = worlds.of_counts(table)
    table.assign(period=table["period"].dt.tz_convert(zone).astype(str)).to_csv(
        "counts.csv", index=False
    )
    worlds.joined(worlds.items()).to_csv("items.csv", index=False)
    made = drives.made("--counts=counts.csv", *FLAGS, "--period=1h", f"--time_zone={zone}")
    assert made.panel.clicks.sum() == clicks.sum()
    assert made.panel.num_periods == worlds.NUM_PERIODS - 1  # 02:00 comes twice
    assert (made.panel.clicks[:, 2] == clicks[:, 2] + clicks[:, 3]).all()
