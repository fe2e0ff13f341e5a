"""Taxonomies: which item has which category or tags, and the sums and means of their rates."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from mmnet.config import TaskFlags
from mmnet.data import budgets, share_rates
from mmnet.data.arrays import FEWER
from mmnet.data.columns import SEPARATOR, values_of
from mmnet.data.counts import Panel
from mmnet.data.tables import Table
from mmnet.startup import load_tensorflow

Shards = Callable[[str], Iterable[tuple[Panel, Table]]]
"""Taxonomy column -> every shard's panel, and its rows of an items table with that column."""

Means = tuple[np.ndarray, np.ndarray]
"""`(taxonomy_rate, taxonomy_missing_flag)`, float32 [items, periods], percent."""

PAIR_BYTES = 48
"""Of an item's value and a period: two sums, what is left of each without the item, and halves."""

SUMS = ("sums", "counts", "all_sums", "all_counts")


def members(
    items: Table,
    column: str,
    numbers: dict[str, int] | None = None,
    separator: str = SEPARATOR,
) -> tuple[np.ndarray, np.ndarray]:
    """Which item has which value of a taxonomy; every value counts, seen in training or not.

    Args:
        items: some rows of the items table.
        column: of the taxonomy.
        numbers: value -> number; values that come for the first time are added.
        separator: of several values in one text.

    Returns:
        Row of the item, ascending, and number of the value, int64 [pairs]; an item may have
        several values, or none.

    >>> members(Table(pa.table({"tags": ["a;b", "", "b"]}), "items"), "tags")
    (array([0, 0, 2]), array([0, 1, 1]))
    """
    numbers = {} if numbers is None else numbers
    rows, values = values_of(items, column, "taxonomies", separator)
    codes, found = pd.factorize(values)
    of_codes = [numbers.setdefault(value, len(numbers)) for value in found]
    return rows.astype(np.int64), np.asarray(of_codes, np.int64)[codes]


@dataclass
class Taxonomy:
    """One taxonomy: the numbers of its values, and their sums over all items (Eq. 4).

    Attributes:
        column: of the items table.
        task: which means are wanted.
        num_periods: columns of the panels.
        sums: int64 [values, periods], above the fraction line; where pooled counts would pass
            int64, sums of halves, [values, 2 * periods], see `taxonomy_means.halves`.
        counts: int64, of the same shape, below it.
        all_sums: int64 [periods], or [2 * periods], of all items.
        all_counts: int64, of the same shape.
        numbers: value -> its row in the sums.
        separator: of several values in one text.
    """

    column: str
    task: TaskFlags
    num_periods: int
    sums: np.ndarray
    counts: np.ndarray
    all_sums: np.ndarray
    all_counts: np.ndarray
    numbers: dict[str, int] = field(default_factory=dict)
    separator: str = SEPARATOR

    def means(self, panel: Panel, part: Table) -> Means:
        """The means of some items: their panel, and their rows of the items table."""
        return next(self.means_of_shards([(panel, part)], 1))

    def means_of_shards(
        self, shards: Iterable[tuple[Panel, Table]], num_shards: int
    ) -> Iterator[Means]:
        """The means of each shard, out of a `tf.data` pipeline where there are several."""
        tf_means, task = _tf_means(), self.task
        function = functools.partial(
            tf_means.means,
            leave_one_out=task.taxonomy_mean == "leave_one_out",
            pooled=task.taxonomy_weighting == "clicks",
            num_periods=self.num_periods,
        )

        def elements() -> Iterator[tuple]:
            for panel, part in shards:
                shard = self._shard(panel, part)
                # Large sums may be a mapped file: only the rows of this shard's values are read.
                of_pairs = self.sums[shard.values], self.counts[shard.values]
                yield shard, tf_means.Sums(*of_pairs, self.all_sums, self.all_counts)

        signature = (tf_means.SHARD, tf_means.OF_PAIRS)
        return tf_means.over_shards(function, elements(), signature, num_shards)

    def add_shards(self, shards: Iterable[tuple[Panel, Table]], num_shards: int) -> bool:
        """Adds the sums of all shards; returns whether int64 holds them."""
        tf_means = _tf_means()
        about = np.zeros((2, len(self.all_sums)))  # as floats, to see whether int64 overflows

        def elements() -> Iterator[tuple]:
            for panel, part in shards:
                shard = self._shard(panel, part)
                for total, counts in zip(about, (shard.above, shard.below), strict=True):
                    total += counts.sum(axis=0, dtype=np.float64)
                yield (shard,)

        found = tf_means.over_shards(tf_means.sums, elements(), (tf_means.SHARD,), num_shards)
        for values, sums in found:
            self._check_values()
            if more := len(self.numbers) - len(self.sums):  # else a copy of all sums per shard
                self.sums = np.pad(self.sums, ((0, more), (0, 0)))
                self.counts = np.pad(self.counts, ((0, more), (0, 0)))
            # Only the values of this shard: it may have few of many.
            self.sums[values] += sums.above
            self.counts[values] += sums.below
            self.all_sums += sums.all_above
            self.all_counts += sums.all_below
        return bool(about.max(initial=0) < 1 << 62)

    def _shard(self, panel: Panel, part: Table) -> Any:
        """What is summed above and below the fraction line, and who has which value."""
        seen = share_rates.observed(panel, self.task.min_clicks)
        if self.task.taxonomy_weighting == "clicks":
            above, below = panel.shares * seen, panel.clicks * seen
            if len(self.all_sums) > self.num_periods:
                above, below = map(_tf_means().halves, (above, below))
        else:
            above, below = share_rates.fixed_point(panel, seen), seen.astype(np.int64)
        rows, values = members(part, self.column, self.numbers, self.separator)
        self._check_pairs(len(rows))
        return _tf_means().Shard(above, below, rows, values)

    def _check_values(self) -> None:
        """Raises: the sums of all values do not fit in memory."""
        values, periods = len(self.numbers), len(self.all_sums)
        what = f"the sums of {values:,} values of taxonomy {self.column!r} in {periods:,} periods"
        needed = 2 * self.sums.itemsize * values * periods
        budgets.check_memory(needed, what, f"{FEWER}, or leave it out of --taxonomies")

    def _check_pairs(self, pairs: int) -> None:
        """Raises: the sums of a shard's items, each with its values, do not fit in memory."""
        periods = len(self.all_sums)
        what = (
            f"the means of {pairs:,} values that some items have of taxonomy {self.column!r}, in "
            f"{periods:,} periods,"
        )
        fix = f"{FEWER}, set a smaller --shard_items, or leave it out of --taxonomies"
        budgets.check_memory(PAIR_BYTES * pairs * periods, what, fix)


