"""The grammar of expressions, and the parser into trees; user text is never evaluated.

Words may be in upper or lower case. Operators that bind more tightly come later:

    or    and    not    == != < <= > >=, in, between, is null    + -    * /    -x

A column's name is written as it is, or in double quotes if it has other characters than letters,
digits, `_` and `.`, or is a word of the language (`""` is a double quote in it). A text is written
in single quotes (`''` is a single quote in it).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from mmnet.checks import InputError, did_you_mean, quoted, shown
from mmnet.data.expressions import tree
from mmnet.data.expressions.tree import BARE_NAME, KEYWORDS, Column, Constant, EveryEvent, Node

if TYPE_CHECKING:
    import lark

EVERY_EVENT = "events"

TABLE = "the events table"
"""Name of the events table in messages that cannot be more specific."""

LONGEST, DEEPEST, LARGEST_SIZE = 10_000, 50, 2_000
"""Maximum number of characters, levels and operands of an expression, see `tree.depth_and_size`."""

# The parser says which of these may come next, and only those are looked for: `in` is a word of
# the language after a value, and a column's name where a value begins. `not` begins a value too,
# so there it is a name only in front of what cannot follow the word.
_GRAMMAR = rf"""
?start: either
?either: both
    | both (_OR both)+ -> either
?both: negated
    | negated (_AND negated)+ -> both
?negated: _NOT negated -> negation
    | comparison
?comparison: sum
    | sum SIGN sum -> comparison
    | sum _IN _OPEN member (_COMMA member)* _CLOSE -> membership
    | sum _NOT _IN _OPEN member (_COMMA member)* _CLOSE -> no_membership
    | sum _BETWEEN sum _AND sum -> interval
    | sum _NOT _BETWEEN sum _AND sum -> no_interval
    | sum _IS _NULL -> emptiness
    | sum _IS _NOT _NULL -> no_emptiness
?sum: product
    | sum PLUS product -> arithmetic
    | sum MINUS product -> arithmetic
?product: factor
    | product TIMES factor -> arithmetic
    | product OVER factor -> arithmetic
?factor: MINUS factor -> negative
    | PLUS NUMBER -> positive
    | NAME -> name
    | QUOTED -> inside
    | NUMBER -> number
    | TEXT -> text
    | _OPEN either _CLOSE
?member: NUMBER -> number
    | MINUS NUMBER -> negative_number
    | PLUS NUMBER -> positive
    | TEXT -> text
    | NAME -> truth

_OR.2: /(?i:or)(?![\w.])/
_AND.2: /(?i:and)(?![\w.])/
_NOT.2: /(?i:not)(?![\w.])(?!\s*([=<>!*\/),]|\Z))/
_IN.2: /(?i:in)(?![\w.])/
_BETWEEN.2: /(?i:between)(?![\w.])/
_IS.2: /(?i:is)(?![\w.])/
_NULL.2: /(?i:null)(?![\w.])/
SIGN: /==|!=|<>|<=|>=|=|<|>/
PLUS: "+"
MINUS: "-"
TIMES: "*"
OVER: "/"
_OPEN: "("
_CLOSE: ")"
_COMMA: ","
NAME: /{BARE_NAME}/
QUOTED: /"([^"]|"")+"/
NUMBER: /(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?(?![\w.])/
TEXT: /'([^']|'')*'/
%ignore /\s+/
"""

_SPELLINGS = {"=": "==", "<>": "!="}

_WANTED = (
    ({"QUOTED"}, "a column"),
    ({"NAME", "NUMBER"}, "a number"),
    ({"NAME", "TEXT"}, "'text'"),
    ({"NAME"}, "true"),
    ({"NAME"}, "false"),
    ({"SIGN"}, "an operator (+ - * / == != < <= > >= and or in between is)"),
    ({"PLUS"}, "+"),
    ({"MINUS"}, "-"),
    ({"_AND"}, "`and`"),
    ({"_OR"}, "`or`"),
    ({"_IN"}, "`in`"),
    ({"_BETWEEN"}, "`between`"),
    ({"_NULL"}, "`null`"),
    ({"_NOT"}, "`not`"),
    ({"_OPEN"}, "("),
    ({"_COMMA"}, "a comma"),
    ({"_CLOSE"}, ")"),
    ({"$END"}, "nothing more"),
)
"""Terminals of the grammar that may come next, and their description in messages."""

_SIGNS = {"PLUS", "MINUS", "TIMES", "OVER", "_AND", "_OR", "_NOT", "_IN", "_BETWEEN", "_IS"}
_OTHER_LANGUAGES = {
    **{"&&": "and", "&": "and", "||": "or", "|": "or", "!": "not", "~": "not"},
    **{"≥": ">=", "≤": "<=", "≠": "!=", "×": "*", "÷": "/", "−": "-"},
}


@functools.cache
def _parser() -> lark.Lark:
    import lark  # here, since most commands read no expression

    return lark.Lark(_GRAMMAR, parser="lalr", maybe_placeholders=False)


def parse(text: str, flag: str, columns: Collection[str], origin: str = TABLE) -> Node:
    """Parses an expression.

    Args:
        text: the expression.
        flag: flag that contains it, for messages.
        columns: columns of the events table; they may include `true`, `false` and `events`.
        origin: name of the table in messages.

    Raises:
        InputError: it cannot be parsed, names an unknown column, or is too long or deep.

    >>> parse("likes > 3 or not seen", "numerator", ["likes", "seen"]).word
    'or'
    >>> parse("likes > 3 likes", "numerator", ["likes"])
    Traceback (most recent call last):
    ...
    mmnet.checks.InputError: --numerator: cannot read 'likes > 3 likes'; write an operator \
