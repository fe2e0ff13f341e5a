"""Parquet whose text is not marked as text, as Impala or an old Hive writes it."""

import pyarrow as pa
import pyarrow.parquet
import pytest

from tests.cases import worlds

ITEMS = ("--items=items.csv", worlds.TAXONOMIES)


def chinese(ids):
    return [one.replace("v", "视频") for one in ids]


def half_chinese(ids):
    return [one if int(one[1:]) % 2 else one.replace("v", "视频") for one in ids]


def blobs(table, path):
    data = pa.Table.from_pandas(table, preserve_index=False)
    text = {pa.string(), pa.large_string()}
    columns = {
        name: data[name].cast(pa.binary()) if data[name].type in text else data[name]
        for name in data.column_names
    }
    pa.parquet.write_table(pa.table(columns), path, store_schema=False)


def renamed(table, names):
    return table.assign(item_id=names(table["item_id"]))


def test_counts_and_items(drives):
    table, items = worlds.counts(), worlds.joined(worlds.items())
    blobs(renamed(table, chinese), "counts.parquet")
    blobs(renamed(items, chinese), "items.parquet")
    made = drives.made("--counts=counts.parquet", "--items=items.parquet", *worlds.FIELDS)
    worlds.holds(made, worlds.of_counts(table))
    assert made.panel.item_ids.tolist() == chinese(items["item_id"])
    assert set(made.fitted.vocabularies["field_category"]) == set(worlds.CATEGORIES)


DROP = ["--unknown_items=drop", "--bad_events=drop"]


@pytest.mark.parametrize(
    ("names", "flags"),
    [(chinese, []), (chinese, DROP), (half_chinese, []), (half_chinese, DROP)],
)
def test_ids_of_events(drives, names, flags):
    table = worlds.events()
    blobs(renamed(table, names), "events.parquet")
    renamed(worlds.joined(worlds.items()), names).to_csv("items.csv", index=False)
    made = drives.made("--events=events.parquet", *ITEMS, *worlds.COUNTED, *flags)
    worlds.holds(made, worlds.of_events(table))


def test_times_of_events(drives):
    table = worlds.events()
    blobs(table.assign(timestamp=table["timestamp"].astype(str)), "events.parquet")
    worlds.joined(worlds.items()).to_csv("items.csv", index=False)
    made = drives.made("--events=events.parquet", *ITEMS, *worlds.COUNTED)
    worlds.holds(made, worlds.of_events(table))


def test_what_is_counted(drives):
    table = worlds.events()
    actions = ["share" if shared else "click" for shared in table["shared"]]
    blobs(table.assign(action=actions), "events.parquet")
    worlds.joined(worlds.items()).to_csv("items.csv", index=False)
    flags = "--numerator=action == 'share'", "--denominator=events"
    made = drives.made("--events=events.parquet", *ITEMS, *flags)
    worlds.holds(made, worlds.of_events(table))
