r"""Quoting style of text files, decided by their whole content.

A few lines would not be enough to decide. Three styles are compared with every record of a file:

    doubled     "a ""b"" c"     marks enclose values, and one inside a value is written twice
    backslash   "a \"b\" c"     the same, but one inside a value follows a backslash
    none        a "b" c         marks are ordinary characters

A style fails if a record has another number of fields than the header, if only part of a value is
quoted, or if the file ends inside a value. `doubled` is used if it fits, `backslash` if only that
fits and some mark follows a backslash, and `none` if marks enclose no value. A file that fits two
styles with different values is an error, and so is one that fits none; the message has the line,
and `--text_set=quote=` decides.
"""

from __future__ import annotations

import csv
import functools
import io
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mmnet.checks import InputError
from mmnet.data.dialects import (
    BACKSLASH,
    MARK,
    QUOTES,
    Dialect,
    Quote,
    as_csv,
    csv_reader,
    marks_of,
    opened,
)

BLOCK_BYTES = 1 << 20
"""Number of bytes to read at a time when scanning a whole file."""

_NEWLINE, _RETURN = 0x0A, 0x0D


def settled(path: Path, dialect: Dialect) -> Dialect:
    """Detects the quoting style, and whether quoted values contain line breaks.

    Args:
        path: path of a text file.
        dialect: what is known of its format; a given quoting style is kept.

    Returns:
        The dialect with both filled in.

    Raises:
        InputError: two styles give different values, none fits, or the file ends inside a value.
        OSError, EOFError, UnicodeError: the file is damaged, or has another encoding.
    """
    if dialect.settled:
        return dialect
    state = os.stat(path)
    quote, breaks = _quoting(path, dialect, state.st_size, state.st_mtime_ns)
    return replace(dialect, quote=quote, line_breaks=breaks, settled=True)


@dataclass
class _Candidate:
    """One quoting style, compared with a file block by block.

    Attributes:
        quote: the style.
        separator: separator of columns, as a byte.
        fails: the first line where it fails, and the reason.
        ragged: whether the reason is a record with another number of fields.
        unclosed: whether the reason is a quotation mark that is never closed.
        breaks: the first line with a quoted value that contains a line break.
        escapes: the first line with an escaping backslash before a mark in a quoted value.
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
        """Processes the next block.

        Args:
            codes: bytes of the block, [length]; the last one ends a line.
            line: number of its first line.
            newlines: positions of its line ends, ascending.
        """
        if self.fails:
            return
        is_mark = codes == MARK
        if self.quote == "none" or not (self._inside or is_mark.any()):
            self._judge(codes, line, newlines, newlines, codes == self.separator, (len(codes), ""))
            return
        if self.quote == "backslash" and BACKSLASH in codes:
            marks, runs, escaped = marks_of(codes)
            is_mark[marks[escaped]] = False
        # Whether a byte, or what follows a mark, is inside a quoted value.
        inside = np.bitwise_xor.accumulate(is_mark.view(np.uint8)) ^ self._inside
        if self.quote == "backslash" and self.escapes is None and BACKSLASH in codes:
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
        """Records where the last quoted value opens, and the first one with a line break."""
        # In a doubled mark inside a value, the second mark does not open a value.
        opening[1:] &= codes[:-1] != MARK
        places = np.flatnonzero(opening)
        inner = newlines[~outside[newlines]]
        if len(inner) and self.breaks is None:
            before = places[: np.searchsorted(places, inner[0])]
            self.breaks = self._line(line, newlines, before[-1]) if len(before) else self._opened
        if len(places):
            self._opened = self._line(line, newlines, places[-1])

    def end(self) -> None:
        """Processes the end of the file."""
        if self._inside and not self.fails:
            self.unclosed = True
            self.fails = (self._opened, "a quotation mark is never closed")

    @staticmethod
    def _line(line: int, newlines: np.ndarray, place: int) -> int:
        return line + int(np.searchsorted(newlines, place))

    def _wrong_mark(
        self, codes: np.ndarray, is_mark: np.ndarray, outside: np.ndarray
    ) -> tuple[int, str]:
        """Finds where only part of a value is quoted, and why; the end of the block if nowhere."""
        border = (codes == self.separator) | (codes == _NEWLINE) | (codes == _RETURN)
        if self.quote == "doubled":
            border |= is_mark
        # An opening mark follows a separator or line start; a closing one precedes a separator.
        good = ~is_mark
        good[0] |= not outside[0]
        good[1:] |= border[:-1] & ~outside[1:]
        good[:-1] |= border[1:] & outside[:-1]
        first = int(np.argmin(good))
        if good[first]:
            return len(codes), ""
        what = "is followed by more of the value" if outside[first] else "is inside a value"
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
        """Checks that every record has as many fields as the first one, and that marks are valid.

        Keeps the first failure in the file: a record with another number of fields or a wrong mark.
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
        """Checks quickly whether all records of a block of whole records match the header."""
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
        """Compares the records that end before a position in the block with the header."""
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
        self.fails = (at, f"{widths[first]} fields, but the header has {self._width}")


