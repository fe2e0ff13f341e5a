"""Temporal convolution over the window, by the keras-tcn package."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tcn
from keras import ops


@keras.saving.register_keras_serializable(package="mmnet")
class TemporalConvolution(tcn.TCN):
    """Causal dilated convolutions: the TCN of keras-tcn, computed by fewer and larger operations.

    Yu et al. (2021) Eq. 7 and section 6.2: one residual block per entry of `filters`, with
    dilations 1, 2, 4, ...; each block two convolutions with ReLU, plus a 1×1 convolution of its
    input where the widths differ:

        x ← relu(relu(conv(relu(conv(x)))) + skip(x))

    Weights are keras-tcn's own, and so is the result; but each convolution is one matrix product
    over the window beside its shifted self, which costs a CPU less. keras-tcn
    3.5.6 has no weight normalisation. It drops Keras masks: features must tell missing steps.

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
        filters: Sequence[int] = (256, 128, 64),
        kernel_size: int = 2,
        dropout: float = 0.0,
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
        for block in self.residual_blocks:
            skipped = block.shape_match_conv(x)
            for layer in block.layers:
                if isinstance(layer, keras.layers.Conv1D):
                    x = _causal_convolution(x, layer)
                elif isinstance(layer, keras.layers.SpatialDropout1D):
                    x = layer(x, training=training)
                else:
                    x = layer(x)
            x = block.final_activation(x + skipped)
        return x

    def get_config(self):
        return {
            **keras.layers.Layer.get_config(self),
            "filters": self.nb_filters,
            "kernel_size": self.kernel_size,
            "dropout": self.dropout_rate,
        }


def _causal_convolution(x, convolution: keras.layers.Conv1D):
    """Applies the weights of a causal `Conv1D` to x, [batch, window, channels]."""
    (size,), (dilation,) = convolution.kernel_size, convolution.dilation_rate
    window = x.shape[1]
    # Tap k sees the step (size - 1 - k) · dilation before; there is nothing before the window.
    shifts = [min((size - 1 - tap) * dilation, window) for tap in range(size)]
    taps = [ops.pad(x[:, : window - shift], ((0, 0), (shift, 0), (0, 0))) for shift in shifts]
    kernel = ops.reshape(convolution.kernel, (-1, convolution.filters))
    return ops.dot(ops.concatenate(taps, axis=-1), kernel) + convolution.bias
