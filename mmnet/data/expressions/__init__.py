"""What may be counted of an event: a small language of columns, arithmetic and conditions.

    events                                       every event
    is_click                                     a column of numbers or true/false
    play_ms >= 0.9 * length_ms and not is_ad     1 where a condition holds, 0 elsewhere
    coins * 100                                  a number that is computed

An expression is read into a tree (`grammar`, `tree`), and a tree into an Ibis expression
(`in_ibis`); nothing is evaluated. `reading` reads the flags. docs/expressions.md is the language's
page for users.
"""

from mmnet.data.expressions.in_ibis import NUMBERS, counted, filled, kind_of, number
from mmnet.data.expressions.reading import Count, Rate, rates, read_count, read_rate

__all__ = [
    "NUMBERS",
    "Count",
    "Rate",
    "counted",
    "filled",
    "kind_of",
    "number",
    "rates",
    "read_count",
    "read_rate",
]
