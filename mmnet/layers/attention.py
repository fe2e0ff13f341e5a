"""Attention pooling in the form of hierarchical attention networks, used four times in MMNet."""

from __future__ import annotations

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="mmnet")
class HANAttention(keras.layers.Layer):
    """Pools n vectors into one by learned weights.

    Yu et al. (2021) Eq. 6, 8 and 9 (their ref. 17, hierarchical attention networks):

        u_i = tanh(W x_i + b)        α = softmax(u · v)        output = Σ_i α_i x_i

    With a stage e of each example, u_i = tanh(W x_i + b + U e): what is weighed depends on it
    (Liao et al., AAAI 2019, temporal attention fusion).

    Args:
        softmax_axis: axis of x along which the weights sum to 1. -2 is the axis that is summed;
            -3, time in granularity attention, is what the authors' code does.

    Call arguments:
        x: [..., n, width], or a list of n tensors [batch, width].
        present: optional, [..., n]; a vector with 0 or False gets weight 0. A list of m tensors
            [batch] stands for the last m vectors; those before them are always there.
        stage: optional, e, [batch, any width], for x of [batch, n, width] or a list.

    Returns:
        `(pooled, weights)`: [..., width], zeros where no vector is present, and α, [..., n].

    Examples:
        >>> text, image = ops.ones((2, 8)), ops.zeros((2, 8))
        >>> pooled, weights = HANAttention()([text, image], present=ops.array([[1, 1], [1, 0]]))
        >>> tuple(pooled.shape), float(weights[1, 1])  # what is not there has no weight
        ((2, 8), 0.0)
    """

    def __init__(self, softmax_axis: int = -2, **kwargs):
        super().__init__(**kwargs)
        self.softmax_axis = softmax_axis

    def build(self, x_shape, present_shape=None, stage_shape=None):
        width = (x_shape[0] if isinstance(x_shape[0], (list, tuple)) else x_shape)[-1]
        self.kernel = self.add_weight((width, width), name="kernel")  # W
        self.bias = self.add_weight((width,), "zeros", name="bias")  # b
        self.context = self.add_weight((width, 1), name="context")  # v
        if stage_shape is not None:
            self.stage_kernel = self.add_weight((stage_shape[-1], width), name="stage_kernel")  # U
        self.built = True

    def call(self, x, present=None, stage=None):
        if isinstance(x, (list, tuple)):
            x = ops.stack(x, axis=-2)
        if isinstance(present, (list, tuple)):
            always = [ops.ones_like(present[0])] * (x.shape[-2] - len(present))
            present = ops.stack([*always, *present], axis=-1)
        # α = softmax(v · tanh(W x + b)), as in hierarchical attention networks.
        hidden = ops.dot(x, self.kernel) + self.bias
        if stage is not None:
            hidden += ops.expand_dims(ops.dot(stage, self.stage_kernel), -2)
        hidden = ops.tanh(hidden)
        scores = ops.dot(hidden, self.context)  # [..., n, 1]
        if present is not None:
            present = ops.cast(ops.expand_dims(present, -1), scores.dtype)
            # |u · v| is below the width, so -3e4 leaves a weight of exactly 0, in float16 too.
            scores = scores * present - 3e4 * (1 - present)
        # A softmax; `ops.softmax` would warn where there is a single vector to weigh.
        weights = ops.exp(scores - ops.logsumexp(scores, axis=self.softmax_axis, keepdims=True))
        if present is not None:
            # Where no vector is present all weights were equal; this makes them 0.
            weights = weights * present
        return ops.sum(weights * x, axis=-2), ops.squeeze(weights, -1)

    def compute_output_shape(self, x_shape, present_shape=None, stage_shape=None):
        # Without this Keras traces `call`.
        if isinstance(x_shape[0], (list, tuple)):
            x_shape = (*x_shape[0][:-1], len(x_shape), x_shape[0][-1])
        return (*x_shape[:-2], x_shape[-1]), tuple(x_shape[:-1])

    def get_config(self):
        return {**super().get_config(), "softmax_axis": self.softmax_axis}
