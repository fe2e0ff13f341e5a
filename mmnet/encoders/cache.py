"""Cache of content vectors: float16, by hash of the content and fingerprint of the encoder.

    DIRECTORY/3f1c0a6be2d94477/        the first 16 digits of the encoder's fingerprint
        encoder.json                   format, fingerprint, length of a vector, settings
        lock                           held while files are listed and read, or written
        segment-000000.vectors.npy     float16 [n, dim]
        segment-000000.keys.npy        uint8 [n, 16], the hash of each content

A segment is written once and never changed, and its vectors are written before its keys: it exists
if its keys do. A killed run loses the segment that it was filling, and the next run continues after
the complete ones.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from mmnet.checks import InputError
from mmnet.encoders.problems import Problem, Problems
from mmnet.files import UNREADABLE, read_json, reason, write_atomic

FORMAT = 1
"""Version of the format; it is increased when older files can no longer be read."""

KEY_BYTES = 16
"""Bytes of a content's hash: two of a billion contents share one with probability 1e-21."""

SEGMENT_BYTES = 64 * 2**20
"""Maximum bytes of vectors in a segment, which is filled in memory and mapped for reading."""

SEGMENT_SECONDS = 30.0
"""Maximum time between two segments, so that a slow encoder does not lose more work."""

ROWS_AT_ONCE = 8192
"""Number of rows to copy at a time, so that memory stays near the size of the result."""

_NAME = re.compile(r"segment-(\d{6,})\.(?:keys|vectors)\.npy")


