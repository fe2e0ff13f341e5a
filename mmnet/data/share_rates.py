"""Share rates and missing flags of a panel (Eq. 1)."""

from __future__ import annotations

import numpy as np

from mmnet.data.counts import Panel

FIXED_POINT = 1 << 24
"""A rate in percent is stored as an integer multiple of 2**-24, so that sums are exact."""


def observed(panel: Panel, min_clicks: int) -> np.ndarray:
    """Where an item's rate counts: released, and clicked at least `min_clicks` times.

    Returns:
        bool [items, periods]; the opposite of the missing flag.
    """
    released = np.arange(panel.num_periods) >= panel.release[:, None]
    return released & (panel.clicks >= min_clicks)


def share_rates(panel: Panel, min_clicks: int) -> tuple[np.ndarray, np.ndarray]:
    """Eq. 1: y = 100 * shares / clicks, in percent, and the flag m of where it is missing.

    Returns:
        `(share_rate, missing_flag)`, float32 [items, periods]; the rate is 0 where missing.

    >>> from mmnet.data.calendars import Calendar
    >>> clicks, shares = np.array([[4, 0, 2]]), np.array([[1, 0, 2]])
    >>> share_rates(Panel(None, clicks, shares, np.array([0]), Calendar(kind="integer"), 0), 1)
    (array([[ 25.,   0., 100.]], dtype=float32), array([[0., 1., 0.]], dtype=float32))
    """
    seen = observed(panel, min_clicks)
    rate = np.divide(100.0 * panel.shares, panel.clicks, out=np.zeros(seen.shape), where=seen)
    return rate.astype(np.float32), 1 - seen.astype(np.float32)


def fixed_point(panel: Panel, seen: np.ndarray) -> np.ndarray:
    """The same rates as int64 multiples of 2**-24 percent, 0 where missing."""
    unit = 100.0 * FIXED_POINT  # in float64, since 100 * 2**24 * shares can pass int64
    rate = np.divide(unit * panel.shares, panel.clicks, out=np.zeros(seen.shape), where=seen)
    return np.rint(rate).astype(np.int64)
