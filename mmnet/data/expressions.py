"""What may be counted of an event: a small language of columns and comparisons.

    events                          every event
    is_click                        a column of numbers or true/false
    play_time_ms >= duration_ms     1 where two columns compare so, 0 elsewhere
    event_type == 'share'           a column and a constant: a number, 'text', true or false

An expression is read into a `Count`, and a `Count` into an Ibis expression; nothing is evaluated.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mmnet.checks import InputError, did_you_mean
from mmnet.config import TableFlags
from mmnet.data.columns import LARGEST

if TYPE_CHECKING:
    import ibis.expr.types as ir

EVERY_EVENT = "events"

_COLUMN = r'"[^"]+"|[^\W\d][\w.]*'
_CONSTANT = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|'(?:[^']|'')*'"
_COMPARISON = re.compile(rf"\s*({_COLUMN})\s*(==|!=|<>|<=|>=|=|<|>)\s*({_COLUMN}|{_CONSTANT})\s*")
_NAME = re.compile(rf"\s*({_COLUMN})\s*")
_RATE = re.compile(r"""((?:"[^"]*"|'[^']*'|[^"'/])+)/((?:"[^"]*"|'[^']*'|[^"'/])+)""")
NUMBERS = {"number", "truth", "text"}
"""Kinds of columns that can be read as numbers; text where it is one."""

_SAME = {"==": "eq", "=": "eq", "!=": "ne", "<>": "ne"}
_ORDER = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge"}


@dataclass(frozen=True)
class Column:
    """The name of a column, on the right of a comparison."""

    name: str


@dataclass(frozen=True)
class Count:
    """What one event adds to a count.

    Attributes:
        column: its name; None for every event.
        operator: eq, ne, lt, le, gt, ge; None for the column's own value.
        operand: what the column is compared with.
        flag: where it was written, for messages.
        text: how it was written.
    """

    column: str | None
    operator: str | None
    operand: Column | float | str | bool | None
    flag: str
    text: str

    @property
    def columns(self) -> list[str]:
        """Columns that it reads."""
        names = [self.column] if self.column else []
        return [*names, self.operand.name] if isinstance(self.operand, Column) else names


@dataclass(frozen=True)
class Rate:
    """Two counts, and what their columns in the counts table are called."""

    name: str
    numerator: Count
    denominator: Count
    numerator_column: str
    denominator_column: str

    @property
    def columns(self) -> list[str]:
        """Columns that the two read, each once."""
        return list(dict.fromkeys([*self.numerator.columns, *self.denominator.columns]))


def read_count(text: str, flag: str, columns: Collection[str]) -> Count:
    """Reads an expression.

    Args:
        text: the expression; a column's whole name may stand there as it is.
        flag: its name, for messages.
        columns: of the events table.

    Raises:
        InputError: it cannot be read, or names a column that is not there.

    >>> read_count("play_ms >= 3e3", "numerator", ["play_ms"]).operand
    3000.0
    >>> read_count("play_ms > 3 or 1", "numerator", ["play_ms"])
    Traceback (most recent call last):
    ...
    mmnet.checks.InputError: --numerator: cannot read 'play_ms > 3 or 1'; write a column, ...
    """
    if text in columns:
        return Count(text, None, None, flag, text)
    name = _NAME.fullmatch(text)
    if name:
        column = name[1].strip('"')
        if column == EVERY_EVENT and column not in columns:
            return Count(None, None, None, flag, text)
        return Count(_known(column, flag, columns), None, None, flag, text)
    found = _COMPARISON.fullmatch(text)
    if not found:
        raise InputError(
            f"--{flag}: cannot read {text!r}; write a column, `{EVERY_EVENT}`, or COLUMN OP VALUE, "
            "where OP is ==, !=, <, <=, > or >= and VALUE a number, 'text', true, false or another "
            "column (a name with other characters than letters and digits in double quotes)"
        )
    column, sign, operand = found.groups()
    column = _known(column.strip('"'), flag, columns)
    return Count(column, (_SAME | _ORDER)[sign], _operand(operand, flag, columns), flag, text)


def _operand(text: str, flag: str, columns: Collection[str]) -> Column | float | str | bool:
    if text.startswith("'"):
        return text[1:-1].replace("''", "'")
    if text.lower() in ("true", "false") and text not in columns:
        return text.lower() == "true"
    if _NAME.fullmatch(text):
        return Column(_known(text.strip('"'), flag, columns))
    return float(text)


def _known(column: str, flag: str, columns: Collection[str]) -> str:
    if column not in columns:
        raise InputError(
            f"the events table has no column {column!r} (named by --{flag}); it has "
            f"{', '.join(columns)}{did_you_mean(column, columns)}"
        )
    return column


def read_rate(setting: str, columns: Collection[str]) -> Rate:
    """Reads a setting of `--rate`.

    Raises:
        InputError: it is not NAME=NUMERATOR/DENOMINATOR, or one of the two cannot be read.

    >>> read_rate("finish=play_ms >= 3000/events", ["play_ms"]).numerator_column
    'finish_numerator'
    """
    name, _, text = setting.partition("=")
    parts = _RATE.fullmatch(text)
    if not re.fullmatch(r"\w+", name) or not parts:
        raise InputError(
            "--rate takes NAME=NUMERATOR/DENOMINATOR, such as finish='play_ms >= 3000/events'. "
            f"Received: {setting!r}"
        )
    numerator, denominator = (read_count(part.strip(), "rate", columns) for part in parts.groups())
    return Rate(name, numerator, denominator, f"{name}_numerator", f"{name}_denominator")


# -------------------------------------------------------------------------------- in Ibis


def kind_of(value: ir.Value) -> str:
    """Of a column: truth, number, text, time, or else the name of its type."""
    of = value.type()
    if of.is_boolean():
        return "truth"
    if of.is_numeric():
        return "number"
    if of.is_string():
        return "text"
    return "time" if of.is_timestamp() or of.is_date() else str(of)


def filled(text: ir.StringValue) -> ir.StringValue:
    """Text without spaces around it, null where empty."""
    return text.strip().nullif("")


def number(value: ir.Value) -> ir.NumericValue:
    """A column of numbers, true/false or text as numbers; null where there is none, or a NaN."""
    import ibis

    kind = kind_of(value)
    if kind == "truth":
        return value.cast("int64")
    if kind == "text":
        text = filled(value)
        truth = ibis.cases(
            (text.lower() == "true", 1.0), (text.lower() == "false", 0.0), else_=None
        )
        value = ibis.coalesce(truth, text.try_cast("float64"))
    elif value.type().is_decimal():
        value = value.cast("float64")
    if not value.type().is_floating():
        return value
    value = value.cast("float64")
    return ibis.ifelse(value.isnan(), ibis.null("float64"), value)


def counted(count: Count, table: ir.Table) -> tuple[ir.IntegerValue, ir.BooleanValue]:
    """What each event of a table adds, 0 where there is no telling, and whether there is.

    Raises:
        InputError: a column is of a kind that cannot be counted or compared.
    """
    import ibis

    if count.column is None:
        return ibis.literal(1, "int64"), ibis.literal(True)
    if count.operator is not None:
        holds = _compared(count, table)
        return ibis.ifelse(holds, 1, 0).fill_null(0).cast("int64"), holds.notnull()
    value = table[count.column]
    if kind_of(value) not in NUMBERS:
        raise InputError(
            f"--{count.flag}={count.text}: column {count.column!r} holds {value.type()} values; "
            "a count is a number or true/false"
        )
    value = number(value)
    good = value.notnull() & (value >= 0) & (value < LARGEST)
    if value.type().is_floating():
        good &= value == value.floor()
    return ibis.ifelse(good, value, 0).cast("int64"), good


def _compared(count: Count, table: ir.Table) -> ir.BooleanValue:
    left: Any = table[count.column]
    right: Any = count.operand
    mine, its = kind_of(left), kind_of(table[right.name]) if isinstance(right, Column) else ""
    if isinstance(right, Column):
        right = table[right.name]
        as_written = mine == its and (
            (mine == "text" and count.operator in _SAME.values())
            or (mine == "time" and left.type() == right.type())
        )
        if not as_written and {mine, its} <= NUMBERS:
            left, right, as_written = number(left), number(right), True
        fits = as_written
    elif isinstance(right, str):
        fits = mine == "text"
    else:
        fits = mine in NUMBERS
        left, right = (number(left) if fits else left), float(right)
    if not fits:
        raise InputError(
            f"--{count.flag}={count.text}: column {count.column!r} holds {left.type()} values and "
            f"does not compare with {_described(count.operand, right)}; compare numbers with "
            "numbers and text with 'text'"
        )
    result: ir.BooleanValue = getattr(left, f"__{count.operator}__")(right)
    return result


def _described(operand: Column | float | str | bool | None, value: Any) -> str:
    if isinstance(operand, Column):
        return f"column {operand.name!r}, {value.type()} values"
    return f"the text {operand!r}" if isinstance(operand, str) else f"the number {operand}"


def rates(flags: TableFlags, columns: Collection[str]) -> list[Rate]:
    """The rate of `--numerator` and `--denominator`, and those of `--rate`.

    The two flags may also name the columns of a `--rate`.

    Args:
        flags: where the rates are named.
        columns: of the events table.

    Raises:
        InputError: a rate that cannot be read, or two columns of counts with one name.

    >>> [rate] = rates(TableFlags(numerator="likes", denominator="plays"), ["likes", "plays"])
    >>> rate.numerator_column
    'likes'
    """
    found = [read_rate(setting, columns) for setting in flags.rate]
    names = [rate.name for rate in found]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"--rate names {name!r} twice; each rate has a name of its own")
    main = (flags.numerator, flags.denominator)
    if main not in [(rate.numerator_column, rate.denominator_column) for rate in found]:
        numerator = read_count(flags.numerator, "numerator", columns)
        denominator = read_count(flags.denominator, "denominator", columns)
        found.insert(0, Rate("", numerator, denominator, *main))
    taken = [flags.item_column, flags.period_column]
    for rate in found:
        for column in dict.fromkeys((rate.numerator_column, rate.denominator_column)):
            if column in taken:
                raise InputError(
                    f"the counts table would have two columns named {column!r} (--item_column, "
                    "--period_column, --numerator, --denominator, --rate); give other names"
                )
            taken.append(column)
    return found
