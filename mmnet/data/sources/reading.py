"""Publishers' files, read in batches, with checks against their layout; and sums by key.

A log of hundreds of millions of rows is read in chunks; only the sums stay in memory.
"""

from __future__ import annotations

import glob as globbing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from mmnet.checks import InputError, did_you_mean, quoted, shown
from mmnet.config import TableFlags
from mmnet.data import spelling, table_files, table_paths, table_reading
from mmnet.data.columns import integers, is_list, lost_digits
from mmnet.data.dialects import NOTHING_SAID, Dialect, TextOptions
from mmnet.data.ledger import Rule
from mmnet.data.table_files import TableFile
from mmnet.data.tables import Table

MISSING = ("", "nan", "NaN")
"""Texts that publishers write for empty values."""

ARCHIVES = (".zip", ".tgz", ".tar", ".tar.gz", ".7z", ".rar")


# ----------------------------------------------------------------------------------- files


def given(source_dir: str) -> Path | None:
    """Returns the directory of `--source_dir`, if it is set.

    Raises:
        InputError: it is not a directory.
    """
    directory = Path(source_dir) if source_dir else None
    if directory and not directory.is_dir():
        raise InputError(f"--source_dir={directory} is not a directory")
    return directory


def needed(directory: Path | None, source: str) -> Path:
    """Returns the directory of a source that needs one.

    Raises:
        InputError: it was not given.
    """
    if directory is None:
        raise InputError(
            f"--source={source} needs --source_dir, the directory of the publisher's files"
        )
    return directory


def find(directory: Path, pattern: str, option: str) -> list[Path]:
    """Finds the files of a publisher by name or glob pattern, sorted.

    Raises:
        InputError: no file matches; the sentence lists files that exist.
    """
    table_paths.refuse_table_formats(directory, "source_dir")
    found = _globbed(directory, pattern)
    if found:
        return found
    there = sorted(path.name for path in directory.iterdir() if path.name[0] != ".")
    stem = pattern.strip("*").partition(".")[0]
    packed = [name for name in there if name.endswith(ARCHIVES) and stem in name]
    if packed:
        hint = f"; unpack {packed[0]} first"
    else:
        listed = ", ".join(there[:8]) + (", ..." if len(there) > 8 else "")
        hint = f"; the directory has {listed or 'no files'}{did_you_mean(pattern, there)}"
    raise InputError(f"{directory / pattern}: no such file (--source_set={option}){hint}")


def _globbed(directory: Path, pattern: str) -> list[Path]:
    if (directory / pattern).is_file():  # its name may look like a glob pattern
        return [directory / pattern]
    paths = sorted(directory / path for path in globbing.glob(pattern, root_dir=directory))
    return [path for path in paths if path.is_file()]


def optional(directory: Path, pattern: str | None, default: str | None, option: str) -> list[Path]:
    """Finds optional files of a source: none if the default name does not exist.

    Raises:
        InputError: another name was given, and no such file exists.
    """
    if pattern is None or (pattern == default and not _globbed(directory, pattern)):
        return []
    return find(directory, pattern, option)


def refuse_text_set(text_set: Sequence[str], names: Sequence[str]) -> None:
    """Raises an error for settings of text files that concern JSON files of a source.

    Args:
        text_set: settings of the user for text files.
        names: names of the tables with JSON files.

    Raises:
        InputError: a setting concerns one of them.
    """
    for setting in text_set:
        if setting.partition(".")[0] in names:
            raise InputError(
                f"--text_set={setting}: the publisher's {setting.partition('.')[0]} are lines of "
                "JSON in UTF-8, which has no such settings; remove it"
            )


# ------------------------------------------------------------------------------------ scan


