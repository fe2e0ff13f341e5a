"""Dataset directories that contain either the old or the new dataset, however a process ends.

    DIRECTORY/dataset.json          description of the dataset and name of its folder; written last
    DIRECTORY/3f1c0a6be2d94477-1/   arrays and ledger; named by the dataset's fingerprint
    DIRECTORY/...                   files of the user and of other stages: never changed

A folder that `dataset.json` names is never rewritten, except for files derived from its arrays. A
process that opened the old folder keeps its arrays: they are mapped, and a mapping remains valid
after its file is deleted.

Earlier versions of the first system kept the arrays alongside `dataset.json`; those of the second
named the folder by 16 digits and called the fingerprint `key`. Both are read.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import re
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from mmnet import files
from mmnet.checks import InputError

ABOUT = "dataset.json"
LEDGER = "ledger.md"
SUMS = "checksums.json"
"""Size and checksum of every array in the folder; earlier versions wrote none."""
REPLACED = "replaced.json"
"""Lists the files of a dataset without a folder until they are removed, after it is replaced."""

_FOLDER = re.compile(r"[0-9a-f]{16}(-\d+)?|\.[0-9a-f]{16}(-\d+)?\.new-.+")
"""Names of dataset folders, and of what a killed process left of one."""
_SUFFIXES = {".npy", ".npz", ".parquet", ".json", ".md"}
"""Suffixes of the files in such a folder."""
_AT_THE_TOP = re.compile(
    r"((clicks|shares|release|history|true_share_rate|tensor-.+|(train|validation|test)"
    r"-(items|times))\.npy)|items\.parquet|ledger\.md"
)
"""Files of a dataset without a folder, as earlier versions of the first system wrote it."""

About = dict[str, Any]
"""The document `dataset.json`."""
T = TypeVar("T")


@dataclass(frozen=True)
class Store(Generic[T]):
    """The dataset directories of one system.

    Attributes:
        driver: module that prepares a dataset, for messages.
        format: version of the arrays and the document; other versions are refused.
        open: opens a dataset, given the folder of its arrays and its document.
    """

    driver: str
    format: int | str
    open: Callable[[Path, About], T]

    @contextlib.contextmanager
    def only_one(self, directory: str | Path, *sources: Path) -> Iterator[None]:
        """Locks a dataset directory so that two processes cannot write it at once.

        What killed processes left in it is removed first.

        Args:
            directory: the dataset directory, created if it does not exist.
            sources: files that the dataset is made from; they may be inside the directory.

        Raises:
            InputError: another process is writing it, or it holds files but no dataset.
            OSError: it cannot be created.
        """
        directory = Path(directory)
        refusal = (
            f"--dataset_dir={directory} is being prepared by another process; wait for it, or "
            "choose another directory"
        )
        with files.only_one(directory, refusal, remove=True):
            if not (directory / ABOUT).is_file() and _others(directory, sources):
                raise InputError(f"{directory} contains other files; choose another --dataset_dir")
            _clear(directory)
            yield

    def load(self, directory: str | Path) -> T:
        """Opens a dataset directory; arrays are mapped, not read.

        Raises:
            InputError: there is no dataset, or it is incomplete or of another format.
        """
        directory = Path(directory)
        about = read(directory)
        while about is not None:
            try:
                return self._opened(directory, about)
            except InputError:
                before, about = about, read(directory)
                if about == before:
                    raise  # otherwise it was replaced while its arrays were being opened
        raise InputError(
            f"--dataset_dir={directory} is not a dataset directory (no readable {ABOUT}); prepare "
            f"one with python -m {self.driver}, or choose another --dataset_dir"
        )

    def _opened(self, directory: Path, about: About) -> T:
        if about.get("format") != self.format:
            raise InputError(
                f"{directory} has the format of another version; delete it and prepare it again"
            )
        folder = directory / about.get("folder", "")
        if "folder" in about:
            _check_sums(folder)
        return opened(directory / ABOUT, lambda _: self.open(folder, about))

    def unchanged(self, directory: str | Path, fingerprint: str) -> T | None:
        """Opens the dataset if it was made from the same inputs and is complete; None otherwise."""
        if (read(Path(directory)) or {}).get("fingerprint") == fingerprint:
            with contextlib.suppress(InputError):
                return self.load(directory)
        return None

    def write(self, directory: str | Path, fingerprint: str, fill: Callable[[Path], About]) -> T:
        """Writes a dataset, which replaces an older one atomically.

        Args:
            directory: the dataset directory, see `only_one`.
            fingerprint: SHA-256 over the inputs and flags that the dataset is made from.
            fill: writes the arrays into the empty folder whose path it receives, and returns the
                content of `dataset.json` except for their location.

        Returns:
            The new dataset.

        Raises:
            OSError: the directory cannot be written. The older dataset remains.
        """
        directory = Path(directory)
        stem = hashlib.sha256(fingerprint.encode()).hexdigest()[:16]
        names = (f"{stem}-{number}" for number in itertools.count(1))
        name = next(name for name in names if not (directory / name).exists())
        about: About = {"format": self.format, "fingerprint": fingerprint, "folder": name}
        before = read(directory) or about

        def fill_all(folder: Path) -> None:
            about.update(fill(folder))
            if "folder" not in before:
                replaced = [
                    one.name for one in directory.iterdir() if _AT_THE_TOP.fullmatch(one.name)
                ]
                (folder / REPLACED).write_text(json.dumps(replaced), encoding="utf-8")
            sums = {path.name: _sum(path) for path in _arrays(folder)}
            (folder / SUMS).write_text(json.dumps(sums, indent=1) + "\n", encoding="utf-8")
            text = json.dumps(about, indent=1, ensure_ascii=False) + "\n"
            (folder / ABOUT).write_text(text, encoding="utf-8")

        files.write_directory(directory / name, fill_all)
        files.rename(directory / name / ABOUT, directory / ABOUT)  # from here on it is the dataset
        _clear(directory)
        return self.load(directory)


def read(directory: Path) -> About | None:
    """Reads `dataset.json` of either system and any version; None if it cannot be read."""
    try:
        about = files.read_json(directory / ABOUT)
    except (OSError, ValueError):
        return None
    if not isinstance(about, dict) or not _FOLDER.fullmatch(str(about.get("folder", "0" * 16))):
        return None
    if "key" in about:  # by an earlier version of the second system
        about |= {"format": "mma4ctr-2", "content": about.get("fingerprint")}
        about["fingerprint"] = about.pop("key")
    return about


def opened(file: Path, reader: Callable[[Path], T]) -> T:
    """Reads a file of a dataset.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        return reader(file)
    except InputError:
        raise
    except files.UNREADABLE:
        raise InputError(f"{file} is missing or truncated; prepare the dataset again") from None


