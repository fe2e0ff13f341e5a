"""Atomic files and directories, written under a temporary name and renamed; and locks."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import struct
import tempfile
import traceback
import uuid
import weakref
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mmnet import interrupts
from mmnet.checks import InputError


def write_atomic(
    path: str | os.PathLike[str], content: bytes | str | Callable[[Path], object]
) -> Path:
    """Writes a file so that readers find either the old or the new one, never a partial one.

    The data are synced to disk before the rename, so this also holds after a power cut. Temporary
    files that a killed process left at least `STALE_SECONDS` ago are removed.

    Args:
        path: the file; its directory is created if needed, and an older file is replaced.
        content: bytes, text (UTF-8, line ends as given), or a function that writes the file whose
            path it receives. That path keeps the suffix, from which some writers infer the format.

    Returns:
        The path.

    Raises:
        OSError: the path exists and is not a regular file, such as a device.
        FileNotFoundError: the function wrote no file.
        Exception: any exception of the function. In either case the older file remains, and no
            temporary file is left.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        code, what = errno.EPERM, "is a device or a pipe"
        if path.is_dir():
            code, what = errno.EISDIR, "is a directory"
        raise OSError(code, f"{what}, not a regular file", str(path))
    make_directory(path.parent)
    # Not `tempfile`: its files are readable by their owner only, and the rename would keep that.
    beside = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:12]}{path.suffix}")
    _begin(beside)
    try:
        with _named(path):
            if callable(content):
                content(beside)
            else:
                beside.write_bytes(content.encode() if isinstance(content, str) else content)
            _to_disk(beside)
            _clear_stale(path, now=beside.stat().st_mtime)
            rename(beside, path)
    finally:
        beside.unlink(missing_ok=True)
        _end(beside)
    return path


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Names a file or directory in errors of the system that name none, as a write's do."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


_journal = -1
"""The file descriptor that `tell_begun` has set; -1: none."""


def tell_begun(journal: int) -> None:
    """Reports to a file descriptor which paths this process begins to write and has finished."""
    global _journal
    _journal = journal


def _begin(path: Path, sign: str = "+") -> None:
    if _journal >= 0:
        with contextlib.suppress(OSError):  # its reader is gone
            os.write(_journal, sign.encode() + os.fsencode(path.absolute()) + b"\0")


def _end(path: Path) -> None:
    _begin(path, "-")