@dataclass
class Scan:
    """One pass over the files of one layout, in batches that know the places of their rows.

    Columns of text files are read as strings, empty where empty, unless `types` sets a type. A
    header line that is repeated further down (in joined files) is left out.

    Attributes:
        paths: CSV (also .gz, .bz2, .zst) or Parquet files.
        columns: names of the columns to read.
        option: the source's option that names the files, for messages.
        names: all columns of a file without a header line.
        delimiter: separator of columns.
        types: types of columns to read as numbers; all their values must be numbers.
        name: description of the rows, for the ledger.
        said: settings of the user for text files.
        rows: number of rows read so far.
        repeated_headers: number of repeated header lines left out so far.
    """

    paths: Sequence[Path]
    columns: Sequence[str]
    option: str
    names: tuple[str, ...] = ()
    delimiter: str = ","
    types: Mapping[str, pa.DataType] = field(default_factory=dict)
    name: str = "rows"
    said: TextOptions = NOTHING_SAID
    rows: int = 0
    repeated_headers: int = 0

    def __iter__(self) -> Iterator[Table]:
        """Yields the batches of all files, in order.

        Raises:
            InputError: a file cannot be read, a column does not exist, or there are no rows.
        """
        for path in self.paths:
            yield from self._batches(path)
        if not self.rows:
            raise table_files.no_rows(self.paths[0], self.option)

    def rule(self) -> Rule:
        """Returns the ledger's line about the pass."""
        before = self.rows + self.repeated_headers
        return Rule(self.name, "is not a repeated header line", before, self.rows)

    def whole(self) -> Table:
        """Returns all rows at once, for small files."""
        batches = list(self)
        parts = [batch.data for batch in batches]
        try:
            data = pa.concat_tables(parts, promote_options="permissive")
        except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
            raise InputError(
                f"{self.paths[0].parent}: the {self.option} files have values of different types "
                f"({shown(error)}); write all files with the same types"
            ) from None
        files, starts, places, before = [], [], [], 0
        for path in self.paths:
            mine = [batch for batch in batches if batch.paths == (path,)]
            inside = [_places(batch) for batch in mine]
            files.append(self.opened(path))
            starts.append(before)
            places += [before + place for place in inside]
            before += int(max((place.max() for place in inside if len(place)), default=-1)) + 1
        return Table(data, self.name, tuple(files), tuple(starts), np.concatenate(places))

    def _batches(self, path: Path) -> Iterator[Table]:
        """Yields the batches of one file, after checking its columns."""
        file = self.opened(path)
        start = 0
        for batch in table_reading.batches(file, self.columns, types=self.types):
            table = Table(pa.Table.from_batches([batch]), self.name, (file,), (start,))
            start -= len(table)
            if file.kind.format == "text" and not self.names:
                table = self._without_headers(table)
            self.rows += len(table)
            yield table

    def _without_headers(self, batch: Table) -> Table:
        first = self.columns[0]
        if self.types.get(first):
            return batch
        again = pc.equal(pc.utf8_trim_whitespace(batch.data[first]), first)
        if not pc.any(again).as_py():
            return batch
        again = again.to_numpy(zero_copy_only=False)
        self.repeated_headers += int(again.sum())
        return batch.keep(~again)

    def opened(self, path: Path) -> TableFile:
        """Opens one of the files, and checks that it has the columns to read.

        Raises:
            InputError: one of them is missing or duplicate; a record of a file without a
                header line is of another layout.
        """
        dialect = Dialect(self.delimiter, names=self.names)
        file = table_files.laid_out(path, self.option, dialect, self.columns, self.said)
        if file.kind.format == "text" and self.names:
            self._check_first(file)
            return file
        names, lacking = table_files.common([file])
        for column in self.columns:
            if column in lacking:  # publishers' other columns may be there twice: they are not read
                raise InputError(f"{lacking[column]} (named by --source_set={self.option})")
            if column not in names:
                table_files.check_separator(str(path), file.own or [""], self.delimiter)
            table_files.need_column(str(path), names, column, f"source_set={self.option}")
        return file

    def _check_first(self, file: TableFile) -> None:
        """Raises an error if the first record of a file without header has another layout."""
        path, dialect = file.path, file.dialect
        with table_files.readable(path, self.option):
            line, fields = next(table_files.records(path, dialect), (0, []))
        if not fields:
            raise table_files.no_rows(path, self.option)
        table_files.check_separator(f"{path} line {line}", fields, dialect.separator)
        if [name.strip() for name in fields] == list(self.names):
            raise InputError(f"{path} line {line}: unexpected header line; remove it")
        table_files.check_width(path, self.option, line, fields, len(self.names), dialect)


def _places(batch: Table) -> np.ndarray:
    rows = np.arange(len(batch)) if batch.row_numbers is None else batch.row_numbers
    return rows - batch.starts[0]


# --------------------------------------------------------------------------------- columns


def id_column(table: Table, column: str) -> pa.ChunkedArray:
    """Ids of a column; see `ids`.

    Raises:
        InputError: an id that passed through a float that cannot hold it, with its row.
    """
    return ids(table.data[column], lambda row: table.where(row, column))


def ids(
    data: pa.Array | pa.ChunkedArray, where: Callable[[int], str] | None = None
) -> pa.ChunkedArray:
    """Ids as strings, empty where missing; "123.0" is 123, and 007 keeps its zeros.

    Args:
        data: the ids.
        where: names one of the rows, for messages.

    Raises:
        InputError: an id that passed through a float that cannot hold it.

    >>> ids(pa.array(["007", " 123.0", "NaN"])).to_pylist()
    ['007', '123', '']
    >>> ids(pa.array([7.0, None])).to_pylist()
    ['7', '']
    """
    data = data if isinstance(data, pa.ChunkedArray) else pa.chunked_array([data])
    lost = spelling.lost_digits(data)
    if lost.any():
        row = int(np.argmax(lost))
        place = where(row) if where else "the source's files"
        raise InputError(lost_digits(place, data[row].as_py()))
    text = spelling.texts(data)
    return pc.if_else(pc.is_in(text, pa.array(MISSING, text.type)), "", text)


def whole_numbers(
    batch: Table, column: str, option: str, *, what: str, allow_empty: bool = False
) -> pa.ChunkedArray:
    """A column of whole numbers of 0 or more as int64, null where empty.

    Raises:
        InputError: another value, or an empty one where that is not allowed, with its row.
    """
    data = spelling.plain(batch.need(column, f"source_set={option}"))
    if spelling.is_text(data.type):
        data = pc.utf8_trim_whitespace(data)
        data = pc.if_else(pc.is_in(data, pa.array(MISSING, data.type)), None, data)
    empty = np.asarray(data.is_null())
    if empty.any() and not allow_empty:
        row = int(np.argmax(empty))
        raise InputError(f"{batch.where(row, column)}: {what} must not be empty")
    try:
        numbers = data.cast(pa.int64())
        lowest = pc.min(numbers).as_py()
        if lowest is None or lowest >= 0:
            return numbers
    except pa.ArrowInvalid:
        pass
    written = batch.keep(~empty)  # "1.0" is whole too; anything else is named here
    numbers = integers(written, column, f"source_set={option}", what=what)
    filled = np.zeros(len(batch), np.int64)
    filled[~empty] = numbers
    return pa.chunked_array([pa.array(filled, mask=empty)])


def zero_or_one(
    batch: Table, column: str, option: str, *, allow_empty: bool = False
) -> pa.ChunkedArray:
    """A column of 0 and 1 as int64, null where empty.

    Raises:
        InputError: another value, with its row.
    """
    numbers = whole_numbers(batch, column, option, what="a label", allow_empty=allow_empty)
    highest = pc.max(numbers).as_py()
    if highest is not None and highest > 1:
        row = int(np.argmax(pc.fill_null(pc.greater(numbers, 1), False).to_numpy()))
        raise InputError(
            f"{batch.where(row, column)}: a label must be 0 or 1. "
            f"Received: {batch.data[column][row].as_py()!r}"
        )
    return numbers


def days(batch: Table, column: str) -> pa.ChunkedArray:
    """Dates written as 20220425 or 2022-04-25, as date32.

    Raises:
        InputError: a value that is no date, with its row.
    """
    text = id_column(batch, column)
    text = pc.replace_substring_regex(text, r"^(\d{4})-(\d{2})-(\d{2})$", r"\1\2\3")
    eight = pc.match_substring_regex(text, r"^\d{8}$")
    times = pc.strptime(pc.if_else(eight, text, ""), format="%Y%m%d", unit="s", error_is_null=True)
    if times.null_count:
        row = int(np.argmax(np.asarray(times.is_null())))
        raise InputError(
            f"{batch.where(row, column)}: a date must be written as 20220425. "
            f"Received: {batch.data[column][row].as_py()!r}"
        )
    return times.cast(pa.date32())


