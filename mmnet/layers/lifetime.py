"""An item's counts before the window as numbers for a network."""

from __future__ import annotations

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="mmnet")
class LifetimeFeatures(keras.layers.Layer):
    """Turns the clicks before the window, and their pooled rate, into four numbers; float32.

    Beyond Yu et al. (2021), whose networks read the window alone. With the clicks n and the rate r
    in standard deviations:

        z = (known, log(1 + n), n > 0, r)        all 0 where n is unknown

    Call arguments:
        rate: r, [batch].
        clicks: n, [batch]; below 0 where unknown.

    Returns:
        z, [batch, 4].
    """

    def __init__(self, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"}, autocast=False)

    def call(self, rate, clicks):
        clicks = ops.cast(clicks, "float32")
        some = ops.cast(clicks > 0, "float32")
        numbers = (
            ops.cast(clicks >= 0, "float32"),
            ops.log1p(ops.maximum(clicks, 0.0)),
            some,
            some * ops.cast(rate, "float32"),
        )
        return ops.stack(numbers, axis=-1)
