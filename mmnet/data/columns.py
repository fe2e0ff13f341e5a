"""Columns of a table in memory as text, numbers or lists, with the row of any wrong value."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from mmnet.checks import InputError
from mmnet.config import TableFlags
from mmnet.data import numbers, spelling
from mmnet.data.numbers import PLAIN, Marks
from mmnet.data.spelling import LARGEST
from mmnet.data.tables import Table

SEPARATOR = ";"
"""Default separator of the values of a multi-valued column that is written as text."""

FEW_VALUES = 16
"""Number of values in a row up to which duplicates are found by comparing neighbours."""

_LARGEST_ID = str((1 << 63) - 1)

_NAMED = {"tab": "\t", r"\t": "\t", "space": " "}


def separator_of(flags: TableFlags) -> str:
    """Returns the separator of several values in one text.

    >>> separator_of(TableFlags()), separator_of(TableFlags(list_separator="space"))
    (';', ' ')
    """
    return _NAMED.get(flags.list_separator, flags.list_separator) or SEPARATOR


def strings(table: Table, column: str, flag: str) -> np.ndarray:
    """Returns `texts` as an object array of str."""
    return texts(table, column, flag).to_numpy(zero_copy_only=False).astype(object)


def texts(table: Table, column: str, flag: str) -> pa.ChunkedArray:
    """Returns a column of texts or paths, empty where empty.

    Text is kept as it is, with its spaces and zeros; other values are spelled like ids.

    Raises:
        InputError: a value is a list.
    """
    data = _single(table, column, flag)
    if spelling.is_text(data.type):
        return pc.fill_null(spelling.plain(data), "")
    return spelling.texts(data)


def id_texts(table: Table, column: str, flag: str) -> pa.ChunkedArray:
    """Returns a column of ids as strings, empty where empty, spelled as in `spelling`.

    Raises:
        InputError: a value is a list, or an id that has lost its last digits.
    """
    data = _single(table, column, flag)
    lost = spelling.lost_digits(data)
    if lost.any():
        row = int(np.argmax(lost))
        raise InputError(lost_digits(table.where(row, column), data[row].as_py()))
    return spelling.texts(data)


def whole_ids(table: Table, column: str, flag: str) -> np.ndarray:
    """Returns a column of whole-number ids, int64, in any spelling.

    Raises:
        InputError: an id is not a whole number, or has lost its last digits; it names the row.
    """
    text = id_texts(table, column, flag)
    short = pc.less(pc.utf8_length(text), len(_LARGEST_ID))  # texts of equal length can be compared
    whole = pc.match_substring_regex(text, f"^[0-9]{{1,{len(_LARGEST_ID)}}}$")
    whole = pc.and_(whole, pc.or_(short, pc.less_equal(text, _LARGEST_ID)))
    if not pc.all(whole).as_py():
        row = pc.index(whole, False).as_py()
        value = table.need(column, flag)[row].as_py()
        raise InputError(
            f"{table.where(row, column)}: ids must be whole numbers below 2**63. "
            f"Received: {value!r}"
        )
    return text.cast(pa.int64()).to_numpy()


def lost_digits(place: str, value: object) -> str:
    """Returns the message about an id that was converted to a floating-point number."""
    return (
        f"{place}: {value} is an id that was converted to a floating-point number, so its last "
        "digits are lost; write ids as integers or text when you create the file (pandas converts "
        "a column with empty ids to float: read it with dtype='Int64' or str)"
    )


def _single(table: Table, column: str, flag: str) -> pa.ChunkedArray:
    data = table.need(column, flag)
    if pa.types.is_nested(data.type):
        raise InputError(
            f"{table.origin()}: column {column!r} named by --{flag} has {data.type} values; "
            "each row must have a single value"
        )
    return data


# --------------------------------------------------------------------------------- numbers


def integers(
    table: Table,
    column: str,
    flag: str,
    *,
    what: str,
    marks: Marks = PLAIN,
    empty_is_zero: bool = False,
) -> np.ndarray:
    """Returns a count column as int64.

    Args:
        table: some rows.
        column: name of the column.
        flag: flag that names the column.
        what: description of the values, for messages.
        marks: decimal mark and thousands separator of numbers in text; see `numbers.recognised`.
        empty_is_zero: whether an empty value is 0.

    Raises:
        InputError: an empty (unless it is 0), non-integer or negative value, with its row.
    """
    data = table.need(column, flag)
    rule = f"{what} must be a whole number of 0 or more, below 2**53"
    if pa.types.is_integer(data.type) and not data.null_count:
        limits = pc.min_max(data).as_py()
        if not len(data) or (limits["min"] >= 0 and limits["max"] < LARGEST):
            return data.cast(pa.int64()).to_numpy()
    values = _numbers(table, data, column, rule, marks)
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
    table: Table,
    column: str,
    flag: str,
    *,
    rule: str = "a numeric column's value must be a number",
    marks: Marks = PLAIN,
) -> np.ndarray:
    """Returns a numeric column as float64, NaN where empty.

    Args:
        table: some rows.
        column: name of the column.
        flag: flag that names the column.
        rule: start of the message about a wrong value.
        marks: decimal mark and thousands separator of numbers in text; see `numbers.recognised`.

    Raises:
        InputError: a value is not a number; it names the row and the rule.
    """
    return _numbers(table, table.need(column, flag), column, rule, marks)


def _numbers(
    table: Table, data: pa.ChunkedArray, column: str, rule: str, marks: Marks
) -> np.ndarray:
    of = data.type
    if pa.types.is_boolean(of):
        data = data.cast(pa.int8())
    if (
        pa.types.is_boolean(of)
        or pa.types.is_integer(of)
        or pa.types.is_floating(of)
        or pa.types.is_decimal(of)
        or pa.types.is_null(of)
    ):
        return data.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    if pa.types.is_dictionary(of) and not spelling.is_text(of):
        return _numbers(table, spelling.plain(data), column, rule, marks)
    found, bad = np.zeros(len(data)), np.ones(len(data), bool)
    if spelling.is_text(of):
        text = numbers.written(data)
        parsed = numbers.parsed(text, marks)
        bad = np.asarray(parsed.is_null()) & np.asarray(text.is_valid())
        found = parsed.to_numpy(zero_copy_only=False)
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(f"{table.where(row, column)}: {rule}. Received: {data[row].as_py()!r}")
    return found


# ----------------------------------------------------------------------------------- lists


class Values(NamedTuple):
    """The values of a single- or multi-valued column; each distinct text is there once.

    Attributes:
        rows: int64 [pairs], row of each value, ascending.
        codes: int64 [pairs], position of the value in `texts`.
        texts: object [distinct], str, in the order in which they first occur.
    """

    rows: np.ndarray
    codes: np.ndarray
    texts: np.ndarray


def values_of(
    table: Table, column: str, flag: str, separator: str = SEPARATOR
) -> tuple[np.ndarray, np.ndarray]:
    """Flattens a single- or multi-valued column into (row, value) pairs, without empty values.

    The values of a row are the entries of its list, or of a list written as text in JSON or Python
    notation. Any other text is split at the separator. Duplicates in one row count once.

    Args:
        table: some rows.
        column: name of the column.
        flag: flag that names the column.
        separator: separator of several values in one text.

    >>> table = Table(pa.table({"tags": ["a;b", "", "b;b", "['a', 'c;d']"]}), "items")
    >>> values_of(table, "tags", "taxonomies")
    (array([0, 0, 2, 3, 3]), array(['a', 'b', 'b', 'a', 'c;d'], dtype=object))
    """
    found = coded_values(table, column, flag, separator)
    return found.rows, found.texts[found.codes]


def coded_values(table: Table, column: str, flag: str, separator: str = SEPARATOR) -> Values:
    """Returns the pairs of `values_of`, with numbers in place of the texts.

    >>> table = Table(pa.table({"tags": ["b", "a;b", "b"]}), "items")
    >>> rows, codes, texts = coded_values(table, "tags", "taxonomies")
    >>> rows.tolist(), codes.tolist(), texts.tolist()
    ([0, 1, 1, 2], [0, 1, 0, 0], ['b', 'a'])
    """
    data = table.need(column, flag).combine_chunks()
    rows, places, distinct = _flattened(data, separator)
    if pa.types.is_nested(distinct.type):
        raise InputError(
            f"{table.origin()}: column {column!r} named by --{flag} has {data.type} values; "
            "each row must have a list of single values"
        )
    # A value is spelled by itself, so that it is enough to spell each distinct one once.
    spelled = spelling.texts(distinct).to_numpy(zero_copy_only=False).astype(object)
    spelled[spelled == ""] = None
    of_distinct, texts = pd.factorize(spelled)
    codes = np.append(of_distinct, -1)[places]
    kept = codes >= 0
    if not kept.all():
        rows, codes = rows[kept], codes[kept]
    again = _repeated(rows, codes, len(texts))
    if again.any():
        rows, codes = rows[~again], codes[~again]
    return Values(rows, codes.astype(np.int64), texts)


def _repeated(rows: np.ndarray, codes: np.ndarray, distinct: int) -> np.ndarray:
    """Marks pairs that equal an earlier pair, bool [pairs]; rows are ascending."""
    again = np.zeros(len(rows), bool)
    if not len(rows) or (np.diff(rows) > 0).all():
        return again
    longest = int(np.bincount(rows - rows[0]).max())
    if longest > FEW_VALUES:
        return pd.Series(rows * distinct + codes).duplicated().to_numpy()
    for back in range(1, longest):
        again[back:] |= (rows[back:] == rows[:-back]) & (codes[back:] == codes[:-back])
    return again


def _flattened(data: pa.Array, separator: str) -> tuple[np.ndarray, np.ndarray, pa.Array]:
    """Returns the values of a column, each distinct one once.

    Returns:
        The row of each value, int64, ascending; its position in the third array, -1 if it is null;
        and the distinct values.
    """
    if is_list(data.type):
        rows = pc.list_parent_indices(data).to_numpy(zero_copy_only=False)
        return rows.astype(np.int64), *_coded(pc.list_flatten(data))
    if not spelling.is_text(data.type):
        return np.arange(len(data)), *_coded(data)
    of_rows, text = _coded(pc.fill_null(spelling.plain(data), ""))  # each text is cut once
    cut = pc.split_pattern(text, separator)
    maybe = pc.match_substring_regex(text, rf"^[{spelling.SPACES}]*\[")
    if pc.any(maybe).as_py():
        whole = cut.to_pylist()
        for row in np.flatnonzero(maybe.to_numpy(zero_copy_only=False)):
            found = spelling.literal(text[row].as_py())
            if found is not None:
                whole[row] = [spelling.spelled(value) for value in found]
        cut = pa.array(whole, pa.list_(pa.string()))
    lengths = pc.list_value_length(cut).to_numpy(zero_copy_only=False).astype(np.int64)
    starts = np.cumsum(lengths) - lengths
    flat = pc.list_flatten(cut)
    if (lengths == 1).all():
        return np.arange(len(of_rows)), of_rows, flat
    values = lengths[of_rows]
    before = np.repeat(starts[of_rows] - (np.cumsum(values) - values), values)
    return np.repeat(np.arange(len(values)), values), np.arange(len(before)) + before, flat


def _coded(data: pa.Array) -> tuple[np.ndarray, pa.Array]:
    """Returns the position of each value in the array of distinct ones, -1 for nulls; and those."""
    data = spelling.plain(data)
    try:
        coded = data.dictionary_encode()
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):  # lists, for example
        return np.arange(len(data)), data
    codes = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return codes.astype(np.int64), coded.dictionary


def is_list(kind: pa.DataType) -> bool:
    """Checks whether a column has lists."""
    views = (pa.types.is_list_view, pa.types.is_large_list_view)
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(of(kind) for of in (*lists, *views))
