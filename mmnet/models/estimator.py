"""Interface of models without a network, which are fitted in one call and stored as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mmnet import schema
from mmnet.schema import FeatureSpec

if TYPE_CHECKING:  # floors are scored without it
    import keras

Inputs = Mapping[str, np.ndarray]
"""Arrays named and shaped as `FeatureSpec.tensors()`, batch first."""


def bounded(inputs: Inputs, spec: FeatureSpec | None = None) -> Inputs:
    """Clip the inputs of a model without a network, as `layers.bounds` does for networks.

    Args:
        inputs: any finite numbers.
        spec: what they are; None: the sequences are bounded, all else stays.

    Returns:
        Numbers within `spec.limits()`, and ids outside their vocabulary as the unknown one.

    >>> bounded({"clicks": np.array([[-1.0, 7.0]]), "missing_flag": np.array([[0.0, 2.0]])})
    {'clicks': array([[0., 7.]]), 'missing_flag': array([[0., 1.]])}
    """
    limits = {tensor.name: tensor.limits for tensor in schema.SEQUENCES}
    sizes: dict[str, int] = {}
    if spec is not None:
        limits = spec.limits()
        sizes = {field.tensor: field.size for field in spec.fields}
        sizes |= {cycle.tensor: cycle.size for cycle in spec.cycles}
        sizes |= {text.tensor: text.size for text in spec.texts}

    def inside(name: str, array: np.ndarray) -> np.ndarray:
        if name in sizes:
            known = (array >= schema.MISSING_ID) & (array < sizes[name])
            return np.where(known, array, array.dtype.type(schema.UNKNOWN_ID))
        return np.clip(array, *limits[name]) if name in limits else array

    return {name: inside(name, array) for name, array in inputs.items()}


@dataclass(frozen=True)
class Sample:
    """Examples as arrays.

    Attributes:
        inputs: see `Inputs`.
        share_rate: the targets, float32 [examples], percent.
        clicks: clicks of the target periods, float32 [examples], above 0.
        weight: weight of each example in the loss, float32 [examples]; its mean is 1.
    """

    inputs: Inputs
    share_rate: np.ndarray
    clicks: np.ndarray
    weight: np.ndarray

    def __len__(self) -> int:
        return len(self.share_rate)


class Estimator(Protocol):
    """A fitted model other than a network: a statistical baseline, or boosted trees."""

    def fit(self, train: Sample, validation: Mapping[str, Sample]) -> dict[str, Any]:
        """Fits on the training examples; `validation` has the same examples in each scenario.

        Returns:
            Entries for the record, e.g. the number of trees; JSON values.
        """
        ...

    def predict(self, inputs: Inputs) -> np.ndarray:
        """Returns percent, float32 [batch]."""
        ...

    def state(self) -> dict[str, np.ndarray]:
        """Fitted state as arrays (text as its UTF-8 bytes, uint8), never as objects."""
        ...

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore the arrays that `state` returned."""
        ...

    def network(self) -> keras.Model | None:
        """Convert the fitted estimator into a network for export.

        Returns:
            A functional model from a dict of all tensors of the spec
            (`models.fine_granularity.model_inputs`) to percent, float32 [batch]. It consists of
            registered layers, keeps what was fitted in their weights, and scores any inputs as
            `predict` does, up to `SAME_SCORE`. None: this estimator cannot be exported.
        """
        ...


SAME_SCORE = 1e-6
"""Largest difference between `predict` and `network`, relative to the prediction, or to the sd of
the rates where that is more."""


def check_network(network: keras.Model, estimator: Estimator, inputs: Inputs, scale: float) -> None:
    """Compares an estimator with its network on some inputs.

    Args:
        network: `estimator.network()`.
        estimator: fitted.
        inputs: some batch of real inputs.
        scale: sd of the rates, percent.

    Raises:
        RuntimeError: their scores differ.
    """
    expected = estimator.predict(inputs)
    found = np.asarray(network(dict(inputs), training=False))
    difference = np.abs(found - expected) / np.maximum(np.abs(expected), scale)
    if not difference.max(initial=0.0) <= SAME_SCORE:
        raise RuntimeError(
            f"the network of the estimator {network.name} scores differently from the estimator "
            f"itself, by {difference.max():.2g} of the score"
        )
