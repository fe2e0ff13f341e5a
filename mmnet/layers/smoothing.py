"""Empirical Bayes as layers: priors by taxonomy value, as-of centres, and the posterior mean.

`models.smoothed_history` fits their weights; nothing here is trained. All compute in float32 under
any policy.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from mmnet import checks
from mmnet.layers.evidence import clipped
from mmnet.schema import FIRST_ID, LARGEST_RATE

KAPPAS = (1e-30, 1e20)
"""Limits of kappa. Fitted values are inside, and a given value inside cannot cause overflow."""


class _Fitted(keras.layers.Layer):
    """A layer in float32 whose weights are fitted elsewhere."""

    def __init__(self, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})

    def _holds(self, name: str, shape: tuple[int, ...], start: str = "ones"):
        return self.add_weight(shape, start, trainable=False, name=name)


@keras.saving.register_keras_serializable(package="mmnet")
class ValuePriors(_Fitted):
    """The prior of an item: the mean of its taxonomy values' pseudo-counts.

        mu = Σ_v kappa_v mu_v / Σ_v kappa_v        kappa = mean of kappa_v

    over all known values of all taxonomies; an item without any has the prior of all.

    Args:
        sizes: rows of each taxonomy's vocabulary, the missing row 0 and the unknown row 1 among
            them.

    Call arguments:
        ids: one integer tensor [batch, values] per taxonomy. An id that is padding, unknown or
            outside the vocabulary is not read.

    Returns:
        `(mu, kappa)`: shares per click and clicks, [batch] each.

    Raises:
        ValueError: there is no taxonomy.
    """

    def __init__(self, sizes: Sequence[int], **kwargs):
        super().__init__(**kwargs)
        self.sizes = tuple(sizes)
        checks.at_least(1, taxonomies=len(self.sizes))

    def build(self, ids_shape):
        self.prior = self._holds("prior", (2,))  # mu and kappa of all
        self.tables = [
            self._holds(f"prior_{number}", (size, 2)) for number, size in enumerate(self.sizes)
        ]
        self.built = True

    def call(self, ids):
        shares, clicks, count = 0.0, 0.0, 0.0
        for table, size, one in zip(self.tables, self.sizes, ids, strict=True):
            inside = ops.logical_and(one >= FIRST_ID, one < size)
            known = ops.cast(inside, "float32")
            found = ops.take(table, ops.where(inside, one, 0), axis=0)  # [batch, values, 2]
            pseudo = found[..., 1] * known
            shares += ops.sum(found[..., 0] * pseudo, axis=-1)
            clicks += ops.sum(pseudo, axis=-1)
            count += ops.sum(known, axis=-1)
        mu, kappa = self.prior[0], self.prior[1]
        none = count < 1
        return (
            ops.where(none, mu, shares / ops.where(none, 1.0, clicks)),
            ops.where(none, kappa, clicks / ops.maximum(count, 1.0)),
        )

    def compute_output_shape(self, ids_shape):
        return (ids_shape[0][0],), (ids_shape[0][0],)

    def get_config(self):
        return {**super().get_config(), "sizes": self.sizes}


@keras.saving.register_keras_serializable(package="mmnet")
class AsOfCentre(_Fitted):
    """Moves a prior to the window's rates of the other items with the same taxonomy values.

        mu' = (1 - o) Σ_k w_k m_k / Σ_k w_k + o mu        kappa' = (1 - o) k + o kappa

    over the taxonomies k that were seen, with m_k the mean of the steps seen, where a step weighs
    by its age against the last one seen. Where no taxonomy was seen, the prior stays as it is.

    Weights: `step_weights` by age against the last step seen, [window]; `taxonomy_weights`, w,
    [taxonomies]; `kappa`, k; `own_share`, o, in [0, 1].

    Call arguments:
        mu: shares per click, [batch].
        kappa: clicks, [batch].
        taxonomy_rate: percent, [batch, window, taxonomies].
        taxonomy_missing_flag: 1.0 where nothing is read, of the same shape.

    Returns:
        `(mu', kappa')`, [batch] each.

    Raises:
        ValueError: `taxonomy_rate` and `taxonomy_missing_flag` differ in shape.
    """

    def build(self, mu_shape, kappa_shape, taxonomy_rate_shape, taxonomy_missing_flag_shape):
        _, window, taxonomies = taxonomy_rate_shape
        self.step_weights = self._holds("step_weights", (window,))
        self.taxonomy_weights = self._holds("taxonomy_weights", (taxonomies,))
        self.kappa = self._holds("kappa", ())
        self.own_share = self._holds("own_share", (), "zeros")
        self.built = True

    def call(self, mu, kappa, taxonomy_rate, taxonomy_missing_flag):
        checks.same_shape(taxonomy_rate=taxonomy_rate, taxonomy_missing_flag=taxonomy_missing_flag)
        seen = ops.cast(taxonomy_missing_flag < 1, "float32")
        window = seen.shape[1]
        ages = np.arange(window)[::-1, None]
        # The age of the last step seen; beyond the window where there is none.
        youngest = ops.min(ops.where(seen > 0, ages, window), axis=1, keepdims=True)
        places = ops.maximum(ages - youngest, 0)  # [batch, window, taxonomies]
        weights = ops.take(self.step_weights, places, axis=0) * seen
        total = ops.maximum(ops.sum(weights, axis=1), 1.0)  # 1 or more where anything was seen
        means = ops.sum(weights * taxonomy_rate, axis=1) / total / 100
        parts = self.taxonomy_weights * ops.max(seen, axis=1)
        whole = ops.sum(parts, axis=-1)
        none = whole <= 0
        centre = ops.sum(parts * means, axis=-1) / ops.where(none, 1.0, whole)
        own = self.own_share
        return (
            ops.where(none, mu, (1 - own) * centre + own * mu),
            ops.where(none, kappa, (1 - own) * self.kappa + own * kappa),
        )

    def compute_output_shape(
        self, mu_shape, kappa_shape, taxonomy_rate_shape, taxonomy_missing_flag_shape
    ):
        return mu_shape, kappa_shape


@keras.saving.register_keras_serializable(package="mmnet")
class PosteriorMean(_Fitted):
    """The window's pooled rate, shrunk to a prior: `models.smoothed_history.posterior_mean`.

        100 (s kappa mu + Σ_t w_t n_t y_t / 100) / (s kappa + Σ_t w_t n_t)

    Weights: `step_weights`, w, [window]; `kappa_scale`, s, above 0.

    Args:
        max_rate: clips to [0, max_rate] percent; None sets no upper limit.

    Call arguments:
        mu: shares per click, [batch].
        kappa: clicks above 0, [batch].
        share_rate: y, percent, [batch, window].
        missing_flag: 1.0 where a step is not read, [batch, window].
        clicks: n, [batch, window].

    Returns:
        Percent, [batch].

    Raises:
        ValueError: `mu` and `kappa`, or the three sequences, differ in shape.
    """

    def __init__(self, max_rate: float | None = 100.0, **kwargs):
        super().__init__(**kwargs)
        self.max_rate = max_rate

    def build(self, mu_shape, kappa_shape, share_rate_shape, missing_flag_shape, clicks_shape):
        self.step_weights = self._holds("step_weights", (share_rate_shape[-1],))
        self.kappa_scale = self._holds("kappa_scale", ())
        self.built = True

    def call(self, mu, kappa, share_rate, missing_flag, clicks):
        checks.same_shape(mu=mu, kappa=kappa)
        checks.same_shape(share_rate=share_rate, missing_flag=missing_flag, clicks=clicks)
        mu = ops.clip(mu, 0.0, LARGEST_RATE / 100)
        kappa = ops.clip(self.kappa_scale * kappa, *KAPPAS)
        counted = ops.where(missing_flag < 1, clicks, 0.0) * self.step_weights
        shares = ops.sum(counted * share_rate, axis=-1) / 100
        rate = 100 * (kappa * mu + shares) / (kappa + ops.sum(counted, axis=-1))
        return clipped(rate, self.max_rate)

    def compute_output_shape(
        self, mu_shape, kappa_shape, share_rate_shape, missing_flag_shape, clicks_shape
    ):
        return mu_shape

    def get_config(self):
        return {**super().get_config(), "max_rate": self.max_rate}
