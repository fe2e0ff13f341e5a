"""One model for all baselines that know users and items by number."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops


class Baseline(keras.Model):
    """(state, item) to the probability of a positive, as `network.Clicks` does.

    Args:
        net: network of user, item and history; in training its outputs are what its loss reads.
        state_user: user of each state.
        history: see `histories`.
        score_rows: how many rows are scored at a time.
    """

    def __init__(
        self, net: keras.Model, state_user: np.ndarray, history: np.ndarray, score_rows: int
    ):
        super().__init__(name=f"baseline_{net.name}")
        self.rows = StateRows(history.shape, name="rows")
        self.rows.users.assign(state_user)
        self.rows.history.assign(history)
        self.net, self.score_rows = net, score_rows

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
