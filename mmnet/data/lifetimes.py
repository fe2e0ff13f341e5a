"""An item's counts of the main rate before the window.

A window ends with t and has ω1 periods; these are the clicks and shares of all periods before it,
from the first one of the training log on. Counts before a release that the items table has do not
count, as in the history.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mmnet.checks import InputError
from mmnet.data.calendars import Calendar
from mmnet.data.counts import Counts, Panel
from mmnet.data.share_rates import share_rate
from mmnet.schema import EARLIER_CLICKS, EARLIER_RATE, UNKNOWN_LIFETIME, LifetimeSpec

if TYPE_CHECKING:
    import tensorflow as tf

UNKNOWN = int(UNKNOWN_LIFETIME[EARLIER_CLICKS.name])
"""Number of clicks that stands for an unknown one."""
CLICKS_BEFORE, SHARES_BEFORE = "clicks_before", "shares_before"
"""Raw inputs of a model, int64 [batch]."""


def first_column(
    lifetime: LifetimeSpec, start: int, calendar: Calendar, *, allow_short: bool = False
) -> int | None:
    """Returns the column of the counts that sums begin with; None where sums are unknown.

    Args:
        lifetime: input of the model.
        start: number of the first period of the counts.
        calendar: division of time into periods.
        allow_short: whether counts may begin later than the training log did; items would then
            seem to have had fewer clicks than they had, so sums are unknown.

    Raises:
        InputError: the counts begin too late.
    """
    if start <= lifetime.log_start:
        return lifetime.log_start - start
    if allow_short:
        return None
    raise InputError(
        f"the counts begin with {calendar.label(start)}, but the model reads an item's counts "
        f"since {calendar.label(lifetime.log_start)}; provide counts since then, or, to predict "
        "without those before the window, set --allow_short_history"
    )


def lower(panel: Panel, first: int) -> np.ndarray:
    """Returns the first column that counts of each item: `first`, or its release; int64 [items]."""
    if panel.release_given is None:
        return np.full(len(panel.release), first)
    return np.maximum(first, np.where(panel.release_given, panel.release, first))


def sums(counts: Counts, lower: np.ndarray, stop: np.ndarray | int) -> Counts:
    """Sums the counts of some columns.

    Args:
        counts: int64 [rows, periods] each.
        lower: first column of each row, int64 [rows].
        stop: column after the last one, of each row or of all.

    Returns:
        int64 [rows] each.

    >>> clicks, shares = np.array([[1, 2, 3, 4]]), np.array([[0, 1, 0, 1]])
    >>> sums(Counts(clicks, shares), np.array([1]), 3)
    Counts(clicks=array([5]), shares=array([1]))
    """
    columns = np.arange(counts.clicks.shape[1])
    within = (columns >= lower[:, None]) & (columns < np.reshape(stop, (-1, 1)))
    return Counts(*(np.sum(array, axis=1, where=within) for array in counts))


def unknown(rows: int) -> Counts:
    """Returns the sums of items about which nothing is known."""
    return Counts(np.full(rows, UNKNOWN), np.zeros(rows, np.int64))


def tensors(clicks: Any, shares: Any) -> dict[str, tf.Tensor]:
    """Computes the inputs of a model.

    Args:
        clicks: clicks before the window, int64 [batch]; below 0 if unknown.
        shares: shares before it, int64 [batch].

    Returns:
        The tensors of `schema.LIFETIME`, [batch] each.

    >>> found = tensors(np.array([8, 0, -1]), np.array([2, 0, 0]))
    >>> [tensor.numpy().tolist() for tensor in found.values()]
    [[25.0, 0.0, 0.0], [8.0, 0.0, -1.0]]
    """
    import tensorflow as tf

    clicks, shares = tf.convert_to_tensor(clicks), tf.convert_to_tensor(shares)
    some = clicks > 0
    of_one = tf.cast(tf.where(some, clicks, 1), tf.float64)
    rate = tf.cast(share_rate(tf.cast(shares, tf.float64), of_one), tf.float32)
    return {
        EARLIER_RATE.name: tf.where(some, rate, tf.zeros_like(rate)),
        EARLIER_CLICKS.name: tf.cast(tf.maximum(clicks, UNKNOWN), tf.float32),
    }
