"""A limit on memory: what `--memory` allows, and a watch that ends a process which exceeds it.

Estimates refuse what cannot fit before anything is allocated (`data/budgets.py`). They are low, so
the memory that a command and its child processes hold is watched as well. What counts is private
memory: the system takes back the pages of mapped files, such as a dataset's arrays, when it needs
them.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from mmnet import files
from mmnet.checks import InputError

VARIABLE = "MMNET_MEMORY"
"""Environment variable that states the memory where it is not recognised, such as 64GB."""

EXCEEDED = 1
"""Exit code of a process that is ended: that of wrong input."""

EVERY_SECONDS = 0.005
CHILDREN_EVERY_SECONDS = 0.2
GRACE_SECONDS = 10.0
"""Time in which a task that is interrupted may remove what it has begun to write."""
HARD = 1.05
"""Factor of the limit above which a task is killed at once."""

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def size(text: str, flag: str) -> int:
    """Returns the bytes of a size such as 64GB.

    Args:
        text: a number, and a unit of 1,024 bytes or a power of that.
        flag: what it was given by, for messages.

    Raises:
        InputError: it cannot be read.

    >>> size("1.5GB", "MMNET_MEMORY"), size("800 MiB", "MMNET_MEMORY")
    (1610612736, 838860800)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\s*", text.lower())
    if not found:
        raise InputError(f"{flag} must be a size such as 64GB. Received: {text!r}")
    return int(float(found[1]) * _UNITS[found[2]])


@contextlib.contextmanager
def limited(memory: str) -> Iterator[None]:
    """Makes `--memory` the memory that estimates compare with, also those of child processes.

    Args:
        memory: the value of the flag; empty: no limit but that of the machine.

    Raises:
        InputError: it is not a size.
    """
    if not memory:
        yield
        return
    allowed, before = size(memory, "--memory"), os.environ.get(VARIABLE)
    if before:
        allowed = min(allowed, size(before, VARIABLE))
    os.environ[VARIABLE] = str(allowed)
    try:
        yield
    finally:
        os.environ.pop(VARIABLE)
        if before:
            os.environ[VARIABLE] = before


def watched(memory: str, work: Callable[[], int]) -> int:
    """Does the work in a child process, which is ended when it holds more than a limit.

    The child is asked to end as by SIGTERM, so that temporary and partial files are removed. One
    that keeps growing, or does not end within `GRACE_SECONDS`, is killed, and what it had begun to
    write is removed here. A child is needed since a thread of the same process does not run while
    a call into C holds Python's lock, which may allocate many gigabytes.

    Args:
        memory: the value of `--memory`.
        work: prints its own errors and returns an exit code. Its process ends with it.

    Returns:
        The exit code of the work; `EXCEEDED`, after a sentence on stderr, if it was ended.
    """
    if not can_watch():
        return work()
    limit = size(memory, "--memory")
    sys.stdout.flush()
    sys.stderr.flush()
    alive, end = os.pipe()  # the child reads from it, and ends when it is closed
    begun, journal = os.pipe()
    child = os.fork()
    if not child:
        os.close(end)
        os.close(begun)
        _as_child(alive, journal, work)
    os.close(alive)
    os.close(journal)
    with contextlib.suppress(OSError):
        os.setpgid(child, child)
    with _forwarded(child):
        return _Watch(child, limit, memory, end, begun).code()


def can_watch() -> bool:
    """Returns whether this process can watch a child: on Linux, before TensorFlow is loaded."""
    return (
        sys.platform == "linux"
        and threading.current_thread() is threading.main_thread()
        and "tensorflow" not in sys.modules
    )


_asked_to_end = threading.Event()


def interrupted_by_memory() -> bool:
    """Returns whether this process was asked to end because it holds too much memory."""
    return _asked_to_end.is_set()


def _as_child(alive: int, journal: int, work: Callable[[], int]) -> NoReturn:
    code = 2
    try:
        # A group of its own: Ctrl-C reaches the parent only, which passes it on once.
        os.setpgid(0, 0)
        threading.Thread(target=_listen, args=(alive,), daemon=True).start()
        files.tell_begun(journal)
        code = work()
    finally:
        try:
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def _listen(alive: int) -> None:
    """Notes that memory is exceeded, and ends this process when its parent is gone."""
    while os.read(alive, 1):
        _asked_to_end.set()
    os._exit(EXCEEDED)


@contextlib.contextmanager
def _forwarded(child: int) -> Iterator[None]:
    """Passes signals on to the child, whose exit code reports the outcome."""

    def forward(number: int, frame: Any) -> None:
        with contextlib.suppress(OSError):
            os.kill(child, number)

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, forward) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Watch:
    """Waits for a child process, and ends it when it and its own children hold too much."""

    def __init__(self, child: int, limit: int, memory: str, end: int, begun: int):
        self._child, self._limit, self._memory = child, limit, memory
        self._end, self._begun = end, begun
        os.set_blocking(begun, False)
        self._journal = b""
        self._exceeded = ""

    def code(self) -> int:
        """The exit code, once the child has ended."""
        children, looked, asked = 0, 0.0, 0.0
        while (ended := os.waitpid(self._child, os.WNOHANG))[0] == 0:
            self._read_journal()
            now = time.monotonic()
            if now - looked > CHILDREN_EVERY_SECONDS:
                children, looked = sum(map(private_bytes, descendants(self._child))), now
            held = private_bytes(self._child) + children
            if held > self._limit and not self._exceeded:
                asked = now
                self._exceeded = (
                    f"memory exceeded --memory={self._memory} ({held / 2**30:.2f} GB were held); "
                    "raise it, or read fewer rows or columns at a time"
                )
                os.write(self._end, b"x")
                os.kill(self._child, signal.SIGTERM)
            if self._exceeded and (held > HARD * self._limit or now - asked > GRACE_SECONDS):
                for process in (*descendants(self._child), self._child):
                    with contextlib.suppress(OSError):
                        os.kill(process, signal.SIGKILL)
            time.sleep(EVERY_SECONDS)
        self._read_journal()
        os.close(self._end)
        os.close(self._begun)
        code = os.waitstatus_to_exitcode(ended[1])
        if self._exceeded and code != 0:
            if code < 0:
                files.remove_begun(self._journal)
            print(f"error: {self._exceeded}", file=sys.stderr)
            return EXCEEDED
        return code if code >= 0 else 128 - code

    def _read_journal(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while told := os.read(self._begun, 1 << 16):
                self._journal += told


def private_bytes(process: int | None = None) -> int:
    """Returns the memory that a process holds for itself, in bytes; 0 where it is not known.

    Args:
        process: its number; default: this process.
    """
    try:
        with open(f"/proc/{process or os.getpid()}/statm", "rb") as file:
            _, resident, shared, *_ = map(int, file.read().split())
    except (OSError, ValueError):  # it has ended, or the system is not Linux
        return 0
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")


def descendants(process: int) -> list[int]:
    """Returns the processes that a process has started, and those that they have."""
    found, todo = [], [process]
    while todo:
        for listed in Path(f"/proc/{todo.pop()}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                children = [int(one) for one in listed.read_text().split()]
                found += children
                todo += children
    return found
