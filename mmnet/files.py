"""Files that are whole or absent: written beside under a temporary name, then renamed."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from mmnet.checks import InputError

LOCK = "_lock"
"""Of a directory that one process at a time works in."""


def write_atomic(
    path: str | os.PathLike[str], content: bytes | str | Callable[[Path], object]
) -> Path:
    """Writes one file so that a reader finds the old one or the new one, never a part.

    The bytes reach the disk before the name does, so this holds through a power cut as well.

    Args:
        path: the file; its directory is made if need be, and an older file is replaced.
        content: bytes, text (UTF-8, line ends as given), or a function that writes the file whose
            path it receives. That path keeps the suffix, which some writers read the format from.

    Returns:
        The path.

    Raises:
        FileNotFoundError: the function wrote no file.
        Exception: whatever the function raises. Either way the older file stays, and nothing is
            left beside it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not `tempfile`: its files are readable by their owner only, and the rename would keep that.
    beside = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:12]}{path.suffix}")
    try:
        if callable(content):
            content(beside)
        else:
            beside.write_bytes(content.encode() if isinstance(content, str) else content)
        _to_disk(beside)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    if os.name == "posix":  # elsewhere a directory cannot be opened
        _to_disk(path.parent)
    return path


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def only_one(directory: Path, flag: str) -> Iterator[int]:
    """Keeps a second process out of a directory, which is made if need be.

    Args:
        directory: that is worked in.
        flag: that names it, with its dashes.

    Yields:
        The lock, a file descriptor; processes that inherit it keep the directory locked.

    Raises:
        InputError: another process works in it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    handle = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        with contextlib.suppress(ImportError):  # not on Windows
            import fcntl

            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(
                    f"{flag}={directory} is in use by another process; wait for it, or choose "
                    "another directory"
                ) from None
        yield handle
    finally:
        os.close(handle)