def chosen(
    flag: str, name: str, *, contract: str, option: str, default: str, columns: Sequence[str]
) -> str:
    """The publisher's column behind `--numerator` or `--denominator`.

    It is the one of that name; the contract's own word, shares or clicks, means what the source's
    option says.

    Raises:
        InputError: there is no such column.
    """
    if name in columns:
        return name
    given, wanted = (f"source_set={option}", default) if name == contract else (flag, name)
    if wanted not in columns:
        raise InputError(
            f"--{given}={wanted}: no such column to count; available: {', '.join(columns)}"
            f"{did_you_mean(wanted, columns)}"
        )
    return wanted


def lists_of(rows: np.ndarray, values: pa.Array, number: int) -> pa.ListArray:
    """A column of lists from (row, value) pairs that are in the order of the rows.

    >>> lists_of(np.array([0, 0, 2]), pa.array(["a", "b", "c"]), 3).to_pylist()
    [['a', 'b'], [], ['c']]
    """
    offsets = np.append(0, np.cumsum(np.bincount(rows, minlength=number))).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values)


def pieces(text: pa.ChunkedArray, separator: str) -> tuple[np.ndarray, pa.Array]:
    """Splits texts at a separator: row and text of each part, without empty parts."""
    cut = pc.split_pattern(text.combine_chunks(), separator)
    rows = pc.list_parent_indices(cut)
    parts = pc.utf8_trim_whitespace(pc.list_flatten(cut))
    written = pc.invert(pc.is_in(parts, pa.array(MISSING)))
    return rows.filter(written).to_numpy().astype(np.int64), parts.filter(written)


def unique(rows: np.ndarray, values: pa.Array) -> tuple[np.ndarray, pa.Array]:
    """(row, value) pairs without repeats of a value in a row, in the order they came."""
    pairs = pd.DataFrame({"row": rows, "value": values.to_numpy(zero_copy_only=False)})
    kept = ~pairs.duplicated().to_numpy()
    return rows[kept], values.filter(pa.array(kept))


def one_row_each(table: Table, key: str, name: str) -> tuple[Table, Rule]:
    """Leaves out exact duplicates of an earlier row with the same key.

    Raises:
        InputError: two rows of one key that differ.
    """
    who = id_column(table, key).to_pandas()
    again = who.duplicated().to_numpy()
    if again.any():
        frame = pd.DataFrame({name: _flat(table.data[name]) for name in table.data.column_names})
        first = frame.groupby(who.to_numpy(), sort=False).transform("first")
        differs = (frame != first).any(axis=1).to_numpy()
        if differs.any():
            row = int(np.argmax(differs))
            raise InputError(
                f"{table.where(row, key)}: duplicate {key} {quoted(who[row])}, with other "
                "values than in its first row; keep one of the two rows"
            )
    rule = Rule(name, f"{key} has no earlier row", len(table), int((~again).sum()))
    return table.keep(~again), rule


def _flat(data: pa.ChunkedArray) -> pd.Series:
    """Any column as text that can be compared."""
    text = pc.binary_join(data, ";") if is_list(data.type) else data.cast(pa.string())
    return pc.fill_null(text, "").to_pandas()


# ------------------------------------------------------------------------------------ sums


