"""The column of item ids, in both the log and the items table."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from mmnet.checks import InputError
from mmnet.config import TableFlags
from mmnet.data.columns import id_texts
from mmnet.data.tables import Table

MET = 0.5
"""Minimum share of the log's ids that the items table must have."""

ONCE = 0.9
"""Minimum share of the rows of the items table whose id must be unique for a column of ids."""


@dataclass(frozen=True)
class Key:
    """A column of ids.

    Attributes:
        column: name of the column in both tables.
        met: share of the log's ids that are in the items table.
        once: number of distinct ids of the items table, as a share of its rows.
    """

    column: str
    met: float
    once: float


def keys(log: Table, items: Table) -> list[Key]:
    """Finds columns that both tables have and that may be the ids, the best first.

    Args:
        log: counts or events, or some of their rows.
        items: the whole items table, in which ids are looked up.

    >>> log = Table(pa.table({"id": ["a", "b", "a"], "tag": ["x", "x", "x"]}), "counts")
    >>> items = Table(pa.table({"id": ["a", "b"], "tag": ["x", "x"]}), "items")
    >>> keys(log, items)
    [Key(column='id', met=1.0, once=1.0)]
    """
    found, default = [], TableFlags().item_column
    for column in [name for name in log.names if name in items.names]:
        own, here = ids_of(items, column), ids_of(log, column)
        if own is None or here is None:
            continue
        distinct = pc.unique(own)
        once = len(distinct) / max(len(own), 1)
        seen = pc.unique(here)
        met = (pc.sum(pc.is_in(seen, value_set=distinct)).as_py() or 0) / max(len(seen), 1)
        # Ids in the default column may have two spellings, which is reported with their rows.
        if once >= ONCE and (met >= MET or column == default):
            found.append(Key(column, met, once))
    return sorted(found, key=lambda key: (key.column != default, -round(key.met, 2), -key.once))


def elsewhere(log: Table, items: Table) -> tuple[str, str] | None:
    """Finds columns of the two tables with the same ids but different names."""
    for column in items.names:
        own = ids_of(items, column)
        if own is None or len(pc.unique(own)) < ONCE * len(own):
            continue
        distinct = pc.unique(own)
        for other in log.names:
            here = ids_of(log, other)
            if other == column or here is None:
                continue
            seen = pc.unique(here)
            met = pc.sum(pc.is_in(seen, value_set=distinct)).as_py() or 0
            if len(seen) > 1 and met >= MET * len(seen):
                return other, column
    return None


def ids_of(table: Table, column: str) -> pa.Array | None:
    """Returns the ids of a column without empty ones, as text; None if it cannot be ids."""
    try:
        found = id_texts(table, column, "item_column").combine_chunks().cast(pa.large_string())
    except (InputError, pa.ArrowInvalid):
        return None
    return found.filter(pc.not_equal(found, ""))
