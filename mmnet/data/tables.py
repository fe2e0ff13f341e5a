"""Contract tables: rows in memory or in Parquet files, and the place of every mistake in them.

A `Table` remembers which file and row each of its rows came from, so that an error can say so.
"""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from mmnet.checks import InputError
from mmnet.config import TableFlags
from mmnet.data import table_files
from mmnet.data.ledger import Rule


class Block(NamedTuple):
    """A run of rows that is read in one go.

    Attributes:
        file: number of the Parquet file that holds them.
        groups: its row groups.
        rows: which rows of the whole table they are.
    """

    file: int
    groups: range
    rows: slice


class Rows(Protocol):
    """A table that is read in pieces: a `Table` in memory, or a `ParquetTable` in its files."""

    @property
    def name(self) -> str:
        """Counts, items or vectors, for messages."""

    @property
    def files(self) -> tuple[Path, ...]:
        """The files, in order; none for generated tables."""

    @property
    def schema(self) -> pa.Schema:
        """Names and types of the columns."""

    @property
    def names(self) -> list[str]:
        """The columns."""

    def __len__(self) -> int: ...

    def origin(self) -> str:
        """Names the whole table for a message."""

    def where_place(self, place: int, column: str = "") -> str:
        """Names a row of the table for a message."""

    def blocks(self, rows: int) -> list[Block]:
        """Cuts the table into runs of rows that are read in one go."""

    def pieces(
        self,
        rows: int,
        columns: Mapping[str, str] | None = None,
        blocks: Sequence[Block] | None = None,
    ) -> Iterator[Table]:
        """Reads the table in runs of at most `rows` rows.

        Args:
            rows: at most so many at a time.
            columns: those needed -> the flag that names each; none: all of them.
            blocks: those wanted; none: the whole table.

        Raises:
            InputError: a column is not there, or a file is damaged.
        """

    def read(self) -> Table:
        """The whole table in memory."""


class Placed:
    """A table that knows the file of each run of its rows.

    Attributes:
        name: counts, items or vectors, for messages.
        files: in order; none for generated tables.
        starts: first row of each file.
    """

    name: str
    files: tuple[Path, ...]
    starts: tuple[int, ...]

    def origin(self) -> str:
        """Names the whole table for a message."""
        if not self.files:
            return f"{self.name} table"
        return str(self.files[0]) if len(self.files) == 1 else f"{self.files[0].parent}"

    def where_place(self, place: int, column: str = "") -> str:
        """Names a row of the files for a message."""
        at = f", column {column}" if column else ""
        if not self.files:
            return f"{self.name} table row {place + 1}{at}"
        index = bisect.bisect_right(self.starts, place) - 1
        path, inside = self.files[index], place - self.starts[index]
        if table_files.is_parquet(path):
            return f"{path} row {inside + 1}{at}"
        return f"{path} line {table_files.line_of(path, inside)}{at}"


@dataclass
class Table(Placed):
    """An Arrow table and where its rows came from.

    Attributes:
        data: the rows.
        name: counts or items, for messages.
        files: the file of each run of rows, in order; none for generated tables.
        starts: first row of each file.
        row_numbers: place of each row in the files, where some rows were left out.
    """

    data: pa.Table
    name: str
    files: tuple[Path, ...] = ()
    starts: tuple[int, ...] = ()
    row_numbers: np.ndarray | None = None

    def __len__(self) -> int:
        return self.data.num_rows

    def where(self, row: int, column: str = "") -> str:
        """Names a row for a message: `counts.csv line 17, column shares`."""
        return self.where_place(int(self.places[row]), column)

    def need(self, column: str, flag: str) -> pa.ChunkedArray:
        """Returns a column that a flag names.

        Raises:
            InputError: it is not there, or it is text in an unknown encoding.
        """
        table_files.need_column(self.origin(), self.names, column, flag)
        data = self.data[column]
        if pa.types.is_binary(data.type) or pa.types.is_large_binary(data.type):
            try:
                return data.cast(pa.string())
            except pa.ArrowInvalid:
                raise InputError(
                    f"{self.origin()}: column {column!r} is not UTF-8 text; convert the file first"
                ) from None
        return data

    def keep(self, mask: np.ndarray) -> Table:
        """Returns the rows where mask is True; they keep their places for messages."""
        return Table(
            self.data.filter(pa.array(mask)), self.name, self.files, self.starts, self.places[mask]
        )

    def rows(self, part: slice) -> Table:
        """Returns a run of rows; they keep their places for messages."""
        data = self.data.slice(part.start, part.stop - part.start)
        return Table(data, self.name, self.files, self.starts, self.places[part])

    def blocks(self, rows: int) -> list[Block]:
        """Cuts the table into runs of at most `rows` rows."""
        return [Block(0, range(0), part) for part in runs(slice(0, len(self)), rows)]

    def pieces(
        self,
        rows: int,
        columns: Mapping[str, str] | None = None,
        blocks: Sequence[Block] | None = None,
    ) -> Iterator[Table]:
        """Cuts the table into runs of at most `rows` rows; see `Rows.pieces`."""
        for column, flag in (columns or {}).items():
            self.need(column, flag)
        for block in self.blocks(rows) if blocks is None else blocks:
            yield from map(self.rows, runs(block.rows, rows))

    def read(self) -> Table:
        """The table itself, which is in memory already."""
        return self

    @property
    def schema(self) -> pa.Schema:
        """Names and types of the columns."""
        return self.data.schema

    @property
    def names(self) -> list[str]:
        """The columns."""
        return self.data.column_names

    @property
    def places(self) -> np.ndarray:
        """Place of each row in the files, int64 [rows]; `where_place` names it."""
        return np.arange(len(self)) if self.row_numbers is None else self.row_numbers


