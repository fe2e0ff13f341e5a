"""Files and directories that are whole or absent: written beside, then renamed; and locks."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import shutil
import tempfile
import time
import uuid
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

from mmnet.checks import InputError


def write_atomic(
    path: str | os.PathLike[str], content: bytes | str | Callable[[Path], object]
) -> Path:
    """Writes one file so that a reader finds the old one or the new one, never a part.

    The bytes reach the disk before the name does, so this holds through a power cut as well. What
    a killed process left of the same file, `STALE_SECONDS` ago or more, is cleared away.

    Args:
        path: the file; its directory is made if need be, and an older file is replaced.
        content: bytes, text (UTF-8, line ends as given), or a function that writes the file whose
            path it receives. That path keeps the suffix, which some writers read the format from.

    Returns:
        The path.

    Raises:
        OSError: the path is there and no regular file: a device would be replaced by one.
        FileNotFoundError: the function wrote no file.
        Exception: whatever the function raises. Either way the older file stays, and nothing is
            left beside it.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        what = "is a directory" if path.is_dir() else "is a device or a pipe"
        raise OSError(errno.EINVAL, f"{what}, not a file to write", str(path))
    make_directory(path.parent)
    # Not `tempfile`: its files are readable by their owner only, and the rename would keep that.
    beside = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:12]}{path.suffix}")
    _clear_stale(path)
    try:
        if callable(content):
            content(beside)
        else:
            beside.write_bytes(content.encode() if isinstance(content, str) else content)
        _to_disk(beside)
        rename(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    return path


STALE_SECONDS = 3600
"""Since when nobody has written to a file that waits for its name: its process is dead."""


def _clear_stale(path: Path) -> None:
    name = re.compile(rf"\.{re.escape(path.stem)}\.[0-9a-f]{{12}}{re.escape(path.suffix)}")
    with os.scandir(path.parent) as entries:
        for entry in entries:
            if not name.fullmatch(entry.name):
                continue
            with contextlib.suppress(OSError):  # another process was faster
                if time.time() - entry.stat(follow_symlinks=False).st_mtime > STALE_SECONDS:
                    os.unlink(entry.path)


def write_directory(path: str | os.PathLike[str], write: Callable[[Path], object]) -> Path:
    """Writes a directory so that `directories` finds the old one or the new one, never a part.

    Linux exchanges the names of an older directory and the new one in one step. Elsewhere, and on
    file systems that cannot, the older one is moved aside before the new one takes its name, so
    that for a moment there is nothing under the name. What a killed process left alongside is put
    back or removed first.

    Args:
        path: the directory; its parent is made if need be, and an older one is replaced. One
            process at a time, see `only_one`.
        write: fills the empty directory whose path it receives.

    Returns:
        The path.

    Raises:
        Exception: whatever the function raises. The older directory stays, and nothing is left
            beside it.
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
    try:
        beside.mkdir()  # not `tempfile`: its directories are readable by their owner only
        write(beside)
        for file in [*beside.rglob("*"), beside]:
            _to_disk(file)
        if place.is_dir() and _exchanged(beside, place):
            _to_disk(place.parent)
        else:
            if place.exists():
                os.replace(place, old)
            rename(beside, place)
    finally:
        if old.exists() and not place.exists():
            os.replace(old, place)
        shutil.rmtree(beside, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    return path


def _exchanged(one: Path, other: Path) -> bool:
    """Whether two directories have exchanged their names, in one step."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):  # not Linux
        return False
    names = [os.fsencode(path.absolute()) for path in (one, other)]
    return call(_WORKING_DIRECTORY, names[0], _WORKING_DIRECTORY, names[1], _EXCHANGE) == 0


_WORKING_DIRECTORY, _EXCHANGE = -100, 2
"""AT_FDCWD and RENAME_EXCHANGE of renameat2."""


def rename(source: Path, target: Path) -> None:
    """Gives a file or directory another name, which it still has after a power cut."""
    os.replace(source, target)
    if os.name == "posix":  # elsewhere a directory cannot be opened
        _to_disk(target.parent)


_MOVED_ASIDE = re.compile(r"^\.(.+)\.new-[0-9a-f]{12}-old$")


def directories(parent: Path) -> dict[str, Path]:
    """Finds the directories that `write_directory` wrote, without waiting for it or disturbing it.

    Where a process is between its two renames, or was killed there, the old directory is found.

    Args:
        parent: the directory that they are in; it may be missing.

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
    """Keeps other processes out of a directory as long as the block runs, or the process lives.

    The lock is on the directory itself, so it leaves no file, and ends with the process however
    that ends. A child process that is handed the descriptor holds it too.

    Args:
        directory: made if need be.
        refusal: what to say to the one that comes second.
        remove: take the directory away in the end, if it is empty: it was made for this lock.

    Yields:
        The file descriptor that holds the lock.

    Raises:
        InputError: another process works in it.
        OSError: it cannot be made.
    """
    directory = Path(directory)
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
            raise InputError(refusal)  # the first one has just taken it away
        try:
            yield handle
        finally:
            if remove:
                with contextlib.suppress(OSError):
                    directory.rmdir()
    finally:
        os.close(handle)


def make_directory(path: Path) -> None:
    """Makes a directory and those above it, unless they are there.

    Raises:
        NotADirectoryError: the path, or one above it, is a file.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from None


def scratch_directory(
    parent: str | Path | None, prefix: str = "mmnet-"
) -> tempfile.TemporaryDirectory[str]:
    """Makes a temporary directory for what does not fit in memory.

    It holds a file that is locked for as long as it is in use. So those that a killed process left
    in the same place are known by their file without a lock, and cleared away first.

    Args:
        parent: where to, made if need be: what `--engine_spill` names; none: the system's place.
        prefix: of its name.

    Raises:
        InputError: it cannot be made.
    """
    try:
        if parent:
            make_directory(Path(parent))
        _clear_scratch(Path(parent or tempfile.gettempdir()), prefix)
        made = tempfile.TemporaryDirectory(
            prefix=prefix, dir=parent or None, ignore_cleanup_errors=True
        )
        _lock_scratch(made)
        return made
    except OSError as error:
        raise InputError(
            f"{parent or tempfile.gettempdir()}: cannot write there: {error.strerror}; name a "
            "directory by --engine_spill"
        ) from None


_IN_USE = ".mmnet-in-use"
"""A file of a scratch directory, locked until its process ends."""


def _lock_scratch(made: tempfile.TemporaryDirectory[str]) -> None:
    try:
        import fcntl
    except ImportError:  # Windows: nothing tells a directory in use from one that was left
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
        except OSError:  # no scratch directory, or another user's
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
"""NumPy's whole message when a file takes no more."""


def problem_of_place(error: BaseException) -> str:
    """Says what is wrong with a disk or a path, if that is what an error is about.

    A full disk, a limit on file sizes, a path that cannot be: nothing a traceback would help with.

    Returns:
        One sentence; empty for any other error.

    >>> problem_of_place(OSError(errno.ENOSPC, "No space left on device", "runs/a.json"))
    'runs/a.json: No space left on device; free some, or choose another place'
    >>> problem_of_place(KeyError("a"))
    ''
    """
    where = getattr(error, "filename", None)
    named = f"{where}: " if where else ""
    if isinstance(error, OSError) and error.errno in _PLACES:
        told = error.strerror or os.strerror(error.errno)
    elif isinstance(error, OSError) and re.search(_SHORT_WRITE, str(error)):
        told = "a file could not be written to its end, so the disk or a limit is full"
    else:  # TensorFlow and Arrow put the system's words into messages of their own
        own = isinstance(error, OSError) or type(error).__module__.startswith("tensorflow")
        words = [os.strerror(code) for code in _PLACES if os.strerror(code) in str(error)]
        if not own or not words:
            return ""
        told = words[0]
    full = any(os.strerror(code) == told for code in _PLACES[:3]) or "full" in told
    return f"{named}{told}; {'free some, or choose another place' if full else 'choose another'}"


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
