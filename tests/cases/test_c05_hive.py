"""Folders KEY=VALUE are columns, of counts and of events."""

import pyarrow as pa
import pyarrow.parquet

from tests.cases import worlds

ITEMS = ("--items=items.csv", worlds.TAXONOMIES)


def write(table, place):
    worlds.joined(worlds.items()).to_csv("items.csv", index=False)
    data = pa.Table.from_pandas(table, preserve_index=False)
    pa.parquet.write_to_dataset(data, place, partition_cols=["dt"])


def test_counts_whose_folders_are_days(drives):
    table = worlds.counts()
    dated = table.rename(columns={"period": "dt"})
    write(dated.assign(dt=dated["dt"].dt.strftime("%Y-%m-%d")), "counts")
    made = drives.made("--counts=counts", *ITEMS, "--period_column=dt")
    worlds.holds(made, worlds.of_counts(table))
    assert drives.rule("counts files:").endswith(": 20 in, 0 dropped")


def test_events_whose_folders_are_days(drives):
    table = worlds.events()
    days = table["timestamp"].dt.strftime("%Y-%m-%d")
    write(table.drop(columns="timestamp").assign(dt=days), "events")
    made = drives.made("--events=events", *ITEMS, *worlds.COUNTED, "--time_column=dt")
    worlds.holds(made, worlds.of_events(table))
    assert drives.rule("events files:").endswith(": 14 in, 0 dropped")
