"""Memory and disk: what is needed is estimated before it is taken, and refused with a sentence.

Estimates are of the arrays that are there for certain, so they are low: what they refuse would
never have fit. Arrays in files count against the free disk, all others against memory, which is
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
    """Bytes of memory that this process may use: of the machine, or as `--memory` limits it.

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
    """Limits of the control groups that a process is in (Linux), of either version.

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
    """A number of bytes for a message.

    >>> shown(61 << 30), shown(700), shown(1536 << 20)
    ('61 GB', '700 bytes', '1.5 GB')
    """
    for unit in ("t", "g", "m", "k"):
        if number >= _UNITS[unit]:
            many = number / _UNITS[unit]
            return f"{many:.3g} {unit.upper()}B" if many < 999 else f"{many:.0f} {unit.upper()}B"
    return f"{number} bytes"


def check_memory(needed: int, what: str, fix: str) -> None:
    """Refuses what does not fit in memory.

    Args:
        needed: bytes, estimated.
        what: needs them, in the plural.
        fix: what the user can do about it.

    Raises:
        InputError: the sentence names the estimate, the limit and the way out.
    """
    there = memory()
    if needed > there:
        raise InputError(
            f"{what} need about {shown(needed)} of memory, and there are {shown(there)}; {fix}, or "
            f"use a machine with more memory (where this limit is wrong, set {VARIABLE}=64GB)"
        )


def check_disk(directory: Path, needed: int, what: str, fix: str) -> None:
    """Refuses what does not fit on the disk.

    Args:
        directory: where it is to be written.
        needed: bytes.
        what: needs them, in the plural.
        fix: what the user can do about it.

    Raises:
        InputError: the sentence names what is needed, what is free and the way out.
    """
    free = shutil.disk_usage(directory).free
    if needed > free:
        raise InputError(
            f"{what} need {shown(needed)} on the disk of {directory.parent}, where {shown(free)} "
            f"are free; free some, {fix}, or choose another place"
        )


# ------------------------------------------------------------------------- files read as a whole

_IN_PIECES = "write the table as Parquet, of which counts, items and vectors are read in pieces"


def check_growth(path: Path, grown: int) -> None:
    """Refuses a text file that does not fit in memory, once it has grown so far.

    Args:
        path: of the file.
        grown: bytes of it so far, decompressed.

    Raises:
        InputError: the sentence names the file and the limit.
    """
    if grown > memory():
        check_memory(
            grown, f"{path}: its rows, {shown(path.stat().st_size)} in the file,", _IN_PIECES
        )


def check_parquet(path: Path, footer: pa.parquet.FileMetaData) -> None:
    """Refuses a Parquet file that does not fit in memory, by its footer and its dictionaries.

    A column that repeats one value takes next to nothing in the file and as much as any other in
    memory, so rows are counted and not only bytes.

    Args:
        path: of the file.
        footer: of the file.

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
    """Refuses columns of a Parquet file whose texts do not fit in memory in batches.

    Args:
        path: of the file.
        footer: of the file.
        columns: that are read.
        rows: of a batch.
        groups: row groups that are read; all of them by default.

    Raises:
        InputError: the sentence names the file, the estimate and the limit.
    """
    for group in range(footer.num_row_groups) if groups is None else groups:
        size = footer.row_group(group).num_rows
        part = min(1.0, rows / max(size, 1))
        needed = _text_bytes(path, footer, [(group, part)], columns, memory())
        what = f"{path}: {min(rows, size):,} rows of {', '.join(columns)}"
        check_memory(needed, what, "shorten the texts that are repeated, or leave the column out")


def _text_bytes(
    path: Path,
    footer: pa.parquet.FileMetaData,
    parts: Sequence[tuple[int, float]],
    columns: Sequence[str],
    spare: int,
) -> int:
    """Bytes of the texts of dictionaries, each as often as it is there; 0 where they surely fit.

    Args:
        path: of the file.
        footer: of the file.
        parts: row groups, and the share of their rows that are in memory at a time.
        columns: those that are read.
        spare: bytes of memory that are left for them.
    """
    texts = _texts(footer, columns)
    if not any(nested for *_, nested in texts):
        # No value is longer than all that is in its row group.
        sizes = ((footer.row_group(group), part) for group, part in parts)
        most = sum(one.num_rows * part * one.total_byte_size for one, part in sizes)
        if len(texts) * most <= spare:
            return 0
    found = []
    for group, part in parts:
        if not _opens(path, group, [name for _, name, _ in texts]):
            continue  # reading it says what is wrong
        for number, name, _ in texts:
            chunk = footer.row_group(group).column(number)
            if chunk.has_dictionary_page:
                found.append((group, part, name, chunk.num_values * part, chunk))
    # No value is longer than all that is in the file of its column.
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
    """Columns of text: number and path of each, and whether it is in lists."""
    leaves = ((number, footer.schema.column(number)) for number in range(footer.num_columns))
    return [
        (number, leaf.path, leaf.max_repetition_level > 0)
        for number, leaf in leaves
        if leaf.physical_type == "BYTE_ARRAY"
        and any(leaf.path == one or leaf.path.startswith(f"{one}.") for one in columns)
    ]


def _opens(path: Path, group: int, names: Sequence[str]) -> bool:
    """Whether columns of a row group can be read.

    Of a damaged one Arrow's reader raises, and the footer's `column` ends the process.
    """
    try:
        with pa.parquet.ParquetFile(path) as opened:
            next(opened.iter_batches(1, row_groups=[group], columns=list(names)), None)
    except (pa.ArrowException, *UNREADABLE):
        return False
    return True


def _longest(path: Path, group: int, name: str) -> int:
    """Bytes of the longest text in the dictionary of a column chunk."""
    with pa.parquet.ParquetFile(path, read_dictionary=[name]) as opened:
        first = next(opened.iter_batches(1, row_groups=[group], columns=[name]), None)
    chunks = [] if first is None else _leaves(first.column(0))
    return max((int(_lengths(one).max(initial=0)) for one in chunks), default=0)


def _expanded(path: Path, group: int, name: str) -> int:
    """Bytes of all texts of a column chunk, each as often as it is there."""
    with pa.parquet.ParquetFile(path, read_dictionary=[name]) as opened:
        data = opened.read_row_group(group, columns=[name]).column(0)
    leaves = [leaf for chunk in data.chunks for leaf in _leaves(chunk)]
    return sum(
        int(_lengths(leaf)[leaf.indices.drop_null().to_numpy()].sum(dtype=np.int64))
        for leaf in leaves
    )


def _leaves(data: pa.Array) -> list[pa.DictionaryArray]:
    """The dictionaries in a column that may be nested; of a struct or map, one field was read."""
    while pa.types.is_nested(data.type) and not pa.types.is_dictionary(data.type):
        inner = data.flatten()
        data = inner[0] if isinstance(inner, list) else inner
    return [data] if pa.types.is_dictionary(data.type) else []


def _lengths(data: pa.DictionaryArray) -> np.ndarray:
    """Bytes of each text of a dictionary."""
    return pc.fill_null(pc.binary_length(data.dictionary), 0).to_numpy(zero_copy_only=False)


def _width(kind: pa.DataType) -> int:
    """Bytes that a value takes in memory at least."""
    try:
        return max(1, kind.bit_width // 8)
    except ValueError:  # of no fixed width: 4 bytes say where each value begins
        return 4
