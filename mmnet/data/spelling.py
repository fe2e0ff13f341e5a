"""One spelling per value: the same text for an id, category or tag from any kind of file.

A value has the same text in CSV, in Parquet of any type, in events of an engine and in requests:

    " a "           -> "a"         spaces around it are removed
    True, "TRUE"    -> "true"      true and false in any case
    12, 12.0, "12.00", Decimal("12.0")  -> "12"
    0.1             -> "0.1"       a float as CSV writers write it: the shortest exact text
    "3.10", "007"   -> as they are

The rule looks at a single value, never at its column, so that a request with one row means the same
as a training table. It is implemented three times, for Arrow, for Python and for Ibis (`in_ibis`);
tests check that they agree. A fourth implementation is part of exports, see `serving.export`.
"""

from __future__ import annotations

import ast
import decimal
import json
import re
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    import ibis.expr.types as ir

LARGEST = 1 << 53
"""Upper limit of counts: float64 represents each whole number below it, but not all above."""

SPACES = "\t-\r\x1c-\x1f \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
"""The characters that `str.strip` removes, for a character class of a regular expression."""

WHOLE = r"^(-?[0-9]+)\.0+$"
"""Matches a whole number that was written as a float."""
ZERO = r"^-(0+)\.0+$"
"""Matches a negative zero that was written as a float."""
TRUTH = r"^([tT][rR][uU][eE]|[fF][aA][lL][sS][eE])$"
"""Not `(?i)`, which matches the long s in some engines."""

FLOATED = (
    r"^-?[0-9](\.[0-9]+)?[eE]\+(1[5-9]|[2-9][0-9]|[1-9][0-9][0-9])$"
    r"|^-?[0-9]\.[0-9]+[eE](1[5-9]|[2-9][0-9]|[1-9][0-9][0-9])$"
    r"|^-?[0-9]{16,}\.0+$"
)
"""Matches a number that a program wrote as a float and that may be `LARGEST` or more.

In scientific notation, programs write one digit before the point; `1e16` alone may well be an id.
"""

MAX_LITERAL = 1 << 16
"""Maximum length of a text that is parsed as a list literal."""

# ----------------------------------------------------------------------------------- Arrow


