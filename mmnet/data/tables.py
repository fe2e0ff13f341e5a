"""Contract tables: reading CSV and Parquet, and naming the place of every mistake.

A `Table` remembers which file and row each of its rows came from, so that an error can say so.
"""

from __future__ import annotations

import bisect
import csv
import dataclasses
import glob as globbing
import hashlib
import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from mmnet.checks import InputError, did_you_mean
from mmnet.config import TableFlags

if TYPE_CHECKING:
    from mmnet.data.parquet import ParquetTable

SEPARATOR = ";"
"""Separates the values of a multi-valued column that is written as a string."""

NOTES = 5
"""Most notes of one rule that are shown."""

LARGEST = 1 << 53
"""Counts stay below this, so that float64 holds each exactly."""


@dataclass(frozen=True)
class Rule:
    """A line of the ledger: what one rule did to the rows that reached it.

    Raises:
        ValueError: the numbers do not balance.
    """

    table: str
    rule: str
    rows_in: int
    rows_out: int
    note: str = ""

    def __post_init__(self):
        if not 0 <= self.rows_out <= self.rows_in:
            raise ValueError(f"ledger rule {self.rule!r} does not balance: {self}")

    @property
    def dropped(self) -> int:
        """Rows that the rule took out."""
        return self.rows_in - self.rows_out


def joined_rules(rules: Sequence[Rule]) -> Rule:
    """One line of what one rule did to several parts of a table."""
    notes = [rule.note for rule in rules if rule.note]
    return dataclasses.replace(
        rules[0],
        rows_in=sum(rule.rows_in for rule in rules),
        rows_out=sum(rule.rows_out for rule in rules),
        note="; ".join(notes[:NOTES]) + ("; ..." if len(notes) > NOTES else ""),
    )


def check_chain(ledger: Sequence[Rule]) -> None:
    """Checks that what leaves each rule is what reaches the next one.

    Raises:
        ValueError: rows appeared or got lost between two rules.
    """
    for before, after in itertools.pairwise(ledger):
        if before.rows_out != after.rows_in:
            raise ValueError(f"the ledger does not balance: {before} is followed by {after}")


def ledger_table(ledger: Sequence[Rule]) -> str:
    """The ledger as a Markdown table.

    >>> print(ledger_table([Rule("events", "has a time", 1000, 999)]), end="")
    | table | rule | rows in | rows out | dropped | note |
    |---|---|---:|---:|---:|---|
    | events | has a time | 1,000 | 999 | 1 |  |
    """
    lines = [
        "| table | rule | rows in | rows out | dropped | note |",
        "|---|---|---:|---:|---:|---|",
    ]
    for rule in ledger:
        words = [text.replace("|", "\\|") for text in (rule.table, rule.rule, rule.note)]
        numbers = f"{rule.rows_in:,} | {rule.rows_out:,} | {rule.dropped:,}"
        lines.append(f"| {words[0]} | {words[1]} | {numbers} | {words[2]} |")
    return "\n".join(lines) + "\n"


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


