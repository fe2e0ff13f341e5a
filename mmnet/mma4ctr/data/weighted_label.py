"""WeChat's label: the weighted sum of seven behaviours is at least half of its maximum.

A row is positive where 4 read_comment + 3 like + 2 click_avatar + forward + favorite + comment +
follow is 7 or more of 13.
"""

from __future__ import annotations

from typing import Any

WEIGHTS = {
    **{"read_comment": 4, "like": 3, "click_avatar": 2},
    **{"forward": 1, "favorite": 1, "comment": 1, "follow": 1},
}
"""Weight of each behaviour; they sum to 13."""

LEAST_SCORE = 7
"""Positive from here on: the least whole number at half of 13 or above."""


def positive(behaviours: Any) -> Any:
    """Return whether the weighted sum is `LEAST_SCORE` or more, for anything with columns by name.

    >>> row = dict.fromkeys(WEIGHTS, 0)
    >>> positive(row | {"read_comment": 1, "like": 1})
    True
    >>> positive(row | {"read_comment": 1, "click_avatar": 1})
    False
    """
    first, *others = (behaviours[name] * weight for name, weight in WEIGHTS.items())
    return sum(others, first) >= LEAST_SCORE
