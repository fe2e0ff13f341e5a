"""Split of the validation items into two halves: one chooses, the other calibrates.

Thresholds and intervals that are fitted on the rows that chose the epoch and the system are too
optimistic. An item is in one half with all of its rows, and always in the same one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmnet.data.splits import Examples
from mmnet.hashing import hash_items, uniform

SALT = 17
"""Salt that makes the halves independent of other uses of an item's hash, such as the split."""
FEWEST_ROWS, FEWEST_ITEMS = 200, 20
"""Minimum size of a half. The smallest group of prediction intervals has as many rows."""


@dataclass(frozen=True)
class Halves:
    """Roles of the validation examples.

    Attributes:
        choosing: examples that choose the epoch and the system.
        fitting: examples that fit thresholds and intervals.
        remark: explanation if validation is too small to be split; else empty.
    """

    choosing: Examples
    fitting: Examples
    remark: str = ""


def halves(examples: Examples, item_ids: np.ndarray) -> Halves:
    """Split examples by a hash of their items.

    Where a half would have fewer than `FEWEST_ROWS` rows or `FEWEST_ITEMS` items, all examples
    choose, and all fit.

    Args:
        examples: examples of the validation split.
        item_ids: ids of all items of the dataset, text [items].
    """
    first = uniform(SALT, hash_items(item_ids))[examples.items] < 0.5
    parts = [examples.taken(rows) for rows in (first, ~first)]
    rows = min(map(_fewest_rows, parts))
    items = min(len(np.unique(part.items)) for part in parts)
    if rows < FEWEST_ROWS or items < FEWEST_ITEMS:
        remark = (
            f"validation is not cut in two: a half would have {rows:,} rows of {items:,} items, "
            f"fewer than {FEWEST_ROWS:,} or {FEWEST_ITEMS:,}; all of it chooses, and fits "
            "thresholds and intervals"
        )
        return Halves(examples, examples, remark)
    return Halves(parts[0], parts[1])


def _fewest_rows(examples: Examples) -> int:
    """Rows of the output that has the fewest of them."""
    if examples.eligible is None or not len(examples):
        return len(examples)
    return int(examples.eligible.sum(axis=0).min())
