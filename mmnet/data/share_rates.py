"""Share rates and missing flags of a panel (Eq. 1)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from mmnet.data.counts import Panel

FIXED_POINT = 1 << 24
"""A rate in percent is stored as an integer multiple of 2**-24, so that sums are exact."""


def share_rate(shares: Any, clicks: Any) -> Any:
    """Eq. 1: y = 100 * shares / clicks, in percent.

    This is the only place of the formula. It uses operators that NumPy and TensorFlow share, and
    in float64 both produce the same bits.

    Args:
        shares: NumPy integers, or a float64 tensor.
        clicks: the same, of the same shape; 1 or more.

    Returns:
        float64, of the same shape.

    >>> share_rate(np.array([1, 0]), np.array([4, 2]))
    array([25.,  0.])
    """
    return 100.0 * shares / clicks


def observed(panel: Panel, min_clicks: int) -> np.ndarray:
    """Marks where an item's rate is observed: released, with at least `min_clicks` clicks.

    A release that is not given is the first click of the main rate, before which a further rate may
    have counts; so it is not applied.

    Returns:
        bool [items, periods]; the opposite of the missing flag.
    """
    given = panel.release_given
    release = panel.release if given is None else np.where(given, panel.release, 0)
    released = np.arange(panel.num_periods) >= release[:, None]
    return released & (panel.clicks >= min_clicks)


def share_rates(panel: Panel, min_clicks: int) -> tuple[np.ndarray, np.ndarray]:
    """Computes Eq. 1 and its missing flag m: 1 where the rate is not known.

    Returns:
        `(share_rate, missing_flag)`, float32 [items, periods]; the rate is 0 where missing.

    >>> from mmnet.data.calendars import Calendar
    >>> clicks, shares = np.array([[4, 0, 2]]), np.array([[1, 0, 2]])
    >>> share_rates(Panel(None, clicks, shares, np.array([0]), Calendar(kind="integer"), 0), 1)
    (array([[ 25.,   0., 100.]], dtype=float32), array([[0., 1., 0.]], dtype=float32))
    """
    seen = observed(panel, min_clicks)
    return _where(seen, panel).astype(np.float32), 1 - seen.astype(np.float32)


def fixed_point(panel: Panel, seen: np.ndarray) -> np.ndarray:
    """Returns the same rates as int64 multiples of 2**-24 percent, 0 where missing."""
    # Multiplying by a power of two is exact: only the conversion to integers rounds.
    return np.rint(FIXED_POINT * _where(seen, panel)).astype(np.int64)


def _where(seen: np.ndarray, panel: Panel) -> np.ndarray:
    """Returns rates where observed, float64 [items, periods]; 0 elsewhere."""
    rate = np.zeros(seen.shape)
    rate[seen] = share_rate(panel.shares[seen], panel.clicks[seen])
    return rate


def true_share_rates(truth: pa.Table, panel: Panel) -> np.ndarray:
    """Returns the true share rates of simulated data, float64 [items, periods]; NaN if unknown.

    Args:
        truth: item_id, period and true_share_rate in percent.
        panel: panel with the items and periods.
    """
    who = pd.Index(panel.item_ids).get_indexer(truth["item_id"].to_pandas())
    column = truth["period"].to_numpy() - panel.first_period
    inside = (who >= 0) & (column >= 0) & (column < panel.num_periods)
    found = np.full(panel.clicks.shape, np.nan)
    found[who[inside], column[inside]] = truth["true_share_rate"].to_numpy()[inside]
    return found
