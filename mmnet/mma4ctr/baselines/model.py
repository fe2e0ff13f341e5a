"""One model for all baselines that know users and items by number."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
from keras import ops

from mmnet import checks
from mmnet.mma4ctr.baselines.factors import Chain, Factors
from mmnet.mma4ctr.baselines.graphs import Graph, num_seeds
from mmnet.mma4ctr.baselines.interest import interest
from mmnet.mma4ctr.baselines.sequences import Cloze, SessionGraph
from mmnet.mma4ctr.config import MODELS
from mmnet.models.seeding import seeded

PAIRWISE = ("bpr", "fpmc", "lightgcn", "ngcf")
SEQUENTIAL = ("bert4rec", "gcsan")
NAMES = MODELS[1:]


def history_length(name: str) -> int:
    """How many of the last items a model reads; 50 is RecBole's own."""
    return 50 if name in SEQUENTIAL else 10


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
        seed: int,
        output_bias: float = 0.0,
    ):
        super().__init__(name=f"baseline_{checks.one_of(NAMES[1:], model=name)}")
        self.rows = StateRows(history.shape, name="rows")
        self.rows.users.assign(state_user)
        self.rows.history.assign(history)
        self.score_rows = 4096 if name in SEQUENTIAL else 65_536
        self.net = _network(name, users, items, history.shape[1], pairs, seed, output_bias)

    def scale_for(self, split: str) -> None:
        """Nothing is scaled here."""

    def call(self, inputs, training=False):
        """Probabilities, [batch]."""
        user, history = self.rows(inputs["state"])
        item = ops.cast(inputs["item"], "int32")
        return self.net([user, item, history], training=training)


@keras.saving.register_keras_serializable(package="mmnet")
class StateRows(keras.layers.Layer):
    """The user and the history of states, from tables that training never changes.

    Args:
        shape: number of states, and length of their histories.

    Call arguments:
        state: int32 [batch].

    Returns:
        User, int32 [batch], and history, int32 [batch, length].
    """

    def __init__(self, shape: tuple[int, int], **kwargs):
        kwargs.setdefault("trainable", False)
        super().__init__(**kwargs)
        self.shape = tuple(shape)
        how = {"initializer": "zeros", "dtype": "int32", "trainable": False}
        self.users = self.add_weight([shape[0]], name="users", **how)
        self.history = self.add_weight(shape, name="history", **how)

    def call(self, state):
        """User, int32 [batch], and history, int32 [batch, length]."""
        return ops.take(self.users, state, axis=0), ops.take(self.history, state, axis=0)

    def get_config(self):
        """The arguments."""
        return {**super().get_config(), "shape": list(self.shape)}


def _network(name, users, items, length, pairs, seed, output_bias) -> keras.Model:
    user = keras.Input([], dtype="int32", name="user")
    item = keras.Input([], dtype="int32", name="item")
    history = keras.Input([length], dtype="int32", name="history")
    seeds = iter(np.random.default_rng([seed, 5]).integers(0, 2**31, 40).tolist())

    def some(number: int) -> list[int]:
        return [next(seeds) for _ in range(number)]

    def graph(weights: bool) -> Graph:
        own = some(num_seeds(weights=weights))
        return Graph(users, items, pairs, own, weights=weights)

    both, what = [user, item], (user, item, history, users, items, seeds, output_bias)
    build: dict[str, Callable] = {
        "bpr": lambda: ops.sigmoid(Factors(users, items, next(seeds))(both)),
        "fpmc": lambda: ops.sigmoid(Chain(users, items, some(4))([*both, history])),
        "lightgcn": lambda: ops.sigmoid(graph(weights=False)(both)),
        "ngcf": lambda: ops.sigmoid(graph(weights=True)(both)),
        "din": lambda: ops.sigmoid(interest(*what, evolves=False)),
        "dien": lambda: ops.sigmoid(interest(*what, evolves=True)),
        "bert4rec": lambda: Cloze(items, length, next(seeds))(item, history),
        "gcsan": lambda: SessionGraph(items, next(seeds))(item, history),
    }
    with seeded(seed):  # initialisers inside Keras' attention take no seeds of their own
        outputs = build[name]()
    return keras.Model([user, item, history], outputs, name=name)
