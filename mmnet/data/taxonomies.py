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
import pyarrow as pa
import pyarrow.parquet
import scipy.sparse

from mmnet.config import TaskFlags
from mmnet.data import budgets, share_rates
from mmnet.data.arrays import FEWER, new_array
from mmnet.data.columns import SEPARATOR, Values, coded_values
from mmnet.data.counts import Panel
from mmnet.data.tables import Table
from mmnet.startup import load_tensorflow

Shards = Callable[[str], Iterable[tuple[Panel, Table]]]
"""Callback: taxonomy column -> panel and items rows, with that column, of every shard."""

Means = tuple[np.ndarray, ...]
"""`(taxonomy_rate, taxonomy_missing_flag)`, float32 [items, periods], percent; with
`--inputs=taxonomy_evidence` also `taxonomy_evidence`, of the same shape."""

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
    rows, codes, texts = coded_values(items, column, "taxonomies", separator)
    of_codes = [numbers.setdefault(value, len(numbers)) for value in texts]
    return rows, np.asarray(of_codes, np.int64)[codes]


class Members(NamedTuple):
    """The values of all items, by the numbers of `Taxonomy.numbers`, mapped from files.

    Attributes:
        starts: int64 [items + 1], where the values of each item begin.
        values: int32 [pairs], numbers of the values.
    """

    starts: np.ndarray
    values: np.ndarray

    def of(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns pairs of item and value as `members` does.

        Args:
            places: rows of the items table.

        >>> Members(np.array([0, 1, 3]), np.array([4, 4, 5])).of(np.array([1, 0]))
        (array([0, 0, 1]), array([4, 5, 4]))
        """
        starts = self.starts[places]
        lengths = self.starts[places + 1] - starts
        before = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
        rows = np.repeat(np.arange(len(places)), lengths)
        return rows, self.values[before + np.arange(len(before))].astype(np.int64)


class Sums(NamedTuple):
    """The sums of one shard of items; see `taxonomy_means.Sums`.

    Attributes:
        above: int64 [values, periods], sums of the numerators.
        below: int64 [values, periods], sums of the denominators.
        all_above: int64 [periods], of all items.
        all_below: int64 [periods].
        largest: float64 [2, periods], the last two in floating point, to detect overflow.
    """

    above: np.ndarray
    below: np.ndarray
    all_above: np.ndarray
    all_below: np.ndarray
    largest: np.ndarray


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
        of_items: the values of all items, if they are known; default: read them from the items.
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
    of_items: Members | None = None

    @classmethod
    def empty(cls, column: str, task: TaskFlags, num_periods: int, separator: str) -> Taxonomy:
        """Creates a taxonomy without values, for `add`."""
        none, nothing = np.zeros((0, num_periods), np.int64), np.zeros(num_periods, np.int64)
        sums = (none, none.copy(), nothing, nothing.copy())
        return cls(column, task, num_periods, *sums, separator=separator)

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
            evidence="taxonomy_evidence" in task.inputs,
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
            yield tuple(map(np.concatenate, zip(*parts, strict=True))) if len(parts) > 1 else first

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
        return fits(about)

    def add(self, texts: Sequence[str], sums: Sums) -> np.ndarray:
        """Adds the sums of one shard, in the order of the shards.

        Args:
            texts: the values that its items have.
            sums: their sums.

        Returns:
            The numbers of these values, int64 [values].
        """
        numbers = self.numbers
        of_texts = [numbers.setdefault(text, len(numbers)) for text in texts]
        self._check_values()
        for array in (self.sums, self.counts):  # in place, as in `add_shards`
            array.resize((len(numbers), self.num_periods), refcheck=False)
        found = np.array(of_texts, np.int64)
        self.sums[found] += sums.above
        self.counts[found] += sums.below
        self.all_sums += sums.all_above
        self.all_counts += sums.all_below
        return found

    def _cut(self, panel: Panel, part: Table) -> list[Range]:
        """Cuts a shard into ranges of items whose sums take `PIECE_BYTES`, or of a single item."""
        if self.of_items is not None:
            rows, values = self.of_items.of(part.places)
        else:
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
        above, below = parts_of_rates(panel, self.task)
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


def fits(largest: np.ndarray) -> bool:
    """Checks whether sums fit into int64, by their sums in floating point."""
    # Half of int64's range is a margin for the rounding of floats.
    return bool(largest.max(initial=0) < 1 << 62)


def parts_of_rates(panel: Panel, task: TaskFlags) -> tuple[np.ndarray, np.ndarray]:
    """Returns the numerators and denominators of taxonomy means, int64 [items, periods] each."""
    seen = share_rates.observed(panel, task.min_clicks)
    if task.taxonomy_weighting == "clicks":
        return panel.shares * seen, panel.clicks * seen
    return share_rates.fixed_point(panel, seen), seen.astype(np.int64)


def sums_of(above: np.ndarray, below: np.ndarray, values: Values) -> Sums:
    """Sums numerators and denominators of some items by the values that the items have.

    Args:
        above: int64 [items, periods].
        below: int64 [items, periods].
        values: the values of the items.

    >>> values = Values(np.array([0, 1, 2]), np.array([0, 0, 1]), np.array(["a", "b"], object))
    >>> sums_of(np.array([[5], [7], [9]]), np.array([[1], [0], [1]]), values).above.tolist()
    [[12], [9]]
    """
    starts = np.searchsorted(values.rows, np.arange(len(above) + 1))
    ones = np.ones(len(values.codes), np.int64)
    shape = len(values.texts), len(above)
    # Integers: whatever the order of the additions, the sums are exact.
    pairs = scipy.sparse.csc_array((ones, values.codes, starts), shape=shape)
    largest = np.stack([part.sum(axis=0, dtype=np.float64) for part in (above, below)])
    return Sums(pairs @ above, pairs @ below, above.sum(axis=0), below.sum(axis=0), largest)


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
            taxonomy = Taxonomy.empty(column, task, width, separator)
            taxonomy.num_periods = num_periods
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
    """Reads the files of `save`; large sums are mapped, not read, and so are `MembersWriter`'s."""
    found = []
    for number, column in enumerate(columns):
        stem = f"taxonomy-{number}-{rate}".removesuffix("-")
        values = pa.parquet.read_table(directory / f"{stem}.parquet")[column]
        sums = {
            name: np.load(directory / f"{stem}-{name}.npy", mmap_mode="r", allow_pickle=False)
            for name in SUMS
        }
        of_items = _members(directory, number)
        texts = values.to_pylist() if of_items is None else ()
        numbers = {value: number for number, value in enumerate(texts)}
        more: dict[str, Any] = {"numbers": numbers, "separator": separator, "of_items": of_items}
        found.append(Taxonomy(column, task, num_periods, **sums, **more))
    return found


class MembersWriter:
    """Writes the values of all items in one taxonomy, shard by shard, for `load`.

    Args:
        directory: directory of the files.
        number: number of the taxonomy.
        num_items: number of items.
    """

    def __init__(self, directory: Path, number: int, num_items: int):
        self._starts = new_array(directory, _starts(number), (num_items + 1,), "int64")
        self._values = directory / _values(number)
        self._values.touch()

    def add(self, items: slice, rows: np.ndarray, numbers: np.ndarray) -> None:
        """Adds the values of the next items.

        Args:
            items: range of the items.
            rows: int64 [pairs], row of each value within the range, ascending.
            numbers: int64 [pairs], numbers of the values.
        """
        lengths = np.bincount(rows, minlength=items.stop - items.start)
        self._starts[items.start + 1 : items.stop + 1] = self._starts[items.start] + np.cumsum(
            lengths
        )
        with self._values.open("ab") as file:
            file.write(numbers.astype(np.int32).tobytes())


def _starts(number: int) -> str:
    return f"members-{number}-starts"


def _values(number: int) -> str:
    return f"members-{number}-values.bin"


def _members(directory: Path, number: int) -> Members | None:
    """Maps the files of a `MembersWriter`; None if there are none, as of earlier versions."""
    path = directory / _values(number)
    if not path.exists():
        return None
    starts = np.load(directory / f"{_starts(number)}.npy", mmap_mode="r", allow_pickle=False)
    if not path.stat().st_size:
        return Members(starts, np.zeros(0, np.int32))
    return Members(starts, np.memmap(path, np.int32, "r"))
