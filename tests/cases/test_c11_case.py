"""Columns whose names differ in case only are two columns."""

import numpy as np
import pytest

from tests.cases import worlds

FLAGS = ("--items=items.csv", worlds.TAXONOMIES, "--denominator=events")


@pytest.fixture
def table():
    worlds.joined(worlds.items()).to_csv("items.csv", index=False)
    found = worlds.events().rename(columns={"shared": "Shared"})
    found["shared"] = np.where(found.index % 2 == 0, found["Shared"], 0)
    return found


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize("name", ["Shared", "shared"])
def test_each_is_counted_by_its_name(drives, table, ending, name):
    if ending == "csv":
        table.to_csv("events.csv", index=False)
    else:
        table.to_parquet("events.parquet")
    made = drives.made(f"--events=events.{ending}", *FLAGS, f"--numerator={name}")
    worlds.holds(made, worlds.of_events(table, name))


@pytest.mark.parametrize("flag", ["numerator", "event_key", "time_column", "item_column"])
def test_a_name_in_another_case_is_not_taken_for_it(drives, table, flag):
    names = {"numerator": "shared", "event_key": "shared", "time_column": "Timestamp"}
    name = names.get(flag, "Item_ID")
    table.drop(columns="shared").to_parquet("events.parquet")
    said = drives.refused(
        "--events=events.parquet", *FLAGS, "--numerator=Shared", f"--{flag}={name}"
    )
    assert said.startswith(("events.parquet has no column", "items.csv has no column"))
    assert f"has no column '{name}' (named by --{flag})" in said
    meant = {"shared": "Shared", "Timestamp": "timestamp", "Item_ID": "item_id"}[name]
    assert f"Did you mean {meant}?" in said
