"""Taxonomies: the values of each item, and the sums and means of their rates."""

from __future__ import annotations

import functools
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

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
"""Callback: taxonomy column -> panel and items rows, with that column, of every shard."""

Means = tuple[np.ndarray, np.ndarray]
"""`(taxonomy_rate, taxonomy_missing_flag)`, float32 [items, periods], percent."""

PAIR_BYTES = 48
"""Bytes per value of an item and period: two sums, each without the item too, and halves."""

PIECE_BYTES = 1 << 28
"""Bytes of the sums of items that are computed at a time, except for an item that needs more."""

SUMS = ("sums", "counts", "all_sums", "all_counts")


def members(
    items: Table,
    column: str,
    numbers: dict[str, int] | None = None,
    separator: str = SEPARATOR,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns pairs of item and taxonomy value; every value counts, seen in training or not.

    Args:
        items: a range of rows of the items table.
        column: column of the taxonomy.
        numbers: value -> number; new values are added.
        separator: separator of several values in one text.

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


class Range(NamedTuple):
    """Some items of a shard, and their values.

    Attributes:
        items: the items.
        rows: int64 [pairs], the row of the item, counted from the first of them, ascending.
        values: int64 [pairs], number of the value.
    """

    items: slice
    rows: np.ndarray
    values: np.ndarray


@dataclass
class Taxonomy:
    """One taxonomy: the numbers of its values, and their sums over all items (Eq. 4).

    Attributes:
        column: column of the items table.
        task: flags of the taxonomy means.
        num_periods: number of columns of the panels.
        sums: int64 [values, periods], sums of the numerators; if pooled counts would exceed
            int64, sums of halves, [values, 2 * periods], see `taxonomy_means.halves`.
        counts: int64, of the same shape, sums of the denominators.
        all_sums: int64 [periods], or [2 * periods], of all items.
        all_counts: int64, of the same shape.
        numbers: value -> its row in the sums.
        separator: separator of several values in one text.
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
        """Computes the means of some items from their panel and their rows of the items table."""
        return next(self.means_of_shards([(panel, part)], 1))

    def means_of_shards(
        self, shards: Iterable[tuple[Panel, Table]], num_shards: int
    ) -> Iterator[Means]:
        """Yields the means of each shard, from a `tf.data` pipeline if there are several."""
        tf_means, task = _tf_means(), self.task
        function = functools.partial(
            tf_means.means,
            leave_one_out=task.taxonomy_mean == "leave_one_out",
            pooled=task.taxonomy_weighting == "clicks",
            num_periods=self.num_periods,
        )

        pieces: deque[int] = deque()  # of the shards that were read and not yet yielded

        def elements() -> Iterator[tuple]:
            for panel, part in shards:
                cut = self._cut(panel, part)
                pieces.append(len(cut))
                for shard in self._pieces(panel, cut):
                    # Large sums may be a mapped file: read only the rows of these values.
                    of_pairs = self.sums[shard.values], self.counts[shard.values]
                    yield shard, tf_means.Sums(*of_pairs, self.all_sums, self.all_counts)

        signature = (tf_means.SHARD, tf_means.OF_PAIRS)
        found = tf_means.over_shards(function, elements(), signature, num_shards)
        for first in found:
            parts = [first, *itertools.islice(found, pieces.popleft() - 1)]
            rates, flags = zip(*parts, strict=True)
            yield (np.concatenate(rates), np.concatenate(flags)) if len(parts) > 1 else first

    def add_shards(self, shards: Iterable[tuple[Panel, Table]], num_shards: int) -> bool:
        """Adds the sums of all shards; returns False if int64 overflowed."""
        tf_means = _tf_means()
        about = np.zeros((2, len(self.all_sums)))  # float copies of the sums, to detect overflow

        def elements() -> Iterator[tuple]:
            for panel, part in shards:
                for shard in self._pieces(panel, self._cut(panel, part)):
                    for total, counts in zip(about, (shard.above, shard.below), strict=True):
                        total += counts.sum(axis=0, dtype=np.float64)
                    yield (shard,)

        found = tf_means.over_shards(tf_means.sums, elements(), (tf_means.SHARD,), num_shards)
        for values, sums in found:
            self._check_values()
            shape = len(self.numbers), len(self.all_sums)
            for array in (self.sums, self.counts):
                # In place: a copy for every shard would cost shards × values.
                array.resize(shape, refcheck=False)
            # Only the values of this shard, which may be few.
            self.sums[values] += sums.above
            self.counts[values] += sums.below
            self.all_sums += sums.all_above
            self.all_counts += sums.all_below
        # Half of int64's range is a margin for the rounding of the float copies.
        return bool(about.max(initial=0) < 1 << 62)

    def _cut(self, panel: Panel, part: Table) -> list[Range]:
        """Cuts a shard into ranges of items whose sums take `PIECE_BYTES`, or of a single item."""
        rows, values = members(part, self.column, self.numbers, self.separator)
        # What comes before each item: its pairs, and one more per item for its own counts.
        items = np.arange(len(panel.clicks) + 1)
        pairs = np.searchsorted(rows, items)
        most = max(1, PIECE_BYTES // (PAIR_BYTES * len(self.all_sums) or 1))
        found: list[Range] = []
        start = 0
        while start < len(panel.clicks) or not found:
            full = np.searchsorted(pairs + items, pairs[start] + start + most, side="right") - 1
            stop = min(max(int(full), start + 1), len(panel.clicks))
            self._check_pairs(int(pairs[stop] - pairs[start]))
            of_range = slice(pairs[start], pairs[stop])
            found.append(Range(slice(start, stop), rows[of_range] - start, values[of_range]))
            start = stop
        return found

    def _pieces(self, panel: Panel, cut: Sequence[Range]) -> Iterator[Any]:
        """Yields numerators, denominators, and the values of each item, of each range of items."""
        for items, rows, values in cut:
            above, below = self._terms(panel.part(items))
            yield _tf_means().Shard(above, below, rows, values)

    def _terms(self, panel: Panel) -> tuple[np.ndarray, np.ndarray]:
        """Returns the numerators and denominators that are added up, int64 [items, periods]."""
        seen = share_rates.observed(panel, self.task.min_clicks)
        if self.task.taxonomy_weighting != "clicks":
            return share_rates.fixed_point(panel, seen), seen.astype(np.int64)
        above, below = panel.shares * seen, panel.clicks * seen
        if len(self.all_sums) > self.num_periods:
            above, below = map(_tf_means().halves, (above, below))
        return above, below

    def _check_values(self) -> None:
        """Raises an error if the sums of all values do not fit in memory."""
        values, periods = len(self.numbers), len(self.all_sums)
        what = f"the sums of {values:,} values of taxonomy {self.column!r} in {periods:,} periods"
        needed = 2 * self.sums.itemsize * values * periods
        budgets.check_memory(needed, what, f"{FEWER}, or leave it out of --taxonomies")

    def _check_pairs(self, pairs: int) -> None:
        """Raises an error if the sums of a range's items for each value do not fit in memory."""
        periods = len(self.all_sums)
        what = (
            f"the means of {pairs:,} values that an item has of taxonomy {self.column!r}, in "
            f"{periods:,} periods,"
        )
        fix = f"{FEWER}, or leave it out of --taxonomies"
        budgets.check_memory(PAIR_BYTES * pairs * periods, what, fix)


def _tf_means() -> Any:
    """Imports the arithmetic, which needs TensorFlow, only for tables with taxonomies."""
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
    """Makes the first pass over all items: numbers the taxonomy values and sums their rates.

    Args:
        columns: columns of the taxonomies.
        task: flags of the taxonomy means.
        num_periods: number of columns of the panels.
        shards: the shards of items.
        num_shards: number of shards.
        separator: separator of several values in one text.
    """
    found = []
    for column in columns:
        for width in (num_periods, 2 * num_periods):  # the second holds halves, after an overflow
            none, nothing = np.zeros((0, width), np.int64), np.zeros(width, np.int64)
            sums = (none, none.copy(), nothing, nothing.copy())
            taxonomy = Taxonomy(column, task, num_periods, *sums, separator=separator)
            if taxonomy.add_shards(shards(column), num_shards):
                break
        found.append(taxonomy)
    return found


def save(taxonomies: Sequence[Taxonomy], directory: Path, rate: str = "") -> None:
    """Writes fitted taxonomies to files, for other processes to read.

    Args:
        taxonomies: taxonomies whose means are those of one rate.
        directory: directory of the files.
        rate: name of a further rate; empty for the main one.
    """
    for number, taxonomy in enumerate(taxonomies):
        stem = f"taxonomy-{number}-{rate}".removesuffix("-")
        table = pa.table({taxonomy.column: pa.array(list(taxonomy.numbers), pa.string())})
        pa.parquet.write_table(table, directory / f"{stem}.parquet")
        for name in SUMS:
            file = directory / f"{stem}-{name}.npy"
            np.save(file, getattr(taxonomy, name), allow_pickle=False)


def load(
    columns: Sequence[str],
    task: TaskFlags,
    num_periods: int,
    directory: Path,
    separator: str = SEPARATOR,
    rate: str = "",
) -> list[Taxonomy]:
    """Reads the files of `save`; large sums are mapped, not read."""
    found = []
    for number, column in enumerate(columns):
        stem = f"taxonomy-{number}-{rate}".removesuffix("-")
        values = pa.parquet.read_table(directory / f"{stem}.parquet")[column]
        sums = {
            name: np.load(directory / f"{stem}-{name}.npy", mmap_mode="r", allow_pickle=False)
            for name in SUMS
        }
        numbers = {value: number for number, value in enumerate(values.to_pylist())}
        found.append(
            Taxonomy(column, task, num_periods, **sums, numbers=numbers, separator=separator)
        )
    return found
