"""Quotation marks of a text file: which way to read them the whole file allows.

Each way is held against all records, block by block; see `dialects` for the ways and what decides.
"""

from __future__ import annotations

import csv
import functools
import io
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mmnet.checks import InputError
from mmnet.data.dialects import (
    MARK,
    NEWLINE,
    QUOTES,
    RETURN,
    Dialect,
    Quote,
    as_csv,
    csv_reader,
    marks_of,
    opened,
)

BLOCK_BYTES = 1 << 24
"""Read at a time."""


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
        separators = np.flatnonzero(codes == self.separator)
        if self.quote == "none":
            self._judge(codes, line, newlines, newlines, separators, (len(codes), ""))
            return
        marks, runs, escaped = marks_of(codes)
        if self.quote == "backslash":
            outer = marks[~escaped]
            within = (self._inside + np.searchsorted(outer, marks)) % 2 == 1
            inside = marks[within & (runs > 0)]
            if len(inside) and self.escapes is None:
                self.escapes = self._line(line, newlines, inside[0])
            marks = outer
        ends = self._outside(newlines, marks)
        inner = newlines[~ends]
        # The second of two marks that are one inside a value opens none.
        opening = marks[self._inside :: 2]
        opening = opening[(opening == 0) | (codes[opening - 1] != MARK)]
        if len(inner) and self.breaks is None:
            before = opening[: np.searchsorted(opening, inner[0])]
            self.breaks = self._line(line, newlines, before[-1]) if len(before) else self._opened
        separators = separators[self._outside(separators, marks)]
        wrong = self._wrong_mark(codes, marks)
        self._judge(codes, line, newlines, newlines[ends], separators, wrong)
        if len(opening):
            self._opened = self._line(line, newlines, opening[-1])
        self._inside = (len(marks) + self._inside) % 2

    def end(self) -> None:
        """Takes the end of the file."""
        if self._inside and not self.fails:
            self.unclosed = True
            self.fails = (self._opened, "its quotation mark is never closed")

    def _outside(self, places: np.ndarray, marks: np.ndarray) -> np.ndarray:
        return (np.searchsorted(marks, places) + self._inside) % 2 == 0

    @staticmethod
    def _line(line: int, newlines: np.ndarray, place: int) -> int:
        return line + int(np.searchsorted(newlines, place))

    def _wrong_mark(self, codes: np.ndarray, marks: np.ndarray) -> tuple[int, str]:
        """Where a value is quoted in part, and why; the end of the block if none is."""
        opening = (np.arange(len(marks)) + self._inside) % 2 == 0
        border = np.zeros(256, bool)
        border[[self.separator, NEWLINE, RETURN]] = True
        border[MARK] = self.quote == "doubled"
        beside = np.where(opening, codes[marks - 1], codes[np.minimum(marks + 1, len(codes) - 1)])
        good = border[beside] | (opening & (marks == 0))
        if good.all():
            return len(codes), ""
        first = int(np.argmin(good))
        what = "stands inside a value" if opening[first] else "is followed by more of the value"
        return int(marks[first]), f"a quotation mark {what}"

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
        before = np.searchsorted(separators, ends)
        fields = np.diff(before, prepend=0)
        starts = np.append(0, ends + 1)
        begun = self._begun
        if len(ends):
            fields[0] += self._fields
            last = codes[starts[:-1]] == RETURN  # of an empty line that Windows ended
            filled = ends - starts[:-1] > last
            filled[0] |= begun is not None
            self._check_widths(line, newlines, starts, ends, fields, filled, wrong[0])
            self._fields = len(separators) - int(before[-1])
            self._begun = None
        else:
            self._fields += len(separators)
        if starts[-1] < len(codes) and self._begun is None:
            self._begun = self._line(line, newlines, int(starts[-1]))
        if wrong[1] and not self.fails:
            self.fails = (self._line(line, newlines, wrong[0]), wrong[1])

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
    newlines = np.flatnonzero(codes == NEWLINE)
    if b"\r" not in block:
        return newlines
    returns = np.flatnonzero(codes == RETURN)
    lone = returns[codes[np.minimum(returns + 1, len(codes) - 1)] != NEWLINE]
    return np.sort(np.concatenate([newlines, lone])) if len(lone) else newlines


@functools.lru_cache(maxsize=4096)
def _quoting(path: Path, dialect: Dialect, size: int, changed: int) -> tuple[Quote, bool]:
    """How a file's quotation marks are read, and whether quoted values hold line breaks."""
    if dialect.quote == "none":
        return "none", False
    with opened(path, dialect) as stream:
        if not any(b'"' in block for block in _blocks(stream)):
            return "doubled", False
    quotes = [quote for quote in QUOTES if dialect.quote in ("", quote)]
    candidates = {quote: _Candidate(quote, ord(dialect.separator)) for quote in quotes}
    line = 1
    with opened(path, dialect) as stream:
        for block in _blocks(stream):
            codes = np.frombuffer(block, np.uint8)
            newlines = _line_ends(block, codes)
            for one in candidates.values():
                one.feed(codes, line, newlines)
            line += len(newlines)
    for one in candidates.values():
        one.end()
    if dialect.quote:
        (only,) = candidates.values()
        _check_closed(path, dialect, only)
        return only.quote, only.fails is not None or only.breaks is not None
    quote = _chosen(path, dialect, candidates)
    found = candidates[quote]
    return quote, found.fails is not None or found.breaks is not None


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
