"""Rows of table files, as Arrow tables and batches: one reader for all of them.

Each column of a text file comes as text, so that what a value means is decided in one place,
`columns`.
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
"""Version of the rules by which rows are read. It is raised where the same files and flags come to
mean something else, so that what was made by the rules before is made again; 1 had no version."""

BATCH_ROWS = 1 << 18
"""Rows of a Parquet file that are read at a time, where nothing else decides."""


def whole(file: TableFile) -> pa.Table:
    """All rows and columns of a file; of a text file each column is text, or lists of text.

    A column of a text file that is not UTF-8 comes as it is, in bytes. Of a JSON file, the columns
    are those that it knows of, see `TableFile.complete`.

    Raises:
        InputError: it cannot be read.
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
    """Some columns of a file, in batches.

    Args:
        file: which.
        columns: those to read.
        types: of the columns of a text file; the others are text, empty where empty.
        rows: of a Parquet file, at most so many at a time.
        groups: of a Parquet file, the row groups to read; all of them by default.

    Raises:
        InputError: it cannot be read, or a record has too few or too many fields.
    """
    file = file.settled()
    here = frozenset(file.own)
    own = [column for column in columns if column in here]
    # A batch without columns would not know how many rows it has.
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
    # Not by name: of two columns of one name that would be the wrong one.
    with pa.parquet.ParquetFile(file.path) as opened:
        budgets.check_batches(file.path, opened.metadata, columns, rows, groups)
        yield from opened.iter_batches(rows, row_groups=groups, columns=list(columns))


def _text_batches(
    file: TableFile,
    columns: Sequence[str],
    types: Mapping[str, pa.DataType] | None = None,
    watch: Watch | None = None,
) -> Iterator[pa.RecordBatch]:
    """Columns of a text file, as bytes unless they have a type."""
    dialect = file.dialect
    names = [name or f"\0{place}" for place, name in enumerate(file.own)]
    skipped = 0
    if not dialect.names:
        starts = [line for line, _ in itertools.islice(records(file.path, dialect), 2)]
        if len(starts) < 2:
            return
        skipped = starts[1] - 1  # a name in the header may hold a line break
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
    """Columns of bytes as text, where they are UTF-8."""
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
    """A column of text as bytes that are still to be checked; any other column as it is.

    A Parquet column may be declared as text, or as lists of it, and yet hold other bytes.
    """
    kind = _with_leaves(data.type, _BYTES)
    return data if kind == data.type else data.cast(kind)


_BYTES = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary()}
_TEXT = {pa.binary(): pa.string(), pa.large_binary(): pa.large_string()}


def _with_leaves(kind: pa.DataType, other: Mapping[pa.DataType, pa.DataType]) -> pa.DataType:
    """A type with others for its text or bytes, however deep in lists, maps and structs they are.

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
    """Whether a column holds bytes, or lists of them: text that was not declared as such."""
    return as_text(kind) != kind


def as_text(kind: pa.DataType) -> pa.DataType:
    """The type of a column of bytes once it is known to be text."""
    return pa.string() if kind in _TEXT else _with_leaves(kind, _TEXT)


class NotText(ValueError):
    """Bytes that are not UTF-8.

    Attributes:
        row: the first that has some.
    """

    def __init__(self, row: int):
        super().__init__(f"row {row} is not UTF-8")
        self.row = row


def decoded(data: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """A column of bytes as text.

    Raises:
        NotText: some are not UTF-8.
    """
    try:
        return data.cast(as_text(data.type))
    except pa.ArrowInvalid:
        for row, value in enumerate(data):
            if not _is_utf8(value.as_py()):
                raise NotText(row) from None
        # The bytes at fault are of other rows, that this is a part of.
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
    """The error for a value that is not UTF-8.

    Args:
        place: of the value.
        is_text: whether it is from a text file.
    """
    way_out = "write the file again"
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
    """Columns of a Parquet file, and the rows of each of its row groups, without reading a row.

    Bytes are text, which `batches` checks.

    Raises:
        InputError: it cannot be read.
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
    """The columns that all files have, each with a type that fits them all; see `common`.

    A column with numbers in one file and text in another is text.

    Args:
        files: of the table.
        schemas: columns of each.

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
                f"column {name!r} holds {kinds[0]} values in {files[0].path} but {kinds[other]} "
                f"values in {files[other].path}; write the files alike"
            )
    return pa.schema(fields), lacking


def in_schema(data: pa.Table, schema: pa.Schema, file: TableFile) -> pa.Table:
    """Rows of one file with the columns and types that all files of its table have.

    Args:
        data: the rows.
        schema: that of the table.
        file: which one.

    Raises:
        InputError: a value of the file does not fit.
    """
    with readable(file.path, file.name):
        return data.select(schema.names).cast(schema)


def _text_type(kind: pa.DataType) -> pa.DataType:
    """The type itself; string for what holds text in another way."""
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
