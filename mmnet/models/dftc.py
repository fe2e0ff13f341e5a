"""DFTC: a long and a short view of the history, fused with the content."""

from __future__ import annotations

import keras

from mmnet.layers.attention import HANAttention
from mmnet.models.fine_granularity import bounded, model_inputs, with_known_means
from mmnet.models.meta_info import meta_info
from mmnet.models.mmnet import gated_prediction
from mmnet.models.moment import moment_of, stage_vector
from mmnet.models.options import DftcOptions
from mmnet.models.seeding import seeded
from mmnet.models.step_vectors import recurrent, step_vectors
from mmnet.schema import FeatureSpec

STAGE_UNITS = 8
"""Width of the vector of a stage."""

RECURRENT = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU}


def dftc(spec: FeatureSpec, options: DftcOptions) -> keras.Model:
    """Builds the baseline DFTC, deep fusion of temporal process and content features.

    Yu et al. (2021) section 6.2, after Liao et al. (AAAI 2019). A recurrent network keeps the
    long trend, and a convolution with attention finds short fluctuations; attention fuses both
    with the content. Content and prediction are MMNet's own, and the loss is the squared error,
    where Liao et al. classify levels. An age, where it is read, joins the prediction as in every
    network; with `stage` the weights of the fusion depend on it, too, as theirs do on the stage
    of an item's life.

    Args:
        spec: the tensors of the dataset and their fitted statistics.
        options: see `DftcOptions`.

    Returns:
        A model from a dict of all tensors of `spec` to percent, [batch]; with several
        `spec.outputs()` [batch, outputs].

    Raises:
        ValueError: an argument is out of its range, the window is shorter than `kernel`,
            "rate_only" with evidence, or `stage` without ages.
    """
    units, kernel = options.units, options.kernel
    if not 1 <= kernel <= spec.window:
        raise ValueError(
            "`kernel` must be at least 1 and at most the window. "
            f"Received: kernel={kernel}, window={spec.window}"
        )
    with seeded(options.seed):
        inputs = model_inputs(spec)
        tensors = with_known_means(bounded(inputs, spec), spec)
        # The steps, disturbed in training. [batch, window, units]
        steps = step_vectors(tensors, spec, options)
        # Where they went. [batch, units]
        layer = RECURRENT[options.dftc_rnn]
        long = recurrent(layer, units, spec, name="history_long")(steps.vectors)
        # What happened on the way. [batch, window - kernel + 1, units], then [batch, units]
        short = keras.layers.Conv1D(units, kernel, activation="relu", name="fluctuations")
        short = HANAttention(name="history_short")(short(steps.vectors))[0]
        # What the item itself says: u, c, v, as far as it has them. [batch, units] each
        content = meta_info(tensors, spec, options)
        # How far to trust each of them, and the prediction. [batch]
        seen = steps.history.missing_flag
        ahead = moment_of(tensors, spec, steps.history, units=units)
        stage = stage_vector(tensors, spec, seen, units=STAGE_UNITS) if options.stage else None
        predicted = gated_prediction(
            [long, short], content, spec, options, moment=ahead, stage=stage
        )
    return keras.Model(inputs, predicted, name="dftc")
