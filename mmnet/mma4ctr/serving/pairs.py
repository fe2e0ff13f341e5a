"""The pairs to score and the SavedModel for them, found and checked before TensorFlow is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from mmnet.checks import InputError
from mmnet.data import table_files, table_reading, tables
from mmnet.data.columns import whole_ids
from mmnet.data.dialects import text_options
from mmnet.data.ledger import Rule
from mmnet.data.table_files import TableFile
from mmnet.data.tables import Table
from mmnet.serving import exported

COLUMNS = ("user_id", "item_id")
NAME = "pairs"
PIECE_ROWS = 1 << 20
"""Maximum number of pairs of a Parquet file to read at a time; text comes in blocks of 16 MiB."""


class Pairs(NamedTuple):
    """Some pairs: user and item ids, int64 [pairs] both."""

    user_id: np.ndarray
    item_id: np.ndarray


def saved_model(path: str) -> Path:
    """The version's directory of a SavedModel: the path itself, or the newest one below.

    Raises:
        InputError: no SavedModel, or not one of the second system.
    """
    if not path:
        raise InputError("--saved_model not given; name a run's export directory")
    place = exported.version_directory(path)
    exported.about(place, exported.AboutPairs)
    return place


def opened(pattern: str, text_set: Sequence[str] = ()) -> list[TableFile]:
    """Opens a table of pairs and checks its columns, before any row is read.

    Args:
        pattern: the file, directory or glob.
        text_set: the user's settings of text files.

    Raises:
        InputError: no such table, or a column is missing.
    """
    if not pattern:
        raise InputError("--pairs not given; name a table of user_id and item_id")
    said = text_options(text_set, NAME)
    files = [file.complete() for file in table_files.opened(pattern, NAME, said, COLUMNS)]
    names, lacking = table_files.common(files)
    header = pa.table({name: () for name in names})
    tables.need_columns(
        Table(header, NAME, tuple(files), lacking=lacking), dict.fromkeys(COLUMNS, NAME)
    )
    return files


def rules(pattern: str, files: Sequence[TableFile]) -> list[Rule]:
    """Detected format of the files; see `table_files.rules`."""
    return table_files.rules(pattern, files)


def number(files: Sequence[TableFile]) -> int | None:
    """Number of pairs, if the files say it without being read."""
    if not all(file.is_parquet for file in files):
        return None
    return sum(sum(table_reading.parquet_groups(file)[1]) for file in files)


def pieces(files: Sequence[TableFile], rows: int = PIECE_ROWS) -> Iterator[Pairs]:
    """Reads pairs piece by piece, so that memory does not grow with their number.

    Args:
        files: of `opened`.
        rows: maximum number of rows at a time, for Parquet.

    Raises:
        InputError: an id is not a whole number, a file is damaged, or there are no rows.
    """
    start = 0
    starts: list[int] = []
    for file in files:
        starts.append(start)
        for batch in table_reading.batches(file, COLUMNS, rows=rows):
            if not batch.num_rows:
                continue
            piece = Table(
                pa.Table.from_batches([batch]),
                NAME,
                tuple(files[: len(starts)]),
                tuple(starts),
                row_numbers=np.arange(start, start + batch.num_rows),
            )
            start += batch.num_rows
            yield Pairs(*(whole_ids(piece, column, NAME) for column in COLUMNS))
    if not start:
        raise table_files.no_rows(files[0].path, NAME)