def texts(data: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Converts single values of any type to strings, empty where empty.

    >>> texts(pa.array([1.0, None, 2.5])).to_pylist()
    ['1', '', '2.5']
    >>> texts(pa.array([" TRUE", "12.00", "3.10", "007"])).to_pylist()
    ['true', '12', '3.10', '007']
    """
    data = plain(data)
    if pa.types.is_floating(data.type):
        return _of_floats(data)
    if pa.types.is_string(data.type) or pa.types.is_large_string(data.type):
        return _of_text(pc.fill_null(data, ""))
    text = pc.fill_null(data.cast(pa.string()), "")
    return _of_text(text) if pa.types.is_decimal(data.type) else text


def plain(data: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Returns a column without storage types: dictionaries and views become plain values.

    >>> plain(pa.array(["a", None]).dictionary_encode()).type
    DataType(string)
    """
    if pa.types.is_dictionary(data.type):
        data = data.cast(data.type.value_type)
    return data.cast(pa.string()) if data.type == pa.string_view() else data


def is_text(kind: pa.DataType) -> bool:
    """Checks whether a column's values are text.

    >>> is_text(pa.large_string()), is_text(pa.dictionary(pa.int8(), pa.string()))
    (True, True)
    """
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.string_view()


def _of_text(text: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    # Most columns have no text that is spelled differently, which their bytes show at once.
    if not all(_is_dense(one) for one in _bytes_of(text)):
        text = pc.utf8_trim_whitespace(text)
    if _have(text, ".") and pc.any(pc.match_substring(text, ".0")).as_py():
        text = pc.replace_substring_regex(text, ZERO, r"\1")
        text = pc.replace_substring_regex(text, WHOLE, r"\1")
    short = pc.is_in(pc.binary_length(text), pa.array((4, 5)).cast(_length_type(text)))
    if not pc.any(pc.match_substring_regex(text.filter(short), TRUTH)).as_py():
        return text
    truth = pc.match_substring_regex(text, TRUTH)
    return pc.if_else(truth, pc.utf8_lower(text), text)


def _length_type(text: pa.Array | pa.ChunkedArray) -> pa.DataType:
    return pa.int64() if pa.types.is_large_string(text.type) else pa.int32()


def _bytes_of(text: pa.Array | pa.ChunkedArray) -> Iterator[np.ndarray]:
    """Yields the bytes of all texts of each chunk, uint8."""
    offset = np.int64 if pa.types.is_large_string(text.type) else np.int32
    for chunk in text.chunks if isinstance(text, pa.ChunkedArray) else [text]:
        _, offsets, data = chunk.buffers()
        if len(chunk) and data is not None:
            ends = np.frombuffer(offsets, offset)[chunk.offset : chunk.offset + len(chunk) + 1]
            yield np.frombuffer(data, np.uint8)[ends[0] : ends[-1]]


def _is_dense(found: np.ndarray) -> bool:
    """Checks whether bytes are ASCII without any of `SPACES`."""
    return not len(found) or bool(found.min() > ord(" ") and found.max() < 0x80)


def _have(text: pa.Array | pa.ChunkedArray, characters: str) -> bool:
    """Checks whether any text has one of some ASCII characters."""
    return any((part == ord(one)).any() for part in _bytes_of(text) for one in characters)


def _of_floats(data: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    numbers = pc.cast(data, pa.float64())
    numbers = pc.if_else(pc.is_finite(numbers), numbers, None)
    if not pc.any(pc.invert(_is_whole(numbers))).as_py():
        return pc.fill_null(numbers.cast(pa.int64()).cast(pa.string()), "")
    coded = data.dictionary_encode()  # Python writes each number once
    if isinstance(coded, pa.ChunkedArray):
        chunks = [_of_codes(chunk) for chunk in coded.chunks]
        return pa.chunked_array(chunks, pa.string())
    return _of_codes(coded)


def _of_codes(coded: pa.DictionaryArray) -> pa.Array:
    numbers = coded.dictionary.to_numpy(zero_copy_only=False)
    written = pa.array([_of_float(number) for number in numbers], pa.string())
    return pc.fill_null(written.take(coded.indices), "")


def _is_whole(data: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    return pc.and_(pc.equal(pc.floor(data), data), pc.less(pc.abs(data), LARGEST))


def lost_digits(data: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Marks ids that passed through a float that cannot represent them, bool [values].

    >>> lost_digits(pa.array([7.2e18, 12.0])).tolist()
    [True, False]
    >>> lost_digits(pa.array(["7.2E+18", "7200000000000000001", "12.0"])).tolist()
    [True, False, False]
    """
    data = plain(data)
    if pa.types.is_floating(data.type):
        numbers = pc.cast(data, pa.float64())
        lost = pc.and_(pc.is_finite(numbers), pc.greater_equal(pc.abs(numbers), LARGEST))
        return pc.fill_null(lost, False).to_numpy(zero_copy_only=False)
    if not is_text(data.type):
        return np.zeros(len(data), bool)
    if not _have(data, ".+"):  # `FLOATED` has one of them
        return np.zeros(len(data), bool)
    text = pc.utf8_trim_whitespace(pc.fill_null(data, ""))
    lost = pc.match_substring_regex(text, FLOATED)
    if pc.any(lost).as_py():
        numbers = pc.if_else(lost, text, "0").cast(pa.float64())
        lost = pc.greater_equal(pc.abs(numbers), LARGEST)
    return lost.to_numpy(zero_copy_only=False)


# ---------------------------------------------------------------------------------- Python


def spelled(value: Any) -> str:
    """Returns the text of one value, as `texts` writes it.

    >>> [spelled(value) for value in (True, 12.0, "12.00", "False ", None, 0.1, "3.10")]
    ['true', '12', '12', 'false', '', '0.1', '3.10']
    """
    if value is None:
        return ""
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, float | np.floating):
        return _of_float(value)
    if isinstance(value, decimal.Decimal):
        value = f"{value:f}"
    text = str(value).strip()
    if len(text) not in (4, 5) and not (text.endswith("0") and "." in text):
        return text  # what no pattern below can match: true, false, and .0 at the end
    if re.fullmatch(TRUTH[1:-1], text):
        return text.lower()
    return re.sub(WHOLE, r"\1", re.sub(ZERO, r"\1", text))


def _of_float(number: float | np.floating | None) -> str:
    if number is None or not np.isfinite(number):
        return ""
    if float(number).is_integer() and abs(float(number)) < LARGEST:
        return str(int(number))
    return re.sub(WHOLE, r"\1", str(number))


_ITEM = (
    r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[-+]?[0-9][0-9.]*(?:[eE][-+]?[0-9]+)?"""
    r"|[Tt]rue|[Ff]alse|None|null|nan|NaN"
)
_LIST = re.compile(rf"\[\s*(?:(?:{_ITEM})(?:(?:\s*,\s*|\s+)(?:{_ITEM}))*\s*,?\s*)?\]", re.DOTALL)
_WORDS = {"true": True, "false": False, "null": None, "nan": None, "NaN": None}


def literal(text: str) -> list[Any] | None:
    """Parses a list written by JSON, Python or NumPy; returns None for any other text.

    >>> literal('["a", "b"]'), literal("['a', 2]"), literal("['a' 'b']"), literal("[]")
    (['a', 'b'], ['a', 2], ['a', 'b'], [])
    >>> literal("[18+]"), literal("a"), literal("[['a']]")
    (None, None, None)
    """
    text = text.strip()
    if len(text) > MAX_LITERAL or not _LIST.fullmatch(text):
        return None
    try:
        found = json.loads(text)  # first, since its escapes differ from Python's
    except ValueError:
        try:
            items = re.findall(_ITEM, text, re.DOTALL)
            found = [_WORDS[one] if one in _WORDS else ast.literal_eval(one) for one in items]
        except (ValueError, SyntaxError):
            return None
    try:
        "".join(one for one in found if isinstance(one, str)).encode()
    except UnicodeEncodeError:  # half of a character, written as an escape
        return None
    return found


# ------------------------------------------------------------------------------------ Ibis


def in_ibis(column: ir.Value) -> ir.StringValue:
    """Returns the same as an expression of functions that DuckDB, Spark and SQLite share.

    Floats with a fraction are formatted by the engine, which may differ: they are not ids.
    """
    import ibis

    value: Any = column
    of = value.type()
    if of.is_floating():
        number = value.cast("float64")
        filled = _finite(number)
        small = ibis.ifelse(filled & (number.abs() < LARGEST), number, 0.5)  # floor is an integer
        whole = small == small.floor()
        written = ibis.ifelse(whole, small, 0.0).cast("int64").cast("string")
        text = ibis.ifelse(whole, written, ibis.ifelse(filled, value.cast("string"), ""))
        return text.fill_null("")
    if of.is_boolean():
        return ibis.cases((value, "true"), (~value, "false"), else_="")
    if not (of.is_string() or of.is_decimal()):
        return value.cast("string").fill_null("")
    text = value.cast("string").fill_null("")
    # One search suffices for most values, which are already in their final spelling.
    unusual = text.re_search(f"^[{SPACES}]|[{SPACES}]$|\\.0+[{SPACES}]*$|{TRUTH}")
    trimmed = text.re_replace(f"^[{SPACES}]+|[{SPACES}]+$", "")
    usual = ibis.cases(
        (trimmed.re_search(ZERO), trimmed.re_extract(ZERO, 1)),
        (trimmed.re_search(WHOLE), trimmed.re_extract(WHOLE, 1)),
        (trimmed.re_search(TRUTH), trimmed.lower()),
        else_=trimmed,
    )
    return ibis.ifelse(unusual, usual, text)


def _finite(number: Any) -> Any:
    # Engines with NaN sort it above all numbers, but not all of them can test for it.
    return number.notnull() & (number.abs() <= sys.float_info.max)


def lost_in_ibis(column: ir.Value) -> ir.BooleanValue:
    """Returns `lost_digits` as an expression."""
    import ibis

    value: Any = column
    of = value.type()
    if of.is_floating():
        number = value.cast("float64")
        return ibis.ifelse(_finite(number), number.abs() >= float(LARGEST), False)
    if not of.is_string():
        return ibis.literal(False)
    text = value.fill_null("").re_replace(f"^[{SPACES}]+|[{SPACES}]+$", "")
    maybe = value.contains(".") | value.contains("+")
    floated = ibis.ifelse(maybe.fill_null(False), text.re_search(FLOATED), False)
    number = ibis.ifelse(floated, text, "0").cast("float64")
    return number.abs() >= float(LARGEST)
