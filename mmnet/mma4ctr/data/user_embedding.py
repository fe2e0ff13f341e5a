"""User embedding: the signed mean of the modalities of the items that a user was shown.

With m_i in [0, 1]^L an item's modality, s = +1 where the user took it and -1 where not, and E the
user's edges,

    a = (1/|E|) sum over E of s · m_i          p[k] = (1/w) sum of a[j], j = k .. k + w - 1

where w = max(L, d) - d + 1, so that p has d entries (a shorter a is padded with zeros). Pooling is
linear, so items are pooled first and one sparse product makes all means of all modalities.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from scipy import sparse

from mmnet import checks
from mmnet.mma4ctr.data.pca import slices
from mmnet.mma4ctr.data.protocols import Edges


def pooling(width: int, length: int) -> np.ndarray:
    """The matrix P of stride-1 average pooling, float64 [max(width, length), length].

    >>> pooling(3, 2)
    array([[0.5, 0. ],
           [0.5, 0.5],
           [0. , 0.5]])
    >>> bool((pooling(10, 21) == np.eye(21)).all())
    True

    Raises:
        ValueError: `width` or `length` is below 1.
    """
    checks.at_least(1, width=width)
    checks.at_least(1, length=length)
    window = max(width, length) - length + 1
    row, column = np.arange(max(width, length))[:, None], np.arange(length)[None, :]
    return ((row >= column) & (row < column + window)) / window


def pooled(table: np.ndarray, length: int) -> np.ndarray:
    """Items' modalities pooled to a length, float64 [items, length]."""
    matrix = pooling(table.shape[1], length)[: table.shape[1]]
    found = np.empty((len(table), length))
    for part in slices(len(table)):
        found[part] = table[part].astype(np.float64) @ matrix
    return found


def signed_means(
    edges: Edges,
    items: Iterable[tuple[str, np.ndarray]],
    present: Mapping[str, np.ndarray],
    *,
    users: int,
    bins: int,
    signed: bool = True,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Signed means of each state, per modality.

    Edges of items that lack a modality count neither in its sum nor in its number. With time bins
    a state's means are over earlier bins only: nothing of bin t is in the state of bin t.

    Args:
        edges: what users were shown.
        items: modalities by name and pooled, float64 [items, length]; one at a time is needed.
        present: modality -> bool [items].
        users: number of users.
        bins: number of time bins, or 0.
        signed: False uses +1 for every sign, so that the means contain no label.

    Returns:
        Modality -> means, float64 [states, length], zero where there are no edges; and the number
        of edges of each state, int64 [states].
    """
    moments = bins + 1 if bins else 1
    # An edge of bin t is known from bin t + 1 on.
    row = edges.user.astype(np.int64) * moments + (edges.bin + 1 if bins else 0)
    # [states, items] as sparse matrices, so that one product per modality makes all sums.
    sign = 2.0 * edges.label - 1 if signed else np.ones(len(edges.label))
    num_items = len(next(iter(present.values())))
    shape = (users * moments, num_items)
    signs = sparse.coo_array((sign, (row, edges.item)), shape=shape).tocsr()
    shown = sparse.coo_array((np.ones(len(row)), (row, edges.item)), shape=shape).tocsr()

    def up_to(values: np.ndarray) -> np.ndarray:
        # Sums per bin become sums over all bins so far; in place, as they may be large.
        wide = values.reshape(users, moments, *values.shape[1:])
        return np.cumsum(wide, axis=1, out=wide).reshape(values.shape) if bins else values

    found = {}
    for name, pooled_items in items:
        there = present[name]
        total = up_to(signs @ np.where(there[:, None], pooled_items, 0))
        number = up_to(shown @ there.astype(np.float64))
        found[name] = total / np.maximum(number, 1)[:, None]
    edges_per_state = up_to(np.bincount(row, minlength=users * moments))
    return found, edges_per_state


def positive_rates(edges: Edges, *, users: int, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Positives and rows of each state, int64 [states] both; with time bins of earlier ones."""
    moments = bins + 1 if bins else 1
    row = edges.user.astype(np.int64) * moments + (edges.bin + 1 if bins else 0)
    number = np.bincount(row, minlength=users * moments).reshape(users, moments)
    positives = np.bincount(row[edges.label == 1], minlength=users * moments)
    positives = positives.reshape(users, moments)
    return positives.cumsum(axis=1).ravel(), number.cumsum(axis=1).ravel()
