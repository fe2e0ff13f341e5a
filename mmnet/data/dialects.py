"""How a text file is written: its separator and encoding, found out or given; its bytes as CSV.

Its quotation marks, which the whole file decides, are found out in `quotations`.
"""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from mmnet.checks import InputError, did_you_mean
from mmnet.data import file_kinds
from mmnet.data.file_kinds import Watch

SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "vertical bars"}
SAMPLE_BYTES = 1 << 18
"""Read of a file to find its separator."""

Quote = Literal["doubled", "backslash", "none"]
QUOTES: tuple[Quote, ...] = ("doubled", "backslash", "none")
_TABLES = ("counts", "items", "events", "vectors", "only_items", "pairs", "item_scores")


@dataclass(frozen=True)
class TextOptions:
    """What the user sets for a text file; what is empty is found out.

    Attributes:
        separator: one character.
        quote: doubled, backslash or none.
        encoding: as Python calls it, such as gbk or latin-1.
    """

    separator: str = ""
    quote: str = ""
    encoding: str = ""


NOTHING_SAID = TextOptions()


def text_options(settings: Sequence[str], table: str) -> TextOptions:
    r"""Reads the settings of `--text_set` that concern a table.

    Args:
        settings: NAME=VALUE for all tables, TABLE.NAME=VALUE for one.
        table: counts, items, events, vectors or another.

    Raises:
        InputError: a setting is unknown, or its value is.

    >>> text_options(["encoding=gbk", "items.separator=\\t"], "items")
    TextOptions(separator='\t', quote='', encoding='gbk')
    """
    found: dict[str, str] = {}
    for setting in settings:
        name, sign, value = setting.partition("=")
        whose, dot, name = name.rpartition(".")
        known = name in TextOptions.__dataclass_fields__ and (not dot or whose in _TABLES)
        if not sign or not known:
            raise InputError(
                "--text_set accepts NAME=VALUE or TABLE.NAME=VALUE with the names separator, quote "
                f"and encoding, such as --text_set=items.encoding=gbk. Received: {setting!r}"
                + did_you_mean(name, TextOptions.__dataclass_fields__)
            )
        checked = _checked(name, value, setting)
        if not dot or whose == table:
            found[name] = checked
    return TextOptions(**found)


def _checked(name: str, value: str, setting: str) -> str:
    if name == "separator":
        value = {"\\t": "\t", "tab": "\t"}.get(value, value)
        if len(value) != 1 or value in '"\r\n\\' or not value.isascii():
            raise InputError(
                f"--text_set={setting}: a separator is one ASCII character, \\t for a tab. "
                f"Received: {value!r}"
            )
    elif name == "quote" and value not in QUOTES:
        raise InputError(
            f"--text_set={setting}: quote must be one of {', '.join(QUOTES)}. Received: {value!r}"
        )
    elif name == "encoding":
        try:
            "".encode(value)
            b"".decode(value)
        except (LookupError, ValueError):
            raise InputError(
                f"--text_set={setting}: {value!r} is not an encoding that Python knows, such as "
                "utf-8, utf-16, latin-1, cp1252, gbk, big5 or shift_jis"
            ) from None
    return value


@dataclass(frozen=True)
class Dialect:
    """How a text file is written.

    Attributes:
        separator: between columns.
        quote: how quotation marks are read, see the module; empty where it is not settled yet.
        encoding: as Python calls it.
        packed: see `file_kinds.Kind`.
        names: all columns of a file without a header line; empty where the file has one.
        line_breaks: whether quoted values hold line breaks, once it is settled.
        settled: whether the whole file was looked at.
    """

    separator: str = ","
    quote: str = ""
    encoding: str = "utf-8"
    packed: str = ""
    names: tuple[str, ...] = ()
    line_breaks: bool = True
    settled: bool = False

    def described(self) -> str:
        """In words, what is not as in any CSV file; empty where all is.

        >>> Dialect(";", encoding="utf-16", packed="gzip").described()
        'separated by semicolons, in utf-16, packed by gzip'
        """
        words = []
        if self.separator != ",":
            words.append(f"separated by {separator_name(self.separator)}")
        if self.quote == "backslash":
            words.append("quotation marks inside values follow a backslash")
        if self.quote == "none":
            words.append("quotation marks are part of the values")
        if self.encoding not in ("utf-8", "utf-8-sig"):
            words.append(f"in {self.encoding}")
        if self.packed:
            words.append(f"packed by {self.packed}")
        return ", ".join(words)


def separator_name(separator: str) -> str:
    """A separator in words.

    >>> separator_name("|"), separator_name("~")
    ('vertical bars', "'~'")
    """
    return SEPARATORS.get(separator, "spaces" if separator == " " else repr(separator))


