"""What the paper compares with, on the same labelled rows and splits.

| model | reads | trained by |
|---|---|---|
| lr | MMa4CTR's own rows of features | cross-entropy |
| bpr, lightgcn, ngcf | user and item numbers | pairs: a positive and a negative row of its user |
| fpmc | the same, and the last item taken | pairs |
| din, dien | the same, and the last items taken | cross-entropy (dien: and the next item taken) |

Sizes are RecBole's, as the authors' README lists them, and so are the numbers of parameters. Two
differences: rows are the labelled ones, where RecBole was given exposures without labels and drew
its negatives at random; and a history is what the user took strictly before the row (c1) or in the
support half (c2). BERT4Rec and GCSAN are not here: they predict the next item of a session of
exposures and have no place for a label.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
from keras import ops

from mmnet import checks
from mmnet.mma4ctr.protocols import Protocol

HISTORY = 10
WIDTH, CTR_WIDTH = 64, 10
MLP = (256, 256, 256)
GRAPH_LAYERS = 3
NEGATIVES = 4
PAIRWISE = ("bpr", "fpmc", "lightgcn", "ngcf")
NAMES = ("lr", *PAIRWISE, "din", "dien")


def histories(protocol: Protocol, length: int = HISTORY) -> np.ndarray:
    """The last items that each state has taken, counted from 1, oldest first; 0 where none.

    With time bins those of earlier bins, and of one bin in no order that means anything.

    Returns:
        int32 [states, length], the entries at the right.
    """
    edges, moments = protocol.edges, protocol.bins + 1 if protocol.bins else 1
    taken = np.flatnonzero(edges.label == 1)
    key = edges.user[taken].astype(np.int64) * moments + edges.bin[taken]
    order = np.argsort(key, kind="stable")
    key, item = key[order], edges.item[taken][order]
    state = np.arange(protocol.num_states, dtype=np.int64)
    end = np.searchsorted(key, state if protocol.bins else state + 1)
    first = np.searchsorted(key, state // moments * moments)
    place = end[:, None] - np.arange(length, 0, -1)
    there = place >= first[:, None]
    if not len(item):
        return np.zeros(place.shape, np.int32)
    return np.where(there, item[np.maximum(place, 0)] + 1, 0).astype(np.int32)


def graph(protocol: Protocol) -> np.ndarray:
    """Pairs (user, item) that were taken in the training rows, int64 [2, pairs]."""
    part = protocol.parts["train"]
    taken = protocol.label[part] == 1
    pairs = np.stack([protocol.user[part][taken], protocol.item[part][taken]]).astype(np.int64)
    return np.unique(pairs, axis=1)


class Baseline(keras.Model):
    """(state, item) to the probability of a positive, as `network.Clicks` does.

    Args:
        name: see `NAMES`, but for lr, which is a network without hidden layers.
        users: number of users.
        items: number of items.
        state_user: user of each state.
        history: see `histories`.
        pairs: see `graph`; of the graph models.
        seed: of the weights.
        output_bias: of the last layer at the start, where it has one.
    """

    def __init__(
        self,
        name: str,
        *,
        users: int,
        items: int,
        state_user: np.ndarray,
        history: np.ndarray,
        pairs: np.ndarray,
        seed: int = 0,
        output_bias: float = 0.0,
    ):
        super().__init__(name=f"baseline_{checks.one_of(NAMES[1:], model=name)}")
        self.rows = StateRows(history.shape, name="rows")
        self.rows.users.assign(state_user)
        self.rows.history.assign(history)
        self.net = _network(name, users, items, pairs, seed, output_bias)

    def scale_for(self, split: str) -> None:
        """Nothing is scaled here."""

    def call(self, inputs, training=False):
        """Probabilities, [batch]."""
        user, history = self.rows(inputs["state"])
        item = ops.cast(inputs["item"], "int32")
        return self.net([user, item, history], training=training)


class StateRows(keras.layers.Layer):
    """The user and the history of states, from tables that training never changes."""

    def __init__(self, shape: tuple[int, int], **kwargs):
        super().__init__(trainable=False, **kwargs)
        how = {"initializer": "zeros", "dtype": "int32", "trainable": False}
        self.users = self.add_weight([shape[0]], name="users", **how)
        self.history = self.add_weight(shape, name="history", **how)

    def call(self, state):
        """User, int32 [batch], and history, int32 [batch, length]."""
        return ops.take(self.users, state, axis=0), ops.take(self.history, state, axis=0)


def _network(name, users, items, pairs, seed, output_bias) -> keras.Model:
    user = keras.Input([], dtype="int32", name="user")
    item = keras.Input([], dtype="int32", name="item")
    history = keras.Input([HISTORY], dtype="int32", name="history")
    seeds = iter(np.random.default_rng([seed, 5]).integers(0, 2**31, 40).tolist())
    build: dict[str, Callable] = {
        "bpr": lambda: _Factors(users, items, next(seeds))([user, item]),
        "fpmc": lambda: _Chain(users, items, seeds)([user, item, history]),
        "lightgcn": lambda: _Graph(users, items, pairs, seeds, weights=False)([user, item]),
        "ngcf": lambda: _Graph(users, items, pairs, seeds, weights=True)([user, item]),
        "din": lambda: _interest(user, item, history, users, items, seeds, output_bias, False),
        "dien": lambda: _interest(user, item, history, users, items, seeds, output_bias, True),
    }
    score = build[name]()
    return keras.Model([user, item, history], ops.sigmoid(score), name=name)


def _table(layer: keras.layers.Layer, rows: int, width: int, name: str, seed: int):
    """RecBole's xavier normal start of an embedding."""
    return layer.add_weight(
        [rows, width], keras.initializers.GlorotNormal(seed), name=name, trainable=True
    )