@dataclass
class Table:
    """An Arrow table and where its rows came from.

    Attributes:
        data: the rows.
        name: counts or items, for messages.
        files: the file of each run of rows, in order; none for generated tables.
        starts: first row of each file.
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

    def origin(self) -> str:
        """Names the whole table for a message."""
        if not self.files:
            return f"{self.name} table"
        return str(self.files[0]) if len(self.files) == 1 else f"{self.files[0].parent}"

    def need(self, column: str, flag: str) -> pa.ChunkedArray:
        """Returns a column that a flag names.

        Raises:
            InputError: it is not there, or it is text in an unknown encoding.
        """
        need_column(self, column, flag)
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
        """Cuts the table into runs of at most `rows` rows.

        Args:
            rows: at most so many at a time.
            columns: those needed -> the flag that names each; none: all of them.
            blocks: those wanted; none: the whole table.

        Raises:
            InputError: a column is not there.
        """
        for column, flag in (columns or {}).items():
            self.need(column, flag)
        for block in self.blocks(rows) if blocks is None else blocks:
            yield from map(self.rows, runs(block.rows, rows))

    @property
    def names(self) -> list[str]:
        """The columns."""
        return self.data.column_names

    @property
    def places(self) -> np.ndarray:
        """Where each row stands in the files, int64 [rows]; `where_place` names it."""
        return np.arange(len(self)) if self.row_numbers is None else self.row_numbers

    def where_place(self, place: int, column: str = "") -> str:
        """Names one of `places` for a message."""
        at = f", column {column}" if column else ""
        if not self.files:
            return f"{self.name} table row {place + 1}{at}"
        index = bisect.bisect_right(self.starts, place) - 1
        path, inside = self.files[index], place - self.starts[index]
        found = f"row {inside + 1}" if is_parquet(path) else f"line {_line(path, inside)}"
        return f"{path} {found}{at}"


def runs(rows: slice, length: int) -> list[slice]:
    """Cuts a run of rows into runs of at most a length.

    >>> runs(slice(10, 15), 2)
    [slice(10, 12, None), slice(12, 14, None), slice(14, 15, None)]
    """
    starts = range(rows.start, rows.stop, length)
    return [slice(start, min(start + length, rows.stop)) for start in starts]


def need_column(table: Table | ParquetTable, column: str, flag: str) -> None:
    """Refuses a table without a column that a flag names.

    Raises:
        InputError: it is not there.
    """
    if column not in table.names:
        raise InputError(
            f"{table.origin()} has no column {column!r} (named by --{flag}); it has "
            f"{', '.join(map(_shown, table.names))}{did_you_mean(column, table.names)}"
        )


def _shown(name: str) -> str:
    r"""A column's name in a message: on one line, and no more than 60 characters of it.

    >>> _shown("clicks"), _shown("clicks\n1,2" + 100 * ",3")
    ('clicks', 'clicks\\n1,2,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3…')
    """
    name = name if name.isprintable() else repr(name)[1:-1]
    return name if len(name) <= 60 else f"{name[:59]}…"


def need_columns(table: Table | ParquetTable, columns: Mapping[str, str]) -> None:
    """`need_column` of several columns -> the flag that names each."""
    for column, flag in columns.items():
        need_column(table, column, flag)


def check_header(pattern: str, name: str, columns: Mapping[str, str]) -> None:
    """Refuses files without a column that a flag names, before any of their rows is read.

    Most of what else may be wrong with them is told where they are read.

    Args:
        pattern: the file, directory or glob.
        name: counts, items or events, for messages.
        columns: those needed -> the flag that names each.

    Raises:
        InputError: there are no files, one is not Parquet as its name says, or a column is not in
            their header.
    """
    paths = find(pattern, name)
    own = _names(paths[0], name)
    if columns.keys() <= set(own) or any(_names(path, name) != own for path in paths[1:]):
        return
    if own and len(set(own)) == len(own):
        need_columns(Table(pa.table({column: () for column in own}), name, tuple(paths)), columns)


def _names(path: Path, name: str) -> list[str]:
    """Column names in the header of a file; none where a CSV file's cannot be told so early.

    Raises:
        InputError: it says that it is Parquet, and is not.
    """
    if is_parquet(path):
        try:
            return column_names(path, pa.parquet.read_schema(path))
        except (pa.ArrowInvalid, pa.ArrowTypeError, OSError) as error:
            raise unreadable(path, name, error) from None
    try:
        found = header(path)
    except (pa.ArrowException, OSError, csv.Error):
        return []
    # Not UTF-8, or an unclosed quote: what is wrong is told where the rows are read.
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
        digests: what was read beside `inputs`, and its SHA-256.
        kept: files that belong into the dataset directory.
        scratch: holds the directory of those files as long as this object lives.
    """

    counts: Table | ParquetTable
    items: Table | ParquetTable
    vectors: dict[str, Table | ParquetTable] = field(default_factory=dict)
    inputs: tuple[Path, ...] = ()
    ledger: tuple[Rule, ...] = ()
    truth: pa.Table | None = None
    digests: dict[str, str] = field(default_factory=dict)
    kept: tuple[Path, ...] = ()
    scratch: object = None


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
    paths = find(pattern, name)
    parts = [_read_one(path, name, text_columns) for path in paths]
    schemas = [part.schema.remove_metadata() for part in parts]
    check_names(paths, list(map(column_names, paths, schemas)))
    starts = np.cumsum([0, *(part.num_rows for part in parts[:-1])])
    try:
        schema = one_schema(schemas)
        data = pa.concat_tables([part.cast(schema) for part in parts])
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise InputError(f"the files of {pattern} do not fit together: {error}") from None
    if not data.num_rows:
        raise InputError(f"{paths[0]}: the {name} table has no rows")
    return Table(data, name, tuple(paths), tuple(int(start) for start in starts))


def column_names(path: Path, schema: pa.Schema) -> list[str]:
    """Names of a file's columns.

    Raises:
        InputError: one is in an unknown encoding.
    """
    try:
        return schema.names
    except UnicodeDecodeError:
        raise InputError(
            f"{path}: the name of a column is not UTF-8 text; convert the file first"
        ) from None


def check_names(paths: Sequence[Path], names: Sequence[Sequence[str]]) -> None:
    """Refuses a file with two columns of one name, and files of one table that differ.

    Raises:
        InputError: the sentence names the files.
    """
    for path, own in zip(paths, names, strict=True):
        columns = pd.Series(own)
        if columns.duplicated().any():
            raise InputError(
                f"{path} has two columns named {columns[columns.duplicated()].iloc[0]!r}; "
                "rename one"
            )
        if list(own) != list(names[0]):
            raise InputError(
                f"{path} has columns {', '.join(own)} but {paths[0]} has "
                f"{', '.join(names[0])}; the files of one table must agree"
            )


