"""Rates to count from the events, by the flags; each has a numerator and a denominator."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from mmnet.checks import InputError, quoted, shown
from mmnet.config import TableFlags
from mmnet.data.expressions import grammar, tree
from mmnet.data.expressions.tree import Column, EveryEvent, Node

_PIECE = re.compile(r"""(?P<slash>/)|(?P<open>\()|(?P<close>\))|"[^"]*"|'[^']*'|[^"'/()]+""")


@dataclass(frozen=True)
class Count:
    """The value that one event adds to a count.

    Attributes:
        expression: a column, `events`, a condition (1 where it holds) or a number.
        flag: flag that contains it, for messages.
        text: the expression as it was written.
    """

    expression: Node
    flag: str
    text: str

    @property
    def columns(self) -> list[str]:
        """Columns that it reads."""
        return tree.columns_of(self.expression)

    @property
    def is_condition(self) -> bool:
        """True if it is a condition, whatever the columns contain."""
        return tree.is_condition(self.expression)

    @property
    def is_every_event(self) -> bool:
        """True if each event adds 1."""
        return isinstance(self.expression, EveryEvent)

    @property
    def title(self) -> str:
        """The expression on one line, truncated if it is long."""
        return shown(self.text)


@dataclass(frozen=True)
class Rate:
    """Two counts, and the names of their columns in the counts table."""

    name: str
    numerator: Count
    denominator: Count
    numerator_column: str
    denominator_column: str

    @property
    def columns(self) -> list[str]:
        """Columns that the two read, each once."""
        return list(dict.fromkeys([*self.numerator.columns, *self.denominator.columns]))


def read_count(
    text: str, flag: str, columns: Collection[str], origin: str = grammar.TABLE
) -> Count:
    """Reads an expression.

    Args:
        text: the expression; a column's whole name may be written as it is, whatever is in it.
        flag: its name, for messages.
        columns: of the events table.
        origin: names the table, for messages.

    Raises:
        InputError: it cannot be read, or names no column or an unknown one.

    >>> read_count("play_ms - ad_ms", "numerator", ["play_ms", "ad_ms"]).columns
    ['play_ms', 'ad_ms']
    >>> read_count("play_ms - ad_ms", "numerator", ["play_ms - ad_ms"]).columns
    ['play_ms - ad_ms']
    """
    if text in columns:
        return Count(Column(text), flag, text)
    expression = grammar.parse(text, flag, columns, origin)
    if not isinstance(expression, EveryEvent) and not tree.columns_of(expression):
        raise InputError(
            f"--{flag}: {quoted(text)} names no column, so it is the same for every event; write "
            f"`{grammar.EVERY_EVENT}` to count every event"
        )
    return Count(expression, flag, text)


def read_rate(setting: str, columns: Collection[str], origin: str = grammar.TABLE) -> Rate:
    """Reads a setting of `--rate`.

    The slash between numerator and denominator is the only one outside of quotes and parentheses:
    a division is written in parentheses.

    Args:
        setting: of the flag.
        columns: of the events table.
        origin: names the table, for messages.

    Raises:
        InputError: it is not NAME=NUMERATOR/DENOMINATOR, or one of the two cannot be read.

    >>> read_rate("finish=play_ms >= 3000/events", ["play_ms"]).numerator_column
    'finish_numerator'
    >>> read_rate("seconds=(play_ms / 1000)/events", ["play_ms"]).numerator.text
    '(play_ms / 1000)'
    """
    name, _, text = setting.partition("=")
    parts = _numerator_and_denominator(text, columns)
    if not re.fullmatch(r"\w+", name) or not parts:
        raise InputError(
            "--rate must be NAME=NUMERATOR/DENOMINATOR, such as finish='play_ms >= 3000/events', "
            "with a division in parentheses, such as seconds='(play_ms / 1000)/events'. "
            f"Received: {quoted(setting)}"
        )
    numerator, denominator = (read_count(part, "rate", columns, origin) for part in parts)
    return Rate(name, numerator, denominator, f"{name}_numerator", f"{name}_denominator")


def _numerator_and_denominator(text: str, columns: Collection[str]) -> tuple[str, str] | None:
    """Cuts a rate at its slash; None where it has none, or several."""
    pieces = list(_PIECE.finditer(text))
    if sum(len(piece[0]) for piece in pieces) < len(text):
        return None  # a quote that is not closed
    slashes, outside, depth = [], [], 0
    for piece in pieces:
        depth += {"open": 1, "close": -1}.get(piece.lastgroup or "", 0)
        if piece["slash"]:
            slashes.append(piece.start())
            if depth == 0:
                outside.append(piece.start())
    found = outside
    if not outside and len(slashes) == 1:  # in a parenthesis of a column's own name
        halves = text[: slashes[0]].strip(), text[slashes[0] + 1 :].strip()
        found = slashes if any(half in columns for half in halves) else []
    if len(found) != 1:
        return None
    numerator, denominator = text[: found[0]].strip(), text[found[0] + 1 :].strip()
    return (numerator, denominator) if numerator and denominator else None


def rates(flags: TableFlags, columns: Collection[str], origin: str = grammar.TABLE) -> list[Rate]:
    """The rate of `--numerator` and `--denominator`, and those of `--rate`.

    The two flags may also name the columns of a `--rate`.

    Args:
        flags: where the rates are named.
        columns: of the events table.
        origin: names the table, for messages.

    Raises:
        InputError: a rate that cannot be read, or two columns of counts with one name.

    >>> [rate] = rates(TableFlags(numerator="likes", denominator="plays"), ["likes", "plays"])
    >>> rate.numerator_column
    'likes'
    """
    found = [read_rate(setting, columns, origin) for setting in flags.rate]
    names = [rate.name for rate in found]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"--rate names {name!r} twice; use a different name for each rate")
    main = (flags.numerator, flags.denominator)
    if main not in [(rate.numerator_column, rate.denominator_column) for rate in found]:
        numerator = read_count(flags.numerator, "numerator", columns, origin)
        denominator = read_count(flags.denominator, "denominator", columns, origin)
        found.insert(0, Rate("", numerator, denominator, *main))
    taken = [flags.item_column, flags.period_column]
    for rate in found:
        for column in dict.fromkeys((rate.numerator_column, rate.denominator_column)):
            if column in taken:
                raise InputError(
                    f"the counts table would have two columns named {quoted(column)} "
                    "(--item_column, --period_column, --numerator, --denominator, --rate); choose "
                    "other names"
                )
            taken.append(column)
    return found
