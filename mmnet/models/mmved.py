"""MMVED: every modality predicts with a variance, and certain ones weigh more."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import ops

from mmnet import checks
from mmnet.models.fine_granularity import bounded, model_inputs, with_known_means
from mmnet.models.heads import prediction
from mmnet.models.meta_info import meta_info
from mmnet.models.mmnet import modality_name
from mmnet.models.moment import moment_of
from mmnet.models.options import MmvedOptions
from mmnet.models.seeding import seeded
from mmnet.models.step_vectors import recurrent, step_vectors
from mmnet.schema import FeatureSpec

LOG_SD = (-20.0, 2.0)
"""Range of an expert's log standard deviation, that of the authors' code."""

MEAN = (-1e20, 1e20)
"""Range of an expert's mean: times exp(40), the largest precision, it is within float32."""


def mmved(spec: FeatureSpec, options: MmvedOptions) -> keras.Model:
    """Builds the baseline MMVED, a multimodal variational encoder-decoder.

    Yu et al. (2021) section 6.2, after Xie et al. (2020) and their code. Each modality gives a
    Gaussian over a latent vector, their product is the code of the item, and the prediction reads
    a sample of it in training, its mean else. The code costs its divergence from N(0, I), so
    little of the level gets through. Xie et al. have no history among the modalities; here it is
    one more expert, as it would otherwise go around the code.

    Args:
        spec: the tensors of the dataset and their fitted statistics.
        options: see `MmvedOptions`.

    Returns:
        A model from a dict of all tensors of `spec` to percent, [batch]; with several
        `spec.outputs()` [batch, outputs].

    Raises:
        ValueError: an argument is out of its range, or "rate_only" with evidence.
    """
    units, latent_units = options.units, options.latent_units
    with seeded(options.seed):
        inputs = model_inputs(spec)
        tensors = with_known_means(bounded(inputs, spec), spec)
        # The steps, disturbed in training. [batch, window, units]
        steps = step_vectors(tensors, spec, options)
        # What they say together. [batch, units]
        history = recurrent(keras.layers.GRU, units, spec, name="gru")(steps.vectors)
        # What the item itself says: u, c, v, as far as it has them. [batch, units] each
        content = meta_info(tensors, spec, options)
        # What each of them takes the code to be, and how surely. [batch, latent_units] each
        means, log_sds = [], []
        for modality in (history, *(one.vector for one in content)):
            name = modality_name(modality)
            hidden = keras.layers.Dense(units, "relu", name=f"{name}_expert")(modality)
            means.append(keras.layers.Dense(latent_units, name=f"{name}_mean")(hidden))
            log_sds.append(keras.layers.Dense(latent_units, name=f"{name}_log_sd")(hidden))
        # What those that are there agree on. [batch, latent_units]
        experts = ProductOfExperts(
            options.kl_weight,
            options.prior_expert,
            seed=options.seed,
            name="product_of_experts",
        )
        code = experts(means, log_sds, [one.present for one in content] or None)
        # The way to the horizon, or to all of them, and the prediction. [batch]
        if spec.horizon > 1 or spec.horizons:
            code = TimeDecoder(spec.horizon, spec.horizons, name="time_decoder")(code)
        ahead = moment_of(tensors, spec, steps.history, units=units)
        predicted = prediction(code, spec, options, moment=ahead)
    return keras.Model(inputs, predicted, name="mmved")


