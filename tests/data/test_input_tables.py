"""Tables by their flags, and the hash of all that a dataset depends on."""

import pyarrow as pa
import pyarrow.parquet
import pytest

from mmnet.checks import InputError
from mmnet.config import PrepareConfig, TableFlags, TaskFlags
from mmnet.data import counts, input_tables, table_reading
from mmnet.data.content import Encoders
from mmnet.data.parquet import ParquetTable
from mmnet.data.tables import InMemory, Table


@pytest.fixture
def files(tmp_path):
    """Two small tables and two tables of vectors."""
    (tmp_path / "counts.csv").write_text("item_id,period,clicks,shares\na,1,2,1\n")
    (tmp_path / "items.csv").write_text("item_id\na\n")
    for name, value in (("v", 1.0), ("w", 2.0)):
        pa.parquet.write_table(
            pa.table({"item_id": ["a"], "vector": [[value]]}), tmp_path / f"{name}.parquet"
        )
    return tmp_path


def fingerprint(directory, *vectors, **flags):
    named = tuple(f"{name}:{directory}/{file}.parquet" for name, file in vectors)
    tables_flags = TableFlags(
        counts=f"{directory}/counts.csv", items=f"{directory}/items.csv", vectors=named
    )
    found = input_tables.load_tables(tables_flags)
    return input_tables.fingerprint(
        found, tables_flags, TaskFlags(**flags), Encoders(tables_flags)
    )[0]


def test_the_fingerprint_follows_contents_and_flags_not_places(files, tmp_path_factory):
    first = fingerprint(files)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for file in ("counts.csv", "items.csv"):
        (elsewhere / file).write_bytes((files / file).read_bytes())
    assert fingerprint(elsewhere) == first
    assert fingerprint(files, window=4) != first
    assert fingerprint(files, split="by_item", split_seed=1) != fingerprint(files, split="by_item")
    (files / "counts.csv").write_text("item_id,period,clicks,shares\na,1,2,2\n")
    assert fingerprint(files) != first


def test_what_was_read_by_other_rules_is_made_again(files, monkeypatch):
    first = fingerprint(files)
    monkeypatch.setattr(table_reading, "RULES", table_reading.RULES + 1)
    assert fingerprint(files) != first


def test_the_fingerprint_knows_which_vectors_are_whose(files):
    found = {
        fingerprint(files, ("p", "v"), ("q", "w")),
        fingerprint(files, ("p", "w"), ("q", "v")),
        fingerprint(files, ("p", "v"), ("q", "v")),
        fingerprint(files, ("p", "v"), ("r", "w")),
        fingerprint(files, ("p", "v")),
    }
    assert len(found) == 5


def test_a_drivers_flags_fall_into_tables_and_task():
    flags = PrepareConfig(taxonomies=("tags",), window=4)
    tables_flags, task_flags = input_tables.table_flags(flags)
    assert (tables_flags.taxonomies, task_flags.window) == (("tags",), 4)


def test_items_are_in_memory_for_preparing_and_in_pieces_for_scoring(tmp_path):
    items = {"item_id": ["a", "b", "c"], "tag": ["x", "", "y"]}
    pa.parquet.write_table(pa.table(items), tmp_path / "items.parquet", row_group_size=2)
    (tmp_path / "counts.csv").write_text("item_id,period,clicks,shares\na,1,2,1\n")
    flags = TableFlags(counts=f"{tmp_path}/counts.csv", items=f"{tmp_path}/items.parquet")
    in_pieces, in_memory = input_tables.open_tables(flags), input_tables.load_tables(flags)
    assert isinstance(in_pieces.items, ParquetTable)
    assert isinstance(in_memory, InMemory)
    assert isinstance(in_memory.items, Table)
    assert in_memory.items.data.to_pydict() == items
    assert in_memory.items.where(2, "tag") == f"{tmp_path}/items.parquet row 3, column tag"
    assert in_memory.inputs == in_pieces.inputs


# ----------------------------------------------------------------------------- further rates

LIKE = {"also_predict": ("like",), "rate": ("like=likes/views",)}


def test_columns_of_a_further_rate_are_needed_before_any_row_is_read(files):
    flags = TableFlags(counts=f"{files}/counts.csv", items=f"{files}/items.csv", **LIKE)
    with pytest.raises(InputError, match=r"counts\.csv has no column 'views' \(named by --rate\)"):
        input_tables.load_tables(flags)


def test_a_source_that_does_not_count_a_further_rate_is_named():
    flags = TableFlags(source="simulated", source_set=("items=20", "periods=4"), **LIKE)
    with pytest.raises(InputError) as caught:
        input_tables.load_tables(flags)
    assert str(caught.value) == (
        "--also_predict=like: --source=simulated does not count 'views', only clicks, shares; use "
        "one of these in --rate, or count the source's files yourself, for --counts"
    )


def test_a_further_rate_and_its_columns_are_part_of_the_fingerprint(files):
    (files / "counts.csv").write_text("item_id,period,clicks,shares,likes,views\na,1,2,1,3,4\n")

    def of(**flags):
        tables = TableFlags(counts=f"{files}/counts.csv", items=f"{files}/items.csv", **flags)
        found = input_tables.load_tables(tables)
        return input_tables.fingerprint(found, tables, TaskFlags(), Encoders(tables))[0]

    found = [of(), of(**LIKE), of(**LIKE | {"rate": ("like=likes/clicks",)})]
    assert len(set(found)) == 3


def test_events_are_counted_into_the_columns_of_a_further_rate(files):
    (files / "events.csv").write_text(
        "item_id,timestamp,shared,ms\na,3,1,900\na,3,0,40\na,4,0,2000\n"
    )
    flags = TableFlags(
        events=f"{files}/events.csv",
        items=f"{files}/items.csv",
        denominator="events",
        numerator="shared",
        also_predict=("long",),
        rate=("long=ms >= 1000/events", "late=ms >= 40/events"),
    )
    found = input_tables.load_tables(flags)
    panel = counts.count(found.counts, found.items, flags, TaskFlags()).panel()
    assert panel.clicks.tolist() == panel.rates["long"].clicks.tolist() == [[2, 1]]
    assert panel.rates["long"].shares.tolist() == [[0, 1]]
    assert panel.shares.tolist() == [[1, 0]]


def test_a_further_rate_of_events_above_one_is_refused(files):
    (files / "events.csv").write_text("item_id,timestamp,shared,many\na,3,1,5\n")
    flags = TableFlags(
        events=f"{files}/events.csv",
        items=f"{files}/items.csv",
        denominator="events",
        numerator="shared",
        also_predict=("much",),
        rate=("much=many/events",),
    )
    said = r"item 'a' has 5 of 'much_numerator' but 1 of 'much_denominator' in period 3; if"
    with pytest.raises(InputError, match=said):
        input_tables.load_tables(flags)
