"""DIN and DIEN: earlier items of the user, weighted by their relevance to the target item."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import keras
from keras import ops

from mmnet.mma4ctr.models import NumberSpec
from mmnet.mma4ctr.models.baselines.numbers import Inputs, reads_numbers

WIDTH = 10
MLP = (256, 256, 256)
EVOLVING = "__evolving_interest"
"""The name by which checkpoints have always known DIEN's second recurrent layer."""


@reads_numbers
def din(inputs: Inputs, spec: NumberSpec, seeds: Iterator[int]):
    """DIN (Zhou et al., 2018), as RecBole has it."""
    return _interest(inputs, spec, seeds, evolves=False)


@reads_numbers
def dien(inputs: Inputs, spec: NumberSpec, seeds: Iterator[int]):
    """DIEN (Zhou et al., 2019), as RecBole has it."""
    return _interest(inputs, spec, seeds, evolves=True)


def _interest(inputs: Inputs, spec: NumberSpec, seeds: Iterator[int], *, evolves: bool):
    user, item, history = inputs

    def embedding(rows: int, name: str) -> keras.layers.Embedding:
        start = keras.initializers.GlorotNormal(next(seeds))
        return keras.layers.Embedding(rows, WIDTH, embeddings_initializer=start, name=name)

    of_item = embedding(spec.items + 1, "items")  # row 0 is nothing
    target = of_item(item + 1)
    sequence = of_item(history)
    there = ops.cast(history > 0, "float32")
    if evolves:
        states = keras.layers.GRU(WIDTH, return_sequences=True, seed=next(seeds))(
            sequence, mask=history > 0
        )
        states = NextItem([*itertools.islice(seeds, len(MLP) + 1)], name="next_item")(
            [states, sequence, there]
        )
        weights = _attention(target, states, seeds)
        weights = ops.softmax(ops.where(there > 0, weights, -1e9), axis=-1) * there
        interest = EvolvingInterest(next(seeds), name=EVOLVING)([states, weights, there])
    else:
        weights = _attention(target, sequence, seeds) * there
        interest = ops.sum(weights[..., None] * sequence, axis=1)
    of_user = embedding(spec.users + 1, "users")
    outputs = ops.concatenate([of_user(user + 1), interest, target], axis=-1)
    for width in MLP:
        start = keras.initializers.GlorotNormal(next(seeds))
        outputs = keras.layers.Dense(width, kernel_initializer=start)(outputs)
        outputs = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(outputs)
        outputs = ops.silu(outputs)  # Dice with the slope 0 that RecBole never trains
    last = keras.layers.Dense(
        1,
        kernel_initializer=keras.initializers.GlorotNormal(next(seeds)),
        bias_initializer=keras.initializers.Constant(spec.output_bias),
    )
    return ops.sigmoid(ops.squeeze(last(outputs), -1))


def _attention(target, sequence, seeds):
    """How much each step tells of the target: an MLP over both, difference and product."""
    query = ops.repeat(target[:, None, :], sequence.shape[1], axis=1)
    outputs = ops.concatenate([query, sequence, query - sequence, query * sequence], axis=-1)
    for width in MLP:
        start = keras.initializers.GlorotNormal(next(seeds))
        outputs = keras.layers.Dense(width, "sigmoid", kernel_initializer=start)(outputs)
    start = keras.initializers.GlorotNormal(next(seeds))
    return ops.squeeze(keras.layers.Dense(1, kernel_initializer=start)(outputs), -1)


@keras.saving.register_keras_serializable(package="mmnet")
class NextItem(keras.layers.Layer):
    """DIEN's auxiliary loss: a state distinguishes the next item from another user's.

    Adds the loss, and passes the states on. The other item is that of the next row of the batch.

    Args:
        seeds: seeds of the kernels, one for each of `MLP` and one for the last layer.

    Call arguments:
        inputs: states and vectors of items, [batch, steps, WIDTH] each, and which steps there are,
            1 or 0, [batch, steps].

    Returns:
        The states.
    """

    def __init__(self, seeds: Sequence[int], **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.seeds = list(seeds)
        widths = [2 * WIDTH, *MLP, 1]
        self._dense = [
            keras.layers.Dense(
                width,
                None if width == 1 else "sigmoid",
                kernel_initializer=keras.initializers.GlorotNormal(seed),
                name=f"dense_{number}",  # given, so that it stays the same from run to run
            )
            for number, (width, seed) in enumerate(zip(widths[1:], seeds, strict=True))
        ]
        for dense, width in zip(self._dense, widths, strict=False):
            dense.build([None, width])

    def compute_output_spec(self, inputs, training=False):
        """Those of the states."""
        return keras.KerasTensor(inputs[0].shape, inputs[0].dtype)

    def call(self, inputs, training=False):
        """The states; in training the loss is added."""
        states, sequence, there = inputs
        if training:
            right = self._score(states[:, :-1], sequence[:, 1:])
            wrong = self._score(states[:, :-1], ops.roll(sequence, 1, axis=0)[:, 1:])
            both = there[:, :-1] * there[:, 1:] * ops.roll(there, 1, axis=0)[:, 1:]
            losses = ops.softplus(-right) + ops.softplus(wrong)
            self.add_loss(ops.sum(losses * both) / ops.maximum(ops.sum(both), 1.0))
        return states

    def get_config(self):
        """The arguments."""
        return {**super().get_config(), "seeds": self.seeds}

    def _score(self, states, items):
        outputs = ops.concatenate([states, items], axis=-1)
        for dense in self._dense:
            outputs = dense(outputs)
        return ops.squeeze(outputs, -1)


@keras.saving.register_keras_serializable(package="mmnet")
class EvolvingInterest(keras.layers.Layer):
    """A GRU whose update gate is multiplied by the attention (AUGRU).

    Args:
        seed: seed of both kernels.

    Call arguments:
        inputs: a sequence, [batch, steps, WIDTH]; the weight of each step, [batch, steps]; and
            which steps there are, 1 or 0, [batch, steps].

    Returns:
        The last state, [batch, WIDTH].
    """

    def __init__(self, seed: int, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.seed = seed
        width = WIDTH
        start = keras.initializers.GlorotNormal(seed)
        self.kernel = self.add_weight([width, 3 * width], start, name="kernel")
        self.recurrent = self.add_weight(
            [width, 3 * width],
            keras.initializers.OrthogonalInitializer(seed=seed),
            name="recurrent",
        )
        self.bias = self.add_weight([2, 3 * width], "zeros", name="bias")

    def call(self, inputs):
        """The last state, [batch, WIDTH]."""
        sequence, weights, there = inputs
        state = ops.zeros_like(sequence[:, 0])
        for step in range(sequence.shape[1]):
            given = ops.split(sequence[:, step] @ self.kernel + self.bias[0], 3, axis=-1)
            kept = ops.split(state @ self.recurrent + self.bias[1], 3, axis=-1)
            update = ops.sigmoid(given[0] + kept[0]) * weights[:, step, None]
            reset = ops.sigmoid(given[1] + kept[1])
            fresh = ops.tanh(given[2] + reset * kept[2])
            mask = there[:, step, None]
            state = mask * ((1 - update) * state + update * fresh) + (1 - mask) * state
        return state

    def get_config(self):
        """The arguments."""
        return {**super().get_config(), "seed": self.seed}
