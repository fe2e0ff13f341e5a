"""Ctrl-C and SIGTERM, remembered until the driver has ended.

Both raise `KeyboardInterrupt` in the main thread, wherever it is. Libraries that call Python from C
may drop that exception or raise another one in its place, and continue with what they have by then.
So the driver reports any error after a signal as an interruption, and no file gets its name any
more.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

_came = False


def came() -> bool:
    """Returns whether a signal has asked this process to end."""
    return _came


def check() -> None:
    """Repeats an interruption that was lost.

    Raises:
        KeyboardInterrupt: a signal has asked this process to end.
    """
    if _came and threading.current_thread() is threading.main_thread():
        raise KeyboardInterrupt


def forget() -> None:
    """Forgets a signal: the driver that it asked to end has ended."""
    global _came
    _came = False


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """Handles SIGTERM like Ctrl-C, so that temporary and partial files are removed.

    Ctrl-C stays as it is where it was ignored, as in a background job of a shell, or handled.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python lets only the main thread handle signals
        return
    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, _interrupt)}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        before[signal.SIGINT] = signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: Any) -> None:
    global _came
    _came = True
    raise KeyboardInterrupt
