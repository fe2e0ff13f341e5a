"""Draws that decide what is explored: a keyed hash of item and period, the same everywhere.

    u(item, period) = SipHash_salt("PERIOD:ITEM") mod 2**53 / 2**53

PERIOD is the number of the predicted period in the model's calendar, in decimal, so that another
spelling of the same period draws the same. SipHash (Aumasson & Bernstein, 2012, "SipHash: a fast
short-input PRF") is a pseudorandom function: without the salt, no choice of ids makes an item more
likely to be explored.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import tensorflow as tf

BUCKETS = 1 << 53
"""Distinct draws, as many as float64 has between 0 and 1."""


def uniform(items: tf.Tensor, periods: tf.Tensor, salt: str) -> tf.Tensor:
    """Draws from [0, 1), once per item and period; a graph of string operations, without XLA.

    Args:
        items: ids, string [rows].
        periods: numbers of the predicted periods, int64 [rows].
        salt: 32 hexadecimal digits.

    Returns:
        float64 [rows].

    >>> items = tf.constant(["a", "b"])
    >>> uniform(items, tf.constant([7, 7], tf.int64), "0" * 32).numpy().round(4).tolist()
    [0.3557, 0.548]
    """
    keys = [int(half, 16) & (2**63 - 1) for half in (salt[:16], salt[16:])]
    texts = tf.strings.join([tf.strings.as_string(periods), items], ":")
    hashed = tf.strings.to_hash_bucket_strong(texts, BUCKETS, keys)
    return tf.cast(hashed, tf.float64) / BUCKETS


def of_items(ids: pa.ChunkedArray, periods: np.ndarray, salt: str) -> np.ndarray:
    """Draws for a column of ids and the numbers of their periods, float64 [rows]."""
    texts = tf.constant(ids.to_numpy().astype(object), tf.string)
    return uniform(texts, tf.constant(periods, tf.int64), salt).numpy()
