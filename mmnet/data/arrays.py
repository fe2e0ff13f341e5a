"""Arrays in memory, arrays in memory-mapped files, and exact sums."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mmnet.data import budgets

FEWER = "make --period wider, or start later with --first_period"
"""Advice that makes arrays of items and periods smaller."""

HALF_BITS = 32
LOWER_HALF = (1 << HALF_BITS) - 1
"""Sums that may exceed int64 are added up in two halves of this many bits, upper and lower."""

Allocate = Callable[[str, tuple[int, ...], str], np.ndarray]
"""Allocates an array of zeros by name, shape and dtype."""


def exact_sum(numbers: np.ndarray) -> int:
    """Returns the exact sum of non-negative int64 numbers, even where int64 would overflow.

    >>> exact_sum(np.full(4, 1 << 62)) == 1 << 64
    True
    """
    upper, lower = (numbers >> HALF_BITS).sum(), (numbers & LOWER_HALF).sum()
    return (int(upper) << HALF_BITS) + int(lower)


def in_memory(name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Allocates an array of zeros in memory; `new_array` allocates one in a file.

    Raises:
        InputError: it does not fit into memory.
    """
    budgets.check_memory(_size(shape, dtype), f"{shape[0]:,} rows of {name!r}", _smaller(name))
    return np.zeros(shape, dtype)


def new_array(folder: Path, name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Creates a `.npy` file of zeros and maps it into memory, to be filled in.

    Its disk space is allocated at once: writing to a mapped file on a full disk kills the process.

    Args:
        folder: directory of the file.
        name: name of the array, and of the file without its suffix.
        shape: shape of the array; an empty one is neither written nor mapped.
        dtype: type of the array.

    Raises:
        InputError: the disk does not have enough space.
        OSError: the disk became full in the meantime.
    """
    if not np.prod(shape):
        return np.zeros(shape, dtype)
    path = folder / f"{name}.npy"
    needed = _size(shape, dtype)
    what, fix = f"{shape[0]:,} rows of {name!r}", _smaller(name)
    budgets.check_disk(folder, needed, what, fix)
    array = np.lib.format.open_memmap(path, "w+", np.dtype(dtype), shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def _size(shape: tuple[int, ...], dtype: str) -> int:
    """Returns the size of an array in bytes."""
    return math.prod(shape) * np.dtype(dtype).itemsize


def _smaller(name: str) -> str:
    """Returns advice that makes an array smaller."""
    of_periods = name in ("clicks", "shares", "history")
    return FEWER if of_periods else "use fewer items, or leave these columns or vectors out"
