"""Columns of a table in memory: as text, numbers or lists, and which row holds a wrong value."""

from __future__ import annotations

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
"""Separates the values of a multi-valued column that is written as a string, unless a flag says
otherwise."""

_LARGEST_ID = str((1 << 63) - 1)

_NAMED = {"tab": "\t", r"\t": "\t", "space": " "}


def separator_of(flags: TableFlags) -> str:
    """What separates several values in one text.

    >>> separator_of(TableFlags()), separator_of(TableFlags(list_separator="space"))
    (';', ' ')
    """
    return _NAMED.get(flags.list_separator, flags.list_separator) or SEPARATOR


def strings(table: Table, column: str, flag: str) -> np.ndarray:
    """`texts` as an object array of str."""
    return texts(table, column, flag).to_numpy(zero_copy_only=False).astype(object)


def texts(table: Table, column: str, flag: str) -> pa.ChunkedArray:
    """Returns a column of texts or paths, empty where empty.

    Text is left as it is written, with its spaces and zeros; other values are spelled as ids are.

    Raises:
        InputError: a list where one value is wanted.
    """
    data = _single(table, column, flag)
    if spelling.is_text(data.type):
        return pc.fill_null(spelling.plain(data), "")
    return spelling.texts(data)


def id_texts(table: Table, column: str, flag: str) -> pa.ChunkedArray:
    """Returns a column of ids as strings, empty where empty, spelled as in `spelling`.

    Raises:
        InputError: a list where one id is wanted, or an id whose last digits are lost.
    """
    data = _single(table, column, flag)
    lost = spelling.lost_digits(data)
    if lost.any():
        row = int(np.argmax(lost))
        raise InputError(lost_digits(table.where(row, column), data[row].as_py()))
    return spelling.texts(data)


def whole_ids(table: Table, column: str, flag: str) -> np.ndarray:
    """Returns a column of ids that are whole numbers, int64, spelled in any way.

    Raises:
        InputError: an id of another kind, or whose last digits are lost, with its row.
    """
    text = id_texts(table, column, flag)
    short = pc.less(pc.utf8_length(text), len(_LARGEST_ID))  # of one length, texts have an order
    whole = pc.match_substring_regex(text, f"^[0-9]{{1,{len(_LARGEST_ID)}}}$")
    whole = pc.and_(whole, pc.or_(short, pc.less_equal(text, _LARGEST_ID)))
    if not pc.all(whole).as_py():
        row = pc.index(whole, False).as_py()
        value = table.need(column, flag)[row].as_py()
        raise InputError(
            f"{table.where(row, column)}: ids are whole numbers here, below 2**63. "
            f"Received: {value!r}"
        )
    return text.cast(pa.int64()).to_numpy()


def lost_digits(place: str, value: object) -> str:
    """What to say of an id that passed through a float."""
    return (
        f"{place}: {value} is an id that was turned into a floating-point number, so that its last "
        "digits are lost; write ids as whole numbers or text where the file is made (pandas makes "
        "floats of a column with empty ids: read it with dtype='Int64' or str)"
    )


def _single(table: Table, column: str, flag: str) -> pa.ChunkedArray:
    data = table.need(column, flag)
    if pa.types.is_nested(data.type):
        raise InputError(
            f"{table.origin()}: column {column!r} named by --{flag} holds {data.type} values; "
            "one value per row is wanted"
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
        column: of it.
        flag: names the column.
        what: the values are, for messages.
        marks: of numbers that are written as text; see `numbers.recognised`.
        empty_is_zero: whether an empty value is 0.

    Raises:
        InputError: an empty (unless it is 0), non-integer or negative value, with its row.
    """
    data = table.need(column, flag)
    rule = f"{what} must be a whole number of 0 or more, below 2**53"
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
        column: of it.
        flag: names the column.
        rule: for messages.
        marks: of numbers that are written as text; see `numbers.recognised`.

    Raises:
        InputError: a value that is no number, with its row and the rule.
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


def values_of(
    table: Table, column: str, flag: str, separator: str = SEPARATOR
) -> tuple[np.ndarray, np.ndarray]:
    """Flattens a single- or multi-valued column into (row, value) pairs, empty values left out.

    A list column has its entries, and so has a list that is written as text in the form of JSON or
    Python. Any other text is cut at the separator. Repeats of a value in one row count once.

    Args:
        table: some rows.
        column: of it.
        flag: names the column.
        separator: of several values in one text.

    >>> table = Table(pa.table({"tags": ["a;b", "", "b;b", "['a', 'c;d']"]}), "items")
    >>> values_of(table, "tags", "taxonomies")
    (array([0, 0, 2, 3, 3]), array(['a', 'b', 'b', 'a', 'c;d'], dtype=object))
    """
    data = table.need(column, flag).combine_chunks()
    rows, flat = _flattened(data, separator)
    if pa.types.is_nested(flat.type):
        raise InputError(
            f"{table.origin()}: column {column!r} named by --{flag} holds {data.type} values; "
            "a list of single values is wanted"
        )
    values = spelling.texts(flat).to_numpy(zero_copy_only=False)
    pairs = pd.DataFrame({"row": rows, "value": values.astype(object)})
    pairs = pairs[pairs["value"] != ""].drop_duplicates()
    return pairs["row"].to_numpy(), pairs["value"].to_numpy().astype(object)


def _flattened(data: pa.Array, separator: str) -> tuple[np.ndarray, pa.Array]:
    """The row of each value, int64, ascending; and the values."""
    if is_list(data.type):
        rows = pc.list_parent_indices(data).to_numpy(zero_copy_only=False)
        return rows.astype(np.int64), pc.list_flatten(data)
    if not spelling.is_text(data.type):
        return np.arange(len(data)), data
    text = pc.fill_null(spelling.plain(data), "")
    cut = pc.split_pattern(text, separator)
    maybe = pc.match_substring_regex(text, rf"^[{spelling.SPACES}]*\[")
    if pc.any(maybe).as_py():
        whole = cut.to_pylist()
        for row in np.flatnonzero(maybe.to_numpy(zero_copy_only=False)):
            found = spelling.literal(text[row].as_py())
            if found is not None:
                whole[row] = [spelling.spelled(value) for value in found]
        cut = pa.array(whole, pa.list_(pa.string()))
    rows = pc.list_parent_indices(cut).to_numpy(zero_copy_only=False)
    return rows.astype(np.int64), pc.list_flatten(cut)


def is_list(kind: pa.DataType) -> bool:
    """Whether a column holds lists."""
    views = (pa.types.is_list_view, pa.types.is_large_list_view)
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(of(kind) for of in (*lists, *views))
