"""Rows of table files as Arrow tables and batches; all files are read here.

Columns of text files are returned as text, so that only `columns` decides what a value means.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from mmnet.checks import InputError, shown
from mmnet.data import budgets, dialects, json_rows, table_files
from mmnet.data.file_kinds import Watch
from mmnet.data.table_files import TableFile, common, readable, records

RULES = 2
"""Version of the rules by which rows are read. It is increased when the same files and flags mean
something else, so that caches of the old rules are recomputed; version 1 was not recorded."""

BATCH_ROWS = 1 << 18
"""Default number of rows of a Parquet file to read at a time."""


def whole(file: TableFile) -> pa.Table:
    """Reads all rows and columns of a file; columns of a text file are text, or lists of text.

    Columns of a text file that are not UTF-8 are returned as bytes. The columns of a JSON file are
    those already found, see `TableFile.complete`.

    Raises:
        InputError: the file cannot be read.
    """
    file = file.settled()
    watch = functools.partial(budgets.check_growth, file.path)
    with readable(file.path, file.name, file.dialect):
        if file.is_parquet:
            budgets.check_parquet(file.path, pa.parquet.read_metadata(file.path))
            data = pa.parquet.read_table(file.path, partitioning=None)
            data = data.select([place for place, name in enumerate(file.own) if name])
            data = _as_text(pa.table([*map(as_bytes, data.columns)], names=data.column_names))
        elif file.kind.format == "json":
            data = _whole_json(file, watch)
        else:
            names = [name for name in file.own if name]
            schema = pa.schema([pa.field(name, pa.binary()) for name in names])
            data = pa.Table.from_batches(_text_batches(file, names, watch=watch), schema)
            data = _with_lists(_as_text(data), file.lists)
    here = frozenset(data.column_names)
    for name, value in file.folders.items():
        if name not in here:
            data = data.append_column(name, _constant(value, len(data)))
    return data


def batches(
    file: TableFile,
    columns: Sequence[str],
    *,
    types: Mapping[str, pa.DataType] | None = None,
    rows: int | None = None,
    groups: Sequence[int] | None = None,
) -> Iterator[pa.RecordBatch]:
    """Reads columns of a file in batches.

    Args:
        file: the file.
        columns: names of the columns to read.
        types: types of columns of a text file; the others are text, empty where empty.
        rows: maximum number of rows at a time, for Parquet.
        groups: row groups to read, for Parquet; default: all.

    Raises:
        InputError: the file cannot be read, or a record has too few or too many fields.
    """
    file = file.settled()
    here = frozenset(file.own)
    own = [column for column in columns if column in here]
    # A batch without columns would lose its number of rows.
    wanted = own or [name for name in file.own if name][:1]
    types = types or {}
    with readable(file.path, file.name, file.dialect, types):
        found: Iterator[pa.RecordBatch]
        if file.is_parquet:
            found = _parquet_batches(file, wanted, rows or BATCH_ROWS, groups)
        elif file.kind.format == "json":
            found = json_rows.batches(file.path, file.kind.packed, file.dialect.encoding, wanted)
        else:
            found = _text_batches(file, wanted, types)
        start = 0
        for batch in found:
            arrays = [
                _checked_text(file, batch.column(column), column, start)
                if column in here
                else _constant(file.folders[column], batch.num_rows)
                for column in columns
            ]
            start += batch.num_rows
            yield pa.RecordBatch.from_arrays(arrays, names=list(columns))


def _parquet_batches(
    file: TableFile, columns: Sequence[str], rows: int, groups: Sequence[int] | None
) -> Iterator[pa.RecordBatch]:
    # By position, since a name may be a duplicate.
    with pa.parquet.ParquetFile(file.path) as opened:
        budgets.check_batches(file.path, opened.metadata, columns, rows, groups)
        yield from opened.iter_batches(rows, row_groups=groups, columns=list(columns))


def _text_batches(
    file: TableFile,
    columns: Sequence[str],
    types: Mapping[str, pa.DataType] | None = None,
    watch: Watch | None = None,
) -> Iterator[pa.RecordBatch]:
    """Reads columns of a text file, as bytes unless they have a type."""
    dialect = file.dialect
    names = [name or f"\0{place}" for place, name in enumerate(file.own)]
    skipped = 0
    if not dialect.names:
        starts = [line for line, _ in itertools.islice(records(file.path, dialect), 2)]
        if len(starts) < 2:
            return
        skipped = starts[1] - 1  # a name in the header may contain a line break
    with dialects.as_csv(file.path, dialect, watch) as stream:
        yield from pa.csv.open_csv(
            pa.PythonFile(stream, "r"),
            read_options=pa.csv.ReadOptions(
                column_names=names, skip_rows=skipped, block_size=table_files.BLOCK_BYTES
            ),
            parse_options=pa.csv.ParseOptions(
                delimiter=dialect.separator,
                quote_char=False if dialect.quote == "none" else '"',
                newlines_in_values=dialect.line_breaks,
            ),
            convert_options=pa.csv.ConvertOptions(
                include_columns=list(columns),
                column_types={column: (types or {}).get(column, pa.binary()) for column in columns},
                strings_can_be_null=False,
            ),
        )


def _whole_json(file: TableFile, watch: Watch) -> pa.Table:
    packed, encoding = file.kind.packed, file.dialect.encoding
    return pa.Table.from_batches(
        json_rows.batches(file.path, packed, encoding, file.own, lists=True, watch=watch),
        None if file.own else pa.schema([]),
    )


def _as_text(data: pa.Table) -> pa.Table:
    """Converts columns of bytes to text if they are UTF-8."""
    columns = data.columns
    for place, column in enumerate(columns):
        if is_bytes(column.type):
            with contextlib.suppress(NotText):
                columns[place] = decoded(column)
    return pa.table(columns, names=data.column_names)


def _checked_text(file: TableFile, data: pa.Array, column: str, start: int) -> pa.Array:
    data = as_bytes(data)
    if not is_bytes(data.type):
        return data
    try:
        return decoded(data)
    except NotText as error:
        place = f"{file.where(start + error.row)}, column {shown(column)}"
        raise not_utf8(place, not file.is_parquet) from None


def as_bytes(data: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Returns a column of text as bytes that are not yet validated; other columns are unchanged.

    A Parquet column may be declared as text, or as lists of text, and yet contain other bytes.
    """
    kind = _with_leaves(data.type, _BYTES)
    return data if kind == data.type else data.cast(kind)


