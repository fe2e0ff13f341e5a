"""Columns of a table in memory: as text, numbers or lists, and which row holds a wrong value."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from mmnet.checks import InputError
from mmnet.data.tables import Table

SEPARATOR = ";"
"""Separates the values of a multi-valued column that is written as a string."""

LARGEST = 1 << 53
"""Counts stay below this, so that float64 holds each exactly."""


def strings(table: Table, column: str, flag: str) -> np.ndarray:
    """`texts` as an object array of str."""
    return texts(table, column, flag).to_numpy(zero_copy_only=False).astype(object)


def texts(table: Table, column: str, flag: str) -> pa.ChunkedArray:
    """Returns a column as strings, empty where empty.

    Whole numbers written as floats lose their ".0" (ids that passed through a NaN column).

    Raises:
        InputError: a list where one value is wanted.
    """
    data = table.need(column, flag)
    if pa.types.is_nested(data.type):
        raise InputError(
            f"{table.origin()}: column {column!r} named by --{flag} holds {data.type} values; "
            "one value per row is wanted"
        )
    return _text(data)


_WHOLE = r"^-?\d+\.0$"


def _text(data: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Single values as strings, empty where empty."""
    if pa.types.is_dictionary(data.type):
        data = data.cast(data.type.value_type)
    if pa.types.is_floating(data.type):
        data = data.cast(pa.float64())
        data = pc.if_else(pc.is_finite(data), data, None)
        whole = pc.and_(pc.equal(pc.floor(data), data), pc.less(pc.abs(data), LARGEST))
        data = data.cast(pa.int64()) if pc.all(whole).as_py() else data
    if not (pa.types.is_string(data.type) or pa.types.is_large_string(data.type)):
        return pc.fill_null(data.cast(pa.string()), "")
    data = pc.fill_null(data, "")
    if _all_whole(data[:100]) and _all_whole(data):
        data = pc.replace_substring(data, ".0", "")
    return data


def _all_whole(data: pa.Array | pa.ChunkedArray) -> bool:
    return pc.all(pc.or_(pc.equal(data, ""), pc.match_substring_regex(data, _WHOLE))).as_py()


def integers(
    table: Table, column: str, flag: str, *, what: str, empty_is_zero: bool = False
) -> np.ndarray:
    """Returns a count column as int64.

    Raises:
        InputError: an empty (unless it is 0), non-integer or negative value, with its row.
    """
    data = table.need(column, flag)
    rule = f"{what} must be a whole number of 0 or more, below 2**53"
    values = _numbers(table, data, column, rule)
    if empty_is_zero:
        values = np.where(np.isnan(values), 0.0, values)
        data = data.fill_null(0) if pa.types.is_integer(data.type) else data
    bad = ~np.isfinite(values) | (values != np.floor(values)) | (values < 0) | (values >= LARGEST)
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(f"{table.where(row, column)}: {rule}. Received: {data[row].as_py()!r}")
    return (
        data.cast(pa.int64()).to_numpy() if pa.types.is_integer(data.type) else values.astype(int)
    )


def floats(
    table: Table, column: str, flag: str, *, rule: str = "a numeric column's value must be a number"
) -> np.ndarray:
    """Returns a numeric column as float64, NaN where empty.

    Raises:
        InputError: a value that is no number, with its row and the rule.
    """
    return _numbers(table, table.need(column, flag), column, rule)


def _numbers(table: Table, data: pa.ChunkedArray, column: str, rule: str) -> np.ndarray:
    if pa.types.is_boolean(data.type):
        data = data.cast(pa.int8())
    if (
        pa.types.is_integer(data.type)
        or pa.types.is_floating(data.type)
        or pa.types.is_null(data.type)
    ):
        return data.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    raw = data.to_pandas().astype("string").str.strip()
    values = pd.to_numeric(raw, errors="coerce").astype("float64").to_numpy(na_value=np.nan)
    bad = np.isnan(values) & raw.notna().to_numpy() & (raw != "").fillna(False).to_numpy()
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(f"{table.where(row, column)}: {rule}. Received: {data[row].as_py()!r}")
    return values


def values_of(table: Table, column: str, flag: str) -> tuple[np.ndarray, np.ndarray]:
    """Flattens a single- or multi-valued column into (row, value) pairs, empty values left out.

    A list column has its entries, a string column is cut at ";"; repeats of a value in one row
    count once.

    >>> table = Table(pa.table({"tags": ["a;b", "", "b;b"]}), "items")
    >>> values_of(table, "tags", "taxonomies")
    (array([0, 0, 2]), array(['a', 'b', 'b'], dtype=object))
    """
    data = table.need(column, flag).combine_chunks()
    if is_list(data.type):
        lists = data
    else:
        lists = pc.split_pattern(pa.array(strings(table, column, flag), pa.string()), SEPARATOR)
    rows = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
    flat = pc.list_flatten(lists)
    if pa.types.is_nested(flat.type):
        raise InputError(
            f"{table.origin()}: column {column!r} named by --{flag} holds {data.type} values; "
            "a list of single values is wanted"
        )
    flat = pc.utf8_trim_whitespace(_text(flat))
    pairs = pd.DataFrame(
        {"row": rows.astype(np.int64), "value": flat.to_numpy(zero_copy_only=False)}
    )
    pairs = pairs[pairs["value"] != ""].drop_duplicates()
    return pairs["row"].to_numpy(), pairs["value"].to_numpy().astype(object)


def is_list(kind: pa.DataType) -> bool:
    """Whether a column holds lists."""
    return (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )
