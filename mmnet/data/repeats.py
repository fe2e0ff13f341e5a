"""Two rows for one key: an exact repeat of a row, or two rows that contradict each other.

Exact repeats come from files that were written or copied twice. They carry nothing, and
`--repeats=drop` leaves them out. Of two rows that differ neither can be dropped: that one of them
is wrong, or that both are parts of a whole, is not in the table.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa

from mmnet.checks import InputError
from mmnet.data.parquet import PIECE_ROWS, ParquetTable
from mmnet.data.tables import Rows

RULE = "is not an exact repeat of a row"
"""The ledger's words for what `--repeats=drop` leaves out."""


def firsts(keys: np.ndarray) -> np.ndarray:
    """The first row with the key of each row, int64 [rows].

    >>> firsts(np.array([7, 8, 7]))
    array([0, 1, 0])
    """
    codes, _ = pd.factorize(keys)
    _, first = np.unique(codes, return_index=True)
    return first[codes].astype(np.int64)


def differences(table: Rows, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """In which column pairs of rows differ, of all columns of the table.

    Args:
        table: has the rows.
        one: places of the first row of each pair.
        other: places of the second.

    Returns:
        The first such column of each pair, object [pairs]; empty where the two rows are the same.

    >>> from mmnet.data.tables import Table
    >>> rows = Table(pa.table({"id": ["a", "a", "a"], "n": [1, 1, None]}), "items")
    >>> differences(rows, np.array([0, 0]), np.array([1, 2]))
    array(['', 'n'], dtype=object)
    """
    places = np.unique(np.concatenate([one, other]))
    data = _rows(table, places)
    first, second = (np.searchsorted(places, which) for which in (one, other))
    found = np.full(len(one), "", object)
    for name in reversed(data.column_names):
        codes = _codes(data[name])
        found[codes[first] != codes[second]] = name
    return found


def _rows(table: Rows, places: np.ndarray) -> pa.Table:
    """Some rows of a table with all of their columns, by ascending place."""
    blocks = table.blocks(PIECE_ROWS)
    if isinstance(table, ParquetTable):  # only what holds them is read
        blocks = [
            block
            for block in blocks
            if np.searchsorted(places, block.rows.start) < np.searchsorted(places, block.rows.stop)
        ]
    parts = [
        piece.keep(np.isin(piece.places, places)).data
        for piece in table.pieces(PIECE_ROWS, blocks=blocks)
    ]
    return pa.concat_tables(parts)


def _codes(column: pa.ChunkedArray) -> np.ndarray:
    """A number for each value of a column, the same for the same value; empty ones are the same."""
    if pa.types.is_nested(column.type):
        return pd.factorize(np.array([repr(value) for value in column.to_pylist()], object))[0]
    return pd.factorize(column.to_pandas(types_mapper=pd.ArrowDtype))[0]


def refusal(table: Rows, one: int, other: int, key: str, advice: str) -> InputError:
    """What to say of two rows for one key.

    Args:
        table: has the rows.
        one: place of the first row.
        other: place of the second.
        key: what the two rows are for.
        advice: what to do where they differ.

    >>> from mmnet.data.tables import Table
    >>> rows = Table(pa.table({"id": ["a", "a", "a"], "n": [1, 1, 2]}), "items")
    >>> print(refusal(rows, 0, 1, "item 'a'", "correct one"))
    items table row 2: an exact repeat of row 1 (item 'a'); remove it, or set --repeats=drop
    >>> print(refusal(rows, 0, 2, "item 'a'", "correct one"))
    items table row 3: two different rows for item 'a': n is 1 in row 1 and 2 here; correct one
    """
    (column,) = differences(table, np.array([one]), np.array([other]))
    here, there = table.where_place(other), _short(table, one, other)
    if not column:
        return InputError(
            f"{here}: an exact repeat of {there} ({key}); remove it, or set --repeats=drop"
        )
    values = _rows(table, np.array(sorted((one, other))))[column].to_pylist()
    first, second = values if one < other else values[::-1]
    return InputError(
        f"{here}: two different rows for {key}: {column} is {_shown(first)} in {there} and "
        f"{_shown(second)} here; {advice}"
    )


def _short(table: Rows, one: int, other: int) -> str:
    """The place of one row in a message that has named another; without a file of the same name."""
    here, there = table.where_place(one), table.where_place(other)
    file, _, unit = here.rpartition(" ")
    file, _, word = file.rpartition(" ")
    return f"{word} {unit}" if there.startswith(f"{file} ") else here


def _shown(value: object) -> str:
    text = "empty" if value is None else repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
