"""Detection of lists in text that use another separator than the expected one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from mmnet.checks import InputError
from mmnet.data import spelling
from mmnet.data.columns import SEPARATOR
from mmnet.data.tables import Table

OTHERS = ("|", ",", "\t", "/", " ")
"""Separators to look for."""

AS_FLAG = {"\t": "tab", " ": "space"}
"""Names of separators that a flagfile cannot contain."""

MOST_VALUES = 100_000
"""Maximum number of distinct values to look at."""

FEW, JOINED, ALONE, ALONE_NUMBERS = 0.01, 5, 0.9, 0.5
"""Thresholds if less than half of the rows are lists: minimum share of the rows, minimum number of
distinct lists, and minimum share of their parts that also occur alone (or if all are whole
numbers)."""


def check(items: Table, column: str, flag: str) -> None:
    """Raises an error if the values of a column are most likely lists with another separator.

    They are if the expected separator never occurs, at least half of the values contain the other
    one, and there are fewer than half as many distinct parts as distinct values. Parts of a path or
    words of a name have fixed positions, whereas parts of a list occur first and later; this is
    required too, except for bars and tabs, which names do not contain. If fewer values contain the
    separator, nearly all of their parts must be values of their own: `a,b` if other values are `a`
    and `b`; for whole numbers at least half of them.

    Raises:
        InputError: the sentence has an example and both remedies.

    >>> tags = ["a|b", "b|a", "a|b|c", "c|b", "c|a", "b|c", "a|c"]
    >>> check(Table(pa.table({"tags": tags}), "items"), "tags", "taxonomies")
    Traceback (most recent call last):
    mmnet.checks.InputError: items table row 1, column tags: 'a|b' looks like a list, as most \
values of the column do; set --list_separator='|' to read lists, or --list_separator=';' to keep \
such values whole
    """
    data = items.need(column, flag)
    if not spelling.is_text(data.type):
        return
    text = pc.utf8_trim_whitespace(pc.fill_null(spelling.plain(data), ""))
    counted = pc.value_counts(text)
    counts = {one["values"].as_py(): one["counts"].as_py() for one in counted[:MOST_VALUES]}
    counts.pop("", None)
    if any(SEPARATOR in one or one.startswith("[") for one in counts):
        return
    number = sum(counts.values())
    for separator in OTHERS:
        joined = {one: times for one, times in counts.items() if separator in one}
        rows = sum(joined.values())
        why = ""
        if joined and 2 * rows >= number and _are_lists(counts, separator):
            why = "as most values of the column do"
        elif (
            separator != " "
            and rows >= FEW * number
            and _of_single_values(counts, joined, separator)
        ):
            why = "of values that also occur alone in the column"
        if why:
            row = pc.index(pc.is_in(text, pa.array(list(joined), text.type)), True).as_py()
            example = text[row].as_py()
            name = AS_FLAG.get(separator, separator)
            raise InputError(
                f"{items.where(row, column)}: {example[:200]!r} looks like a list, {why}; set "
                f"--list_separator='{name}' to read lists, or --list_separator='{SEPARATOR}' to "
                "keep such values whole"
            )


def _of_single_values(texts: Mapping[str, int], joined: Collection[str], separator: str) -> bool:
    """Checks whether nearly all parts of the joined texts occur alone elsewhere."""
    parts = {part.strip() for one in joined for part in one.split(separator)} - {""}
    alone = sum(part in texts for part in parts)
    of_numbers = all(part.isdecimal() for part in parts)
    least = (ALONE_NUMBERS if of_numbers else ALONE) * max(len(parts), 2)
    return len(joined) >= JOINED and alone >= least


def _are_lists(texts: dict[str, int], separator: str) -> bool:
    """Checks whether texts consist of few parts, joined in many ways."""
    first: Counter[str] = Counter()
    later: Counter[str] = Counter()
    for text in texts:
        one, *others = (part.strip() for part in text.split(separator))
        first[one] += 1
        later.update(others)
    parts = first.keys() | later.keys()
    if 2 * len(parts) >= len(texts):
        return False
    often = [part for part in parts if first[part] + later[part] > 1]
    twice = [part for part in often if first[part] and later[part]]
    return separator in "|\t" or 2 * len(twice) >= len(often)
