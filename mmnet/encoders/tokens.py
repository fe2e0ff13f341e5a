"""Tokens of a text, by core `tf.strings` operations only.

The same function runs when a dataset is prepared and inside the SavedModel's raw signature, so
training and serving cannot disagree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import tensorflow as tf

from mmnet import schema
from mmnet.encoders import value_hashes

_UNSEGMENTED = r"([\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}])"

CHARACTERS = 16
"""Characters per token that are read of a text at first, more than most languages need."""

TEXTS_AT_ONCE = 8192
"""Number of texts to tokenize at a time, so that memory grows with the vocabulary only."""


def tokenize(texts: tf.Tensor) -> tf.RaggedTensor:
    r"""Cuts texts into lower-case words; scripts without spaces into characters.

    Args:
        texts: string [batch], UTF-8.

    Returns:
        string [batch, (tokens)]; an empty text has none.

    >>> tokenize(tf.constant(["C++ in 10 minutes!", "猫と犬 cats", ""])).to_list()[1]
    [b'\xe7\x8c\xab', b'\xe3\x81\xa8', b'\xe7\x8a\xac', b'cats']
    """
    text = tf.strings.lower(texts, encoding="utf-8")
    text = tf.strings.regex_replace(text, r"[^\p{L}\p{M}\p{N}+#]+", " ")
    text = tf.strings.regex_replace(text, _UNSEGMENTED, r" \1 ")
    return tf.strings.split(text)


def fit_vocabulary(
    texts: Iterable[np.ndarray], max_size: int, min_count: int = 2, *, at_once: int = TEXTS_AT_ONCE
) -> list[str]:
    """Returns the most frequent tokens of texts, most frequent first, ties in code point order.

    Args:
        texts: arrays of str, [any] each.
        max_size: maximum number of tokens.
        min_count: tokens that occur less often are unknown, so that the unknown row is trained.
        at_once: number of texts to tokenize at a time; the result does not depend on it.

    >>> fit_vocabulary([np.array(["a b", "b c"]), np.array(["b a"])], 10)
    ['b', 'a']
    """
    count: Counter[bytes] = Counter()
    parts = (one[start : start + at_once] for one in texts for start in range(0, len(one), at_once))
    for part in parts:
        found = tokenize(tf.constant(list(part), tf.string)).flat_values
        tokens, _, times = tf.unique_with_counts(found)
        count.update(dict(zip(tokens.numpy(), times.numpy().tolist(), strict=True)))
    often = [pair for pair in count.items() if pair[1] >= min_count]
    ranked = sorted(often, key=lambda pair: (-pair[1], pair[0]))
    return [token.decode("utf-8") for token, _ in ranked[:max_size]]


class TokenLookup(tf.Module):
    """Maps texts to token ids: 0 = padding, 1 = unknown, 2... = the vocabulary.

    Args:
        vocabulary: tokens, from id 2 on.
        max_tokens: maximum number of tokens per text.
        hashed: whether the vocabulary holds hashes of tokens.
    """

    def __init__(self, vocabulary: Sequence[str], max_tokens: int, *, hashed: bool = False):
        super().__init__()
        self.max_tokens, self._hashed = max_tokens, hashed
        self.table = lookup_table(vocabulary)

    def __call__(self, texts: tf.Tensor) -> tf.Tensor:
        """Maps string [batch] to int32 [batch, max_tokens]."""
        tokens = tokenize(texts)
        if self._hashed:
            tokens = tf.ragged.map_flat_values(value_hashes.hashed, tokens)
        ids = tf.ragged.map_flat_values(self.table.lookup, tokens)
        return ids.to_tensor(schema.MISSING_ID, shape=(None, self.max_tokens))


def encode(texts: np.ndarray, lookup: TokenLookup) -> np.ndarray:
    """Returns the token ids of texts, int32 [items, max_tokens].

    Args:
        texts: str [items].
        lookup: maps texts to ids.
    """
    pieces = [
        _encoded(texts[start : start + TEXTS_AT_ONCE], lookup)
        for start in range(0, len(texts), TEXTS_AT_ONCE)
    ]
    return np.concatenate(pieces)


def _encoded(texts: np.ndarray, lookup: TokenLookup) -> np.ndarray:
    """Returns the token ids of some texts, of which only the beginnings are read if they suffice.

    What precedes a space has the same tokens whatever follows: no rule of a letter's case looks
    beyond it.
    """
    most = CHARACTERS * lookup.max_tokens
    begun = [text if len(text) <= most else text[: text.rfind(" ", 0, most) + 1] for text in texts]
    ids = lookup(tf.constant(begun, tf.string)).numpy()
    cut = np.fromiter(map(len, begun), np.int64) < np.fromiter(map(len, texts), np.int64)
    short = cut & (ids[:, -1] == schema.MISSING_ID)  # the next token is after the beginning
    if short.any():
        ids[short] = lookup(tf.constant(list(texts[short]), tf.string)).numpy()
    return ids


def lookup_table(vocabulary: Sequence[str]) -> tf.lookup.StaticHashTable:
    """Returns a table from value to id: 2... in order, 1 for unknown values."""
    ids = list(range(schema.FIRST_ID, schema.FIRST_ID + len(vocabulary)))
    # TensorFlow needs at least one entry; no value and no token is empty.
    entries = dict(zip(vocabulary, ids, strict=True)) or {"": schema.UNKNOWN_ID}
    initializer = tf.lookup.KeyValueTensorInitializer(
        list(entries), list(entries.values()), tf.string, tf.int32
    )
    return tf.lookup.StaticHashTable(initializer, default_value=schema.UNKNOWN_ID)
