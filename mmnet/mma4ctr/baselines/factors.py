"""BPR and FPMC: products of vectors of users and items."""

from __future__ import annotations

import keras
from keras import ops

WIDTH = 64


def table(layer: keras.layers.Layer, rows: int, width: int, name: str, seed: int):
    """RecBole's xavier normal start of an embedding."""
    return layer.add_weight(
        [rows, width], keras.initializers.GlorotNormal(seed), name=name, trainable=True
    )


class Factors(keras.layers.Layer):
    """BPR (Rendle et al., 2009): the product of a user's and an item's vector."""

    def __init__(self, users, items, seed, **kwargs):
        super().__init__(**kwargs)
        self.user = table(self, users, WIDTH, "user", seed)
        self.item = table(self, items, WIDTH, "item", seed + 1)

    def call(self, inputs):
        """Scores, [batch]."""
        user, item = inputs
        return ops.sum(ops.take(self.user, user, 0) * ops.take(self.item, item, 0), axis=-1)


class Chain(keras.layers.Layer):
    """FPMC (Rendle et al., 2010): that, and the item taken last times the item."""

    def __init__(self, users, items, seeds, **kwargs):
        super().__init__(**kwargs)
        self.user = table(self, users, WIDTH, "user_item", next(seeds))
        self.item = table(self, items, WIDTH, "item_user", next(seeds))
        self.last = table(self, items, WIDTH, "last_item", next(seeds))
        self.following = table(self, items, WIDTH, "item_last", next(seeds))

    def call(self, inputs):
        """Scores, [batch]."""
        user, item, history = inputs
        last = history[:, -1]
        before = ops.take(self.last, ops.maximum(last - 1, 0), 0)
        before = before * ops.cast(last > 0, before.dtype)[:, None]
        both = ops.take(self.user, user, 0) * ops.take(self.item, item, 0)
        return ops.sum(both + before * ops.take(self.following, item, 0), axis=-1)