_BYTES = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary()}
_TEXT = {pa.binary(): pa.string(), pa.large_binary(): pa.large_string()}


def _with_leaves(kind: pa.DataType, other: Mapping[pa.DataType, pa.DataType]) -> pa.DataType:
    """Replaces text or bytes in a type, at any depth of lists, maps and structs.

    >>> _with_leaves(pa.list_(pa.dictionary(pa.int8(), pa.string())), _BYTES)
    ListType(list<item: binary>)
    """
    if kind in other:
        return other[kind]
    if pa.types.is_dictionary(kind):
        return other.get(kind.value_type, kind)
    if pa.types.is_map(kind):
        return pa.map_(*(_with_leaves(one, other) for one in (kind.key_type, kind.item_type)))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_with_leaves(field.type, other)) for field in kind])
    for is_list, make in ((pa.types.is_list, pa.list_), (pa.types.is_large_list, pa.large_list)):
        if is_list(kind):
            return make(kind.value_field.with_type(_with_leaves(kind.value_type, other)))
    return kind


def is_bytes(kind: pa.DataType) -> bool:
    """Checks whether a column has bytes, or lists of them: text that was not declared as such."""
    return as_text(kind) != kind


def as_text(kind: pa.DataType) -> pa.DataType:
    """Returns the type of a column of bytes after it was validated as text."""
    return pa.string() if kind in _TEXT else _with_leaves(kind, _TEXT)


class NotText(ValueError):
    """Bytes that are not UTF-8.

    Attributes:
        row: the first row that has some.
    """

    def __init__(self, row: int):
        super().__init__(f"row {row} is not UTF-8")
        self.row = row


