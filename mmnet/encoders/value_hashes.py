"""Hashes in place of the values of a vocabulary, by core TensorFlow operations only.

The same function runs when a dataset is prepared and inside the SavedModel's raw signature, so
training and serving cannot disagree. A hash is text of letters and digits, `h64x` and a number
below 2**63 - 1, so that it is one value of a list and one token of a text. A value that is already
a hash stays as it is: a client may hash its values itself.

Whoever has an export can hash likely values and compare: hashes hide what cannot be guessed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import tensorflow as tf

from mmnet import schema
from mmnet.checks import InputError, quoted

SIZE = (1 << 63) - 1
"""Number of hashes, the most that TensorFlow's 64-bit hash can be reduced to."""


def hashed(values: tf.Tensor) -> tf.Tensor:
    """Returns the hashes of values, string, any shape.

    TensorFlow promises that this function (FarmHash's Fingerprint64) never changes.

    >>> hashed(tf.constant(["music", "h64x17"])).numpy().tolist()
    [b'h64x5816868264704420601', b'h64x17']
    """
    numbers = tf.strings.as_string(tf.strings.to_hash_bucket_fast(values, SIZE))
    texts = tf.strings.join([schema.HASH_PREFIX, numbers])
    given = tf.strings.regex_full_match(values, f"{schema.HASH_PREFIX}[0-9]{{1,19}}")
    return tf.where(given, values, texts)


def hash_texts(values: Sequence[str] | np.ndarray) -> np.ndarray:
    """Returns `hashed` of texts, object [values]; each distinct text is hashed once."""
    codes, distinct = pd.factorize(np.asarray(values, object))
    found = hashed(tf.constant(distinct.tolist(), tf.string)).numpy()
    texts = np.array([text.decode() for text in found], object)
    return texts[codes]


def hash_vocabulary(values: Sequence[str], place: str) -> list[str]:
    """Returns the hashes of a vocabulary, in its order.

    Args:
        values: distinct texts.
        place: the table and column, for the message.

    Raises:
        InputError: two values have the same hash.
    """
    hashes = hash_texts(values)
    again = np.flatnonzero(pd.Series(hashes).duplicated())
    if len(again):
        second = int(again[0])
        first = int(np.flatnonzero(hashes == hashes[second])[0])
        raise InputError(
            f"{place}: the values {quoted(values[first], 60)} and {quoted(values[second], 60)} "
            "have the same hash; rename one of them, or leave out --hash_vocabularies"
        )
    return hashes.tolist()
