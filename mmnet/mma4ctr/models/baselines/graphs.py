"""LightGCN and NGCF: vectors of users and items, propagated over their interactions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from mmnet.mma4ctr.models import NumberSpec
from mmnet.mma4ctr.models.baselines.factors import WIDTH, table
from mmnet.mma4ctr.models.baselines.losses import total_norm, total_square
from mmnet.mma4ctr.models.baselines.numbers import Inputs, reads_numbers
from mmnet.mma4ctr.models.deviations import NORM

GRAPH_LAYERS = 3
MESSAGE_DROPOUT = 0.1
"""Share of a layer's outputs that NGCF hides in training."""

RECBOLE_WEIGHT = 1e-5
"""Weight of RecBole's regularizer of both models."""


@reads_numbers
def lightgcn(inputs: Inputs, spec: NumberSpec, seeds: Iterator[int]):
    """See `LightGraph`."""
    graph = LightGraph(
        spec.users,
        spec.items,
        spec.pairs,
        [next(seeds), next(seeds)],
        layers=2 if "two_layers" in spec.deviations else GRAPH_LAYERS,
        norms=NORM in spec.deviations,
        name="graph",
    )
    return graph([inputs.user, inputs.item])


@reads_numbers
def ngcf(inputs: Inputs, spec: NumberSpec, seeds: Iterator[int]):
    """See `NeuralGraph`."""
    graph = NeuralGraph(
        spec.users,
        spec.items,
        spec.pairs,
        [next(seeds) for _ in range(2 + 2 * GRAPH_LAYERS)],
        biases="layer_biases" in spec.deviations,
        normalized="normalized_layers" in spec.deviations,
        dropout_at_test="dropout_at_test" in spec.deviations,
        norms=NORM in spec.deviations,
        name="graph",
    )
    return graph([inputs.user, inputs.item])


class _Graph(keras.layers.Layer):
    """Propagation over the interactions of users and items.

    A layer sends every vector to its neighbours, divided by the root of both numbers of neighbours.

    Args:
        users: number of users.
        items: number of items.
        pairs: user and item of what was taken, int [2, pairs], each pair once.
        seeds: seeds of the vectors of users and of items; further ones are the subclass' own.
        norms: regularizes the norms of a batch's vectors, as RecBole does, and not their squares.
        uniform: vectors start uniform, and not normal.

    Call arguments:
        inputs: user and item, int32 [batch] each; in training by turns a positive row and a
            negative one of its user.

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
        norms: bool,
        uniform: bool,
        **kwargs,
    ):
        super().__init__(**kwargs)
        pairs = np.asarray(pairs)
        self._pairs = pairs
        self._config: dict[str, Any] = {"users": users, "items": items, "seeds": list(seeds)}
        self.norms = norms
        self.user = table(self, users, WIDTH, "user", seeds[0], uniform=uniform)
        self.item = table(self, items, WIDTH, "item", seeds[1], uniform=uniform)
        self.users = users
        # A node is a user, or an item after all users; each pair is there in both directions.
        self._from = np.concatenate([pairs[0], pairs[1] + users])
        self._to = np.concatenate([pairs[1] + users, pairs[0]])
        degree = np.maximum(np.bincount(self._from, minlength=users + items), 1)
        self._norm = ((degree[self._from] * degree[self._to]) ** -0.5).astype(np.float32)

    def call(self, inputs, training=False):
        """Scores, [batch]; in training the regularizer is added."""
        user, item = inputs
        nodes = ops.concatenate([self.user, self.item], axis=0)
        found = self.propagate(nodes, training)
        if training:
            pairs = ops.cast(ops.shape(user)[0] // 2, nodes.dtype)
            self.add_loss(self.penalty(nodes, found, user, item) / pairs)
        both = ops.take(found, user, 0) * ops.take(found, item + self.users, 0)
        return ops.sum(both, axis=-1)

    def propagate(self, nodes, training):
        """Final vectors of all nodes, from the first ones."""
        raise NotImplementedError

    def penalty(self, nodes, found, user, item):
        """Regularizer of a batch, summed over it."""
        raise NotImplementedError

    def get_config(self):
        """The arguments; pairs as lists."""
        return {
            **super().get_config(),
            **self._config,
            "norms": self.norms,
            "pairs": self._pairs.tolist(),
        }

    def spread(self, nodes):
        """Sums over neighbours, [nodes, width]."""
        messages = ops.take(nodes, self._from, 0) * self._norm[:, None]
        return ops.segment_sum(messages, self._to, num_segments=nodes.shape[0])

    def batch_rows(self, nodes, user, item):
        """Vectors of a batch's users, positive items and negative items, [pairs, width] each."""
        item = item + self.users
        return [ops.take(nodes, one, 0) for one in (user[::2], item[::2], item[1::2])]


