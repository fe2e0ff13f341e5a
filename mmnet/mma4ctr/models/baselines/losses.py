"""Losses of those baselines that are not trained by the cross-entropy of a row."""

from __future__ import annotations

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="mmnet")
class PairLoss(keras.losses.Loss):
    """BPR's loss of rows that come in pairs, a positive and a negative one of its user after it.

    Mean over pairs of -log σ(s⁺ - s⁻), with s = logit(p).

    Call arguments:
        y_true: 1, 0, 1, 0, ..., [batch].
        y_pred: p, [batch].
    """

    def __init__(self, name: str = "pair_loss", **kwargs):
        super().__init__(name=name, **kwargs)

    def call(self, y_true, y_pred):
        """Losses of the pairs, [batch / 2]."""
        p = ops.clip(y_pred, 1e-7, 1 - 1e-7)
        score = ops.log(p) - ops.log1p(-p)
        return ops.softplus(score[1::2] - score[0::2])


@keras.saving.register_keras_serializable(package="mmnet")
class LogLikelihood(keras.losses.Loss):
    """Mean of -log p over rows, where a model gives log p itself.

    Call arguments:
        y_true: 1 where the row was taken, [batch]; others do not count.
        y_pred: log p, [batch].
    """

    def __init__(self, name: str = "log_likelihood", **kwargs):
        super().__init__(name=name, **kwargs)

    def call(self, y_true, y_pred):
        """Losses of the rows, [batch]."""
        return -ops.cast(y_true, y_pred.dtype) * y_pred
