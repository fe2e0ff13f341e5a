"""Opened table files: their format, dialect and columns.

Everything that reads rows opens its files here: input tables, publishers' logs and the events that
an engine counts. The first bytes of a file decide its format (`file_kinds`); the dialect of text is
detected (`dialects`, `quotations`) or set by the user.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet

from mmnet.checks import InputError, did_you_mean, quoted, shown
from mmnet.data import dialects, file_kinds, json_rows, quotations, table_paths
from mmnet.data.dialects import NOTHING_SAID, Dialect, TextOptions
from mmnet.data.file_kinds import Kind
from mmnet.data.ledger import NOTES, Rule

BLOCK_BYTES = 1 << 24
"""Number of bytes of a text file to read at a time; a row must fit into it."""

CSV = Dialect()


@dataclass(frozen=True)
class TableFile:
    """A file whose columns are known.

    Attributes:
        path: path of the file.
        name: name of the table, for messages.
        kind: format by its first bytes.
        dialect: dialect of a text file.
        own: names of its columns, in their order; later duplicates are empty.
        repeated: names that occur more than once.
        folders: columns that its folders define, with the one value of all rows.
        lists: columns of a text file whose values are lists, separated by spaces.
    """

    path: Path
    name: str
    kind: Kind
    dialect: Dialect = CSV
    own: tuple[str, ...] = ()
    repeated: frozenset[str] = frozenset()
    folders: Mapping[str, str] = field(default_factory=dict)
    lists: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """Columns that can be read; the file's own take precedence over those of folders."""
        return [*dict.fromkeys(one for one in (*self.own, *self.folders) if one)]

    @property
    def is_parquet(self) -> bool:
        """True if it is Parquet."""
        return self.kind.format == "parquet"

    def where(self, row: int) -> str:
        """Returns the place of a row for a message."""
        if self.is_parquet:
            return f"{self.path} row {row + 1}"
        if self.kind.format == "json":
            place = json_rows.place(self.path, self.kind.packed, self.dialect.encoding, row)
            return f"{self.path} {place}"
        first = 0 if self.dialect.names else 1
        lines = (line for line, _ in records(self.path, self.settled().dialect))
        line = next((at for number, at in enumerate(lines) if number == row + first), row + 2)
        return f"{self.path} line {line}"

    def settled(self) -> TableFile:
        """Returns the file with its dialect fully detected, for which it is read completely.

        Raises:
            InputError: the dialect is ambiguous, or none fits.
        """
        if self.kind.format != "text" or self.dialect.settled:
            return self
        with readable(self.path, self.name, self.dialect):
            dialect = quotations.settled(self.path, self.dialect)
            found = replace(self, dialect=dialect)
            if dialect.quote != "backslash" or dialect.names:
                return found
            names, lists = _typed(header(self.path, dialect))
            return replace(found, lists=lists, **_told_apart(names))

    def complete(self) -> TableFile:
        """Returns the file with the columns of all rows of JSON, rather than of the first ones.

        Raises:
            InputError: it cannot be read.
        """
        if self.kind.format != "json":
            return self
        with readable(self.path, self.name, self.dialect):
            own = json_rows.names(self.path, self.kind.packed, self.dialect.encoding, every=True)
        return replace(self, own=tuple(own))

    def described(self) -> str:
        """Describes what is unusual about how it is read; empty if nothing is."""
        if self.kind.format == "json":
            return ", ".join(filter(None, ["JSON", self.dialect.described()]))
        return "" if self.is_parquet else self.settled().dialect.described()


def opened(
    pattern: str, name: str, said: TextOptions = NOTHING_SAID, wanted: Iterable[str] = ()
) -> list[TableFile]:
    """Opens the files of a table and detects their formats, dialects and columns.

    Args:
        pattern: the file, directory or glob pattern.
        name: name of the table, for messages.
        said: settings of the user for text files.
        wanted: names of the columns that are needed.

    Raises:
        InputError: as `table_paths.found`, or a file cannot be read.
    """
    files = table_paths.found(pattern, name)
    return [
        opened_file(path, name, said, tuple(wanted), files.folders.get(path, {}))
        for path in files.paths
    ]


def opened_file(
    path: Path,
    name: str,
    said: TextOptions = NOTHING_SAID,
    wanted: tuple[str, ...] = (),
    folders: Mapping[str, str] | None = None,
) -> TableFile:
    """Opens one file.

    Args:
        path: path of the file.
        name: name of the table, for messages.
        said: settings of the user for text files.
        wanted: names of the columns that are needed.
        folders: columns that its folders define, and the value of all rows.

    Raises:
        InputError: the file cannot be read.
    """
    with readable(path, name):
        state = os.stat(path)
        key = (path, state.st_size, state.st_mtime_ns, name, said, wanted)
        file = _opened(key)
    return replace(file, folders=dict(folders or {}))


