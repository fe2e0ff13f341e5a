"""Runs a command whose changes of files fail from a chosen step on, as on a full or read-only disk.

The kernel reports each system call that would change something below some directories, and waits
for an answer (seccomp's user notification, Linux 5.0 or later on x86-64, no privileges needed). So
it does not matter which library makes the call, and the command itself is not changed. What is
written through a mapping makes no system call, and is not refused here.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import platform
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

AVAILABLE = sys.platform == "linux" and platform.machine() == "x86_64"

CALLS = {
    **{1: "write", 18: "pwrite64", 20: "writev", 296: "pwritev", 328: "pwritev2"},
    **{40: "sendfile", 326: "copy_file_range", 285: "fallocate", 77: "ftruncate", 76: "truncate"},
    **{2: "open", 257: "openat", 85: "creat", 83: "mkdir", 258: "mkdirat"},
    **{82: "rename", 264: "renameat", 316: "renameat2", 86: "link", 265: "linkat"},
    **{88: "symlink", 266: "symlinkat", 84: "rmdir", 87: "unlink", 263: "unlinkat"},
    **{90: "chmod", 91: "fchmod", 268: "fchmodat", 280: "utimensat"},
}
"""The calls of x86-64 that change files, by their numbers."""
_AT = {
    **{"openat": (0, 1), "mkdirat": (0, 1), "unlinkat": (0, 1), "fchmodat": (0, 1)},
    **{"utimensat": (0, 1), "symlinkat": (1, 2), "linkat": (2, 3)},
    **{"renameat": (2, 3), "renameat2": (2, 3)},
}
"""Calls that name a file relative to a directory: the arguments of both."""
_NAMED = {"open": 0, "creat": 0, "mkdir": 0, "truncate": 0, "chmod": 0, "unlink": 0, "rmdir": 0}
_NAMED |= {"rename": 1, "link": 1, "symlink": 1}
"""Calls with a path: its argument. Of two paths, the one that is created."""
_DESCRIBED = {"copy_file_range": 2}
"""Argument of the descriptor, for calls without a path, if it is not the first."""
NEED_SPACE = {
    *("write", "pwrite64", "writev", "pwritev", "pwritev2", "sendfile", "copy_file_range"),
    *("fallocate", "mkdir", "mkdirat", "link", "linkat", "symlink", "symlinkat", "created"),
}
"""What a full disk refuses; a read-only one refuses all of `CALLS`."""

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_ALLOW, _NOTIFY, _X86_64 = 0x7FFF0000, 0x7FC00000, 0xC000003E
_RECEIVE, _SEND, _CONTINUE = 0xC0502100, 0xC0182101, 1


@dataclass
class Steps:
    """What a command did below the directories.

    Attributes:
        done: (call, path) of each step, in order; a call that creates a file is `created`.
        refused: how many of them failed.
        code: exit code of the command.
    """

    done: list[tuple[str, str]] = field(default_factory=list)
    refused: int = 0
    code: int | None = None


def run(
    command: Sequence[str] | Callable[[int], Any],
    roots: Sequence[Path],
    refuse: Callable[[int], int] = lambda number: 0,
    *,
    seconds: float = 600,
    **options: Any,
) -> Steps:
    """Runs a command, and refuses some of its steps.

    Args:
        command: the program and its arguments; or what starts a process that reports its calls to
            a descriptor (`report_to`), and returns something like a `subprocess.Popen`.
        roots: directories; steps elsewhere are neither counted nor refused.
        refuse: error number for a step, by the step's own number from 0; 0 lets it pass. ENOSPC is
            returned only by calls of `NEED_SPACE`.
        seconds: longest time that the command may take.
        options: of `subprocess.Popen`, for a program.

    Returns:
        The steps, and the exit code.

    Raises:
        subprocess.TimeoutExpired: it took longer; it has been killed.
        OSError: the kernel does not allow it.
    """
    ours, theirs = socket.socketpair()
    steps = Steps()
    kept: list[int] = []

    def answer() -> None:
        _, received, _, _ = socket.recv_fds(ours, 1, 1)
        if received:
            kept.extend(received)
            _answer(received[0], tuple(f"{root.resolve()}" for root in roots), refuse, steps)

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()  # before the command, whose first step waits for it
    try:
        number = theirs.fileno()
        if callable(command):
            process = command(number)
        else:
            # A program of its own asks for the filter: threads forbid Python between fork and exec.
            launcher = [sys.executable, "-S", str(Path(__file__)), str(number), *command]
            options |= {"pass_fds": [number], "start_new_session": True}
            process = subprocess.Popen(launcher, **options)
        theirs.close()
        try:
            steps.code = process.wait(seconds)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
    finally:
        theirs.close()
        thread.join(60)
        ours.close()
        for descriptor in kept:
            os.close(descriptor)
    return steps


def report_to(descriptor: int) -> None:
    """Makes this process, and all that it starts, report their calls to a socket's other end."""
    libc = ctypes.CDLL(None, use_errno=True)

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

    code = _filter()
    buffer = ctypes.create_string_buffer(code, len(code))
    program = Program(len(code) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    if libc.prctl(38, 1, 0, 0, 0):  # PR_SET_NO_NEW_PRIVS, without which only root may filter
        raise OSError(ctypes.get_errno(), "prctl")
    # seccomp(SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, program)
    listener = libc.syscall(317, 1, 8, ctypes.byref(program))
    if listener < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    with socket.socket(fileno=descriptor) as other:
        socket.send_fds(other, [b"x"], [listener])
    os.close(listener)


def _filter() -> bytes:
    """The filter as instructions of BPF: calls of `CALLS` are reported, all others pass."""
    load, equal, some, end = 0x20, 0x15, 0x45, 0x06

    def one(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
        return struct.pack("HBBI", code, then, otherwise, value)

    found = one(load, 4) + one(equal, _X86_64, 1, 0) + one(end, _ALLOW) + one(load, 0)
    for number, name in CALLS.items():
        if name in ("open", "openat"):  # only if it may change a file; the flags' lower half
            flags = 16 + 8 * (1 if name == "open" else 2)
            found += one(equal, number, 0, 4) + one(load, flags)
            found += one(some, _WRITES, 0, 1) + one(end, _NOTIFY) + one(end, _ALLOW)
        else:
            found += one(equal, number, 0, 1) + one(end, _NOTIFY)
    return found + one(end, _ALLOW)


def _answer(
    listener: int, roots: tuple[str, ...], refuse: Callable[[int], int], steps: Steps
) -> None:
    """Answers until all processes that report have ended."""
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    while True:
        if any(event & select.POLLHUP for _, event in poll.poll()):
            return
        told = bytearray(80)
        try:
            fcntl.ioctl(listener, _RECEIVE, told)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINTR):  # killed in the meantime
                continue
            raise
        name, process, number, *arguments = _read(told)
        code = 0
        path = _below(name, process, arguments, roots)
        if path and not (name.startswith("mkdir") and os.path.lexists(path)):  # that is EEXIST
            if name in ("open", "openat", "creat") and not os.path.lexists(path):
                name = "created"
            code = refuse(len(steps.done))
            if code == errno.ENOSPC and name not in NEED_SPACE:
                code = 0
            steps.done.append((name, path))
            steps.refused += bool(code)
        reply = struct.pack("QqiI", number, 0, -code, 0 if code else _CONTINUE)
        with contextlib.suppress(FileNotFoundError):  # killed in the meantime
            fcntl.ioctl(listener, _SEND, reply)


def _read(told: bytes | bytearray) -> tuple[Any, ...]:
    number, process, _, call, _, _ = struct.unpack_from("QIIiIQ", told)
    return (CALLS[call], process, number, *struct.unpack_from("6Q", told, 32))


def _below(name: str, process: int, arguments: list[int], roots: tuple[str, ...]) -> str:
    """The path that a call changes, if it is below one of the roots; else an empty text."""
    try:
        if name in _AT:
            directory, path = (arguments[place] for place in _AT[name])
            if not path and name == "utimensat":
                found = os.readlink(f"/proc/{process}/fd/{_signed(directory)}")
            else:
                found = os.path.join(_directory(process, _signed(directory)), _text(process, path))
        elif name in _NAMED:
            path = _text(process, arguments[_NAMED[name]])
            found = os.path.join(_directory(process, -100), path)
        else:
            descriptor = _signed(arguments[_DESCRIBED.get(name, 0)])
            found = os.readlink(f"/proc/{process}/fd/{descriptor}")
    except OSError:  # killed in the meantime, or a wrong argument, which the kernel will refuse
        return ""
    found = os.path.normpath(found)
    inside = any(found == root or found.startswith(f"{root}/") for root in roots)
    return found if inside else ""


def _directory(process: int, descriptor: int) -> str:
    current = f"/proc/{process}/cwd"
    return os.readlink(current if descriptor == -100 else f"/proc/{process}/fd/{descriptor}")


def _signed(argument: int) -> int:
    return ctypes.c_int(argument & 0xFFFFFFFF).value


def _text(process: int, address: int) -> str:
    """A text in another process's memory."""
    found = b""
    with open(f"/proc/{process}/mem", "rb", buffering=0) as memory:
        while b"\0" not in found and len(found) < 4096:
            memory.seek(address + len(found))
            # Up to the end of a page, as the next one may not be mapped.
            found += memory.read(4096 - (address + len(found)) % 4096)
    return os.fsdecode(found.partition(b"\0")[0])


if __name__ == "__main__":
    report_to(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])