class Totals:
    """Sums, minima and maxima per key of tables that come one after another.

    Memory grows with the number of keys, not of rows: what has come is put together whenever it
    has doubled.

    >>> totals = Totals(["item"], {"rows": "sum", "author": "min"})
    >>> for author in (7, 5):
    ...     totals.add(pa.table({"item": ["a", "b"], "rows": [1, 2], "author": [author, 9]}))
    >>> totals.table().to_pylist()
    [{'item': 'a', 'rows': 2, 'author': 5}, {'item': 'b', 'rows': 4, 'author': 9}]
    """

    def __init__(self, keys: Sequence[str], how: Mapping[str, str], *, at_once: int = 1 << 22):
        self._keys, self._how = list(keys), dict(how)
        self._parts: list[pa.Table] = []
        self._at_once, self._limit, self._waiting = at_once, at_once, 0

    def add(self, rows: pa.Table) -> None:
        """Adds rows; columns are the keys and the values to aggregate."""
        self._parts.append(rows)
        self._waiting += len(rows)
        if self._waiting > self._limit:
            self._settle()

    def table(self) -> pa.Table:
        """Returns one row per key, sorted by the keys; no columns if there were no rows."""
        if not self._parts:
            return pa.table({})
        self._settle()
        return self._parts[0].sort_by([(key, "ascending") for key in self._keys])

    def _settle(self) -> None:
        self._parts = [self._together(pa.concat_tables(self._parts))]
        self._waiting = len(self._parts[0])
        self._limit = max(self._at_once, 2 * self._waiting)

    def _together(self, rows: pa.Table) -> pa.Table:
        grouped = rows.group_by(self._keys).aggregate(list(self._how.items()))
        return pa.table(
            {key: grouped[key] for key in self._keys}
            | {name: grouped[f"{name}_{how}"] for name, how in self._how.items()}
        )


def ones(number: int) -> pa.Array:
    """Returns a column of ones, whose sum is the number of rows."""
    return pa.repeat(pa.scalar(1, pa.int64()), number)


# --------------------------------------------------------------------------------- vectors


class Vectors:
    """Content vectors of one kind, gathered batch by batch into a `--vectors` table.

    A shorter vector is filled up with zeros at its end, an empty one stays empty: none. Of two
    vectors of one item the first counts.

    Args:
        name: of the vectors.
        length: of each.
    """

    def __init__(self, name: str, length: int):
        self._name, self._length = name, length
        self._who: list[pa.Array] = []
        self._lists: list[pa.Array] = []
        self._filled = 0

    def add(self, who: pa.ChunkedArray, lists: pa.ListArray, where: Callable[[int], str]) -> None:
        """Adds the vectors of one batch; `where` returns the place of a row.

        Raises:
            InputError: a vector is too long.
        """
        lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
        if (lengths > self._length).any():
            row = int(np.argmax(lengths > self._length))
            raise InputError(
                f"{where(row)}: a vector of {lengths[row]} numbers, but {self._length} are expected"
            )
        self._who.extend(who.chunks)
        self._lists.append(padded(lists, lengths, self._length))
        self._filled += int(((lengths > 0) & (lengths < self._length)).sum())

    def table(self, flags: TableFlags) -> tuple[Table, list[Rule]]:
        """Returns item ids and vectors, and the ledger of what was left out and padded."""
        who = pa.chunked_array(self._who, pa.string())
        lists = pa.chunked_array(self._lists, pa.list_(pa.float32()))
        there = pc.and_(pc.not_equal(who, ""), pc.greater(pc.list_value_length(lists), 0))
        found = pa.table({flags.item_column: who, "vector": lists}).filter(there)
        first = ~found[flags.item_column].to_pandas().duplicated().to_numpy()
        note = f"{self._filled} shorter ones were padded with zeros"
        rules = [
            Rule(self._name, "is not empty", len(who), len(found), note),
            Rule(self._name, "is the item's first", len(found), int(first.sum())),
        ]
        return Table(found.filter(pa.array(first)), self._name), rules


def padded(lists: pa.ListArray, lengths: np.ndarray, length: int) -> pa.ListArray:
    """Fills vectors up to a length with zeros at their end; empty ones stay empty.

    >>> padded(pa.array([[1.0], [], [2.0, 3.0]]), np.array([1, 0, 2]), 2).to_pylist()
    [[1.0, 0.0], [], [2.0, 3.0]]
    """
    ends = np.append(0, np.cumsum(np.where(lengths > 0, length, 0))).astype(np.int32)
    flat = pc.list_flatten(lists).cast(pa.float32()).to_numpy(zero_copy_only=False)
    if len(flat) < ends[-1]:
        filled = np.zeros(ends[-1], np.float32)
        inside = np.arange(len(flat)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        filled[np.repeat(ends[:-1], lengths) + inside] = flat
        flat = filled
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(flat))
