"""Vectors for numbers, ids and words: rate sequences, meta features, tokens."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import keras
from keras import ops

from mmnet import checks
from mmnet.layers.attention import HANAttention
from mmnet.schema import MISSING_ID, UNKNOWN_ID


@keras.saving.register_keras_serializable(package="mmnet")
class SequenceEmbedding(keras.layers.Layer):
    """Turns a sequence of rates into a sequence of vectors.

    Yu et al. (2021) Eq. 3 and 5. At step t, with learned vectors W_t per position and F_0, F_1
    for seen and missing steps:

        e_t = y_t W_t + F[m_t]

    Several sequences side by side (taxonomies) have vectors of their own each, or with `shared`
    the same, which are also those of a single sequence: Eq. 5 to the letter.

    Args:
        units: width of the vectors.
        flags: False leaves F out, as the authors' code does for taxonomies.
        evidence: adds log(1 + clicks_t) E_t, with learned E_t per position.
        shared: one layer embeds a single sequence in one call and several in another. The several
            are means of rates, which have no clicks: `evidence` adds nothing to them.

    Call arguments:
        rate: y, [batch, window] or [batch, window, taxonomies], in any unit around 1.
        missing_flag: m, 1.0 where missing, shape of `rate`. None leaves F out.
        clicks: evidence behind each rate, shape of `rate`; read only with `evidence`.

    Returns:
        [batch, window, units] or [batch, window, taxonomies, units].

    Raises:
        ValueError: `units` is below 1, the shapes differ, or `evidence` came without clicks.

    Examples:
        >>> rates, missing = ops.ones((2, 6)), ops.zeros((2, 6))
        >>> tuple(SequenceEmbedding(units=8)(rates, missing).shape)
        (2, 6, 8)
    """

    def __init__(
        self,
        units: int,
        flags: bool = True,
        evidence: bool = False,
        shared: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.units, self.flags = checks.at_least(1, units=units), flags
        self.evidence, self.shared = evidence, shared

    def build(self, rate_shape, missing_flag_shape=None, clicks_shape=None):
        window, *taxonomies = rate_shape[1:2] if self.shared else rate_shape[1:]
        per_position = (window, *taxonomies, self.units)
        self.value_vectors = self.add_weight(per_position, name="value_vectors")  # W
        if self.flags:
            per_flag = (2, *taxonomies, self.units)
            self.flag_vectors = self.add_weight(per_flag, "uniform", name="flag_vectors")  # F
        if self.evidence:
            self.evidence_vectors = self.add_weight(per_position, name="evidence_vectors")  # E
        self.built = True

    def call(self, rate, missing_flag=None, clicks=None):
        value_vectors, several = self.value_vectors, self.shared and len(rate.shape) == 3
        if several:  # [window, 1, units], for each of them
            value_vectors = ops.expand_dims(value_vectors, 1)
        embedded = ops.expand_dims(rate, -1) * value_vectors
        if self.flags and missing_flag is not None:
            checks.same_shape(rate=rate, missing_flag=missing_flag)
            seen, missing = self.flag_vectors[0], self.flag_vectors[1]
            # A lookup of F by the flag, written as arithmetic: it needs no gather.
            embedded += seen + ops.expand_dims(missing_flag, -1) * (missing - seen)
        if self.evidence and not several:
            if clicks is None:
                raise ValueError("`clicks` must be given with evidence=True. Received: clicks=None")
            checks.same_shape(rate=rate, clicks=clicks)
            # Clicks range over orders of magnitude, so their logarithm is embedded.
            embedded += ops.expand_dims(ops.log1p(clicks), -1) * self.evidence_vectors
        return embedded

    def get_config(self):
        config = {"units": self.units, "flags": self.flags, "evidence": self.evidence}
        if self.shared:  # left out else: the configuration stays that of earlier versions
            config["shared"] = True
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable(package="mmnet")
class FieldEmbedding(keras.layers.Layer):
    """Turns the meta features of an item into one vector each.

    An id is looked up; a list of ids is pooled by maximum over the ids that are there, and is the
    missing row where none is (the authors' code lets padding take part); a number multiplies a
    learned vector. All fields share one table, so that one lookup serves them all: rows
    `sum(sizes[:i])` and on belong to field i.

    Args:
        sizes: rows of each id field, the missing row 0 and the unknown row 1 among them.
        num_numerics: how many numbers an item has.
        units: d, width of the vectors.
        pooling: "max" or "mean" over the ids of a list.

    Call arguments:
        ids: one integer tensor [batch, values] per field; 0 = padding. An id beyond the table
            reads as unknown.
        numerics: one float tensor [batch] per number, standardised.

    Returns:
        [batch, fields, units], the id fields first.

    Raises:
        ValueError: `pooling` is unknown, or there is neither field nor number.

    Examples:
        >>> tags = ops.array([[2, 3, 0], [0, 0, 0]])  # two tags; none
        >>> tuple(FieldEmbedding([10], units=4, pooling="max")([tags]).shape)
        (2, 1, 4)
    """

    def __init__(
        self,
        sizes: Sequence[int],
        num_numerics: int = 0,
        *,
        units: int,
        pooling: str,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.sizes, self.num_numerics = tuple(sizes), num_numerics
        self.units = checks.at_least(1, units=units)
        self.pooling = checks.one_of(("max", "mean"), pooling=pooling)
        checks.at_least(1, fields=len(self.sizes) + num_numerics)

    def build(self, ids_shape=None, numerics_shape=None):
        if self.sizes:
            self.table = self.add_weight((sum(self.sizes), self.units), "uniform", name="table")
        if self.num_numerics:
            shape = (self.num_numerics, self.units)
            self.numeric_vectors = self.add_weight(shape, name="numeric_vectors")
        self.built = True

    def call(self, ids=(), numerics=()):
        fields = self._looked_up(ids) if self.sizes else []
        if self.num_numerics:
            values = ops.cast(ops.stack(numerics, axis=1), self.compute_dtype)
            fields.append(ops.expand_dims(values, -1) * self.numeric_vectors)
        return ops.concatenate(fields, axis=1)

    def _looked_up(self, ids) -> list:
        """Returns one [batch, 1, units] per id field."""
        # All fields share one table, each with its own range of rows, so that a single gather
        # serves them all.
        first_rows = accumulate(self.sizes[:-1], initial=0)
        rows = [
            ops.where(ops.logical_and(of >= MISSING_ID, of < size), of, UNKNOWN_ID) + first_row
            for of, size, first_row in zip(ids, self.sizes, first_rows, strict=True)
        ]
        vectors = ops.take(self.table, ops.concatenate(rows, axis=1), axis=0)
        found, start = [], 0
        for of in ids:
            num_values = of.shape[1]
            one = vectors[:, start : start + num_values]
            found.append(one if num_values == 1 else self._pooled(one, of))
            start += num_values
        return found

    def _pooled(self, vectors, ids):
        # Padding does not count, except where a field has no value at all: then the vector of
        # the missing value is pooled, instead of nothing.
        given = ops.not_equal(ids, MISSING_ID)
        nothing = ops.logical_not(ops.any(given, axis=1, keepdims=True))
        counted = ops.expand_dims(ops.logical_or(given, nothing), -1)
        if self.pooling == "max":
            return ops.max(ops.where(counted, vectors, -float("inf")), axis=1, keepdims=True)
        counted = ops.cast(counted, vectors.dtype)
        total = ops.sum(vectors * counted, axis=1, keepdims=True)
        return total / ops.sum(counted, axis=1, keepdims=True)

    def get_config(self):
        return {
            **super().get_config(),
            "sizes": list(self.sizes),
            "num_numerics": self.num_numerics,
            "units": self.units,
            "pooling": self.pooling,
        }


@keras.saving.register_keras_serializable(package="mmnet")
class TokenEncoder(keras.layers.Layer):
    """Reads a text as the attention-weighted sum of its word vectors.

    The trainable stand-in for a frozen text encoder (Yu et al. (2021) section 4.4, context
    features): it needs no download, and learns from the task alone.

    Args:
        size: rows of the word table; 0 = padding, 1 = unknown.
        units: width of the output.
        dropout: part of the word vectors' entries zeroed in training, in [0, 1].
        seed: repeats the dropout.

    Call arguments:
        tokens: integer ids, [batch, tokens]; an id beyond the table reads as unknown.

    Returns:
        [batch, units]; zeros for a text without a token.

    Raises:
        ValueError: `dropout` is outside [0, 1].
    """

    def __init__(self, size: int, units: int, dropout: float, seed: int | None = None, **kwargs):
        super().__init__(**kwargs)
        self.size, self.units = checks.at_least(2, size=size), checks.at_least(1, units=units)
        self.dropout, self.seed = checks.in_range(0, 1, dropout=dropout), seed
        self._dropout = keras.layers.Dropout(dropout, seed=seed) if dropout else None
        self._attention = HANAttention(name="attention")

    def build(self, tokens_shape):
        self.table = self.add_weight((self.size, self.units), "uniform", name="table")
        self._attention.build((None, tokens_shape[1], self.units))
        self.built = True

    def call(self, tokens, training=False):
        known = ops.logical_and(tokens >= MISSING_ID, tokens < self.size)
        words = ops.take(self.table, ops.where(known, tokens, UNKNOWN_ID), axis=0)
        if self._dropout is not None:
            words = self._dropout(words, training=training)
        return self._attention(words, present=ops.not_equal(tokens, MISSING_ID))[0]

    def compute_output_shape(self, tokens_shape):  # else Keras traces `call`
        return (tokens_shape[0], self.units)

    def get_config(self):
        return {
            **super().get_config(),
            "size": self.size,
            "units": self.units,
            "dropout": self.dropout,
            "seed": self.seed,
        }
