"""A small language for what to count of an event: columns, arithmetic and conditions.

    events                                       every event
    is_click                                     a column of numbers or true/false
    play_ms >= 0.9 * length_ms and not is_ad     1 where a condition holds, 0 elsewhere
    coins * 100                                  a number that is computed

An expression is parsed into a tree (`grammar`, `tree`), and a tree is translated into an Ibis
expression (`in_ibis`); user text is never evaluated. `reading` reads the flags.
docs/expressions.md documents the language for users.
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
