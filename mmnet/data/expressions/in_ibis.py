"""Expressions in Ibis, with the same result on every engine; users never write SQL.

Logic has three values, true, false and not known, as in SQL (Kleene's logic):

    a          b          a and b    a or b     not a
    true       true       true       true       false
    true       false      false      true       false
    true       not known  not known  true       false
    false      true       false      true       true
    false      false      false      false      true
    false      not known  false      not known  true
    not known  true       not known  true       not known
    not known  false      false      not known  not known
    not known  not known  not known  not known  not known

A comparison is not known if a side of it has no value: null, a NaN, a text that is not a number
where numbers are compared, or a division by zero. `is null` is always known. A flag decides whether
an event whose condition is not known is a bad event or is not counted.

Arithmetic is in float64, as IEEE 754 says, on every engine and for every type of column: whole
numbers are exact below 2**53, and no integer overflows. Division by zero has no value, and neither
has what IEEE calls a NaN, such as the difference of two infinite numbers.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from mmnet.checks import InputError, quoted, shown
from mmnet.data.columns import LARGEST
from mmnet.data.expressions import tree
from mmnet.data.expressions.reading import Count
from mmnet.data.expressions.tree import (
    Arithmetic,
    Column,
    Comparison,
    Constant,
    Emptiness,
    EveryEvent,
    Interval,
    Junction,
    Membership,
    Negation,
    Negative,
    Node,
)

if TYPE_CHECKING:
    import ibis.expr.types as ir

NUMBERS = {"number", "truth", "text"}
"""Kinds of columns that can be read as numbers; text where it is one."""

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    **{"+": operator.add, "-": operator.sub, "*": operator.mul},
    **{"==": operator.eq, "!=": operator.ne},
    **{"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge},
    **{"and": operator.and_, "or": operator.or_},
}


SPACED = r"^[\t-\r ]|[\t-\r ]$"
"""Matches text that `strip` would change."""


def kind_of(value: ir.Value) -> str:
    """Returns the kind of a column: truth, number, text, time, or else the name of its type."""
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
    import ibis

    # Few values need stripping, and testing for that is twice as fast as stripping all.
    return ibis.ifelse(text.re_search(SPACED), text.strip(), text).nullif("")  # type: ignore[arg-type]


def number(value: ir.Value) -> ir.NumericValue:
    """A column of numbers, true/false or text as numbers; null where empty or NaN."""
    import ibis

    kind = kind_of(value)
    if kind == "truth":
        return value.cast("int64")
    if kind == "text":
        text = filled(value)
        truth = ibis.cases(
            (text.lower() == "true", 1.0), (text.lower() == "false", 0.0), else_=None
        )
        value = ibis.coalesce(text.try_cast("float64"), truth)
    elif value.type().is_decimal():
        value = value.cast("float64")
    if not value.type().is_floating():
        return value
    return _without_nan(value.cast("float64"))


def _without_nan(value: Any) -> Any:
    import ibis

    return ibis.ifelse(value.isnan(), ibis.null("float64"), value)


def counted(
    counts: Sequence[Count], table: ir.Table, null_comparisons: Literal["bad", "false"]
) -> tuple[ir.Table, list[tuple[ir.IntegerValue, ir.BooleanValue]]]:
    """Computes what each event adds to counts, 0 if unknown, and whether it is known.

    Args:
        counts: the expressions to count.
        table: the events.
        null_comparisons: how a condition that is not known counts: bad, or false.

    Returns:
        The table, with a column added for each number that is computed, and for every count the
        two in terms of that table.

    Raises:
        InputError: a column is of a kind that cannot be counted, compared or calculated with.
    """
    translations = [_Translation(count, table) for count in counts]
    computed = {  # a separate step, since an expression is repeated in SQL for each of its uses
        f"mmnet count {place}": translation.arithmetic(translation.count.expression)
        for place, translation in enumerate(translations)
        if tree.is_arithmetic(translation.count.expression)
    }
    table = table.mutate(**computed) if computed else table
    found = []
    for place, translation in enumerate(translations):
        value = table[f"mmnet count {place}"] if f"mmnet count {place}" in computed else None
        found.append(translation.counted(value, null_comparisons == "bad"))
    return table, found


class _Translation:
    """Makes Ibis expressions of one count, for one table."""

    def __init__(self, count: Count, table: ir.Table):
        self.count, self.table = count, table
        self.where = f"--{count.flag}={count.title}"
        self.unread = f"--{count.flag}: cannot read {quoted(count.text)}"

    def counted(self, computed: Any, unknown_is_bad: bool) -> tuple[Any, Any]:
        """Returns the value that each event adds, 0 if unknown, and whether it is known.

        Args:
            computed: the column of a number that is computed; None for other expressions.
            unknown_is_bad: whether a condition must be known.
        """
        import ibis

        expression = self.count.expression
        if isinstance(expression, EveryEvent):
            return ibis.literal(1, "int64"), ibis.literal(True)
        if self.count.is_condition:
            holds = self.condition(expression)
            # The cast: Ibis writes `NOT x IS NOT NULL`, which is `NOT (x IS NOT NULL)`.
            known = holds.cast("int64").notnull() if unknown_is_bad else ibis.literal(True)
            return ibis.ifelse(holds, 1, 0).fill_null(0).cast("int64"), known
        value = self._counted_column(expression) if computed is None else computed
        # Before `floor`, which Ibis makes an integer: an infinite number would be an error.
        value = ibis.ifelse((value >= 0) & (value < LARGEST), value, ibis.null(value.type()))
        good = value.notnull()
        if value.type().is_floating():
            good &= value == value.floor()
        return ibis.ifelse(good, value, 0).cast("int64"), good

    def _counted_column(self, node: Node) -> Any:
        if isinstance(node, Column) and self.kind(node) not in NUMBERS:
            raise InputError(
                f"{self.where}: {self._column(node)}; a count is a number or true/false"
            )
        return self.number(node)

    def kind(self, node: Node) -> str:
        """Returns the kind of a value: that of its column, or of its operation."""
        if isinstance(node, Column):
            return kind_of(self.table[node.name])
        if isinstance(node, Constant) and isinstance(node.value, str):
            return "text"
        return "truth" if tree.is_condition(node) else "number"

    # ---------------------------------------------------------------------------- numbers

    def number(self, node: Node) -> Any:
        """A value as a number as it is, null where it has none."""
        import ibis

        if isinstance(node, Column):
            return number(self.table[node.name])
        if tree.is_condition(node) and not isinstance(node, Constant):
            return self.condition(node).cast("int64")
        if tree.is_arithmetic(node):
            return _without_nan(self.arithmetic(node))
        return ibis.literal(self._constant(node), "float64")

    def _constant(self, node: Node) -> float:
        return float(node.value) if isinstance(node, Constant) else 1.0  # of `events`

    def arithmetic(self, node: Node) -> Any:
        """A value as float64, null or NaN where it has none."""
        match node:
            case Negative(of):
                return -self.arithmetic(of)
            case Arithmetic("/", left, right):
                return self.arithmetic(left) / self.arithmetic(right).nullif(0.0)
            case Arithmetic(sign, left, right):
                return _OPERATORS[sign](self.arithmetic(left), self.arithmetic(right))
        if isinstance(node, Constant) and isinstance(node.value, str):
            raise InputError(
                f"{self.unread}; write a number in place of the text {quoted(node.value)}"
            )
        if isinstance(node, Column) and self.kind(node) not in NUMBERS:
            raise InputError(
                f"{self.where}: {self._column(node)}; + - * / accept numbers, true/false, and text "
                "that is a number"
            )
        return self.number(node).cast("float64")

    # ------------------------------------------------------------------------- conditions

    def condition(self, node: Node) -> Any:
        """A condition: true, false or null."""
        match node:
            case Comparison(sign, left, right):
                return self._compared(sign, left, right)
            case Membership(of, members):
                return self._contained(of, members)
            case Interval(of, low, high):
                return self._compared(">=", of, low) & self._compared("<=", of, high)
            case Emptiness(of):
                return self._value(of).isnull()
            case Negation(of):
                return ~self._truth(of)
            case Junction(word, conditions):
                return _joined(word, [self._truth(each) for each in conditions])
        return self._truth(node)

    def _truth(self, node: Node) -> Any:
        """What `and`, `or` and `not` accept: a condition, or a column of true/false or 1/0."""
        import ibis

        if isinstance(node, Constant) and isinstance(node.value, bool):
            return ibis.literal(node.value)
        if tree.is_condition(node):
            return self.condition(node)
        if not isinstance(node, Column):
            raise InputError(
                f"{self.unread}; write a comparison or a column of true/false in place of "
                f"{shown(tree.written(node))}"
            )
        kind = self.kind(node)
        if kind == "truth":
            return self.table[node.name]
        if kind not in NUMBERS:
            raise InputError(
                f"{self.where}: {self._column(node)}; `and`, `or` and `not` accept comparisons and "
                "columns of true/false or 1/0"
            )
        value: Any = number(self.table[node.name])
        return ibis.cases((value == 1, True), (value == 0, False), else_=None)

    def _value(self, node: Node) -> Any:
        """A value of any kind, null where `is null` holds."""
        import ibis

        if isinstance(node, Column):
            value = self.table[node.name]
            return number(value) if value.type().is_floating() else value
        if isinstance(node, Constant):
            return ibis.literal(node.value)
        return self.number(node)

    def _compared(self, sign: str, left: Node, right: Node) -> Any:
        pair = self._as_written(sign, left, right)
        if pair is None:
            pair = self._as_numbers(left, right)
        return _OPERATORS[sign](*pair)

    def _as_written(self, sign: str, left: Node, right: Node) -> tuple[Any, Any] | None:
        """Text with 'text', and two columns of texts or of times; None for what are numbers."""
        kinds = {self.kind(left), self.kind(right)}
        constant = any(isinstance(one, Constant) for one in (left, right))
        columns = isinstance(left, Column) and isinstance(right, Column)
        if kinds == {"text"} and (constant or sign in tree.SAME):
            return self._value(left), self._value(right)
        if kinds == {"time"} and columns:
            pair = self._value(left), self._value(right)
            return pair if pair[0].type() == pair[1].type() else None
        return None

    def _as_numbers(self, left: Node, right: Node) -> tuple[Any, Any]:
        for one in (left, right):
            text = isinstance(one, Constant) and isinstance(one.value, str)
            if text or self.kind(one) not in NUMBERS:
                raise self._not_comparable(left, right)
        mine, its = self.number(left), self.number(right)
        return self._like(mine, left, its), self._like(its, right, mine)

    def _like(self, value: Any, node: Node, other: Any) -> Any:
        """A constant as a whole number next to whole numbers, where engines round differently."""
        import ibis

        whole = isinstance(node, Constant) and _is_whole(float(node.value))
        if whole and other.type().is_integer():
            return ibis.literal(int(self._constant(node)), "int64")
        return value

    def _contained(self, of: Node, members: Sequence[Constant]) -> Any:
        """`in`: texts as they are written, numbers and true/false as numbers."""
        texts = [member for member in members if isinstance(member.value, str)]
        numbers = [member for member in members if not isinstance(member.value, str)]
        found = []
        if texts:
            self._compared("==", of, texts[0])  # refused where they do not compare
            found.append(self._value(of).isin([member.value for member in texts]))
        if numbers:
            self._as_numbers(of, numbers[0])
            value, listed = self.number(of), [float(member.value) for member in numbers]
            exact = [one for one in listed if value.type().is_integer() and _is_whole(one)]
            rest = [one for one in listed if one not in exact]
            found += [value.isin([int(one) for one in exact])] if exact else []
            found += [value.isin(rest)] if rest else []
        return _joined("or", found)

    # --------------------------------------------------------------------------- messages

    def _not_comparable(self, left: Node, right: Node) -> InputError:
        if not isinstance(left, Column):
            left, right = right, left
        mine = f"{self._column(left)} and" if isinstance(left, Column) else self._described(left)
        return InputError(
            f"{self.where}: {mine} does not compare with {self._described(right)}; compare "
            "numbers with numbers and text with 'text'"
        )

    def _column(self, node: Column) -> str:
        return f"column {quoted(node.name)} holds {self._type(node)} values"

    def _type(self, node: Column) -> str:
        return shown(str(self.table[node.name].type()))

    def _described(self, node: Node) -> str:
        if isinstance(node, Column):
            return f"column {quoted(node.name)}, {self._type(node)} values"
        if isinstance(node, Constant) and isinstance(node.value, str):
            return f"the text {quoted(node.value)}"
        if isinstance(node, Constant):
            return f"the number {node.value}"
        return f"the {self.kind(node)} {shown(tree.written(node))}"


def _is_whole(value: float) -> bool:
    return value.is_integer() and abs(value) < 2**63


def _joined(word: str, conditions: Sequence[Any]) -> Any:
    """Conditions in a tree of few levels: engines and Python limit how deep a query may be."""
    if len(conditions) == 1:
        return conditions[0]
    middle = len(conditions) // 2
    halves = _joined(word, conditions[:middle]), _joined(word, conditions[middle:])
    return _OPERATORS[word](*halves)
