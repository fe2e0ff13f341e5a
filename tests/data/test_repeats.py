"""Exact repeats of a row are dropped on request; duplicate row for one key never are."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmnet.checks import InputError
from mmnet.config import TableFlags, TaskFlags
from mmnet.data import counts, ids, input_tables, items, pipeline, repeats
from mmnet.data.ids import ItemIds
from mmnet.data.ledger import Rule
from mmnet.data.parquet import open_table
from mmnet.data.tables import Table
from mmnet.schema import VectorSpec

DROP = TableFlags(repeats="drop")
ITEMS = Table(pa.table({"item_id": ["a", "b", "c"]}), "items")


def counted(rows, flags=DROP, *, items=ITEMS, borders=None):
    """Panel and ledger of (item_id, period, clicks, shares, country) rows."""
    names = ["item_id", "period", "clicks", "shares", "country"]
    table = pa.table([list(column) for column in zip(*rows, strict=True)], names)
    found = counts.count(Table(table, "counts"), items, flags, TaskFlags(), borders=borders)
    return found.panel(), found.ledger


cells = st.tuples(st.sampled_from("abc"), st.integers(3, 6), st.integers(0, 2), st.just(0))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(cells, st.sampled_from("xy")), min_size=1, max_size=12))
def test_what_is_dropped_are_exact_repeats_and_nothing_else(drawn):
    rows = [(*cell, country) for cell, country in drawn]
    once = list(dict.fromkeys(rows))
    if len({row[:2] for row in once}) < len(once):
        with pytest.raises(InputError, match=r"duplicate row for item '[abc]' in period"):
            counted(rows)
        return
    wanted, before = counted(once, TableFlags())
    for borders in (None, [0, 1, 3]):
        found, ledger = counted(rows, borders=borders)
        np.testing.assert_array_equal(found.clicks, wanted.clicks)
        np.testing.assert_array_equal(found.release, wanted.release)
        assert ledger[1] == Rule("counts", repeats.RULE, len(rows), len(once))
        assert ledger[2:] == before[1:]


def test_a_repeat_before_the_release_is_counted_once():
    since = Table(pa.table({"item_id": ["a"], "since": [4]}), "items")
    flags = TableFlags(repeats="drop", release="since")
    rows = [("a", 3, 1, 0, "x"), ("a", 3, 1, 0, "x"), ("a", 5, 1, 0, "x")]
    _, ledger = counted(rows, flags, items=since)
    assert [(rule.rows_in, rule.rows_out) for rule in ledger] == [(3, 3), (3, 2), (2, 1)]


def test_two_times_in_one_period_are_no_repeat():
    rows = [("a", "2024-05-01T10:00", 1, 0, "x"), ("a", "2024-05-01T14:00", 1, 0, "x")]
    with pytest.raises(InputError) as caught:
        counted(rows)
    assert str(caught.value) == (
        "counts table row 2: duplicate row for item 'a' in period 2024-05-01 with other values: "
        "period is '2024-05-01T10:00' in row 1 and '2024-05-01T14:00' here; keep the right one, or "
        "add them up if they are parts of one count, or make --period narrower if their times "
        "differ"
    )


@pytest.mark.parametrize("values", [["x", "x", "y"], [1.5, 1.5, None], [[1, 2], [1, 2], [2]]])
def test_rows_are_compared_in_every_column_of_any_type(values, tmp_path):
    data = pa.table({"item_id": ["a", "a", "a"], "value": values, "n": [None, None, None]})
    pa.parquet.write_table(data, tmp_path / "one.parquet", row_group_size=1)
    for table in (Table(data, "items"), open_table(str(tmp_path), "items")):
        found = repeats.differences(table, np.array([0, 1, 2]), np.array([1, 2, 2]))
        assert found.tolist() == ["", "value", ""]


def test_repeated_items_are_dropped_and_the_rows_stay_in_order():
    data = pa.table({"item_id": ["b", "a", "b", "c"], "tags": [["x"], [], ["x"], None]})
    kept, rule = ids.without_repeats(Table(data, "items"), DROP)
    assert kept.data["item_id"].to_pylist() == ["b", "a", "c"]
    assert kept.places.tolist() == [0, 1, 2]
    assert rule == Rule("items", repeats.RULE, 4, 3)
    data = pa.table({"item_id": ["b", "a", "b"], "tags": [["x"], [], ["y"]]})
    with pytest.raises(
        InputError, match=r"row 3: duplicate row for item 'b' with other values: tags is \['x'\]"
    ):
        ids.without_repeats(Table(data, "items"), DROP)


def test_repeated_vectors_are_dropped_across_pieces(monkeypatch):
    monkeypatch.setattr(items, "VECTORS_AT_ONCE", 2)
    known = ItemIds(pa.chunked_array([["a", "b"]]))
    who, vectors = ["a", "b", "a", "x", "x", "b"], [[1.0], None, [1.0], [3.0], [3.0], None]
    table = Table(pa.table({"item_id": who, "cover": vectors}), "vectors")
    spec, ledger = VectorSpec(name="cover", dim=1), []
    found = items.encode_vectors(table, spec, known, DROP, None, ledger)
    np.testing.assert_array_equal(found, [[1.0], [0.0]])
    assert ledger == [Rule("vectors cover", repeats.RULE, 6, 4)]
    other = Table(pa.table({"item_id": ["a", "b", "a"], "cover": [[1.0], None, [2.0]]}), "vectors")
    with pytest.raises(InputError, match="item 'a' has another vector in an earlier row"):
        items.encode_vectors(other, spec, known, DROP)


def test_tables_written_twice_make_the_same_dataset(tmp_path):
    periods = 12
    rows = {"item_id": ["a"] * periods + ["b"] * periods, "period": [*range(periods)] * 2}
    rows |= {"clicks": [4] * 2 * periods, "shares": [1] * periods + [2] * periods}
    catalogue = pa.table({"item_id": ["a", "b"], "tags": ["x", "y"]})
    for name, table in (("counts", pa.table(rows)), ("items", catalogue)):
        for copy in ("once", "twice"):
            (tmp_path / copy / name).mkdir(parents=True)
        for number in (1, 2):
            pa.parquet.write_table(table, tmp_path / "twice" / name / f"{number}.parquet")
        pa.parquet.write_table(table, tmp_path / "once" / name / "1.parquet")
    task = TaskFlags(window=2, min_target_clicks=1, min_test_rows=1)

    def prepared(copy, **more):
        flags = TableFlags(
            counts=str(tmp_path / copy / "counts"), items=str(tmp_path / copy / "items"), **more
        )
        return pipeline.prepare(input_tables.load_tables(flags, task), flags, task)

    once, twice = prepared("once"), prepared("twice", repeats="drop")
    np.testing.assert_array_equal(once.history, twice.history)
    assert once.panel.item_ids.tolist() == twice.panel.item_ids.tolist()
    dropped = [(rule.table, rule.dropped) for rule in twice.ledger if rule.dropped]
    assert dropped[:2] == [("items", 2), ("counts", 2 * periods)]
    with pytest.raises(InputError, match=r"items/2.parquet row 1: exact duplicate of .*items/1"):
        prepared("twice")