def mapped(folder: Path, name: str) -> np.ndarray:
    """Maps an array of a dataset into memory.

    Raises:
        InputError: its file is missing or damaged.
    """
    # Copy-on-write, since TensorFlow cannot wrap a read-only array without copying.
    return opened(
        folder / f"{name}.npy", lambda file: np.load(file, mmap_mode="c", allow_pickle=False)
    )


_BLOCK, _BLOCKS = 1 << 20, 16
"""Bytes of a block, and blocks of a file that its checksum is of."""


def _arrays(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in (".npy", ".npz", ".parquet"))


def _sum(path: Path) -> list[int]:
    """Size of a file, and the CRC-32 of its bytes; of a large one only of blocks spread over it.

    That takes milliseconds however large the dataset is, and finds files that were cut off, swapped
    or prepared by another command, but not every flipped bit.
    """
    size, found = path.stat().st_size, 0
    starts = list(range(0, size, _BLOCK))
    if len(starts) > _BLOCKS:
        starts = [number * (size - _BLOCK) // (_BLOCKS - 1) for number in range(_BLOCKS)]
    with path.open("rb") as file:
        for start in starts:
            file.seek(start)
            found = zlib.crc32(file.read(_BLOCK), found)
    return [size, found]


def _check_sums(folder: Path) -> None:
    """Refuses a dataset of which an array is not the one that was written."""
    if not (folder / SUMS).exists():
        return
    sums = opened(folder / SUMS, lambda path: dict(files.read_json(path)))
    for name, wanted in sums.items():
        size, found = opened(folder / name, _sum)
        if [size, found] == wanted:
            continue
        if not isinstance(wanted, list) or size != wanted[0]:
            raise InputError(f"{folder / name} is missing or truncated; prepare the dataset again")
        raise InputError(
            f"{folder / name} is not the file that was prepared; prepare the dataset again"
        )


def check(folder: Path, right: Mapping[str, bool]) -> None:
    """Raises an error for arrays that are inconsistent with the others of a dataset.

    Args:
        folder: folder of the arrays.
        right: name of an array -> whether its shape and its row numbers are valid.

    Raises:
        InputError: an array is not valid.
    """
    for name, fine in right.items():
        if not fine:
            raise InputError(
                f"{folder / name}.npy is damaged: it does not match the dataset's other arrays; "
                "prepare the dataset again"
            )


def within(places: np.ndarray, size: int) -> bool:
    """Checks whether integers are valid row numbers, from 0, of something of this size."""
    if not len(places):
        return True
    return places.dtype.kind in "iu" and places.min() >= 0 and places.max() < size


def _others(directory: Path, sources: tuple[Path, ...]) -> bool:
    """Checks for files that belong neither to a dataset nor to the inputs of one."""
    places = [Path(os.path.abspath(one)) for one in (directory, *sources)]
    allowed = {part for place in places[1:] for part in (place, *place.parents)}
    return places[0] not in places[1:] and any(
        path not in allowed and not _is_ours(path) for path in places[0].iterdir()
    )


def _is_ours(path: Path) -> bool:
    """Checks whether a path is a folder that `Store.write` made, without any other files."""
    if not _FOLDER.fullmatch(path.name) or not path.is_dir():
        return False
    return all(one.suffix in _SUFFIXES for one in path.rglob("*"))


def _clear(directory: Path) -> None:
    """Removes folders that `dataset.json` does not name, and files that its dataset replaced."""
    current = (read(directory) or {}).get("folder")
    for path in directory.iterdir():
        if path.name != current and _is_ours(path):
            shutil.rmtree(path, ignore_errors=True)
    replaced = directory / (current or "") / REPLACED
    if current and replaced.is_file():
        names = opened(replaced, files.read_json)
        for name in names if isinstance(names, list) else ():
            if isinstance(name, str) and _AT_THE_TOP.fullmatch(name):
                (directory / name).unlink(missing_ok=True)
        replaced.unlink()
