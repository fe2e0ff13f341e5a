"""Cache of the parts of a network that depend on items alone, by content.

A file has the static parts of one range of items. Its name is a hash of the model and of everything
that these parts depend on, so the same items find it again in a later period or another catalogue.
"""

from __future__ import annotations

import hashlib
import os
import re
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from mmnet.data.outputs import write_named
from mmnet.files import UNREADABLE


class StaticCache:
    """A cache of static parts of items in a directory.

    Args:
        directory: cache directory, created if needed; None: no cache.
        model: fingerprint of the model.
    """

    def __init__(self, directory: str | Path | None, model: str):
        self._folder = Path(directory, model[:32]) if directory else None
        self.hits = self.computed = 0

    def known(self, identity: str, num_items: int) -> np.ndarray | None:
        """Returns the static parts of items in unchanged files; None if they are not cached.

        Args:
            identity: hash of the files, under which `remember` has kept a key; may be empty.
            num_items: number of items.
        """
        if self._folder is None or not identity:
            return None
        try:
            key = self._key_file(identity).read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            return None
        if not re.fullmatch("[0-9a-f]{64}", key):
            return None
        found = _read(self._file(key), num_items)
        if found is not None:
            self.hits += num_items
        return found

    def remember(self, identity: str, key: str) -> None:
        """Keeps the key of the items in some files, for `known`.

        Raises:
            InputError: the directory cannot be written.
        """
        if self._folder is not None and identity:
            write_named(self._key_file(identity), f"{key}\n", "static_cache")

    def _file(self, key: str) -> Path:
        return Path(self._folder or "", key[:2], f"{key}.npy")

    def _key_file(self, identity: str) -> Path:
        return Path(self._folder or "", "keys", f"{identity}.txt")

    def get(self, key: str, num_items: int, compute: Callable[[], np.ndarray]) -> np.ndarray:
        """Returns the static parts of a range of items.

        Args:
            key: hash of their contents, see `content_key`.
            num_items: number of items.
            compute: function that computes them, float32 [items, width].

        Returns:
            float32 [items, width]; a mapped file if it was cached.

        Raises:
            InputError: the directory cannot be written.
        """
        if self._folder is None:
            self.computed += num_items
            return compute()
        path = self._file(key)
        found = _read(path, num_items)
        if found is not None:
            self.hits += num_items
            return found
        static = compute()
        write_named(path, lambda beside: _write(beside, static), "static_cache")
        self.computed += num_items
        return static


def _write(path: Path, static: np.ndarray) -> None:
    """Writes an array and, behind it, where NumPy reads nothing, the CRC-32 of its bytes."""
    with path.open("wb") as file:
        np.save(file, static, allow_pickle=False)
        file.write(_checksum(static))


def _checksum(static: np.ndarray) -> bytes:
    return zlib.crc32(np.ascontiguousarray(static).data).to_bytes(4, "big")


def _read(path: Path, num_items: int) -> np.ndarray | None:
    """Reads the parts in a file; None if it is missing, damaged or edited, so that it is rebuilt.

    A file without a checksum, as earlier versions wrote it, is rebuilt too.
    """
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
        whole = found.ndim == 2 and len(found) == num_items and found.dtype == np.float32
        with path.open("rb") as file:
            file.seek(-4, os.SEEK_END)
            whole &= file.read() == _checksum(found)
    except UNREADABLE:
        return None
    return found if whole else None


def content_key(columns: pa.Table, *arrays: np.ndarray, about: str = "") -> str:
    """Returns a hash of everything that static parts depend on.

    Args:
        columns: the items' columns that the model reads.
        *arrays: further inputs, such as vectors from other tables.
        about: other dependencies: encoders, image files.
    """
    digest = hashlib.sha256(about.encode())
    sink = pa.PythonFile(_Hashing(digest), "w")
    table = columns.replace_schema_metadata(None).combine_chunks()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


class _Hashing:
    """A file object that only hashes what is written to it."""

    closed = False

    def __init__(self, digest):
        self._digest = digest

    def write(self, data) -> int:
        self._digest.update(data)
        return len(data)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass
