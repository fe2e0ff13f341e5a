"""Evidence: a prior rate that is corrected by the item's own clicks."""

from __future__ import annotations

import math

import keras
from keras import ops

from mmnet import checks

LOG_CLICKS = (-2.0, 9.0)
"""Limits of log κ: a prior worth 0.14 to 8,100 clicks."""

LARGEST_CENTRE = 10.0
"""Largest |z| of a taxonomy's mean: ten sd of the rates, or a factor of 22,000."""


def clipped(rate, max_rate: float | None):
    """Returns rates within [0, max_rate] percent; None sets no upper limit."""
    return ops.maximum(rate, 0.0) if max_rate is None else ops.clip(rate, 0.0, max_rate)


@keras.saving.register_keras_serializable(package="mmnet")
class PriorClicks(keras.layers.Layer):
    """Predicts how many clicks a prior rate is worth; always float32.

    κ = exp(a · x + log k_0), the logarithm clipped to `LOG_CLICKS`. At first a = 0, so that all
    priors are worth the same: plain empirical Bayes.

    Args:
        start: k_0 at first, clicks; above 0.

    Call arguments:
        vector: x, the vector of each example, [batch, width].

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
    clicks at which a step carries half of the information that it can: more clicks in one step do
    not help against a rate that moves from step to step. A step without clicks has no part, and a
    history without clicks returns exactly μ.

    Args:
        max_rate: clips to [0, max_rate] outside training, as `PredictedRate` does; None sets no
            upper limit.

    Call arguments:
        prior_rate: μ, [batch], percent.
        prior_clicks: κ, above 0, [batch].
        share_rate: y, [batch, window], percent.
        clicks: n, 0 where a step is missing, [batch, window].

    Returns:
        `(rate, own_weight)`, [batch] each: percent, between the prior rate and the rates of the
        steps with clicks; and Σ e / (κ + Σ e), the weight of the item's own clicks, in [0, 1).

    Raises:
        ValueError: `prior_rate` and `prior_clicks`, or `share_rate` and `clicks`, differ in shape.

    Examples:
        >>> prior, worth = ops.array([2.0]), ops.array([30.0])  # percent, clicks
        >>> rate, own = SmoothedRate()(prior, worth, ops.full((1, 6), 8.0), ops.zeros((1, 6)))
        >>> float(rate[0]), float(own[0])  # no clicks: the prior
        (2.0, 0.0)
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
        clicks_told = ops.sum(evidence, axis=-1)
        rate = prior_rate + correction / (prior_clicks + clicks_told)
        own_weight = clicks_told / (prior_clicks + clicks_told)
        return (rate if training else clipped(rate, self.max_rate)), own_weight

    def get_config(self):
        return {**super().get_config(), "max_rate": self.max_rate}


@keras.saving.register_keras_serializable(package="mmnet")
class TaxonomyCentre(keras.layers.Layer):
    """Turns the taxonomies' as-of means into an output z; always float32.

    Beyond Yu et al. (2021). With m_k the last mean of taxonomy k in the window, c the mean of the
    training targets and s their scale:

        z = Σ_k a_k z_k        z_k = (m_k - c) / s                        identity
                                     logit(m_k / max) - logit(c / max)    logit
                                     log(m_k / c)                         log

    Added to a network's own output, it makes the means the centre of a prior, which the network
    then only corrects. As a mean of few clicks may be 0 or max, log and logit are of rates that
    c / 10 keeps away from these ends, and every z_k is brought to [-`LARGEST_CENTRE`,
    `LARGEST_CENTRE`]. A taxonomy without a mean in the window has no part. At first all a_k are
    1 / taxonomies.

    Args:
        scale, mean, max_rate, link: see `PredictedRate`.

    Call arguments:
        taxonomy_rate: percent, [batch, window, taxonomies].
        taxonomy_missing_flag: 1.0 where there is no mean, same shape.

    Returns:
        z, [batch, 1].

    Raises:
        ValueError: the two shapes differ.
    """

    def __init__(
        self,
        scale: float = 1.0,
        mean: float = 1.0,
        max_rate: float | None = 100.0,
        *,
        link: str,
        **kwargs,
    ):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.scale, self.mean, self.max_rate, self.link = scale, mean, max_rate, link

    def build(self, taxonomy_rate_shape, taxonomy_missing_flag_shape):
        taxonomies = taxonomy_rate_shape[-1]
        share = keras.initializers.Constant(1 / taxonomies)
        self.weights_of = self.add_weight((taxonomies,), share, name="weights_of")
        self.built = True

    def call(self, taxonomy_rate, taxonomy_missing_flag):
        checks.same_shape(taxonomy_rate=taxonomy_rate, taxonomy_missing_flag=taxonomy_missing_flag)
        last = taxonomy_rate[:, 0] * (1 - taxonomy_missing_flag[:, 0])
        known = 1 - taxonomy_missing_flag[:, 0]
        for step in range(1, taxonomy_rate.shape[1]):
            missing = taxonomy_missing_flag[:, step]
            last = missing * last + (1 - missing) * taxonomy_rate[:, step]
            known = ops.maximum(known, 1 - missing)
        centre = ops.clip(self._standardised(last), -LARGEST_CENTRE, LARGEST_CENTRE)
        return ops.expand_dims(ops.dot(known * centre, self.weights_of), -1)

    def _standardised(self, rate):
        if self.link == "identity":
            return (rate - self.mean) / self.scale
        limit = None if self.link == "log" else self.max_rate
        return _log_odds(rate, self.mean, limit) - _log_odds(self.mean, self.mean, limit)

    def get_config(self):
        config = {"scale": self.scale, "mean": self.mean, "max_rate": self.max_rate}
        return {**super().get_config(), **config, "link": self.link}


@keras.saving.register_keras_serializable(package="mmnet")
class KnownMeans(keras.layers.Layer):
    """Hides taxonomy means whose evidence is unknown, and takes the logarithm of the evidence.

    Beyond Yu et al. (2021), whose networks do not know how many items a mean is of. Where the
    evidence n is unknown, the mean is hidden as well: no network has learned how far to trust it.

        (g, m, log(1 + n))        (0, 1, 0) where n is unknown

    Call arguments:
        taxonomy_rate: g, [batch, window, taxonomies], in any unit.
        taxonomy_missing_flag: m, 1.0 where there is no mean, same shape.
        taxonomy_evidence: n, items or clicks that the mean is of, same shape; below 0 if unknown.

    Returns:
        `(taxonomy_rate, taxonomy_missing_flag, log_evidence)`, float32 of the same shape.

    Raises:
        ValueError: the shapes differ.

    Examples:
        >>> rate, missing = ops.array([[[2.0, 3.0]]]), ops.zeros((1, 1, 2))
        >>> found = KnownMeans()(rate, missing, ops.array([[[0.0, -1.0]]]))
        >>> [one.numpy().ravel().tolist() for one in found]
        [[2.0, 0.0], [0.0, 1.0], [0.0, 0.0]]
    """

    def __init__(self, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"}, autocast=False)

    def call(self, taxonomy_rate, taxonomy_missing_flag, taxonomy_evidence):
        rate, flag, evidence = (
            ops.cast(one, "float32")
            for one in (taxonomy_rate, taxonomy_missing_flag, taxonomy_evidence)
        )
        checks.same_shape(
            taxonomy_rate=rate, taxonomy_missing_flag=flag, taxonomy_evidence=evidence
        )
        known = evidence >= 0
        return (
            ops.where(known, rate, 0.0),
            ops.where(known, flag, 1.0),
            ops.log1p(ops.maximum(evidence, 0.0)),
        )

    def compute_output_shape(
        self, taxonomy_rate_shape, taxonomy_missing_flag_shape, taxonomy_evidence_shape
    ):
        return taxonomy_rate_shape, taxonomy_missing_flag_shape, taxonomy_evidence_shape


def _log_odds(rate, mean: float, limit: float | None):
    """Log or, below a limit, logit of a rate that a tenth of the mean keeps away from the ends."""
    rate = clipped(ops.convert_to_tensor(rate, "float32"), limit) + 0.1 * mean
    return ops.log(rate) if limit is None else ops.log(rate / (limit + 0.2 * mean - rate))


def _ramp(first: float, last: float):
    """An initialiser: evenly spaced values."""
    return lambda shape, dtype=None: ops.linspace(first, last, shape[0], dtype=dtype)
