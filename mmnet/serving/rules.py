"""Format of rules that decide by scores.

threshold=2.5      keep items with a predicted share rate of 2.5 % or more
keep=0.3           keep the best 30 %
recall=0.99        drop as much as possible while keeping 99 % of the true top 5 %
"""

from __future__ import annotations

import math
from typing import Literal, get_args

from mmnet.checks import InputError, did_you_mean

Kind = Literal["threshold", "keep", "recall"]
KINDS = get_args(Kind)


def parse(text: str) -> tuple[Kind, float]:
    """Parses a rule.

    >>> parse("recall=0.99")
    ('recall', 0.99)

    Raises:
        InputError: the text is not a rule.
    """
    kind, sign, number = text.partition("=")
    try:
        value = float(number)
    except ValueError:
        value = float("nan")
    if not sign or kind not in KINDS or not math.isfinite(value):
        raise InputError(
            f"a rule must be threshold=PERCENT, keep=SHARE or recall=SHARE. Received: {text!r}"
            f"{did_you_mean(kind, KINDS)}"
        )
    if kind != "threshold" and not 0 < value <= 1:
        raise InputError(f"a rule's share must be above 0 and at most 1. Received: {text!r}")
    return kind, value  # type: ignore[return-value]
