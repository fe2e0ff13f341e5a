"""A folder of flagfiles in; every system trained, compared and put into tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from mmnet.checks import InputError
from mmnet.config import (
    ExperimentConfig,
)
from mmnet.experiments import cells, plan
from mmnet.files import write_atomic
from mmnet.startup import load_tensorflow
from mmnet.tasks.preparing import dataset_of_tables
from mmnet.tasks.shown import console
from mmnet.training.records import Record


def experiment(flags: ExperimentConfig) -> None:
    """A folder of flagfiles in; every system trained, compared and put into tables."""
    name = Path(flags.experiment).name or "unnamed"
    directory = Path(flags.cells or f"runs/experiments/{name}")
    if not flags.results and not flags.experiment:
        raise InputError("neither --experiment nor --results given; name where tables go")
    with cells.only_one(directory) as lock:
        if flags.tune:
            _tune(flags, directory, lock)
            return
        planned = plan.plan(flags)
        rows = [(row, planned.origins_of(name)) for name, row in planned.rows.items()]
        fingerprints = _prepared(rows, directory)
        todo = plan.cells(planned, directory, fingerprints)
        ran = cells.run(todo, flags.jobs, console, lock)
        from mmnet.experiments import results

        folder = Path(flags.results or f"{flags.experiment}/results")
        changed = results.write(planned, todo, flags, folder)
    console.print(f"{len(todo)} cells, {ran} of them run now; {changed} files changed in {folder}")


def _prepared(rows: Iterable[tuple[plan.Row, int]], directory: Path) -> dict[Path, str]:
    """Every dataset that the cells of the rows and their origins need, and its fingerprint."""
    found: dict[Path, str] = {}
    for row, origins in rows:
        for origin in range(origins):
            place = plan.dataset_directory(row, origin, directory)
            if place not in found:
                flags = row.flags.model_copy(update={"origin": origin})
                found[place] = dataset_of_tables(flags, place).fingerprint
    return found


def _tune(flags: ExperimentConfig, directory: Path, lock: int) -> None:
    """Finds each row's best options by the same number of trials on validation.

    Raises:
        InputError: no experiment's folder to write to, or several origins: the validation span of
            the last one is the test span of the one before.
    """
    if not flags.experiment or flags.origins > 1:
        raise InputError("--tune needs --experiment, for its rows/, and --origins=1")
    rows = plan.rows(flags.tune, flags)
    load_tensorflow()  # which the tuning's own names for monitored values come with
    from mmnet.experiments import tuning

    for row in rows:
        fingerprints = _prepared([(row, 1)], directory)

        def trial(settings: Sequence[str], row: plan.Row = row, known=fingerprints) -> Record:
            (cell,) = plan.trials(row, [settings], flags, directory, known)
            cells.run([cell], 1, console, lock)
            return Record.read(cell.directory / "record.json")

        path = Path(flags.experiment or ".") / "rows" / f"{row.name}_tuned.txt"
        name = plan.study(row, flags, next(iter(fingerprints.values())))
        best = tuning.tune(row, trial, flags, directory / f"{name}.journal")
        write_atomic(path, best)
        console.print(f"{path}:\n{best}")
