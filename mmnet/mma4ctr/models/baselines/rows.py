"""Inputs of the baselines, and the rows that they are trained on."""

from __future__ import annotations

import numpy as np

from mmnet.mma4ctr.data.protocols import Protocol

NEGATIVES = 4


def histories(protocol: Protocol, length: int) -> np.ndarray:
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


def taken_rows(protocol: Protocol, seed: int, epoch: int) -> np.ndarray:
    """Places of the training rows that were taken, in random order."""
    part = protocol.parts["train"]
    draw = np.random.default_rng([seed, 7, epoch])
    return draw.permutation(np.flatnonzero(protocol.label[part] == 1))
