"""The mixture of two predictions: who is trusted for an example, and how far."""

from __future__ import annotations

import math

import keras
from keras import ops

from mmnet import checks


@keras.saving.register_keras_serializable(package="mmnet")
class DirectWeight(keras.layers.Layer):
    """Says how far a network's direct prediction is trusted, against a smoothed one; float32.

    g = 1 / (1 + exp(-(Σ_i a_i · x_i + b_1 log(1 + Σ n) + b_2 o + c))). At first a and b are 0, so
    that g is the same for all.

    Args:
        start: g at first, in (0, 1).

    Call arguments:
        vectors: x_i, what either prediction was made of, a list of [batch, width].
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

    In training an example is with probability p / 2 each predicted by s alone and by f alone, so
    that in expectation the loss is that of the mixture, and of either part: neither may be bad
    where the other one makes up for it, and a scenario that is rare in training finds both ready.

    Args:
        alone: p, in [0, 1].
        seed: repeats the same draws; None draws anew.

    Call arguments:
        smoothed: s, [batch], percent.
        direct: f, [batch], percent.
        weight: g, in [0, 1], [batch].

    Returns:
        Percent, [batch]; between s and f.

    Raises:
        ValueError: `alone` is outside [0, 1], or the shapes differ.
    """

    def __init__(self, alone: float, seed: int | None = None, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.alone, self.seed = checks.in_range(0, 1, alone=alone), seed
        self._draws = keras.random.SeedGenerator(seed)

    def call(self, smoothed, direct, weight, training=False):
        checks.same_shape(smoothed=smoothed, direct=direct, weight=weight)
        if training and self.alone:
            draw = keras.random.uniform(ops.shape(weight), seed=self._draws)
            weight = ops.where(draw < self.alone / 2, 0.0, weight)
            weight = ops.where(draw >= 1 - self.alone / 2, 1.0, weight)
        return (1 - weight) * smoothed + weight * direct

    def get_config(self):
        return {**super().get_config(), "alone": self.alone, "seed": self.seed}
