import pyarrow as pa

from mmnet.data.tables import Table
from mmnet.inspection import keys


def table(name, **columns):
    return Table(pa.table(columns), name)


ITEMS = table("items", vid=["1", "2", "3", "4"], author=["x", "x", "y", "y"])


def test_ids_are_what_both_tables_have_and_items_have_once():
    log = table("counts", vid=[1, 1, 2, 9], author=["x", "x", "y", "y"])
    (found,) = keys.keys(log, ITEMS)
    assert (found.column, found.met) == ("vid", 2 / 3)


def test_the_default_name_comes_first():
    items = table("items", item_id=["a", "b"], url=["u", "v"])
    log = table("counts", url=["u", "v"], item_id=["a", "b"])
    assert [one.column for one in keys.keys(log, items)] == ["item_id", "url"]


def test_ids_under_another_name_are_found():
    log = table("counts", video=["1", "2"], n=[7, 8])
    assert not keys.keys(log, ITEMS)
    assert keys.elsewhere(log, ITEMS) == ("video", "vid")
    assert keys.elsewhere(table("counts", n=[7, 8]), ITEMS) is None


def test_lists_are_no_ids():
    assert keys.ids_of(table("items", tags=[["a"], ["b"]]), "tags") is None
