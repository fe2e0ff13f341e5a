"""What all drivers share: flags in, one call to a task, an exit code out."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mmnet.checks import InputError, printable, printable_lines
from mmnet.files import problem_of_place
from mmnet.flags import Flags, parse, usage

OK, WRONG_INPUT, INTERNAL, INTERRUPTED = 0, 1, 2, 130
NOBODY_READS = 141
"""Of a program that writes into a closed pipe, as in `… | head`: 128 + SIGPIPE."""

INSPECT = "python -m mmnet.inspect, with the same tables, names everything that is wrong with them"
"""What is printed before the refusal of rows, which is the last line."""


def run(
    flags: type[Flags],
    summary: str | None,
    task: str | Callable[[Any], int | None],
    arguments: Sequence[str],
    *,
    tasks: str = "mmnet.tasks",
) -> int:
    """Parses the flags, runs the task, and turns the user's mistakes into one sentence.

    The task loads TensorFlow once flags, paths and headers are known to be right.

    Args:
        flags: the driver's config.
        summary: what `--help` prints first.
        task: the function to call with the config, or the name of one of `tasks`.
        arguments: of the command line, without the program's name.
        tasks: the module that has it.

    Returns:
        The exit code: 0 ok, 1 the input is wrong (one sentence on stderr, after the ledger of the
        rules that had run), 2 internal error (a traceback on stderr), 130 interrupted, by Ctrl-C
        or SIGTERM, 141 the reader of stdout is gone, or what the task returns (3 drift found).
    """
    asked = {argument.lstrip("-") for argument in arguments if argument.startswith("-")}
    try:
        if asked & {"help", "h", "helpfull"}:
            print(usage(flags, summary or "", full="helpfull" in asked), flush=True)
            return OK
        if os.environ.get("TF_USE_LEGACY_KERAS", "").lower() in ("1", "true"):
            raise InputError("TF_USE_LEGACY_KERAS is set, but mmnet runs on Keras 3; unset it")
        parsed = parse(flags, arguments)
        called = getattr(importlib.import_module(tasks), task) if isinstance(task, str) else task
        with _terminated_as_interrupted():
            code = called(parsed) or OK
        sys.stdout.flush()
        return code
    except InputError as error:
        for line in error.ledger:
            print(f"  {printable(line)}", file=sys.stderr)
        if error.of_tables:
            print(f"  {INSPECT}", file=sys.stderr)
        print(f"error: {error}", file=sys.stderr)
        return WRONG_INPUT
    except KeyboardInterrupt as interruption:
        print(f"interrupted{f': {interruption}' if str(interruption) else ''}", file=sys.stderr)
        return INTERRUPTED
    except SystemExit as ended:
        # Rich ends a program whose reader is gone, with the exit code of wrong input.
        if isinstance(ended.__context__, BrokenPipeError):
            return NOBODY_READS
        raise
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            return NOBODY_READS
        if told := problem_of_place(error):
            print(f"error: {printable(told)}", file=sys.stderr)
            return WRONG_INPUT
        print(printable_lines(traceback.format_exc()), end="", file=sys.stderr)
        return INTERNAL


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM ends a task as Ctrl-C does, so that scratch files and half outputs are cleared."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may ask for signals
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _nobody_reads() -> bool:
    """Whether stdout is a pipe whose reader is gone; if so, what is left to print is dropped."""
    try:
        print(flush=True)
    except BrokenPipeError:
        # Python flushes once more when it exits, and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False