def as_doubled(pieces: Iterable[bytes]) -> Iterator[bytes]:
    r"""Doubles the quotation marks inside values, where they follow a backslash.

    Of backslashes before a quotation mark inside a quoted value, two are one; elsewhere they are
    letters like others.

    >>> b"".join(as_doubled([rb'a,"say \"hi\" to",c:\d,"e\\"'])).decode().split(",")
    ['a', '"say ""hi"" to"', 'c:\\d', '"e\\"']
    """
    inside, held = 0, b""
    for piece in pieces:
        data = held + piece
        kept = data.rstrip(b"\\")  # a run of backslashes may be longer than the piece
        held = data[len(kept) :]
        if b'"' not in kept:
            yield kept
            continue
        codes = np.frombuffer(kept, np.uint8).copy()
        marks, runs, escaped = marks_of(codes)
        outer = marks[~escaped]
        within = (np.searchsorted(outer, marks) + inside) % 2 == 1
        inside = (len(outer) + inside) % 2
        codes[marks[within & escaped] - 1] = MARK
        keep = np.ones(len(codes), bool)
        for mark, run in zip(marks[within], runs[within], strict=True):
            keep[mark - run : mark - run + run // 2] = False
        yield codes[keep].tobytes()
    yield held


MARK, BACKSLASH = 0x22, 0x5C
"""A quotation mark and a backslash, as bytes."""


def marks_of(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Finds the quotation marks of a text.

    Args:
        codes: its bytes, [length].

    Returns:
        Where they are, ascending; how many backslashes are right before each; and whether those
        escape it. All [marks].
    """
    marks = np.flatnonzero(codes == MARK)
    slashes = np.flatnonzero(codes == BACKSLASH)
    runs = np.zeros(len(marks), np.int64)
    if len(slashes):
        first = np.flatnonzero(np.diff(slashes, prepend=-2) != 1)  # of each run
        starts = slashes[first]
        ends = np.append(slashes[first[1:] - 1], slashes[-1])
        at = np.searchsorted(ends, marks - 1)
        at = np.minimum(at, len(ends) - 1)
        before = ends[at] == marks - 1
        runs[before] = marks[before] - starts[at[before]]
    return marks, runs, runs % 2 == 1


# -------------------------------------------------------------------------------- found out


def dialect_of(
    path: Path, kind: file_kinds.Kind, said: TextOptions, wanted: Iterable[str] = ()
) -> Dialect:
    """Finds out how a text file with a header line is written, but for its quotation marks.

    Args:
        path: of the file.
        kind: what it is by its first bytes.
        said: what the user set.
        wanted: columns that are needed: the separator is the one that finds them.

    Raises:
        OSError, EOFError, UnicodeError: it is damaged, or of another encoding.
    """
    found = Dialect(
        encoding=kind.encoding or said.encoding or "utf-8",
        packed=kind.packed,
        separator=said.separator or ",",
        quote=said.quote,
    )
    if said.separator:
        return found
    with as_csv(path, found) as stream:
        sample = stream.read(SAMPLE_BYTES)
    return replace(found, separator=separator_of(sample, tuple(wanted), said.quote))


def opened(
    path: Path, dialect: Dialect, watch: Watch | None = None
) -> contextlib.AbstractContextManager[BinaryIO]:
    """The bytes of a file in UTF-8, unpacked.

    Args:
        path: of the file.
        dialect: its encoding and packing.
        watch: see `file_kinds.decoded`.

    Raises:
        InputError, OSError, EOFError, UnicodeError: as `file_kinds.decoded`.
    """
    return file_kinds.decoded(path, dialect.packed, dialect.encoding, watch)


@contextlib.contextmanager
def as_csv(path: Path, dialect: Dialect, watch: Watch | None = None) -> Iterator[BinaryIO]:
    """The same bytes with the quotation marks inside values doubled, as in any CSV file.

    Args:
        path: of the file.
        dialect: how it is written.
        watch: see `file_kinds.decoded`.

    Raises:
        InputError, OSError, EOFError, UnicodeError: as `opened`.
    """
    with opened(path, dialect, watch) as stream:
        if dialect.quote == "backslash":
            pieces = iter(lambda: stream.read(file_kinds.PIECE_BYTES), b"")
            yield file_kinds.stream_of(as_doubled(pieces))
        else:
            yield stream


def separator_of(sample: bytes, wanted: Sequence[str] = (), quote: str = "") -> str:
    r"""The separator of a file, by its first lines.

    Of the separators that cut the header, those are left that find the wanted columns in it; of
    these, those that cut every record into as many fields; of these, those that cut it most. A
    rule that none fulfils is left out.

    Args:
        sample: the first bytes of the file.
        wanted: columns that are needed.
        quote: how quotation marks are read, if that is known.

    >>> separator_of(b"id;size, cm\na;1,5\n", ["id"]), separator_of(b"item_id,tags\na,x|y\n")
    (';', ',')
    """
    text = sample.decode("utf-8", "replace")
    widths: dict[str, list[int]] = {}
    headers: dict[str, list[str]] = {}
    for separator in SEPARATORS:
        reader = csv_reader(io.StringIO(text, newline=""), Dialect(separator, quote))
        rows = [row for row in reader if row]
        if len(sample) >= SAMPLE_BYTES and len(rows) > 1:
            rows.pop()  # the end of the sample cuts it
        if rows and len(rows[0]) > 1:
            headers[separator] = [name.strip() for name in rows[0]]
            widths[separator] = [len(row) for row in rows]
    able = list(headers)
    tests = (
        lambda one: set(wanted) <= set(headers[one]),
        lambda one: len(set(widths[one])) == 1,
        lambda one: len(headers[one]) == max(len(headers[other]) for other in able),
    )
    for test in tests:
        able = [one for one in able if test(one)] or able
    return able[0] if able else ","


def csv_reader(lines: Iterable[str], dialect: Dialect, *, strict: bool = False) -> Any:
    """A reader of the `csv` module for text in which quotation marks inside values are doubled.

    Args:
        lines: of the text, with their ends.
        dialect: its separator, and whether quotation marks are letters.
        strict: whether text after a closing quotation mark is an error.
    """
    csv.field_size_limit(1 << 30)  # else a text of more than 128 KiB is an error
    quoting: Literal[0, 3] = csv.QUOTE_NONE if dialect.quote == "none" else csv.QUOTE_MINIMAL
    return csv.reader(lines, delimiter=dialect.separator, quoting=quoting, strict=strict)
