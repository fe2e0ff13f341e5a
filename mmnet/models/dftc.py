"""DFTC: a long and a short view of the history, fused with the content."""

from __future__ import annotations

from typing import Literal

import keras

from mmnet import checks
from mmnet.layers.attention import HANAttention
from mmnet.models.fine_granularity import bounded, model_inputs
from mmnet.models.meta_info import meta_info
from mmnet.models.mmnet import gated_prediction
from mmnet.models.seeding import seeded
from mmnet.models.step_vectors import recurrent, step_vectors
from mmnet.schema import FeatureSpec

RECURRENT = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU}


def dftc(
    spec: FeatureSpec,
    *,
    mode_weights: tuple[float, float, float] = (1, 0, 0),
    noisy_rate: float = 0.5,
    coarse_granularity: bool = True,
    taxonomy_flags: bool = True,
    baseline_inputs: Literal["all", "rate_only"] = "all",
    evidence: bool = False,
    units: int = 64,
    dftc_rnn: Literal["lstm", "gru"] = "lstm",
    kernel: int = 3,
    field_width: int = 16,
    field_pooling: Literal["max", "mean"] = "max",
    momentum: float = 0.95,
    dropout: float = 0.0,
    content_dropout: float = 0.0,
    modality_dropout: float = 0.0,
    seed: int = 0,
) -> keras.Model:
    """Builds the baseline DFTC, deep fusion of temporal process and content features.

    Yu et al. (2021) section 6.2, after Liao et al. (AAAI 2019). A recurrent network keeps the
    long trend, a convolution and attention find short fluctuations; attention fuses both with
    the content. Content and prediction are MMNet's own, and the loss is the squared error where
    Liao et al. classify levels. Their fusion also sees the stage of an item's life; the data have
    no age input, so that term is 0 and the fusion is plain attention.

    Args:
        spec: the tensors of the dataset and their fitted statistics.
        mode_weights: frequencies of (normal, cold-start, noisy) examples in training.
        noisy_rate: τ, probability of hiding a step of a noisy example.
        coarse_granularity: False hides the taxonomies' rates from the steps.
        taxonomy_flags: False hides the taxonomies' missing flags.
        baseline_inputs: "rate_only" leaves all but the item's own rates out of the steps.
        evidence: lets the model see how many clicks stand behind each rate.
        units: width of every vector.
        dftc_rnn: of the long view.
        kernel: steps that the convolution of the short view sees at once. It never reads beyond
            the window: zeros there would look like a drop of the rate.
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
        ValueError: an argument is out of its range, the window is shorter than `kernel`, or
            "rate_only" with evidence.
    """
    checks.one_of(RECURRENT, dftc_rnn=dftc_rnn)
    if not 1 <= kernel <= spec.window:
        raise ValueError(
            "`kernel` must be at least 1 and at most the window. "
            f"Received: kernel={kernel}, window={spec.window}"
        )
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
        )
        # Where they went. [batch, units]
        long = recurrent(RECURRENT[dftc_rnn], units, spec, name="history_long")(steps.vectors)
        # What happened on the way. [batch, window - kernel + 1, units], then [batch, units]
        short = keras.layers.Conv1D(units, kernel, activation="relu", name="fluctuations")
        short = HANAttention(name="history_short")(short(steps.vectors))[0]
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
        predicted = gated_prediction([long, short], content, spec, dropout=dropout, seed=seed)
    return keras.Model(inputs, predicted, name="dftc")
