"""Numbers written as text: plain, with decimal commas, or with thousands separators.

A column of text has one format, which must fit all of its values:

    12.5   1,090.5   ->  decimal point, commas between thousands
    12,5   1.090     ->  decimal comma, points between thousands
    1,090  250       ->  1090 or 1.09: ambiguous; as a count it can only be 1090

If two formats fit and give different numbers, an error asks for `--decimal` or `--thousands`.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmnet.checks import InputError
from mmnet.config import TableFlags
from mmnet.console import notes
from mmnet.data import spelling
from mmnet.data.ledger import Rule
from mmnet.data.parquet import PIECE_ROWS
from mmnet.data.tables import Rows, Table

EMPTY = (
    *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "1.#IND", "1.#QNAN"),
    *("N/A", "NA", "NULL", "n/a", "null", "NaN", "-NaN", "nan", "-nan", r"\N"),
)
"""Texts that mean "no number": Arrow's list, and `\\N` of Hive and MySQL."""

SAMPLE = 1000
"""Values that rule out most formats."""

_MARKS = {".": r"\.", ",": ",", " ": "[ \u00a0\u2009\u202f]", "'": "['\u2019]"}
"""Marks -> regular expressions of their variants, such as non-breaking spaces."""

_NAMES = {".": "a point", ",": "a comma", " ": "a space", "'": "an apostrophe"}


@dataclass(frozen=True)
class Marks:
    """Number format of a column.

    Attributes:
        decimal: the decimal mark, a point or a comma.
        thousands: thousands separator, between groups of three digits; empty: none.
        example: a value with marks, and the number that it means.
    """

    decimal: str = "."
    thousands: str = ""
    example: str = field(default="", compare=False)

    @property
    def pattern(self) -> str:
        """Regular expression that matches a number."""
        point, digits = _MARKS[self.decimal], "[0-9]"
        found = [
            rf"{digits}+({point}{digits}*)?([eE][+-]?{digits}+)?",
            rf"{point}{digits}+([eE][+-]?{digits}+)?",
            "[iI][nN][fF]([iI][nN][iI][tT][yY])?",
            "[nN][aA][nN]",
        ]
        if self.thousands:
            group = rf"({_MARKS[self.thousands]}{digits}{{3}})+"
            found.append(rf"[1-9]{digits}{{0,2}}{group}({point}{digits}*)?")
        return rf"^[+-]?({'|'.join(found)})$"

    def describe(self) -> str:
        """Describes the marks in words.

        >>> Marks(",", ".").describe()
        'a comma before decimals and a point between thousands'
        """
        marks = [f"{_NAMES[self.decimal]} before decimals"] if self.decimal != "." else []
        marks += [f"{_NAMES[self.thousands]} between thousands"] if self.thousands else []
        return " and ".join(marks)


PLAIN = Marks()
READINGS = tuple(
    Marks(point, thousands)
    for point in ".,"
    for thousands in ("", ",", ".", " ", "'")
    if point != thousands
)
"""The formats to try, the plainer ones first."""


def recognised(
    rows: Rows,
    column: str,
    flag: str,
    flags: TableFlags,
    *,
    whole: bool = False,
    usual: Marks | None = None,
) -> Marks:
    """Detects the number format of a column of text; other columns need none.

    Args:
        rows: the table.
        column: name of the column.
        flag: flag that names the column.
        flags: flags that may set the marks.
        whole: whether all numbers must be whole, as counts are.
        usual: format to choose if several fit: that of the training data.

    Returns:
        The format that fits, or if none does, the one that fits most values.

    Raises:
        InputError: two formats fit, and give different numbers.
    """
    tally = _Tally(readings(flags), whole)
    if column in rows.names and not _may_be_text(rows.schema.field(column).type):
        return PLAIN
    for piece in rows.pieces(PIECE_ROWS, {column: flag}):
        data = piece.need(column, flag)
        if not spelling.is_text(data.type):
            return PLAIN
        tally.add(piece, column, data)
    return tally.decided(usual)


def of_numerics(
    items: Rows, flags: TableFlags, usual: Mapping[str, Marks] | None = None
) -> dict[str, Marks]:
    """Detects the number format of every numeric column of the items table; see `recognised`.

    Args:
        items: the items table.
        flags: flags that name the columns.
        usual: column -> format of the training data, where it is not plain; None while a model is
            fitted.
    """
    found = {}
    for column in flags.numerics:
        prior = None if usual is None else usual.get(column, PLAIN)
        found[column] = recognised(items, column, "numerics", flags, usual=prior)
    return found


def reported(rows: Rows, marks: Mapping[str, Marks]) -> list[Rule]:
    """Reports columns whose numbers are not plain, on stderr and as lines of the ledger."""
    ledger = []
    for column, one in marks.items():
        if one != PLAIN:
            rule = f"numbers of {column} have {one.describe()}"
            ledger.append(Rule(rows.name, rule, len(rows), len(rows), one.example))
            notes.print(f"{rows.origin()}: {rule}: {one.example}")
    return ledger


def _may_be_text(kind: pa.DataType) -> bool:
    binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    return binary or kind == pa.binary_view() or spelling.is_text(kind)


def readings(flags: TableFlags) -> list[Marks]:
    """Returns the formats that the flags allow.

    Raises:
        InputError: a flag is not a mark, or both are the same mark.
    """
    point, thousands = flags.decimal, " " if flags.thousands == "space" else flags.thousands
    if point not in ("", ".", ",") or thousands not in ("", *_MARKS):
        raise InputError(
            "--decimal must be . or , and --thousands must be . , ' or space. "
            f"Received: --decimal={flags.decimal} --thousands={flags.thousands}"
        )
    if thousands and thousands == point:
        raise InputError(
            f"--decimal and --thousands are both {point!r}; they must be different marks"
        )
    if thousands in (".", ","):
        point = "," if thousands == "." else "."
    return [
        marks
        for marks in READINGS
        if point in ("", marks.decimal) and (not thousands or marks.thousands in ("", thousands))
    ]