(+ - * / == != < <= > >= and or in between is) at character 11, in place of 'likes'
    """
    if len(text) > LONGEST:
        raise InputError(
            f"--{flag}: an expression has at most {LONGEST:,} characters. Received: {len(text):,}, "
            f"{quoted(text)}"
        )
    if wrong := re.search("[\0\ud800-\udfff]", text):  # what no engine accepts in a query
        raise InputError(
            f"--{flag}: cannot read {quoted(text)}; character {wrong.start() + 1} is not text"
        )
    import lark

    try:
        parsed = _parser().parse(text)
    except (lark.UnexpectedCharacters, lark.UnexpectedToken) as error:
        ended = isinstance(error, lark.UnexpectedToken) and error.token.type == "$END"
        place = len(text) if ended else error.pos_in_stream or 0
        expected = error.expected if isinstance(error, lark.UnexpectedToken) else error.allowed
        hint = _quotes_needed(text, columns)
        raise _refusal(text, flag, place, set(expected), hint) from None
    reading = _Reading(text, flag, columns, origin)
    made: dict[int, Node] = {}
    for branch in parsed.iter_subtrees():  # without recursion, from the leaves on
        parts = [made[id(one)] if isinstance(one, lark.Tree) else one for one in branch.children]
        made[id(branch)] = getattr(reading, branch.data)(*parts)
    node = made[id(parsed)]
    _check_size(node, text, flag)
    return node


def _check_size(node: Node, text: str, flag: str) -> None:
    """Refuses what an engine, or Python on the way to it, would give up on."""
    depth, size = tree.depth_and_size(node)
    fix = "simplify it, or add its result to the events table as a column"
    if depth > DEEPEST:
        raise InputError(
            f"--{flag}: an expression has at most {DEEPEST} levels; {fix}. Received: {depth:,}, "
            f"{quoted(text)}"
        )
    if size > LARGEST_SIZE:
        raise InputError(
            f"--{flag}: an expression has at most {LARGEST_SIZE:,} operands, where a divisor, the "
            "value of `between` and a computed number that is compared count twice on each level; "
            f"{fix}. Received: {size:,}, {quoted(text)}"
        )


def _quotes_needed(text: str, columns: Collection[str]) -> str:
    """Names the column whose name is in an expression without the quotes that it needs."""
    for name in columns:
        inside, as_a_word = tree.written(Column(name)), rf"(?<!\w){re.escape(name)}(?!\w)"
        if not re.fullmatch(BARE_NAME, name) and inside not in text and re.search(as_a_word, text):
            return f"; the name of a column such as {shown(inside)} needs its quotes"
    return ""


def _refusal(text: str, flag: str, place: int, expected: set[str], hint: str) -> InputError:
    """What could have been written where reading ended."""
    rest = text[place:]
    hint = hint or _hint(rest, expected)
    if "SIGN" in expected:  # all the others are operators too
        expected -= _SIGNS
    elif "NAME" in expected:  # a sign of a number is a detail
        expected -= {"PLUS", "MINUS"}
    if text.count("(", 0, place) <= text.count(")", 0, place):
        expected -= {"_CLOSE"}
    *wanted, last = [words for names, words in _WANTED if names <= expected] or ["an expression"]
    listed = f"{', '.join(wanted)} or {last}" if wanted else last
    where = f"in place of {quoted(rest, 20)}" if rest else "where it ends"
    return InputError(
        f"--{flag}: cannot read {quoted(text)}; write {listed} at character {place + 1}, {where}"
        f"{hint}"
    )


def _hint(rest: str, expected: set[str]) -> str:
    """What was meant where it is said otherwise elsewhere, or a quote that is not closed."""
    if rest[:1] in ("'", '"') and rest.count(rest[0]) == 1:
        return f"; {rest[0]} is not closed"
    for other in (rest[:2], rest[:1]):
        meant = _OTHER_LANGUAGES.get(other)
        if meant and (meant == "not") == ("NAME" in expected):
            return f". Did you mean {meant}?"
    word = re.match(BARE_NAME, rest)
    words = KEYWORDS if "SIGN" in expected and word and word[0].lower() not in KEYWORDS else ()
    return did_you_mean(word[0].lower(), words) if word else ""


class _Reading:
    """Makes the parts of a tree; one method for each name behind an arrow in the grammar."""

    def __init__(self, text: str, flag: str, columns: Collection[str], origin: str):
        self.whole, self.flag, self.columns, self.origin = text, flag, columns, origin

    # --------------------------------------------------------------- columns and constants

    def name(self, token: str) -> Node:
        if token in self.columns:
            return Column(str(token))
        if token.lower() in ("true", "false"):
            return Constant(token.lower() == "true")
        return self._column(str(token))

    def inside(self, token: str) -> Node:
        return self._column(token[1:-1].replace('""', '"'))

    def number(self, token: str) -> Constant:
        return Constant(float(token))

    def positive(self, _: str, token: str) -> Constant:
        return Constant(float(token))

    def negative_number(self, _: str, token: str) -> Constant:
        return Constant(-float(token))

    def text(self, token: str) -> Constant:
        return Constant(token[1:-1].replace("''", "'"))

    def truth(self, token: lark.Token) -> Constant:
        if token.lower() not in ("true", "false"):
            raise InputError(
                f"--{self.flag}: cannot read {quoted(self.whole)}; write a number, 'text', true or "
                f"false at character {(token.start_pos or 0) + 1}, in place of "
                f"{quoted(str(token), 20)}: `in` compares with constants, and == compares columns"
            )
        return Constant(token.lower() == "true")

    def _column(self, name: str) -> Node:
        if name in self.columns:
            return Column(name)
        if name == EVERY_EVENT:
            return EveryEvent()
        if name.lower() == "null":
            raise InputError(
                f"--{self.flag}: cannot read {quoted(self.whole)}; write `is null` or "
                "`is not null` in place of a comparison with null"
            )
        known = shown(", ".join(self.columns))
        near = did_you_mean(name, [tree.written(Column(one)) for one in self.columns])
        raise InputError(
            f"{self.origin} has no column {quoted(name)} (named by --{self.flag}); it has "
            f"{known}{shown(near)}"
        )

    # ------------------------------------------------------------------------- operations

    def negative(self, _: str, of: Node) -> Node:
        return tree.negative(of)

    def arithmetic(self, left: Node, sign: str, right: Node) -> Node:
        return tree.Arithmetic(str(sign), left, right)

    def comparison(self, left: Node, sign: str, right: Node) -> Node:
        return tree.Comparison(_SPELLINGS.get(sign, str(sign)), left, right)

    def membership(self, of: Node, *members: Constant) -> Node:
        return tree.Membership(of, members)

    def no_membership(self, of: Node, *members: Constant) -> Node:
        return tree.Negation(self.membership(of, *members))

    def interval(self, of: Node, low: Node, high: Node) -> Node:
        return tree.Interval(of, low, high)

    def no_interval(self, of: Node, low: Node, high: Node) -> Node:
        return tree.Negation(self.interval(of, low, high))

    def emptiness(self, of: Node) -> Node:
        return tree.Emptiness(of)

    def no_emptiness(self, of: Node) -> Node:
        return tree.Negation(self.emptiness(of))

    def negation(self, of: Node) -> Node:
        return tree.Negation(of)

    def either(self, *conditions: Any) -> Node:
        return tree.Junction("or", conditions)

    def both(self, *conditions: Any) -> Node:
        return tree.Junction("and", conditions)
