"""Arrays in memory, and in files for what need not fit there."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mmnet.data import budgets

FEWER = "make --period wider, or start later by --first_period"
"""What makes arrays of items and periods smaller."""

HALF_BITS = 32
LOWER_HALF = (1 << HALF_BITS) - 1
"""Sums that may pass int64 are added up in two halves, upper and lower, of so many bits."""

Allocate = Callable[[str, tuple[int, ...], str], np.ndarray]
"""Makes an array of zeros by name, shape and dtype."""


def exact_sum(numbers: np.ndarray) -> int:
    """The sum of int64 numbers of 0 or more, exact where int64 would overflow.

    >>> exact_sum(np.full(4, 1 << 62)) == 1 << 64
    True
    """
    upper, lower = (numbers >> HALF_BITS).sum(), (numbers & LOWER_HALF).sum()
    return (int(upper) << HALF_BITS) + int(lower)


def in_memory(name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """An array of zeros in memory; `new_array` makes one in a file.

    Raises:
        InputError: it does not fit.
    """
    budgets.check_memory(_size(shape, dtype), f"{shape[0]:,} rows of {name!r}", _smaller(name))
    return np.zeros(shape, dtype)


def new_array(folder: Path, name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Makes a `.npy` file of zeros and maps it, to be filled in.

    Its room on the disk is taken at once: a mapped file that finds none later ends the process.

    Args:
        folder: of the file.
        name: of the array, and of the file without its suffix.
        shape: of the array; an empty one is not mapped, nor written.
        dtype: of the array.

    Raises:
        InputError: there is no room.
        OSError: there is no longer any room.
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
    """Bytes of an array."""
    return math.prod(shape) * np.dtype(dtype).itemsize


def _smaller(name: str) -> str:
    """What makes an array smaller."""
    of_periods = name in ("clicks", "shares", "history")
    return FEWER if of_periods else "give fewer items, or leave these columns or vectors out"