class FrozenEncoder(Protocol):
    """Turns contents (texts, or paths of images) into vectors, and never changes.

    Attributes:
        about: the settings that determine a vector, without paths of this machine.
        fingerprint: SHA-256 in hex over `about` and over all bytes of weights and vocabulary; it is
            the same for the same network in another place.
        dim: length of a vector.
    """

    about: dict[str, str | int | float | bool]
    fingerprint: str
    dim: int

    def digests(self, contents: Sequence[str]) -> np.ndarray:
        """Returns a hash of each content, uint8 [contents, 16]; all zeros for absent content."""

    def encode(self, contents: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Encodes contents batch by batch, in any order.

        Yields:
            Positions in `contents`, int64 [batch], and their vectors, float32 [batch, dim]. A
            content that cannot be encoded is never yielded.
        """

    def problems(self) -> list[Problem]:
        """Returns the problems with contents so far."""


class VectorCache:
    """Vectors of one encoder, in a directory that many encoders and processes may share.

    Only contents whose hash is not in the cache are encoded, each once. A vector that is exactly
    zero or not finite as float16 is not stored: zero means absent.

    Args:
        directory: directory of all encoders, created if needed.
        encoder: the encoder of the vectors.
        segment_bytes: maximum bytes of vectors in a segment.
        segment_seconds: maximum time between two segments.

    Attributes:
        hits: distinct contents of the last call of `vectors` that were in the cache.
        encoded: distinct contents that it encoded and stored.
        absent: number of positions that it left zero.

    Raises:
        InputError: the directory cannot be written, or contains files of another encoder, of
            another version, or of another program.
    """

    def __init__(
        self,
        directory: str | Path,
        encoder: FrozenEncoder,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        segment_seconds: float = SEGMENT_SECONDS,
    ):
        self.hits = self.encoded = self.absent = 0
        self._encoder = encoder
        self._segment_rows = max(1, segment_bytes // (2 * encoder.dim))  # of float16
        self._segment_seconds = segment_seconds
        self._folder = Path(directory) / encoder.fingerprint[:16]
        self._refused = Problems()
        if (Path(directory) / "encoder.json").exists():
            raise InputError(
                f"{directory} is the folder of one encoder in an encoder cache, not a cache; use "
                "its parent directory"
            )
        try:
            self._open()
        except OSError as error:
            raise InputError(
                f"{self._folder} cannot be used as an encoder cache: {reason(error)}; "
                "choose a writable directory"
            ) from None

    def vectors(
        self,
        contents: Sequence[str] | np.ndarray,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:
        """Returns the vector of each content; new contents are encoded and stored.

        Args:
            contents: texts or paths, in any order, with duplicates.
            progress: called after each batch with the number of encoded contents and the number
                of contents to encode.

        Returns:
            float16 [contents, dim], zeros where a content is absent or could not be encoded.

        Raises:
            InputError: a segment is damaged.
        """
        contents = _as_list(contents)
        keys = self._keys(contents)
        present = np.flatnonzero(keys.any(axis=1))
        # A distinct content is filled in at its first position, and copied from there.
        wanted, first, which = np.unique(
            _comparable(keys[present]), return_index=True, return_inverse=True
        )
        first = present[first]
        result = np.zeros((len(contents), self._encoder.dim), np.float16)
        with self._lock(exclusive=False):
            index = _Index(self._folder, self._encoder.dim)
            found, rows = index.find(wanted)
            index.copy(rows, result, first[found])
        filled = found.copy()
        new = np.flatnonzero(~found)
        new = new[np.argsort(first[new])]  # in the order of the contents, not of their hashes
        filled[new] = self._encode(contents, keys, first[new], result, progress)
        again = np.flatnonzero(filled[which] & (first[which] != present))
        for part in _parts(len(again), ROWS_AT_ONCE):
            result[present[again[part]]] = result[first[which[again[part]]]]
        self.hits = int(found.sum())
        self.encoded = int(filled.sum()) - self.hits
        self.absent = len(contents) - int(filled[which].sum())
        return result

    def problems(self) -> list[Problem]:
        """Returns problems with contents: the encoder's, and vectors that were not stored."""
        ours = self._refused.found()
        return [*self._encoder.problems(), *ours]

    def prune(self, contents: Sequence[str] | np.ndarray) -> int:
        """Removes vectors of this encoder that some contents do not use; merges small segments.

        A vector that is kept is in a new segment before its old segment is removed, so a kill at
        any moment loses no vector.

        Args:
            contents: contents whose vectors to keep.

        Returns:
            The number of vectors removed.

        Raises:
            InputError: a segment is damaged.
        """
        wanted = np.unique(_comparable(self._keys(_as_list(contents))))
        with self._lock(exclusive=True):
            index = _Index(self._folder, self._encoder.dim)
            keep, distinct = index.first_of(wanted)
            old = [
                segment
                for segment in index.segments
                if 2 * segment.rows < self._segment_rows or not keep[segment.inside].all()
            ]
            if len(old) > 1 or not keep.all():
                moved = np.concatenate(
                    [segment.start + np.flatnonzero(keep[segment.inside]) for segment in old]
                )
                for part in _parts(len(moved), self._segment_rows):
                    vectors = np.empty((len(moved[part]), self._encoder.dim), np.float16)
                    index.copy(moved[part], vectors, np.arange(len(vectors)))
                    _append(self._folder, index.keys[moved[part]], vectors)
                for segment in old:
                    segment.remove()
            return distinct - int(keep.sum())

    def _open(self) -> None:
        """Compares `encoder.json` with the encoder, or writes it."""
        path = self._folder / "encoder.json"
        expected = {
            "format": FORMAT,
            "fingerprint": self._encoder.fingerprint,
            "dim": self._encoder.dim,
        }
        if not path.exists():
            if _numbers(self._folder, "keys"):
                raise InputError(
                    f"{self._folder} has vectors, but no encoder.json that describes their "
                    "encoder; delete the folder, and the vectors will be recomputed"
                )
            description = {**expected, "about": self._encoder.about}
            write_atomic(path, json.dumps(description, indent=2, sort_keys=True) + "\n")
            (self._folder / "lock").touch()
        try:
            came = read_json(path)
            wrong = [name for name, value in expected.items() if came[name] != value]
        except (OSError, ValueError, TypeError, KeyError):
            raise InputError(
                f"{path} is not a description of an encoder; delete its folder, and the vectors "
                "will be recomputed"
            ) from None
        for name in wrong:
            raise InputError(
                f"{path}: the vectors next to it belong to another encoder, or to another version "
                f"of this cache: {name} is {came[name]!r}, not {expected[name]!r}; delete the "
                "folder, and the vectors will be recomputed, or choose another directory"
            )

    @contextlib.contextmanager
    def _lock(self, *, exclusive: bool) -> Iterator[None]:
        """Locks out writers, and readers too if exclusive; nothing is encoded under the lock."""
        path = self._folder / "lock"
        if not path.exists():  # a cache that was copied without it
            path.touch()
        # A cache that is only read may be in a read-only place.
        handle = os.open(path, os.O_RDWR if exclusive else os.O_RDONLY)
        try:
            with contextlib.suppress(ImportError):  # not on Windows
                import fcntl

                fcntl.flock(handle, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
            yield
        finally:
            os.close(handle)

    def _keys(self, contents: list[str]) -> np.ndarray:
        keys = np.ascontiguousarray(self._encoder.digests(contents))
        if keys.dtype != np.uint8 or keys.shape != (len(contents), KEY_BYTES):
            raise ValueError(
                f"`digests` must return uint8 [{len(contents)}, {KEY_BYTES}]. Received: "
                f"{keys.dtype} {list(keys.shape)}"
            )
        return keys

    def _encode(
        self,
        contents: list[str],
        keys: np.ndarray,
        places: np.ndarray,
        result: np.ndarray,
        progress: Callable[[int, int], None] | None,
    ) -> np.ndarray:
        """Encodes the contents at some positions into the result and into new segments.

        Returns:
            bool [places], whether each was filled.
        """
        filled = np.zeros(len(places), bool)
        new = [contents[place] for place in places]
        segment = _Filling(self._segment_rows, self._segment_seconds, self._write)
        try:
            for positions, vectors in self._encoder.encode(new) if new else ():
                rounded = self._round(positions, vectors, new)
                good = self._check(positions, rounded, new)
                done = positions[good]
                filled[done] = True
                result[places[done]] = rounded[good]
                segment.add(keys[places[done]], rounded[good])
                if progress is not None:
                    progress(int(filled.sum()), len(new))
        finally:  # an interrupt keeps what was encoded; a kill does not reach this line
            segment.close()
        return filled

    def _round(self, positions: np.ndarray, vectors: np.ndarray, new: list[str]) -> np.ndarray:
        """Converts a batch of the encoder to float16."""
        if vectors.shape != (len(positions), self._encoder.dim):
            raise ValueError(
                f"`encode` must yield vectors [{len(positions)}, {self._encoder.dim}]. Received: "
                f"{list(vectors.shape)}"
            )
        if len(positions) and not 0 <= positions.min() <= positions.max() < len(new):
            raise ValueError(
                f"`encode` must yield positions of its {len(new)} contents. Received: "
                f"{positions.min()} to {positions.max()}"
            )
        with np.errstate(over="ignore"):  # beyond 65504 it becomes infinite, and is not stored
            return vectors.astype(np.float16)

    def _check(self, positions: np.ndarray, rounded: np.ndarray, new: list[str]) -> np.ndarray:
        """Marks the vectors of a batch to store, bool [batch]; the others are counted."""
        finite = np.isfinite(rounded).all(axis=1)
        zero = ~rounded.any(axis=1)
        for position in positions[~finite]:
            self._refused.add("encoded to a vector that is not finite as float16", new[position])
        for position in positions[zero]:
            self._refused.add("encoded to a zero vector", new[position])
        return finite & ~zero

    def _write(self, keys: np.ndarray, vectors: np.ndarray) -> None:
        with self._lock(exclusive=True):
            _append(self._folder, keys, vectors)


class _Filling:
    """The segment being filled: keys and vectors of batches, written once they are enough."""

    def __init__(
        self,
        most_rows: int,
        most_seconds: float,
        write: Callable[[np.ndarray, np.ndarray], None],
    ):
        self._most_rows, self._most_seconds, self._write = most_rows, most_seconds, write
        self._start()

    def add(self, keys: np.ndarray, vectors: np.ndarray) -> None:
        if len(keys):
            self._batches.append((keys, vectors))
        rows = sum(len(keys) for keys, _ in self._batches)
        if rows >= self._most_rows or time.monotonic() - self._since >= self._most_seconds:
            self.close()

    def close(self) -> None:
        batches = self._batches
        self._start()  # first, so that a failed write is not retried
        if batches:
            keys, vectors = zip(*batches, strict=True)
            self._write(np.concatenate(keys), np.concatenate(vectors))

    def _start(self) -> None:
        self._batches: list[tuple[np.ndarray, np.ndarray]] = []
        self._since = time.monotonic()


@dataclass(frozen=True)
class _Segment:
    """A segment on disk, and the range of its rows among those of all segments."""

    folder: Path
    number: int
    start: int
    rows: int

    @property
    def inside(self) -> slice:
        return slice(self.start, self.start + self.rows)

    def remove(self) -> None:
        _keys_path(self.folder, self.number).unlink()  # without keys, the segment does not exist
        _vectors_path(self.folder, self.number).unlink()


class _Index:
    """All current segments of a folder.

    Attributes:
        segments: in order of their numbers.
        keys: uint8 [rows, 16], of all segments.

    Raises:
        InputError: a segment is damaged.
    """

    def __init__(self, folder: Path, dim: int):
        self._dim = dim
        self.segments: list[_Segment] = []
        keys, start = [np.empty((0, KEY_BYTES), np.uint8)], 0
        for number in _numbers(folder, "keys"):
            keys.append(_load_keys(_keys_path(folder, number)))
            self.segments.append(_Segment(folder, number, start, len(keys[-1])))
            _map_vectors(self.segments[-1], dim)  # report damage even if no vector is needed
            start += len(keys[-1])
        self.keys = np.concatenate(keys)
        self._order = np.argsort(_comparable(self.keys), kind="stable")
        self._sorted = _comparable(self.keys)[self._order]

    def find(self, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Marks keys in the index, bool [wanted], and returns their rows, int64 [found]."""
        if not len(self.keys):
            return np.zeros(len(wanted), bool), np.empty(0, np.int64)
        at = np.searchsorted(self._sorted, wanted)
        at[at == len(self._sorted)] = 0
        found = self._sorted[at] == wanted
        return found, self._order[at[found]]

    def first_of(self, wanted: np.ndarray) -> tuple[np.ndarray, int]:
        """Marks the first row of each wanted key, bool [rows], and counts the distinct keys.

        Two processes that encoded the same content at the same time have each written a row.
        """
        first = np.ones(len(self._sorted), bool)
        first[1:] = self._sorted[1:] != self._sorted[:-1]
        keep = np.zeros(len(self._sorted), bool)
        keep[self._order] = first & np.isin(self._sorted, wanted)
        return keep, int(first.sum())

    def copy(self, rows: np.ndarray, into: np.ndarray, places: np.ndarray) -> None:
        """Copies vectors of some rows to positions of an array, one segment at a time."""
        order = np.argsort(rows, kind="stable")
        rows, places = rows[order], places[order]
        for segment in self.segments:
            low, high = np.searchsorted(rows, [segment.start, segment.start + segment.rows])
            if low == high:
                continue
            mapped = _map_vectors(
                segment, self._dim
            )  # the previous one is unmapped, to save memory
            path = _vectors_path(segment.folder, segment.number)
            _check_contents(path, mapped.offset, mapped.nbytes)
            for part in _parts(high - low, ROWS_AT_ONCE):
                inside = rows[low:high][part] - segment.start
                into[places[low:high][part]] = mapped[inside]


def _append(folder: Path, keys: np.ndarray, vectors: np.ndarray) -> None:
    """Writes a new segment and removes files of killed writers; needs the exclusive lock."""
    numbers = _numbers(folder, "keys")
    for number in set(_numbers(folder, "vectors")).difference(numbers):
        _vectors_path(folder, number).unlink()
    for path in folder.glob(".segment-*"):  # temporary files of `write_atomic`
        path.unlink()
    number = max(numbers, default=-1) + 1
    write_atomic(_vectors_path(folder, number), lambda path: _save_vectors(path, vectors))
    write_atomic(_keys_path(folder, number), lambda path: np.save(path, keys, allow_pickle=False))


def _numbers(folder: Path, kind: str) -> list[int]:
    """Returns the numbers of the files of a kind; those of keys are the existing segments."""
    found = (_NAME.fullmatch(path.name) for path in folder.glob(f"segment-*.{kind}.npy"))
    return sorted(int(match[1]) for match in found if match)


def _keys_path(folder: Path, number: int) -> Path:
    return folder / f"segment-{number:06}.keys.npy"


def _vectors_path(folder: Path, number: int) -> Path:
    return folder / f"segment-{number:06}.vectors.npy"


def _load_keys(path: Path) -> np.ndarray:
    try:
        keys = np.load(path, allow_pickle=False)
    except UNREADABLE as error:
        raise _damaged(path, str(error)) from None
    if keys.dtype != np.uint8 or keys.ndim != 2 or keys.shape[1] != KEY_BYTES:
        raise _damaged(path, f"{keys.dtype} {list(keys.shape)}, not uint8 [n, {KEY_BYTES}]")
    return keys


def _save_vectors(path: Path, vectors: np.ndarray) -> None:
    """Writes vectors and, after them, where NumPy reads nothing, the CRC-32 of their bytes."""
    with path.open("wb") as file:
        np.save(file, vectors, allow_pickle=False)
        file.write(zlib.crc32(np.ascontiguousarray(vectors).data).to_bytes(_SUM_BYTES, "big"))


_SUM_BYTES = 4
_intact: set[tuple[str, int, int]] = set()
"""Path, size and time of the segments that this process has read to their end."""


def _check_contents(path: Path, start: int, size: int) -> None:
    """Refuses vectors that were edited; earlier versions wrote no checksum to compare with."""
    stat = path.stat()
    known = str(path), stat.st_size, stat.st_mtime_ns
    if stat.st_size == start + size or known in _intact:
        return
    found = 0
    with path.open("rb") as file:
        file.seek(start)
        while part := file.read(min(size, 1 << 20)):
            found, size = zlib.crc32(part, found), size - len(part)
        if file.read() != found.to_bytes(_SUM_BYTES, "big"):
            raise _damaged(path, "its vectors are not those that were written")
    _intact.add(known)


def _map_vectors(segment: _Segment, dim: int) -> np.memmap:
    path = _vectors_path(segment.folder, segment.number)
    try:
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise _damaged(path, "missing, although its keys exist") from None
    except UNREADABLE as error:
        raise _damaged(path, str(error)) from None
    if vectors.dtype != np.float16 or vectors.shape != (segment.rows, dim):
        raise _damaged(
            path, f"{vectors.dtype} {list(vectors.shape)}, not float16 [{segment.rows}, {dim}]"
        )
    if path.stat().st_size - vectors.offset - vectors.nbytes not in (0, _SUM_BYTES):
        raise _damaged(path, "it does not end where its vectors do")
    return vectors


def _damaged(path: Path, what: str) -> InputError:
    return InputError(
        f"{path} is damaged ({what}); delete the segment's two files, and its vectors will be "
        "recomputed"
    )


def _comparable(keys: np.ndarray) -> np.ndarray:
    """Returns each key as one sortable value: uint8 [keys, 16] -> 16 raw bytes [keys]."""
    return keys.view(f"V{KEY_BYTES}").reshape(len(keys))


def _parts(count: int, most: int) -> Iterator[slice]:
    for start in range(0, count, most):
        yield slice(start, min(start + most, count))


def _as_list(contents: Sequence[str] | np.ndarray) -> list[str]:
    return contents.tolist() if isinstance(contents, np.ndarray) else list(contents)
