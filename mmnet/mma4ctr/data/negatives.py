"""Negatives of logs that know only what was taken: items drawn uniformly among the others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def other_items(draw: np.random.Generator, items: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """An item for each one taken, uniform among all others.

    Args:
        draw: source of the draws.
        items: items to draw from, int [items], sorted, at least two.
        taken: items among them, int [rows].

    Returns:
        [rows], of the type of `items`.
    """
    drawn = draw.integers(0, len(items) - 1, len(taken))
    return items[drawn + (drawn >= np.searchsorted(items, taken))]


@dataclass(frozen=True)
class Untaken:
    """Uniform draws among the items that a user has not taken.

    The n-th item that is left is found without trial and error: with t_0 < t_1 < ... the places of
    the user's items among all of them, it is at n plus the number of k with t_k - k <= n.

    Attributes:
        items: items to draw from, int [items], sorted.
        first: where the entries of each user begin in `before`, and the end; int64 [users + 1].
        before: t_k - k of each user in turn, plus the user times (items + 1); sorted.
    """

    items: np.ndarray
    first: np.ndarray
    before: np.ndarray

    @classmethod
    def of(cls, items: np.ndarray, user: np.ndarray, item: np.ndarray, users: int) -> Untaken:
        """Draws from `items` without those that each user has taken.

        Args:
            items: int [items], sorted.
            user: a user of each row, below `users`.
            item: what the user has taken, int [rows]; repetitions change nothing.
            users: number of users.
        """
        place = np.minimum(np.searchsorted(items, item), len(items) - 1)
        among = items[place] == item
        pair = np.unique(user[among].astype(np.int64) * len(items) + place[among])
        owner, place = pair // len(items), pair % len(items)
        first = np.searchsorted(owner, np.arange(users + 1))
        number = np.arange(len(pair)) - first[owner]
        return cls(items, first, owner * (len(items) + 1) + place - number)

    @property
    def left(self) -> np.ndarray:
        """Number of items that each user has not taken, int64 [users]."""
        return len(self.items) - np.diff(self.first)

    def draw(self, draw: np.random.Generator, user: np.ndarray) -> np.ndarray:
        """An item for each row, uniform among those that its user has not taken.

        Args:
            draw: source of the draws.
            user: user of each row, int [rows], each with an item left.

        Returns:
            [rows], of the type of `items`.
        """
        nth = draw.integers(0, self.left[user])
        key = user.astype(np.int64) * (len(self.items) + 1) + nth
        passed = np.searchsorted(self.before, key, side="right") - self.first[user]
        return self.items[nth + passed]