class _Factors(keras.layers.Layer):
    """BPR (Rendle et al., 2009): the product of a user's and an item's vector."""

    def __init__(self, users, items, seed, **kwargs):
        super().__init__(**kwargs)
        self.user = _table(self, users, WIDTH, "user", seed)
        self.item = _table(self, items, WIDTH, "item", seed + 1)

    def call(self, inputs):
        user, item = inputs
        return ops.sum(ops.take(self.user, user, 0) * ops.take(self.item, item, 0), axis=-1)


class _Chain(keras.layers.Layer):
    """FPMC (Rendle et al., 2010): that, and the item taken last times the item."""

    def __init__(self, users, items, seeds, **kwargs):
        super().__init__(**kwargs)
        self.user = _table(self, users, WIDTH, "user_item", next(seeds))
        self.item = _table(self, items, WIDTH, "item_user", next(seeds))
        self.last = _table(self, items, WIDTH, "last_item", next(seeds))
        self.following = _table(self, items, WIDTH, "item_last", next(seeds))

    def call(self, inputs):
        user, item, history = inputs
        last = history[:, -1]
        before = ops.take(self.last, ops.maximum(last - 1, 0), 0)
        before = before * ops.cast(last > 0, before.dtype)[:, None]
        both = ops.take(self.user, user, 0) * ops.take(self.item, item, 0)
        return ops.sum(both + before * ops.take(self.following, item, 0), axis=-1)


