"""Checks of the targets of a dataset, where there is nothing to learn or to rank by."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from mmnet.data.counts import Panel
from mmnet.data.share_rates import share_rate
from mmnet.data.splits import Examples, Split

FEW = 10
"""Minimum number of targets above 0; fewer are reported."""

ROWS_AT_ONCE = 1 << 20
"""Number of examples whose targets are gathered at a time."""


@dataclass(frozen=True)
class Targets:
    """The target rates of some examples.

    Attributes:
        number: number of targets.
        positive: number of targets above 0.
        lowest, highest: percent; NaN without targets.
    """

    number: int
    positive: int
    lowest: float
    highest: float

    @property
    def constant(self) -> bool:
        """True if all of them are equal."""
        return self.number > 0 and self.lowest == self.highest


def of_examples(panel: Panel, examples: Examples, horizon: int) -> Targets:
    """Describes the targets of examples.

    >>> from mmnet.data.calendars import Calendar
    >>> clicks, shares = np.array([[4, 4, 2]]), np.array([[1, 0, 0]])
    >>> panel = Panel(None, clicks, shares, np.array([0]), Calendar(kind="integer"), 0)
    >>> of_examples(panel, Examples(np.array([0, 0]), np.array([0, 1])), horizon=1)
    Targets(number=2, positive=0, lowest=0.0, highest=0.0)
    """
    positive, lowest, highest = 0, np.inf, -np.inf
    for start in range(0, len(examples), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        place = examples.items[rows], examples.times[rows].astype(np.int64) + horizon
        rates = share_rate(panel.shares[place], np.maximum(panel.clicks[place], 1))
        positive += int(np.count_nonzero(rates))
        lowest, highest = min(lowest, rates.min()), max(highest, rates.max())
    if not len(examples):
        lowest = highest = np.nan
    return Targets(len(examples), positive, float(lowest), float(highest))


def remarks(
    panel: Panel, split: Split, horizon: int, numerator: str, names: tuple[str, ...]
) -> list[str]:
    """Returns notes about splits whose targets are all equal, or hardly ever above 0.

    Args:
        panel: counts of all items.
        split: the examples.
        horizon: periods ahead.
        numerator: column of the numerator.
        names: names of the splits to check.

    Returns:
        One line for each rate that all targets of some splits have, and one for splits with few
        targets above 0; no lines for most datasets.
    """
    found = {name: of_examples(panel, split[name], horizon) for name in names}
    constant: dict[float, list[str]] = defaultdict(list)
    few = []
    for name, targets in found.items():
        if targets.constant:
            constant[targets.lowest].append(f"{targets.number:,} {name}")
        elif 0 < targets.positive < FEW <= targets.number:
            few.append(f"{targets.positive} of {targets.number:,} {name}")
    lines = [
        f"note: all {_listed(parts)} targets have the same rate, {rate:g} %: nothing can be "
        "learned from them, and P@N and thresholds are meaningless on them; check how "
        f"{numerator!r} is counted"
        for rate, parts in constant.items()
    ]
    if few:
        lines.append(
            f"note: only {_listed(few)} targets are above 0 %: what is learned or measured on "
            f"them is mostly chance; use a longer log, or a --numerator more frequent than "
            f"{numerator!r}"
        )
    return lines


def _listed(parts: list[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
