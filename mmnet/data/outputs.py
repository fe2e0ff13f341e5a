"""Output files named by flags, with errors that name the flag."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from mmnet.checks import InputError
from mmnet.files import reason, write_atomic


def write_tables(tables: Iterable[pa.Table], path: str | os.PathLike[str], flag: str) -> Path:
    """Writes tables one after another to one Parquet file, atomically.

    Args:
        tables: at least one, all with the same columns; each is requested after the one before is
            written, and the first one after a check that the file can be written.
        path: the file.
        flag: flag that named it, for messages.

    Returns:
        The path.

    Raises:
        InputError: the file cannot be written.
    """

    def write(beside: Path) -> None:
        beside.touch()  # fail before any table is computed if the place cannot be written
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
    """Writes a file at or below the path of a flag; see `files.write_atomic`.

    Raises:
        InputError: the file cannot be written.
    """
    try:
        return write_atomic(path, content)
    except OSError as error:
        raise InputError(f"--{flag}={path}: {reason(error)}") from None
