"""The item part of a row: modalities concatenated, multiplied, or one alone.

| matrix | WeChat (192, 242, 73 wide) | TikTok (71, 10, 22 wide) |
|---|---|---|
| concat | each to 128 at most, side by side, to 128 at most | side by side |
| cross | each to 128 at most, then to the narrowest, entry by entry product | to the narrowest, product |
| single | to 128 at most, on the raw scale | as it is |

"To k" is by principal components, fitted to the items that the protocol allows.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mmnet import checks
from mmnet.mma4ctr.config import MODALITIES
from mmnet.mma4ctr.data import pca

MOST = 128

LARGEST_SCALED = 1e4
"""Spans of the rows fitted to that any other row may lie from their lowest value. So products of
modalities, and sums of a network's first layer, stay finite whatever the files hold."""


def modalities_of(matrix: str) -> tuple[str, ...]:
    """List the modalities of a matrix, in the order v, a, t.

    >>> modalities_of("vt_cross"), modalities_of("acoustic")
    (('visual', 'textual'), ('acoustic',))
    """
    if matrix in MODALITIES:
        return (matrix,)
    letters = matrix.partition("_")[0]
    return () if matrix == "none" else tuple(m for m in MODALITIES if m[0] in letters)


def needed(matrix: str, present: Mapping[str, np.ndarray]) -> np.ndarray:
    """Select the items with the modalities of a matrix: one, or all three if it joins several."""
    if matrix == "none":
        return np.ones(len(next(iter(present.values()))), bool)
    if matrix in MODALITIES:
        return np.array(present[matrix])
    return np.logical_and.reduce([np.asarray(one) for one in present.values()])


def min_max(table: np.ndarray, fit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the lowest value and the factor that scale each column to [0, 1] on the rows to fit.

    A constant column has the factor 0 and becomes 0, as does one whose values lie nearer to each
    other than the smallest normal float32. float32 [columns] both.

    Raises:
        ValueError: there is no row to fit to.
    """
    rows = np.flatnonzero(fit) if fit.dtype == bool else fit
    checks.at_least(1, rows=len(rows))
    ends = [(table[part].min(axis=0), table[part].max(axis=0)) for part in pca.parts_of(rows)]
    low = np.min([one for one, _ in ends], axis=0)
    span = np.max([one for _, one in ends], axis=0) - low
    apart = span >= np.finfo(np.float32).tiny  # else the factor would be infinite
    factor = np.divide(1, span, out=np.zeros(len(span), np.float64), where=apart)
    return low.astype(np.float32), factor.astype(np.float32)


def scaled(table: np.ndarray, fit: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Scale columns to [0, 1] over the rows to fit, float32; `bounded` clips the other rows."""
    low, factor = min_max(table, fit)
    found = np.empty(table.shape, np.float32) if out is None else out
    for part in pca.slices(len(table)):
        found[part] = bounded(table[part], low, factor)
    return found


def bounded(rows: np.ndarray, low: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Scale rows, (x - low) · factor, and clip them to `LARGEST_SCALED`, as `GatheredRows` does."""
    with np.errstate(over="ignore"):
        return np.clip((rows - low) * factor, -LARGEST_SCALED, LARGEST_SCALED)


def item_part(
    matrix: str,
    tables: Mapping[str, np.ndarray],
    present: Mapping[str, np.ndarray],
    fit: np.ndarray,
    *,
    narrowed: bool,
    rounded: bool,
) -> np.ndarray:
    """The item part of all items, float32 [items, width].

    Args:
        matrix: see `config.MATRICES`.
        tables: the modalities of all items, unscaled.
        present: modality -> bool [items].
        fit: bool [items], what statistics are fitted to.
        narrowed: reduces joined modalities and their concatenation to `MOST` columns; see `Source`.
        rounded: components' scores to 4 decimals.
    """
    names = modalities_of(matrix)
    if not names:
        return np.zeros((len(fit), 0), np.float32)

    def reduced(table: np.ndarray, width: int, there: np.ndarray) -> np.ndarray:
        fitted = pca.fit_dense(table, np.flatnonzero(there & fit), width)
        return pca.transform_dense(fitted, table, np.flatnonzero(there), rounded=rounded)

    def at_most(table: np.ndarray, there: np.ndarray) -> np.ndarray:
        return reduced(table, MOST, there) if table.shape[1] > MOST else table

    if matrix in MODALITIES:
        return at_most(tables[matrix], present[matrix])
    common = needed(matrix, present)
    if matrix.endswith("_concat") and not narrowed:
        ends = np.cumsum([tables[name].shape[1] for name in names])
        joined = np.empty((len(fit), ends[-1]), np.float32)
        for name, out in zip(names, np.split(joined, ends[:-1], axis=1), strict=True):
            scaled(tables[name], present[name] & fit, out)
        return joined
    parts = [scaled(tables[name], present[name] & fit) for name in names]
    if narrowed:
        parts = [at_most(part, present[name]) for part, name in zip(parts, names, strict=True)]
    if matrix.endswith("_concat"):
        return at_most(np.concatenate(parts, axis=1), common)
    return _crossed(parts, common, reduced)


def _crossed(parts, common, reduced) -> np.ndarray:
    """Products of the modalities, all but one brought to the narrowest one's width."""
    widths = [part.shape[1] for part in parts]
    least = min(widths)
    # Of two equally wide ones the second is rotated; of three the first narrowest stays.
    kept = 0 if len(parts) == 2 and widths[0] == widths[1] else widths.index(least)
    product = None
    for number, part in enumerate(parts):
        one = part if number == kept else reduced(part, least, common)
        product = one if product is None else product * one
    assert product is not None
    return product
