"""Stable hashes of items, keys and files, which do not depend on order, shard or process."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd


def hash_items(ids: np.ndarray) -> np.ndarray:
    """Returns a stable 64-bit hash of each item id, uint64 [items]."""
    return pd.util.hash_array(
        np.asarray(ids, object), hash_key="mmnet item hash.", categorize=False
    )


def uniform(*keys: np.ndarray | int) -> np.ndarray:
    """Draws uniformly from [0, 1), once per combination of 64-bit keys, which are broadcast.

    Each key enters between two full mixing steps, so that (1, 2) and (2, 1) give unrelated draws.

    >>> bool(uniform(1, 2) == uniform(1, 2)), bool(uniform(1, 2) == uniform(2, 1))
    (True, False)
    """
    state = np.zeros(1, np.uint64)
    for key in keys:
        state = mix(state ^ _as_uint64(key))
    return (state >> np.uint64(11)) * 2.0**-53


def mix(state: np.ndarray) -> np.ndarray:
    """Applies one step of SplitMix64 (Steele, Lea and Flood, 2014), a bijection of uint64."""
    state = state + np.uint64(0x9E3779B97F4A7C15)  # uint64 arrays wrap without a warning
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def _as_uint64(key: np.ndarray | int) -> np.ndarray:
    """Returns the bits of a key; a negative integer wraps."""
    if isinstance(key, int):
        return np.array([key & (2**64 - 1)], np.uint64)
    return key if key.dtype == np.uint64 else key.astype(np.int64).view(np.uint64)


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file, read in chunks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
