"""Kinds of columns, by their values: each kind has a rule and a reason in one phrase."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from mmnet.checks import InputError
from mmnet.config import TableFlags
from mmnet.data import numbers, separators, spelling
from mmnet.data.columns import SEPARATOR, is_list
from mmnet.data.numbers import Marks
from mmnet.data.tables import Table
from mmnet.inspection import times
from mmnet.inspection.times import TimeReading

Kind = Literal["time", "number", "category", "list", "text", "image", "vector", "useless"]

PARSE_RATE = 0.99
"""Minimum share of the filled values that must be numbers, times or image paths for that kind."""

RECURS = 0.2
"""Minimum share of the items that must share their value with another item to learn from it."""

WORDS, LETTERS = 3.0, 8.0
"""Mean words of a text; mean characters of one in a script without spaces between words."""

FEW_CODES = 10
"""Whole numbers with at most this many values are codes, if each occurs in many rows."""

_IMAGE = r"(?i)\.(jpe?g|png|gif|webp|bmp|tiff?)$"
_CODE = re.compile(
    r"(^|_)(id|ids|code|type|kind|class|category|categories|tags?|authors?|creator|user|genres?|"
    r"channel|lang|language|country|region|city|brand|status|flag)$|[a-z]Id$",
    re.IGNORECASE,
)
_UNSPACED = r"[\x{0E00}-\x{0EFF}\x{3040}-\x{30FF}\x{3400}-\x{9FFF}\x{AC00}-\x{D7AF}]"


@dataclass(frozen=True)
class Profile:
    """Statistics of the values of a column.

    Attributes:
        name: name of the column.
        rows: number of rows examined.
        filled: share of them with a value.
        distinct: number of distinct values.
        common: share of the filled values that occur more than once.
        numeric: whether nearly all are numbers.
        whole: whether all numbers are whole.
        low, high: smallest and largest number; NaN without numbers.
        truth: whether they are true and false, or 0 and 1.
        words, letters: mean words and characters of a value.
        unspaced: share of the values in a script without spaces between words.
        images: share of the values that end like names of image files.
        separator: separator of lists: `list` for a list type, or the character; empty without
            lists.
        vector: whether a value is a list of floats.
        nested: whether a value is a structure, which no flag reads.
        time: how it is read as a time, if possible.
        example: a value.
    """

    name: str
    rows: int
    filled: float
    distinct: int
    common: float
    numeric: bool = False
    whole: bool = False
    low: float = np.nan
    high: float = np.nan
    truth: bool = False
    words: float = 0.0
    letters: float = 0.0
    unspaced: float = 0.0
    images: float = 0.0
    separator: str = ""
    vector: bool = False
    nested: bool = False
    time: TimeReading | None = None
    example: str = ""

    @property
    def named_as_code(self) -> bool:
        """True if the name is typical of ids, types and other codes."""
        return bool(_CODE.search(self.name))


@dataclass(frozen=True)
class Verdict:
    """The kind of a column, and the reason."""

    kind: Kind
    reason: str


def profiles(table: Table, flags: TableFlags) -> list[Profile]:
    """Describes every column of a table, or of a sample of its rows.

    Args:
        table: table in memory.
        flags: formats of times and lists, if the user set them.
    """
    return [profile(table, name, flags) for name in table.names]


def profile(table: Table, name: str, flags: TableFlags) -> Profile:
    """Describes one column.

    >>> plays = Table(pa.table({"plays": ["3", "12", ""]}), "counts")
    >>> found = profile(plays, "plays", TableFlags())
    >>> found.numeric, found.whole, found.high, round(found.filled, 2)
    (True, True, 12.0, 0.67)
    """
    try:
        data = table.need(name, "items").combine_chunks()
    except InputError:  # text in an unknown encoding
        return Profile(name, len(table), 1.0, 0, 0.0, nested=True)
    if isinstance(data, pa.ChunkedArray):
        data = pa.concat_arrays(data.chunks) if data.num_chunks else pa.array([], data.type)
    if is_list(data.type):
        return _of_lists(name, data)
    if pa.types.is_nested(data.type):
        return Profile(name, len(data), 1.0, 0, 0.0, nested=True)
    text = spelling.texts(pa.chunked_array([data])).to_pandas()
    full = text[text != ""]
    counts = full.value_counts(sort=False)
    about: dict[str, Any] = {
        "name": name,
        "rows": len(text),
        "filled": len(full) / max(len(text), 1),
        "distinct": len(counts),
        "common": float(counts[counts > 1].sum() / max(len(full), 1)),
        "example": str(full.iloc[0]) if len(full) else "",
    }
    time = times.reading_of_column(table, name, flags)
    if pa.types.is_temporal(data.type):
        return Profile(**about, time=time)
    values, marks = _numbers(data)
    of_text: dict[str, Any] = {}
    if spelling.is_text(data.type) and marks != numbers.PLAIN:
        of_text = _of_text(table, name, full, flags)
        if of_text.get("separator"):  # 12,34 are two tags before they are a number
            values = None
    if values is not None:
        finite = values[np.isfinite(values)]
        whole = bool(len(finite)) and bool((finite == np.floor(finite)).all())
        low, high = (finite.min(), finite.max()) if len(finite) else (np.nan, np.nan)
        truth = whole and bool(np.isin(finite, (0, 1)).all())
        about |= {"low": float(low), "high": float(high)}
        return Profile(**about, numeric=True, whole=whole, truth=truth, time=time)
    return Profile(**about, **of_text, time=time)


def _numbers(data: pa.Array) -> tuple[np.ndarray | None, Marks | None]:
    """Returns the numbers of a column as float64, NaN where empty, and their format in text.

    Both are None if the column does not have numbers.
    """
    kind = data.type
    if pa.types.is_boolean(kind):
        data = data.cast(pa.int8())
    if pa.types.is_decimal(kind):
        data = data.cast(pa.float64())
    if not spelling.is_text(kind):
        try:
            found = data.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        except pa.ArrowInvalid:
            return None, None
        return found, numbers.PLAIN
    text = numbers.written(pa.chunked_array([data]))
    filled = len(text) - text.null_count
    for marks in numbers.READINGS:
        found = numbers.parsed(text, marks)
        if filled and len(found) - found.null_count >= PARSE_RATE * filled:
            return found.to_numpy(zero_copy_only=False).astype(float), marks
    return None, None


def _of_text(table: Table, name: str, full: pd.Series, flags: TableFlags) -> dict[str, Any]:
    some = pa.array(full.head(20_000), pa.string())
    if not len(some):
        return {}

    def share(pattern: str) -> float:
        return float(pc.mean(pc.match_substring_regex(some, pattern).cast(pa.float64())).as_py())

    spaces = pc.count_substring_regex(pc.utf8_trim_whitespace(some), r"\s+")
    return {
        "words": 1 + pc.mean(spaces).as_py(),
        "letters": pc.mean(pc.utf8_length(some)).as_py(),
        "unspaced": share(_UNSPACED),
        "images": share(_IMAGE),
        "separator": _separator(table, name, full, flags),
    }


def _separator(table: Table, name: str, full: pd.Series, flags: TableFlags) -> str:
    """Returns the separator of lists in text; empty if values are single."""
    if flags.list_separator:
        return (
            flags.list_separator
            if full.str.contains(flags.list_separator, regex=False).any()
            else ""
        )
    distinct = full.drop_duplicates()
    if full.str.match(r"^\s*\[.*\]\s*$").mean() >= PARSE_RATE:
        return "list"
    joined = distinct[distinct.str.contains(SEPARATOR, regex=False)]
    if len(joined):
        parts = joined.str.split(SEPARATOR).explode().str.strip()
        single = distinct[~distinct.str.contains(SEPARATOR, regex=False)]
        often = parts.value_counts()
        known = parts.isin(single).mean() if len(single) else 0.0
        recurring = float(often[often > 1].sum() / len(parts))
        return SEPARATOR if max(known, recurring) >= 0.8 else ""
    try:
        separators.check(Table(pa.table({name: pa.array(full, pa.string())}), "items"), name, "")
    except InputError as error:
        found = re.search(r"--list_separator='(.+?)' to read", str(error))
        return found[1] if found and found[1] != "space" else ""
    return ""


def _of_lists(name: str, data: pa.Array) -> Profile:
    flat = pc.list_flatten(data)
    length = pc.fill_null(pc.list_value_length(data), 0)
    filled = float(pc.mean(pc.greater(length, 0).cast(pa.float64())).as_py() or 0)
    if pa.types.is_floating(flat.type):
        return Profile(name, len(data), filled, 0, 0.0, vector=True)
    if pa.types.is_nested(flat.type):
        return Profile(name, len(data), filled, 0, 0.0, nested=True)
    counts = spelling.texts(pa.chunked_array([flat])).to_pandas().value_counts(sort=False)
    common = float(counts[counts > 1].sum() / max(counts.sum(), 1))
    return Profile(name, len(data), filled, len(counts), common, separator="list")


def item_kind(one: Profile) -> Verdict:
    """Decides the kind of a column of the items table by the first rule that fits.

    >>> item_kind(Profile("lang", 100, 1.0, distinct=4, common=1.0)).kind
    'category'
    >>> item_kind(Profile("name", 100, 1.0, distinct=98, common=0.04)).reason
    'is almost unique to each item (98 values in 100 items)'
    """
    values = f"{one.distinct:,} values in {round(one.filled * one.rows):,} items"
    if one.nested:
        return Verdict("useless", "has structures or bytes, which no flag reads")
    if one.vector:
        return Verdict(
            "vector", "lists of floats: write ids and this column to a table for --vectors"
        )
    if not one.filled:
        return Verdict("useless", "is empty")
    if one.distinct == 1:
        return Verdict("useless", f"has one value only ({one.example[:40]!r})")
    if one.images >= PARSE_RATE:
        return Verdict("image", "paths of image files")
    if one.time and (not one.numeric or one.time.certain):
        return Verdict("time", f"times, {one.time.reason}")
    if one.separator:
        between = "of a list type" if one.separator == "list" else f"separated by {one.separator!r}"
        if one.common >= RECURS:
            return Verdict("list", f"lists {between} whose values recur")
        return Verdict("useless", f"lists {between} whose values hardly recur")
    if one.truth:
        return Verdict("category", "true or false")
    if one.numeric:
        return _kind_of_numbers(one, values)
    is_long = one.words >= WORDS or (one.unspaced >= 0.5 and one.letters >= LETTERS)
    if is_long and (one.distinct >= RECURS * one.filled * one.rows or one.words >= 2 * WORDS):
        return Verdict("text", f"text of {one.words:.0f} words ({one.letters:.0f} letters)")
    if one.common >= RECURS:
        return Verdict("category", f"recurs: {values}")
    return Verdict("useless", f"is almost unique to each item ({values})")


def _kind_of_numbers(one: Profile, values: str) -> Verdict:
    if one.whole and one.named_as_code:
        if one.common >= RECURS:
            return Verdict("category", f"whole numbers named as codes, recurring: {values}")
        return Verdict("useless", f"codes that hardly recur ({values})")
    if one.whole and one.distinct <= FEW_CODES and one.rows >= 10 * one.distinct:
        return Verdict("category", f"whole numbers with few values: {values}")
    if one.whole and one.distinct == round(one.filled * one.rows) > FEW_CODES and _is_row(one):
        return Verdict("useless", "numbers the rows")
    return Verdict("number", f"numbers of {one.low:g} to {one.high:g}")


def _is_row(one: Profile) -> bool:
    """Checks whether whole numbers are consecutive and unique, like row numbers."""
    return one.high - one.low + 1 == one.distinct
