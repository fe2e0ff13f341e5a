"""Files that are written where a flag says, with errors that name it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from mmnet.checks import InputError
from mmnet.files import write_atomic


def write_tables(tables: Iterable[pa.Table], path: str | os.PathLike[str], flag: str) -> Path:
    """Writes tables into one Parquet file, one after another, whole or not at all.

    Args:
        tables: one at least, all with the same columns; each is asked for once the one before is
            written, and the first once the file can be.
        path: the file.
        flag: that named it, for messages.

    Returns:
        The path.

    Raises:
        InputError: the file cannot be written.
    """

    def write(beside: Path) -> None:
        beside.touch()  # a place that cannot be written is refused before any table is made
        parts = iter(tables)
        first = next(parts)
        with pa.parquet.ParquetWriter(beside, first.schema) as writer:
            writer.write_table(first)
            for part in parts:
                writer.write_table(part)

    return write_named(path, write, flag)


def write_named(
    path: str | os.PathLike[str], content: bytes | str | Callable[[Path], object], flag: str
) -> Path:
    """Writes a file that a flag names, or that lies where it names; see `files.write_atomic`.

    Raises:
        InputError: the file cannot be written.
    """
    try:
        return write_atomic(path, content)
    except OSError as error:
        raise InputError(f"--{flag}={path}: {error.strerror or error}") from None
