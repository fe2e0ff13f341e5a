"""Ids of the items table, and the row of each."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from mmnet.checks import InputError, quoted
from mmnet.config import TableFlags
from mmnet.data import repeats
from mmnet.data.columns import id_texts, strings
from mmnet.data.ledger import Rule
from mmnet.data.parquet import PIECE_ROWS
from mmnet.data.tables import Rows, Table

MOST_WORDS = 8
"""Length of ids, in words of 8 bytes, up to which they are looked up by keys."""

_ALL = slice(None)
_MASKS = np.array([(1 << (8 * size)) - 1 for size in range(9)], np.uint64)
"""Masks of the first bytes of a word, by their number."""
_ODD = np.uint64(0x9E3779B97F4A7C15)
"""2**64 over the golden ratio, which spreads bits when multiplied."""


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
        if self._index is None:
            found = pc.index_in(who.cast(pa.large_string()), value_set=self.values)
            return pc.fill_null(found, -1).to_numpy().astype(np.int64)
        index, values = self._index
        asked = _Texts(who)
        rows = index.get_indexer(asked.keys(values.num_words)).astype(np.int64)
        # Another id may have the same key as a known one.
        rows[~asked.equal(values, rows)] = -1
        return rows

    @functools.cached_property
    def _index(self) -> tuple[pd.Index, _Texts] | None:
        """The ids by keys of 64 bits; None if ids are long, or two have the same key."""
        values = _Texts(self.values)
        if values.num_words > MOST_WORDS:
            return None
        index = pd.Index(values.keys(values.num_words))
        return (index, values) if index.is_unique else None

    def are_unique(self) -> bool:
        """Checks whether there are no duplicates."""
        return self._index is not None or pc.count_distinct(self.values).as_py() == len(self)

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


class _Texts:
    """Texts as words of 8 bytes, so that NumPy can hash and compare millions of them at a time.

    Args:
        texts: string or large_string; nulls count as empty.
    """

    def __init__(self, texts: pa.ChunkedArray):
        filled = pc.fill_null(texts.cast(pa.large_string()), "")
        whole = pa.concat_arrays(filled.chunks) if filled.num_chunks else pa.array([], filled.type)
        _, offsets, data = whole.buffers()
        every = np.zeros(1, np.int64)
        if len(whole):
            every = np.frombuffer(offsets, np.int64)[whole.offset : whole.offset + len(whole) + 1]
        first, last = int(every[0]), int(every[-1])
        self._starts, self._lengths = every[:-1] - first, np.diff(every)
        self.num_words = -(-int(self._lengths.max(initial=0)) // 8)
        # Every word can be read in full: behind the last text are 8 more bytes.
        padded = np.zeros(last - first + 8, np.uint8)
        if last > first:
            padded[: last - first] = np.frombuffer(data, np.uint8)[first:last]
        self._words = np.ndarray((last - first + 1,), "<u8", padded, strides=(1,))

    def word(self, number: int, rows: np.ndarray | slice = _ALL) -> np.ndarray:
        """Returns one word of some texts, uint64; bytes behind the end of a text are 0."""
        starts = self._starts[rows] + 8 * number
        left = np.clip(self._lengths[rows] - 8 * number, 0, 8)
        return self._words[np.where(left > 0, starts, 0)] & _MASKS[left]

    def keys(self, num_words: int) -> np.ndarray:
        """Returns a hash of the length and the first words of each text, uint64."""
        keys = self._lengths.astype(np.uint64)
        for number in range(num_words):
            keys = (keys ^ self.word(number)) * _ODD
            keys ^= keys >> np.uint64(29)
        return keys

    def equal(self, others: _Texts, rows: np.ndarray) -> np.ndarray:
        """Checks whether each text is that of a row of other texts, bool; -1 matches no text."""
        same = (rows >= 0) & (self._lengths == others._lengths[rows])
        for number in range(others.num_words):
            same &= self.word(number) == others.word(number, rows)
        return same


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
    ids = ItemIds(found)
    if not ids.are_unique():
        first = repeats.firsts(found.to_numpy(zero_copy_only=False))
        again = np.flatnonzero(first < np.arange(len(found)))
        differs = repeats.differences(items, first[again], again) != ""
        row = int(again[np.argmax(differs)])
        key = f"item {quoted(found[row].as_py())}"
        raise repeats.refusal(items, int(first[row]), row, key, "keep the right one")
    return ids


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
