"""One process per cell: as many at a time as asked for, each resumed where it was killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from rich.console import Console

from mmnet import config, files
from mmnet.checks import InputError
from mmnet.experiments.plan import Cell
from mmnet.files import write_atomic
from mmnet.schema import SCENARIOS
from mmnet.training.records import Record

LINES_SHOWN = 12
"""Of a failed cell's output."""


def is_finished(cell: Cell) -> bool:
    """Whether a cell's record says that it was trained, and scored unless it is a trial."""
    try:
        record = Record.read(cell.directory / "record.json")
    except (OSError, ValueError):
        return False
    if cell.flags.outputs != "predictions":
        return bool(record.fitted)
    predictions = cell.directory / "evaluation" / "predictions.parquet"
    return bool(record.metrics) and predictions.exists()


def run(cells: Sequence[Cell], jobs: int, console: Console, lock: int) -> int:
    """Runs the cells that are not finished yet.

    Args:
        cells: all of them.
        jobs: how many at a time; each gets its part of the cores.
        console: for a line per finished cell.
        lock: what `only_one` gave.

    Returns:
        How many were run.

    Raises:
        InputError: cells failed; all others have been run.
    """
    waiting = [cell for cell in cells if not is_finished(cell)]
    progress = _Progress(cells, len(waiting), jobs, console)
    running: dict[subprocess.Popen[bytes], tuple[Cell, float]] = {}
    failed: list[tuple[Cell, int]] = []
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # else cells would live on
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                cell = waiting.pop(0)
                running[_start(cell, jobs, lock)] = (cell, time.monotonic())
            time.sleep(0.1)
            for process in [one for one in running if one.poll() is not None]:
                cell, began = running.pop(process)
                if process.returncode:
                    failed.append((cell, process.returncode))
                    console.print(f"{cell.name} ended with exit code {process.returncode}")
                else:
                    progress.finished(cell, time.monotonic() - began)
    finally:
        signal.signal(signal.SIGTERM, before)
        for process in running:  # each writes a checkpoint and ends
            process.send_signal(signal.SIGTERM)
        for process in running:
            process.wait()
    if failed:
        raise _failed(failed)
    return progress.done


def _start(cell: Cell, jobs: int, lock: int) -> subprocess.Popen[bytes]:
    """Starts a cell's own process; its output goes to a file beside its results."""
    cell.directory.mkdir(parents=True, exist_ok=True)
    # The directory may hold what a killed process left: then that run goes on.
    flagfile = cell.directory / "cell.txt"
    known_to_dataset = (*config.TABLES, *config.TASK, "resume")
    text = config.to_flagfile(cell.flags, leave_out=known_to_dataset)
    write_atomic(flagfile, text + "--resume\n")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = max(1, (cores or 1) // jobs)
    limits = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")
    environment = {**({} if jobs == 1 else dict.fromkeys(limits, str(threads))), **os.environ}
    with (cell.directory / "output.txt").open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "mmnet.train", f"--flagfile={flagfile}"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            pass_fds=(lock,),  # a cell holds the lock as long as it lives
        )


def _failed(failed: Sequence[tuple[Cell, int]]) -> InputError:
    (cell, code), *others = failed
    output = cell.directory / "output.txt"
    lines = output.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    tail = "\n".join(lines[-LINES_SHOWN:])
    also = f"; so did {', '.join(other.name for other, _ in others)}" if others else ""
    return InputError(
        f"cell {cell.name} ended with exit code {code}{also}. All other cells are done, and will "
        f"not be run again. The end of {output}:\n{tail}"
    )


class _Progress:
    """A line per finished cell, with the time left by the seconds spent so far."""

    def __init__(self, cells: Sequence[Cell], waiting: int, jobs: int, console: Console):
        self.done, self._left, self._jobs, self._console = 0, waiting, jobs, console
        self._start = time.monotonic()
        if waiting:
            console.print(f"{len(cells)} cells, {len(cells) - waiting} of them finished before")

    def finished(self, cell: Cell, seconds: float) -> None:
        """One cell has ended well."""
        self.done += 1
        self._left -= 1
        record = Record.read(cell.directory / "record.json")
        scores = record.metrics or record.fitted["validation"]
        if record.metrics:
            mse = {name: scores[name]["mse"] for name in SCENARIOS}
        else:
            mse = {name: scores[f"{name}_mse"] for name in SCENARIOS}
        shown = "  ".join(f"{name} {value:.4g}" for name, value in mse.items())
        kind = "test" if record.metrics else "validation"
        each = (time.monotonic() - self._start) / self.done
        left = timedelta(seconds=round(each * self._left))
        count = f"{self.done}/{self.done + self._left}"
        self._console.print(
            f"{count}  {cell.name}  {seconds:.0f} s  {kind} MSE {shown}  ETA {left}"
        )


def only_one(directory: Path) -> contextlib.AbstractContextManager[int]:
    """Keeps a second experiment, or the cells of one that was killed, out of a directory.

    Returns:
        A context of the lock, a file descriptor to hand on to the cells; `InputError` where another
        process works in the directory.
    """
    return files.only_one(
        directory,
        f"{directory} is in use by another experiment, or by a cell of one that was killed; wait "
        "for it, or choose another --cells",
    )
