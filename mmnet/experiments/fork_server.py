"""A process that imports what training needs; those that train are forks of it."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

MODULE = "mmnet.series"
"""The program of the server; its arguments are the descriptor of a socket and the client's own."""
_AT_START: dict[signal.Signals, Any] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
}
"""Signals that a process begins with, and what they do; the server ignores them."""
_LARGEST = 32
"""Bytes of a request or an answer: the number of a process."""


class ForkServer:
    """The client's side: starts forks, and asks how they ended.

    Args:
        argument: the server's own argument.
        environment: environment variables of the server and its forks.
        errors: file for what goes wrong while the server imports.
        kept: an open descriptor that the server and all forks inherit.
    """

    def __init__(self, argument: str, environment: Mapping[str, str], errors: BinaryIO, kept: int):
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", MODULE, str(theirs.fileno()), argument],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env=environment,
                pass_fds=(theirs.fileno(), kept),
            )

    def start(self, *streams: int) -> int | None:
        """Start a fork.

        Args:
            streams: descriptors that become its stdin, stdout and stderr.

        Returns:
            Number of its process; None where the server has died.
        """
        return self._answer(b"fork", streams)

    def exit_code(self, process: int | None) -> int:
        """Wait for the end of a fork; return its exit code, and where the server has died, that."""
        code = None if process is None else self._answer(b"%d" % process)
        return (self._process.wait() or 1) if code is None else code

    def close(self) -> None:
        """End the server, which has nothing to tidy up; forks that still run continue."""
        self._socket.close()
        self._process.kill()
        self._process.wait()

    def _answer(self, request: bytes, descriptors: tuple[int, ...] = ()) -> int | None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            socket.send_fds(self._socket, [request], descriptors)
            if answer := self._socket.recv(_LARGEST):
                return int(answer)
        return None


def serve(descriptor: int, work: Callable[[], int]) -> int:
    """The server's side: answers until the client has gone; in each fork, works.

    Args:
        descriptor: that of the socket.
        work: what a fork does; it returns an exit code.

    Returns:
        The exit code of a fork. In the server this function does not return: nothing was executed
        that would need tidying up.
    """
    for number in _AT_START:
        signal.signal(number, signal.SIG_IGN)
    gc.freeze()  # or a fork's garbage collector would copy the pages that they share
    with socket.socket(fileno=descriptor) as client:
        while True:
            request, streams, *_ = socket.recv_fds(client, _LARGEST, 3)
            if not request:
                os._exit(0)
            if not streams:
                _, status = os.waitpid(int(request), 0)
                answer = os.waitstatus_to_exitcode(status)
            elif not (answer := os.fork()):
                break
            for stream in streams:
                os.close(stream)
            client.sendall(b"%d" % answer)
    for number, handler in _AT_START.items():
        signal.signal(number, handler)
    for own, stream in enumerate(streams):
        os.dup2(stream, own)
        os.close(stream)
    return work()
