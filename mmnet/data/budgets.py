"""Memory and disk budgets: needs are estimated before allocation, and refused with one sentence.

Estimates only cover arrays that are certain to be allocated, so they are low: what they refuse
would never have fit. Arrays in files count against the free disk space, all others against memory:
that of the machine or the limit of the process or its container, whichever is lower.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from mmnet.checks import InputError
from mmnet.files import UNREADABLE
from mmnet.memory_limit import VARIABLE, size

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def memory() -> int:
    """Returns the memory that this process may use: of the machine, or as `--memory` limits it.

    Raises:
        InputError: `MMNET_MEMORY` is not a size.
    """
    if stated := os.environ.get(VARIABLE, ""):
        return size(stated, VARIABLE)
    found = [*_control_groups(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))]
    if hasattr(os, "sysconf"):
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    try:
        import resource
    except ImportError:  # Windows
        return min(found, default=1 << 62)
    address_space, _ = resource.getrlimit(resource.RLIMIT_AS)
    if address_space != resource.RLIM_INFINITY:
        found.append(address_space)
    return min(found, default=1 << 62)


def _control_groups(own: Path, root: Path) -> Iterator[int]:
    """Yields the memory limits of the control groups of a process (Linux, cgroup v1 and v2).

    Args:
        own: the file that lists the groups of the process.
        root: the directory of all groups.
    """
    lines = own.read_text(encoding="utf-8").splitlines() if own.is_file() else []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        base = root / "memory" if controllers else root
        name = "memory.limit_in_bytes" if controllers else "memory.max"
        group = base / path.lstrip("/")
        for directory in (group, *group.parents):
            file = directory / name
            text = file.read_text(encoding="utf-8").strip() if file.is_file() else ""
            if text.isdecimal():  # else "max"
                yield int(text)
            if directory == base:
                break


def shown(number: int) -> str:
    """Formats a number of bytes for a message.

    >>> shown(61 << 30), shown(700), shown(1536 << 20)
    ('61 GB', '700 bytes', '1.5 GB')
    """
    for unit in ("t", "g", "m", "k"):
        if number >= _UNITS[unit]:
            many = number / _UNITS[unit]
            return f"{many:.3g} {unit.upper()}B" if many < 999 else f"{many:.0f} {unit.upper()}B"
    return f"{number} bytes"


def check_memory(needed: int, what: str, fix: str) -> None:
    """Raises an error if something does not fit in memory.

    Args:
        needed: estimated bytes.
        what: what needs them, in the plural.
        fix: what the user can do about it.

    Raises:
        InputError: the sentence names the estimate, the limit and the remedy.
    """
    there = memory()
    if needed > there:
        raise InputError(
            f"{what} need about {shown(needed)} of memory, but only {shown(there)} are available; "
            f"{fix}, or use a machine with more memory (if this limit is wrong, set "
            f"{VARIABLE}=64GB)"
        )


def check_disk(directory: Path, needed: int, what: str, fix: str) -> None:
    """Raises an error if something does not fit on the disk.

    Args:
        directory: directory to write to.
        needed: bytes.
        what: what needs them, in the plural.
        fix: what the user can do about it.

    Raises:
        InputError: the sentence names what is needed, what is free and the remedy.
    """
    free = shutil.disk_usage(directory).free
    if needed > free:
        raise InputError(
            f"{what} need {shown(needed)} on the disk of {directory.parent}, but only "
            f"{shown(free)} are free; free some space, {fix}, or choose another directory"
        )


# ------------------------------------------------------------------------- files read as a whole

_IN_PIECES = "convert the table to Parquet, which is read in chunks for counts, items and vectors"


def check_growth(path: Path, grown: int) -> None:
    """Raises an error once the rows read from a text file exceed the memory.

    Args:
        path: path of the file.
        grown: decompressed bytes so far.

    Raises:
        InputError: the sentence names the file and the limit.
    """
    if grown > memory():
        check_memory(
            grown, f"{path}: its rows, {shown(path.stat().st_size)} in the file,", _IN_PIECES
        )


def check_parquet(path: Path, footer: pa.parquet.FileMetaData) -> None:
    """Raises an error if a Parquet file does not fit in memory, by its footer and dictionaries.

    A column that repeats one value is tiny in the file but as large as any other in memory, so the
    estimate counts rows and not only bytes.

    Args:
        path: path of the file.
        footer: footer of the file.

    Raises:
        InputError: the sentence names the file, the estimate and the limit.
    """
    columns = footer.schema.to_arrow_schema()
    needed = sum(_width(field.type) for field in columns) * footer.num_rows
    groups = range(footer.num_row_groups)
    stored = sum(footer.row_group(group).total_byte_size for group in groups)
    parts = [(group, 1.0) for group in groups]
    needed += _text_bytes(path, footer, parts, columns.names, memory() - needed)
    rows = f"{path}: its {footer.num_rows:,} rows, {shown(path.stat().st_size)} in the file,"
    check_memory(max(needed, stored), rows, "read fewer rows or columns at a time")


def check_batches(
    path: Path,
    footer: pa.parquet.FileMetaData,
    columns: Sequence[str],
    rows: int,
    groups: Sequence[int] | None = None,
) -> None:
    """Raises an error if the texts of Parquet columns do not fit in memory batch by batch.

    Args:
        path: path of the file.
        footer: footer of the file.
        columns: names of the columns to read.
        rows: number of rows of a batch.
        groups: row groups to read; default: all.

    Raises:
        InputError: the sentence names the file, the estimate and the limit.
    """
    for group in range(footer.num_row_groups) if groups is None else groups:
        size = footer.row_group(group).num_rows
        part = min(1.0, rows / max(size, 1))
        needed = _text_bytes(path, footer, [(group, part)], columns, memory())
        what = f"{path}: {min(rows, size):,} rows of {', '.join(columns)}"
        check_memory(needed, what, "shorten texts that are repeated, or leave the column out")


def _text_bytes(
    path: Path,
    footer: pa.parquet.FileMetaData,
    parts: Sequence[tuple[int, float]],
    columns: Sequence[str],
    spare: int,
) -> int:
    """Returns the bytes of dictionary texts once expanded; 0 if they certainly fit.

    Args:
        path: path of the file.
        footer: footer of the file.
        parts: row groups, and the fraction of their rows that are in memory at a time.
        columns: names of the columns to read.
        spare: bytes of memory that are left for them.
    """
    # From the cheapest estimate to the most precise one: footer, longest text, all lengths.
    texts = _texts(footer, columns)
    if not any(nested for *_, nested in texts):
        # A value cannot be longer than its whole row group.
        sizes = ((footer.row_group(group), part) for group, part in parts)
        most = sum(one.num_rows * part * one.total_byte_size for one, part in sizes)
        if len(texts) * most <= spare:
            return 0
    found = []
    for group, part in parts:
        if not _opens(path, group, [name for _, name, _ in texts]):
            continue  # reading the file reports what is wrong
        for number, name, _ in texts:
            chunk = footer.row_group(group).column(number)
            if chunk.has_dictionary_page:
                found.append((group, part, name, chunk.num_values * part, chunk))
    # A value cannot be longer than its whole column in the file.
    if sum(values * chunk.total_uncompressed_size for *_, values, chunk in found) <= spare:
        return 0
    most = sum(
        values * _longest(path, group, name) + chunk.total_uncompressed_size
        for group, _, name, values, chunk in found
    )
    if most <= spare:
        return 0
    return int(sum(part * _expanded(path, group, name) for group, part, name, *_ in found))


def _texts(footer: pa.parquet.FileMetaData, columns: Sequence[str]) -> list[tuple[int, str, bool]]:
    """Returns number and path of each text column, and whether it is in lists."""
    leaves = ((number, footer.schema.column(number)) for number in range(footer.num_columns))
    return [
        (number, leaf.path, leaf.max_repetition_level > 0)
        for number, leaf in leaves
        if leaf.physical_type == "BYTE_ARRAY"
        and any(leaf.path == one or leaf.path.startswith(f"{one}.") for one in columns)
    ]


def _opens(path: Path, group: int, names: Sequence[str]) -> bool:
    """Checks whether columns of a row group can be read.

    For a damaged one Arrow's reader raises an exception; the footer's `column` kills the process.
    """
    try:
        with pa.parquet.ParquetFile(path) as opened:
            next(opened.iter_batches(1, row_groups=[group], columns=list(names)), None)
    except (pa.ArrowException, *UNREADABLE):
        return False
    return True


def _longest(path: Path, group: int, name: str) -> int:
    """Returns the bytes of the longest text in the dictionary of a column chunk."""
    with pa.parquet.ParquetFile(path, read_dictionary=[name]) as opened:
        first = next(opened.iter_batches(1, row_groups=[group], columns=[name]), None)
    chunks = [] if first is None else _leaves(first.column(0))
    return max((int(_lengths(one).max(initial=0)) for one in chunks), default=0)


def _expanded(path: Path, group: int, name: str) -> int:
    """Returns the bytes of all texts of a column chunk after expanding its dictionary."""
    with pa.parquet.ParquetFile(path, read_dictionary=[name]) as opened:
        data = opened.read_row_group(group, columns=[name]).column(0)
    leaves = [leaf for chunk in data.chunks for leaf in _leaves(chunk)]
    return sum(
        int(_lengths(leaf)[leaf.indices.drop_null().to_numpy()].sum(dtype=np.int64))
        for leaf in leaves
    )


def _leaves(data: pa.Array) -> list[pa.DictionaryArray]:
    """Yields the dictionaries of a column that may be nested; it has one field of any struct."""
    while pa.types.is_nested(data.type) and not pa.types.is_dictionary(data.type):
        inner = data.flatten()
        data = inner[0] if isinstance(inner, list) else inner
    return [data] if pa.types.is_dictionary(data.type) else []


def _lengths(data: pa.DictionaryArray) -> np.ndarray:
    """Returns the bytes of each text of a dictionary."""
    return pc.fill_null(pc.binary_length(data.dictionary), 0).to_numpy(zero_copy_only=False)


def _width(kind: pa.DataType) -> int:
    """Returns the minimum bytes per value in memory."""
    try:
        return max(1, kind.bit_width // 8)
    except ValueError:  # no fixed width: 4 bytes are the offset of each value
        return 4
