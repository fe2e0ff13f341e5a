"""Taxonomy means: the mean rate of the other items of a category or tag, by period (Eq. 4).

`sums` and `means` are functions of one shard of items; between them, the sums of all shards are
added up. Sums are integers, so leaving an item out by subtraction is exact, and the result does not
depend on how items were divided into shards. A mean at period t uses period t alone, so it is known
at t. If there are several shards, `over_shards` runs either function in a `tf.data` pipeline.

No sum overflows. Rates add up to less than 2**62 in fixed point, see
`counts_reading.LARGEST_RATE_SUM`. Clicks and shares, up to 2**53 per item, and an item's means over
many values may exceed int64; in that case they are added up in halves of 32 bits, which have room
for 2**31 terms.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from mmnet.data.arrays import HALF_BITS, LOWER_HALF
from mmnet.data.share_rates import FIXED_POINT, share_rate


class Shard(NamedTuple):
    """Some items: the numbers to sum, and the taxonomy values of each item.

    Attributes:
        above: int64 [items, periods], rates as multiples of 2**-24 percent; or the halves of
            shares, [items, 2 * periods], see `halves`.
        below: int64 [items, periods], 1 where a rate was observed; or the halves of clicks.
        items: int64 [pairs], row of the item, ascending; an item may have several values, or none.
        values: int64 [pairs], number of the value.
    """

    above: tf.Tensor
    below: tf.Tensor
    items: tf.Tensor
    values: tf.Tensor


class Sums(NamedTuple):
    """Sums by value, int64 [values, periods], and of all items, int64 [periods]; or of halves."""

    above: tf.Tensor
    below: tf.Tensor
    all_above: tf.Tensor
    all_below: tf.Tensor


def sums(shard: Shard) -> tuple[tf.Tensor, Sums]:
    """Computes the sums of one shard.

    Returns:
        Numbers of the values that its items have, int64 [values], and their sums.

    >>> import numpy as np
    >>> rates, seen = np.array([[5], [7], [9]]), np.array([[1], [0], [1]])
    >>> values, found = sums(Shard(rates, seen, np.array([0, 1, 2]), np.array([8, 8, 3])))
    >>> values.numpy().tolist(), found.above.numpy().tolist(), found.all_below.numpy().tolist()
    ([8, 3], [[12], [9]], [2])
    """
    values, place = tf.unique(shard.values)
    above, below = (
        _segment_sum(tf.gather(part, shard.items), place, tf.size(values))
        for part in (shard.above, shard.below)
    )
    all_above, all_below = (tf.reduce_sum(part, axis=0) for part in (shard.above, shard.below))
    return values, Sums(above, below, all_above, all_below)


def means(
    shard: Shard,
    of_pairs: Sums,
    *,
    leave_one_out: bool,
    pooled: bool,
    num_periods: int,
    evidence: bool = False,
) -> tuple[tf.Tensor, ...]:
    """Eq. 4: the mean share rate of an item's taxonomy value in each period, for one shard.

    An item with several values gets the mean over those that have one. If no (other) item of
    its values was observed, the mean over all (other) items is used, flagged; if no item was
    observed, 0, flagged.

    Args:
        shard: the items.
        of_pairs: the sums over all shards, with one row of the value for each of the shard's pairs.
        leave_one_out: whether to leave the item itself out of its mean. The paper's Eq. 4 includes
            it, so an item that is alone in its value reads its own rate.
        pooled: whether to pool shares over pooled clicks, rather than to average rates.
        num_periods: number of columns of the means; if sums have twice as many, they are of halves.
        evidence: whether to return what the means rest on as well.

    Returns:
        `(taxonomy_rate, taxonomy_missing_flag)`, float32 [items, periods], percent. With
        `evidence`, also `taxonomy_evidence`, float32 of the same shape: how many (other) items of
        the item's values were observed, or if `pooled` their clicks; of several values the sum.
    """
    mean = functools.partial(_mean, pooled=pooled, num_periods=num_periods)
    own, num_items = int(leave_one_out), tf.shape(shard.above)[0]
    # Subtraction is exact in int64, and in its halves: only `_mean` rounds.
    below = of_pairs.below - own * tf.gather(shard.below, shard.items)
    of_value, seen = mean(of_pairs.above - own * tf.gather(shard.above, shard.items), below)
    num_means = _segment_sum(tf.cast(seen, tf.int64), shard.items, num_items)
    known = num_means > 0
    everyone, _ = mean(
        of_pairs.all_above - own * shard.above, of_pairs.all_below - own * shard.below
    )
    total = _totals(tf.cast(of_value, tf.int64), shard.items, num_items, num_means)
    rate = tf.where(known, total, everyone)
    rate /= tf.cast(tf.maximum(num_means, 1), tf.float64)
    found = tf.cast(rate / FIXED_POINT, tf.float32), 1 - tf.cast(known, tf.float32)
    if not evidence:
        return found
    of_items = tf.cond(
        tf.shape(below)[-1] > num_periods,
        lambda: _whole(_segment_sum(_carried(below), shard.items, num_items)),
        lambda: _totals(below, shard.items, num_items, num_means),
    )
    return *found, tf.cast(of_items, tf.float32)


def _totals(
    of_value: tf.Tensor, items: tf.Tensor, num_items: tf.Tensor, num_means: tf.Tensor
) -> tf.Tensor:
    """Returns the sums of numbers of each item's values, float64 [items, periods], rounded once.

    Args:
        of_value: int64 [pairs, periods], 0 where a value has no mean.
        items: int64 [pairs], row of the item.
        num_items: number of items.
        num_means: int64 [items, periods], number of values that have a mean.
    """
    largest = tf.cast(tf.reduce_max(of_value), tf.float64)
    # An upper bound of any sum, so that the slower halves are only used if int64 could overflow.
    fits = largest * tf.cast(tf.reduce_max(num_means), tf.float64) < float(1 << 62)
    return tf.cond(
        fits,
        lambda: tf.cast(_segment_sum(of_value, items, num_items), tf.float64),
        lambda: _whole(_segment_sum(halves(of_value), items, num_items)),
    )


def _mean(
    above: tf.Tensor, below: tf.Tensor, *, pooled: bool, num_periods: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns means in fixed point, whole numbers in float64; 0 where the count is 0.

    The division of exact sums is the only rounding.
    """
    above, below = tf.cond(
        tf.shape(above)[-1] > num_periods,
        lambda: (_whole(above), _whole(below)),
        lambda: (tf.cast(above, tf.float64), tf.cast(below, tf.float64)),
    )
    count = tf.maximum(below, 1)
    mean = FIXED_POINT * share_rate(above, count) if pooled else above / count
    return tf.round(mean), below > 0


