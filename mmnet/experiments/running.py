"""One experiment with any system: plan, datasets, cells, and the files made of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from mmnet.checks import InputError
from mmnet.console import Progress, console
from mmnet.experiments import cells, plan
from mmnet.experiments.plan import ExperimentFlags, Row, System, TrainFlags

Prepare = Callable[[TrainFlags, Path], str]
"""Makes or reuses the dataset that flags describe in a directory, and returns its fingerprint."""


def directory_of(flags: ExperimentFlags, system: System) -> Path:
    """Directory of the experiment's cells.

    Raises:
        InputError: neither the experiment nor the results directory is given.
    """
    if not flags.results and not flags.experiment:
        raise InputError("no directory for the results; give --experiment or --results")
    return Path(flags.cells or f"{system.runs}/{Path(flags.experiment).name or 'unnamed'}")


def results_of(flags: ExperimentFlags) -> Path:
    """Directory of the result tables."""
    return Path(flags.results or f"{flags.experiment}/results")


def run(flags: ExperimentFlags, system: System, prepare: Prepare) -> Path:
    """Trains every cell that is not finished, and writes the results directory.

    Args:
        flags: flags of the experiment.
        system: the system whose rows are compared.
        prepare: makes the datasets.

    Returns:
        The results directory.
    """
    directory = directory_of(flags, system)
    folder = results_of(flags)
    if os.path.lexists(folder) and not folder.is_dir():  # before anything is trained
        raise InputError(f"{folder}: Not a directory; choose another place with --results")
    planned = plan.plan(flags, system)
    system.check(planned, flags)
    with cells.only_one(directory) as lock:
        wanted = (
            (row, *cell) for row in planned.rows.values() for cell in planned.cells_of(row.name)
        )
        fingerprints = prepared(wanted, directory, system, prepare)
        todo = plan.cells(planned, directory, fingerprints, system)
        ran = cells.run(todo, flags.jobs, console, lock, system)
        from mmnet.experiments import results  # pandas and matplotlib, after the cells

        with Progress("comparing the systems"):
            changed = results.write(planned, todo, flags, folder, system.files)
    console.print(f"{len(todo)} cells, {ran} of them run now; {changed} files changed in {folder}")
    return folder


def prepared(
    wanted: Iterable[tuple[Row, int, int]], directory: Path, system: System, prepare: Prepare
) -> dict[Path, str]:
    """Prepare every dataset that the cells (row, seed, origin) need; return the fingerprints."""
    found: dict[Path, str] = {}
    for row, seed, origin in wanted:
        flags = system.of_cell(row.flags, seed, origin)
        place = plan.dataset_directory(flags, directory, system)
        if place not in found:
            found[place] = prepare(flags, place)
    return found
