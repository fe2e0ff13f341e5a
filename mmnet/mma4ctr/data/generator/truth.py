"""The truth behind a generated log: the probability of a positive, for any user and item."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmnet.files import write_atomic

TRUTH = "truth.npz"


@dataclass(frozen=True)
class Truth:
    """The parameters that generated a log.

    Attributes:
        user_ids, item_ids: sorted.
        user_factor: g, [users].
        taste: [users, topics].
        topic, appeal: [items].
        scale: rate / norm.
    """

    user_ids: np.ndarray
    item_ids: np.ndarray
    user_factor: np.ndarray
    taste: np.ndarray
    topic: np.ndarray
    appeal: np.ndarray
    scale: float

    def knows(self, user_ids: np.ndarray, item_ids: np.ndarray) -> bool:
        """Return whether the generated log has all of these users and items."""
        return bool(
            np.isin(user_ids, self.user_ids).all() and np.isin(item_ids, self.item_ids).all()
        )

    def probability(self, user_ids: np.ndarray, item_ids: np.ndarray) -> np.ndarray:
        """P(y = 1) of pairs, float64 [pairs]."""
        user = np.searchsorted(self.user_ids, user_ids)
        item = np.searchsorted(self.item_ids, item_ids)
        return self.of_codes(user, item)

    def of_codes(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        """P(y = 1) of pairs given by their positions in `user_ids` and `item_ids`."""
        logarithm = self.taste[user, self.topic[item]] + self.appeal[item]
        return np.minimum(self.scale * self.user_factor[user] * np.exp(logarithm), 0.95)

    def write(self, path: Path) -> None:
        """Write it next to the files."""
        write_atomic(path, lambda beside: np.savez(beside, **self.__dict__))

    @classmethod
    def read(cls, path: Path) -> Truth:
        """Reads it back."""
        with np.load(path, allow_pickle=False) as stored:
            return cls(**{name: stored[name] for name in stored.files})
