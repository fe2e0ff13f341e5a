"""The mixture of two predictions, with a weight per example."""

from __future__ import annotations

import math

import keras
from keras import ops

from mmnet import checks


@keras.saving.register_keras_serializable(package="mmnet")
class DirectWeight(keras.layers.Layer):
    """Weighs a network's direct prediction against a smoothed one; always float32.

    g = 1 / (1 + exp(-(Σ_i a_i · x_i + b_1 log(1 + Σ n) + b_2 o + c))). At first a and b are 0, so
    that g is the same for all.

    Args:
        start: g at first, in (0, 1).

    Call arguments:
        vectors: x_i, the inputs of either prediction, a list of [batch, width].
        clicks: n, the item's own, [batch, window].
        own_weight: o, of the item's own clicks in the smoothed prediction, in [0, 1], [batch].

    Returns:
        g, [batch].

    Raises:
        ValueError: `start` is outside (0, 1).
    """

    def __init__(self, start: float = 0.5, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        if not 0 < start < 1:
            raise ValueError(f"`start` must be in (0, 1). Received: start={start}")
        self.start = start

    def build(self, vectors_shape, clicks_shape, own_weight_shape):
        width = sum(shape[-1] for shape in vectors_shape)
        self.kernel = self.add_weight((width,), "zeros", name="kernel")
        self.evidence_kernel = self.add_weight((2,), "zeros", name="evidence_kernel")
        constant = keras.initializers.Constant(math.log(self.start / (1 - self.start)))
        self.bias = self.add_weight((), constant, name="bias")
        self.built = True

    def call(self, vectors, clicks, own_weight):
        known = ops.concatenate(vectors, axis=-1)
        counted = ops.log1p(ops.sum(clicks, axis=-1))
        evidence = ops.stack([counted, own_weight], axis=-1)
        score = ops.dot(known, self.kernel) + ops.dot(evidence, self.evidence_kernel)
        return ops.sigmoid(score + self.bias)

    def compute_output_shape(self, vectors_shape, clicks_shape, own_weight_shape):
        return tuple(own_weight_shape)

    def get_config(self):
        return {**super().get_config(), "start": self.start}


@keras.saving.register_keras_serializable(package="mmnet")
class MixedRate(keras.layers.Layer):
    """Mixes a smoothed and a direct prediction, (1 - g) s + g f; always float32.

    The rates themselves are mixed, not their values on the scale of a link, so the mixture is
    inside any range that both rates are in, whatever the link.

    Call arguments:
        smoothed: s, [batch], percent.
        direct: f, [batch], percent.
        weight: g, in [0, 1], [batch].

    Returns:
        Percent, [batch]; between s and f.

    Raises:
        ValueError: the shapes differ.
    """

    def __init__(self, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})

    def call(self, smoothed, direct, weight):
        checks.same_shape(smoothed=smoothed, direct=direct, weight=weight)
        return (1 - weight) * smoothed + weight * direct
