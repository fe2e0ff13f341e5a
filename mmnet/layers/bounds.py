"""Bounds on the inputs of every network, so that finite inputs always give finite scores."""

from __future__ import annotations

import keras
from keras import ops

from mmnet import checks

FLOAT32_MAX = 3.4028234663852886e38


@keras.saving.register_keras_serializable(package="mmnet")
class Bounded(keras.layers.Layer):
    """Clips values to [lowest, highest]; values inside pass through unchanged, bit for bit.

    Without it a number of 1e30 overflows in a network's products, to inf - inf or 0 * inf in some
    orders of instructions and not in others. `schema` has the limits of each input.

    Args:
        lowest: least value read.
        highest: greatest value read, above `lowest`.

    Call arguments:
        x: float tensor of any shape; an infinite value is the nearest limit, NaN stays, and a
            subnormal number may become 0, as it may in any operation of TensorFlow.

    Returns:
        A tensor of the same shape and dtype.

    Raises:
        ValueError: `highest` is not above `lowest`, or one of them is not a finite float32.
    """

    def __init__(self, lowest: float, highest: float, **kwargs):
        # Rounded to bfloat16 first, a value would not pass to the bit.
        super().__init__(autocast=False, **kwargs)
        self.lowest = checks.in_range(-FLOAT32_MAX, FLOAT32_MAX, lowest=lowest)
        self.highest = checks.in_range(-FLOAT32_MAX, FLOAT32_MAX, highest=highest)
        if not lowest < highest:
            raise ValueError(
                f"`highest` must be above `lowest`. Received: lowest={lowest}, highest={highest}"
            )

    def call(self, x):
        return ops.minimum(ops.maximum(x, self.lowest), self.highest)

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, x.dtype)

    def get_config(self):
        return {**super().get_config(), "lowest": self.lowest, "highest": self.highest}