def remove_begun(journal: bytes) -> None:
    """Removes the temporary and partial files of a process that was killed.

    Args:
        journal: what the process has written to the descriptor of `tell_begun`.
    """
    begun: set[bytes] = set()
    for line in journal.split(b"\0")[:-1]:
        (begun.add if line[:1] == b"+" else begun.discard)(line[1:])
    for path in map(os.fsdecode, begun):
        shutil.rmtree(path, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.unlink(path)


STALE_SECONDS = 3600
"""Age after which the process that wrote a temporary file is assumed to be dead."""


def _clear_stale(path: Path, now: float) -> None:
    # `now` is of the clock that stamps files, which is a server's on a network file system.
    name = re.compile(rf"\.{re.escape(path.stem)}\.[0-9a-f]{{12}}{re.escape(path.suffix)}")
    with os.scandir(path.parent) as entries:
        for entry in entries:
            if not name.fullmatch(entry.name):
                continue
            with contextlib.suppress(OSError):  # another process was faster
                if now - entry.stat(follow_symlinks=False).st_mtime > STALE_SECONDS:
                    os.unlink(entry.path)


def write_directory(path: str | os.PathLike[str], write: Callable[[Path], object]) -> Path:
    """Writes a directory so that `directories` finds either the old or the new one, complete.

    An older directory is moved aside before the new one is renamed, so that the name is briefly
    absent. Directories that a killed process left are restored or removed first.

    Args:
        path: the directory; its parent is created if needed, and an older directory is replaced.
            Only one process may write it at a time, see `only_one`.
        write: fills the empty directory whose path it receives.

    Returns:
        The path.

    Raises:
        Exception: any exception of the function. The older directory remains, and no temporary
            directory is left.
    """
    path = Path(path)
    place = path.resolve()  # a link to a directory stays a link
    make_directory(place.parent)
    standing = directories(place.parent).get(place.name, place)
    if standing != place:
        os.replace(standing, place)
    for left in place.parent.iterdir():
        if left.name.startswith(f".{place.name}.new-"):
            shutil.rmtree(left, ignore_errors=True)
    beside = place.with_name(f".{place.name}.new-{uuid.uuid4().hex[:12]}")
    old = beside.with_name(f"{beside.name}-old")
    _begin(beside)
    try:
        beside.mkdir()  # not `tempfile`: its directories are readable by their owner only
        with _named(path):
            write(beside)
            for file in [*beside.rglob("*"), beside]:
                _to_disk(file)
        interrupts.check()
        if place.exists():
            os.replace(place, old)
        rename(beside, place)
    finally:
        if old.exists() and not place.exists():
            os.replace(old, place)
        shutil.rmtree(beside, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
        _end(beside)
    return path


def rename(source: Path, target: Path) -> None:
    """Renames a file or directory durably, so that the rename survives a power cut.

    Raises:
        KeyboardInterrupt: a signal has asked this process to end.
    """
    interrupts.check()
    os.replace(source, target)
    if os.name == "posix":  # elsewhere a directory cannot be opened
        _to_disk(target.parent)


_MOVED_ASIDE = re.compile(r"^\.(.+)\.new-[0-9a-f]{12}-old$")


def directories(parent: Path) -> dict[str, Path]:
    """Finds the directories that `write_directory` wrote, without waiting for a running writer.

    If a process is between its two renames, or was killed there, the old directory is found.

    Args:
        parent: the directory that contains them; it may be missing.

    Returns:
        Name -> path, of everything in the parent.
    """
    # Longer names first, so that a directory comes after an old one that was moved aside for it.
    paths = sorted(parent.glob("*"), key=lambda path: -len(path.name))
    return {_MOVED_ASIDE.sub(r"\1", path.name): path for path in paths}


@contextlib.contextmanager
def only_one(
    directory: str | os.PathLike[str], refusal: str, *, remove: bool = False
) -> Iterator[int]:
    """Locks a directory against other processes while the block runs.

    The lock is on the directory itself, so it leaves no file, and it ends with the process, however
    that ends. A child process that inherits the descriptor holds the lock too.

    Args:
        directory: the directory, created if needed.
        refusal: error message for a second process.
        remove: whether to remove the directory in the end, if it was created for this lock and is
            empty.

    Yields:
        The file descriptor that holds the lock.

    Raises:
        InputError: another process holds the lock.
        OSError: the directory cannot be created.
    """
    directory = Path(directory)
    remove = remove and not directory.exists()
    make_directory(directory)
    try:
        import fcntl
    except ImportError:  # Windows locks no directories
        yield -1
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(refusal) from None
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
                raise  # else: a file system without locks
        if not directory.exists() or not os.path.samestat(os.fstat(handle), directory.stat()):
            raise InputError(refusal)  # the process that held the lock has just removed it
        try:
            yield handle
        finally:
            if remove:
                with contextlib.suppress(OSError):
                    directory.rmdir()
    finally:
        os.close(handle)


def make_directory(path: Path) -> None:
    """Creates a directory and its parents, unless they exist, so that a power cut leaves them.

    Raises:
        NotADirectoryError: the path, or one above it, is a file.
    """
    missing = [one for one in (path, *path.parents) if not one.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from None
    for made in reversed(missing if os.name == "posix" else []):
        with contextlib.suppress(OSError):  # a directory above that this user may not read
            _to_disk(made.parent)


def scratch_directory(
    parent: str | Path | None, prefix: str = "mmnet-"
) -> tempfile.TemporaryDirectory[str]:
    """Creates a temporary directory for data that do not fit in memory.

    The directory contains a file that stays locked while the directory is in use. Directories in
    the same place whose file is not locked were left by a killed process, and are removed first.

    Args:
        parent: directory to create it in (`--engine_spill`), created if needed; default: the
            system's directory for temporary files.
        prefix: first part of its name.

    Raises:
        InputError: the directory cannot be created.
    """
    try:
        if parent:
            make_directory(Path(parent))
        _clear_scratch(Path(parent or tempfile.gettempdir()), prefix)
        made = tempfile.TemporaryDirectory(
            prefix=prefix, dir=parent or None, ignore_cleanup_errors=True
        )
        _begin(Path(made.name))
        weakref.finalize(made, _end, Path(made.name))
        _lock_scratch(made)
        return made
    except OSError as error:
        raise InputError(
            f"{parent or tempfile.gettempdir()}: cannot write temporary files: {error.strerror}; "
            "choose another directory with --engine_spill"
        ) from None


_IN_USE = ".mmnet-in-use"
"""A file of a scratch directory, locked until its process ends."""


def _lock_scratch(made: tempfile.TemporaryDirectory[str]) -> None:
    try:
        import fcntl
    except ImportError:  # on Windows, a directory in use cannot be distinguished from a stale one
        return
    place = Path(made.name, _IN_USE)
    unlocked = place.with_suffix(".new")  # under its own name only once it is locked
    handle = os.open(unlocked, os.O_RDWR | os.O_CREAT, 0o600)
    weakref.finalize(made, os.close, handle)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # a file system without locks
        unlocked.unlink()
    else:
        os.replace(unlocked, place)


def _clear_scratch(parent: Path, prefix: str) -> None:
    """Removes scratch directories whose process is dead."""
    try:
        import fcntl
    except ImportError:
        return
    with os.scandir(parent) as entries:
        left = [Path(entry.path) for entry in entries if entry.name.startswith(prefix)]
    for one in left:
        try:
            handle = os.open(one / _IN_USE, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:  # not a scratch directory, or another user's
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(one, ignore_errors=True)
        except OSError:  # it is in use
            pass
        finally:
            os.close(handle)


_PLACES = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.ENOTDIR, errno.EISDIR),
    *(errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP),
)
_SHORT_WRITE = r"\d+ requested and \d+ written"
"""NumPy's complete message when a write falls short."""


def reason(error: OSError) -> str:
    """Returns the system's words for an error, also if a library embeds them in its own.

    >>> reason(OSError(errno.ENOSPC, "Error writing bytes to file. No space left on device"))
    'No space left on device'
    """
    told, system = error.strerror or str(error), os.strerror(error.errno) if error.errno else ""
    return system if system and system in told else told


def problem_of_place(error: BaseException) -> str:
    """Describes an error of the disk or of a path, for which a traceback would not help.

    Examples are a full disk, a limit on file sizes, and a path that cannot exist.

    Returns:
        One sentence; empty for any other error.

    >>> problem_of_place(OSError(errno.ENOSPC, "No space left on device", "runs/a.json"))
    'runs/a.json: No space left on device; free some space or choose another path'
    >>> problem_of_place(KeyError("a"))
    ''
    """
    where = getattr(error, "filename", None)
    temporary = where is None and _of_temporary_file(error)
    named = f"{where}: " if where else ""
    if temporary:
        named = f"{tempfile.gettempdir()}: cannot write temporary files: "
    if isinstance(error, OSError) and error.errno in _PLACES:
        told = reason(error)
    elif isinstance(error, OSError) and re.search(_SHORT_WRITE, str(error)):
        told = "a file could not be written completely; the disk is full or a limit was reached"
    else:  # TensorFlow and Arrow embed the system's message in their own
        own = isinstance(error, OSError) or type(error).__module__.startswith("tensorflow")
        words = [os.strerror(code) for code in _PLACES if os.strerror(code) in str(error)]
        if not own or not words:
            return ""
        told = words[0]
        path, embedded, _ = str(error).partition(f"; {told}")  # as TensorFlow writes it
        if embedded and os.sep in path and not named:
            named = f"{path}: "
    full = any(os.strerror(code) == told for code in _PLACES[:3]) or "full" in told
    fix = "set TMPDIR to another directory" if temporary else "choose another path"
    return f"{named}{told}; {'free some space or ' if full else ''}{fix}"


def _of_temporary_file(error: BaseException) -> bool:
    """Checks whether an error passed through a temporary file, which libraries leave unnamed."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_code.co_filename == tempfile.__file__ for frame, _ in frames)


def read_json(path: str | os.PathLike[str]) -> Any:
    """Reads a JSON file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not JSON, or nested so deep that Python cannot parse it.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("its lists are nested too deep") from None


UNREADABLE = (
    *(OSError, EOFError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError),
    *(MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error, struct.error),
)
"""Exceptions that reading a damaged array file can raise: NumPy, zip and zlib have their own, and
the sizes in a damaged header can be anything."""


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
