"""One model for all baselines that know users and items by number."""

from __future__ import annotations

from typing import Literal

import keras
import numpy as np
from keras import ops


class Baseline(keras.Model):
    """(state, item) to the probability of a positive, as `network.Clicks` does.

    Args:
        net: network of user, item, history and, if it reads them, other items; to scores, whose
            sigmoid is the probability, and in training to what its loss reads.
        state_user: user of each state.
        history: see `rows.histories`.
        score_rows: how many rows are scored at a time.
        others: see `rows.histories`, where the network reads them.
        tables: dtype of the tables; int32 takes half of the memory, and int64 can be on a GPU.
    """

    def __init__(
        self,
        net: keras.Model,
        state_user: np.ndarray,
        history: np.ndarray,
        score_rows: int,
        others: np.ndarray | None = None,
        tables: Literal["int32", "int64"] = "int32",
    ):
        super().__init__(name=f"baseline_{net.name}")
        self.rows = StateRows(history.shape, others=others is not None, tables=tables, name="rows")
        self.rows.users.assign(state_user)
        self.rows.history.assign(history)
        if self.rows.others is not None:
            self.rows.others.assign(others)
        self.net, self.score_rows = net, score_rows

    def scale_for(self, split: str) -> None:
        """Nothing is scaled here."""

    def call(self, inputs, training=False):
        """Probabilities, [batch]; in training what the loss reads, [batch]."""
        found = self._outputs(inputs, training)
        return found if training else ops.sigmoid(found)

    def raw(self, inputs):
        """Scores, [batch], of any size."""
        return self._outputs(inputs, training=False)

    def _outputs(self, inputs, training):
        user, *tables = self.rows(inputs["state"])
        item = ops.cast(inputs["item"], "int32")
        return self.net([user, item, *tables], training=training)


@keras.saving.register_keras_serializable(package="mmnet")
class StateRows(keras.layers.Layer):
    """The user and the history of states, from tables that training never changes.

    Args:
        shape: number of states, and length of their histories.
        others: whether there is another item for each one of a history.
        tables: dtype of the tables.

    Call arguments:
        state: int32 [batch].

    Returns:
        User, int32 [batch], and history, int32 [batch, length]; with `others` also those, of the
        shape of the history.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        others: bool = False,
        tables: Literal["int32", "int64"] = "int32",
        **kwargs,
    ):
        kwargs.setdefault("trainable", False)
        super().__init__(**kwargs)
        self.shape, self.tables = tuple(shape), tables
        how = {"initializer": "zeros", "dtype": tables, "trainable": False}
        self.users = self.add_weight([shape[0]], name="users", **how)
        self.history = self.add_weight(shape, name="history", **how)
        self.others = self.add_weight(shape, name="others", **how) if others else None

    def call(self, state):
        """See the class."""
        tables = [self.users, self.history, *([] if self.others is None else [self.others])]
        return tuple(ops.cast(ops.take(one, state, axis=0), "int32") for one in tables)

    def get_config(self):
        """The arguments."""
        own = {"shape": list(self.shape), "others": self.others is not None, "tables": self.tables}
        return {**super().get_config(), **own}
