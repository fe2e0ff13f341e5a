"""Files of tables: CSV and Parquet, found, read and refused in one way.

Whatever reads rows reads them here, or checks its files here first: contract tables, publishers'
logs and the events that an engine counts. So a damaged file is refused with the same sentence,
which names the file, the line and the fix, whoever reads it.
"""

from __future__ import annotations

import contextlib
import csv
import glob as globbing
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from mmnet.checks import InputError, did_you_mean
from mmnet.data import budgets

BLOCK_BYTES = 1 << 24
"""Bytes of a text file that are read at a time, where it is read in batches."""

BATCH_ROWS = 1 << 18
"""Rows of a Parquet file that are read at a time, where nothing else decides."""

DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons", " ": "spaces"}


@dataclass(frozen=True)
class Layout:
    """How a text file is written.

    Attributes:
        delimiter: between columns.
        names: all columns of a file without a header line; empty where the file has one.
        line_breaks: whether quoted values may hold line breaks.
    """

    delimiter: str = ","
    names: tuple[str, ...] = ()
    line_breaks: bool = True


CSV = Layout()

# --------------------------------------------------------------------------------- finding


def find(pattern: str, name: str) -> list[Path]:
    """Lists the files that a table's flag names, sorted.

    Raises:
        InputError: there are none.
    """
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


def short_names(paths: Sequence[Path]) -> list[str]:
    """Names of files below their common directory, for a record.

    >>> short_names([Path("/log/a/1.csv"), Path("/log/b/1.csv")])
    ['a/1.csv', 'b/1.csv']
    """
    paths = [path.resolve() for path in paths]
    common = os.path.commonpath([path.parent for path in paths]) if paths else ""
    return [str(path.relative_to(common)) for path in paths]


def is_parquet(path: Path) -> bool:
    """Whether a file's name says that it is Parquet.

    >>> is_parquet(Path("counts.parquet")), is_parquet(Path("counts.csv.gz"))
    (True, False)
    """
    return path.suffix in (".parquet", ".pq")


def _is_table(path: Path) -> bool:
    """Whether a file found in a directory is data; what a Spark job leaves next to it is not."""
    compressed = path.suffix in (".gz", ".bz2", ".zst", ".lz4")
    kind = Path(path.stem).suffix if compressed else path.suffix
    return path.name[0] not in "._" and (is_parquet(path) or kind == ".csv")


# --------------------------------------------------------------------------------- columns


def column_names(path: Path, name: str, layout: Layout = CSV) -> list[str]:
    """The columns of a file: of its schema, its header line, or its layout.

    Args:
        path: of the file.
        name: of the table, for messages.
        layout: of a text file.

    Raises:
        InputError: it cannot be read, it is empty, or a name is in an unknown encoding.
    """
    if is_parquet(path):
        with readable(path, name):
            return names_of(path, pa.parquet.read_schema(path))
    if layout.names:
        return list(layout.names)
    with readable(path, name):
        names = header(path, layout.delimiter)
    if not names:
        raise _not_readable(path, name, "it is empty")
    return names


def names_of(path: Path, schema: pa.Schema) -> list[str]:
    """Names of the columns of a file that was opened.

    Raises:
        InputError: one is in an unknown encoding.
    """
    try:
        return schema.names
    except UnicodeDecodeError:
        raise InputError(
            f"{path}: the name of a column is not UTF-8 text; convert the file first"
        ) from None


def header(path: Path, delimiter: str = ",") -> list[str]:
    """The fields of a text file's first record; none if it is empty."""
    return next((fields for _, fields in records(path, delimiter)), [])


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


def line_of(path: Path, row: int) -> int:
    """The line of a CSV file in which a data row starts."""
    for number, (line, _) in enumerate(records(path)):
        if number == row + 1:  # the first record is the header
            return line
    return row + 2


def need_column(origin: str, names: Sequence[str], column: str, flag: str) -> None:
    """Refuses a table without a column that a flag names.

    Args:
        origin: of the table, for the message.
        names: of its columns.
        column: the one that is needed.
        flag: which names it.

    Raises:
        InputError: it is not there.

    >>> need_column("counts.csv", ["item_id", "clicks"], "click", "denominator")
    Traceback (most recent call last):
    mmnet.checks.InputError: counts.csv has no column 'click' (named by --denominator); it has \
item_id, clicks. Did you mean clicks?
    """
    if column not in names:
        raise InputError(
            f"{origin} has no column {column!r} (named by --{flag}); it has "
            f"{', '.join(map(_shown, names)) or 'nothing in it'}{did_you_mean(column, names)}"
        )


