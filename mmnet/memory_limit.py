"""A limit on memory: what `--memory` allows, and a watch that ends a process which exceeds it.

Estimates refuse what cannot fit before anything is allocated (`data/budgets.py`). They are low, so
the memory that a driver and its child processes hold is watched as well. What counts is private
memory: the system takes back the pages of mapped files, such as a dataset's arrays, when it needs
them.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from mmnet import files
from mmnet.checks import InputError

VARIABLE = "MMNET_MEMORY"
"""Environment variable that states the memory where it is not recognised, such as 64GB."""

EXCEEDED = 1
"""Exit code of a process that is ended: that of wrong input."""

EVERY_SECONDS = 0.005
CHILDREN_EVERY_SECONDS = 0.2
GRACE_SECONDS = 10.0
"""Time in which a task that is interrupted may clear away what it has begun."""
HARD = 1.05
"""Factor of the limit from which on a task is not given that time."""

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


class Watchdog:
    """Interrupts the main thread when this process and its children hold more than a limit.

    The interrupt is that of SIGTERM, so that scratch files and half outputs are cleared away. A
    task that grows on, or does not end within `GRACE_SECONDS`, is ended by the watch itself, which
    clears away what `files` has begun.

    Args:
        memory: the value of `--memory`; empty watches nothing.

    Attributes:
        exceeded: the sentence to end with; empty while the limit is kept.
    """

    def __init__(self, memory: str):
        self._memory, self.exceeded = memory, ""
        self._limit = size(memory, "--memory") if memory else 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory watch", daemon=True)

    def __enter__(self) -> Watchdog:
        main = threading.current_thread() is threading.main_thread()
        if self._limit and main and private_bytes() is not None:
            self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        children, looked, interrupted = 0, 0.0, 0.0
        while not self._ended.wait(EVERY_SECONDS):
            now = time.monotonic()
            if now - looked > CHILDREN_EVERY_SECONDS:
                children, looked = sum(map(_private, _descendants())), now
            held = (private_bytes() or 0) + children
            if held <= self._limit:
                continue
            if not self.exceeded:
                self.exceeded = (
                    f"memory exceeded --memory={self._memory} ({held / 2**30:.2f} GB are held); "
                    "raise it, or read fewer rows or columns at a time"
                )
                interrupted = now
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
            if held > HARD * self._limit or now - interrupted > GRACE_SECONDS:
                self._end()

    def _end(self) -> None:
        """Ends the process, whose main thread may be in a call that no signal interrupts."""
        os.write(2, f"error: {self.exceeded}\n".encode())
        for process in _descendants():
            with contextlib.suppress(OSError):
                os.kill(process, signal.SIGKILL)
        files.clear_begun()
        os._exit(EXCEEDED)


def private_bytes() -> int | None:
    """The bytes of memory that this process holds for itself; None where Linux does not say."""
    return _private(os.getpid()) if sys.platform == "linux" else None


def _private(process: int) -> int:
    try:
        with open(f"/proc/{process}/statm", "rb") as file:
            _, resident, shared, *_ = map(int, file.read().split())
    except (OSError, ValueError):  # it has ended
        return 0
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")


def _descendants() -> list[int]:
    """The processes that this one has started, and those that they have."""
    found, todo = [], [os.getpid()]
    while todo:
        for listed in Path(f"/proc/{todo.pop()}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                children = [int(one) for one in listed.read_text().split()]
                found += children
                todo += children
    return found
