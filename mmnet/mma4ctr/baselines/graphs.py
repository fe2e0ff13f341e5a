"""LightGCN and NGCF: vectors of users and items, spread over what was taken."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from mmnet.mma4ctr.baselines.factors import WIDTH, table

GRAPH_LAYERS = 3


class Graph(keras.layers.Layer):
    """LightGCN (He et al., 2020) and NGCF (Wang et al., 2019): vectors spread over what was taken.

    A layer sends every vector to its neighbours, over the root of both numbers of neighbours.
    LightGCN takes the mean of all layers; NGCF has two matrices a layer, LeakyReLU, and puts the
    layers side by side.
    """

    def __init__(self, users, items, pairs, seeds, *, weights, **kwargs):
        super().__init__(**kwargs)
        self.user = table(self, users, WIDTH, "user", next(seeds))
        self.item = table(self, items, WIDTH, "item", next(seeds))
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

    def _spread(self, nodes):
        messages = ops.take(nodes, self._from, 0) * self._norm[:, None]
        return ops.segment_sum(messages, self._to, num_segments=nodes.shape[0])
