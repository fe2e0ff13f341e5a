"""Parsed expressions: a tree of columns, constants and operations.

    play_ms >= 0.9 * length_ms and not is_ad

    Junction("and", (
        Comparison(">=", Column("play_ms"),
                   Arithmetic("*", Constant(0.9), Column("length_ms"))),
        Negation(Column("is_ad"))))

Synonyms are resolved when a tree is built: `=` is `==`, `<>` is `!=`, and `x not in` is `not x in`.
`written` prints a tree in the language that it was parsed from.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

SAME, ORDER = ("==", "!="), ("<", "<=", ">", ">=")
"""Signs of comparisons."""

KEYWORDS = ("and", "or", "not", "in", "between", "is", "null", "true", "false", "events")
BARE_NAME = r"[^\W\d][\w.]*"
"""Matches column names that need no double quotes."""


@dataclass(frozen=True)
class Node:
    """A part of an expression."""

    @property
    def parts(self) -> tuple[Node, ...]:
        """The parts that it is made of, in the order they are written in."""
        return ()


@dataclass(frozen=True)
class Column(Node):
    """A column of the events table."""

    name: str


@dataclass(frozen=True)
class EveryEvent(Node):
    """`events`, which is 1 for every event."""


@dataclass(frozen=True)
class Constant(Node):
    """A number, a text, or true or false."""

    value: float | str | bool


@dataclass(frozen=True)
class Negative(Node):
    """A number with the other sign; of a constant it is a constant, see `negative`."""

    of: Node

    @property
    def parts(self) -> tuple[Node, ...]:
        """The number."""
        return (self.of,)


@dataclass(frozen=True)
class Arithmetic(Node):
    """Two numbers and one of + - * / between them."""

    sign: str
    left: Node
    right: Node

    @property
    def parts(self) -> tuple[Node, ...]:
        """The two numbers."""
        return self.left, self.right


@dataclass(frozen=True)
class Comparison(Node):
    """Two values and a sign of `SAME` or `ORDER` between them."""

    sign: str
    left: Node
    right: Node

    @property
    def parts(self) -> tuple[Node, ...]:
        """The two values."""
        return self.left, self.right


@dataclass(frozen=True)
class Membership(Node):
    """`of in (members)`: `of` is equal to one of some constants."""

    of: Node
    members: tuple[Constant, ...]

    @property
    def parts(self) -> tuple[Node, ...]:
        """The value, then the constants."""
        return self.of, *self.members


@dataclass(frozen=True)
class Interval(Node):
    """`of between low and high`: `of >= low and of <= high`."""

    of: Node
    low: Node
    high: Node

    @property
    def parts(self) -> tuple[Node, ...]:
        """The value and its bounds."""
        return self.of, self.low, self.high


@dataclass(frozen=True)
class Emptiness(Node):
    """`of is null`: there is no value, or the number is a NaN."""

    of: Node

    @property
    def parts(self) -> tuple[Node, ...]:
        """The value."""
        return (self.of,)


@dataclass(frozen=True)
class Negation(Node):
    """`not of`."""

    of: Node

    @property
    def parts(self) -> tuple[Node, ...]:
        """The condition."""
        return (self.of,)


@dataclass(frozen=True)
class Junction(Node):
    """Two or more conditions and one word between them, `and` or `or`."""

    word: str
    conditions: tuple[Node, ...]

    @property
    def parts(self) -> tuple[Node, ...]:
        """The conditions."""
        return self.conditions


_CONDITIONS = (Comparison, Membership, Interval, Emptiness, Negation, Junction)


def is_condition(node: Node) -> bool:
    """Checks whether a node is true, false or not known, whatever the columns contain.

    A column is not: its type decides.
    """
    truth = isinstance(node, Constant) and isinstance(node.value, bool)
    return truth or isinstance(node, _CONDITIONS)


def is_arithmetic(node: Node) -> bool:
    """Checks whether a node is a computed number."""
    return isinstance(node, (Negative, Arithmetic))


def negative(of: Node) -> Node:
    """`of` with the other sign.

    >>> negative(Constant(3.0)), negative(Column("a"))
    (Constant(value=-3.0), Negative(of=Column(name='a')))
    """
    if isinstance(of, Constant) and isinstance(of.value, float):
        return Constant(-of.value)
    return Negative(of)


def _upwards(node: Node) -> Iterator[Node]:
    """Every part of a tree, from left to right, after its own parts.

    Without recursion, so that a tree of any depth can be measured and refused.
    """
    waiting, found = [node], []
    while waiting:
        found.append(waiting.pop())
        waiting.extend(found[-1].parts)
    return reversed(found)


def columns_of(node: Node) -> list[str]:
    """The columns that a tree reads, each once, in the order of their first use.

    >>> columns_of(Comparison("<", Column("b"), Arithmetic("+", Column("a"), Column("b"))))
    ['b', 'a']
    """
    found = [part.name for part in _upwards(node) if isinstance(part, Column)]
    return list(dict.fromkeys(found))


def depth_and_size(node: Node) -> tuple[int, int]:
    """Returns the depth of a tree, and the number of operands in the query of an engine.

    A query repeats what is tested before it is used: a divisor, the value of `between`, and a
    computed number that is compared or counted.

    >>> depth_and_size(Arithmetic("/", Column("a"), Arithmetic("+", Column("b"), Column("c"))))
    (3, 5)
    """
    measured: dict[int, tuple[int, int]] = {}
    for part in _upwards(node):
        inner = [measured[id(each)] for each in part.parts]
        sizes = [size for _, size in inner]
        if not is_arithmetic(part):
            sizes = [
                size * (2 if is_arithmetic(each) else 1)
                for each, size in zip(part.parts, sizes, strict=True)
            ]
        match part:
            case Interval():
                sizes.append(sizes[0])
            case Arithmetic("/"):
                sizes.append(sizes[1])
            case Membership():
                del sizes[1:]  # constants cost little
        measured[id(part)] = 1 + max((deep for deep, _ in inner), default=0), max(1, sum(sizes))
    return measured[id(node)]


# ---------------------------------------------------------------------------------- printed


def written(node: Node) -> str:
    """An expression that is read as this tree.

    >>> times = Arithmetic("*", Constant(2.0), Column("a"))
    >>> print(written(Negation(Comparison("<", times, Arithmetic("-", Column("b c"), times)))))
    not 2 * a < "b c" - 2 * a
    """
    return _written(node, 0)


_OR, _AND, _NOT, _COMPARED, _SUM, _PRODUCT, _SIGNED, _WHOLE = range(8)
"""Binding strength of operations."""


def _written(node: Node, least: int) -> str:
    level, text = _parts_written(node)
    return text if level >= least else f"({text})"


def _parts_written(node: Node) -> tuple[int, str]:
    """Returns the binding strength of a tree, and its text without outer parentheses."""
    match node:
        case Column(name):
            bare = re.fullmatch(BARE_NAME, name) and name.lower() not in KEYWORDS
            return _WHOLE, name if bare else f'"{name.replace(chr(34), 2 * chr(34))}"'
        case EveryEvent():
            return _WHOLE, "events"
        case Constant(value):
            signed = isinstance(value, float) and str(value).startswith("-")
            return _SIGNED if signed else _WHOLE, _constant(value)
        case Negative(of):
            return _SIGNED, f"-{_written(of, _SIGNED)}"
        case Arithmetic(sign, left, right):
            level = _SUM if sign in "+-" else _PRODUCT
            return level, f"{_written(left, level)} {sign} {_written(right, level + 1)}"
        case Comparison(sign, left, right):
            return _COMPARED, f"{_written(left, _SUM)} {sign} {_written(right, _SUM)}"
        case Membership(of, members):
            listed = ", ".join(_constant(member.value) for member in members)
            return _COMPARED, f"{_written(of, _SUM)} in ({listed})"
        case Interval(of, low, high):
            bounds = f"{_written(low, _SUM)} and {_written(high, _SUM)}"
            return _COMPARED, f"{_written(of, _SUM)} between {bounds}"
        case Emptiness(of):
            return _COMPARED, f"{_written(of, _SUM)} is null"
        case Negation(of):
            return _NOT, f"not {_written(of, _NOT)}"
        case Junction(word, conditions):
            level = _AND if word == "and" else _OR
            return level, f" {word} ".join(_written(each, level + 1) for each in conditions)
    raise TypeError(f"not a part of an expression: {node!r}")


def _constant(value: float | str | bool) -> str:
    if isinstance(value, str):
        return f"'{value.replace(chr(39), 2 * chr(39))}'"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value).removesuffix(".0").replace("inf", "1e999")