def decoded(data: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Decodes a column of bytes as text.

    Raises:
        NotText: some are not UTF-8.
    """
    try:
        return data.cast(as_text(data.type))
    except pa.ArrowInvalid:
        for row, value in enumerate(data):
            if not _is_utf8(value.as_py()):
                raise NotText(row) from None
        # The invalid bytes are in other rows of the same buffer.
        return data.take(pa.array(range(len(data)), pa.int64())).cast(as_text(data.type))


def _is_utf8(value: Any) -> bool:
    if isinstance(value, bytes):
        try:
            value.decode()
        except UnicodeDecodeError:
            return False
    if isinstance(value, dict):
        value = [*value.items()]
    return not isinstance(value, list | tuple) or all(map(_is_utf8, value))


def not_utf8(place: str, is_text: bool) -> InputError:
    """Returns the error about a value that is not UTF-8.

    Args:
        place: place of the value.
        is_text: whether it is from a text file.
    """
    way_out = "write the file again as UTF-8"
    if is_text:
        way_out = "set its encoding, such as --text_set=encoding=gbk or latin-1"
    return InputError(f"{place}: not UTF-8 text; {way_out}")


def _constant(value: str, rows: int) -> pa.Array:
    return pa.repeat(pa.scalar(value, pa.string()), rows)


def _with_lists(data: pa.Table, lists: Sequence[str]) -> pa.Table:
    for name in lists:
        cut = pc.utf8_split_whitespace(pc.utf8_trim_whitespace(data[name]))
        data = data.set_column(data.column_names.index(name), name, cut)
    return data


def parquet_groups(file: TableFile) -> tuple[pa.Schema, tuple[int, ...]]:
    """Returns columns and row group sizes of a Parquet file, without reading a row.

    Bytes are text, which `batches` checks.

    Raises:
        InputError: the file cannot be read.
    """
    with readable(file.path, file.name):
        footer = pa.parquet.read_metadata(file.path)
        groups = (footer.row_group(group).num_rows for group in range(footer.num_row_groups))
        schema = footer.schema.to_arrow_schema().remove_metadata()
        fields = [
            pa.field(name, as_text(kind))
            for name, kind in zip(file.own, schema.types, strict=True)
            if name
        ]
        more = [name for name in file.folders if name not in file.own]
        return pa.schema([*fields, *(pa.field(name, pa.string()) for name in more)]), tuple(groups)


def common_schema(
    files: Sequence[TableFile], schemas: Sequence[pa.Schema]
) -> tuple[pa.Schema, dict[str, str]]:
    """Finds the columns that all files have, each with a type that fits all files; see `common`.

    A column with numbers in one file and text in another is text.

    Args:
        files: files of the table.
        schemas: columns of each file.

    Returns:
        Names and types; and other column -> a sentence that names the file that lacks it or
        differs.
    """
    names, lacking = common(files)
    fields = []
    for name in names:
        kinds = [_text_type(schema.field(name).type) for schema in schemas]
        try:
            fields.append(pa.field(name, _one_type(name, kinds)))
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            other = next(place for place, kind in enumerate(kinds) if kind != kinds[0])
            lacking[name] = (
                f"column {name!r} has {kinds[0]} values in {files[0].path} but {kinds[other]} "
                f"values in {files[other].path}; write all files with the same type"
            )
    return pa.schema(fields), lacking


def in_schema(data: pa.Table, schema: pa.Schema, file: TableFile) -> pa.Table:
    """Converts rows of one file to the columns and types of its table.

    Args:
        data: the rows.
        schema: schema of the table.
        file: the file.

    Raises:
        InputError: a value of the file does not fit.
    """
    with readable(file.path, file.name):
        return data.select(schema.names).cast(schema)


def _text_type(kind: pa.DataType) -> pa.DataType:
    """Returns string for all storage types of text, other types unchanged."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    is_text = pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return pa.string() if is_text else kind


def _one_type(name: str, kinds: Sequence[pa.DataType]) -> pa.DataType:
    as_all = {_with_leaves(kind, _BYTES) for kind in kinds}
    if len(set(kinds)) > 1 and len(as_all) == 1 and any(map(is_bytes, kinds)):
        return as_all.pop()
    if len(set(kinds)) > 1 and any(map(is_bytes, kinds)) and pa.string() in kinds:
        return pa.binary()
    if len(set(kinds)) > 1 and pa.string() in kinds and not any(map(pa.types.is_nested, kinds)):
        return pa.string()
    schemas = [pa.schema([pa.field(name, kind)]) for kind in kinds]
    return pa.unify_schemas(schemas, promote_options="permissive").field(name).type
