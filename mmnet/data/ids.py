"""Ids of the items table, and where each stands."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from mmnet.checks import InputError
from mmnet.config import TableFlags
from mmnet.data.columns import texts
from mmnet.data.parquet import PIECE_ROWS
from mmnet.data.tables import Rows


class ItemIds:
    """The ids of the items table, and where each stands.

    Args:
        values: string [items], each once.
    """

    def __init__(self, values: pa.ChunkedArray):
        self.values = values.cast(pa.large_string())

    def __len__(self) -> int:
        return len(self.values)

    def rows(self, who: pa.ChunkedArray) -> np.ndarray:
        """The row of each id, int64 [who]; -1 where there is none."""
        found = pc.index_in(who.cast(pa.large_string()), value_set=self.values)
        return pc.fill_null(found, -1).to_numpy().astype(np.int64)

    def part(self, items: slice) -> np.ndarray:
        """Some of the ids as an object array of str."""
        part = self.values.slice(items.start, items.stop - items.start)
        return part.to_numpy(zero_copy_only=False).astype(object)


def item_ids(items: Rows, flags: TableFlags) -> ItemIds:
    """Reads the ids of the items table.

    Raises:
        InputError: an empty or repeated id, with its row.

    >>> from mmnet.data.tables import Table
    >>> ids = item_ids(Table(pa.table({"item_id": ["a", "b"]}), "items"), TableFlags())
    >>> ids.rows(pa.chunked_array([["b", "c"]]))
    array([ 1, -1])
    """
    column, flag = flags.item_column, "item_column"
    parts = []
    for piece in items.pieces(PIECE_ROWS, {column: flag}):
        ids = texts(piece, column, flag)
        empty = pc.equal(ids, "")
        if pc.any(empty).as_py():
            row = pc.index(empty, True).as_py()
            raise InputError(f"{piece.where(row, column)}: an item id is empty")
        parts += ids.cast(pa.large_string()).chunks
    found = pa.chunked_array(parts, pa.large_string())
    if pc.count_distinct(found).as_py() < len(found):
        row = int(np.argmax(pd.Series(found.to_numpy()).duplicated()))
        raise InputError(
            f"{items.where_place(int(row), column)}: item {found[row].as_py()!r} stands here a "
            "second time; the items table needs one row per item"
        )
    return ItemIds(found)
