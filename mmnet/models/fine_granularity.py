"""Fine-granularity module: the item's own share rates, disturbed in training and embedded."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from mmnet.layers.disturbance import MultiMode
from mmnet.layers.embedding import SequenceEmbedding
from mmnet.schema import FeatureSpec


def model_inputs(spec: FeatureSpec) -> dict[str, keras.KerasTensor]:
    """Makes the inputs of a model: every tensor of the dataset, also those it does not read."""
    return {
        name: keras.Input(shape, dtype=dtype, name=name)
        for name, (shape, dtype) in spec.tensors().items()
    }


def in_standard_deviations(rate: keras.KerasTensor, spec: FeatureSpec, name: str):
    """Divides percent by the training sd. Never centres: a missing step must stay 0."""
    return keras.layers.Rescaling(1 / spec.rate_scale, name=name)(rate)


def fine_granularity(
    inputs: dict[str, keras.KerasTensor],
    spec: FeatureSpec,
    *,
    mode_weights: Sequence[float],
    noisy_rate: float,
    units: int,
    evidence: bool,
    seed: int,
):
    """Yu et al. (2021) section 4.2, up to Eq. 3.

    Returns:
        h^m, [batch, window, units].
    """
    # The mode of each example: normal, cold-start or noisy. [batch, window] each.
    share_rate, missing_flag, clicks = MultiMode(
        mode_weights, noisy_rate, seed=seed, name="multi_mode"
    )(inputs["share_rate"], inputs["missing_flag"], inputs["clicks"])
    share_rate = in_standard_deviations(share_rate, spec, "scaled_share_rate")
    # One vector per step, which knows whether the step was seen. [batch, window, units]
    embedding = SequenceEmbedding(units, evidence=evidence, name="sequence_embedding")
    if evidence:
        return embedding(share_rate, missing_flag, clicks)
    return embedding(share_rate, missing_flag)
