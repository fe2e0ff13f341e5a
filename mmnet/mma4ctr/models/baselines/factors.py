"""BPR and FPMC: products of vectors of users and items."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import keras
from keras import ops

from mmnet.mma4ctr.models import NumberSpec
from mmnet.mma4ctr.models.baselines.numbers import Inputs, reads_numbers

WIDTH = 64


@reads_numbers
def bpr(inputs: Inputs, spec: NumberSpec, seeds: Iterator[int]):
    """See `Factors`."""
    return Factors(spec.users, spec.items, next(seeds))([inputs.user, inputs.item])


@reads_numbers
def fpmc(inputs: Inputs, spec: NumberSpec, seeds: Iterator[int]):
    """See `Chain`."""
    chain = Chain(spec.users, spec.items, [*itertools.islice(seeds, 4)])
    return chain([inputs.user, inputs.item, inputs.history])


def table(
    layer: keras.layers.Layer, rows: int, width: int, name: str, seed: int, *, uniform: bool = False
):
    """An embedding with Glorot's start, normal or uniform."""
    start = keras.initializers.GlorotUniform if uniform else keras.initializers.GlorotNormal
    return layer.add_weight([rows, width], start(seed), name=name, trainable=True)


@keras.saving.register_keras_serializable(package="mmnet")
class Factors(keras.layers.Layer):
    """BPR (Rendle et al., 2009): the product of a user's and an item's vector.

    Args:
        users: number of users.
        items: number of items.
        seed: seed of the users' vectors; the items' vectors have the next one.

    Call arguments:
        inputs: user and item, int32 [batch] each.

    Returns:
        Scores, [batch].
    """

    def __init__(self, users: int, items: int, seed: int, **kwargs):
        super().__init__(**kwargs)
        self._config = {"users": users, "items": items, "seed": seed}
        self.user = table(self, users, WIDTH, "user", seed)
        self.item = table(self, items, WIDTH, "item", seed + 1)

    def call(self, inputs):
        """Scores, [batch]."""
        user, item = inputs
        return ops.sum(ops.take(self.user, user, 0) * ops.take(self.item, item, 0), axis=-1)

    def get_config(self):
        """The arguments."""
        return {**super().get_config(), **self._config}


@keras.saving.register_keras_serializable(package="mmnet")
class Chain(keras.layers.Layer):
    """FPMC (Rendle et al., 2010): that, and the item taken last times the item.

    Args:
        users: number of users.
        items: number of items.
        seeds: seeds of the four tables.

    Call arguments:
        inputs: user and item, int32 [batch] each, and history, int32 [batch, length], item numbers
            counted from 1, the newest at the right.

    Returns:
        Scores, [batch].
    """

    def __init__(self, users: int, items: int, seeds: Sequence[int], **kwargs):
        super().__init__(**kwargs)
        self._config = {"users": users, "items": items, "seeds": list(seeds)}
        of_user, of_item, of_last, of_following = seeds
        self.user = table(self, users, WIDTH, "user_item", of_user)
        self.item = table(self, items, WIDTH, "item_user", of_item)
        self.last = table(self, items, WIDTH, "last_item", of_last)
        self.following = table(self, items, WIDTH, "item_last", of_following)

    def call(self, inputs):
        """Scores, [batch]."""
        user, item, history = inputs
        last = history[:, -1]
        before = ops.take(self.last, ops.maximum(last - 1, 0), 0)
        before = before * ops.cast(last > 0, before.dtype)[:, None]
        both = ops.take(self.user, user, 0) * ops.take(self.item, item, 0)
        return ops.sum(both + before * ops.take(self.following, item, 0), axis=-1)

    def get_config(self):
        """The arguments."""
        return {**super().get_config(), **self._config}
