"""Progress display of training: one bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

PLAIN_SECONDS = 10.0
"""Longest time between two lines within an epoch, where the output is not a terminal."""


class Display:
    """Shows the steps taken, the loss, the last validation and the time left, on stderr.

    Args:
        steps: steps in all, should training not stop early.
        done: steps taken by earlier sessions.
        console: console to print to; the standard error by default.
    """

    def __init__(self, steps: int, done: int = 0, console: Console | None = None):
        self.console = console or Console(stderr=True)
        self._steps, self._done, self._seen = steps, done, done
        self._start = self._spoke = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[loss]}  ETA"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self._task = self._bar.add_task("compiling", total=steps, completed=done, loss="")

    def __enter__(self):
        self._bar.start()
        return self

    def __exit__(self, *_):
        self._bar.stop()

    def line(self, text: str) -> None:
        """Prints one line, above the bar where there is one."""
        self._spoke = time.monotonic()
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def start(self, metrics: Mapping[str, float]) -> None:
        """Shows the metrics before the first step."""
        shown = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        self.line(f"start  {shown}")

    def step(self, step: int, epoch: int, loss: float) -> None:
        """Shows that `step` steps are taken, in `epoch` (counted from 1)."""
        self._seen = step
        self._bar.update(
            self._task, completed=step, description=f"epoch {epoch}", loss=f"loss {loss:.4g}"
        )
        silent = time.monotonic() - self._spoke
        if not self.console.is_terminal and silent > PLAIN_SECONDS:
            self.line(f"epoch {epoch}  {self._where()}  loss {loss:.4g}")

    def validating(self, epoch: int) -> None:
        """Shows that an epoch's validation runs."""
        self._bar.update(self._task, description=f"epoch {epoch}, validating")

    def epoch(self, epoch: int, loss: float, metrics: Mapping[str, float], note: str = "") -> None:
        """Shows an ended epoch."""
        shown = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        self.line(f"epoch {epoch}  {self._where()}  loss {loss:.4g}  {shown}  {note}".rstrip())

    def _where(self) -> str:
        """Steps taken and time left: `step 64 of 640, ETA 0:01:12`."""
        taken = max(self._seen - self._done, 1)
        left = (time.monotonic() - self._start) / taken * (self._steps - self._seen)
        eta = timedelta(seconds=round(left))
        return f"step {self._seen:,} of {self._steps:,}, ETA {eta}"