def halves(numbers: Any) -> Any:
    """Splits numbers of 0 or more into two halves, whose sums stay within int64.

    Args:
        numbers: int64 [..., periods], a NumPy array or a tensor.

    Returns:
        int64 [..., 2 * periods]; the upper halves, in units of 2**32, then the lower ones.

    >>> halves(np.array([[5, (7 << 32) + 1]])).tolist()
    [[0, 7, 5, 1]]
    """
    if isinstance(numbers, np.ndarray):
        return np.concatenate([numbers >> HALF_BITS, numbers & LOWER_HALF], axis=-1)
    return tf.concat([_upper(numbers), tf.bitwise.bitwise_and(numbers, LOWER_HALF)], axis=-1)


def _whole(sums: tf.Tensor) -> tf.Tensor:
    """Converts sums of halves to numbers, float64 [..., periods], rounded once."""
    upper, lower = tf.split(sums, 2, axis=-1)
    upper += _upper(lower)  # below 2**53, so exact as a float
    lower = tf.bitwise.bitwise_and(lower, LOWER_HALF)
    return tf.cast(upper, tf.float64) * float(1 << HALF_BITS) + tf.cast(lower, tf.float64)


def _carried(halves: tf.Tensor) -> tf.Tensor:
    """Carries what lower halves have above their 32 bits, so that sums of them have room again."""
    upper, lower = tf.split(halves, 2, axis=-1)
    return tf.concat([upper + _upper(lower), tf.bitwise.bitwise_and(lower, LOWER_HALF)], axis=-1)


def _upper(numbers: tf.Tensor) -> tf.Tensor:
    return tf.bitwise.right_shift(numbers, tf.constant(HALF_BITS, tf.int64))


def _segment_sum(data: tf.Tensor, segments: tf.Tensor, num_segments: tf.Tensor) -> tf.Tensor:
    return tf.math.unsorted_segment_sum(data, segments, num_segments)


_MATRIX, _VECTOR = tf.TensorSpec([None, None], tf.int64), tf.TensorSpec([None], tf.int64)
SHARD = Shard(_MATRIX, _MATRIX, _VECTOR, _VECTOR)
OF_PAIRS = Sums(_MATRIX, _MATRIX, _VECTOR, _VECTOR)


def over_shards(
    function: Callable[..., Any], elements: Iterable[tuple], signature: tuple, num_shards: int
) -> Iterator[Any]:
    """Applies a function to each shard and yields the results as NumPy arrays, in order.

    Several shards pass through a `tf.data` pipeline, which keeps one of them in memory at a time. A
    single shard is passed to the function directly.

    Args:
        function: called with the parts of an element.
        elements: one tuple of arguments per shard, computed when it is needed.
        signature: types of an element.
        num_shards: number of shards.

    Raises:
        Exception: any exception of computing the elements, which `tf.data` would wrap.
    """
    if num_shards == 1:
        for element in elements:
            yield tf.nest.map_structure(lambda tensor: tensor.numpy(), function(*element))
        return
    failed: list[Exception] = []

    def made() -> Iterator[tuple]:
        try:
            yield from elements
        except Exception as error:
            failed.append(error)
            raise

    dataset = tf.data.Dataset.from_generator(made, output_signature=signature)
    try:
        # AutoGraph has nothing to convert in these functions, and would take most of the time.
        plain = tf.autograph.experimental.do_not_convert(function)
        yield from dataset.map(plain).as_numpy_iterator()
    except tf.errors.OpError:
        if failed:
            raise failed[0] from None
        raise