@keras.saving.register_keras_serializable(package="mmnet")
class LightGraph(_Graph):
    """LightGCN (He et al., 2020): propagation without weights, and the mean of all layers.

    Regularizes the first layer: 1e-4 times the squares of a batch's vectors, the weight that the
    paper found best in most cases, over its pairs.

    Args:
        users, items, pairs, norms: see `_Graph`.
        seeds: seeds of the vectors of users and of items.
        layers: number of propagations.
    """

    def __init__(self, users, items, pairs, seeds, *, layers: int, norms: bool = False, **kwargs):
        super().__init__(users, items, pairs, seeds, norms=norms, uniform=True, **kwargs)
        self._config["layers"] = self.layers = layers

    def propagate(self, nodes, training):
        """Mean of all layers, [nodes, WIDTH]."""
        found = [nodes]
        for _ in range(self.layers):
            found.append(self.spread(found[-1]))
        return ops.mean(ops.stack(found), axis=0)

    def penalty(self, nodes, found, user, item):
        """See the class."""
        first = self.batch_rows(nodes, user, item)
        return RECBOLE_WEIGHT * total_norm(first) if self.norms else 1e-4 * total_square(first)


@keras.saving.register_keras_serializable(package="mmnet")
class NeuralGraph(_Graph):
    """NGCF (Wang et al., 2019): two matrices a layer, and all layers side by side.

    With L x what nodes hear of vectors x, Eq. 7 of the paper:

        x' = LeakyReLU((x + L x) W1 + (x ∘ L x) W2)

    A tenth of x' is hidden in training (message dropout). Regularizes the squares of a batch's
    vectors of the first layer, and of the matrices, with weight 1e-5, over the pairs of the batch.

    Args:
        users, items, pairs, norms: see `_Graph`.
        seeds: seeds of the vectors of users and of items, and of the matrices, two a layer.
        biases: adds biases to the products with W1 and W2.
        normalized: scales rows of x' to norm 1.
        dropout_at_test: hides a tenth of x' always.
    """

    def __init__(
        self,
        users,
        items,
        pairs,
        seeds,
        *,
        biases: bool = False,
        normalized: bool = False,
        dropout_at_test: bool = False,
        norms: bool = False,
        **kwargs,
    ):
        super().__init__(users, items, pairs, seeds, norms=norms, uniform=False, **kwargs)
        own = {"biases": biases, "normalized": normalized, "dropout_at_test": dropout_at_test}
        self._config |= own
        self.normalized, self.dropout_at_test = normalized, dropout_at_test
        # Each pair of matrices is of one layer; names that are given stay the same from run to run.
        dense = [
            keras.layers.Dense(
                WIDTH,
                use_bias=biases,
                kernel_initializer=keras.initializers.GlorotNormal(seed),
                name=f"dense_{number}",
            )
            for number, seed in enumerate(seeds[2:])
        ]
        for one in dense:
            one.build([None, WIDTH])
        self.dense = [dense[2 * layer : 2 * layer + 2] for layer in range(len(dense) // 2)]
        self.dropout = keras.layers.Dropout(MESSAGE_DROPOUT, seed=seeds[-1])

    def propagate(self, nodes, training):
        """All layers side by side, [nodes, WIDTH · layers]."""
        hides = training or self.dropout_at_test
        found = [nodes]
        for first, second in self.dense:
            heard = self.spread(found[-1])
            outputs = first(found[-1] + heard) + second(found[-1] * heard)
            outputs = self.dropout(ops.leaky_relu(outputs, 0.2), training=hides)
            found.append(ops.normalize(outputs, axis=-1) if self.normalized else outputs)
        return ops.concatenate(found, axis=-1)

    def penalty(self, nodes, found, user, item):
        """See the class; RecBole's is of the final vectors."""
        if self.norms:
            return RECBOLE_WEIGHT * total_norm(self.batch_rows(found, user, item))
        kernels = [dense.kernel for pair in self.dense for dense in pair]
        return 1e-5 * total_square([*self.batch_rows(nodes, user, item), *kernels])
