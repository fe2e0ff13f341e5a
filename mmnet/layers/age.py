"""The age of an item as a vector."""

from __future__ import annotations

import functools
import itertools

import keras
from keras import ops

from mmnet import checks

BORDERS = (1.0, *itertools.chain(*((2.0**k, 1.5 * 2.0**k) for k in range(1, 16))))
"""First ages of the bins after the first one, in periods: 1, 2, 3, 4, 6, 8, 12, ... Two bins to a
doubling, as rates move fast at first and ever more slowly later."""


@keras.saving.register_keras_serializable(package="mmnet")
class KnownAge(keras.layers.Layer):
    """Hides an age that is derived from the history, where the history is hidden.

    Call arguments:
        age: [batch], -1 where unknown.
        age_at_least: [batch], 1.0 where the age is a bound.
        missing_flag: [batch, window], 1.0 where a step is missing or hidden.

    Returns:
        Both where any step is seen, -1 and 0 elsewhere; [batch] each.
    """

    def __init__(self, **kwargs):
        # Rounded to bfloat16 first, ages above 256 would be others.
        super().__init__(autocast=False, **kwargs)

    def call(self, age, age_at_least, missing_flag):
        seen = ops.any(missing_flag < 1, axis=-1)
        hidden = ops.full_like(age, -1.0), ops.zeros_like(age_at_least)
        return tuple(map(functools.partial(ops.where, seen), (age, age_at_least), hidden))

    def compute_output_spec(self, age, age_at_least, missing_flag):
        return tuple(keras.KerasTensor(one.shape, one.dtype) for one in (age, age_at_least))


@keras.saving.register_keras_serializable(package="mmnet")
class AgeEmbedding(keras.layers.Layer):
    """Turns an age into a vector; always float32.

    Beyond Yu et al. (2021), whose networks do not know how old an item is. With learned vectors
    B per bin (`BORDERS`), L, M and U:

        z = B[bin(a)] + log(1 + a) L + b M        z = U where the age is unknown

    Args:
        units: width of the vector.

    Call arguments:
        age: a, periods, [batch]; below 0 where unknown.
        age_at_least: b, 1.0 where the age is a bound, [batch].

    Returns:
        z, [batch, units].

    Raises:
        ValueError: `units` is below 1.
    """

    def __init__(self, units: int, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.units = checks.at_least(1, units=units)

    def build(self, age_shape, age_at_least_shape):
        rows = 1 + len(BORDERS) + 1
        self.bin_vectors = self.add_weight((rows, self.units), "uniform", name="bin_vectors")
        self.log_vector = self.add_weight((self.units,), "uniform", name="log_vector")
        self.bound_vector = self.add_weight((self.units,), "zeros", name="bound_vector")
        self.built = True

    def call(self, age, age_at_least):
        known = age >= 0
        # Row 0 is U.
        passed = ops.expand_dims(age, -1) >= ops.convert_to_tensor(BORDERS, age.dtype)
        row = ops.where(known, 1 + ops.sum(ops.cast(passed, "int32"), axis=-1), 0)
        amount = ops.log1p(ops.maximum(age, 0.0))
        found = ops.take(self.bin_vectors, row, axis=0)
        for one, vector in ((amount, self.log_vector), (age_at_least, self.bound_vector)):
            found += ops.expand_dims(ops.where(known, one, 0.0), -1) * vector
        return found

    def get_config(self):
        return {**super().get_config(), "units": self.units}
