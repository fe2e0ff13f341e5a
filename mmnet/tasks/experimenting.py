"""A folder of flagfiles in; every system trained, compared and put into tables."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

from mmnet.checks import InputError
from mmnet.config import ExperimentConfig, TrainConfig
from mmnet.console import console
from mmnet.experiments import cells, plan, running, spaces
from mmnet.experiments.fork_server import ForkServer
from mmnet.experiments.share_rates import SYSTEM
from mmnet.files import write_atomic
from mmnet.startup import load_tensorflow
from mmnet.tasks.preparing import dataset_of_tables
from mmnet.training.records import Record
from mmnet.training.resume import progress_in


def experiment(flags: ExperimentConfig) -> None:
    """A folder of flagfiles in; every system trained, compared and put into tables."""
    if flags.space and not flags.tune:
        raise InputError(f"--space={flags.space} requires --tune, the rows to tune")
    if flags.retest and flags.tune:
        raise InputError("--retest and --tune cannot be combined; remove one of the two")
    if flags.tune:
        _tune(flags)
    elif flags.retest:
        from mmnet.experiments import retest  # pandas and matplotlib

        folder, changed = retest.run(flags, SYSTEM)
        names = f" ({', '.join(changed)})" if changed else ""
        console.print(f"{len(changed)} files changed in {folder}{names}")
        if changed:
            console.print("figures and report.html are as before; the experiment redraws them")
    else:
        folder = running.run(flags, SYSTEM, _prepare)
        console.print(f"report  {folder / 'report.html'}")


def _prepare(flags: TrainConfig, directory: Path) -> str:
    return dataset_of_tables(flags, directory).fingerprint


class _Clock:
    """The time left of all trials of this process."""

    def __init__(self, trials: int):
        self._left, self._start, self._done = trials, time.monotonic(), 0

    def skip(self, trials: int) -> None:
        """Count trials that an earlier process ran."""
        self._left -= trials

    def ended(self) -> str:
        """Print a line for the trial that has just ended."""
        self._done += 1
        self._left -= 1
        each = (time.monotonic() - self._start) / self._done
        return f"{self._left} trials left, ETA {timedelta(seconds=round(each * self._left))}"


class _Watch:
    """Tells of each epoch of a cell once, when its checkpoint is there, until one is hopeless.

    Args:
        hopeless: is told the epoch, counted from 1, and its monitored value; returns whether the
            training of the cell should end.

    Attributes:
        ended: whether it should.
    """

    def __init__(self, hopeless: Callable[[int, float], bool]):
        self._hopeless, self._told, self.ended = hopeless, 0, False

    def __call__(self, cell: plan.Cell) -> bool:
        progress = progress_in(cell.directory / "checkpoints")
        for row in progress.history[self._told :] if progress else ():
            self._told += 1
            self.ended = self.ended or self._hopeless(row["epoch"], row["monitor"])
        return self.ended


def _tune(flags: ExperimentConfig) -> None:
    """Finds each row's best options by the same number of trials on validation.

    Raises:
        InputError: no experiment's folder to write to, or several origins: the validation span of
            the last one is the test span of the one before.
    """
    directory = running.directory_of(flags, SYSTEM)
    if not flags.experiment or flags.origins > 1:
        raise InputError("--tune needs --experiment, for its rows/, and --origins=1")
    rows = plan.rows(flags.tune, flags, SYSTEM)
    own = spaces.read(flags.space) if flags.space else None
    for row in rows if own else ():
        spaces.check(own or {}, row.flags, f"--space={flags.space} for {row.name}")
    clock = _Clock(len(rows) * flags.trials)
    with cells.only_one(directory) as lock, contextlib.ExitStack() as stack:
        load_tensorflow()  # which the tuning's own names for monitored values come with
        from mmnet.experiments import tuning

        @functools.cache
        def server() -> ForkServer:
            return stack.enter_context(
                contextlib.closing(cells.fork_server(directory, 1, lock, SYSTEM))
            )

        for row in rows:
            known = running.prepared([(row, flags.seeds[0], 0)], directory, SYSTEM, _prepare)

            def trial(
                settings: Sequence[str],
                hopeless: Callable[[int, float], bool],
                row: plan.Row = row,
                known=known,
            ) -> Record | None:
                (cell,) = plan.trials(row, [settings], flags, directory, known, SYSTEM)
                watch = _Watch(hopeless)
                try:
                    cells.run([cell], 1, console, lock, SYSTEM, watch, server())
                finally:
                    console.print(clock.ended())
                # However fast it was trained, the same epoch decides.
                if watch(cell):
                    return None
                return Record.read(cell.directory / "record.json")

            path = Path(flags.experiment) / "rows" / f"{row.name}_tuned.txt"
            text = repr(sorted(own.items())) if own else ""
            name = plan.study(row, flags, next(iter(known.values())), SYSTEM, text)
            best = tuning.tune(row, trial, flags, directory / f"{name}.journal", own, clock.skip)
            write_atomic(path, best)
            console.print(f"{path}:\n{best}")
