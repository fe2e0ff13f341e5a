"""Inputs of the baselines, and the rows that models are trained on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mmnet.mma4ctr.data.negatives import Untaken, other_items
from mmnet.mma4ctr.data.protocols import Protocol


class TrainingRows(NamedTuple):
    """Rows of an epoch, in the order of its batches.

    Attributes:
        state, item: int32 [rows].
        label: int8 [rows].
    """

    state: np.ndarray
    item: np.ndarray
    label: np.ndarray


def histories(protocol: Protocol, length: int) -> np.ndarray:
    """The last items that each state has taken, counted from 1, oldest first; 0 where none.

    With time bins those of earlier bins, and of one bin in no order that means anything.

    Returns:
        int32 [states, length], the entries at the right.
    """
    place, there = _places(protocol, length)
    return _at(_taken_items(protocol), place, there)


def other_histories(protocol: Protocol, length: int, seed: int) -> np.ndarray:
    """Draw another item for each one of `histories`, once for each row of the log.

    It is uniform among the other items that were taken, 0 where there is no history.
    """
    place, there = _places(protocol, length)
    taken = _taken_items(protocol)
    items = np.unique(taken)
    if len(items) < 2:
        return np.zeros(place.shape, np.int32)
    return _at(other_items(np.random.default_rng([seed, 9]), items, taken), place, there)


def _taken_items(protocol: Protocol) -> np.ndarray:
    """Items that were taken, in the order of user and time bin."""
    taken, key = _taken(protocol)
    return protocol.edges.item[taken[np.argsort(key, kind="stable")]]


def _taken(protocol: Protocol) -> tuple[np.ndarray, np.ndarray]:
    """Edges that were taken, and the number of the moment of each."""
    edges, moments = protocol.edges, protocol.bins + 1 if protocol.bins else 1
    taken = np.flatnonzero(edges.label == 1)
    return taken, edges.user[taken].astype(np.int64) * moments + edges.bin[taken]


def _places(protocol: Protocol, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the histories are in `_taken_items`, and whether there is an item."""
    _, key = _taken(protocol)
    key, moments = np.sort(key), protocol.bins + 1 if protocol.bins else 1
    state = np.arange(protocol.num_states, dtype=np.int64)
    if protocol.edge_states:
        end, first = state, np.searchsorted(key, protocol.state_user)
    else:
        end = np.searchsorted(key, state if protocol.bins else state + 1)
        first = np.searchsorted(key, state // moments * moments)
    place = end[:, None] - np.arange(length, 0, -1)
    return place, place >= first[:, None]


def _at(item: np.ndarray, place: np.ndarray, there: np.ndarray) -> np.ndarray:
    if not len(item):
        return np.zeros(place.shape, np.int32)
    return np.where(there, item[np.maximum(place, 0)] + 1, 0).astype(np.int32)


def graph(protocol: Protocol) -> np.ndarray:
    """Pairs (user, item) that were taken in the training rows, int64 [2, pairs]."""
    part = protocol.parts["train"]
    taken = protocol.label[part] == 1
    pairs = np.stack([protocol.user[part][taken], protocol.item[part][taken]]).astype(np.int64)
    return np.unique(pairs, axis=1)


def permuted_rows(protocol: Protocol, seed: int, epoch: int) -> TrainingRows:
    """All training rows in random order, each once."""
    part = protocol.parts["train"]
    order = np.random.default_rng([seed, 4, epoch]).permutation(part.stop - part.start)
    item = _items(protocol, seed, epoch)
    return TrainingRows(protocol.state[part][order], item[order], protocol.label[part][order])


def paired_rows(protocol: Protocol, seed: int, epoch: int) -> TrainingRows:
    """By turns a positive row, in random order, and one with an item that its user has not taken.

    The item is uniform among those of the training rows without those that the user took in them.
    Users who have taken all of them are left out.
    """
    part = protocol.parts["train"]
    state, item = protocol.state[part], _items(protocol, seed, epoch)
    user, draw = protocol.user[part], np.random.default_rng([seed, 6, epoch])
    positive = draw.permutation(np.flatnonzero(protocol.label[part] == 1))
    if protocol.negatives is not None:
        drawn = item[positive + 1]
    else:
        untaken = Untaken.of(
            np.unique(item), user[positive], item[positive], int(user.max(initial=0)) + 1
        )
        positive = positive[untaken.left[user[positive]] > 0]
        drawn = untaken.draw(draw, user[positive])
    return _pairs(np.repeat(state[positive], 2), item[positive], drawn)


def shown_pairs(protocol: Protocol, seed: int, epoch: int) -> TrainingRows:
    """By turns a positive row, in random order, and a negative row of its user, drawn at random.

    Users without either kind are left out.
    """
    part = protocol.parts["train"]
    user, item, label = protocol.user[part], protocol.item[part], protocol.label[part]
    state, draw = protocol.state[part], np.random.default_rng([seed, 6, epoch])
    negative = np.flatnonzero(label == 0)
    negative = negative[np.argsort(user[negative], kind="stable")]
    owner = user[negative]
    positive = draw.permutation(np.flatnonzero(label == 1))
    first = np.searchsorted(owner, user[positive])
    last = np.searchsorted(owner, user[positive], side="right")
    both = last > first
    positive, first, last = positive[both], first[both], last[both]
    chosen = negative[first + draw.integers(0, last - first)]
    return _pairs(state[np.stack([positive, chosen], 1)].ravel(), item[positive], item[chosen])


def _pairs(state: np.ndarray, positive: np.ndarray, negative: np.ndarray) -> TrainingRows:
    label = np.tile(np.array([1, 0], np.int8), len(positive))
    return TrainingRows(state, np.stack([positive, negative], axis=1).ravel(), label)


def taken_rows(protocol: Protocol, seed: int, epoch: int) -> TrainingRows:
    """The training rows that were taken, in random order."""
    part = protocol.parts["train"]
    draw = np.random.default_rng([seed, 7, epoch])
    order = draw.permutation(np.flatnonzero(protocol.label[part] == 1))
    return TrainingRows(*(column[part][order] for column in protocol.columns))


def _items(protocol: Protocol, seed: int, epoch: int) -> np.ndarray:
    """Items of the training rows; where negatives are drawn, those of this epoch."""
    part = protocol.parts["train"]
    item = protocol.item[part]
    if protocol.negatives is None:
        return item
    draw, taken = np.random.default_rng([seed, 10, epoch]), item[::2]
    drawn = protocol.negatives(draw, protocol.user[part][::2], taken)
    return np.stack([taken, drawn], axis=1).ravel()
