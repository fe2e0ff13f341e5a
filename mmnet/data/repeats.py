"""Two rows for one key: exact duplicates, or rows that contradict each other.

Exact duplicates come from files that were written or copied twice; `--repeats=drop` leaves them
out. Rows that differ are never dropped, since the table does not show which one is wrong, or
whether both are parts of a whole.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa

from mmnet.checks import InputError
from mmnet.data.parquet import PIECE_ROWS, ParquetTable
from mmnet.data.tables import Rows

RULE = "is not an exact duplicate of a row"
"""Name of the ledger's rule of `--repeats=drop`."""


def firsts(keys: np.ndarray) -> np.ndarray:
    """Returns the first row with the same key for each row, int64 [rows].

    >>> firsts(np.array([7, 8, 7]))
    array([0, 1, 0])
    """
    codes, _ = pd.factorize(keys)
    _, first = np.unique(codes, return_index=True)
    return first[codes].astype(np.int64)


def differences(table: Rows, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Finds the column in which pairs of rows differ, among all columns of the table.

    Args:
        table: table of the rows.
        one: positions of the first row of each pair.
        other: positions of the second.

    Returns:
        The first such column of each pair, object [pairs]; empty if the two rows are equal.

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
    """Returns some rows of a table with all columns, in the order of their positions."""
    blocks = table.blocks(PIECE_ROWS)
    if isinstance(table, ParquetTable):  # reads only the row groups that contain them
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
    """Returns a number for each value of a column, equal for equal values; nulls are equal."""
    if pa.types.is_nested(column.type):
        return pd.factorize(np.array([repr(value) for value in column.to_pylist()], object))[0]
    return pd.factorize(column.to_pandas(types_mapper=pd.ArrowDtype))[0]


def refusal(table: Rows, one: int, other: int, key: str, advice: str) -> InputError:
    """Returns the error about two rows for one key.

    Args:
        table: table of the rows.
        one: position of the first row.
        other: position of the second.
        key: the key in words, such as the item.
        advice: what to do if they differ.

    >>> from mmnet.data.tables import Table
    >>> rows = Table(pa.table({"id": ["a", "a", "a"], "n": [1, 1, 2]}), "items")
    >>> print(refusal(rows, 0, 1, "item 'a'", "correct one"))
    items table row 2: exact duplicate of row 1 (item 'a'); remove it, or set --repeats=drop
    >>> print(refusal(rows, 0, 2, "item 'a'", "correct one"))
    items table row 3: duplicate row for item 'a' with other values: n is 1 in row 1 and 2 here; \
correct one
    """
    (column,) = differences(table, np.array([one]), np.array([other]))
    here, there = table.where_place(other), _short(table, one, other)
    if not column:
        return InputError(
            f"{here}: exact duplicate of {there} ({key}); remove it, or set --repeats=drop"
        )
    values = _rows(table, np.array(sorted((one, other))))[column].to_pylist()
    first, second = values if one < other else values[::-1]
    return InputError(
        f"{here}: duplicate row for {key} with other values: {column} is {_shown(first)} in "
        f"{there} and {_shown(second)} here; {advice}"
    )


def _short(table: Rows, one: int, other: int) -> str:
    """Returns the place of a row for a message that names another row; without the same file."""
    here, there = table.where_place(one), table.where_place(other)
    file, _, unit = here.rpartition(" ")
    file, _, word = file.rpartition(" ")
    return f"{word} {unit}" if there.startswith(f"{file} ") else here


def _shown(value: object) -> str:
    text = "empty" if value is None else repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
