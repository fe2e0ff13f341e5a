"""Rows sorted into shards of items: in memory while they are few, otherwise in files."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from mmnet.files import scratch_directory

SPOOL_ROWS = 1 << 22
"""Number of rows to keep in memory before they are written to files."""


class Spool:
    """Rows of one dtype, read back by shard in their original order.

    Args:
        dtype: type of a row.
        num_shards: number of shards.
        parent: directory for the files; default: the system's temporary directory.

    >>> spool = Spool(np.dtype(np.int64), num_shards=2)
    >>> spool.add(np.array([1, 0, 1]), np.array([7, 8, 9]))
    >>> spool.shard(0), spool.shard(1)
    (array([8]), array([7, 9]))
    """

    def __init__(self, dtype: np.dtype, num_shards: int, parent: str | Path | None = None):
        self.dtype, self.num_shards = dtype, num_shards
        self._parent = parent
        self._held: list[tuple[np.ndarray, np.ndarray]] = []  # rows by shard, and where each starts
        self._rows_held = 0
        self._scratch: tempfile.TemporaryDirectory | None = None

    def add(self, shards: np.ndarray, rows: np.ndarray) -> None:
        """Adds rows.

        Args:
            shards: int [rows], number of each row's shard.
            rows: [rows] of the dtype.
        """
        self.hold(*self.sorted(shards, rows))

    def sorted(self, shards: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns rows in the order of their shards, and where each shard starts, for `hold`."""
        if (shards[1:] < shards[:-1]).any():
            order = np.argsort(shards, kind="stable")
            shards, rows = shards[order], rows[order]
        return rows, np.searchsorted(shards, np.arange(self.num_shards + 1))

    def hold(self, rows: np.ndarray, starts: np.ndarray) -> None:
        """Adds sorted rows; parts of a table must be added in their order."""
        self._held.append((rows, starts))
        self._rows_held += len(rows)
        if self._rows_held >= SPOOL_ROWS:
            self._to_files()

    def shard(self, number: int) -> np.ndarray:
        """Returns the rows of one shard."""
        parts = [rows[starts[number] : starts[number + 1]] for rows, starts in self._held]
        if self._scratch:
            file = self._file(self._scratch, number)
            if file.exists():
                parts.insert(0, np.fromfile(file, self.dtype))
        return np.concatenate(parts) if parts else np.zeros(0, self.dtype)

    def mapped(self, number: int) -> np.ndarray:
        """Returns the rows of one shard as a writable array; a mapped file if there are many."""
        if self._scratch is None:
            return self.shard(number)
        self._to_files()
        return np.memmap(self._file(self._scratch, number), self.dtype, "r+")

    def _to_files(self) -> None:
        if self._scratch is None:
            self._scratch = scratch_directory(self._parent)
        for number in range(self.num_shards):
            parts = [rows[starts[number] : starts[number + 1]] for rows, starts in self._held]
            if any(map(len, parts)):
                with self._file(self._scratch, number).open("ab") as file:
                    for part in parts:
                        file.write(part.tobytes())
        self._held, self._rows_held = [], 0

    @staticmethod
    def _file(scratch: tempfile.TemporaryDirectory, number: int) -> Path:
        return Path(scratch.name, f"{number}.bin")
