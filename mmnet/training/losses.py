"""Losses of predicted share rates, and the link of the model that each loss requires.

A network of several outputs has targets and predictions of [batch, outputs]; all of its losses are
elementwise, and a weight of 0 leaves a target out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import keras
from keras import ops

from mmnet import checks
from mmnet.checks import InputError
from mmnet.schema import FeatureSpec

LINKS = {"binomial": "logit", "poisson": "log"}
"""Loss -> the link of the model that keeps its rates where the loss is defined."""


@keras.saving.register_keras_serializable(package="mmnet")
class ScaledMeanSquaredError(keras.losses.Loss):
    """Mean squared error of rates in units of a scale: mean((y - ŷ)²) / scale² (Eq. 11).

    Args:
        scale: s, percent; the standard deviation of the observed training rates. With several
            outputs, that of each one's rate, [outputs].

    Call arguments:
        y_true: target rate, [batch] or [batch, outputs], percent.
        y_pred: predicted rate, of the same shape, percent.

    Raises:
        ValueError: `scale` is not positive and finite, or the two shapes differ.
    """

    def __init__(
        self, scale: float | Sequence[float], name: str = "scaled_mean_squared_error", **kwargs
    ):
        super().__init__(name=name, **kwargs)
        scales = [float(one) for one in scale] if isinstance(scale, Sequence) else [float(scale)]
        if not all(0 < one < math.inf for one in scales):
            raise ValueError(f"`scale` must be positive and finite. Received: scale={scale}")
        self.scale = scales if isinstance(scale, Sequence) else scales[0]

    def call(self, y_true, y_pred):
        """Squared errors in units of the scale, of the shape of the targets."""
        checks.same_shape(y_true=y_true, y_pred=y_pred)
        return ops.square((y_true - y_pred) / self.scale)

    def get_config(self):
        """The arguments."""
        return {**super().get_config(), "scale": self.scale}


class _PerClick(keras.losses.Loss):
    """A loss per click, whose values of each output are multiplied by a factor.

    Args:
        factors: of each output, [outputs]; see `output_factors`. None: a single output.
    """

    def __init__(self, factors: Sequence[float] | None, **kwargs):
        super().__init__(**kwargs)
        self.factors = None if factors is None else [float(one) for one in factors]

    def weighed(self, losses):
        """Multiplies losses by the factors of their outputs."""
        return losses if self.factors is None else losses * ops.convert_to_tensor(self.factors)

    def get_config(self):
        """The arguments."""
        factors = {} if self.factors is None else {"factors": self.factors}
        return {**super().get_config(), **factors}


@keras.saving.register_keras_serializable(package="mmnet")
class BinomialCrossEntropy(_PerClick):
    """Cross-entropy per click of rates in percent: −y log ŷ − (1 − y) log(1 − ŷ), both over 100.

    Beyond the paper. Multiplied by the clicks of the target, it is the negative log-likelihood of
    its shares. The prediction is mapped from [0, 1] to [10⁻⁶, 1 − 10⁻⁶], so that a confident
    wrong prediction costs no more than 13.8 and has a gradient.

    Args:
        factors: see `output_factors`; None: a single output.

    Call arguments:
        y_true: target rate, [batch] or [batch, outputs], percent, in [0, 100].
        y_pred: predicted rate, of the same shape, percent, in [0, 100].

    Raises:
        ValueError: the two shapes differ.
    """

    def __init__(
        self,
        factors: Sequence[float] | None = None,
        name: str = "binomial_cross_entropy",
        **kwargs,
    ):
        super().__init__(factors, name=name, **kwargs)

    def call(self, y_true, y_pred):
        """Cross-entropies, of the shape of the targets."""
        checks.same_shape(y_true=y_true, y_pred=y_pred)
        shared, predicted = y_true / 100, 1e-6 + (1 - 2e-6) * y_pred / 100
        return self.weighed(-shared * ops.log(predicted) - (1 - shared) * ops.log(1 - predicted))


@keras.saving.register_keras_serializable(package="mmnet")
class PoissonLoss(_PerClick):
    """Negative Poisson log-likelihood per click of rates in percent: ŷ − y log ŷ, both over 100.

    Beyond the paper; for rates that may exceed one. The term that does not depend on the
    prediction (the logarithm of a factorial) is omitted. 10⁻⁶ is added to the prediction in the
    logarithm.

    Args:
        factors: see `output_factors`; None: a single output.

    Call arguments:
        y_true: target rate, [batch] or [batch, outputs], percent, 0 or more.
        y_pred: predicted rate, of the same shape, percent, 0 or more.

    Raises:
        ValueError: the two shapes differ.
    """

    def __init__(
        self, factors: Sequence[float] | None = None, name: str = "poisson_loss", **kwargs
    ):
        super().__init__(factors, name=name, **kwargs)

    def call(self, y_true, y_pred):
        """Losses, of the shape of the targets."""
        checks.same_shape(y_true=y_true, y_pred=y_pred)
        shares, expected = y_true / 100, y_pred / 100
        return self.weighed(expected - shares * ops.log(expected + 1e-6))


def check_loss(loss: str, model: keras.Model) -> None:
    """Check that a model's rates stay where the loss is defined, in training as well.

    Raises:
        InputError: they may not.
    """
    if loss == "mse":
        return
    heads = [layer for layer in model.layers if hasattr(layer, "link")]
    if loss == "binomial" and any(head.max_rate is None for head in heads):
        raise InputError(
            "--loss=binomial requires rates of at most one, and here they may exceed it; use "
            "--loss=poisson --set=link=log"
        )
    if not heads or heads[0].link != LINKS[loss]:
        raise InputError(f"--loss={loss} needs --set=link={LINKS[loss]}")


def loss_weighting(loss: str) -> Literal["equal", "clicks"]:
    """Default weighting of examples without `half_weight_clicks`; see `Windows.training_batches`.

    The likelihoods are per click, so a target counts by its clicks; the paper's MSE counts targets.
    """
    return "equal" if loss == "mse" else "clicks"


def loss_named(loss: str, rate_scale: float, spec: FeatureSpec | None = None) -> keras.losses.Loss:
    """The loss that `--loss` names.

    Args:
        loss: mse, binomial or poisson.
        rate_scale: the MSE is in percent² over its square.
        spec: of a network with several outputs, whose losses are balanced by it; None: one output.
    """
    several = spec is not None and len(spec.outputs()) > 1
    if loss == "mse":
        if spec is None or not several:
            return ScaledMeanSquaredError(rate_scale)
        scales = [spec.of_rate(output.rate).rate_scale for output in spec.outputs()]
        return ScaledMeanSquaredError(scales)
    factors = output_factors(loss, spec) if spec is not None and several else None
    return BinomialCrossEntropy(factors) if loss == "binomial" else PoissonLoss(factors)


RAREST = 1e-6
"""Lowest mean rate, per click, for which a further rate is weighed up."""


def output_factors(loss: str, spec: FeatureSpec) -> list[float]:
    """Factors that make errors of a rare rate count as much as those of the main rate.

    A likelihood per click is as steep as the variance of a click: p (1 - p) with the binomial loss,
    p with the Poisson loss, where p is the mean of the training targets. The factor of an output is
    that of the main rate over that of its own.

    Args:
        loss: binomial or poisson.
        spec: of a network with several outputs.

    Returns:
        One per output; 1 for those of the main rate.

    >>> from mmnet.schema import RateSpec
    >>> like = RateSpec(name="like", rate_scale=1, rate_mean=1, max_rate=100)
    >>> rates = FeatureSpec(window=6, horizon=1, rate_mean=10, rates=(like,))
    >>> [round(factor, 6) for factor in output_factors("poisson", rates)]
    [1.0, 10.0]
    """

    def variance(rate: str) -> float:
        p = max(spec.of_rate(rate).rate_mean / 100, RAREST)
        return p * max(1 - p, RAREST) if loss == "binomial" else p

    return [variance("") / variance(output.rate) for output in spec.outputs()]
