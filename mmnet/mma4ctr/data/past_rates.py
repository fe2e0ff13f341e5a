"""Past rates of users and items as features: what was known of them before each time bin.

With s positives among n rows before a bin, and the rate b of all rows before it,

    p = (s + κ b) / (n + κ)          columns: log(p / (1 - p)), log(1 + n)

κ, one for users and one for items, is the one of `PRIOR_ROWS` whose p has the least LogLoss on the
training rows.
"""

from __future__ import annotations

import numpy as np

from mmnet.mma4ctr.data import user_embedding
from mmnet.mma4ctr.data.protocols import Edges, Protocol

PRIOR_ROWS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
"""Weights of the rate of all rows, in rows, when the rate of a user or an item is smoothed."""


def tables(protocol: Protocol, users: int, items: int) -> tuple[np.ndarray, np.ndarray]:
    """The columns of all users and of all items at all moments.

    Args:
        protocol: rows and edges, with time bins.
        users: number of users.
        items: number of items.

    Returns:
        float32 [users · moments, 2] and [items · moments, 2], the moments of one together; the last
        moment is the time after the log's end.
    """
    edges, bins, train = protocol.edges, protocol.bins, protocol.parts["train"]
    by_item = Edges(edges.item, edges.user, edges.label, edges.bin)
    label = protocol.label[train]
    return (
        _columns(edges, users, bins, protocol.state[train], label),
        _columns(by_item, items, bins, protocol.item_moment[train], label),
    )


def _columns(
    edges: Edges, number: int, bins: int, place: np.ndarray, label: np.ndarray
) -> np.ndarray:
    """The columns of all users, for which items may stand.

    Args:
        edges: what users were shown.
        number: number of users.
        bins: number of time bins.
        place: places of the training rows among the users' moments.
        label: labels of these rows.
    """
    positives, rows = user_embedding.positive_rates(edges, users=number, bins=bins)
    base = np.tile(_base_rates(edges, bins), number)
    of_rows = positives[place], rows[place], base[place]
    losses = [_loss(label, _smoothed(*of_rows, prior)) for prior in PRIOR_ROWS]
    rate = _smoothed(positives, rows, base, PRIOR_ROWS[int(np.argmin(losses))])
    found = np.stack([np.log(rate) - np.log1p(-rate), np.log1p(rows)], axis=1)
    return found.astype(np.float32)


def _smoothed(
    positives: np.ndarray, rows: np.ndarray, base: np.ndarray, prior: float
) -> np.ndarray:
    return (positives + prior * base) / (rows + prior)


def _base_rates(edges: Edges, bins: int) -> np.ndarray:
    """The rate of all rows before each moment, within (0, 1); float64 [bins + 1]."""
    number = np.bincount(edges.bin + 1, minlength=bins + 1).cumsum()
    positives = np.bincount(edges.bin + 1, edges.label, minlength=bins + 1).cumsum()
    return (positives + 1) / (number + 2)


def _loss(label: np.ndarray, rate: np.ndarray) -> float:
    return float(-np.mean(np.where(label == 1, np.log(rate), np.log1p(-rate))))
