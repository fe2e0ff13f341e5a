import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmnet.checks import InputError
from mmnet.config import TableFlags, TaskFlags
from mmnet.data import groups, pipeline
from mmnet.data.ids import ItemIds
from mmnet.data.tables import InMemory, Table
from mmnet.hashing import hash_items

IDS = ["a", "b", "c", "d", "e"]


def hashed(columns, split_group, vectors=None, **flags):
    catalogue = Table(pa.table({"item_id": IDS, **columns}), "items")
    tables = {name: Table(pa.table(data), "vectors") for name, data in (vectors or {}).items()}
    ids = ItemIds(pa.chunked_array([IDS]))
    task = TaskFlags(split="by_item", split_group=split_group)
    return groups.hashes(catalogue, tables, ids, TableFlags(**flags), task)


def partition(hashes):
    """Which items are together, as sets of ids."""
    return {frozenset(np.array(IDS)[hashes == one]) for one in np.unique(hashes)}


def sets(text):
    return {frozenset(part) for part in text.split()}


@pytest.mark.parametrize(
    ("column", "flags", "together"),
    [
        (["x", "y", "x", "", ""], {}, "ac b d e"),  # an empty value is shared by none
        (["x;y", "y;z", "z", "w", "v;w"], {}, "abc de"),  # through a third
        (["x;y", "y;x", "x;y", "", ""], {"texts": ("column",)}, "ac b d e"),  # a text is whole
        (["x;y", "y;x", "x;y", "", ""], {"images": ("column",)}, "ac b d e"),
        ([1, 2, 1, None, None], {}, "ac b d e"),
        ([["x"], ["x", "y"], [], None, ["y"]], {}, "abe c d"),
    ],
)
def test_items_that_share_a_value_are_together(column, flags, together):
    found, rule = hashed({"column": column}, ("column",), **flags)
    assert partition(found) == sets(together)
    sizes = [len(one) for one in together.split()]
    assert rule.note == f"{len(sizes)} groups, the largest of {max(sizes)} items"


def test_an_item_on_its_own_keeps_its_hash_and_a_group_has_that_of_a_member():
    found, _ = hashed({"column": ["x", "y", "x", "", ""]}, ("column",))
    own = hash_items(np.array(IDS, object))
    assert (found == own)[[1, 3, 4]].all()
    assert found[0] == min(own[0], own[2])


def test_vectors_are_compared_as_numbers_and_one_of_zeros_is_none():
    vectors = [[0.5, 0.0], [0.5, 1.0], [0.5, -0.0], [0.0, 0.0], [0.0, 0.0]]
    cover = {"item_id": ["e", "d", "c", "b", "a"], "cover": vectors}
    found, _ = hashed({}, ("cover",), {"cover": cover})
    assert partition(found) == sets("a b ce d")


@given(st.lists(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 5)), max_size=12), max_size=3))
@settings(max_examples=60, deadline=None)
def test_groups_are_those_of_a_loop(columns):
    label = list(range(8))
    for pairs in columns:
        for one, value in pairs:
            for other, same in pairs:
                if value == same:
                    old, new = label[other], label[one]
                    label = [new if now == old else now for now in label]
    shared = [
        (np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])) for pairs in columns
    ]
    shared = [(rows.astype(np.int64), codes.astype(np.int64)) for rows, codes in shared]
    found = groups.joined(8, shared)
    assert [[a == b for a in found] for b in found] == [[a == b for a in label] for b in label]


def test_a_split_by_item_keeps_equal_titles_on_one_side():
    items, periods = 200, 10
    titles = [f"title {i % 60}" for i in range(items)]
    who, when = np.repeat(np.arange(items), periods), np.tile(np.arange(periods), items)
    ids = [f"item {i}" for i in range(items)]
    counts = {"item_id": np.array(ids)[who], "period": when, "clicks": 5, "shares": 1}
    counts = {name: np.broadcast_to(one, len(who)) for name, one in counts.items()}
    found = InMemory(
        Table(pa.table(counts), "counts"),
        Table(pa.table({"item_id": ids, "title": titles}), "items"),
    )
    task = TaskFlags(window=2, min_target_clicks=1, min_test_rows=1, split="by_item")

    def titles_of(task):
        dataset = pipeline.prepare(found, TableFlags(), task)
        parts = [dataset.examples(name).items for name in ("train", "validation", "test")]
        return [{titles[i] for i in part} for part in parts], dataset.ledger

    apart, ledger = titles_of(task.model_copy(update={"split_group": ("title",)}))
    assert sum(map(len, apart)) == 60 == len(set.union(*apart))
    assert "60 groups, the largest of 4 items" in "\n".join(map(str, ledger))
    mixed, _ = titles_of(task)
    assert sum(map(len, mixed)) > 60  # without the flag they are mixed


def test_refuses_another_split_and_a_column_that_is_not_there():
    catalogue = Table(pa.table({"item_id": IDS}), "items")
    ids, task = ItemIds(pa.chunked_array([IDS])), TaskFlags(split_group=("title",))
    with pytest.raises(InputError, match="--split_group=title needs --split=by_item, not chrono"):
        groups.hashes(catalogue, {}, ids, TableFlags(), task)
    with pytest.raises(InputError, match="no column 'title'"):
        hashed({}, ("title",))
