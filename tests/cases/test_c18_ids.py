"""Ids that passed through a float are read where it held them, and refused where it did not."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from tests.cases import worlds

SMALL, BIG = (
    {name: first + step * number for number, name in enumerate(worlds.items()["item_id"])}
    for first, step in ((100_001, 1), (7_205_759_406_317_000_000, 37))
)
EVENTS = (worlds.TAXONOMIES, *worlds.COUNTED, "--bad_events=drop")
LOST = "converted to a floating-point number, so its last digits are lost"


def renamed(table, ids):
    return table.assign(item_id=table["item_id"].map(ids))


def floats(table, ids):
    """One event without an item turns the ids into floats, as pandas does it."""
    table = renamed(table, ids).astype({"item_id": "float64"})
    return pd.concat([table, table[:1].assign(item_id=np.nan)], ignore_index=True)


def write(table, name):
    if name.endswith(".csv"):
        table.to_csv(name, index=False)
    else:
        table.to_parquet(name, index=False)
    return name


def items(ids, name="items.csv"):
    return f"--items={write(renamed(worlds.joined(worlds.items()), ids), name)}"


@pytest.mark.parametrize("name", ["events.parquet", "events.csv"])
def test_small_ids_with_a_hole_lose_the_hole_only(drives, name):
    write(floats(worlds.events(), SMALL), name)
    made = drives.made(f"--events={name}", items(SMALL), *EVENTS)
    worlds.holds(made, worlds.of_events(worlds.events()))
    assert drives.rule("events: has an item") == (
        "events: has an item (item_id): 3,361 in, 1 dropped"
    )


FLOATS = {name: float(one) for name, one in BIG.items()}


@pytest.mark.parametrize(
    ("name", "of_items"),
    [("events.parquet", BIG), ("events.csv", BIG), ("events.parquet", FLOATS)],
)
def test_big_ids_of_events_are_refused(drives, name, of_items):
    write(floats(worlds.events(), BIG), name)
    table = renamed(worlds.joined(worlds.items()), of_items).drop_duplicates("item_id")
    table.to_parquet("items.parquet", index=False)
    said = drives.refused(f"--events={name}", "--items=items.parquet", *EVENTS)
    assert LOST in said
    assert "item_id" in said
    assert "unknown_items" not in said


@pytest.mark.parametrize("of_items", [BIG, FLOATS])
def test_big_ids_of_counts_are_refused(drives, of_items):
    table = renamed(worlds.counts(), BIG).astype({"item_id": "float64"})
    table.drop_duplicates(["item_id", "period"]).to_parquet("counts.parquet", index=False)
    rows = renamed(worlds.joined(worlds.items()), of_items).drop_duplicates("item_id")
    rows.to_parquet("items.parquet", index=False)
    said = drives.refused("--counts=counts.parquet", "--items=items.parquet", worlds.TAXONOMIES)
    assert LOST in said
    assert "unknown_items" not in said


def test_big_ids_that_never_were_floats_are_read(drives):
    write(renamed(worlds.events(), BIG), "events.csv")
    write(renamed(worlds.events(), BIG), "events.parquet")
    expected = worlds.of_events(worlds.events())
    for name, of_items in (("events.csv", "items.parquet"), ("events.parquet", "items.csv")):
        made = drives.made(f"--events={name}", items(BIG, of_items), *EVENTS)
        worlds.holds(made, expected)


@pytest.fixture
def decimals():
    """Counts as Snowflake and Oracle export them: NUMBER(38), names in capitals."""
    table = renamed(worlds.counts(), SMALL)
    data = pa.Table.from_pandas(table, preserve_index=False)
    columns = {
        "ITEM_ID": data["item_id"].cast(pa.decimal128(38, 0)),
        "PERIOD": data["period"],
        "CLICKS": data["clicks"].cast(pa.decimal128(38, 0)),
        "SHARES": data["shares"].cast(pa.decimal128(38, 2)),
    }
    pa.parquet.write_table(pa.table(columns), "counts.parquet")
    return worlds.of_counts(worlds.counts())


def test_names_in_capitals_are_asked_for(drives, decimals):
    said = drives.refused("--counts=counts.parquet", items(SMALL), worlds.TAXONOMIES)
    assert said == (
        "counts.parquet has no column 'item_id' (named by --item_column); it has ITEM_ID, PERIOD, "
        "CLICKS, SHARES. Did you mean ITEM_ID?"
    )


def test_decimals_are_whole_numbers(drives, decimals):
    table = renamed(worlds.joined(worlds.items()), SMALL)
    table.rename(columns={"item_id": "ITEM_ID"}).to_csv("items.csv", index=False)
    columns = ["--item_column=ITEM_ID", "--period_column=PERIOD"]
    columns += ["--numerator=SHARES", "--denominator=CLICKS", worlds.TAXONOMIES]
    made = drives.made("--counts=counts.parquet", "--items=items.csv", *columns)
    worlds.holds(made, decimals)
