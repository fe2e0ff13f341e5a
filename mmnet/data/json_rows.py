"""Rows of JSON: one object on each line, or one array of objects.

Values become text like those of CSV files: numbers as written, true and false, empty for null or
absent ones. Lists stay lists if a whole table is read.
"""

from __future__ import annotations

import io
import itertools
import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from mmnet.checks import InputError, shown
from mmnet.data import file_kinds
from mmnet.data.file_kinds import Watch

BATCH_ROWS = 1 << 16
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")

SAMPLE_ROWS = 1 << 12
"""Number of rows whose keys are the columns of a file, unless all rows are read."""


def objects(
    path: Path, packed: str, encoding: str, watch: Watch | None = None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the place and content of every object; the place is its line or its array index.

    Numbers are kept as the text that was written.

    Args:
        path: path of the file.
        packed: see `file_kinds.Kind`.
        encoding: see `file_kinds.Kind`.
        watch: see `file_kinds.decoded`.

    Raises:
        InputError: a row is not an object; the message has its place.
        OSError, EOFError, UnicodeError: the file is damaged, or has another encoding.
    """
    of_lines = False
    with file_kinds.decoded(path, packed, encoding, watch) as stream:
        text = io.TextIOWrapper(stream, "utf-8", newline="\n")
        for number, line in enumerate(text, 1):
            if line.lstrip().startswith("[") and not of_lines:
                yield from _of_array(path, "\n" * (number - 1) + line + text.read())
                return
            if line.strip():
                of_lines = True
                place = f"line {number}"
                yield place, _object(path, place, _parsed(path, place, line))


def _of_array(path: Path, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    found = _parsed(path, "", text)
    for number, one in enumerate(found, 1):
        yield f"object {number}", _object(path, f"object {number}", one)


def _parsed(path: Path, place: str, text: str) -> Any:
    try:
        found = _DECODER.decode(text)
        if _SURROGATE.search(text):
            json.dumps(found, ensure_ascii=False).encode()
        return found
    except (ValueError, RecursionError) as error:
        if isinstance(error, json.JSONDecodeError):
            place = place or f"line {error.lineno}"
            reason = f"{error.msg} (column {error.colno})"
        elif isinstance(error, UnicodeEncodeError):
            reason = "it has half of a surrogate pair, which is not valid text"
        else:
            reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise InputError(f"{path} {place}: invalid JSON: {reason}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        (again, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"duplicate key {again!r}")
    return found


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique, parse_float=str, parse_int=str, parse_constant=str
)


def _object(path: Path, place: str, found: Any) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise InputError(
            f"{path} {place}: each row must be a JSON object, {{column: value, ...}}. "
            f"Received: {shown(repr(found), 60)}"
        )
    return found


def place(path: Path, packed: str, encoding: str, row: int) -> str:
    """Returns the place of a row for a message: its line, or its index in an array.

    Args:
        path: path of the file.
        packed: see `file_kinds.Kind`.
        encoding: see `file_kinds.Kind`.
        row: number of the row, from 0.
    """
    found = itertools.islice(objects(path, packed, encoding), row, None)
    return next((where for where, _ in found), f"object {row + 1}")


def names(
    path: Path,
    packed: str,
    encoding: str,
    *,
    wanted: Collection[str] = (),
    every: bool = False,
) -> list[str]:
    """Returns the columns of a file in order of appearance.

    Args:
        path: path of the file.
        packed: see `file_kinds.Kind`.
        encoding: see `file_kinds.Kind`.
        wanted: columns to look for in all rows.
        every: whether to scan all rows, rather than the first `SAMPLE_ROWS`.

    Raises:
        InputError, OSError, EOFError, UnicodeError: as `objects`.
    """
    found: dict[str, None] = {}
    for number, (_, one) in enumerate(objects(path, packed, encoding)):
        if number >= SAMPLE_ROWS and not every and all(name in found for name in wanted):
            break
        found.update(dict.fromkeys(one))
    return list(found)


def batches(
    path: Path,
    packed: str,
    encoding: str,
    columns: Sequence[str],
    *,
    lists: bool = False,
    watch: Watch | None = None,
) -> Iterator[pa.RecordBatch]:
    """Reads columns of all rows as text.

    Args:
        path: path of the file.
        packed: see `file_kinds.Kind`.
        encoding: see `file_kinds.Kind`.
        columns: names of the columns to read; absent ones are empty.
        lists: whether columns that contain lists stay lists, in one batch of all rows; otherwise
            lists become JSON text.
        watch: see `file_kinds.decoded`.

    Raises:
        InputError: a column has a list in some rows and a single value in others.
    """
    held: dict[str, list[Any]] = {column: [] for column in columns}
    of_lists: list[str] = []
    count = 0
    for _, one in objects(path, packed, encoding, watch):
        for column, values in held.items():
            values.append(one.get(column))
        count += 1
        if count == BATCH_ROWS and not lists:
            yield _batch(held)
            held, count = {column: [] for column in columns}, 0
    if not count:
        return
    for column, values in held.items() if lists else ():
        if any(isinstance(value, list) for value in values):
            odd = (row for row, value in enumerate(values) if not isinstance(value, list | None))
            if (row := next(odd, None)) is not None:
                where = f"{path} {place(path, packed, encoding, row)}, column {shown(column)}"
                raise InputError(
                    f"{where}: a single value, where other rows have lists. "
                    f"Received: {shown(repr(text_of(values[row])), 60)}"
                )
            of_lists.append(column)
    yield _batch(held, of_lists)


def _batch(held: dict[str, list[Any]], of_lists: Collection[str] = ()) -> pa.RecordBatch:
    arrays = {}
    for column, values in held.items():
        if column in of_lists:
            texts = [None if one is None else [text_of(part) for part in one] for one in values]
            arrays[column] = pa.array(texts, pa.list_(pa.string()))
        else:
            arrays[column] = pa.array(map(text_of, values), pa.string())
    return pa.RecordBatch.from_pydict(arrays)


def text_of(value: Any) -> str:
    """Returns a JSON value as text; numbers must have been parsed as text.

    >>> [text_of(value) for value in ("1.50", True, None, ["a"])]
    ['1.50', 'true', '', '["a"]']
    """
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False)
