"""Taxonomies: which item has which category or tags, and the sums behind their means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from mmnet.config import TaskFlags
from mmnet.data.columns import values_of
from mmnet.data.counts import Panel
from mmnet.data.tables import Table
from mmnet.startup import load_tensorflow

if TYPE_CHECKING:
    from mmnet.data.taxonomy_means import TaxonomyMeans


@dataclass(frozen=True)
class Members:
    """Which item has which value of one taxonomy; an item may have several, or none.

    Attributes:
        items: int64 [pairs], row of the item, ascending.
        values: int64 [pairs], number of the value.
        num_values: how many values there are.
    """

    items: np.ndarray
    values: np.ndarray
    num_values: int

    def part(self, items: slice) -> Members:
        """The members among a run of items, whose rows count from 0 then."""
        low, high = np.searchsorted(self.items, [items.start, items.stop])
        return Members(self.items[low:high] - items.start, self.values[low:high], self.num_values)


class Values:
    """Numbers the values of one taxonomy as they come.

    Args:
        names: values that have numbers already, from 0 on.
    """

    def __init__(self, names: Sequence[str] = ()):
        self._numbers = {name: number for number, name in enumerate(names)}

    @property
    def names(self) -> list[str]:
        """The values, by number."""
        return list(self._numbers)

    def members(self, items: Table, column: str) -> Members:
        """Reads who has which value from an items column; every value counts, seen or not."""
        rows, values = values_of(items, column, "taxonomies")
        codes, found = pd.factorize(values)
        numbers = [self._numbers.setdefault(value, len(self._numbers)) for value in found]
        return Members(
            rows.astype(np.int64), np.asarray(numbers, np.int64)[codes], len(self._numbers)
        )


def members(items: Table, column: str) -> Members:
    """Reads the members of a taxonomy from an items column."""
    return Values().members(items, column)


class TaxonomySums:
    """What a first pass over all items finds out for the second: the taxonomies' sums.

    Args:
        num_periods: columns of the panels.
        taxonomies: items columns.
        task: which means are wanted.
    """

    def __init__(self, num_periods: int, taxonomies: Sequence[str], task: TaskFlags):
        self.values = {column: Values() for column in taxonomies}
        self.means: dict[str, TaxonomyMeans] = {}
        if not taxonomies:
            return
        load_tensorflow(keras=False)  # tables without taxonomies do not wait for it
        from mmnet.data.taxonomy_means import TaxonomyMeans

        self.means = {
            column: TaxonomyMeans(
                num_periods,
                min_clicks=task.min_clicks,
                leave_one_out=task.taxonomy_mean == "leave_one_out",
                weighting=task.taxonomy_weighting,
            )
            for column in taxonomies
        }

    def add(self, panel: Panel, part: Table) -> None:
        """Takes in some items: their panel, and their rows of the items table."""
        for column, means in self.means.items():
            means.add(panel, self.values[column].members(part, column))

    def taxonomy_means(self, panel: Panel, part: Table) -> list[tuple[np.ndarray, np.ndarray]]:
        """Rates and missing flags of each taxonomy, float32 [items, periods], of those items."""
        return [
            means.means(panel, self.values[column].members(part, column))
            for column, means in self.means.items()
        ]

    def save(self, directory: Path) -> None:
        """Writes what was found out, for other processes to read."""
        for number, (column, means) in enumerate(self.means.items()):
            table = pa.table({column: pa.array(self.values[column].names, pa.string())})
            pa.parquet.write_table(table, directory / f"taxonomy-{number}.parquet")
            for name, array in vars(means).items():
                if isinstance(array, np.ndarray):
                    np.save(directory / f"taxonomy-{number}-{name}.npy", array, allow_pickle=False)

    def load(self, directory: Path) -> None:
        """Reads what `save` wrote; large sums stay where they lie."""
        for number, (column, means) in enumerate(self.means.items()):
            names = pa.parquet.read_table(directory / f"taxonomy-{number}.parquet")[column]
            self.values[column] = Values(names.to_pylist())
            for name, array in vars(means).items():
                if isinstance(array, np.ndarray):
                    file = directory / f"taxonomy-{number}-{name}.npy"
                    setattr(means, name, np.load(file, mmap_mode="r", allow_pickle=False))