def _shown(name: str) -> str:
    r"""A column's name in a message: on one line, and no more than 60 characters of it.

    >>> _shown("clicks"), _shown("clicks\n1,2" + 100 * ",3")
    ('clicks', 'clicks\\n1,2,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3…')
    """
    name = name if name.isprintable() else repr(name)[1:-1]
    return name if len(name) <= 60 else f"{name[:59]}…"


def check_unique(path: Path, names: Sequence[str]) -> None:
    """Refuses a file with two columns of one name.

    Raises:
        InputError: the sentence names the file and the column.
    """
    columns = pd.Series(list(names), dtype=object)
    if columns.duplicated().any():
        raise InputError(
            f"{path} has two columns named {columns[columns.duplicated()].iloc[0]!r}; rename one"
        )


def check_names(paths: Sequence[Path], names: Sequence[Sequence[str]]) -> None:
    """Refuses a file with two columns of one name, and files of one table that differ.

    Raises:
        InputError: the sentence names the files.
    """
    for path, own in zip(paths, names, strict=True):
        check_unique(path, own)
        if list(own) != list(names[0]):
            raise InputError(
                f"{path} has columns {', '.join(own)} but {paths[0]} has "
                f"{', '.join(names[0])}; the files of one table must agree"
            )


def check_delimiter(place: str, fields: Sequence[str], delimiter: str) -> None:
    """Refuses a record that another delimiter than the expected one cuts into columns.

    Raises:
        InputError: the sentence names both delimiters.

    >>> check_delimiter("log.csv line 1", ["id;n"], ",")
    Traceback (most recent call last):
    mmnet.checks.InputError: log.csv line 1: its columns are separated by semicolons where \
commas are expected
    """
    others = [other for other in DELIMITERS if other != delimiter and other in fields[0]]
    if len(fields) == 1 and others:
        other = max(others, key=fields[0].count)
        raise InputError(
            f"{place}: its columns are separated by {DELIMITERS[other]} where "
            f"{DELIMITERS[delimiter]} are expected"
        )


# --------------------------------------------------------------------------------- reading


def whole(path: Path, name: str, text_columns: Sequence[str] = ()) -> pa.Table:
    """All rows of a file; types of CSV columns are those that fit all of their values.

    Args:
        path: of the file.
        name: of the table, for messages.
        text_columns: CSV columns to read as strings whatever they look like.

    Raises:
        InputError: it cannot be read.
    """
    with readable(path, name):
        if is_parquet(path):
            budgets.check_parquet(path, pa.parquet.read_metadata(path))
            return pa.parquet.read_table(path, partitioning=None)
        return pa.csv.read_csv(
            budgets.WatchedFile(path),
            parse_options=pa.csv.ParseOptions(newlines_in_values=True),
            convert_options=pa.csv.ConvertOptions(
                column_types={column: pa.string() for column in text_columns},
                strings_can_be_null=False,
            ),
        )


def batches(
    path: Path,
    name: str,
    columns: Sequence[str],
    *,
    layout: Layout = CSV,
    types: Mapping[str, pa.DataType] | None = None,
    rows: int | None = None,
    groups: Sequence[int] | None = None,
) -> Iterator[pa.RecordBatch]:
    """Some columns of a file, in batches.

    Args:
        path: of the file.
        name: of the table, for messages.
        columns: those to read.
        layout: of a text file.
        types: of the columns of a text file; the others are strings, empty where empty.
        rows: of a Parquet file, at most so many at a time.
        groups: of a Parquet file, the row groups to read; all of them by default.

    Raises:
        InputError: it cannot be read, or a record has too few or too many fields.
    """
    if is_parquet(path):
        with readable(path, name), pa.parquet.ParquetFile(path) as file:
            yield from file.iter_batches(
                rows or BATCH_ROWS, row_groups=groups, columns=list(columns)
            )
        return
    types = types or {}
    with readable(path, name, layout, types):
        line, fields = next(records(path, layout.delimiter), (0, []))
        reader = pa.csv.open_csv(
            path,
            read_options=pa.csv.ReadOptions(
                column_names=layout.names or [field.strip() for field in fields],
                skip_rows=0 if layout.names else line,
                block_size=BLOCK_BYTES,
            ),
            parse_options=pa.csv.ParseOptions(
                delimiter=layout.delimiter, newlines_in_values=layout.line_breaks
            ),
            convert_options=pa.csv.ConvertOptions(
                include_columns=list(columns),
                column_types={column: types.get(column, pa.string()) for column in columns},
                strings_can_be_null=False,
            ),
        )
        yield from reader


