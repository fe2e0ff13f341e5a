"""Fine-granularity module: the item's own share rates, disturbed in training and embedded."""

from __future__ import annotations

from typing import NamedTuple

import keras

from mmnet.layers.bounds import Bounded
from mmnet.layers.disturbance import MultiMode
from mmnet.layers.embedding import SequenceEmbedding
from mmnet.models.options import DisturbanceOptions
from mmnet.schema import FeatureSpec


def model_inputs(spec: FeatureSpec) -> dict[str, keras.KerasTensor]:
    """Make the inputs of a model: every tensor of the dataset, including those it does not read."""
    return {
        name: keras.Input(shape, dtype=dtype, name=name)
        for name, (shape, dtype) in spec.tensors().items()
    }


def bounded(
    inputs: dict[str, keras.KerasTensor], spec: FeatureSpec
) -> dict[str, keras.KerasTensor]:
    """Clip the inputs of a network to `spec.limits()`; ids pass through unchanged."""
    limits = spec.limits()
    return {
        name: Bounded(*limits[name], name=f"bounded_{name}")(one) if name in limits else one
        for name, one in inputs.items()
    }


def in_standard_deviations(rate: keras.KerasTensor, spec: FeatureSpec, name: str):
    """Divide percent by the training sd, without centring: a missing step must stay 0."""
    return keras.layers.Rescaling(1 / spec.rate_scale, name=name)(rate)


class History(NamedTuple):
    """An item's own history, [batch, window] each, in training with some of it hidden."""

    share_rate: keras.KerasTensor
    missing_flag: keras.KerasTensor
    clicks: keras.KerasTensor


def disturbed_history(inputs: dict[str, keras.KerasTensor], options: DisturbanceOptions) -> History:
    """Disturb each example by its mode: Yu et al. (2021) section 4.2 and Fig. 2."""
    modes = MultiMode(
        options.mode_weights,
        options.noisy_rate,
        options.adaptive_modes,
        options.adaptive_clicks,
        options.seed,
        name="multi_mode",
    )
    return History(*modes(inputs["share_rate"], inputs["missing_flag"], inputs["clicks"]))


def fine_granularity(history: History, spec: FeatureSpec, *, units: int, evidence: bool):
    """Yu et al. (2021) section 4.2, Eq. 3.

    Returns:
        h^m, one vector per step, which knows whether the step was seen; [batch, window, units].
    """
    share_rate = in_standard_deviations(history.share_rate, spec, "scaled_share_rate")
    embedding = SequenceEmbedding(units, evidence=evidence, name="sequence_embedding")
    if evidence:
        return embedding(share_rate, history.missing_flag, history.clicks)
    return embedding(share_rate, history.missing_flag)
