"""Dialects of text files: separator and encoding, detected or given; and their bytes as CSV.

`quotations` detects the quoting style, which needs the whole file.
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
"""Number of bytes to read to detect a file's separator."""

Quote = Literal["doubled", "backslash", "none"]
QUOTES: tuple[Quote, ...] = ("doubled", "backslash", "none")
_TABLES = ("counts", "items", "events", "vectors", "only_items", "pairs", "item_scores")


@dataclass(frozen=True)
class TextOptions:
    """Settings of the user for a text file; empty ones are detected.

    Attributes:
        separator: one character.
        quote: doubled, backslash or none.
        encoding: name of the encoding in Python, such as gbk or latin-1.
    """

    separator: str = ""
    quote: str = ""
    encoding: str = ""


NOTHING_SAID = TextOptions()


def text_options(settings: Sequence[str], table: str) -> TextOptions:
    r"""Parses the settings of `--text_set` that apply to a table.

    Args:
        settings: NAME=VALUE for all tables, TABLE.NAME=VALUE for one of them.
        table: counts, items, events, vectors or another.

    Raises:
        InputError: a name or a value is unknown.

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
                "--text_set must be NAME=VALUE or TABLE.NAME=VALUE, where NAME is separator, quote "
                f"or encoding, such as --text_set=items.encoding=gbk. Received: {setting!r}"
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
                f"--text_set={setting}: a separator must be one ASCII character, \\t for a tab. "
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
    """Format of a text file.

    Attributes:
        separator: separator of columns.
        quote: quoting style, see `quotations`; empty if it is not known yet.
        encoding: name of the encoding in Python.
        packed: compression, see `file_kinds.Kind`.
        names: all columns of a file without a header line; empty if the file has one.
        line_breaks: whether quoted values have line breaks, once the quoting style is known.
        settled: whether the whole file was scanned.
    """

    separator: str = ","
    quote: str = ""
    encoding: str = "utf-8"
    packed: str = ""
    names: tuple[str, ...] = ()
    line_breaks: bool = True
    settled: bool = False

    def described(self) -> str:
        """Describes what is unusual for a CSV file; empty if nothing is.

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
    """Returns a separator in words.

    >>> separator_name("|"), separator_name("~")
    ('vertical bars', "'~'")
    """
    return SEPARATORS.get(separator, "spaces" if separator == " " else repr(separator))


def as_doubled(pieces: Iterable[bytes]) -> Iterator[bytes]:
    r"""Doubles the quotation marks inside values that are escaped by a backslash.

    In a run of backslashes before a quotation mark inside a quoted value, two stand for one;
    elsewhere they are ordinary characters.

    >>> b"".join(as_doubled([rb'a,"say \"hi\" to",c:\d,"e\\"'])).decode().split(",")
    ['a', '"say ""hi"" to"', 'c:\\d', '"e\\"']
    """
    inside, held = 0, b""
    for piece in pieces:
        data = held + piece
        kept = data.rstrip(b"\\")  # a run of backslashes may continue in the next chunk
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
        codes: bytes of the text, [length].

    Returns:
        Their positions, ascending; the number of backslashes right before each; and whether those
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
    """Detects the format of a text file with a header line, except for its quoting style.

    Args:
        path: path of the file.
        kind: format by its first bytes.
        said: settings of the user.
        wanted: names of the columns that are needed; the right separator finds them.

    Raises:
        OSError, EOFError, UnicodeError: the file is damaged, or has another encoding.
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
    """Opens a file as decompressed bytes in UTF-8.

    Args:
        path: path of the file.
        dialect: its encoding and compression.
        watch: see `file_kinds.decoded`.

    Raises:
        InputError, OSError, EOFError, UnicodeError: as `file_kinds.decoded`.
    """
    return file_kinds.decoded(path, dialect.packed, dialect.encoding, watch)


@contextlib.contextmanager
def as_csv(path: Path, dialect: Dialect, watch: Watch | None = None) -> Iterator[BinaryIO]:
    """Opens a file like `opened`, with quotation marks inside values doubled as in standard CSV.

    Args:
        path: path of the file.
        dialect: format of the file.
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
    r"""Detects the separator of a file by its first lines.

    Candidates are separators that occur in the header. They are narrowed down to those with which
    the wanted columns are found, then to those that split every record into equally many fields,
    then to the one with the most fields. A criterion that no candidate meets is skipped.

    Args:
        sample: first bytes of the file.
        wanted: names of the columns that are needed.
        quote: quoting style, if it is known.

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
            rows.pop()  # the last line of the sample is incomplete
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
    """Returns a reader of the `csv` module, for text with doubled quotation marks inside values.

    Args:
        lines: lines of the text, with their ends.
        dialect: its separator, and whether quotation marks are ordinary characters.
        strict: whether text after a closing quotation mark is an error.
    """
    csv.field_size_limit(1 << 30)  # else a text of more than 128 KiB is an error
    quoting: Literal[0, 3] = csv.QUOTE_NONE if dialect.quote == "none" else csv.QUOTE_MINIMAL
    return csv.reader(lines, delimiter=dialect.separator, quoting=quoting, strict=strict)
