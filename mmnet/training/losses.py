"""Losses of predicted share rates, and the link of the model that each loss requires."""

from __future__ import annotations

import math
from typing import Literal

import keras
from keras import ops

from mmnet import checks
from mmnet.checks import InputError

LINKS = {"binomial": "logit", "poisson": "log"}
"""Loss -> the link of the model that keeps its rates where the loss is defined."""


@keras.saving.register_keras_serializable(package="mmnet")
class ScaledMeanSquaredError(keras.losses.Loss):
    """Mean squared error of rates in units of a scale: mean((y - ŷ)²) / scale² (Eq. 11).

    Args:
        scale: s, percent; the standard deviation of the observed training rates.

    Call arguments:
        y_true: target rate, [batch], percent.
        y_pred: predicted rate, [batch], percent.

    Raises:
        ValueError: `scale` is not positive and finite, or the two shapes differ.
    """

    def __init__(self, scale: float, name: str = "scaled_mean_squared_error", **kwargs):
        super().__init__(name=name, **kwargs)
        if not 0 < scale < math.inf:
            raise ValueError(f"`scale` must be positive and finite. Received: scale={scale}")
        self.scale = float(scale)

    def call(self, y_true, y_pred):
        """Squared errors in units of the scale, [batch]."""
        checks.same_shape(y_true=y_true, y_pred=y_pred)
        return ops.square((y_true - y_pred) / self.scale)

    def get_config(self):
        """The arguments."""
        return {**super().get_config(), "scale": self.scale}


@keras.saving.register_keras_serializable(package="mmnet")
class BinomialCrossEntropy(keras.losses.Loss):
    """Cross-entropy per click of rates in percent: −y log ŷ − (1 − y) log(1 − ŷ), both over 100.

    Beyond the paper. Multiplied by the clicks of the target, it is the negative log-likelihood of
    its shares. The prediction is mapped from [0, 1] to [10⁻⁶, 1 − 10⁻⁶], so that a confident
    wrong prediction costs no more than 13.8 and has a gradient.

    Call arguments:
        y_true: target rate, [batch], percent, in [0, 100].
        y_pred: predicted rate, [batch], percent, in [0, 100].

    Raises:
        ValueError: the two shapes differ.
    """

    def __init__(self, name: str = "binomial_cross_entropy", **kwargs):
        super().__init__(name=name, **kwargs)

    def call(self, y_true, y_pred):
        """Cross-entropies, [batch]."""
        checks.same_shape(y_true=y_true, y_pred=y_pred)
        shared, predicted = y_true / 100, 1e-6 + (1 - 2e-6) * y_pred / 100
        return -shared * ops.log(predicted) - (1 - shared) * ops.log(1 - predicted)


@keras.saving.register_keras_serializable(package="mmnet")
class PoissonLoss(keras.losses.Loss):
    """Negative Poisson log-likelihood per click of rates in percent: ŷ − y log ŷ, both over 100.

    Beyond the paper; for rates that may exceed one. The term that does not depend on the
    prediction (the logarithm of a factorial) is omitted. 10⁻⁶ is added to the prediction in the
    logarithm.

    Call arguments:
        y_true: target rate, [batch], percent, 0 or more.
        y_pred: predicted rate, [batch], percent, 0 or more.

    Raises:
        ValueError: the two shapes differ.
    """

    def __init__(self, name: str = "poisson_loss", **kwargs):
        super().__init__(name=name, **kwargs)

    def call(self, y_true, y_pred):
        """Losses, [batch]."""
        checks.same_shape(y_true=y_true, y_pred=y_pred)
        shares, expected = y_true / 100, y_pred / 100
        return expected - shares * ops.log(expected + 1e-6)


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


def loss_named(loss: str, rate_scale: float) -> keras.losses.Loss:
    """The loss that `--loss` names.

    Args:
        loss: mse, binomial or poisson.
        rate_scale: the MSE is in percent² over its square.
    """
    if loss == "binomial":
        return BinomialCrossEntropy()
    return PoissonLoss() if loss == "poisson" else ScaledMeanSquaredError(rate_scale)