def _tf_means() -> Any:
    """The arithmetic, which is TensorFlow's: tables without taxonomies do not wait for it."""
    load_tensorflow(keras=False)
    from mmnet.data import taxonomy_means

    return taxonomy_means


def fit(
    columns: Sequence[str],
    task: TaskFlags,
    num_periods: int,
    shards: Shards,
    num_shards: int,
    separator: str = SEPARATOR,
) -> list[Taxonomy]:
    """The first pass over all items: numbers the values of each taxonomy and adds up their rates.

    Args:
        columns: of the taxonomies.
        task: which means are wanted.
        num_periods: columns of the panels.
        shards: the items, shard by shard.
        num_shards: how many there are.
        separator: of several values in one text.
    """
    found = []
    for column in columns:
        for width in (num_periods, 2 * num_periods):  # the second for sums that pass int64
            none, nothing = np.zeros((0, width), np.int64), np.zeros(width, np.int64)
            sums = (none, none.copy(), nothing, nothing.copy())
            taxonomy = Taxonomy(column, task, num_periods, *sums, separator=separator)
            if taxonomy.add_shards(shards(column), num_shards):
                break
        found.append(taxonomy)
    return found


def save(taxonomies: Sequence[Taxonomy], directory: Path) -> None:
    """Writes what `fit` found, for other processes to read."""
    for number, taxonomy in enumerate(taxonomies):
        table = pa.table({taxonomy.column: pa.array(list(taxonomy.numbers), pa.string())})
        pa.parquet.write_table(table, directory / f"taxonomy-{number}.parquet")
        for name in SUMS:
            file = directory / f"taxonomy-{number}-{name}.npy"
            np.save(file, getattr(taxonomy, name), allow_pickle=False)


def load(
    columns: Sequence[str],
    task: TaskFlags,
    num_periods: int,
    directory: Path,
    separator: str = SEPARATOR,
) -> list[Taxonomy]:
    """Reads what `save` wrote; large sums stay in their files."""
    found = []
    for number, column in enumerate(columns):
        values = pa.parquet.read_table(directory / f"taxonomy-{number}.parquet")[column]
        sums = {
            name: np.load(
                directory / f"taxonomy-{number}-{name}.npy", mmap_mode="r", allow_pickle=False
            )
            for name in SUMS
        }
        numbers = {value: number for number, value in enumerate(values.to_pylist())}
        found.append(
            Taxonomy(column, task, num_periods, **sums, numbers=numbers, separator=separator)
        )
    return found
