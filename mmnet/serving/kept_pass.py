"""First passes over a catalogue, kept for later jobs on the same tables.

A kept pass is a directory, whose name is a hash of all that the pass depends on. Files of tables
count by their size, times and inode, so a file that was changed, replaced or copied means a new
pass. A pass is renamed into its place when it is complete, and its files are checked by their
checksums when they are used.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import mmnet
from mmnet.checks import InputError
from mmnet.data import table_reading
from mmnet.data.ledger import Rule
from mmnet.data.threads import in_order
from mmnet.files import STALE_SECONDS, make_directory, read_json, reason
from mmnet.serving import first_pass

FORMAT = 1
"""Version of the files of a first pass, and of what decides them."""

FOLDER, LEDGER, SUMS = "first_passes", "ledger.json", "kept.json"

MOST = 3
"""Number of kept passes in a directory; the one that was not used for longest is removed."""

RECENT_SECONDS = 2.0
"""A file that changed so recently may change once more without another time, as clocks of file
systems tick; what was read from it is not kept."""


def identity(path: Path) -> tuple[str, int, int, int, int]:
    """Returns what changes when a file does: path, size, times of its content and inode, inode."""
    stat = path.stat()
    return str(path), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino


def are_settled(paths: Iterable[Path]) -> bool:
    """Checks whether no file has changed within the last `RECENT_SECONDS`."""
    stats = [path.stat() for path in paths]
    latest = max((max(stat.st_mtime, stat.st_ctime) for stat in stats), default=0.0)
    return latest <= time.time() - RECENT_SECONDS


def hashed(about: Any) -> str:
    """Returns a hash of something that can be written as JSON, and of the rules of reading."""
    versions = [FORMAT, mmnet.__version__, table_reading.RULES]
    text = json.dumps([versions, about], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def take(directory: str, key: str, place: Path, threads: int) -> list[Rule] | None:
    """Puts the files of a kept pass into a directory.

    Args:
        directory: `--static_cache`.
        key: key of the pass.
        place: an empty directory.
        threads: number of threads that check the files.

    Returns:
        The ledger of the pass; None if it is not kept, or is damaged.
    """
    kept = Path(directory, FOLDER, key)
    try:
        sums = read_json(kept / SUMS)
        names = [name for name in sums if name == Path(name).name]
        found = in_order(lambda name: first_pass.checksum(kept / name), names, threads)
        if LEDGER not in sums or dict(zip(names, found, strict=True)) != sums:
            return None
        rules = [Rule(**rule) for rule in read_json(kept / LEDGER)]
        for name in names:
            if name != LEDGER:
                _link(kept / name, place / name)
        os.utime(kept / SUMS)
    except (OSError, ValueError, TypeError):  # it was never kept, or another job has removed it
        for file in place.iterdir():
            file.unlink()
        return None
    return rules


def keep(directory: str, key: str, place: Path, ledger: Sequence[Rule], threads: int) -> None:
    """Keeps the pass in a directory; if it is kept already, only a damaged one is replaced.

    Args:
        directory: `--static_cache`.
        key: key of the pass.
        place: directory of the pass.
        ledger: its ledger.
        threads: number of threads that compute checksums.

    Raises:
        InputError: the directory cannot be written.
    """
    folder = Path(directory, FOLDER)
    beside = folder / f".{key}.new-{uuid.uuid4().hex[:12]}"
    try:
        make_directory(beside)
        rules = [dataclasses.asdict(rule) for rule in ledger]
        (beside / LEDGER).write_text(json.dumps(rules) + "\n", encoding="utf-8")
        names = sorted(path.name for path in place.iterdir())
        for name in names:
            _link(place / name, beside / name)
        names.append(LEDGER)
        found = in_order(lambda name: first_pass.checksum(beside / name), names, threads)
        sums = dict(zip(names, found, strict=True))
        (beside / SUMS).write_text(json.dumps(sums) + "\n", encoding="utf-8")
        # `keep` is called only where `take` found nothing usable under this name.
        shutil.rmtree(folder / key, ignore_errors=True)
        with contextlib.suppress(FileExistsError, NotADirectoryError):
            _rename(beside, folder / key)
        _prune(folder)
    except OSError as error:
        raise InputError(f"--static_cache={directory}: {reason(error)}") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _rename(source: Path, target: Path) -> None:
    """Renames a directory, unless another process has just put an equal one there."""
    try:
        os.rename(source, target)
    except OSError:
        if not target.is_dir():
            raise


def _link(source: Path, target: Path) -> None:
    """Makes a file available under another name, by a link if both are in one file system.

    The arrays of a pass are never written again, and its JSON files are replaced as a whole.
    """
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(source, target)


def _prune(folder: Path) -> None:
    """Removes the passes that were not used for longest, and what killed processes left."""
    used: list[tuple[float, Path]] = []
    for path in folder.iterdir():
        with contextlib.suppress(OSError):  # another job removes it as well
            if not path.name.startswith("."):
                used.append(((path / SUMS).stat().st_mtime, path))
            elif path.stat().st_mtime < time.time() - STALE_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
    for _, path in sorted(used)[:-MOST]:
        shutil.rmtree(path, ignore_errors=True)
