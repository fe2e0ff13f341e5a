"""Taxonomy means: what the other items of a category or tag did, period by period (Eq. 4).

Sums are integers, so leaving an item out by subtraction is exact, and so is any sharding. A mean
at period t uses period t alone, so it is known at t.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import tensorflow as tf

from mmnet.data import share_rates, tables
from mmnet.data.counts import Panel
from mmnet.data.share_rates import FIXED_POINT
from mmnet.data.tables import Table

SHARD_ITEMS = 4096


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


def members(items: Table, column: str) -> Members:
    """Reads the members of a taxonomy from an items column; every value counts, seen or not."""
    rows, values = tables.values_of(items, column, "taxonomies")
    codes, found = pd.factorize(values)
    return Members(rows.astype(np.int64), codes.astype(np.int64), len(found))


def taxonomy_means(
    panel: Panel,
    taxonomy: Members,
    *,
    min_clicks: int = 1,
    leave_one_out: bool = True,
    weighting: str = "items",
    shard_items: int = SHARD_ITEMS,
) -> tuple[np.ndarray, np.ndarray]:
    """Eq. 4: the mean share rate of an item's taxonomy value in each period.

    An item with several values gets the mean over those that have one. Where no (other) item of
    its values was observed, the mean over all (other) items stands in, flagged; where nobody was
    observed, 0, flagged. Leave-one-out takes the item itself out of the mean; with it in
    (the paper's Eq. 4) an item that is alone in its value reads its own rate.

    Args:
        panel: counts.
        taxonomy: who belongs to which value.
        min_clicks: fewer clicks make an entry missing, here as in the history.
        leave_one_out: False gives the paper's self-including mean.
        weighting: `items` averages rates, `clicks` divides pooled shares by pooled clicks.
        shard_items: items held at a time; the result does not depend on it.

    Returns:
        `(taxonomy_rate, taxonomy_missing_flag)`, float32 [items, periods], percent.
    """
    shards = [
        slice(start, start + shard_items) for start in range(0, len(panel.clicks), shard_items)
    ]
    sums = tf.zeros((taxonomy.num_values, panel.num_periods), tf.int64)
    counts, all_sums, all_counts = sums, tf.zeros(panel.num_periods, tf.int64), 0
    for shard in shards:
        above, below = _parts(panel, shard, min_clicks, weighting)
        pair_items, pair_values = _pairs(taxonomy, shard)
        sums += _segment_sum(tf.gather(above, pair_items), pair_values, taxonomy.num_values)
        counts += _segment_sum(tf.gather(below, pair_items), pair_values, taxonomy.num_values)
        all_sums += tf.reduce_sum(above, axis=0)
        all_counts += tf.reduce_sum(below, axis=0)

    rates, flags = [], []
    own = 1 if leave_one_out else 0
    for shard in shards:
        above, below = _parts(panel, shard, min_clicks, weighting)
        pair_items, pair_values = _pairs(taxonomy, shard)
        others_sum = tf.gather(sums, pair_values) - own * tf.gather(above, pair_items)
        others = tf.gather(counts, pair_values) - own * tf.gather(below, pair_items)
        has_mean = tf.cast(others > 0, tf.int64)
        num_items = above.shape[0]
        mean = _segment_sum(_mean(others_sum, others, weighting), pair_items, num_items)
        num_means = _segment_sum(has_mean, pair_items, num_items)
        known = num_means > 0
        everyone = _mean(all_sums - own * above, all_counts - own * below, weighting)
        fixed = tf.where(known, mean, everyone)
        rate = tf.cast(fixed, tf.float64) / tf.cast(tf.maximum(num_means, 1), tf.float64)
        rates.append((rate / FIXED_POINT).numpy().astype(np.float32))
        flags.append(1 - known.numpy().astype(np.float32))
    return np.concatenate(rates), np.concatenate(flags)


def _parts(
    panel: Panel, shard: slice, min_clicks: int, weighting: str
) -> tuple[tf.Tensor, tf.Tensor]:
    """What is summed above and below the fraction line, int64 [items, periods]."""
    part = Panel(
        panel.item_ids[shard],
        panel.clicks[shard],
        panel.shares[shard],
        panel.release[shard],
        panel.calendar,
        panel.first_period,
    )
    seen = share_rates.observed(part, min_clicks)
    if weighting == "clicks":
        return tf.constant(part.shares * seen), tf.constant(part.clicks * seen)
    return tf.constant(share_rates.fixed_point(part, seen)), tf.constant(seen.astype(np.int64))


def _pairs(taxonomy: Members, shard: slice) -> tuple[tf.Tensor, tf.Tensor]:
    low, high = np.searchsorted(taxonomy.items, [shard.start, shard.stop])
    return tf.constant(taxonomy.items[low:high] - shard.start), tf.constant(
        taxonomy.values[low:high]
    )


def _segment_sum(data: tf.Tensor, segments: tf.Tensor, num_segments: int) -> tf.Tensor:
    return tf.math.unsorted_segment_sum(data, segments, num_segments)


def _mean(sums: tf.Tensor, counts: tf.Tensor, weighting: str) -> tf.Tensor:
    """Mean in fixed point, int64; 0 where the count is 0. Each is rounded once, from exact sums."""
    unit = 100.0 * FIXED_POINT if weighting == "clicks" else 1.0
    mean = unit * tf.cast(sums, tf.float64) / tf.cast(tf.maximum(counts, 1), tf.float64)
    return tf.cast(tf.round(mean), tf.int64)
