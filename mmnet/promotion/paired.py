"""Two models' errors on the same rows: paired by row, clustered by item, weighted if asked.

Let a row have the squared errors `e` of the challenger and `c` of the champion, and let MSE be
their (weighted) means. "The ratio of the two MSEs is below L" is tested on the mean of `e - L c`,
which needs no ratio: it is a mean of paired differences. Rows of one item rise and fall together,
so its variance is that of sums over items, with G items

    V = G / (G - 1) * sum over items of (sum over rows of w (d - mean))^2 / (sum of all w)^2

and t has the degrees of freedom of `significance.Clusters`. The interval of the ratio is the set of
all L that a two-sided test does not reject (Fieller, 1954, "Some problems in interval estimation",
JRSS B 16(2)), so interval and test always agree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mmnet import checks


@dataclass(frozen=True)
class Interval:
    """A value with both ends of its interval; `high` is infinite where nothing bounds it."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float | None]:
        """Returns the three numbers; an end that is infinite is None."""
        ends = {"value": self.value, "low": self.low, "high": self.high}
        return {name: one if math.isfinite(one) else None for name, one in ends.items()}


@dataclass(frozen=True)
class Paired:
    """Squared errors of two models on the same rows.

    Args:
        champion: squared errors, percent², float [rows].
        challenger: those of the other model, [rows].
        item: item of each row, anything sortable, [rows].
        weight: weights of the rows, at least 0, [rows]; None for equal ones.

    Raises:
        ValueError: shapes differ, a value is negative or not finite, or no row has a weight.

    >>> item = np.repeat(np.arange(4), 2)
    >>> champion = np.array([4.0, 4, 2, 2, 4, 4, 2, 2])
    >>> paired = Paired(champion, champion / 2, item)
    >>> paired.ratio().value, paired.num_items
    (0.5, 4)
    """

    champion: np.ndarray
    challenger: np.ndarray
    item: np.ndarray
    weight: np.ndarray | None = None

    def __post_init__(self):
        checks.same_shape(champion=self.champion, challenger=self.challenger, item=self.item)
        weight = np.ones(len(self.item)) if self.weight is None else self.weight
        checks.same_shape(item=self.item, weight=weight)
        for name, values in (("errors", self._errors), ("weights", weight)):
            if not (np.isfinite(values) & (values >= 0)).all():
                raise ValueError(f"`Paired` needs finite {name} of at least 0")
        if not weight.sum() > 0:
            raise ValueError("`Paired` needs at least one row with a weight above 0")

    @property
    def _errors(self) -> np.ndarray:
        return np.stack([self.champion, self.challenger]).astype(np.float64)

    @cached_property
    def _moments(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Means [2], their covariance [2, 2], and the weight of each item with any, [items]."""
        errors = self._errors
        weight = np.ones(len(self.item)) if self.weight is None else self.weight
        weight = np.asarray(weight, np.float64)
        rows = weight > 0
        _, code = np.unique(np.asarray(self.item)[rows], return_inverse=True)
        errors, weight = errors[:, rows], weight[rows]
        total = weight.sum()
        means = errors @ weight / total
        sums = np.stack([np.bincount(code, weight * one) for one in errors - means[:, None]])
        items = sums.shape[1]
        scale = items / (items - 1) if items > 1 else np.nan
        return means, scale * (sums @ sums.T) / total**2, np.bincount(code, weight)

    @property
    def mse(self) -> tuple[float, float]:
        """MSE of the champion and of the challenger, percent²."""
        champion, challenger = self._moments[0]
        return float(champion), float(challenger)

    @property
    def num_items(self) -> int:
        """Number of items with a weight above 0."""
        return len(self._moments[2])

    @property
    def freedom(self) -> float:
        """Degrees of freedom; fewer than items - 1 where few items have most of the weight."""
        weight = self._moments[2]
        return float(np.sum(weight**2) ** 2 / np.sum(weight**4) - 1)

    @property
    def effective_rows(self) -> float:
        """(sum of weights)² / sum of squared weights: equally weighted rows that know as much."""
        if self.weight is None:
            return float(len(self.item))
        weight = np.asarray(self.weight, np.float64)
        return float(weight.sum() ** 2 / np.sum(weight**2))

    def difference(self, confidence: float = 0.95) -> Interval:
        """Estimates the challenger's MSE minus the champion's, percent², with its interval."""
        means, covariance, _ = self._moments
        value = float(means[1] - means[0])
        width = self._quantile(confidence) * math.sqrt(_variance(covariance, 1.0))
        return Interval(value, value - width, value + width)

    def ratio(self, confidence: float = 0.95) -> Interval:
        """Estimates the challenger's MSE relative to the champion's, with Fieller's interval."""
        (champion, challenger), covariance, _ = self._moments
        square = self._quantile(confidence) ** 2
        value = float(challenger / champion) if champion else (math.inf if challenger else 1.0)
        # (challenger - L champion)² = t² V(L), a quadratic in L.
        a = champion**2 - square * covariance[0, 0]
        b = challenger * champion - square * covariance[0, 1]
        c = challenger**2 - square * covariance[1, 1]
        if not (math.isfinite(square) and a > 0):  # too few items to bound the champion's MSE
            return Interval(value, 0.0, math.inf)
        root = math.sqrt(max(0.0, b**2 - a * c))
        return Interval(value, max(0.0, float((b - root) / a)), float((b + root) / a))

    def p_not_below(self, limit: float = 1.0) -> float:
        """Computes the one-sided p of the hypothesis that the ratio of MSEs is `limit` or more.

        1 where there are fewer than two items, or the two models predict the same.

        >>> errors = np.array([1.0, 2, 3, 4, 5, 6])
        >>> paired = Paired(errors, errors * 0.9, np.arange(6))
        >>> paired.p_not_below(1.0) < 0.01, paired.p_not_below(0.8) > 0.9
        (True, True)
        """
        from scipy import special  # loaded only where something is decided

        (champion, challenger), covariance, _ = self._moments
        value = float(challenger - limit * champion)
        variance = _variance(covariance, limit)
        if self.num_items < 2 or value == 0:
            return 1.0
        if not variance > 0:  # every item has the same difference
            return 0.0 if value < 0 else 1.0
        return float(special.stdtr(self.freedom, value / math.sqrt(variance)))

    def _quantile(self, confidence: float) -> float:
        if not 0 < confidence < 1:
            raise ValueError(f"`confidence` must be in (0, 1). Received: confidence={confidence}")
        from scipy import special

        if self.num_items < 2:
            return math.inf
        return float(special.stdtrit(self.freedom, 0.5 + confidence / 2))


def _variance(covariance: np.ndarray, limit: float) -> float:
    """Returns the variance of challenger - limit * champion, never below 0 by rounding."""
    (cc, ce), (_, ee) = covariance
    return max(0.0, float(ee - 2 * limit * ce + limit**2 * cc))