class _Tally:
    """The formats that fit all values so far."""

    def __init__(self, readings: list[Marks], whole: bool):
        self._alive, self._whole = readings, whole
        self._best: Marks | None = None
        self._differences: dict[tuple[Marks, Marks], tuple[str, str, float, float]] = {}
        self._marked = self._pointed = ""  # the first values with marks, and with a point at least

    def add(self, piece: Table, column: str, data: pa.ChunkedArray) -> None:
        text = written(data)
        if self._best is not None or self._is_clear(text):
            return
        plain = parsed(text, PLAIN)
        is_plain = self._fits(text, plain)
        # If everything is plain, formats with a decimal point are equivalent.
        done = [m for m in self._alive if is_plain.all() and m.decimal == "."]
        sample = text.slice(0, SAMPLE)
        few = [
            marks
            for marks in self._alive
            if marks in done or self._fits(sample, parsed(sample, marks)).all()
        ]
        numbers = {
            marks: plain if marks in done else parsed(text, marks) for marks in few or self._alive
        }
        fits = {marks: self._fits(text, found) for marks, found in numbers.items()}
        alive = [marks for marks in numbers if fits[marks].all()]
        if not alive:
            self._best = max(numbers, key=lambda marks: int(fits[marks].sum()))
            return
        self._alive = alive
        for one, other in itertools.combinations(alive, 2):
            if numbers[one] is numbers[other]:
                continue
            differ = _differ(numbers[one], numbers[other])
            if (one, other) not in self._differences and differ.any():
                row = int(np.argmax(differ))
                values = [float(numbers[marks][row].as_py()) for marks in (one, other)]
                place = piece.where(row, column)
                self._differences[one, other] = (place, text[row].as_py(), values[0], values[1])
        if not self._marked and not is_plain.all():
            self._marked = text[int(np.argmin(is_plain))].as_py()
        if not self._pointed and pc.any(pointed := pc.match_substring(text, ".")).as_py():
            self._pointed = text[pc.index(pointed, True).as_py()].as_py()

    def decided(self, usual: Marks | None) -> Marks:
        """Returns the format of the column; see `recognised`."""
        if self._best is not None:
            return self._best
        for (one, other), (place, text, first, second) in self._differences.items():
            if one not in self._alive or other not in self._alive:
                continue
            if usual is not None and usual in self._alive:
                return self._with_example(usual)
            mark = "," if "," in text else "."
            raise InputError(
                f"{place}: {text!r} is ambiguous: it may be {spelling.spelled(first)} or "
                f"{spelling.spelled(second)}, and no value of the column decides which; set "
                f"--thousands={mark} where {_NAMES[mark]} separates thousands, or --decimal={mark} "
                "where it comes before decimals"
            )
        return self._with_example(self._alive[0])

    def _with_example(self, marks: Marks) -> Marks:
        text = self._marked or self._pointed
        if not text or marks == PLAIN:
            return marks
        (number,) = parsed(pa.chunked_array([[text]]), marks).to_pylist()
        return replace(marks, example=f"{text!r} is read as {spelling.spelled(number)}")

    def _is_clear(self, text: pa.ChunkedArray) -> bool:
        """Checks whether all formats fit and give the same numbers: digits without any mark."""
        return pc.all(pc.match_substring_regex(text, "^[+-]?[0-9]+$")).as_py() is not False

    def _fits(self, text: pa.ChunkedArray, numbers: pa.ChunkedArray) -> np.ndarray:
        found = numbers.to_numpy(zero_copy_only=False)
        fits = np.asarray(numbers.is_valid()) | np.asarray(text.is_null())
        with np.errstate(invalid="ignore"):
            return fits & ((found == np.floor(found)) | np.isnan(found)) if self._whole else fits


def _differ(one: pa.ChunkedArray, other: pa.ChunkedArray) -> np.ndarray:
    a, b = (array.to_numpy(zero_copy_only=False) for array in (one, other))
    return (a != b) & ~(np.isnan(a) & np.isnan(b))


def written(data: pa.ChunkedArray) -> pa.ChunkedArray:
    """Strips text; null where there is no number, 1 for true and 0 for false.

    >>> written(pa.chunked_array([[" 5 ", "", "NA", "True"]])).to_pylist()
    ['5', None, None, '1']
    """
    text = pc.utf8_trim_whitespace(spelling.plain(data))
    truth = pc.match_substring_regex(text, spelling.TRUTH)
    if pc.any(truth).as_py():
        number = pc.if_else(pc.equal(pc.utf8_lower(text), "true"), "1", "0")
        text = pc.if_else(truth, number, text)
    empty = pc.is_in(text, pa.array(EMPTY, text.type))
    return pc.if_else(empty, None, text) if pc.any(empty).as_py() else text


def parsed(text: pa.ChunkedArray, marks: Marks = PLAIN) -> pa.ChunkedArray:
    """Parses `written` text to float64, null where it is not a number.

    >>> parsed(pa.chunked_array([["1.090", "12,5", "x"]]), Marks(",", ".")).to_pylist()
    [1090.0, 12.5, None]
    """
    if marks == PLAIN:
        try:
            return text.cast(pa.float64())
        except pa.ArrowInvalid:
            pass
    text = pc.if_else(pc.match_substring_regex(text, marks.pattern), text, None)
    if marks.thousands:
        text = pc.replace_substring_regex(text, _MARKS[marks.thousands], "")
    if marks.decimal != ".":
        text = pc.replace_substring(text, marks.decimal, ".")
    return text.cast(pa.float64())
