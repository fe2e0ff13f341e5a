"""xDeepFM: interactions of meta features (Lian et al. 2018; Yu et al. (2021) section 4.4)."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import ops

from mmnet import checks


@keras.saving.register_keras_serializable(package="mmnet")
class CompressedInteraction(keras.layers.Layer):
    """Compressed interaction network (CIN): explicit interactions of whole field vectors.

    Lian et al. (2018) Eq. 6 to 8. With X⁰ the fields and H_k maps in layer k:

        X^k_h = φ( Σ_i Σ_j W^{k,h}_{ij} (X^{k-1}_i ∘ X⁰_j) + b^k_h )        p^k_h = Σ_d X^k_{h,d}

    With φ the identity, a map that is only pooled needs no X^k at all, for
    p^k_h = Σ_ij W^{k,h}_{ij} G_ij with G = X^{k-1} X⁰ᵀ: the same numbers at half the work.

    Args:
        sizes: H_k of each layer.
        split_half: of every layer but the last, the first half of the maps feeds the next layer
            and the second half is pooled; otherwise all maps do both.
        activation: φ; None is the identity.
        use_bias: adds b.

    Call arguments:
        fields: X⁰, [batch, fields, units].

    Returns:
        p, [batch, maps]: the pooled maps, layer by layer.

    Raises:
        ValueError: `sizes` is empty, or `split_half` meets an odd size before the last.

    Examples:
        >>> fields = ops.ones((32, 4, 8))  # four fields of width 8
        >>> tuple(CompressedInteraction(sizes=(16, 10))(fields).shape)  # 16 / 2 + 10 maps
        (32, 18)
    """

    def __init__(
        self,
        sizes: Sequence[int] = (100, 100, 50),
        split_half: bool = True,
        activation: str | None = None,
        use_bias: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.sizes, self.split_half, self.use_bias = tuple(sizes), split_half, use_bias
        self.activation = keras.activations.get(activation)
        checks.at_least(1, layers=len(self.sizes))
        if split_half and any(size % 2 for size in self.sizes[:-1]):
            raise ValueError(f"`sizes` but the last must be even. Received: sizes={sizes}")

    def build(self, fields_shape):
        num_fields = num_maps = fields_shape[1]
        self.kernels, self.biases = [], []
        for number, size in enumerate(self.sizes):
            shape = (num_maps * num_fields, size)
            self.kernels.append(self.add_weight(shape, name=f"kernel_{number}"))  # W
            if self.use_bias:
                self.biases.append(self.add_weight((size,), "zeros", name=f"bias_{number}"))  # b
            num_maps = size // 2 if self.split_half else size
        self.built = True

    def call(self, fields):
        num_fields, units = fields.shape[1:]
        first = maps = ops.transpose(fields, (0, 2, 1))  # [batch, units, maps]
        is_linear = self.activation is keras.activations.linear
        pooled = []
        for number, size in enumerate(self.sizes):
            kernel = self.kernels[number]
            bias = self.biases[number] if self.use_bias else ops.zeros((size,), fields.dtype)
            num_pairs = maps.shape[-1] * num_fields
            is_last = number == len(self.sizes) - 1
            num_next = 0 if is_last else size // 2 if self.split_half else size
            # Maps with a d axis: those the next layer reads and, unless φ is linear, all.
            num_full = num_next if is_linear else size

            if num_full < size:
                gram = ops.matmul(ops.transpose(maps, (0, 2, 1)), first)
                gram = ops.reshape(gram, (-1, num_pairs))
                from_gram = ops.matmul(gram, kernel[:, num_full:]) + units * bias[num_full:]
            if num_full:
                pairs = ops.expand_dims(maps, 3) * ops.expand_dims(first, 2)
                pairs = ops.reshape(pairs, (-1, units, num_pairs))
                full = ops.dot(pairs, kernel[:, :num_full]) + bias[:num_full]
                full = self.activation(full)
                only_pooled = num_next if self.split_half else 0
                if only_pooled < num_full:
                    pooled.append(ops.sum(full[:, :, only_pooled:], axis=1))
                maps = full[:, :, :num_next]
            if num_full < size:
                pooled.append(from_gram)
        return ops.concatenate(pooled, axis=-1)

    def get_config(self):
        return {
            **super().get_config(),
            "sizes": list(self.sizes),
            "split_half": self.split_half,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
        }


@keras.saving.register_keras_serializable(package="mmnet")
class XDeepFM(keras.layers.Layer):
    """Sum of a linear, a compressed interaction and a deep part over the field vectors.

    Yu et al. (2021) section 4.4, meta features, with the sizes of the authors' code: the deep
    part has 8d, 8d and 4d units, each ELU and then batch normalisation.

    Args:
        units: width of the output, to which each part is projected.
        sizes: layers of the compressed interaction network.
        momentum: momentum of the moving statistics that batch normalisation uses at inference. The
            authors' code has 0.99, which after 200 steps still holds 13 % of its arbitrary start:
            too slow for small data.

    Call arguments:
        fields: [batch, fields, d].

    Returns:
        u, [batch, units].
    """

    def __init__(
        self,
        units: int,
        sizes: Sequence[int] = (100, 100, 50),
        *,
        momentum: float,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.units, self.sizes = checks.at_least(1, units=units), tuple(sizes)
        self.momentum = checks.in_range(0, 1, momentum=momentum)

    def build(self, fields_shape):
        _, num_fields, width = fields_shape

        def dense(inputs, units, name, activation=None):
            layer = keras.layers.Dense(units, activation, dtype=self.dtype_policy, name=name)
            layer.build((None, inputs))
            return layer

        def normalisation(units, name):
            layer = keras.layers.BatchNormalization(
                momentum=self.momentum, dtype=self.dtype_policy, name=name
            )
            layer.build((None, units))
            return layer

        flat = num_fields * width
        self.linear = dense(flat, self.units, "linear")

        self.interaction = CompressedInteraction(
            self.sizes, dtype=self.dtype_policy, name="interaction"
        )
        self.interaction.build(fields_shape)
        num_pooled = sum(self.sizes[:-1]) // 2 + self.sizes[-1]
        self.interaction_projection = dense(num_pooled, self.units, "interaction_projection")

        self.deep, inputs = [], flat
        for number, units in enumerate((8 * width, 8 * width, 4 * width)):
            self.deep.append(dense(inputs, units, f"deep_{number}", "elu"))
            self.deep.append(normalisation(units, f"deep_{number}_normalisation"))
            inputs = units
        self.deep.append(dense(inputs, self.units, "deep_projection"))
        self.built = True

    def call(self, fields, training=False):
        flat = ops.reshape(fields, (-1, fields.shape[1] * fields.shape[2]))
        deep = flat
        for layer in self.deep:
            if isinstance(layer, keras.layers.BatchNormalization):
                deep = layer(deep, training=training)
            else:
                deep = layer(deep)
        interaction = self.interaction_projection(self.interaction(fields))
        return self.linear(flat) + interaction + deep

    def compute_output_shape(self, fields_shape):
        return fields_shape[0], self.units

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "sizes": list(self.sizes),
            "momentum": self.momentum,
        }
