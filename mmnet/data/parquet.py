"""Parquet tables that are read in pieces, since they may be larger than memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from mmnet.data import table_files, tables
from mmnet.data.tables import Block, Placed, Rows, Table

PIECE_ROWS = 1 << 21
"""Rows of a table that are read at a time, where nothing else decides."""


@dataclass(frozen=True)
class ParquetTable(Placed):
    """The rows of Parquet files, in the order of the files; `Table` is its twin in memory.

    Attributes:
        name: counts, items or vectors, for messages.
        files: in order.
        starts: first row of each file.
        schema: columns, with the one type that fits all files.
        groups: rows of each row group of each file.
    """

    name: str
    files: tuple[Path, ...]
    starts: tuple[int, ...]
    schema: pa.Schema
    groups: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        return sum(map(sum, self.groups))

    @property
    def names(self) -> list[str]:
        """The columns."""
        return self.schema.names

    def blocks(self, rows: int) -> list[Block]:
        """Cuts each file between row groups into blocks of at least `rows` rows, where it has them.

        A block is never cut finer than the row groups are, as each is decoded as a whole.
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
        """Reads the table in runs of at most `rows` rows, which never span two blocks.

        Args:
            rows: at most so many at a time.
            columns: those needed -> the flag that names each; none: all of them.
            blocks: those to read; none: the whole table.

        Raises:
            InputError: a column is not there, a file is damaged.
        """
        tables.need_columns(self, columns or {})
        names = list(self.names if columns is None else dict.fromkeys(columns))
        wanted = pa.schema([self.schema.field(name) for name in names])
        for block in self.blocks(rows) if blocks is None else blocks:
            path = self.files[block.file]
            batches = table_files.batches(path, self.name, names, rows=rows, groups=block.groups)
            runs = tables.runs(block.rows, rows)
            for part, data in itertools.zip_longest(runs, _exactly(batches, rows)):
                # The footer of a damaged file may count other rows than its groups hold.
                if part is None or data is None or len(data) != part.stop - part.start:
                    raise table_files.damaged(path, self.name)
                places = np.arange(part.start, part.stop)
                data = data.select(names).cast(wanted)
                yield Table(data, self.name, self.files, self.starts, places)

    def read(self) -> Table:
        """The whole table in memory."""
        data = pa.concat_tables([piece.data for piece in self.pieces(PIECE_ROWS)])
        return Table(data, self.name, self.files, self.starts)


def open_table(pattern: str, name: str, *, text_columns: Sequence[str] = ()) -> Rows:
    """Opens a table: Parquet files are read in pieces later, CSV files are read as a whole now.

    Args:
        pattern: the file, directory or glob.
        name: counts, items or vectors, for messages.
        text_columns: as in `tables.read`.

    Raises:
        InputError: as in `tables.read`.
    """
    paths = table_files.find(pattern, name)
    if not all(map(table_files.is_parquet, paths)):
        return tables.read(pattern, name, text_columns=text_columns)
    schemas, groups = zip(*(table_files.parquet_groups(path, name) for path in paths), strict=True)
    schema = table_files.common_schema(pattern, paths, schemas)
    sizes = list(map(sum, groups))
    if not sum(sizes):
        raise table_files.no_rows(paths[0], name)
    starts = tuple(itertools.accumulate(sizes[:-1], initial=0))
    return ParquetTable(name, tuple(paths), starts, schema, groups)


def _exactly(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    """The same rows, so many at a time; Arrow ends a batch early where a column overflows."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        while (have := sum(part.num_rows for part in held)) >= rows:
            whole = pa.Table.from_batches(held)
            yield whole.slice(0, rows)
            held = whole.slice(rows).to_batches() if have > rows else []
    if held:
        yield pa.Table.from_batches(held)