def _blocks(stream: BinaryIO) -> Iterator[bytes]:
    """Yields whole lines of a stream; a missing line break at the end is added."""
    held: list[bytes] = []
    while block := stream.read(BLOCK_BYTES):
        if held and held[-1].endswith(b"\r"):  # a \n may follow in the next chunk
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
    r"""Finds the line ends of a block: \n, \r\n, or \r as in old Macintosh files."""
    newlines = np.flatnonzero(codes == _NEWLINE)
    if b"\r" not in block:
        return newlines
    returns = np.flatnonzero(codes == _RETURN)
    lone = returns[codes[np.minimum(returns + 1, len(codes) - 1)] != _NEWLINE]
    return np.sort(np.concatenate([newlines, lone])) if len(lone) else newlines


@functools.lru_cache(maxsize=4096)
def _quoting(path: Path, dialect: Dialect, size: int, changed: int) -> tuple[Quote, bool]:
    """Returns the quoting style, and whether quoted values contain line breaks."""
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
        # Otherwise the other styles cannot fit better.
        candidates |= _tried(path, dialect, QUOTES[1:])[0]
        quote = _chosen(path, dialect, candidates)
    found = candidates[quote]
    return quote, found.fails is not None or found.breaks is not None


def _tried(
    path: Path, dialect: Dialect, quotes: Sequence[Quote]
) -> tuple[dict[Quote, _Candidate], bool]:
    """Compares quoting styles with a file.

    Returns:
        The result for each, and whether there is a backslash before a mark.
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
    """Raises an error if a file ends inside a quoted value, which would swallow its last rows.

    All other failures are reported when the rows are read.
    """
    if not only.fails or only.ragged:
        return
    at = only.fails[0] if only.unclosed else _never_closed(path, dialect)
    if at is not None:
        raise InputError(
            f"{path} line {at}: a quotation mark is never closed; close it, or set "
            "--text_set=quote=none if quotation marks are ordinary characters"
        )


def _never_closed(path: Path, dialect: Dialect) -> int | None:
    """Returns the line of the record whose quotation mark is never closed, by the `csv` module."""
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
        return "doubled"  # the record with another number of fields is reported when it is read
    if none.fails:
        raise InputError(
            f"{path} line {at}: {why}; put quotation marks around the whole value and double those "
            "inside, or set --text_set=quote=none if they are ordinary characters"
        )
    if lenient:
        raise _ambiguous(path, lenient, "none", "the quotation marks around a value")
    if _header_changes(path, dialect):
        raise InputError(
            f"{path} line {at}: {why}, but quotation marks enclose names in the header; put "
            "quotation marks around the whole value and double those inside, or set "
            "--text_set=quote=none if they are ordinary characters, in the header too"
        )
    return "none"


def _ambiguous(path: Path, line: int, other: str, what: str) -> InputError:
    return InputError(
        f"{path} line {line}: {what} is ambiguous; set --text_set=quote=doubled "
        f"(quotation marks enclose values) or --text_set=quote={other}"
    )


def _header_changes(path: Path, dialect: Dialect) -> bool:
    """Checks whether the header has other names if quotation marks are ordinary characters."""
    found: list[list[str]] = []
    for quote in ("doubled", "none"):
        with opened(path, dialect) as stream:
            text = io.TextIOWrapper(stream, "utf-8", "replace", newline="")
            rows = csv_reader(text, replace(dialect, quote=quote))
            found.append(next((row for row in rows if row), []))
    return found[0] != found[1]


def _first_difference(path: Path, dialect: Dialect) -> int | None:
    """Finds where reading a mark inside an unquoted value as an ordinary character matters.

    Returns:
        None if the file cannot be read that way; 0 if it can and no value is quoted; otherwise
        the first line with a quoted value.
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
