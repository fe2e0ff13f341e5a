"""Durations as text, such as 20m."""

from __future__ import annotations

import re

_SECONDS = {"s": 1, "m": 60, "h": 3600}


def seconds_of(text: str) -> float:
    """Reads a duration: a number above 0 and its unit, s, m or h.

    Returns:
        Seconds.

    Raises:
        ValueError: the text is not a duration.

    >>> seconds_of("90s"), seconds_of("1.5h")
    (90.0, 5400.0)
    """
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([smh])", text)
    seconds = float(found[1]) * _SECONDS[found[2]] if found else 0.0
    if not seconds:
        raise ValueError("must be a number above 0 with its unit, s, m or h, such as 20m")
    return seconds


def shown(seconds: float) -> str:
    """A duration for people.

    >>> shown(0.5), shown(90), shown(7200)
    ('1 s', '1.5 min', '2.0 h')
    """
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"
