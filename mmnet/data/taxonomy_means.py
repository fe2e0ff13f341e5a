"""Taxonomy means: what the other items of a category or tag did, period by period (Eq. 4).

Sums are integers, so leaving an item out by subtraction is exact, and so is any sharding. A mean
at period t uses period t alone, so it is known at t.
"""

from __future__ import annotations

import itertools

import numpy as np
import tensorflow as tf

from mmnet.data import share_rates
from mmnet.data.counts import Panel
from mmnet.data.share_rates import FIXED_POINT
from mmnet.data.taxonomies import Members


class TaxonomyMeans:
    """Eq. 4: the mean share rate of an item's taxonomy value in each period.

    In a first pass `add` takes every shard of items in; then `means` gives each shard its means.
    Sums are integers, so the means do not depend on how the items were cut into shards.

    An item with several values gets the mean over those that have one. Where no (other) item of
    its values was observed, the mean over all (other) items stands in, flagged; where no
    item was observed, 0, flagged. Leave-one-out takes the item itself out of the mean; with it in
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
            mine = tf.gather(part, taxonomy.items)
            total[values] += _segment_sum(mine, place, len(values)).numpy()
        self.all_sums += tf.reduce_sum(above, axis=0).numpy()
        self.all_counts += tf.reduce_sum(below, axis=0).numpy()

    def means(self, panel: Panel, taxonomy: Members) -> tuple[np.ndarray, np.ndarray]:
        """The means of a shard that was added.

        Returns:
            `(taxonomy_rate, taxonomy_missing_flag)`, float32 [items, periods], percent.
        """
        above, below = self._parts(panel)
        own, items = self._own, taxonomy.items
        others_sum = tf.constant(self.sums[taxonomy.values]) - own * tf.gather(above, items)
        others = tf.constant(self.counts[taxonomy.values]) - own * tf.gather(below, items)
        has_mean = tf.cast(others > 0, tf.int64)
        num_items = above.shape[0]
        mean = _segment_sum(self._mean(others_sum, others), items, num_items)
        num_means = _segment_sum(has_mean, items, num_items)
        known = num_means > 0
        everyone = self._mean(self.all_sums - own * above, self.all_counts - own * below)
        fixed = tf.where(known, mean, everyone)
        rate = tf.cast(fixed, tf.float64) / tf.cast(tf.maximum(num_means, 1), tf.float64)
        rate = (rate / FIXED_POINT).numpy().astype(np.float32)
        return rate, 1 - known.numpy().astype(np.float32)

    def _parts(self, panel: Panel) -> tuple[tf.Tensor, tf.Tensor]:
        """What is summed above and below the fraction line, int64 [items, periods]."""
        seen = share_rates.observed(panel, self._min_clicks)
        if self._weighting == "clicks":
            return tf.constant(panel.shares * seen), tf.constant(panel.clicks * seen)
        fixed = share_rates.fixed_point(panel, seen)
        return tf.constant(fixed), tf.constant(seen.astype(np.int64))

    def _mean(self, sums: tf.Tensor, counts: tf.Tensor) -> tf.Tensor:
        """Mean in fixed point, int64, 0 where the count is 0; rounded once, from exact sums."""
        unit = 100.0 * FIXED_POINT if self._weighting == "clicks" else 1.0
        mean = unit * tf.cast(sums, tf.float64) / tf.cast(tf.maximum(counts, 1), tf.float64)
        return tf.cast(tf.round(mean), tf.int64)


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


def _segment_sum(data: tf.Tensor, segments: tf.Tensor, num_segments: int) -> tf.Tensor:
    return tf.math.unsorted_segment_sum(data, segments, num_segments)