def text_columns(flags: TableFlags) -> list[str]:
    """Items columns that are text, even where a CSV file's values look like numbers."""
    columns = (*flags.taxonomies, *flags.categoricals, *flags.texts, *flags.images)
    return [flags.item_column, *columns]


def one_schema(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """The types that fit all files; what is numbers in one and text in another is text.

    Raises:
        pa.ArrowInvalid, pa.ArrowTypeError: there is none.
    """
    texts = set()
    for column in schemas[0].names:
        kinds = {schema.field(column).type for schema in schemas}
        if len(kinds) > 1 and pa.string() in kinds and not any(map(pa.types.is_nested, kinds)):
            texts.add(column)
    agreed = [
        pa.schema([pa.field(f.name, pa.string() if f.name in texts else f.type) for f in schema])
        for schema in schemas
    ]
    return pa.unify_schemas(agreed, promote_options="permissive")


def find(pattern: str, name: str) -> list[Path]:
    """Lists the files that a table's flag names, sorted."""
    path = Path(pattern)
    if path.is_dir():
        inside = sorted(p for p in path.rglob("*") if p.is_file() and _is_table(p))
        if not inside:
            raise InputError(f"{path}: no .parquet or .csv file in this directory (--{name})")
        return inside
    found = [path] if path.is_file() else sorted(Path(p) for p in globbing.glob(pattern))
    if not found:
        raise InputError(f"{pattern}: no such file, directory or glob (--{name})")
    return found


def is_parquet(path: Path) -> bool:
    """Whether a file's name says that it is Parquet."""
    return path.suffix in (".parquet", ".pq")


def _is_table(path: Path) -> bool:
    """Whether a file found in a directory is data; what a Spark job leaves beside it is not."""
    compressed = path.suffix in (".gz", ".bz2", ".zst", ".lz4")
    kind = Path(path.stem).suffix if compressed else path.suffix
    return path.name[0] not in "._" and (is_parquet(path) or kind == ".csv")


def _read_one(path: Path, name: str, text_columns: Sequence[str]) -> pa.Table:
    try:
        if is_parquet(path):
            return pa.parquet.read_table(path, partitioning=None)
        return pa.csv.read_csv(
            path,
            parse_options=pa.csv.ParseOptions(newlines_in_values=True),
            convert_options=pa.csv.ConvertOptions(
                column_types={column: pa.string() for column in text_columns},
                strings_can_be_null=False,
            ),
        )
    except (pa.ArrowInvalid, pa.ArrowTypeError, OSError) as error:
        # With one thread, Arrow puts "Row #2: " before "Expected".
        if "CSV parse error: " in str(error) and "Expected " in str(error):
            _refuse_ragged(path, name)
        raise unreadable(path, name, error) from None


def unreadable(path: Path, name: str, error: Exception) -> InputError:
    """What to say of a file that Arrow cannot read."""
    kind = "Parquet" if is_parquet(path) else "CSV"
    reason = str(error).split("\n")[0].rstrip(".")
    if "invalid UTF8" in reason:
        reason = "it is not UTF-8 text; convert it first"
    return InputError(f"{path} is not a readable {kind} file ({name} table): {reason}")


def _refuse_ragged(path: Path, name: str) -> None:
    width = 0
    for line, fields in records(path):
        width = width or len(fields)
        if len(fields) != width:
            raise InputError(
                f"{path} line {line}: {len(fields)} fields where the header of the {name} table "
                f"has {width}; put quotes around a value that holds a comma or a line break"
            )


def _line(path: Path, row: int) -> int:
    """The line of a CSV file in which a data row starts."""
    for number, (line, _) in enumerate(records(path)):
        if number == row + 1:  # the first record is the header
            return line
    return row + 2


def header(path: Path) -> list[str]:
    """Column names of a CSV file; none if it is empty."""
    names = next((fields for _, fields in records(path)), [])
    return [name.removeprefix("\ufeff") for name in names]


def records(path: Path, delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
    """First line and fields of every record; empty lines are none, quoted line breaks are kept."""
    with pa.input_stream(str(path)) as file:
        text = io.TextIOWrapper(io.BufferedReader(file), "utf-8-sig", "replace", newline="")
        reader = csv.reader(text, delimiter=delimiter)
        line = 1
        for fields in reader:
            if fields:
                yield line, fields
            line = reader.line_num + 1


def strings(table: Table, column: str, flag: str) -> np.ndarray:
    """`texts` as an object array of str."""
    return texts(table, column, flag).to_numpy(zero_copy_only=False).astype(object)


def texts(table: Table, column: str, flag: str) -> pa.ChunkedArray:
    """Returns a column as strings, empty where empty.

    Whole numbers written as floats lose their ".0" (ids that passed through a NaN column).

    Raises:
        InputError: a list where one value is wanted.
    """
    data = table.need(column, flag)
    if pa.types.is_nested(data.type):
        raise InputError(
            f"{table.origin()}: column {column!r} named by --{flag} holds {data.type} values; "
            "one value per row is wanted"
        )
    return _text(data)


_WHOLE = r"^-?\d+\.0$"


def _text(data: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Single values as strings, empty where empty."""
    if pa.types.is_dictionary(data.type):
        data = data.cast(data.type.value_type)
    if pa.types.is_floating(data.type):
        data = data.cast(pa.float64())
        data = pc.if_else(pc.is_finite(data), data, None)
        whole = pc.and_(pc.equal(pc.floor(data), data), pc.less(pc.abs(data), LARGEST))
        data = data.cast(pa.int64()) if pc.all(whole).as_py() else data
    if not (pa.types.is_string(data.type) or pa.types.is_large_string(data.type)):
        return pc.fill_null(data.cast(pa.string()), "")
    data = pc.fill_null(data, "")
    if _all_whole(data[:100]) and _all_whole(data):
        data = pc.replace_substring(data, ".0", "")
    return data


def _all_whole(data: pa.Array | pa.ChunkedArray) -> bool:
    return pc.all(pc.or_(pc.equal(data, ""), pc.match_substring_regex(data, _WHOLE))).as_py()


def integers(table: Table, column: str, flag: str, *, what: str) -> np.ndarray:
    """Returns a count column as int64.

    Raises:
        InputError: an empty, non-integer or negative value, with its row.
    """
    data = table.need(column, flag)
    rule = f"{what} must be a whole number of 0 or more, below 2**53"
    values = _numbers(table, data, column, rule)
    bad = ~np.isfinite(values) | (values != np.floor(values)) | (values < 0) | (values >= LARGEST)
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(f"{table.where(row, column)}: {rule}. Received: {data[row].as_py()!r}")
    return (
        data.cast(pa.int64()).to_numpy() if pa.types.is_integer(data.type) else values.astype(int)
    )


def floats(
    table: Table, column: str, flag: str, *, rule: str = "a numeric column's value must be a number"
) -> np.ndarray:
    """Returns a numeric column as float64, NaN where empty.

    Raises:
        InputError: a value that is no number, with its row and the rule.
    """
    return _numbers(table, table.need(column, flag), column, rule)


def _numbers(table: Table, data: pa.ChunkedArray, column: str, rule: str) -> np.ndarray:
    if pa.types.is_boolean(data.type):
        data = data.cast(pa.int8())
    if (
        pa.types.is_integer(data.type)
        or pa.types.is_floating(data.type)
        or pa.types.is_null(data.type)
    ):
        return data.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    raw = data.to_pandas().astype("string").str.strip()
    values = pd.to_numeric(raw, errors="coerce").astype("float64").to_numpy(na_value=np.nan)
    bad = np.isnan(values) & raw.notna().to_numpy() & (raw != "").fillna(False).to_numpy()
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(f"{table.where(row, column)}: {rule}. Received: {data[row].as_py()!r}")
    return values


def values_of(table: Table, column: str, flag: str) -> tuple[np.ndarray, np.ndarray]:
    """Flattens a single- or multi-valued column into (row, value) pairs, empty values left out.

    A list column has its entries, a string column is cut at ";"; repeats of a value in one row
    count once.

    >>> table = Table(pa.table({"tags": ["a;b", "", "b;b"]}), "items")
    >>> values_of(table, "tags", "taxonomies")
    (array([0, 0, 2]), array(['a', 'b', 'b'], dtype=object))
    """
    data = table.need(column, flag).combine_chunks()
    if is_list(data.type):
        lists = data
    else:
        lists = pc.split_pattern(pa.array(strings(table, column, flag), pa.string()), SEPARATOR)
    rows = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
    flat = pc.list_flatten(lists)
    if pa.types.is_nested(flat.type):
        raise InputError(
            f"{table.origin()}: column {column!r} named by --{flag} holds {data.type} values; "
            "a list of single values is wanted"
        )
    flat = pc.utf8_trim_whitespace(_text(flat))
    pairs = pd.DataFrame(
        {"row": rows.astype(np.int64), "value": flat.to_numpy(zero_copy_only=False)}
    )
    pairs = pairs[pairs["value"] != ""].drop_duplicates()
    return pairs["row"].to_numpy(), pairs["value"].to_numpy().astype(object)


def is_list(kind: pa.DataType) -> bool:
    """Whether a column holds lists."""
    return (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def sha256(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
