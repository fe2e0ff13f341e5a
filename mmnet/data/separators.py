"""Lists in text whose separator is not the one that is expected."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc

from mmnet.checks import InputError
from mmnet.data import spelling
from mmnet.data.columns import SEPARATOR
from mmnet.data.tables import Table

OTHERS = ("|", ",", "\t", "/", " ")
"""Separators that are noticed."""

AS_FLAG = {"\t": "tab", " ": "space"}
"""How a flag names those that a flagfile would lose."""

MOST_VALUES = 100_000
"""Different values that are looked at."""


def check(items: Table, column: str, flag: str) -> None:
    """Refuses a column whose values are most likely lists with another separator.

    They are where the expected one never occurs, at least half of the values contain the other
    one, and the parts are fewer than half of the different values. Points in a path or words of a
    name have their own places, parts of a list come first and later; so those have to, except
    between bars and tabs, which nobody puts into a name.

    Raises:
        InputError: the sentence has an example and both ways out.

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
        if joined and 2 * sum(joined.values()) >= number and _are_lists(counts, separator):
            row = pc.index(pc.is_in(text, pa.array(list(joined), text.type)), True).as_py()
            example = text[row].as_py()
            name = AS_FLAG.get(separator, separator)
            raise InputError(
                f"{items.where(row, column)}: {example[:200]!r} looks like a list, as most values "
                f"of the column do; set --list_separator='{name}' to read lists, or "
                f"--list_separator='{SEPARATOR}' to keep such values whole"
            )


def _are_lists(texts: dict[str, int], separator: str) -> bool:
    """Whether texts are few parts, joined in many ways."""
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