@functools.lru_cache(maxsize=4096)
def _opened(key: tuple[Path, int, int, str, TextOptions, tuple[str, ...]]) -> TableFile:
    path, size, _, name, said, wanted = key
    if not size:
        raise _not_readable(path, name, "it is empty")
    kind = file_kinds.kind_of(path)
    if kind.format == "parquet":
        schema = pa.parquet.read_schema(path)
        return TableFile(path, name, kind, **_told_apart(names_of(path, schema)))
    encoding = kind.encoding or said.encoding or "utf-8"
    if kind.format == "json":
        dialect = Dialect(encoding=encoding, packed=kind.packed)
        own = json_rows.names(path, kind.packed, encoding, wanted=wanted)
        return TableFile(path, name, kind, dialect, tuple(own))
    dialect = dialects.dialect_of(path, kind, said, wanted)
    names, lists = _typed(header(path, dialect))
    if not any(names):
        raise _not_readable(path, name, "its header has no names" if names else "it is empty")
    return TableFile(path, name, kind, dialect, lists=lists, **_told_apart(names))


_TYPES = {"token": False, "token_seq": True, "float": False, "float_seq": True}


def _typed(names: list[str]) -> tuple[list[str], tuple[str, ...]]:
    """Removes the types from a header of RecBole's atomic files.

    Returns:
        Names, and those whose values are lists separated by spaces.

    >>> _typed(["item_id:token", "genre:token_seq"])
    (['item_id', 'genre'], ('genre',))
    """
    cut = [name.rpartition(":") for name in names]
    if not names or not all(name and kind in _TYPES for name, _, kind in cut):
        return names, ()
    return [name for name, _, _ in cut], tuple(name for name, _, kind in cut if _TYPES[kind])


def _told_apart(names: Sequence[str]) -> dict[str, Any]:
    """Returns the names with duplicates empty, and the names that were duplicates."""
    counts = Counter(names)
    first = {name: place for place, name in reversed(list(enumerate(names)))}
    own = [name if first[name] == place else "" for place, name in enumerate(names)]
    return {
        "own": tuple(own),
        "repeated": frozenset(name for name, count in counts.items() if name and count > 1),
    }


def laid_out(
    path: Path,
    name: str,
    dialect: Dialect,
    columns: Sequence[str] = (),
    said: TextOptions = NOTHING_SAID,
) -> TableFile:
    """Opens a file of a known layout, such as a publisher's.

    If the layout's separator does not find the columns of a text file, its separator is detected:
    another program may have saved it again.

    Args:
        path: path of the file.
        name: name of the table, for messages.
        dialect: its dialect, if it is text.
        columns: names of the columns that will be read.
        said: settings of the user for text files.

    Raises:
        InputError: the file cannot be read.
    """
    with readable(path, name):
        kind = file_kinds.kind_of(path) if os.path.getsize(path) else Kind("text")
        if kind.format != "text":
            return opened_file(path, name, said, tuple(columns))
        said = replace(said, quote=said.quote or "doubled")
        dialect = replace(
            dialect,
            separator=said.separator or dialect.separator,
            quote=said.quote,
            packed=kind.packed,
            encoding=kind.encoding or said.encoding or "utf-8",
        )
        names = list(dialect.names) or header(path, dialect)
        if not set(columns) <= set(names) and not dialect.names:
            other = dialects.dialect_of(path, kind, said, columns)
            found = header(path, other)
            if set(columns) <= set(found):
                dialect, names = other, found
    return TableFile(path, name, kind, dialect, **_told_apart(names))


def names_of(path: Path, schema: pa.Schema) -> list[str]:
    """Returns the names of the columns of a Parquet file.

    Args:
        path: of the file, for messages.
        schema: of the file.

    Raises:
        InputError: a name has an unknown encoding.
    """
    try:
        return schema.names
    except UnicodeDecodeError:
        raise InputError(
            f"{path}: the name of a column is not UTF-8 text; write the file again with UTF-8 names"
        ) from None


def header(path: Path, dialect: Dialect = CSV) -> list[str]:
    """Returns the stripped fields of a text file's first record; none if the file is empty.

    Args:
        path: path of the file.
        dialect: its dialect.

    Raises:
        OSError, EOFError, UnicodeError: the file is damaged, or has another encoding.
    """
    return next(([name.strip() for name in fields] for _, fields in records(path, dialect)), [])


