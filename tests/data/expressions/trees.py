"""Random trees of expressions, a table for them, and what they are worth by a plain loop."""

import datetime
import decimal
import math

import pyarrow as pa
from hypothesis import strategies as st

from mmnet.data.expressions.tree import (
    ORDER,
    SAME,
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
)

CENTS = [0, 100, 10, 250, -100, 300, 100, 0, 9999]
NOON = datetime.datetime(2024, 5, 31, 12)
COLUMNS = {
    "plays": pa.array([None, 0, 1, 2, 3, -1, 2**53 - 1, 2**53 + 1, -(2**63), 1], pa.int64()),
    "likes": pa.array([None, 1, 0, 1, 2, 1, 2**53, 2**53 + 1, 2**63 - 1, 0], pa.int64()),
    "short": pa.array([1, None, 2, 0, 2**31 - 1, -(2**31), 1, 1, 0, 2], pa.int32()),
    "seconds": pa.array([None, math.nan, math.inf, 0.0, 0.5, 1, -2.5, 1e308, 3, -math.inf]),
    "price": pa.array([None, *(decimal.Decimal(n) / 100 for n in CENTS)], pa.decimal128(6, 2)),
    "is ad": pa.array([None, True, False, True, False, True, False, None, True, False]),
    "in": pa.array([True, None, None, False, False, True, True, False, True, False]),
    "kind": pa.array([None, "", "share", "it's", "1", " 2.5 ", "TRUE", "a\\b", 'say "x"', "0"]),
    "Wörter.2": pa.array(["share", None, "share", "0", "1", "2.5", "false", "a\\b", "é", "x\ny"]),
    "began": pa.array([None, *[NOON] * 5, *[NOON + datetime.timedelta(hours=1)] * 4]),
    "ended": pa.array([NOON, None, *[NOON] * 3, *[NOON - datetime.timedelta(days=1)] * 5]),
}
TABLE = pa.table(COLUMNS)
ROWS = TABLE.to_pylist()

NUMBERS = ("plays", "likes", "short", "seconds", "price", "is ad", "in", "kind", "Wörter.2")
TEXTS, TIMES = ("kind", "Wörter.2"), ("began", "ended")
LARGE = 2**53

# ---------------------------------------------------------------------------------- random trees


def columns(names):
    return st.sampled_from(names).map(Column)


floats = st.one_of(
    st.sampled_from([0.0, 1.0, 2.0, 0.5, 3.0, float(LARGE), 1e308, math.inf]),
    st.floats(0, 10),
)
texts = st.sampled_from(["share", "it's", "a\\b", 'say "x"', "", "1", "é", "x\ny", "m"])
number_constants = floats.map(Constant)
text_constants = texts.map(Constant)
truth_constants = st.booleans().map(Constant)
signed_constants = st.one_of(floats, floats.map(lambda value: -value)).map(Constant)


def _numbers(inner):
    conditions, numbers = inner
    more = st.one_of(numbers, numbers, conditions)
    return st.one_of(
        st.builds(Arithmetic, st.sampled_from("+-*/"), more, more),
        more.filter(lambda of: not isinstance(of, Constant)).map(Negative),
    )


def _conditions(inner):
    conditions, numbers = inner
    truths = st.one_of(conditions, columns(NUMBERS), truth_constants)
    values = st.one_of(numbers, numbers, conditions, truth_constants)
    some_texts = columns(TEXTS)
    members = st.one_of(signed_constants, truth_constants)
    return st.one_of(
        st.builds(Comparison, st.sampled_from(SAME + ORDER), values, values),
        st.builds(Comparison, st.sampled_from(SAME + ORDER), some_texts, text_constants),
        st.builds(Comparison, st.sampled_from(SAME), some_texts, some_texts),
        st.builds(Comparison, st.sampled_from(SAME + ORDER), columns(TIMES), columns(TIMES)),
        st.builds(Membership, numbers, st.lists(members, min_size=1, max_size=3).map(tuple)),
        st.builds(
            Membership,
            some_texts,
            st.lists(st.one_of(text_constants, members), min_size=1, max_size=3).map(tuple),
        ),
        st.builds(Interval, values, values, values),
        st.builds(Interval, some_texts, text_constants, text_constants),
        st.builds(Emptiness, st.one_of(values, columns(tuple(COLUMNS)))),
        truths.map(Negation),
        st.builds(
            Junction,
            st.sampled_from(["and", "or"]),
            st.lists(truths, min_size=2, max_size=3).map(tuple),
        ),
    )


