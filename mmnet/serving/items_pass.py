"""One pass over the items of a catalogue, shard by shard, in several threads.

For each shard it fills the counts of the window, sums the rates of its taxonomies' values, and
counts values that are unknown to the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmnet.data import columns, lifetimes, taxonomies
from mmnet.data.columns import Values
from mmnet.data.counts import SHARD_CELLS, Counted, Counts, Panel
from mmnet.data.dataset import Fitted
from mmnet.data.tables import Block, Rows, Table
from mmnet.data.taxonomies import MembersWriter, Sums, Taxonomy
from mmnet.data.threads import in_order
from mmnet.serving import known_values
from mmnet.serving.known_values import Seen

MOST_CELLS = 4 * SHARD_CELLS
"""Most items × periods × rates of the shards that are computed at the same time."""


class _Part(NamedTuple):
    """What was found in one shard.

    Attributes:
        items: range of its items.
        values: column of a field or taxonomy -> its values.
        sums: rate -> sums of each taxonomy.
    """

    items: slice
    values: dict[str, Values]
    sums: dict[str, list[Sums]]


@dataclass(frozen=True)
class ItemsPass:
    """The pass over the items.

    Attributes:
        items: the items table.
        fitted: values that the model was fitted with; its table flags are those of the items.
        counted: the counts.
        last: the panel's column of the last as-of period.
        rates: name of a rate -> the arrays of its counts in the window, which are filled.
        directory: directory of the survey.
        earlier: the arrays of the counts before the window, which are filled; None: no input.
        first: the panel's column that these begin with; None: they are unknown.
    """

    items: Rows
    fitted: Fitted
    counted: Counted
    last: int
    rates: Mapping[str, Counts]
    directory: Path
    earlier: Counts | None = None
    first: int | None = None

    def run(self, threads: int) -> tuple[dict[str, list[Taxonomy]], list[Seen]]:
        """Makes the pass.

        Args:
            threads: number of threads.

        Returns:
            The taxonomies of each rate, and the values of the fields.

        Raises:
            InputError: the tables break a rule of the input format.
        """
        spec, task, separator = self.fitted.spec, self.fitted.task, self._separator
        found = {
            rate: [
                Taxonomy.empty(column, task, spec.window, separator) for column in spec.taxonomies
            ]
            for rate in self.rates
        }
        writers = [
            MembersWriter(self.directory, number, len(self.items))
            for number in range(len(spec.taxonomies))
        ]
        counters = known_values.counters_of(self.fitted)
        largest = np.zeros((len(self.rates), 2, spec.window))
        cells = (
            self.counted.num_periods * len(self.rates) * int(np.diff(self.counted.borders).max())
        )
        threads = max(1, min(threads, MOST_CELLS // max(cells, 1)))
        for parts in in_order(self._of_block, self._blocks(), threads):
            for part in parts:
                for name, counter in counters.items():
                    counter.add(part.values[name])
                for number, column in enumerate(spec.taxonomies):
                    values = part.values[column]
                    for rate, of_taxonomies in part.sums.items():
                        numbers = found[rate][number].add(
                            values.texts.tolist(), of_taxonomies[number]
                        )
                    writers[number].add(part.items, values.rows, numbers[values.codes])
                for total, of_taxonomies in zip(largest, part.sums.values(), strict=True):
                    if of_taxonomies:
                        total += of_taxonomies[0].largest
        for of_rate, total in zip(found, largest, strict=True):
            if not taxonomies.fits(total):
                found[of_rate] = self._in_halves(of_rate)
        return found, [counter.seen() for counter in counters.values()]

    @property
    def _separator(self) -> str:
        return columns.separator_of(self.fitted.tables)

    def _columns(self) -> dict[str, str]:
        """Returns the columns to read -> the flags that name them."""
        found = known_values.flags_of(self.fitted)
        return found | dict.fromkeys(self.fitted.spec.taxonomies, "taxonomies")

    def _blocks(self) -> list[tuple[int, Block]]:
        """Returns the blocks of the items, each with the number of its first shard."""
        found, first = [], 0
        for block in self.items.blocks(self.fitted.tables.shard_items):
            found.append((first, block))
            first = int(np.searchsorted(self.counted.borders, block.rows.stop))
        return found

    def _of_block(self, numbered: tuple[int, Block]) -> list[_Part]:
        first, block = numbered
        borders = self.counted.borders
        found, wanted, size = [], self._columns(), self.fitted.tables.shard_items
        pieces = iter(self.items.pieces(size, wanted, [block])) if wanted else iter(())
        for number in range(first, int(np.searchsorted(borders, block.rows.stop))):
            items = slice(int(borders[number]), int(borders[number + 1]))
            whole = self.counted.panel_of(number)
            if self.earlier:
                of_items = self._before(whole)
                self.earlier.clicks[items], self.earlier.shares[items] = of_items
            panel = self._window(whole)
            for rate, arrays in self.rates.items():
                of_rate = panel.of_rate(rate)
                arrays.clicks[items], arrays.shares[items] = of_rate.clicks, of_rate.shares
            values = self._values(next(pieces), wanted) if wanted else {}
            found.append(_Part(items, values, self._sums(panel, values)))
        return found

    def _before(self, panel: Panel) -> Counts:
        if self.first is None:
            return lifetimes.unknown(len(panel.release))
        stop = self.last + 1 - self.fitted.spec.window
        lower = lifetimes.lower(panel, self.first)
        return lifetimes.sums(Counts(panel.clicks, panel.shares), lower, stop)

    def _window(self, panel: Panel) -> Panel:
        return panel.columns(self.last + 1 - self.fitted.spec.window, self.last + 1)

    def _values(self, piece: Table, wanted: Mapping[str, str]) -> dict[str, Values]:
        return {
            column: columns.coded_values(piece, column, flag, self._separator)
            for column, flag in wanted.items()
        }

    def _sums(self, panel: Panel, values: Mapping[str, Values]) -> dict[str, list[Sums]]:
        found = {}
        for rate in self.rates:
            above, below = taxonomies.parts_of_rates(panel.of_rate(rate), self.fitted.task)
            found[rate] = [
                taxonomies.sums_of(above, below, values[column])
                for column in self.fitted.spec.taxonomies
            ]
        return found

    def _in_halves(self, rate: str) -> list[Taxonomy]:
        """Sums the rates once more, since sums of pooled counts would exceed int64."""
        spec, flags = self.fitted.spec, self.fitted.tables

        def shards(column: str):
            pieces = self.items.pieces(flags.shard_items, {column: "taxonomies"})
            for (_, panel), piece in zip(self.counted.panels(), pieces, strict=True):
                yield self._window(panel).of_rate(rate), piece

        number = len(self.counted.shards)
        how = {"separator": self._separator}
        return taxonomies.fit(spec.taxonomies, self.fitted.task, spec.window, shards, number, **how)
