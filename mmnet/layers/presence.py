"""Detection of the modalities of an example, and vectors for those that it lacks.

One definition for all: a modality is absent where all its tensors are 0. That is a text without
a token, an item whose fields are all missing and whose numbers are all empty, a vector of zeros.
"""

from __future__ import annotations

import functools

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="mmnet")
class Presence(keras.layers.Layer):
    """Detects which modalities an example has.

    Call arguments:
        modalities: a list of tensors per modality, each [batch] or [batch, any]: ids, where 0 is
            padding or no value; numbers, standardised and 0 where empty; content vectors; or
            other modalities' flags. (A number that is exactly the mean reads as an empty one; it
            counts for nothing only where all else of its modality is missing too.)

    Returns:
        A flag per modality, [batch]: 1.0 where any entry is not 0, else 0.0.

    Examples:
        >>> words, vector = ops.array([[5, 0], [0, 0]]), ops.ones((2, 3))
        >>> [ops.convert_to_numpy(flag).tolist() for flag in Presence()([[words], [vector]])]
        [[1.0, 0.0], [1.0, 1.0]]
    """

    def __init__(self, **kwargs):
        # Rounded to bfloat16 first, a number close to 0 could become 0.
        super().__init__(autocast=False, **kwargs)

    def call(self, modalities):
        return [
            ops.cast(functools.reduce(ops.logical_or, map(_given, tensors)), self.compute_dtype)
            for tensors in modalities
        ]

    def compute_output_shape(self, modalities_shape):  # else Keras traces `call`
        return [(tensors[0][0],) for tensors in modalities_shape]


def _given(tensor):
    given = ops.not_equal(tensor, 0)
    return ops.any(given, axis=-1) if len(tensor.shape) > 1 else given


@keras.saving.register_keras_serializable(package="mmnet")
class AbsentVectors(keras.layers.Layer):
    """Adds a learned vector for each modality that an example lacks.

        v' = v + Σ_k (1 - p_k) a_k

    Attention over the modalities that are present cannot show the following layers that one was
    absent; this layer does. At first all a_k are 0, and a modality that training never lacks
    leaves its own at 0.

    Call arguments:
        vector: v, [batch, width].
        present: p_k, list of [batch], 1.0 where the modality is present.

    Returns:
        v', [batch, width].
    """

    def build(self, vector_shape, present_shape):
        shape = (len(present_shape), vector_shape[-1])
        self.vectors = self.add_weight(shape, "zeros", name="vectors")  # a
        self.built = True

    def call(self, vector, present):
        return vector + ops.dot(1 - ops.stack(present, axis=-1), self.vectors)
