"""Encoder-Decoder: one GRU reads the window, another writes the periods up to the target."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import ops

from mmnet import checks
from mmnet.models.fine_granularity import bounded, model_inputs, with_known_means
from mmnet.models.meta_info import meta_info
from mmnet.models.mmnet import gated_prediction
from mmnet.models.moment import moment_of
from mmnet.models.options import EncoderDecoderOptions
from mmnet.models.seeding import seeded
from mmnet.models.step_vectors import recurrent, step_vectors
from mmnet.schema import FeatureSpec


def encoder_decoder(spec: FeatureSpec, options: EncoderDecoderOptions) -> keras.Model:
    """Builds the encoder-decoder baseline.

    Yu et al. (2021) section 6.2, after Cho et al. (2014). Meta-info, gated fusion and prediction
    are MMNet's own, instead of Cho's maxout read-out; q is the decoder's last state. The
    loss sees the prediction at the horizon only, so the rates on the way are free. With several
    horizons q is made of the states at all of them.

    Args:
        spec: the tensors of the dataset and their fitted statistics.
        options: see `EncoderDecoderOptions`.

    Returns:
        A model from a dict of all tensors of `spec` to percent, [batch]; with several
        `spec.outputs()` [batch, outputs].

    Raises:
        ValueError: an argument is out of its range, or "rate_only" with evidence.
    """
    units = options.units
    with seeded(options.seed):
        inputs = model_inputs(spec)
        tensors = with_known_means(bounded(inputs, spec), spec)
        # The steps, disturbed in training. [batch, window, units]
        steps = step_vectors(tensors, spec, options)
        # What the encoder keeps of them, and where the decoder starts. [batch, units] each
        encoded = recurrent(keras.layers.GRU, units, spec, name="encoder")(steps.vectors)
        summary = keras.layers.Dense(units, "tanh", name="summary")(encoded)
        start = keras.layers.Dense(units, "tanh", name="decoder_start")(summary)
        # Its state at the horizon: q. [batch, units]
        decoder = RateDecoder(spec.horizon, spec.horizons, name="decoder")
        history = decoder(summary, start, steps.share_rate, steps.missing_flag)
        if spec.horizons:
            history = keras.layers.Dense(units, name="all_horizons")(history)
        # What the item itself says: u, c, v, as far as it has them. [batch, units] each
        content = meta_info(tensors, spec, options)
        # How far to trust each of them, and the prediction. [batch]
        ahead = moment_of(tensors, spec, steps.history, units=units)
        predicted = gated_prediction([history], content, spec, options, moment=ahead)
    return keras.Model(inputs, predicted, name="encoder_decoder")


@keras.saving.register_keras_serializable(package="mmnet")
class RateDecoder(keras.layers.Layer):
    """Predicts one rate per period up to the horizon, each from the previous one.

    Cho et al. (2014), without teacher forcing: a rate between window and target may be missing.

        s_j = GRU([ỹ_{j-1}, e], s_{j-1})        ỹ_j = w · s_j + b

    ỹ_0 is the last rate that was seen, or 0.

    Args:
        horizon: h, periods from the window's end to the target.
        horizons: further ones, ascending, each above h.

    Call arguments:
        summary: e, [batch, units].
        start: s_0, [batch, units].
        share_rate: y / s, in standard deviations, [batch, window].
        missing_flag: m, [batch, window]; None always uses the last step.

    Returns:
        s_h, [batch, units]; with further horizons, the states at all of them side by side,
        [batch, horizons * units].

    Raises:
        ValueError: `horizon` is below 1.
    """

    def __init__(self, horizon: int, horizons: Sequence[int] = (), **kwargs):
        super().__init__(**kwargs)
        self.horizon, self.horizons = checks.at_least(1, horizon=horizon), tuple(horizons)

    def build(self, summary_shape, start_shape, *_, **__):
        units = start_shape[-1]
        self._cell = keras.layers.GRUCell(units, dtype=self.dtype_policy, name="cell")
        self._cell.build((None, 1 + summary_shape[-1]))
        if self.horizon > 1 or self.horizons:  # the read-out after the last step would not be used
            self._read_out = keras.layers.Dense(1, dtype=self.dtype_policy, name="read_out")
            self._read_out.build((None, units))
        self.built = True

    def call(self, summary, start, share_rate, missing_flag=None):
        rate, state = _last_seen(share_rate, missing_flag), start
        asked, states = (self.horizon, *self.horizons), []
        for period in range(asked[-1]):
            if period:
                rate = self._read_out(state)
            state, _ = self._cell(ops.concatenate([rate, summary], axis=-1), [state])
            if period + 1 in asked:
                states.append(state)
        return ops.concatenate(states, axis=-1) if self.horizons else state

    def get_config(self):
        config = {"horizon": self.horizon}
        if self.horizons:  # left out else: the configuration stays that of earlier versions
            config["horizons"] = list(self.horizons)
        return {**super().get_config(), **config}


def _last_seen(share_rate, missing_flag):
    """Returns [batch, 1]: the last rate without a flag, 0 where there is none."""
    if missing_flag is None:
        return share_rate[:, -1:]
    seen = missing_flag < 0.5
    later = ops.flip(ops.cumsum(ops.flip(ops.cast(seen, "int32"), axis=1), axis=1), axis=1)
    last = ops.logical_and(seen, later == 1)
    return ops.sum(ops.where(last, share_rate, 0), axis=1, keepdims=True)
