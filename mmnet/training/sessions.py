"""The surroundings of a training session: signals that ask it to stop, and the profiler."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import tensorflow as tf


class Interrupted(KeyboardInterrupt):
    """Training was stopped by Ctrl-C or SIGTERM, and a checkpoint written."""


class Signals:
    """Notes the first Ctrl-C or SIGTERM; the second Ctrl-C interrupts at once.

    Attributes:
        came: whether one has arrived.
    """

    def __init__(self):
        self.came = False
        self._before = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():  # others may not ask for signals
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number, frame):
        self.came = True
        signal.signal(signal.SIGINT, signal.default_int_handler)


class Profile:
    """Traces the executions that hold the given steps, for TensorBoard's profile tab.

    Args:
        steps: the first and the last step, counted from 1; empty traces nothing.
        execution: most steps of one execution.
        directory: directory of the event files; without one nothing is traced.
    """

    def __init__(self, steps: tuple[int, ...], execution: int, directory: Path | None):
        self._steps = steps if directory else ()
        self._execution, self._directory, self._running = execution, directory, False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stop()

    def before(self, step: int) -> None:
        """Start the trace if the execution after `step` steps is to be traced."""
        if not self._steps or self._running:
            return
        first, last = self._steps
        if first - self._execution <= step < last:
            tf.profiler.experimental.start(str(self._directory))
            self._running = True

    def reached(self, step: int) -> None:
        """Stop the trace if the last traced execution ended after `step` steps."""
        if self._steps and step >= self._steps[1]:
            self._stop()

    def _stop(self) -> None:
        if self._running:
            tf.profiler.experimental.stop()
            self._running = False
