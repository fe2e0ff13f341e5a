"""BERT4Rec and GCSAN: next-item prediction from the items a user interacted with.

Both read a history, item numbers counted from 1 with the newest at the right and 0 for nothing, and
the item in question, counted from 0. In training they return the log of the item's probability
among all items; otherwise its score, which ranks items in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator

import keras
from keras import ops

from mmnet.checks import InputError
from mmnet.mma4ctr.models import NumberSpec
from mmnet.mma4ctr.models.baselines.factors import WIDTH
from mmnet.mma4ctr.models.baselines.losses import total_norm
from mmnet.mma4ctr.models.baselines.numbers import Inputs, reads_numbers
from mmnet.mma4ctr.models.deviations import NORM

INNER = 256
"""Units of a transformer's first dense layer."""

DROPOUT = 0.2
"""Dropout rate of attention weights and of residual branches."""

NORM_EPSILON = 1e-12
MASKED_SHARE = 0.2
"""Share of a history that is hidden in training."""


MOST_LOGITS_BYTES = 2 << 30
"""Memory limit for the scores of all items of one batch; their gradients need as much again."""


@reads_numbers
def bert4rec(inputs: Inputs, spec: NumberSpec, seeds: Iterator[int]):
    """See `Cloze`."""
    _check_logits("bert4rec", spec, holes_of(spec.history))
    oldest = "oldest_item_not_predicted" not in spec.deviations
    cloze = Cloze(spec.items, spec.history, next(seeds), oldest=oldest)
    return cloze(inputs.item, inputs.history)


@reads_numbers
def gcsan(inputs: Inputs, spec: NumberSpec, seeds: Iterator[int]):
    """See `SessionGraph`."""
    _check_logits("gcsan", spec, 1)
    graph = SessionGraph(spec.items, next(seeds), norm=NORM in spec.deviations)
    return graph(inputs.item, inputs.history)


def _check_logits(name: str, spec: NumberSpec, holes: int) -> None:
    """Refuses a batch whose scores of all items, for each hole of each row, do not fit."""
    size = 4 * spec.batch_size * holes * spec.items
    if size > MOST_LOGITS_BYTES:
        raise InputError(
            f"--batch_size={spec.batch_size}: --model={name} scores all {spec.items:,} items for "
            f"every row, {size / 1e9:.1f} GB at a time; at most "
            f"{spec.batch_size * MOST_LOGITS_BYTES // size} fit"
        )


def holes_of(length: int) -> int:
    """Most holes of a history of that length, the one at its end among them."""
    return 1 + int(MASKED_SHARE * length)


def _normal() -> keras.initializers.Initializer:
    return keras.initializers.RandomNormal(stddev=0.02)


def log_probability(vector, table, item):
    """Log of the softmax over all items at one of them.

    Args:
        vector: [..., width].
        table: table of the items, [items, width].
        item: [...].
    """
    logits = ops.matmul(vector, ops.transpose(table))
    own = ops.squeeze(ops.take_along_axis(logits, item[..., None], axis=-1), -1)
    return own - ops.logsumexp(logits, axis=-1)


