"""Cells run in parallel processes; a killed cell resumes where it stopped."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

from rich.console import Console

from mmnet import files
from mmnet.checks import InputError
from mmnet.experiments.fork_server import ForkServer
from mmnet.experiments.plan import Cell, System, TrainFlags
from mmnet.files import make_directory, write_atomic
from mmnet.flags import to_flagfile
from mmnet.training.records import Record

OUTPUT = "output.txt"
"""File of a cell's directory with the output of its training."""
LINES_SHOWN = 12
"""Lines of a failed cell's output that the error message repeats."""


def is_finished(cell: Cell) -> bool:
    """Return whether, by its record, a cell was trained and, unless it is a trial, scored."""
    try:
        record = Record.read(cell.directory / "record.json")
    except (OSError, ValueError):
        return False
    if cell.flags.outputs != "predictions":
        return bool(record.fitted)
    predictions = cell.directory / "evaluation" / "predictions.parquet"
    return bool(record.metrics) and predictions.exists()


SECONDS_BETWEEN_LOOKS = 1.0
"""Time between two questions to `enough` about a cell that is being trained."""


def run(
    cells: Sequence[Cell],
    jobs: int,
    console: Console,
    lock: int,
    system: System,
    enough: Callable[[Cell], bool] | None = None,
    server: ForkServer | None = None,
) -> int:
    """Run the cells that are not finished yet.

    Cells that differ in the seed alone are trained in turn by one process, so that compilation is
    paid for once; a second process takes some of them only where a core would be idle otherwise.
    All processes are forks of one that has made the imports.

    Args:
        cells: all of them; of several with one directory the first is run.
        jobs: number of cells at a time; each gets its part of the cores.
        console: prints a line per finished cell.
        lock: the descriptor from `only_one`.
        system: the system of the cells.
        enough: whether a cell that is being trained is to end, as a trial that is worse than
            others; this is not a failure, and the cell stays unfinished. None ends none.
        server: starts the processes, see `fork_server`; None: one that ends with the cells.

    Returns:
        Number of cells that were run to their end.

    Raises:
        InputError: cells failed; all others have been run.
    """
    unique: dict[Path, Cell] = {}
    for cell in cells:
        unique.setdefault(cell.directory, cell)
    cells = list(unique.values())
    unfinished = [cell for cell in cells if not is_finished(cell)]
    progress = _Progress(cells, len(unfinished), system, console)
    waiting = _Waiting(unfinished)
    workers: list[Worker] = []
    own = server is None
    failed: list[tuple[Cell, int]] = []
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # else cells would live on
    try:
        while waiting.cells or workers:
            while waiting.cells and len(workers) < jobs:
                first = waiting.first([one.cell for one in workers])
                server = server or fork_server(first.directory, jobs, lock, system)
                workers.append(Worker(first, server, system))
            wait = None if enough is None else SECONDS_BETWEEN_LOOKS
            answered, _, _ = select.select(workers, [], [], wait)
            for worker in workers:
                if enough and worker not in answered and not worker.stopped and enough(worker.cell):
                    worker.stop()
            for worker in answered:
                cell, code = worker.cell, worker.answer()
                if code and worker.stopped:
                    console.print(f"{cell.name} ended early")
                elif code:
                    failed.append((cell, code))
                    console.print(f"{cell.name} ended with exit code {code}")
                else:
                    progress.finished(cell, time.monotonic() - worker.began)
                following = None if worker.ended or worker.stopped else waiting.like(cell)
                if following is None:
                    worker.close()
                    workers.remove(worker)
                else:
                    worker.start(following)
    finally:
        signal.signal(signal.SIGTERM, before)
        for worker in workers:
            worker.stop()
        for worker in workers:
            worker.close()
        if own and server is not None:
            server.close()
    if failed:
        raise _failed(failed)
    return progress.done


class _Waiting:
    """Cells that no process has begun yet, in their order."""

    def __init__(self, cells: Sequence[Cell]):
        self.cells = list(cells)

    def first(self, running: Sequence[Cell]) -> Cell:
        """Takes the first cell, of a configuration that no process works on if there is one."""
        # A process that works on a configuration has compiled it, and will take its other seeds.
        busy = [_configuration(cell) for cell in running]
        own = (cell for cell in self.cells if _configuration(cell) not in busy)
        return self._take(next(own, self.cells[0]))

    def like(self, cell: Cell) -> Cell | None:
        """Takes the first cell that differs from this one in the seed alone."""
        same = (one for one in self.cells if _configuration(one) == _configuration(cell))
        return self._take(found) if (found := next(same, None)) else None

    def _take(self, cell: Cell) -> Cell:
        self.cells.remove(cell)
        return cell


def _configuration(cell: Cell) -> TrainFlags:
    return cell.flags.model_copy(update={"seed": 0, "run_dir": ""})


