"""Simple baselines: predictions without training, which any model must beat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmnet.models.estimator import Inputs, bounded
from mmnet.models.options import HaOptions, HaTaxonomyOptions, Options
from mmnet.schema import FeatureSpec


@dataclass(frozen=True)
class HistoricalAverage:
    """Predicts the mean of the item's own share rates in the window.

    Yu et al. (2021) section 6.2, baseline HA. Where every step is missing the paper predicts 0.

    Args:
        options: see `HaOptions`.
        training_mean: mean of the training targets, percent: the last fallback.

    >>> history = {"share_rate": np.array([[2.0, 0, 4]]), "missing_flag": np.array([[0.0, 1, 0]])}
    >>> HistoricalAverage(HaOptions()).predict(history)
    array([3.], dtype=float32)
    >>> HistoricalAverage(HaOptions(ha_mean="zeros")).predict(history)
    array([2.], dtype=float32)
    """

    options: HaOptions
    training_mean: float = 0.0

    def predict(self, inputs: Inputs) -> np.ndarray:
        """Returns percent, [batch]."""
        inputs = bounded(inputs)
        rate, seen = inputs["share_rate"], 1 - inputs["missing_flag"]
        counted = seen if self.options.ha_mean == "available" else np.ones_like(seen)
        average = _mean(rate * seen, counted)
        if self.options.ha_fallback is None:
            return average
        fallback = TaxonomyMean(self.training_mean).predict(inputs)
        return np.where(seen.any(axis=1), average, fallback)


@dataclass(frozen=True)
class LastRate:
    """Predicts the last share rate in the window, or 0 if all are missing."""

    def predict(self, inputs: Inputs) -> np.ndarray:
        """Returns percent, [batch]."""
        inputs = bounded(inputs)
        rate, seen = inputs["share_rate"], inputs["missing_flag"] < 1
        last = seen.shape[1] - 1 - np.argmax(seen[:, ::-1], axis=1)
        return np.where(seen.any(axis=1), rate[np.arange(len(rate)), last], 0).astype("float32")


@dataclass(frozen=True)
class TaxonomyMean:
    """Predicts the mean of all taxonomies' rates in the window.

    Where no other item of any of its taxonomy values was seen, it predicts the training mean.

    Args:
        training_mean: mean of the training targets, percent.
    """

    training_mean: float = 0.0

    def predict(self, inputs: Inputs) -> np.ndarray:
        """Returns percent, [batch]."""
        batch = len(inputs["share_rate"])
        if "taxonomy_rate" not in inputs:
            return np.full(batch, self.training_mean, "float32")
        inputs = bounded(inputs)
        rate = np.reshape(inputs["taxonomy_rate"], (batch, -1))
        seen = 1 - np.reshape(inputs["taxonomy_missing_flag"], (batch, -1))
        return np.where(seen.any(axis=1), _mean(rate * seen, seen), self.training_mean).astype(
            "float32"
        )


def historical_average(spec: FeatureSpec, options: HaOptions) -> HistoricalAverage:
    """Builds HA as the paper has it: 0 for an item without history."""
    return HistoricalAverage(options, spec.rate_mean)


def historical_average_or_taxonomy(
    spec: FeatureSpec, options: HaTaxonomyOptions
) -> HistoricalAverage:
    """Builds HA that falls back to the taxonomies for an item without history."""
    options = HaOptions(ha_mean=options.ha_mean, ha_fallback="taxonomy")
    return HistoricalAverage(options, spec.rate_mean)


def last_rate(spec: FeatureSpec, options: Options) -> LastRate:
    """Builds the simple baseline that repeats the last rate."""
    return LastRate()


def taxonomy_mean(spec: FeatureSpec, options: Options) -> TaxonomyMean:
    """Builds the simple baseline that reads only the taxonomies."""
    return TaxonomyMean(spec.rate_mean)


def _mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted mean of each row; 0 where its weights are all 0."""
    return (values.sum(axis=1) / np.maximum(weights.sum(axis=1), 1)).astype("float32")
