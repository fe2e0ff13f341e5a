"""Parquet tables that are read in chunks, since they may be larger than memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from mmnet.data import budgets, table_files, table_reading, tables
from mmnet.data.dialects import NOTHING_SAID, TextOptions
from mmnet.data.table_files import TableFile
from mmnet.data.tables import Block, Placed, Rows, Table

PIECE_ROWS = 1 << 21
"""Default number of rows of a table to read at a time."""


@dataclass(frozen=True)
class ParquetTable(Placed):
    """The rows of Parquet files, in the order of the files; `Table` is its counterpart in memory.

    Attributes:
        name: counts, items or vectors, for messages.
        files: the files in order.
        starts: first row of each file.
        schema: columns, with a type that fits all files.
        groups: number of rows of each row group of each file.
        lacking: columns that not all files have, and a sentence about each.
    """

    name: str
    files: tuple[TableFile, ...]
    starts: tuple[int, ...]
    schema: pa.Schema
    groups: tuple[tuple[int, ...], ...]
    lacking: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(map(sum, self.groups))

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        return self.schema.names

    def blocks(self, rows: int) -> list[Block]:
        """Divides each file between row groups into blocks of at least `rows` rows, if possible.

        A block is at least one row group, since each is decoded as a whole.
        """
        found = []
        for number, sizes in enumerate(self.groups):
            start, first, have = self.starts[number], 0, 0
            for group, size in enumerate(sizes):
                have += size
                if have >= rows or (group == len(sizes) - 1 and have):
                    found.append(Block(number, range(first, group + 1), slice(start, start + have)))
                    start, first, have = start + have, group + 1, 0
        return found

    def pieces(
        self,
        rows: int,
        columns: Mapping[str, str] | None = None,
        blocks: Sequence[Block] | None = None,
    ) -> Iterator[Table]:
        """Reads the table in chunks of at most `rows` rows, which never span two blocks.

        Args:
            rows: maximum number of rows at a time.
            columns: columns to read -> the flag that names each; default: all.
            blocks: blocks to read; default: the whole table.

        Raises:
            InputError: a column does not exist, or a file is damaged.
        """
        tables.need_columns(self, columns or {})
        names = list(self.names if columns is None else dict.fromkeys(columns))
        wanted = pa.schema([self.schema.field(name) for name in names])
        for block in self.blocks(rows) if blocks is None else blocks:
            file = self.files[block.file]
            batches = table_reading.batches(file, names, rows=rows, groups=block.groups)
            runs = tables.runs(block.rows, rows)
            for part, data in itertools.zip_longest(runs, _exactly(batches, rows)):
                # The footer of a damaged file may have another row count than its row groups.
                if part is None or data is None or len(data) != part.stop - part.start:
                    raise table_files.damaged(file.path, self.name)
                places = np.arange(part.start, part.stop)
                data = table_reading.in_schema(data, wanted, file)
                yield Table(data, self.name, self.files, self.starts, places, self.lacking)

    def read(self) -> Table:
        """Reads the whole table into memory.

        Raises:
            InputError: it does not fit, or a file is damaged.
        """
        for file in self.files:
            with table_files.readable(file.path, self.name):
                budgets.check_parquet(file.path, pa.parquet.read_metadata(file.path))
        data = pa.concat_tables([piece.data for piece in self.pieces(PIECE_ROWS)])
        return Table(data, self.name, self.files, self.starts, lacking=self.lacking)


def open_table(
    pattern: str,
    name: str,
    *,
    columns: Iterable[str] = (),
    said: TextOptions = NOTHING_SAID,
) -> Rows:
    """Opens a table: Parquet files are read in chunks later, others are read completely now.

    Args:
        pattern: the file, directory or glob pattern.
        name: counts, items or vectors, for messages.
        columns: as in `tables.read`.
        said: as in `tables.read`.

    Raises:
        InputError: as in `tables.read`.
    """
    files = tuple(table_files.opened(pattern, name, said, columns))
    if not all(file.is_parquet for file in files):
        return tables.whole(files)
    schemas, groups = zip(*map(table_reading.parquet_groups, files), strict=True)
    schema, lacking = table_reading.common_schema(files, schemas)
    sizes = list(map(sum, groups))
    if not sum(sizes):
        raise table_files.no_rows(files[0].path, name)
    starts = tuple(itertools.accumulate(sizes[:-1], initial=0))
    return ParquetTable(name, files, starts, schema, groups, lacking)


def _exactly(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    """Yields the same rows in chunks of exactly this size, which Arrow's own batches may not be."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        while (have := sum(part.num_rows for part in held)) >= rows:
            whole = pa.Table.from_batches(held)
            yield whole.slice(0, rows)
            held = whole.slice(rows).to_batches() if have > rows else []
    if held:
        yield pa.Table.from_batches(held)