class _Graph(keras.layers.Layer):
    """LightGCN (He et al., 2020) and NGCF (Wang et al., 2019): vectors spread over what was taken.

    A layer sends every vector to its neighbours, over the root of both numbers of neighbours.
    LightGCN takes the mean of all layers; NGCF has two matrices a layer, LeakyReLU, and puts the
    layers side by side.
    """

    def __init__(self, users, items, pairs, seeds, *, weights, **kwargs):
        super().__init__(**kwargs)
        self.user = _table(self, users, WIDTH, "user", next(seeds))
        self.item = _table(self, items, WIDTH, "item", next(seeds))
        self.users = users
        # A node is a user, or an item after all users; each pair is there in both directions.
        self._from = np.concatenate([pairs[0], pairs[1] + users])
        self._to = np.concatenate([pairs[1] + users, pairs[0]])
        degree = np.maximum(np.bincount(self._from, minlength=users + items), 1)
        self._norm = ((degree[self._from] * degree[self._to]) ** -0.5).astype(np.float32)
        self._dense = []
        if weights:
            for _ in range(GRAPH_LAYERS):
                one = [
                    keras.layers.Dense(
                        WIDTH, kernel_initializer=keras.initializers.GlorotNormal(next(seeds))
                    )
                    for _ in range(2)
                ]
                for dense in one:
                    dense.build([None, WIDTH])
                self._dense.append(one)

    def call(self, inputs):
        user, item = inputs
        nodes = ops.concatenate([self.user, self.item], axis=0)
        layers = [nodes]
        for number in range(GRAPH_LAYERS):
            nodes = self._spread(layers[-1])
            if self._dense:
                first, second = self._dense[number]
                nodes = first(layers[-1] + nodes) + second(layers[-1] * nodes)
                nodes = ops.normalize(ops.leaky_relu(nodes, 0.2), axis=-1)
            layers.append(nodes)
        nodes = ops.concatenate(layers, -1) if self._dense else ops.mean(ops.stack(layers), axis=0)
        both = ops.take(nodes, user, 0) * ops.take(nodes, item + self.users, 0)
        return ops.sum(both, axis=-1)

    def _spread(self, nodes):
        messages = ops.take(nodes, self._from, 0) * self._norm[:, None]
        return ops.segment_sum(messages, self._to, num_segments=nodes.shape[0])


# ----------------------------------------------------------------------------- DIN and DIEN


def _interest(user, item, history, users, items, seeds, output_bias, evolves: bool):
    """DIN (Zhou et al., 2018) and DIEN (2019), as RecBole has them."""

    def embedding(rows: int, name: str) -> keras.layers.Embedding:
        start = keras.initializers.GlorotNormal(next(seeds))
        return keras.layers.Embedding(rows, CTR_WIDTH, embeddings_initializer=start, name=name)

    of_item = embedding(items + 1, "items")  # row 0 is nothing
    target = of_item(item + 1)
    sequence = of_item(history)
    there = ops.cast(history > 0, "float32")
    if evolves:
        states = keras.layers.GRU(CTR_WIDTH, return_sequences=True, seed=next(seeds))(
            sequence, mask=history > 0
        )
        states = _NextItem(seeds, name="next_item")([states, sequence, there])
        weights = _attention(target, states, seeds)
        weights = ops.softmax(ops.where(there > 0, weights, -1e9), axis=-1) * there
        interest = _EvolvingInterest(next(seeds))([states, weights, there])
    else:
        weights = _attention(target, sequence, seeds) * there
        interest = ops.sum(weights[..., None] * sequence, axis=1)
    outputs = ops.concatenate([embedding(users + 1, "users")(user + 1), interest, target], axis=-1)
    for width in MLP:
        start = keras.initializers.GlorotNormal(next(seeds))
        outputs = keras.layers.Dense(width, kernel_initializer=start)(outputs)
        outputs = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(outputs)
        outputs = ops.silu(outputs)  # Dice with the slope 0 that RecBole never trains
    last = keras.layers.Dense(
        1,
        kernel_initializer=keras.initializers.GlorotNormal(next(seeds)),
        bias_initializer=keras.initializers.Constant(output_bias),
    )
    return ops.squeeze(last(outputs), -1)


def _attention(target, sequence, seeds):
    """How much each step tells of the target: an MLP over both, difference and product."""
    query = ops.repeat(target[:, None, :], sequence.shape[1], axis=1)
    outputs = ops.concatenate([query, sequence, query - sequence, query * sequence], axis=-1)
    for width in MLP:
        start = keras.initializers.GlorotNormal(next(seeds))
        outputs = keras.layers.Dense(width, "sigmoid", kernel_initializer=start)(outputs)
    start = keras.initializers.GlorotNormal(next(seeds))
    return ops.squeeze(keras.layers.Dense(1, kernel_initializer=start)(outputs), -1)


