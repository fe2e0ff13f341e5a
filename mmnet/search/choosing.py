"""The simplest candidate within one standard error, and 2 %, of the best.

The one-standard-error rule of Breiman et al. (1984), section 3.4.3, with the error of the
difference: candidates are compared on the same rows, and rows of an item rise and fall together.
On a small log one standard error may be a tenth of the error, which is too much to give away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mmnet.evaluation.significance import Clusters

MOST_GIVEN_UP = 0.02
"""In mean log MSE, about 2 %: what simplicity may cost at most."""

SMALLEST = 1e-12
"""An MSE of exactly 0 must not outweigh the others."""


@dataclass(frozen=True)
class Compared:
    """A candidate next to the best one.

    Attributes:
        value: mean over scenarios of the logarithm of its MSE.
        error: its standard error.
        difference: value minus the best one's.
        difference_error: the standard error of that, paired by row.
    """

    value: float
    error: float
    difference: float
    difference_error: float


def compare(
    squared: Mapping[str, np.ndarray], items: np.ndarray
) -> tuple[str, dict[str, Compared]]:
    """Compares candidates with the one of the lowest mean log MSE.

    The standard errors are of first order in the MSEs (delta method), clustered by item.

    Args:
        squared: candidate -> squared errors, float64 [scenarios, rows].
        items: what rows belong together, [rows].

    Returns:
        The best one's name, and every candidate.

    >>> errors = {"a": np.array([[1.0, 1, 1, 1]]), "b": np.array([[4.0, 1, 1, 1]])}
    >>> best, compared = compare(errors, np.array([0, 0, 1, 1]))
    >>> best, round(float(np.exp(compared["b"].difference)), 3)
    ('a', 1.75)
    """
    # One item says nothing about how items differ; its rows then stand for themselves.
    alone = len(np.unique(items)) < 2
    clusters = Clusters(np.arange(len(items)) if alone else items) if len(items) > 1 else None
    mse = {name: np.maximum(one.mean(axis=1), SMALLEST) for name, one in squared.items()}
    values = {name: float(np.mean(np.log(one))) for name, one in mse.items()}
    # The influence of each row on the mean log MSE.
    influence = {name: np.mean(squared[name] / mse[name][:, None], axis=0) for name in squared}
    best = min(values, key=lambda name: values[name])

    def error(influences: np.ndarray) -> float:
        return float(np.sqrt(clusters.variance(influences))) if clusters else 0.0

    return best, {
        name: Compared(
            value=values[name],
            error=error(influence[name]),
            difference=values[name] - values[best],
            difference_error=error(influence[name] - influence[best]),
        )
        for name in squared
    }


def chosen(compared: Mapping[str, Compared], simplicity: Mapping[str, int]) -> str:
    """The simplest candidate that is within one standard error and `MOST_GIVEN_UP` of the best.

    Args:
        compared: every candidate.
        simplicity: rank of each; lower is simpler. In a tie the better one is taken.
    """
    near: Sequence[str] = [
        name
        for name, one in compared.items()
        if one.difference <= min(one.difference_error, MOST_GIVEN_UP)
    ]
    return min(near, key=lambda name: (simplicity[name], compared[name].value))
