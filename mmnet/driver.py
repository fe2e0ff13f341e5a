"""Entry point of all drivers: parses the flags, calls one task, and returns an exit code."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from mmnet import interrupts
from mmnet.checks import InputError, printable, printable_lines
from mmnet.files import problem_of_place
from mmnet.flags import Flags, log_format, parse, usage
from mmnet.json_logs import printed_as_json
from mmnet.memory_limit import EXCEEDED, interrupted_by_memory, limited, watched

OK, WRONG_INPUT, INTERNAL, INTERRUPTED = 0, 1, 2, 130
NOBODY_READS = 141
"""Exit code of a program that writes into a closed pipe, as in `… | head`: 128 + SIGPIPE."""

AUTOGRAPH_FILE = "__autograph_generated_file"
"""First part of the names of TensorFlow's temporary files, which it removes at exit."""

INSPECT = "to list everything that is wrong with the tables, run: python -m mmnet.inspect"
"""Printed before an error about rows, which is the last line."""


def run(
    flags: type[Flags],
    summary: str | None,
    task: str | Callable[[Any], int | None],
    arguments: Sequence[str],
    *,
    tasks: str = "mmnet.tasks",
) -> int:
    """Parses the flags, runs the task, and reports wrong input in one sentence.

    The task loads TensorFlow only after it has checked flags, paths and headers.

    Args:
        flags: the driver's config.
        summary: first lines of `--help`.
        task: the function to call with the config, or its name in `tasks`.
        arguments: command-line arguments without the program's name.
        tasks: the module of the task, if it is given by name.

    Returns:
        The exit code: 0 ok, 1 the input is wrong (one sentence on stderr, after the ledger of the
        rules that had run), 2 internal error (a traceback on stderr), 130 interrupted by Ctrl-C
        or SIGTERM, 141 the reader of stdout has closed it, or the task's own code (3 drift found).
    """
    with contextlib.ExitStack() as stack:
        if log_format(arguments) == "json":
            stack.enter_context(printed_as_json(_name(flags)))
        stack.callback(interrupts.forget)
        return _coded(lambda: _run(flags, summary, task, arguments, tasks))


def _name(flags: type[Flags]) -> str:
    """Returns the name of a driver by the class of its flags, such as `mmnet.mma4ctr.train`."""
    return f"{flags.__module__.rpartition('.')[0]}.{flags.__name__.removesuffix('Config').lower()}"


def _run(
    flags: type[Flags],
    summary: str | None,
    task: str | Callable[[Any], int | None],
    arguments: Sequence[str],
    tasks: str,
) -> int:
    """`run`, with errors raised."""
    asked = {argument.lstrip("-") for argument in arguments if argument.startswith("-")}
    if asked & {"help", "h", "helpfull"}:
        print(usage(flags, summary or "", full="helpfull" in asked), flush=True)
        return OK
    if os.environ.get("TF_USE_LEGACY_KERAS", "").lower() in ("1", "true"):
        raise InputError("TF_USE_LEGACY_KERAS is set, but mmnet needs Keras 3; unset it")
    parsed = parse(flags, arguments)

    def work() -> int:
        called = getattr(importlib.import_module(tasks), task) if isinstance(task, str) else task
        with interrupts.handled():
            code = called(parsed) or OK
        sys.stdout.flush()
        return code

    if not (memory := getattr(parsed, "memory", "")):
        return work()
    with limited(memory):
        return watched(memory, lambda: _coded(work))


def _coded(work: Callable[[], int]) -> int:
    """Does the work; prints what it raises, and returns the exit code; see `run`."""
    try:
        return work()
    except (KeyboardInterrupt, Exception) as error:
        if interrupted_by_memory():
            return EXCEEDED
        if interrupts.came() and not isinstance(error, KeyboardInterrupt):
            return _told(KeyboardInterrupt())  # a library has replaced it
        return _told(error)
    except SystemExit as ended:
        # Rich exits with code 1 if the reader of stdout is gone, which here means wrong input.
        if isinstance(ended.__context__, BrokenPipeError):
            return NOBODY_READS
        raise


def _told(error: BaseException) -> int:
    if getattr(sys.unraisablehook, "func", None) is not _unraisable:
        sys.unraisablehook = functools.partial(_unraisable, sys.unraisablehook)
    if isinstance(error, InputError):
        for line in error.ledger:
            print(f"  {printable(line)}", file=sys.stderr)
        if error.of_tables:
            print(f"  {INSPECT}", file=sys.stderr)
        print(f"error: {error}", file=sys.stderr)
        return WRONG_INPUT
    if isinstance(error, KeyboardInterrupt):
        print(f"interrupted{f': {error}' if str(error) else ''}", file=sys.stderr)
        return INTERRUPTED
    if isinstance(error, BrokenPipeError) and _nobody_reads():
        return NOBODY_READS
    if told := problem_of_place(error):
        print(f"error: {printable(told)}", file=sys.stderr)
        return WRONG_INPUT
    print(printable_lines("".join(traceback.format_exception(error))), end="", file=sys.stderr)
    return INTERNAL


def _unraisable(before: Callable[[Any], object], raised: Any) -> None:
    """Reports an error at exit, unless TensorFlow cannot remove a file from a read-only disk."""
    if AUTOGRAPH_FILE not in str(getattr(raised.exc_value, "filename", "")):
        before(raised)


def _nobody_reads() -> bool:
    """Checks whether the reader of stdout is gone; if so, discards what is left to print."""
    try:
        print(flush=True)
    except BrokenPipeError:
        # Python flushes stdout again when it exits, which would fail with a second error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False