def parquet_groups(path: Path, name: str) -> tuple[pa.Schema, tuple[int, ...]]:
    """Columns of a Parquet file, and the rows of each of its row groups, without reading a row.

    Raises:
        InputError: it cannot be read.
    """
    with readable(path, name):
        found = pa.parquet.read_metadata(path)
        groups = (found.row_group(group).num_rows for group in range(found.num_row_groups))
        return found.schema.to_arrow_schema().remove_metadata(), tuple(groups)


def common_schema(pattern: str, paths: Sequence[Path], schemas: Sequence[pa.Schema]) -> pa.Schema:
    """The types that fit all files; what is numbers in one and text in another is text.

    Raises:
        InputError: the files have other columns, or types that no type fits.
    """
    check_names(paths, list(map(names_of, paths, schemas)))
    texts = set()
    for column in schemas[0].names:
        kinds = {schema.field(column).type for schema in schemas}
        if len(kinds) > 1 and pa.string() in kinds and not any(map(pa.types.is_nested, kinds)):
            texts.add(column)
    agreed = [
        pa.schema([pa.field(f.name, pa.string() if f.name in texts else f.type) for f in schema])
        for schema in schemas
    ]
    with fit_together(pattern):
        return pa.unify_schemas(agreed, promote_options="permissive")


# -------------------------------------------------------------------------------- messages


@contextlib.contextmanager
def fit_together(pattern: str) -> Iterator[None]:
    """Turns Arrow's complaint about the types of a table's files into a sentence."""
    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise InputError(f"the files of {pattern} do not fit together: {error}") from None


@contextlib.contextmanager
def readable(
    path: Path,
    name: str,
    layout: Layout = CSV,
    types: Mapping[str, pa.DataType] | None = None,
) -> Iterator[None]:
    """Turns Arrow's complaint about a file into a sentence; a second look finds the line.

    Args:
        path: of the file.
        name: of the table.
        layout: of a text file.
        types: of its columns that must be whole numbers.
    """
    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowTypeError, OSError, csv.Error) as error:
        reason = str(error).split("\n")[0].rstrip(".")
    else:
        return
    if not is_parquet(path):
        if "Could not skip" in reason or "Empty CSV" in reason:
            if layout.names or header(path, layout.delimiter):
                raise no_rows(path, name)
            reason = "it is empty"
        if "invalid UTF8" in reason:
            reason = "it is not UTF-8 text; convert it first"
        # With one thread, Arrow puts "Row #2: " before "Expected".
        if "CSV parse error: " in reason and "Expected " in reason:
            _refuse_ragged(path, name, layout)
        if "conversion error" in reason:
            _refuse_text(path, layout, types or {})
    raise _not_readable(path, name, reason)


def no_rows(path: Path, name: str) -> InputError:
    """What to say of a table without rows."""
    return InputError(f"{path}: the {name} table has no rows")


def check_width(
    path: Path, name: str, line: int, fields: Sequence[str], width: int, layout: Layout
) -> None:
    """Refuses a record with another number of fields than the table has columns.

    Raises:
        InputError: the sentence names the line and both numbers.
    """
    if len(fields) == width:
        return
    if layout.names:
        wanted = f"{width} are expected ({', '.join(layout.names)})"
    else:
        wanted = (
            f"the header of the {name} table has {width}; put quotes around a value that holds a "
            "comma or a line break"
        )
    raise InputError(f"{path} line {line}: {len(fields)} fields where {wanted}")


def _refuse_ragged(path: Path, name: str, layout: Layout) -> None:
    width = len(layout.names)
    for line, fields in records(path, layout.delimiter):
        width = width or len(fields)
        check_width(path, name, line, fields, width, layout)


def _refuse_text(path: Path, layout: Layout, types: Mapping[str, pa.DataType]) -> None:
    """Raises: a value that is text where a whole number is expected."""
    names = list(layout.names)
    for line, fields in records(path, layout.delimiter):
        if not names:
            names = [field.strip() for field in fields]
            continue
        for column, kind in types.items():
            value = fields[names.index(column)].strip()
            if value and not _fits(value, kind):
                raise InputError(
                    f"{path} line {line}, column {column}: must be a whole number. "
                    f"Received: {value!r}"
                )


def _fits(value: str, kind: pa.DataType) -> bool:
    try:
        pa.scalar(int(value), kind)
    except (ValueError, OverflowError, pa.ArrowInvalid):
        return False
    return True


def damaged(path: Path, name: str) -> InputError:
    """What to say of a Parquet file whose footer and row groups do not agree."""
    reason = "its footer counts other rows than the file holds; write the file again"
    return _not_readable(path, name, reason)


def _not_readable(path: Path, name: str, reason: str) -> InputError:
    kind = "Parquet" if is_parquet(path) else "CSV"
    return InputError(f"{path} is not a readable {kind} file ({name} table): {reason}")