def fork_server(directory: Path, jobs: int, lock: int, system: System) -> ForkServer:
    """Starts the process of which those that train are forks.

    Args:
        directory: a file in it receives what the process prints while it imports.
        jobs: number of processes at a time; each gets its part of the cores.
        lock: the descriptor from `only_one`; each process holds the lock as long as it lives.
        system: the system of the cells.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    # Unlimited, every process would start a thread per core, and they would slow each other.
    threads = max(1, (cores or 1) // jobs)
    limits = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")
    environment = {**({} if jobs == 1 else dict.fromkeys(limits, str(threads))), **os.environ}
    make_directory(directory)
    with (directory / OUTPUT).open("ab") as output:
        return ForkServer(system.tasks, environment, output, lock)


def write_flags(cell: Cell, system: System) -> Path:
    """Write the flags of a cell to its directory; return the file."""
    make_directory(cell.directory)
    # The directory may hold the files of a killed process: then that run is resumed.
    flagfile = cell.directory / "cell.txt"
    # Flags that were not given stay unset: `--recipe=auto` may choose them.
    unset = set(type(cell.flags).model_fields) - cell.flags.model_fields_set
    text = to_flagfile(cell.flags, leave_out=(*system.known_to_dataset, "resume", *unset))
    write_atomic(flagfile, text + "--resume\n")
    return flagfile


class Worker:
    """A process that trains cells in turn, see `mmnet.series`; the first is begun at once."""

    def __init__(self, cell: Cell, server: ForkServer, system: System):
        make_directory(cell.directory)
        asked, answers = os.pipe(), os.pipe()
        with (cell.directory / OUTPUT).open("ab") as output:  # for what goes wrong on the way
            self._process = server.start(asked[0], answers[1], output.fileno())
        for theirs in (asked[0], answers[1]):
            os.close(theirs)
        self._asked, self._answers = os.fdopen(asked[1], "wb"), os.fdopen(answers[0], "rb")
        self.ended, self.stopped, self._server, self._system = False, False, server, system
        self.start(cell)

    def start(self, cell: Cell) -> None:
        """Begin a cell; its output goes to a file next to its results."""
        self.cell, self.began = cell, time.monotonic()
        flagfile = write_flags(cell, self._system)
        with contextlib.suppress(BrokenPipeError):  # the process has died; `answer` reports it
            self._asked.write(os.fsencode(flagfile) + b"\n")
            self._asked.flush()

    def fileno(self) -> int:
        """File descriptor that becomes readable when the process has answered."""
        return self._answers.fileno()

    def answer(self) -> int:
        """Exit code of the cell, or that of the process if it has died."""
        if line := self._answers.readline():
            return int(line)
        self.ended = True
        return self._server.exit_code(self._process) or 1

    def stop(self) -> None:
        """Ask the process to write a checkpoint and end."""
        self.stopped = True
        if self._process and not self.ended:
            os.kill(self._process, signal.SIGTERM)

    def close(self) -> None:
        """Close the input of the process, and wait for its end."""
        with contextlib.suppress(BrokenPipeError):
            self._asked.close()
        self._answers.read()  # to its end, which is that of the process
        if not self.ended:
            self._server.exit_code(self._process)
        self._answers.close()


def _failed(failed: Sequence[tuple[Cell, int]]) -> InputError:
    (cell, code), *others = failed
    output = cell.directory / OUTPUT
    lines = output.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    tail = "\n".join(lines[-LINES_SHOWN:])
    also = f"; so did {', '.join(other.name for other, _ in others)}" if others else ""
    return InputError(
        f"cell {cell.name} ended with exit code {code}{also}. All other cells are finished and "
        f"will not be run again. Last lines of {output}:",
        f"\n{tail}",
    )


class _Progress:
    """A line per finished cell, with the time left by the seconds spent so far."""

    def __init__(self, cells: Sequence[Cell], waiting: int, system: System, console: Console):
        self.done, self._left, self._system, self._console = 0, waiting, system, console
        self._start = time.monotonic()
        if waiting:
            console.print(f"{len(cells)} cells, {len(cells) - waiting} of them finished before")

    def finished(self, cell: Cell, seconds: float) -> None:
        """Report a cell that finished without an error."""
        self.done += 1
        self._left -= 1
        record = Record.read(cell.directory / "record.json")
        each = (time.monotonic() - self._start) / self.done
        left = timedelta(seconds=round(each * self._left))
        count = f"{self.done}/{self.done + self._left}"
        self._console.print(
            f"{count}  {cell.name}  {seconds:.0f} s  {self._system.shown(record)}  ETA {left}"
        )


def only_one(directory: Path) -> contextlib.AbstractContextManager[int]:
    """Locks a directory against a second experiment, and against the cells of a killed one.

    Returns:
        A context of the lock, a file descriptor to hand on to the cells; `InputError` where another
        process works in the directory.
    """
    return files.only_one(
        directory,
        f"{directory} is in use by another experiment, or by a cell of one that was killed; wait "
        "for it, or choose another --cells",
    )
