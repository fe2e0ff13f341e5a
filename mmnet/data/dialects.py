r"""How a text file is written: its separator, quoting and encoding, found out or given.

Nothing is guessed from a few lines. Each way to read quotation marks is held against the whole
file, and one that cuts some record into another number of fields, or has text after a closing
quotation mark, is out:

    doubled     "a ""b"" c"     quotation marks enclose values; one inside is written twice
    backslash   "a \"b\" c"     the same, one inside follows a backslash
    none        a "b" c         quotation marks are letters like others

One is left: so it is read. Two are left and differ: the file is refused, with the line, and
`--text_set=quote=…` says which. None is left: refused with the line where the first one fails.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import io
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from mmnet.checks import InputError, did_you_mean
from mmnet.data import file_kinds

SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "vertical bars"}
SAMPLE_BYTES = 1 << 18
"""Read of a file to find its separator."""

BLOCK_BYTES = 1 << 20
"""Read at a time where the whole file is looked at."""

Quote = Literal["doubled", "backslash", "none"]
QUOTES: tuple[Quote, ...] = ("doubled", "backslash", "none")
_TABLES = ("counts", "items", "events", "vectors")


@dataclass(frozen=True)
class TextOptions:
    """What the user says of a text file; empty is found out.

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
        InputError: a setting that is none.

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
                "--text_set takes NAME=VALUE or TABLE.NAME=VALUE with the names separator, quote "
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
                f"--text_set={setting}: {value!r} is no encoding that Python knows, such as utf-8, "
                "utf-16, latin-1, cp1252, gbk, big5 or shift_jis"
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
        marks, runs, escaped = _marks(codes)
        outer = marks[~escaped]
        within = (np.searchsorted(outer, marks) + inside) % 2 == 1
        inside = (len(outer) + inside) % 2
        codes[marks[within & escaped] - 1] = _MARK
        keep = np.ones(len(codes), bool)
        for mark, run in zip(marks[within], runs[within], strict=True):
            keep[mark - run : mark - run + run // 2] = False
        yield codes[keep].tobytes()
    yield held


_MARK, _BACKSLASH, _NEWLINE, _RETURN = 0x22, 0x5C, 0x0A, 0x0D


def _marks(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places of quotation marks, backslashes right before each, and whether they escape it."""
    marks = np.flatnonzero(codes == _MARK)
    slashes = np.flatnonzero(codes == _BACKSLASH)
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
        said: what the user says.
        wanted: columns that are needed: the separator is the one that finds them.

    Raises:
        OSError, EOFError, UnicodeDecodeError: it is damaged, or of another encoding.
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


def settled(path: Path, dialect: Dialect) -> Dialect:
    """The same with its quotation marks found out, which the whole file decides.

    Raises:
        InputError: two ways to read it are as good as each other and differ, or no way fits.
        OSError, EOFError, UnicodeDecodeError: it is damaged, or of another encoding.
    """
    if dialect.settled:
        return dialect
    state = os.stat(path)
    quote, breaks = _quoting(path, dialect, state.st_size, state.st_mtime_ns)
    return replace(dialect, quote=quote, line_breaks=breaks, settled=True)


def opened(path: Path, dialect: Dialect) -> contextlib.AbstractContextManager[BinaryIO]:
    """The bytes of a file in UTF-8, unpacked; raises what `file_kinds.decoded` raises."""
    return file_kinds.decoded(path, dialect.packed, dialect.encoding)


@contextlib.contextmanager
def as_csv(path: Path, dialect: Dialect) -> Iterator[BinaryIO]:
    """The same bytes with the quotation marks inside values doubled, as in any CSV file."""
    with opened(path, dialect) as stream:
        if dialect.quote == "backslash":
            pieces = iter(lambda: stream.read(file_kinds.PIECE_BYTES), b"")
            yield file_kinds.stream_of(as_doubled(pieces))
        else:
            yield stream


def separator_of(sample: bytes, wanted: Sequence[str] = (), quote: str = "") -> str:
    r"""The separator of a file, by its first lines.

    The first of these that one separator alone fulfils decides: it finds the wanted columns in
    the header; it cuts every record into as many fields as the header; it cuts the header most.

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


@dataclass
class _Candidate:
    """One way to read quotation marks, held against a file block by block.

    Attributes:
        quote: which.
        separator: between columns, as a byte.
        fails: the first line that speaks against it, and why.
        ragged: whether that is a record of another width.
        unclosed: whether that is a mark that is open at the end of the file.
        breaks: the first line with a quoted value that holds a line break.
        escapes: the first line where a backslash before a mark in a quoted value is no letter.
    """

    quote: Quote
    separator: int
    fails: tuple[int, str] | None = None
    ragged: bool = False
    unclosed: bool = False
    breaks: int | None = None
    escapes: int | None = None
    _inside: int = 0
    _opened: int = 0
    _width: int | None = None
    _fields: int = 0
    _begun: int | None = None

    def feed(self, codes: np.ndarray, line: int, newlines: np.ndarray) -> None:
        """Takes the next block.

        Args:
            codes: its bytes, [length]; the last one ends a line.
            line: number of its first line.
            newlines: where its lines end, ascending.
        """
        if self.fails:
            return
        is_mark = codes == _MARK
        if self.quote == "none" or not (self._inside or is_mark.any()):
            self._judge(codes, line, newlines, newlines, codes == self.separator, (len(codes), ""))
            return
        if self.quote == "backslash" and _BACKSLASH in codes:
            marks, runs, escaped = _marks(codes)
            is_mark[marks[escaped]] = False
        # Whether a byte, or what follows a mark, is inside a quoted value.
        inside = np.bitwise_xor.accumulate(is_mark.view(np.uint8)) ^ self._inside
        if self.quote == "backslash" and self.escapes is None and _BACKSLASH in codes:
            within = inside[marks] != is_mark[marks]
            undone = marks[within & (runs > 0)]
            if len(undone):
                self.escapes = self._line(line, newlines, undone[0])
        outside = inside == 0
        ends = newlines[outside[newlines]]
        if len(ends) < len(newlines) or inside[-1]:
            self._remember(codes, line, newlines, is_mark & ~outside, outside)
        wrong = self._wrong_mark(codes, is_mark, outside)
        separators = (codes == self.separator) & outside
        self._judge(codes, line, newlines, ends, separators, wrong)
        self._inside = int(inside[-1])

    def _remember(
        self,
        codes: np.ndarray,
        line: int,
        newlines: np.ndarray,
        opening: np.ndarray,
        outside: np.ndarray,
    ) -> None:
        """Keeps where the last quoted value opens, and the first one with a line break."""
        # The second of two marks that are one inside a value opens none.
        opening[1:] &= codes[:-1] != _MARK
        places = np.flatnonzero(opening)
        inner = newlines[~outside[newlines]]
        if len(inner) and self.breaks is None:
            before = places[: np.searchsorted(places, inner[0])]
            self.breaks = self._line(line, newlines, before[-1]) if len(before) else self._opened
        if len(places):
            self._opened = self._line(line, newlines, places[-1])

    def end(self) -> None:
        """Takes the end of the file."""
        if self._inside and not self.fails:
            self.unclosed = True
            self.fails = (self._opened, "its quotation mark is never closed")

    @staticmethod
    def _line(line: int, newlines: np.ndarray, place: int) -> int:
        return line + int(np.searchsorted(newlines, place))

    def _wrong_mark(
        self, codes: np.ndarray, is_mark: np.ndarray, outside: np.ndarray
    ) -> tuple[int, str]:
        """Where a value is quoted in part, and why; the end of the block if none is."""
        border = (codes == self.separator) | (codes == _NEWLINE) | (codes == _RETURN)
        if self.quote == "doubled":
            border |= is_mark
        # A mark that opens a value follows a border, and one that closes it is before one.
        good = ~is_mark
        good[0] |= not outside[0]
        good[1:] |= border[:-1] & ~outside[1:]
        good[:-1] |= border[1:] & outside[:-1]
        first = int(np.argmin(good))
        if good[first]:
            return len(codes), ""
        what = "is followed by more of the value" if outside[first] else "stands inside a value"
        return first, f"a quotation mark {what}"

    def _judge(
        self,
        codes: np.ndarray,
        line: int,
        newlines: np.ndarray,
        ends: np.ndarray,
        separators: np.ndarray,
        wrong: tuple[int, str],
    ) -> None:
        """Every record has as many fields as the first one; empty lines are none.

        What speaks against this first in the file is kept: a record of another width, or the
        wrong mark.
        """
        if not wrong[1] and self._all_alike(len(codes), ends, separators):
            return
        total = np.cumsum(separators, dtype=np.int32)
        before = total[ends]
        fields = np.diff(before, prepend=0)
        starts = np.append(0, ends + 1)
        begun = self._begun
        if len(ends):
            fields[0] += self._fields
            last = codes[starts[:-1]] == _RETURN  # of an empty line that Windows ended
            filled = ends - starts[:-1] > last
            filled[0] |= begun is not None
            self._check_widths(line, newlines, starts, ends, fields, filled, wrong[0])
            self._fields = int(total[-1] - before[-1])
            self._begun = None
        else:
            self._fields += int(total[-1])
        if starts[-1] < len(codes) and self._begun is None:
            self._begun = self._line(line, newlines, int(starts[-1]))
        if wrong[1] and not self.fails:
            self.fails = (self._line(line, newlines, wrong[0]), wrong[1])

    def _all_alike(self, length: int, ends: np.ndarray, separators: np.ndarray) -> bool:
        """Whether all records of a block of whole ones are as wide as the header: a quick look."""
        if not self._width or self._begun is not None or not len(ends) or ends[-1] < length - 1:
            return False
        places, each = np.flatnonzero(separators), self._width - 1
        if len(places) != each * len(ends):
            return False
        rows = places.reshape(len(ends), each)
        return not each or bool((rows[:, -1] < ends).all() and (rows[1:, 0] > ends[:-1]).all())

    def _check_widths(
        self,
        line: int,
        newlines: np.ndarray,
        starts: np.ndarray,
        ends: np.ndarray,
        fields: np.ndarray,
        filled: np.ndarray,
        limit: int,
    ) -> None:
        """Compares the records that end before a place in the block with the header."""
        records = np.flatnonzero(filled & (ends < limit))
        if not len(records):
            return
        widths = fields[records] + 1
        if self._width is None:
            self._width = int(widths[0])
        if (widths == self._width).all():
            return
        first = int(np.argmax(widths != self._width))
        record = int(records[first])
        at = self._line(line, newlines, int(starts[record]))
        if record == 0 and self._begun is not None:
            at = self._begun
        self.ragged = True
        self.fails = (at, f"{widths[first]} fields where the header has {self._width}")


def _blocks(stream: BinaryIO) -> Iterator[bytes]:
    """Whole lines of a stream; the last one ends with a line break whether it had one or not."""
    held: list[bytes] = []
    while block := stream.read(BLOCK_BYTES):
        if held and held[-1].endswith(b"\r"):  # its line break may have a second half
            held[-1], block = held[-1][:-1], b"\r" + block
        cut = max(block.rfind(b"\n"), block.rfind(b"\r", 0, -1)) + 1
        if cut:
            yield b"".join([*held, block[:cut]])
            held, block = [], block[cut:]
        if block:
            held.append(block)
    if held:
        last = b"".join(held)
        yield last if last.endswith(b"\r") else last + b"\n"


def _line_ends(block: bytes, codes: np.ndarray) -> np.ndarray:
    r"""Where the lines of a block end: at \n, \r\n, or \r as an old Macintosh wrote."""
    newlines = np.flatnonzero(codes == _NEWLINE)
    if b"\r" not in block:
        return newlines
    returns = np.flatnonzero(codes == _RETURN)
    lone = returns[codes[np.minimum(returns + 1, len(codes) - 1)] != _NEWLINE]
    return np.sort(np.concatenate([newlines, lone])) if len(lone) else newlines


@functools.lru_cache(maxsize=4096)
def _quoting(path: Path, dialect: Dialect, size: int, changed: int) -> tuple[Quote, bool]:
    """How a file's quotation marks are read, and whether quoted values hold line breaks."""
    if dialect.quote == "none":
        return "none", False
    with opened(path, dialect) as stream:
        if not any(b'"' in block for block in _blocks(stream)):
            return "doubled", False
    first: Quote = "backslash" if dialect.quote == "backslash" else "doubled"
    candidates, escapes = _tried(path, dialect, [first])
    quote = first
    if dialect.quote:
        _check_closed(path, dialect, candidates[first])
    elif escapes or candidates[first].fails or candidates[first].breaks:
        # Else the other ways cannot be better.
        candidates |= _tried(path, dialect, QUOTES[1:])[0]
        quote = _chosen(path, dialect, candidates)
    found = candidates[quote]
    return quote, found.fails is not None or found.breaks is not None


def _tried(
    path: Path, dialect: Dialect, quotes: Sequence[Quote]
) -> tuple[dict[Quote, _Candidate], bool]:
    """Holds some ways to read quotation marks against a file.

    Returns:
        What was found of each, and whether there is a backslash before a mark.
    """
    candidates = {quote: _Candidate(quote, ord(dialect.separator)) for quote in quotes}
    line, escapes = 1, False
    with opened(path, dialect) as stream:
        for block in _blocks(stream):
            codes = np.frombuffer(block, np.uint8)
            newlines = _line_ends(block, codes)
            for one in candidates.values():
                one.feed(codes, line, newlines)
            escapes = escapes or b'\\"' in block
            line += len(newlines)
    for one in candidates.values():
        one.end()
    return candidates, escapes


def _check_closed(path: Path, dialect: Dialect, only: _Candidate) -> None:
    """Refuses a file that ends inside a quoted value: its last rows would be one value.

    Everything else that speaks against it shows where it is read.
    """
    if not only.fails or only.ragged:
        return
    at = only.fails[0] if only.unclosed else _never_closed(path, dialect)
    if at is not None:
        raise InputError(
            f"{path} line {at}: its quotation mark is never closed; close it, or set "
            "--text_set=quote=none if quotation marks are letters like others"
        )


def _never_closed(path: Path, dialect: Dialect) -> int | None:
    """Line of the record whose quotation mark is open at the end, by the rules of `csv`."""
    last, at, found = "\0", 1, [""]
    with as_csv(path, dialect) as stream:
        text = io.TextIOWrapper(stream, "utf-8", "replace", newline="")
        reader = csv_reader(itertools.chain(text, ["\n", last]), dialect)
        line = 1
        for fields in reader:
            found, at, line = fields, line, reader.line_num + 1
    return None if found == [last] else at


def _chosen(path: Path, dialect: Dialect, candidates: Mapping[Quote, _Candidate]) -> Quote:
    doubled, backslash, none = (candidates[quote] for quote in QUOTES)
    escaped = None if backslash.fails else backslash.escapes
    if not doubled.fails:
        if escaped:
            raise _ambiguous(path, escaped, "backslash", "a backslash before a quotation mark")
        if doubled.breaks and not none.fails:
            raise _ambiguous(path, doubled.breaks, "none", "the quotation mark that opens there")
        return "doubled"
    if escaped:
        return "backslash"
    lenient = _first_difference(path, dialect)
    at, why = doubled.fails
    if none.fails and (lenient is not None or doubled.ragged):
        return "doubled"  # where it is read, the record of another width is refused
    if none.fails:
        raise InputError(
            f"{path} line {at}: {why}; put quotation marks around the whole value and double those "
            "inside, or set --text_set=quote=none if they are letters like others"
        )
    if lenient:
        raise _ambiguous(path, lenient, "none", "the quotation marks around a value")
    if _header_changes(path, dialect):
        raise InputError(
            f"{path} line {at}: {why}, but quotation marks enclose names in the header; put "
            "quotation marks around the whole value and double those inside, or set "
            "--text_set=quote=none if they are letters like others, in the header too"
        )
    return "none"


def _ambiguous(path: Path, line: int, other: str, what: str) -> InputError:
    return InputError(
        f"{path} line {line}: {what} can be read in two ways; set --text_set=quote=doubled "
        f"(quotation marks enclose values) or --text_set=quote={other}"
    )


def _header_changes(path: Path, dialect: Dialect) -> bool:
    """Whether the header has other names if its quotation marks are letters."""
    found: list[list[str]] = []
    for quote in ("doubled", "none"):
        with opened(path, dialect) as stream:
            text = io.TextIOWrapper(stream, "utf-8", "replace", newline="")
            rows = csv_reader(text, replace(dialect, quote=quote))
            found.append(next((row for row in rows if row), []))
    return found[0] != found[1]


def _first_difference(path: Path, dialect: Dialect) -> int | None:
    """Where reading a quotation mark inside an unquoted value as a letter makes a difference.

    Returns:
        None where the file cannot be read that way; 0 where it can, and quotation marks enclose
        no value; else the first line where they do.
    """
    first, width = 0, 0
    try:
        for line, fields, raw in _strict_records(path, dialect):
            width = width or len(fields)
            if len(fields) != width:
                return None
            if not first and raw != dialect.separator.join(fields):
                first = line
    except csv.Error:
        return None
    return first


def _strict_records(path: Path, dialect: Dialect) -> Iterator[tuple[int, list[str], str]]:
    raw: list[str] = []

    def lines(text: Iterable[str]) -> Iterator[str]:
        for one in text:
            raw.append(one)
            yield one

    with opened(path, dialect) as stream:
        text = io.TextIOWrapper(stream, "utf-8", "replace", newline="")
        reader = csv_reader(lines(text), dialect, strict=True)
        line = 1
        for fields in reader:
            if fields:
                yield line, fields, "".join(raw).rstrip("\r\n")
            raw.clear()
            line = reader.line_num + 1


def csv_reader(lines: Iterable[str], dialect: Dialect, *, strict: bool = False) -> Any:
    """A reader of the `csv` module for text in which quotation marks inside values are doubled."""
    csv.field_size_limit(1 << 30)  # else a text of more than 128 KiB is an error
    quoting: Literal[0, 3] = csv.QUOTE_NONE if dialect.quote == "none" else csv.QUOTE_MINIMAL
    return csv.reader(lines, delimiter=dialect.separator, quoting=quoting, strict=strict)
