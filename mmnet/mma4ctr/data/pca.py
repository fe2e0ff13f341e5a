"""Principal components from sums: exact, in one pass, without the whole matrix in memory.

Token sequences read as numbers, padded to the longest, make a matrix of 100,000 x 5,000 that is
mostly padding. Principal components need only its column sums and its Gram matrix, and short rows
contribute to a corner of that matrix only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

BLOCK_ROWS = 4096


@dataclass(frozen=True)
class Ragged:
    """Rows of whole numbers with different lengths.

    Attributes:
        values: values of all rows, one after another, int32.
        offsets: start of each row, and the end of the last, int64 [rows + 1].
    """

    values: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Lengths of the rows, int64 [rows]."""
        return np.diff(self.offsets)

    def dense(self, rows: np.ndarray, width: int) -> np.ndarray:
        """Pad or truncate the given rows to a width; float64 [rows, width].

        >>> Ragged(np.array([7, 8, 9]), np.array([0, 2, 3])).dense(np.array([1, 0]), 2).tolist()
        [[9.0, 0.0], [7.0, 8.0]]
        """
        lengths = np.minimum(self.lengths[rows], width)
        found = np.zeros((len(rows), width))
        row = np.repeat(np.arange(len(rows)), lengths)
        column = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        found[row, column] = self.values[np.repeat(self.offsets[rows], lengths) + column]
        return found

    def blocks(
        self, rows: np.ndarray, width: int, at_once: int = BLOCK_ROWS
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Rows by length, in blocks no wider than their longest row: (rows, float64 block)."""
        rows = rows[np.argsort(self.lengths[rows], kind="stable")]
        for start in range(0, len(rows), at_once):
            part = rows[start : start + at_once]
            widest = min(int(self.lengths[part[-1]]), width)
            yield part, self.dense(part, widest)


@dataclass(frozen=True)
class Pca:
    """Fitted components.

    Attributes:
        mean: float64 [width].
        components: one a column, most variance first, float64 [width, components]. In each the
            loading of the largest size is positive, so that there is one answer.
    """

    mean: np.ndarray
    components: np.ndarray

    def transform(self, block: np.ndarray) -> np.ndarray:
        """Scores of rows; a block of fewer columns is padded with zeros. float64 [rows, k]."""
        width = block.shape[1]
        return block @ self.components[:width] - self.mean @ self.components


class Moments:
    """Sums of rows, and of products of their columns, in float64."""

    def __init__(self, width: int):
        self._number = 0
        self._sum = np.zeros(width)
        self._gram = np.zeros((width, width))

    def add(self, block: np.ndarray) -> None:
        """Adds rows; a block of fewer columns is padded with zeros."""
        width = block.shape[1]
        self._number += len(block)
        self._sum[:width] += block.sum(axis=0)
        self._gram[:width, :width] += block.T @ block

    def pca(self, keep: float | int) -> Pca:
        """Compute the components of the rows that were added.

        Args:
            keep: a share of the variance in (0, 1): the fewest components that explain more than
                it, as scikit-learn counts; or a number of components.

        Raises:
            ValueError: nothing was added.
        """
        if not self._number:
            raise ValueError("no rows to fit principal components to")
        mean = self._sum / self._number
        covariance = self._gram / self._number - np.outer(mean, mean)
        used = np.flatnonzero(np.diag(self._gram))  # padding that no row reaches costs nothing
        values, vectors = np.linalg.eigh(covariance[np.ix_(used, used)])
        values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
        number = min(int(keep), len(mean)) if keep >= 1 else _enough(values, keep)
        components = np.zeros((len(mean), number))
        there = min(number, len(used))
        components[used, :there] = vectors[:, :there]
        largest = np.abs(components).argmax(axis=0)
        signs = np.where(components[largest, np.arange(number)] < 0, -1.0, 1.0)
        return Pca(mean, components * signs)


def _enough(values: np.ndarray, share: float) -> int:
    total = values.sum()
    if not total:
        return 1
    return min(
        int(np.searchsorted(np.cumsum(values) / total, share, side="right")) + 1, len(values)
    )


def fit_ragged(data: Ragged, rows: np.ndarray, keep: float | int) -> Pca:
    """Components of padded sequences, fitted to some of the rows."""
    width = max(int(data.lengths[rows].max(initial=0)), 1)
    moments = Moments(width)
    for _, block in data.blocks(rows, width):
        moments.add(block)
    return moments.pca(keep)


def transform_ragged(
    fitted: Pca, data: Ragged, rows: np.ndarray, *, rounded: bool = False
) -> np.ndarray:
    """Scores of all rows, see `transform_dense`."""
    return _scores(fitted, len(data), data.blocks(rows, len(fitted.mean)), rounded, None)


def fit_dense(data: np.ndarray, rows: np.ndarray, keep: float | int) -> Pca:
    """Components of a table, fitted to some of the rows."""
    moments = Moments(data.shape[1])
    for part in parts_of(rows):
        moments.add(data[part].astype(np.float64))
    return moments.pca(keep)


def transform_dense(
    fitted: Pca,
    data: np.ndarray,
    rows: np.ndarray,
    *,
    rounded: bool = False,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Compute the scores of rows, float32 [len(data), k]; all other rows are zero.

    Args:
        fitted: the components.
        data: [rows, width].
        rows: places to compute.
        rounded: to 4 decimals, as published; before they become float32.
        out: an array to write to instead of a new one.
    """
    blocks = ((part, data[part].astype(np.float64)) for part in parts_of(rows))
    return _scores(fitted, len(data), blocks, rounded, out)


def _scores(fitted, number, blocks, rounded, out) -> np.ndarray:
    found = np.zeros((number, fitted.components.shape[1]), np.float32) if out is None else out
    for part, block in blocks:
        scores = fitted.transform(block)
        found[part] = scores.round(4) if rounded else scores
    return found


def slices(number: int) -> Iterator[slice]:
    """Split a number of rows into slices of BLOCK_ROWS."""
    return (slice(start, min(start + BLOCK_ROWS, number)) for start in range(0, number, BLOCK_ROWS))


def parts_of(rows: np.ndarray) -> Iterator[np.ndarray]:
    """Places of rows, BLOCK_ROWS at a time."""
    return (rows[part] for part in slices(len(rows)))
