"""Arrays in memory, and in files for what need not fit there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

Allocate = Callable[[str, tuple[int, ...], str], np.ndarray]
"""Makes an array of zeros by name, shape and dtype."""


def in_memory(name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """An array of zeros that fits in memory; `new_array` makes one in a file."""
    del name
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
        OSError: there is no room.
    """
    if not np.prod(shape):
        return np.zeros(shape, dtype)
    path = folder / f"{name}.npy"
    array = np.lib.format.open_memmap(path, "w+", np.dtype(dtype), shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array
