"""Temporal convolution over the window, by the keras-tcn package."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tcn
from keras import ops

_TIME_FIRST = (1, 0, 2)
"""Swaps [batch, window, channels] and [window, batch, channels]."""


@keras.saving.register_keras_serializable(package="mmnet")
class TemporalConvolution(tcn.TCN):
    """Causal dilated convolutions: the TCN of keras-tcn, computed by fewer and larger operations.

    Yu et al. (2021) Eq. 7 and section 6.2: one residual block per entry of `filters`, with
    dilations 1, 2, 4, ...; each block two convolutions with ReLU, plus a 1×1 convolution of its
    input where the widths differ:

        x ← relu(relu(conv(relu(conv(x)))) + skip(x))

    Weights are keras-tcn's own, and so is the result; but each convolution is one matrix product
    over the window concatenated with its shifted copies, which is faster on a CPU. keras-tcn
    3.5.6 has no weight normalisation. It drops Keras masks: the features must flag missing steps.

    Args:
        filters: channels of each residual block.
        kernel_size: steps that one convolution sees.
        dropout: part of the channels dropped in training.

    Call arguments:
        x: [batch, window, channels].

    Returns:
        [batch, window, filters[-1]]; step t depends on steps up to t only.
    """

    def __init__(
        self,
        filters: Sequence[int],
        kernel_size: int = 2,
        *,
        dropout: float,
        **kwargs,
    ):
        super().__init__(
            nb_filters=list(filters),
            kernel_size=kernel_size,
            dilations=[2**block for block in range(len(filters))],
            use_skip_connections=False,
            return_sequences=True,
            dropout_rate=dropout,
            **kwargs,
        )

    def call(self, x, training=False):
        x = ops.transpose(x, _TIME_FIRST)  # [window, batch, channels]
        for block in self.residual_blocks:
            skipped = _convolved(x, block.shape_match_conv)
            for layer in block.layers:
                x = _dropped(x, layer, training) if _drops(layer) else _convolved(x, layer)
            x = block.final_activation(x + skipped)
        return ops.transpose(x, _TIME_FIRST)

    def get_config(self):
        return {
            **keras.layers.Layer.get_config(self),
            "filters": self.nb_filters,
            "kernel_size": self.kernel_size,
            "dropout": self.dropout_rate,
        }


def _convolved(x, layer):
    """Applies a causal `Conv1D`, or any layer that takes each step alone.

    Args:
        x: [window, batch, channels].
        layer: layer of a residual block.
    """
    if not isinstance(layer, keras.layers.Conv1D):
        return layer(x)
    window, (size,), (dilation,) = x.shape[0], layer.kernel_size, layer.dilation_rate
    # The last tap sees the step itself.
    y = ops.dot(x, layer.kernel[size - 1]) + layer.bias
    for tap in range(size - 1):
        shift = (size - 1 - tap) * dilation
        if shift < window:  # else the tap sees nothing but padding
            earlier = ops.dot(x[: window - shift], layer.kernel[tap])
            y += ops.pad(earlier, ((shift, 0), (0, 0), (0, 0)))
    return y


def _drops(layer) -> bool:
    return isinstance(layer, keras.layers.SpatialDropout1D)


def _dropped(x, layer: keras.layers.SpatialDropout1D, training: bool):
    if not layer.rate:
        return x
    # It drops the same channels at every step of an example: [batch, window, channels].
    x = layer(ops.transpose(x, _TIME_FIRST), training=training)
    return ops.transpose(x, _TIME_FIRST)