def _deeper(levels):
    numbers = st.one_of(columns(NUMBERS), signed_constants, st.just(EveryEvent()))
    conditions = truth_constants
    for _ in range(levels):
        inner = conditions, numbers
        conditions, numbers = _conditions(inner), st.one_of(numbers, _numbers(inner))
    return conditions, numbers


conditions, numbers = _deeper(3)

# ------------------------------------------------------------------------------------ a plain loop


def number_of(node, row):
    """A value as a number; None where it has none."""
    match node:
        case Column(name):
            value = row[name]
            if isinstance(value, str):
                value = value.strip()
                if value.lower() in ("true", "false"):
                    return float(value.lower() == "true")
                try:
                    return float(value)
                except ValueError:
                    return None
            if isinstance(value, (float, decimal.Decimal)):
                value = float(value)
                return None if math.isnan(value) else value
            return value if value is None else int(value)
        case Constant(value):
            return float(value)
        case EveryEvent():
            return 1.0
        case Negative() | Arithmetic():
            value = computed(node, row)
            return None if value is None or math.isnan(value) else value
    value = truth_of(node, row)
    return None if value is None else int(value)


def computed(node, row):
    """A number as float64, with NaN; None where it has none."""
    match node:
        case Negative(of):
            value = computed(of, row)
            return None if value is None else -value
        case Arithmetic(sign, left, right):
            left, right = computed(left, row), computed(right, row)
            if left is None or right is None or (sign == "/" and right == 0):
                return None
            if sign == "/":
                return left / right
            return left + right if sign == "+" else left - right if sign == "-" else left * right
    value = number_of(node, row)
    return None if value is None else float(value)


def compared(sign, left, right):
    if left is None or right is None:
        return None
    if float in (type(left), type(right)) and type(left) is not type(right):
        left, right = float(left), float(right)
    return {
        "==": left == right,
        "!=": left != right,
        "<": left < right,
        "<=": left <= right,
        ">": left > right,
        ">=": left >= right,
    }[sign]


def pair_of(sign, left, right, row):
    """Two values as they are compared."""
    names = [node.name for node in (left, right) if isinstance(node, Column)]
    constant = [node.value for node in (left, right) if isinstance(node, Constant)]
    text = any(isinstance(value, str) for value in constant)
    both = len(names) == 2 and (
        set(names) <= set(TIMES) or (set(names) <= set(TEXTS) and sign in SAME)
    )
    if text or both:
        return [
            node.value if isinstance(node, Constant) else row[node.name] for node in (left, right)
        ]
    pair = [number_of(left, row), number_of(right, row)]
    for n, node in enumerate((left, right)):  # a whole constant is exact next to whole numbers
        if isinstance(node, Constant) and isinstance(pair[1 - n], int) and pair[n].is_integer():
            pair[n] = int(pair[n])
    return pair


def both(left, right):
    if left is False or right is False:
        return False
    return None if left is None or right is None else True


def truth_of(node, row):
    """True, False, or None where it is not known."""
    match node:
        case Constant(value):
            return value
        case Column(name):
            if isinstance(row[name], bool):
                return row[name]
            return {0: False, 1: True}.get(number_of(node, row))
        case Comparison(sign, left, right):
            return compared(sign, *pair_of(sign, left, right, row))
        case Membership(of, members):
            found = [truth_of(Comparison("==", of, member), row) for member in members]
            return True if True in found else None if None in found else False
        case Interval(of, low, high):
            return both(
                truth_of(Comparison(">=", of, low), row), truth_of(Comparison("<=", of, high), row)
            )
        case Emptiness(of):
            if isinstance(of, Column):
                return row[of.name] is None or row[of.name] != row[of.name]
            return number_of(of, row) is None
        case Negation(of):
            value = truth_of(of, row)
            return None if value is None else not value
        case Junction("and", conditions):
            found = [truth_of(each, row) for each in conditions]
            return False if False in found else None if None in found else True
        case Junction("or", conditions):
            found = [truth_of(each, row) for each in conditions]
            return True if True in found else None if None in found else False
    raise TypeError(node)


def counted(node, row):
    """What an event adds to a condition or a number; None for a bad event."""
    if isinstance(node, EveryEvent):
        return 1
    if isinstance(node, (Column, Negative, Arithmetic)):
        value = number_of(node, row)
        good = value is not None and 0 <= value < LARGE and value == math.floor(value)
        return int(value) if good else None
    value = truth_of(node, row)
    return None if value is None else int(value)
