"""Evidence: a prior rate, corrected by as many clicks as an item has of its own."""

from __future__ import annotations

import math

import keras
from keras import ops

from mmnet import checks

LOG_CLICKS = (-2.0, 9.0)
"""Limits of log κ: a prior worth 0.14 to 8,100 clicks."""


def clipped(rate, max_rate: float | None):
    """Returns rates within [0, max_rate] percent; None sets no upper limit."""
    return ops.maximum(rate, 0.0) if max_rate is None else ops.clip(rate, 0.0, max_rate)


@keras.saving.register_keras_serializable(package="mmnet")
class PriorClicks(keras.layers.Layer):
    """Says how many clicks a prior rate is worth; always float32.

    κ = exp(a · x + log k_0), the logarithm clipped to `LOG_CLICKS`. At first a = 0, so that all
    priors are worth the same: plain empirical Bayes.

    Args:
        start: k_0 at first, clicks; above 0.

    Call arguments:
        vector: x, what is known of each example, [batch, width].

    Returns:
        κ, clicks, [batch].

    Raises:
        ValueError: `start` is not above 0.
    """

    def __init__(self, start: float = 30.0, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        if not start > 0:
            raise ValueError(f"`start` must be above 0. Received: start={start}")
        self.start = start

    def build(self, vector_shape):
        self.kernel = self.add_weight((vector_shape[-1],), "zeros", name="kernel")
        constant = keras.initializers.Constant(math.log(self.start))
        self.bias = self.add_weight((), constant, name="bias")
        self.built = True

    def call(self, vector):
        return ops.exp(ops.clip(ops.dot(vector, self.kernel) + self.bias, *LOG_CLICKS))

    def get_config(self):
        return {**super().get_config(), "start": self.start}


@keras.saving.register_keras_serializable(package="mmnet")
class SmoothedRate(keras.layers.Layer):
    """Corrects a prior rate by the item's own history; always float32.

    Beyond Yu et al. (2021). Where shares are binomial in the clicks and an item's rate has a beta
    prior of mean μ worth κ clicks (or Poisson and gamma), its posterior mean after steps of n_t
    clicks and rate y_t is

        (κ μ + Σ_t e_t y_t) / (κ + Σ_t e_t)        e_t = w_t n_t / (1 + n_t / h_t)

    with e_t = n_t: empirical-Bayes smoothing, if μ and κ are the same for all. Learned per step
    are its weight w_t in (0, 1), which discounts clicks of another time, and h_t above 0, the
    clicks at which a step tells half of what it can: a rate that moves from step to step is not
    known better for being counted better. A step without clicks has no part, and a history
    without clicks gives μ, to the bit.

    Args:
        max_rate: clips to [0, max_rate] outside training, as `PredictedRate` does; None sets no
            upper limit.

    Call arguments:
        prior_rate: μ, [batch], percent.
        prior_clicks: κ, above 0, [batch].
        share_rate: y, [batch, window], percent.
        clicks: n, 0 where a step is missing, [batch, window].

    Returns:
        Percent, [batch]; between the prior rate and the rates of the steps with clicks.

    Raises:
        ValueError: `prior_rate` and `prior_clicks`, or `share_rate` and `clicks`, differ in shape.
    """

    def __init__(self, max_rate: float | None = 100.0, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.max_rate = max_rate

    def build(self, prior_rate_shape, prior_clicks_shape, share_rate_shape, clicks_shape):
        window = share_rate_shape[-1]
        # The last step weighs 0.95 at the start, the first of the window 0.5.
        self.step_logits = self.add_weight((window,), _ramp(0.0, 3.0), name="step_logits")
        self.log_half_clicks = self.add_weight(
            (window,), keras.initializers.Constant(math.log(150)), name="log_half_clicks"
        )
        self.built = True

    def call(self, prior_rate, prior_clicks, share_rate, clicks, training=False):
        checks.same_shape(prior_rate=prior_rate, prior_clicks=prior_clicks)
        checks.same_shape(share_rate=share_rate, clicks=clicks)
        told = clicks / (1 + clicks * ops.exp(-self.log_half_clicks))
        evidence = ops.sigmoid(self.step_logits) * told
        # As a correction of μ, which so stays what it is where there is nothing to correct it.
        correction = ops.sum(evidence * (share_rate - ops.expand_dims(prior_rate, -1)), axis=-1)
        rate = prior_rate + correction / (prior_clicks + ops.sum(evidence, axis=-1))
        return rate if training else clipped(rate, self.max_rate)

    def get_config(self):
        return {**super().get_config(), "max_rate": self.max_rate}


def _ramp(first: float, last: float):
    """An initialiser: evenly spaced values."""
    return lambda shape, dtype=None: ops.linspace(first, last, shape[0], dtype=dtype)
