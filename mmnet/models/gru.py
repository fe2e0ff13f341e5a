"""GRU: a recurrent network in the place of MMNet's modules for the history."""

from __future__ import annotations

from typing import Literal

import keras

from mmnet import checks
from mmnet.models.fine_granularity import bounded, model_inputs
from mmnet.models.meta_info import meta_info
from mmnet.models.mmnet import gated_prediction
from mmnet.models.options import Link
from mmnet.models.seeding import seeded
from mmnet.models.step_vectors import SeenSteps, recurrent, step_vectors
from mmnet.schema import FeatureSpec


def gru(
    spec: FeatureSpec,
    *,
    mode_weights: tuple[float, float, float] = (1, 0, 0),
    noisy_rate: float = 0.5,
    coarse_granularity: bool = True,
    taxonomy_flags: bool = True,
    baseline_inputs: Literal["all", "rate_only"] = "all",
    evidence: bool = False,
    units: int = 64,
    gru_units: int | None = None,
    gru_mask: bool = False,
    reset_after: bool = True,
    smoothed_history: bool = False,
    link: Link = "identity",
    field_width: int = 16,
    field_pooling: Literal["max", "mean"] = "max",
    momentum: float = 0.95,
    dropout: float = 0.0,
    content_dropout: float = 0.0,
    modality_dropout: float = 0.0,
    seed: int = 0,
) -> keras.Model:
    """Builds the GRU baseline.

    Yu et al. (2021) section 6.2. Meta-info, gated fusion and prediction are MMNet's own, so the
    two differ only in how q comes about: here it is the last state of a GRU over the steps.

    Args:
        spec: the tensors of the dataset and their fitted statistics.
        mode_weights: frequencies of (normal, cold-start, noisy) examples in training.
        noisy_rate: τ, probability of hiding a step of a noisy example.
        coarse_granularity: False hides the taxonomies' rates from the steps.
        taxonomy_flags: False hides the taxonomies' missing flags.
        baseline_inputs: "rate_only" leaves all but the item's own rates out of the steps.
        evidence: lets the model see how many clicks stand behind each rate.
        units: width of every vector up to the fusion.
        gru_units: width of the GRU's state; where it is not `units`, a linear layer brings q to
            that width. 256 has about as many parameters as MMNet's temporal convolution.
        gru_mask: skips missing steps, so that an item without any has q = 0.
        reset_after: False is the form of Cho et al. (2014), with one bias.
        smoothed_history: as MMNet's option: what of its gain is the head's alone?
        link: how the network's output becomes a rate; see `PredictedRate`.
        field_width: d, width of a meta feature's vector.
        field_pooling: how the values of a list are pooled.
        momentum: of xDeepFM's batch normalisation.
        dropout: in training, part of the word vectors and of the prediction's hidden units set
            to 0.
        content_dropout: in training, part of the values and words read as unknown, and of the
            encoded vectors' entries set to 0.
        modality_dropout: in training, probability that an example loses its meta features, each
            of its texts and each of its vectors; see `ModalityDropout`.
        seed: fixes initial weights, disturbance and dropout.

    Returns:
        A model from a dict of all tensors of `spec` to percent, [batch].

    Raises:
        ValueError: an argument is out of its range, or "rate_only" with gru_mask or evidence.
    """
    gru_units = units if gru_units is None else checks.at_least(1, gru_units=gru_units)
    with seeded(seed):
        inputs = model_inputs(spec)
        tensors = bounded(inputs, spec)
        # The steps, disturbed in training. [batch, window, units]
        steps = step_vectors(
            tensors,
            spec,
            mode_weights=mode_weights,
            noisy_rate=noisy_rate,
            coarse_granularity=coarse_granularity,
            taxonomy_flags=taxonomy_flags,
            baseline_inputs=baseline_inputs,
            evidence=evidence,
            units=units,
            seed=seed,
            hide_history=smoothed_history,
        )
        # What they say together: q. [batch, units]
        if gru_mask and steps.missing_flag is None:
            raise ValueError('`gru_mask` must be False with baseline_inputs="rate_only"')
        mask = SeenSteps(name="seen_steps")(steps.missing_flag) if gru_mask else None
        layer = recurrent(keras.layers.GRU, gru_units, spec, reset_after=reset_after, name="gru")
        history = layer(steps.vectors, mask=mask)
        if gru_units != units:
            history = keras.layers.Dense(units, name="projected_gru")(history)
        # What the item itself says: u, c, v, as far as it has them. [batch, units] each
        content = meta_info(
            tensors,
            spec,
            units=units,
            field_width=field_width,
            field_pooling=field_pooling,
            momentum=momentum,
            dropout=dropout,
            content_dropout=content_dropout,
            modality_dropout=modality_dropout,
            seed=seed,
        )
        # How far to trust each of them, and the prediction. [batch]
        predicted = gated_prediction(
            [history],
            content,
            spec,
            dropout=dropout,
            seed=seed,
            link=link,
            smoothed=steps.history if smoothed_history else None,
        )
    return keras.Model(inputs, predicted, name="gru")