def records(path: Path, dialect: Dialect = CSV) -> Iterator[tuple[int, list[str]]]:
    """Yields first line and fields of every record, including the header; skips empty lines.

    Args:
        path: path of the file.
        dialect: its dialect.

    Raises:
        OSError, EOFError, UnicodeError: the file is damaged, or has another encoding.
    """
    with dialects.as_csv(path, dialect) as stream:
        text = io.TextIOWrapper(stream, "utf-8", "replace", newline="")
        reader = dialects.csv_reader(text, dialect)
        line = 1
        for fields in reader:
            if fields:
                yield line, fields
            line = reader.line_num + 1


def rules(pattern: str, files: Sequence[TableFile]) -> list[Rule]:
    """Returns the ledger's lines about a table's files; none for a single standard file.

    Args:
        pattern: the file, directory or glob pattern.
        files: the opened files.
    """
    if not files:
        return []
    skipped = len(table_paths.found(pattern, files[0].name).skipped)
    ways = dict.fromkeys(file.described() for file in files)
    note = "; ".join(way or "as usual" for way in list(ways)[:NOTES]) if any(ways) else ""
    if len(files) == 1 and not skipped and not note:
        return []
    rule = "is read; what begins with . or _, or has another ending, is not"
    return [Rule(f"{files[0].name} files", rule, len(files) + skipped, len(files), note)]


def found_out(
    pattern: str, name: str, said: TextOptions = NOTHING_SAID, wanted: Iterable[str] = ()
) -> list[Rule]:
    """Returns the lines of `rules` about a table outside of a dataset; see `opened`."""
    return rules(pattern, opened(pattern, name, said, wanted))


# --------------------------------------------------------------------------------- columns

NAMES_SHOWN = 20
"""Maximum number of columns that a message lists."""


def need_column(origin: str, names: Sequence[str], column: str, flag: str) -> None:
    """Raises an error if a table lacks a column that a flag names.

    Args:
        origin: name of the table in the message.
        names: names of its columns.
        column: the column that is needed.
        flag: flag that names it.

    Raises:
        InputError: the column does not exist.

    >>> need_column("counts.csv", ["item_id", "clicks"], "click", "denominator")
    Traceback (most recent call last):
    mmnet.checks.InputError: counts.csv has no column 'click' (named by --denominator); it has \
item_id, clicks. Did you mean clicks?
    """
    if column not in names:
        listed = ", ".join(shown(name, 60) for name in names[:NAMES_SHOWN]) or "nothing in it"
        listed = shown(listed, 300)
        if len(names) > NAMES_SHOWN:
            listed += f" and {len(names) - NAMES_SHOWN:,} more"
        raise InputError(
            f"{origin} has no column {shown(repr(column), 60)} (named by --{flag}); it has {listed}"
            f"{did_you_mean(column, names)}"
        )


class Common(NamedTuple):
    """Columns that the files of a table have in common.

    Attributes:
        names: columns that each of them has exactly once.
        lacking: other column -> a sentence that names the file without it.
    """

    names: list[str]
    lacking: dict[str, str]


def common(files: Sequence[TableFile]) -> Common:
    """Finds the columns that all files of a table have.

    >>> one, two = (TableFile(Path(name), "items", Kind("text")) for name in ("a.csv", "b.csv"))
    >>> common([replace(one, own=("x", "y")), replace(two, own=("y",))])
    Common(names=['y'], lacking={'x': "b.csv has no column 'x', but a.csv has"})
    """
    lacking: dict[str, str] = {}
    first: dict[str, TableFile] = {}
    for file in files:
        for name in file.repeated:
            lacking[name] = f"{file.path} has two columns named {shown(repr(name), 60)}; rename one"
        first |= {name: first.get(name, file) for name in file.names}
    theirs = [(file, frozenset(file.names)) for file in files]
    for name, owner in first.items():
        without = next((file for file, names in theirs if name not in names), None)
        if without:
            sentence = f"{without.path} has no column {shown(repr(name), 60)}, but {owner.path} has"
            lacking.setdefault(name, sentence)
    return Common([name for name in first if name not in lacking], lacking)


def check_separator(place: str, fields: Sequence[str], separator: str) -> None:
    """Raises an error if a record is split by another separator than the expected one.

    Args:
        place: place of the record.
        fields: its fields by the expected separator.
        separator: the expected separator.

    Raises:
        InputError: the sentence names both separators.

    >>> check_separator("log.csv line 1", ["id;n"], ",")
    Traceback (most recent call last):
    mmnet.checks.InputError: log.csv line 1: its columns are separated by semicolons, but \
commas are expected
    """
    others = [one for one in (*dialects.SEPARATORS, " ") if one != separator and one in fields[0]]
    if len(fields) == 1 and others:
        other = max(others, key=fields[0].count)
        raise InputError(
            f"{place}: its columns are separated by {dialects.separator_name(other)}, but "
            f"{dialects.separator_name(separator)} are expected"
        )


