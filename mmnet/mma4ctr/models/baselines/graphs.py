"""LightGCN and NGCF: vectors of users and items, propagated over their interactions."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import keras
import numpy as np
from keras import ops

from mmnet.mma4ctr.models import NumberSpec
from mmnet.mma4ctr.models.baselines.factors import WIDTH, table
from mmnet.mma4ctr.models.baselines.numbers import Inputs, reads_numbers

GRAPH_LAYERS = 3


@reads_numbers
def lightgcn(inputs: Inputs, spec: NumberSpec, seeds: Iterator[int]):
    """See `Graph`."""
    return _graph(inputs, spec, seeds, weights=False)


@reads_numbers
def ngcf(inputs: Inputs, spec: NumberSpec, seeds: Iterator[int]):
    """See `Graph`, with `weights`."""
    return _graph(inputs, spec, seeds, weights=True)


def _graph(inputs: Inputs, spec: NumberSpec, seeds: Iterator[int], *, weights: bool):
    own = [*itertools.islice(seeds, num_seeds(weights=weights))]
    graph = Graph(spec.users, spec.items, spec.pairs, own, weights=weights)
    return ops.sigmoid(graph([inputs.user, inputs.item]))


def num_seeds(*, weights: bool) -> int:
    """Number of seeds of a graph: for two tables, and for two matrices per layer."""
    return 2 + 2 * GRAPH_LAYERS * weights


@keras.saving.register_keras_serializable(package="mmnet")
class Graph(keras.layers.Layer):
    """LightGCN (He et al., 2020) and NGCF (Wang et al., 2019): propagation over interactions.

    A layer sends every vector to its neighbours, over the root of both numbers of neighbours.
    LightGCN takes the mean of all layers; NGCF has two matrices a layer, LeakyReLU, and puts the
    layers side by side.

    Args:
        users: number of users.
        items: number of items.
        pairs: user and item of what was taken, int [2, pairs].
        seeds: seeds of the vectors of users and of items, and with `weights` of the matrices.
        weights: whether there are matrices, as in NGCF.

    Call arguments:
        inputs: user and item, int32 [batch] each.

    Returns:
        Scores, [batch].
    """

    def __init__(
        self,
        users: int,
        items: int,
        pairs: np.ndarray | Sequence[Sequence[int]],
        seeds: Sequence[int],
        *,
        weights: bool,
        **kwargs,
    ):
        super().__init__(**kwargs)
        pairs = np.asarray(pairs)
        self._pairs = pairs
        self._config = {"users": users, "items": items, "seeds": list(seeds), "weights": weights}
        of_user, of_item, *of_dense = seeds
        self.user = table(self, users, WIDTH, "user", of_user)
        self.item = table(self, items, WIDTH, "item", of_item)
        self.users = users
        # A node is a user, or an item after all users; each pair is there in both directions.
        self._from = np.concatenate([pairs[0], pairs[1] + users])
        self._to = np.concatenate([pairs[1] + users, pairs[0]])
        degree = np.maximum(np.bincount(self._from, minlength=users + items), 1)
        self._norm = ((degree[self._from] * degree[self._to]) ** -0.5).astype(np.float32)
        # Each pair of matrices is of one layer; names that are given stay the same from run to run.
        dense = [
            keras.layers.Dense(
                WIDTH,
                kernel_initializer=keras.initializers.GlorotNormal(seed),
                name=f"dense_{number}",
            )
            for number, seed in enumerate(of_dense)
        ]
        for one in dense:
            one.build([None, WIDTH])
        self._dense = [dense[2 * layer : 2 * layer + 2] for layer in range(len(dense) // 2)]

    def call(self, inputs):
        """Scores, [batch]."""
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

    def get_config(self):
        """The arguments; pairs as lists."""
        return {**super().get_config(), **self._config, "pairs": self._pairs.tolist()}

    def _spread(self, nodes):
        messages = ops.take(nodes, self._from, 0) * self._norm[:, None]
        return ops.segment_sum(messages, self._to, num_segments=nodes.shape[0])