class _NextItem(keras.layers.Layer):
    """DIEN's auxiliary loss: a state tells the item taken next from another user's.

    Adds the loss, and passes the states on. The other item is that of the next row of the batch.
    """

    def __init__(self, seeds, **kwargs):
        super().__init__(**kwargs)
        widths = [2 * CTR_WIDTH, *MLP, 1]
        self._dense = [
            keras.layers.Dense(
                width,
                None if width == 1 else "sigmoid",
                kernel_initializer=keras.initializers.GlorotNormal(next(seeds)),
            )
            for width in widths[1:]
        ]
        for dense, width in zip(self._dense, widths, strict=False):
            dense.build([None, width])

    def compute_output_spec(self, inputs, training=False):
        return keras.KerasTensor(inputs[0].shape, inputs[0].dtype)

    def call(self, inputs, training=False):
        states, sequence, there = inputs
        if training:
            right = self._score(states[:, :-1], sequence[:, 1:])
            wrong = self._score(states[:, :-1], ops.roll(sequence, 1, axis=0)[:, 1:])
            both = there[:, :-1] * there[:, 1:] * ops.roll(there, 1, axis=0)[:, 1:]
            losses = ops.softplus(-right) + ops.softplus(wrong)
            self.add_loss(ops.sum(losses * both) / ops.maximum(ops.sum(both), 1.0))
        return states

    def _score(self, states, items):
        outputs = ops.concatenate([states, items], axis=-1)
        for dense in self._dense:
            outputs = dense(outputs)
        return ops.squeeze(outputs, -1)


class _EvolvingInterest(keras.layers.Layer):
    """A GRU whose update gate is multiplied by the attention (AUGRU); returns its last state."""

    def __init__(self, seed, **kwargs):
        super().__init__(**kwargs)
        width = CTR_WIDTH
        start = keras.initializers.GlorotNormal(seed)
        self.kernel = self.add_weight([width, 3 * width], start, name="kernel")
        self.recurrent = self.add_weight(
            [width, 3 * width],
            keras.initializers.OrthogonalInitializer(seed=seed),
            name="recurrent",
        )
        self.bias = self.add_weight([2, 3 * width], "zeros", name="bias")

    def call(self, inputs):
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


# ---------------------------------------------------------------------------------- training


@keras.saving.register_keras_serializable(package="mmnet")
class PairLoss(keras.losses.Loss):
    """BPR's loss of rows that come in pairs, a positive and a negative one of its user after it.

    Mean over pairs of -log σ(s⁺ - s⁻), with s = logit(p).

    Call arguments:
        y_true: 1, 0, 1, 0, ..., [batch].
        y_pred: p, [batch].
    """

    def __init__(self, name: str = "pair_loss", **kwargs):
        super().__init__(name=name, **kwargs)

    def call(self, y_true, y_pred):
        """Losses of the pairs, [batch / 2]."""
        p = ops.clip(y_pred, 1e-7, 1 - 1e-7)
        score = ops.log(p) - ops.log1p(-p)
        return ops.softplus(score[1::2] - score[0::2])


def paired_rows(protocol: Protocol, seed: int, epoch: int) -> np.ndarray:
    """Places of training rows, by turns a positive and a negative one of its user.

    Positives come in random order, NEGATIVES times each; the negative row is drawn at random. Users
    without either kind are left out.
    """
    part = protocol.parts["train"]
    user, label = protocol.user[part], protocol.label[part]
    draw = np.random.default_rng([seed, 6, epoch])
    negative = np.flatnonzero(label == 0)
    negative = negative[np.argsort(user[negative], kind="stable")]
    owner = user[negative]
    positive = np.repeat(draw.permutation(np.flatnonzero(label == 1)), NEGATIVES)
    first = np.searchsorted(owner, user[positive])
    last = np.searchsorted(owner, user[positive], side="right")
    both = last > first
    positive, first, last = positive[both], first[both], last[both]
    chosen = negative[first + draw.integers(0, last - first)]
    return np.stack([positive, chosen], axis=1).ravel()
