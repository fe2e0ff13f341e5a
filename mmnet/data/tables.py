"""Input tables: rows in memory or in Parquet files, and the place of every mistake in them.

A `Table` remembers the file and row that each of its rows came from, for error messages.
"""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from mmnet.checks import InputError, shown
from mmnet.data import table_files, table_reading
from mmnet.data.dialects import NOTHING_SAID, TextOptions
from mmnet.data.ledger import Rule
from mmnet.data.table_files import TableFile


class Block(NamedTuple):
    """A range of rows that is read at once.

    Attributes:
        file: number of the Parquet file that contains them.
        groups: its row groups.
        rows: their range in the whole table.
    """

    file: int
    groups: range
    rows: slice


class Rows(Protocol):
    """A table that is read in chunks: a `Table` in memory, or a `ParquetTable` in its files."""

    @property
    def name(self) -> str:
        """Counts, items or vectors, for messages."""

    @property
    def files(self) -> tuple[TableFile, ...]:
        """The files, in order; none for generated tables."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """Paths of the files."""

    @property
    def lacking(self) -> Mapping[str, str]:
        """Columns that not all files have, and a sentence about each."""

    @property
    def schema(self) -> pa.Schema:
        """Names and types of the columns."""

    @property
    def names(self) -> list[str]:
        """Names of the columns."""

    def __len__(self) -> int: ...

    def origin(self) -> str:
        """Name of the whole table in messages."""

    def where_place(self, place: int, column: str = "") -> str:
        """Returns the place of a row in the files for a message."""

    def blocks(self, rows: int) -> list[Block]:
        """Divides the table into ranges of rows that are read at once."""

    def pieces(
        self,
        rows: int,
        columns: Mapping[str, str] | None = None,
        blocks: Sequence[Block] | None = None,
    ) -> Iterator[Table]:
        """Reads the table in chunks of at most `rows` rows.

        Args:
            rows: maximum number of rows at a time.
            columns: columns to read -> the flag that names each; default: all.
            blocks: blocks to read; default: the whole table.

        Raises:
            InputError: a column does not exist, or a file is damaged.
        """

    def read(self) -> Table:
        """Reads the whole table into memory."""


class Placed:
    """A table that knows the file of each range of its rows.

    Attributes:
        name: counts, items or vectors, for messages.
        files: in order; none for generated tables.
        starts: first row of each file.
    """

    name: str
    files: tuple[TableFile, ...]
    starts: tuple[int, ...]

    @property
    def paths(self) -> tuple[Path, ...]:
        """Paths of the files."""
        return tuple(file.path for file in self.files)

    def origin(self) -> str:
        """Name of the whole table in messages."""
        if not self.files:
            return f"{self.name} table"
        return str(self.paths[0]) if len(self.files) == 1 else f"{self.paths[0].parent}"

    def where_place(self, place: int, column: str = "") -> str:
        """Returns the place of a row in the files for a message."""
        at = f", column {shown(column)}" if column else ""
        if not self.files:
            return f"{self.name} table row {place + 1}{at}"
        index = bisect.bisect_right(self.starts, place) - 1
        return f"{self.files[index].where(place - self.starts[index])}{at}"


@dataclass
class Table(Placed):
    """An Arrow table that knows where its rows came from.

    Attributes:
        data: the rows.
        name: counts or items, for messages.
        files: the file of each range of rows, in order; none for generated tables.
        starts: first row of each file.
        row_numbers: position of each row in the files, if some rows were left out.
        lacking: columns that not all files have, and a sentence about each.
    """

    data: pa.Table
    name: str
    files: tuple[TableFile, ...] = ()
    starts: tuple[int, ...] = ()
    row_numbers: np.ndarray | None = None
    lacking: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.data.num_rows

    def where(self, row: int, column: str = "") -> str:
        """Returns the place of a row for a message: `counts.csv line 17, column shares`."""
        return self.where_place(int(self.places[row]), column)

    def need(self, column: str, flag: str) -> pa.ChunkedArray:
        """Returns a column that a flag names.

        Raises:
            InputError: the column does not exist, or it is text in an unknown encoding.
        """
        need_columns(self, {column: flag})
        data = self.data[column]
        if not table_reading.is_bytes(data.type):
            return data
        try:
            return table_reading.decoded(data)
        except table_reading.NotText as error:
            raise table_reading.not_utf8(
                self.where(error.row, column), bool(self.files) and not self.files[0].is_parquet
            ) from None

    def keep(self, mask: np.ndarray) -> Table:
        """Returns the rows where mask is True, with their original places."""
        return dataclasses.replace(
            self, data=self.data.filter(pa.array(mask)), row_numbers=self.places[mask]
        )

    def rows(self, part: slice) -> Table:
        """Returns a range of rows, with their original places."""
        data = self.data.slice(part.start, part.stop - part.start)
        return dataclasses.replace(self, data=data, row_numbers=self.places[part])

    def blocks(self, rows: int) -> list[Block]:
        """Divides the table into ranges of at most `rows` rows."""
        return [Block(0, range(0), part) for part in runs(slice(0, len(self)), rows)]

    def pieces(
        self,
        rows: int,
        columns: Mapping[str, str] | None = None,
        blocks: Sequence[Block] | None = None,
    ) -> Iterator[Table]:
        """Divides the table into chunks of at most `rows` rows; see `Rows.pieces`."""
        for column, flag in (columns or {}).items():
            self.need(column, flag)
        for block in self.blocks(rows) if blocks is None else blocks:
            yield from map(self.rows, runs(block.rows, rows))

    def read(self) -> Table:
        """Returns the table itself, which is already in memory."""
        return self

    @property
    def schema(self) -> pa.Schema:
        """Names and types of the columns."""
        return self.data.schema

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        return self.data.column_names

    @property
    def places(self) -> np.ndarray:
        """Position of each row in the files, int64 [rows]; `where_place` formats it."""
        return np.arange(len(self)) if self.row_numbers is None else self.row_numbers


def runs(rows: slice, length: int) -> Iterator[slice]:
    """Divides a range of rows into ranges of at most a length.

    >>> list(runs(slice(10, 15), 2))
    [slice(10, 12, None), slice(12, 14, None), slice(14, 15, None)]
    """
    starts = range(rows.start, rows.stop, length)
    return (slice(start, min(start + length, rows.stop)) for start in starts)


def need_columns(table: Rows, columns: Mapping[str, str]) -> None:
    """Raises an error if a table lacks a column that a flag names.

    Args:
        table: any table.
        columns: columns that are needed -> the flag that names each.

    Raises:
        InputError: a column does not exist.
    """
    for column, flag in columns.items():
        if column in table.lacking:
            raise InputError(f"{table.lacking[column]} (named by --{flag})")
        table_files.need_column(table.origin(), table.names, column, flag)


def check_header(
    pattern: str, name: str, columns: Mapping[str, str], said: TextOptions = NOTHING_SAID
) -> None:
    """Raises an error if files lack a column that a flag names, before any row is read.

    Args:
        pattern: the file, directory or glob pattern.
        name: counts, items or events, for messages.
        columns: columns that are needed -> the flag that names each.
        said: settings of the user for text files.

    Raises:
        InputError: there are no files, one cannot be read, or a column is not in their header.
    """
    files = tuple(table_files.opened(pattern, name, said, columns))
    names, lacking = table_files.common(files)
    if any(file.kind.format == "json" for file in files):
        return  # its columns are known only after all rows are read
    need_columns(
        Table(pa.table({column: () for column in names}), name, files, lacking=lacking), columns
    )


@dataclass
class Tables:
    """The tables of a source, and everything else that it provides.

    Attributes:
        counts: one row per (item, period).
        items: one row per item.
        vectors: name -> table of item id and one list-of-floats column.
        inputs: files read, for the record.
        ledger: what the source's own rules dropped.
        truth: true share rates of simulated data (item_id, period, true_share_rate), if any.
        digests: other inputs than `inputs`, and their SHA-256.
        kept: files to move into the dataset directory.
        scratch: keeps the temporary directory of those files until this object is deleted.
    """

    counts: Rows
    items: Rows
    vectors: dict[str, Rows] = field(default_factory=dict)
    inputs: tuple[Path, ...] = ()
    ledger: tuple[Rule, ...] = ()
    truth: pa.Table | None = None
    digests: dict[str, str] = field(default_factory=dict)
    kept: tuple[Path, ...] = ()
    scratch: object = None

    def in_memory(self) -> InMemory:
        """Returns the same tables with all items in memory."""
        given = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        return InMemory(**given | {"items": self.items.read()})


@dataclass
class InMemory(Tables):
    """Tables whose items are in memory, as needed for preparing a dataset.

    Counts and vectors are read in chunks; vocabularies and scales need whole columns of the items.
    """

    items: Table


def read(
    pattern: str,
    name: str,
    *,
    columns: Iterable[str] = (),
    said: TextOptions = NOTHING_SAID,
) -> Table:
    """Reads one table from a file of any format, a directory of files, or a glob pattern.

    Args:
        pattern: the file, directory or glob pattern.
        name: counts or items, for messages.
        columns: columns that are needed; others are read if all files have them with one type.
        said: settings of the user for text files.

    Raises:
        InputError: there is no such file, a file cannot be read, or there are no rows.
    """
    return whole(table_files.opened(pattern, name, said, columns))


def whole(files: Sequence[TableFile]) -> Table:
    """Reads the files of a table; see `read`."""
    files = [file.settled().complete() for file in files]
    parts = [table_reading.whole(file) for file in files]
    schemas = [part.schema.remove_metadata() for part in parts]
    schema, lacking = table_reading.common_schema(files, schemas)
    data = pa.concat_tables(
        table_reading.in_schema(part, schema, file) for part, file in zip(parts, files, strict=True)
    )
    if not data.num_rows:
        raise table_files.no_rows(files[0].path, files[0].name)
    starts = np.cumsum([0, *(part.num_rows for part in parts[:-1])])
    return Table(
        data,
        files[0].name,
        tuple(files),
        tuple(int(start) for start in starts),
        lacking=lacking,
    )