@keras.saving.register_keras_serializable(package="mmnet")
class TransformerLayer(keras.layers.Layer):
    """Self-attention and two dense layers, each added to its input and normalised after.

    Args:
        heads: heads of the attention.
        number: number of the layer in its model, which is part of the names of its weights.

    Call arguments:
        inputs: [batch, steps, WIDTH].
        mask: which steps (last axis) each step reads, bool [batch, steps or 1, steps].
    """

    def __init__(self, heads: int, number: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.heads, self.number = heads, number
        self.attention = keras.layers.MultiHeadAttention(
            heads,
            WIDTH // heads,
            dropout=DROPOUT,
            kernel_initializer=_normal(),
            name=f"multi_head_attention_{number}",
        )
        first, second = 2 * number, 2 * number + 1
        self.inner = keras.layers.Dense(
            INNER, "gelu", kernel_initializer=_normal(), name=f"dense_{first}"
        )
        self.outer = keras.layers.Dense(WIDTH, kernel_initializer=_normal(), name=f"dense_{second}")
        self.norms = [
            keras.layers.LayerNormalization(epsilon=NORM_EPSILON, name=f"layer_normalization_{n}")
            for n in (first, second)
        ]
        self.dropouts = [keras.layers.Dropout(DROPOUT) for _ in range(2)]
        shape = (None, None, WIDTH)
        self.attention.build(shape, shape)
        self.inner.build(shape)
        self.outer.build((None, None, INNER))
        for norm in self.norms:
            norm.build(shape)

    def call(self, inputs, mask, training=False):
        """[batch, steps, WIDTH]."""
        found = self.attention(inputs, inputs, attention_mask=mask, training=training)
        outputs = self.norms[0](inputs + self.dropouts[0](found, training=training))
        found = self.outer(self.inner(outputs))
        return self.norms[1](outputs + self.dropouts[1](found, training=training))

    def get_config(self):
        """The arguments."""
        return {**super().get_config(), "heads": self.heads, "number": self.number}


@keras.saving.register_keras_serializable(package="mmnet")
class Cloze(keras.layers.Layer):
    """BERT4Rec (Sun et al., 2019): a history with a hole at its end, filled by self-attention.

    In training a fifth of the history is hidden too, at most a fifth of its length, and the log
    probability is the mean over all holes of a row; RecBole averages over all of a batch, and
    leaves the last place alone in half of its rows.

    Args:
        items: number of items.
        length: length of the history.
        seed: seed of the hidden items.
        oldest: whether a hole at the oldest item counts. RecBole marks places that are no holes by
            the number of the first place, so that a hole there is lost.

    Call arguments:
        item: int32 [batch].
        history: int32 [batch, length].

    Returns:
        [batch], see above.
    """

    def __init__(self, items: int, length: int, seed: int, *, oldest: bool = True, **kwargs):
        super().__init__(**kwargs)
        self._config = {"items": items, "length": length, "seed": seed, "oldest": oldest}
        self.hole = items + 1
        self.holes = holes_of(length)
        self.items = self.add_weight([items + 2, WIDTH], _normal(), name="items")
        self.places = self.add_weight([length + 1, WIDTH], _normal(), name="places")
        self.norm = keras.layers.LayerNormalization(
            epsilon=NORM_EPSILON, name="layer_normalization"
        )
        self.norm.build((None, None, WIDTH))
        self.dropout = keras.layers.Dropout(DROPOUT)
        self.blocks = [TransformerLayer(heads=2, number=number) for number in range(2)]
        self.draws = keras.random.SeedGenerator(seed)

    def compute_output_spec(self, item, history, training=False):
        """float32 [batch]."""
        return keras.KerasTensor(item.shape, self.compute_dtype)

    def call(self, item, history, training=False):
        """Log probabilities in training, else scores."""
        whole = ops.concatenate([history, item[:, None] + 1], axis=1)
        if not training:
            hidden = self.fill(ops.concatenate([history, self.hole + 0 * item[:, None]], axis=1))
            return ops.sum(hidden[:, -1] * ops.take(self.items, item + 1, 0), axis=-1)
        place, is_hole = self.hide(whole)
        here = ops.sum(ops.one_hot(place, whole.shape[1]) * is_hole[..., None], axis=1) > 0
        hidden = self.fill(ops.where(here, self.hole, whole), training=True)
        hidden = ops.take_along_axis(hidden, place[..., None], axis=1)
        wanted = ops.maximum(ops.take_along_axis(whole, place, axis=1) - 1, 0)
        found = log_probability(hidden, self.items[1 : self.hole], wanted)
        if not self._config["oldest"]:
            first = ops.sum(ops.cast(whole == 0, "int32"), axis=1, keepdims=True)
            # Except that a row's last place always counts, which without a history is its oldest.
            counts = ops.logical_or(place != first, place == whole.shape[1] - 1)
            is_hole = is_hole * ops.cast(counts, is_hole.dtype)
        return ops.sum(found * is_hole, axis=1) / ops.sum(is_hole, axis=1)

    def get_config(self):
        """The arguments."""
        return {**super().get_config(), **self._config}

    def hide(self, whole):
        """Draws the holes of a history with its item at the end: always that one, and others.

        Returns:
            Places, int32 [batch, holes], and which of them are holes, float32 of the same shape.
        """
        draw = keras.random.uniform(ops.shape(whole), seed=self.draws)
        order = ops.where(ops.logical_and(whole > 0, draw < MASKED_SHARE), 1 + draw, 0.0)
        order = ops.concatenate([order[:, :-1], ops.full_like(order[:, -1:], 2.0)], axis=1)
        order, place = ops.top_k(order, self.holes)
        return place, ops.cast(order > 0, self.compute_dtype)

    def fill(self, tokens, training=False):
        """Hidden vectors of a history with holes, [batch, length + 1, WIDTH]."""
        hidden = self.norm(ops.take(self.items, tokens, 0) + self.places)
        hidden = self.dropout(hidden, training=training)
        for block in self.blocks:
            hidden = block(hidden, tokens[:, None, :] > 0, training=training)
        return hidden


@keras.saving.register_keras_serializable(package="mmnet")
class SessionGraph(keras.layers.Layer):
    """GCSAN (Xu et al., 2019): a gated graph network over a history, then self-attention.

    Items of a history are nodes, with an edge from each to the one that comes after it. A node
    hears its neighbours before and after, each the mean over distinct ones. The next item is
    predicted from 0.6 of the last step's self-attention and 0.4 of its node; with a history
    without items, all items score 0.

    Args:
        items: number of items.
        seed: seed of the weights.
        norm: adds RecBole's regularizer in training, 5e-5 times the norm of the item table over its
            rows.

    Call arguments:
        item: int32 [batch].
        history: int32 [batch, length].

    Returns:
        [batch], see above.
    """

    WEIGHT = 0.6

    def __init__(self, items: int, seed: int, *, norm: bool = False, **kwargs):
        super().__init__(**kwargs)
        self._config = {"items": items, "seed": seed, "norm": norm}
        around = WIDTH**-0.5
        uniform = [keras.initializers.RandomUniform(-around, around, seed + n) for n in range(4)]
        self.items = self.add_weight([items + 1, WIDTH], _normal(), name="items")
        self.kernel = self.add_weight([2 * WIDTH, 3 * WIDTH], uniform[0], name="kernel")
        self.recurrent = self.add_weight([WIDTH, 3 * WIDTH], uniform[1], name="recurrent")
        self.bias = self.add_weight([3 * WIDTH], uniform[2], name="bias")
        self.recurrent_bias = self.add_weight([3 * WIDTH], uniform[3], name="recurrent_bias")
        self.sides = [
            keras.layers.Dense(WIDTH, kernel_initializer=_normal(), name=f"dense_{n}")
            for n in range(2)
        ]
        for dense in self.sides:
            dense.build((None, None, WIDTH))
        self.attention = TransformerLayer(heads=1, number=1)  # whose dense layers come after

    def compute_output_spec(self, item, history, training=False):
        """float32 [batch]."""
        return keras.KerasTensor(item.shape, self.compute_dtype)

    def call(self, item, history, training=False):
        """Log probabilities in training, else scores."""
        there = history > 0
        nodes = self.hear(ops.take(self.items, history, 0), *neighbours(history))
        steps = ops.arange(history.shape[1])
        past = ops.logical_and(there[:, None, :], steps[None, :] <= steps[:, None])
        attended = self.attention(nodes, past, training=training)
        last = self.WEIGHT * attended[:, -1] + (1 - self.WEIGHT) * nodes[:, -1]
        last = last * ops.cast(there[:, -1:], last.dtype)
        if training and self._config["norm"]:
            self.add_loss(5e-5 * total_norm([self.items]) / self.items.shape[0])
        if training:
            return log_probability(last, self.items[1:], item)
        return ops.sum(last * ops.take(self.items, item + 1, 0), axis=-1)

    def get_config(self):
        """The arguments."""
        return {**super().get_config(), **self._config}

    def hear(self, nodes, before, after):
        """One step of the gated graph network, [batch, length, WIDTH]."""
        heard = [
            ops.matmul(weights, side(nodes))
            for weights, side in zip((before, after), self.sides, strict=True)
        ]
        given = ops.matmul(ops.concatenate(heard, -1), self.kernel) + self.bias
        kept = ops.matmul(nodes, self.recurrent) + self.recurrent_bias
        given, kept = ops.split(given, 3, axis=-1), ops.split(kept, 3, axis=-1)
        reset, update = (ops.sigmoid(given[n] + kept[n]) for n in range(2))
        fresh = ops.tanh(given[2] + reset * kept[2])
        return (1 - update) * nodes + update * fresh


def neighbours(history):
    """Weights by which a step hears the nodes before and after its own, each row a mean.

    Steps of the same item are one node and hear the same; a node is heard at its first step.

    Args:
        history: int32 [batch, length], 0 for nothing.

    Returns:
        Two, float32 [batch, length, length].
    """
    there = ops.logical_and(history[:, :, None] > 0, history[:, None, :] > 0)
    same = ops.cast(ops.logical_and(history[:, :, None] == history[:, None, :], there), "float32")
    steps = ops.arange(history.shape[1])
    earlier = ops.cast(steps[None, :] < steps[:, None], "float32")
    first = ops.cast(ops.sum(same * earlier, axis=2) == 0, "float32")
    # [b, i, j]: somewhere an item like j comes right after one like i.
    follows = ops.cast(ops.matmul(same[:, :, :-1], same[:, 1:, :]) > 0, "float32")

    def mean(edges):
        edges = edges * first[:, None, :]
        return edges / ops.maximum(ops.sum(edges, axis=2, keepdims=True), 1.0)

    return mean(ops.transpose(follows, [0, 2, 1])), mean(follows)