@keras.saving.register_keras_serializable(package="mmnet")
class ProductOfExperts(keras.layers.Layer):
    """Multiplies Gaussians; in training, samples from the product and adds the KL loss.

    With experts N(μ_k, σ_k²), of which p_k = 1 are there and p_k = 0 are not, per dimension:

        1/σ² = Σ_k p_k/σ_k²        μ = σ² Σ_k p_k μ_k/σ_k²        z = μ + σ ε

    and the loss λ · mean over the batch of KL = ½ Σ (σ² + μ² - 1 - 2 ln σ) is added. Outside
    training z = μ and nothing is added. Always float32.

    Args:
        kl_weight: λ, at least 0.
        prior_expert: counts N(0, I) as one more expert.
        seed: repeats the same stream of ε; None draws a new one.

    Call arguments:
        means: μ_k, list of [batch, latent_units]; clipped to [-1e20, 1e20].
        log_sds: ln σ_k, list of the same; clipped to [-20, 2].
        present: optional, p_k of the last experts, list of [batch]; those before them, one at
            least, are always there.

    Returns:
        z, [batch, latent_units].

    Raises:
        ValueError: `kl_weight` is below 0.
    """

    def __init__(
        self,
        kl_weight: float,
        prior_expert: bool,
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.kl_weight = checks.at_least(0, kl_weight=kl_weight)
        self.prior_expert, self.seed = prior_expert, seed
        self._draws = keras.random.SeedGenerator(seed)

    def call(self, means, log_sds, present=None, training=False):
        mean, log_sd = product_of_gaussians(
            means, log_sds, present or (), prior_expert=self.prior_expert
        )
        if not training:
            return mean
        self.add_loss(self.kl_weight * ops.mean(divergence_from_standard_normal(mean, log_sd)))
        return mean + ops.exp(log_sd) * keras.random.normal(ops.shape(mean), seed=self._draws)

    def get_config(self):
        config = {"kl_weight": self.kl_weight, "prior_expert": self.prior_expert}
        return {**super().get_config(), **config, "seed": self.seed}


def product_of_gaussians(
    means: Sequence, log_sds: Sequence, present: Sequence = (), *, prior_expert: bool
):
    """Returns μ and ln σ of the product of Gaussians; see `ProductOfExperts`."""
    # exp(40) at most, and 1e20 times that at most: far from the end of float32.
    means = [ops.clip(mean, *MEAN) for mean in means]
    precisions = [ops.exp(-2 * ops.clip(log_sd, *LOG_SD)) for log_sd in log_sds]
    always = len(precisions) - len(present)
    for number, flag in enumerate(present, always):
        precisions[number] = precisions[number] * ops.expand_dims(flag, -1)
    precision = sum(precisions[1:], precisions[0]) + prior_expert
    weighted = [mean * one for mean, one in zip(means, precisions, strict=True)]
    return sum(weighted[1:], weighted[0]) / precision, -0.5 * ops.log(precision)


def divergence_from_standard_normal(mean, log_sd):
    """Returns KL(N(μ, σ²) || N(0, I)) in nats, [batch], from [batch, latent_units] each."""
    per_dimension = ops.exp(2 * log_sd) + ops.square(mean) - 1 - 2 * log_sd
    return ops.sum(per_dimension, axis=-1) / 2


@keras.saving.register_keras_serializable(package="mmnet")
class TimeDecoder(keras.layers.Layer):
    """Carries the code over the periods up to the target, as Xie et al. (2020) decode a curve.

    A simple recurrent network starts at z and reads the time, 1/h to 1, one period per step.

    Args:
        horizon: h, periods from the window's end to the target.
        horizons: further ones, ascending, each above h; the time is then in parts of the last.

    Call arguments:
        code: z, [batch, latent_units].

    Returns:
        The last state, of the same shape; with further horizons, the states at all of them side by
        side, [batch, horizons * latent_units].

    Raises:
        ValueError: `horizon` is below 1.
    """

    def __init__(self, horizon: int, horizons: Sequence[int] = (), **kwargs):
        super().__init__(**kwargs)
        self.horizon, self.horizons = checks.at_least(1, horizon=horizon), tuple(horizons)

    def build(self, code_shape):
        self._cell = keras.layers.SimpleRNNCell(
            code_shape[-1], dtype=self.dtype_policy, name="cell"
        )
        self._cell.build((None, 1))
        self.built = True

    def call(self, code):
        asked, states = (self.horizon, *self.horizons), []
        for period in range(1, asked[-1] + 1):
            time = ops.full_like(code[:, :1], period / asked[-1])
            code, _ = self._cell(time, [code])
            if period in asked:
                states.append(code)
        return ops.concatenate(states, axis=-1) if self.horizons else code

    def get_config(self):
        config = {"horizon": self.horizon}
        if self.horizons:  # left out else: the configuration stays that of earlier versions
            config["horizons"] = list(self.horizons)
        return {**super().get_config(), **config}
