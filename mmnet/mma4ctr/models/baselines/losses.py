"""Losses of those baselines that are not trained by the cross-entropy of a row."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="mmnet")
class PairLoss(keras.losses.Loss):
    """BPR's loss of rows that come in pairs, a positive and a negative one of its user after it.

    Mean over pairs of -log σ(s⁺ - s⁻).

    Call arguments:
        y_true: 1, 0, 1, 0, ..., [batch].
        y_pred: scores s, [batch].
    """

    def __init__(self, name: str = "pair_loss", **kwargs):
        super().__init__(name=name, **kwargs)

    def call(self, y_true, y_pred):
        """Losses of the pairs, [batch / 2]."""
        return ops.softplus(y_pred[1::2] - y_pred[0::2])


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


def total_square(tensors: Sequence):
    """Sum of the squares of all entries of some tensors."""
    return sum(ops.sum(ops.square(one)) for one in tensors)


def total_norm(tensors: Sequence):
    """Sum of the Frobenius norms of some tensors, which RecBole calls the embedding loss."""
    # The gradient of a norm is not finite at 0.
    return sum(ops.sqrt(ops.maximum(ops.sum(ops.square(one)), 1e-30)) for one in tensors)
