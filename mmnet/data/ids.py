"""Ids of the items table, and the row of each."""

from __future__ import annotations

import functools

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmnet.checks import InputError, quoted
from mmnet.config import TableFlags
from mmnet.data import repeats
from mmnet.data.columns import id_texts, strings
from mmnet.data.ledger import Rule
from mmnet.data.parquet import PIECE_ROWS
from mmnet.data.tables import Rows, Table


class ItemIds:
    """The ids of the items table, and the row of each.

    Args:
        values: string [items], without duplicates.
    """

    def __init__(self, values: pa.ChunkedArray):
        self.values = values.cast(pa.large_string())

    def __len__(self) -> int:
        return len(self.values)

    def rows(self, who: pa.ChunkedArray) -> np.ndarray:
        """Returns the row of each id, int64 [who]; -1 for unknown ids."""
        found = pc.index_in(who.cast(pa.large_string()), value_set=self.values)
        return pc.fill_null(found, -1).to_numpy().astype(np.int64)

    def respelled(self, unknown: pa.Array) -> list[tuple[str, str]]:
        """Returns unknown ids that differ from a known id only in spelling, with that id.

        >>> ids = ItemIds(pa.chunked_array([["12", "Ab"]]))
        >>> ids.respelled(pa.array(["0012", "aB", "c"]))
        [('0012', '12'), ('aB', 'Ab')]
        """
        found = pc.index_in(_loosened(unknown), value_set=self._loosened)
        met = np.flatnonzero(np.asarray(found.is_valid()))
        own = self.values.take(found.drop_null()).to_pylist()
        return list(zip(unknown.take(pa.array(met)).to_pylist(), own, strict=True))

    @functools.cached_property
    def _loosened(self) -> pa.ChunkedArray:
        return _loosened(self.values)

    def part(self, items: slice) -> np.ndarray:
        """Returns a range of the ids as an object array of str."""
        part = self.values.slice(items.start, items.stop - items.start)
        return part.to_numpy(zero_copy_only=False).astype(object)


def _loosened(ids: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Returns ids without differences that programs introduce: case, and leading zeros."""
    lower = pc.utf8_lower(ids.cast(pa.large_string()))
    return pc.replace_substring_regex(lower, r"^(-?)0+([0-9]+)$", r"\1\2")


def check_unknown(ids: ItemIds, unknown: pa.Array, place: str, *, drop: bool) -> None:
    """Raises an error if unknown ids are those of items in another spelling.

    Two ids that differ only in case may be two items. If unknown items may be dropped, most of them
    must therefore have a counterpart, or one of them must differ in leading zeros.

    Args:
        ids: ids of the items table.
        unknown: ids that are not in it, without duplicates.
        place: where they come from, for the message.
        drop: whether unknown items may be dropped.

    Raises:
        InputError: the sentence names a pair.
    """
    alike = ids.respelled(unknown)
    first = next((pair for pair in alike if pair[0].lower() != pair[1].lower()), None)
    if not alike or (drop and first is None and 2 * len(alike) < len(unknown)):
        return
    one, other = first or alike[0]
    raise InputError(
        f"{place}: item {quoted(one, 80)} is not in the items table, but {quoted(other, 80)} is; "
        f"{len(alike):,} of {len(unknown):,} unknown items differ from a known one only in "
        "leading zeros or in upper and lower case; write ids the same way in all tables"
    )


def item_ids(items: Rows, flags: TableFlags) -> ItemIds:
    """Reads the ids of the items table.

    Raises:
        InputError: an id is empty or a duplicate; the message has its row.

    >>> from mmnet.data.tables import Table
    >>> ids = item_ids(Table(pa.table({"item_id": ["a", "b"]}), "items"), TableFlags())
    >>> ids.rows(pa.chunked_array([["b", "c"]]))
    array([ 1, -1])
    """
    column, flag = flags.item_column, "item_column"
    parts = []
    for piece in items.pieces(PIECE_ROWS, {column: flag}):
        ids = id_texts(piece, column, flag)
        empty = pc.equal(ids, "")
        if pc.any(empty).as_py():
            row = pc.index(empty, True).as_py()
            raise InputError(f"{piece.where(row, column)}: an item id is empty")
        parts += ids.cast(pa.large_string()).chunks
    found = pa.chunked_array(parts, pa.large_string())
    if pc.count_distinct(found).as_py() < len(found):
        first = repeats.firsts(found.to_numpy(zero_copy_only=False))
        again = np.flatnonzero(first < np.arange(len(found)))
        differs = repeats.differences(items, first[again], again) != ""
        row = int(again[np.argmax(differs)])
        key = f"item {quoted(found[row].as_py())}"
        raise repeats.refusal(items, int(first[row]), row, key, "keep the right one")
    return ItemIds(found)


def without_repeats(items: Rows, flags: TableFlags) -> tuple[Rows, Rule]:
    """Drops exact duplicates of a row of the items table; it is read completely if there are any.

    Returns:
        The table, and the line of the ledger. The remaining rows are renumbered.

    Raises:
        InputError: an item has two rows that differ.

    >>> from mmnet.data.tables import Table
    >>> twice = Table(pa.table({"item_id": ["a", "a"], "tag": ["x", "x"]}), "items")
    >>> without_repeats(twice, TableFlags())[0].data.to_pylist()
    [{'item_id': 'a', 'tag': 'x'}]
    """
    column = flags.item_column
    pieces = items.pieces(PIECE_ROWS, {column: "item_column"})
    who = np.concatenate([strings(piece, column, "item_column") for piece in pieces])
    first = repeats.firsts(who)
    again = np.flatnonzero(first < np.arange(len(who)))
    rule = Rule("items", repeats.RULE, len(who), len(who) - len(again))
    if not len(again):
        return items, rule
    differs = repeats.differences(items, first[again], again) != ""
    if differs.any():
        row = int(again[np.argmax(differs)])
        raise repeats.refusal(
            items, int(first[row]), row, f"item {quoted(who[row])}", "keep the right one"
        )
    kept = items.read().keep(first == np.arange(len(who)))
    return Table(kept.data, kept.name), rule