def runs(rows: slice, length: int) -> list[slice]:
    """Cuts a run of rows into runs of at most a length.

    >>> runs(slice(10, 15), 2)
    [slice(10, 12, None), slice(12, 14, None), slice(14, 15, None)]
    """
    starts = range(rows.start, rows.stop, length)
    return [slice(start, min(start + length, rows.stop)) for start in starts]


def need_columns(table: Rows, columns: Mapping[str, str]) -> None:
    """Refuses a table without a column that a flag names.

    Args:
        table: any.
        columns: those needed -> the flag that names each.

    Raises:
        InputError: one is not there.
    """
    for column, flag in columns.items():
        table_files.need_column(table.origin(), table.names, column, flag)


def check_header(pattern: str, name: str, columns: Mapping[str, str]) -> None:
    """Refuses files without a column that a flag names, before any of their rows is read.

    Most of what else may be wrong with them is reported where they are read.

    Args:
        pattern: the file, directory or glob.
        name: counts, items or events, for messages.
        columns: those needed -> the flag that names each.

    Raises:
        InputError: there are no files, one is not Parquet as its name says, or a column is not in
            their header.
    """
    paths = table_files.find(pattern, name)
    own = _names(paths[0], name)
    if columns.keys() <= set(own) or any(_names(path, name) != own for path in paths[1:]):
        return
    if own and len(set(own)) == len(own):
        need_columns(Table(pa.table({column: () for column in own}), name, tuple(paths)), columns)


def _names(path: Path, name: str) -> list[str]:
    """Column names of a file; none where what a CSV file's are shows only as its rows are read.

    Raises:
        InputError: it says that it is Parquet, and is not.
    """
    try:
        found = table_files.column_names(path, name)
    except InputError:
        if table_files.is_parquet(path):
            raise
        return []
    # Not UTF-8, or an unclosed quote: what is wrong is reported where the rows are read.
    return [] if any("\ufffd" in one or not one.isprintable() for one in found) else found


@dataclass
class Tables:
    """What a source yields: the contract tables, and what else it knows.

    Attributes:
        counts: one row per (item, period).
        items: one row per item.
        vectors: name -> table of item id and one list-of-floats column.
        inputs: files read, for the record.
        ledger: what the source's own rules did.
        truth: planted true share rates (item_id, period, true_share_rate), if simulated.
        digests: what was read besides `inputs`, and its SHA-256.
        kept: files that belong into the dataset directory.
        scratch: holds the directory of those files as long as this object lives.
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
        """The same tables with all items in memory."""
        given = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        return InMemory(**given | {"items": self.items.read()})


@dataclass
class InMemory(Tables):
    """Tables whose items are in memory, as preparing a dataset needs them.

    Counts and vectors are read in pieces wherever they are; of the items whole columns are fitted.
    """

    items: Table


def read(pattern: str, name: str, *, text_columns: Sequence[str] = ()) -> Table:
    """Reads one table from a CSV or Parquet file, a directory of them, or a glob.

    Args:
        pattern: the file, directory or glob; CSV may be compressed (.gz, .bz2, .zst).
        name: counts or items, for messages.
        text_columns: CSV columns to read as strings whatever they look like, so that 007 keeps
            its zeros.

    Raises:
        InputError: nothing there, an unreadable file, two columns of one name, files whose
            columns differ.
    """
    paths = table_files.find(pattern, name)
    parts = [table_files.whole(path, name, text_columns) for path in paths]
    schemas = [part.schema.remove_metadata() for part in parts]
    schema = table_files.common_schema(pattern, paths, schemas)
    with table_files.fit_together(pattern):
        data = pa.concat_tables([part.cast(schema) for part in parts])
    if not data.num_rows:
        raise table_files.no_rows(paths[0], name)
    starts = np.cumsum([0, *(part.num_rows for part in parts[:-1])])
    return Table(data, name, tuple(paths), tuple(int(start) for start in starts))


def text_columns(flags: TableFlags) -> list[str]:
    """Items columns that are text, even where a CSV file's values look like numbers."""
    columns = (*flags.taxonomies, *flags.categoricals, *flags.texts, *flags.images)
    return [flags.item_column, *columns]