# -------------------------------------------------------------------------------- messages


@contextlib.contextmanager
def readable(
    path: Path,
    name: str,
    dialect: Dialect = CSV,
    types: Mapping[str, pa.DataType] | None = None,
) -> Iterator[None]:
    """Turns an exception about a file into one sentence; a second pass finds the line.

    Args:
        path: path of the file.
        name: name of the table.
        dialect: dialect of a text file.
        types: types of its columns that must be whole numbers.
    """
    try:
        yield
    except UnicodeError as error:
        encoding = getattr(error, "encoding", dialect.encoding)
        raise _not_readable(
            path,
            name,
            f"it is not {encoding} text; set its encoding, as in --text_set=encoding=gbk",
        ) from None
    except file_kinds.DAMAGED as error:
        reason = getattr(error, "strerror", None) or str(error).split("\n")[0].rstrip(".")
    else:
        return
    if "Could not skip" in reason or "Empty CSV" in reason:
        raise no_rows(path, name)
    if "straddling" in reason:
        reason = f"a row is longer than {BLOCK_BYTES >> 20} MiB"
    # With one thread, Arrow puts "Row #2: " before "Expected".
    if "CSV parse error: " in reason and "Expected " in reason:
        _refuse_ragged(path, name, dialect)
    if "conversion error" in reason:
        _refuse_text(path, dialect, types or {})
    raise _not_readable(path, name, reason)


def no_rows(path: Path, name: str) -> InputError:
    """Returns the error about a table without rows.

    Args:
        path: path of its first file.
        name: name of the table.
    """
    return InputError(f"{path}: the {name} table has no rows")


def check_width(
    path: Path, name: str, line: int, fields: Sequence[str], width: int, dialect: Dialect
) -> None:
    """Raises an error if a record does not have as many fields as the table has columns.

    Args:
        path: path of the file.
        name: name of the table.
        line: line of the record.
        fields: fields of the record.
        width: expected number of fields.
        dialect: dialect of the file.

    Raises:
        InputError: the sentence has the line and both numbers.
    """
    if len(fields) == width:
        return
    if dialect.names:
        wanted = f"{width} are expected ({', '.join(dialect.names)})"
    else:
        separator = dialects.SEPARATORS.get(dialect.separator, "s").removesuffix("s")
        wanted = (
            f"the header of the {name} table has {width}; put quotes around a value that contains "
            f"a {separator or 'separator'} or a line break"
        )
    raise InputError(f"{path} line {line}: {len(fields)} fields, but {wanted}")


def _refuse_ragged(path: Path, name: str, dialect: Dialect) -> None:
    width = len(dialect.names)
    for line, fields in records(path, dialect):
        width = width or len(fields)
        check_width(path, name, line, fields, width, dialect)


def _refuse_text(path: Path, dialect: Dialect, types: Mapping[str, pa.DataType]) -> None:
    """Raises the error about text where a whole number is expected."""
    names = list(dialect.names)
    for line, fields in records(path, dialect):
        if not names:
            names = [field.strip() for field in fields]
            continue
        for column, kind in types.items():
            value = fields[names.index(column)].strip()
            if value and not _fits(value, kind):
                raise InputError(
                    f"{path} line {line}, column {column}: must be a whole number. "
                    f"Received: {quoted(value)}"
                )


def _fits(value: str, kind: pa.DataType) -> bool:
    try:
        pa.scalar(int(value), kind)
    except (ValueError, OverflowError, pa.ArrowInvalid):
        return False
    return True


def damaged(path: Path, name: str) -> InputError:
    """Returns the error about a Parquet file whose footer contradicts its row groups.

    Args:
        path: path of the file.
        name: name of the table.
    """
    reason = "its footer has another row count than the file contains; write the file again"
    return _not_readable(path, name, reason)


def _not_readable(path: Path, name: str, reason: str) -> InputError:
    ending = table_paths.ending(path)
    kind = {".pq": "parquet", ".jsonl": "json", ".ndjson": "json"}.get(ending, ending[1:])
    with contextlib.suppress(InputError, *file_kinds.DAMAGED):
        kind = file_kinds.kind_of(path).format if os.path.getsize(path) else kind
    word = {"parquet": "Parquet", "json": "JSON"}.get(kind, "CSV")
    return InputError(f"{path} is not a readable {word} file ({name} table): {shown(reason)}")
