"""Taxonomy means: what the other items of a category or tag did, period by period (Eq. 4).

Sums are integers, so leaving an item out by subtraction is exact, and so is any sharding. A mean
at period t uses period t alone, so it is known at t.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from mmnet.config import TaskFlags
from mmnet.data import share_rates, tables
from mmnet.data.counts import Panel
from mmnet.data.share_rates import FIXED_POINT
from mmnet.data.tables import Table


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
        rows, values = tables.values_of(items, column, "taxonomies")
        codes, found = pd.factorize(values)
        numbers = [self._numbers.setdefault(value, len(self._numbers)) for value in found]
        return Members(
            rows.astype(np.int64), np.asarray(numbers, np.int64)[codes], len(self._numbers)
        )


def members(items: Table, column: str) -> Members:
    """Reads the members of a taxonomy from an items column."""
    return Values().members(items, column)


class TaxonomyMeans:
    """Eq. 4: the mean share rate of an item's taxonomy value in each period.

    In a first pass `add` takes every shard of items in; then `means` gives each shard its means.
    Sums are integers, so the means do not depend on how the items were cut into shards.

    An item with several values gets the mean over those that have one. Where no (other) item of
    its values was observed, the mean over all (other) items stands in, flagged; where nobody was
    observed, 0, flagged. Leave-one-out takes the item itself out of the mean; with it in
    (the paper's Eq. 4) an item that is alone in its value reads its own rate.

    Args:
        num_periods: columns of the panels.
        min_clicks: fewer clicks make an entry missing, here as in the history.
        leave_one_out: False gives the paper's self-including mean.
        weighting: `items` averages rates, `clicks` divides pooled shares by pooled clicks.
    """

    def __init__(
        self,
        num_periods: int,
        *,
        min_clicks: int = 1,
        leave_one_out: bool = True,
        weighting: str = "items",
    ):
        self._min_clicks, self._weighting = min_clicks, weighting
        self._own = 1 if leave_one_out else 0
        # Of each value, int64 [values, periods], and of all items, [periods].
        self.sums = np.zeros((0, num_periods), np.int64)
        self.counts = np.zeros((0, num_periods), np.int64)
        self.all_sums = np.zeros(num_periods, np.int64)
        self.all_counts = np.zeros(num_periods, np.int64)

    def add(self, panel: Panel, taxonomy: Members) -> None:
        """Takes a shard in: its panel, and who of it belongs to which value."""
        above, below = self._parts(panel)
        more = taxonomy.num_values - len(self.sums)
        if more > 0:
            self.sums = np.pad(self.sums, ((0, more), (0, 0)))
            self.counts = np.pad(self.counts, ((0, more), (0, 0)))
        # Only the values of this shard: it may have few of many.
        values, place = np.unique(taxonomy.values, return_inverse=True)
        for total, part in ((self.sums, above), (self.counts, below)):
            total[values] += _summed(part, taxonomy.items, place, len(values))
        self.all_sums += above.sum(axis=0)
        self.all_counts += below.sum(axis=0)

    def means(self, panel: Panel, taxonomy: Members) -> tuple[np.ndarray, np.ndarray]:
        """The means of a shard that was added.

        Returns:
            `(taxonomy_rate, taxonomy_missing_flag)`, float32 [items, periods], percent.
        """
        above, below = self._parts(panel)
        own, items, num_items = self._own, taxonomy.items, len(above)
        others_sum = self.sums[taxonomy.values] - own * above[items]
        others = self.counts[taxonomy.values] - own * below[items]
        pairs = np.arange(len(items))
        mean = _summed(self._mean(others_sum, others), pairs, items, num_items)
        num_means = _summed((others > 0).astype(np.int64), pairs, items, num_items)
        known = num_means > 0
        everyone = self._mean(self.all_sums - own * above, self.all_counts - own * below)
        fixed = np.where(known, mean, everyone)
        rate = fixed.astype(np.float64) / np.maximum(num_means, 1) / FIXED_POINT
        return rate.astype(np.float32), 1 - known.astype(np.float32)

    def _parts(self, panel: Panel) -> tuple[np.ndarray, np.ndarray]:
        """What is summed above and below the fraction line, int64 [items, periods]."""
        seen = share_rates.observed(panel, self._min_clicks)
        if self._weighting == "clicks":
            return panel.shares * seen, panel.clicks * seen
        return share_rates.fixed_point(panel, seen), seen.astype(np.int64)

    def _mean(self, sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Mean in fixed point, int64, 0 where the count is 0; rounded once, from exact sums."""
        unit = 100.0 * FIXED_POINT if self._weighting == "clicks" else 1.0
        return np.rint(unit * sums / np.maximum(counts, 1)).astype(np.int64)


class TaxonomySums:
    """What a first pass over all items finds out for the second: the taxonomies' sums.

    Args:
        num_periods: columns of the panels.
        taxonomies: items columns.
        task: which means are wanted.
    """

    def __init__(self, num_periods: int, taxonomies: Sequence[str], task: TaskFlags):
        self.values = {column: Values() for column in taxonomies}
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


def taxonomy_means(
    panel: Panel, taxonomy: Members, *, num_shards: int = 1, **rules
) -> tuple[np.ndarray, np.ndarray]:
    """`TaxonomyMeans` of one panel.

    Args:
        panel: counts.
        taxonomy: who belongs to which value.
        num_shards: how many it is cut into; the result does not depend on it.
        **rules: min_clicks, leave_one_out, weighting.

    Returns:
        `(taxonomy_rate, taxonomy_missing_flag)`, float32 [items, periods], percent.
    """
    found = TaxonomyMeans(panel.num_periods, **rules)
    borders = np.linspace(0, len(panel.clicks), num_shards + 1).astype(int)
    shards = [slice(a, b) for a, b in itertools.pairwise(borders)]
    parts = [(panel.part(shard), taxonomy.part(shard)) for shard in shards]
    for part in parts:
        found.add(*part)
    rates, flags = zip(*(found.means(*part) for part in parts), strict=True)
    return np.concatenate(rates), np.concatenate(flags)


def _summed(data: np.ndarray, rows: np.ndarray, into: np.ndarray, number: int) -> np.ndarray:
    """Sums rows of an array into rows of a new one, int64 [number, columns].

    Args:
        data: int64 [any, columns].
        rows: of the array, int64 [terms].
        into: the row of the result that each term belongs to, int64 [terms].
        number: rows of the result.
    """
    from scipy import sparse  # only tables with taxonomies wait for it

    ones = np.ones(len(rows), np.int64)
    return sparse.csr_array((ones, (into, rows)), shape=(number, len(data))) @ data
