"""`--recipe=auto`: candidates are trained and compared on validation; the chosen one is the run."""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from mmnet.checks import InputError
from mmnet.config import TrainConfig
from mmnet.data import dataset as datasets
from mmnet.data.dataset import Dataset
from mmnet.data.windows import Windows
from mmnet.files import UNREADABLE, read_json, write_atomic, write_directory
from mmnet.models import REGISTRY
from mmnet.recipes.durations import seconds_of
from mmnet.recipes.reading import OF_A_RECIPE
from mmnet.schema import SCENARIOS
from mmnet.search import candidates, choosing, halving, report
from mmnet.search.candidates import Entry
from mmnet.search.halving import Outcome
from mmnet.search.journal import Journal
from mmnet.tasks.building import built, member_directory, model_options
from mmnet.tasks.evaluating import System, choosing_set, validation_halves
from mmnet.tasks.shown import console
from mmnet.tasks.training import Series, fit_estimator, fit_network
from mmnet.training import losses
from mmnet.training.fitting import FitResult
from mmnet.training.run_directory import OF_THE_RUN, SEARCH, SHARE_RATES
from mmnet.training.share_rates import monitored


def choose(
    flags: TrainConfig, dataset: Dataset, run_dir: Path
) -> tuple[TrainConfig, Dataset, Series | None]:
    """Find the recipe for a dataset, unless an earlier process has found it.

    Args:
        flags: flags of the search, including those of the dataset.
        dataset: with all inputs that candidates may read. Its test split is not opened.
        run_dir: the run directory; the search is in its folder `recipe`.

    Returns:
        The flags of the run to train, its dataset, and what the search has compiled and fitted for
        it; None where that was another process.

    Raises:
        InputError: no candidate is left by the flags given, or all of them failed.
    """
    directory = run_dir / SEARCH
    within_one = dataset.fitted.spec.max_rate is not None
    entries, left_out = candidates.entries(
        flags, within_one=within_one, candidates=candidates.CANDIDATES
    )
    numbers = run_dir / report.NUMBERS
    trainings: _Trainings | None = None
    if not (directory / "flags.txt").exists():
        SHARE_RATES.write(flags, directory, only_given=True)
    if not numbers.exists():
        try:
            trainings, told = _searched(flags, dataset, directory, entries, left_out)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"stopped while looking for a recipe; --run_dir={run_dir} --resume continues"
            ) from None
        write_atomic(run_dir / report.PAGE, report.page(told))
        write_atomic(numbers, json.dumps(told, indent=1) + "\n")
    told = _read(numbers)
    known = [one for one in entries if one.name == told["chosen"]]
    if not known:
        raise InputError(
            f"{numbers} names {told['chosen']}, which cannot be trained here: "
            f"{left_out.get(told['chosen'], 'there is no such candidate')}"
        )
    entry = known[0]
    row = next(one for one in told["candidates"] if one["candidate"] == entry.name)
    # Training that ended by itself ends there again, and other members end where they will.
    found = _of_run(entry, flags, flags.epochs if row["finished"] else row["epochs"], run_dir)
    given = set(flags.model_fields_set) | set(entry.flags.model_fields_set) | {"epochs"}
    given -= set(OF_A_RECIPE)
    write_atomic(run_dir / report.FLAGFILE, report.flagfile(found, given, told))
    console.print()
    for line in [*report.lines(told), *told["remarks"]]:
        console.print(line)
    console.print(f"recipe       {told['chosen']}: {run_dir / report.PAGE}")
    _continued(directory / entry.name, run_dir / member_directory(found, found))
    own = with_inputs(dataset, entry.flags)
    if own is not dataset:
        place = run_dir / "dataset"
        datasets.save(own, place)
        found, own = found.model_copy(update={"dataset_dir": str(place)}), datasets.load(place)
    series = trainings.series(entry.name) if trainings else None
    if series:
        series.becomes(found, own)
    return found, own, series


def _read(path: Path) -> dict[str, Any]:
    """The content of recipe.json; `InputError` where it is damaged."""
    try:
        return read_json(path)
    except UNREADABLE as error:
        raise InputError(f"{path} is damaged ({error}); delete it and resume the run") from None


def _searched(
    flags: TrainConfig,
    dataset: Dataset,
    directory: Path,
    entries: list[Entry],
    left_out: dict[str, str],
) -> tuple[_Trainings, dict[str, Any]]:
    """The search itself; returns its trainings and the content of recipe.json."""
    assert dataset.split is not None
    closed = dataclasses.replace(dataset, split=dataset.split.closed())
    console.print(f"looking for a recipe among {len(entries)} candidates:")
    for entry in entries:
        always = " (always trained)" if entry.candidate.always else ""
        console.print(f"  {entry.name:<24} {entry.candidate.title}{always}")
    for name, why in left_out.items():
        console.print(f"  {name:<24} not tried: {why}")
    if flags.ensemble > 1:
        console.print(
            f"after the search: an ensemble of {flags.ensemble}, if the chosen one draws at "
            "random; the budget counts its first member only"
        )
    if not flags.budget:
        console.print(
            f"budget: {halving.TIMES} times the training of {entries[0].name}, which comes first"
        )
    trainings = _Trainings(flags, closed, directory)
    found = halving.search(
        entries,
        trainings.advance,
        epochs=flags.epochs,
        budget=seconds_of(flags.budget) if flags.budget else None,
        say=console.print,
    )
    trained = [one for one in entries if one.name in found.outcomes]
    trained = [one for one in trained if not found.outcomes[one.name].failed]
    if not trained:
        reasons = "; ".join(f"{name}: {one.failed}" for name, one in found.outcomes.items())
        raise InputError(f"--recipe=auto: no candidate could be trained ({reasons})")
    watched = _watched(flags)
    squared = {one.name: trainings.journal.squared(one.name)[watched] for one in trained}
    best, compared = choosing.compare(squared, trainings.items)
    simplicity = {one.name: one.candidate.simplicity for one in trained}
    told = report.numbers(
        entries,
        found,
        compared,
        best=best,
        chosen=choosing.chosen(compared, simplicity),
        left_out=left_out,
        remarks=trainings.remarks,
    )
    return trainings, told


def _watched(flags: TrainConfig) -> list[int]:
    """Which scenarios `--monitor` is about."""
    if flags.monitor == "mean_log_mse":
        return list(range(len(SCENARIOS)))
    return [SCENARIOS.index(flags.monitor)]


class _Trainings:
    """Trains candidates in this process; each goes on where it was.

    Args:
        flags: flags of the search.
        dataset: without its test split.
        directory: directory of the search.

    Attributes:
        journal: journal of the search.
        items: the item of each validation row that chooses.
        remarks: lines about validation for the report.
    """

    def __init__(self, flags: TrainConfig, dataset: Dataset, directory: Path):
        self._dataset, self._directory = dataset, directory
        self.journal = Journal(directory, dataset.fingerprint)
        self._open: dict[str, tuple[Series, System]] = {}
        self._windows: dict[str, tuple[Dataset, Windows]] = {}
        halves = validation_halves(dataset, flags)
        self.items = halves.choosing.items
        self.remarks = [halves.remark] if halves.remark else []

    def advance(self, entry: Entry, epochs: int) -> Outcome:
        """See `halving.Advance`."""
        known = self.journal.outcome(entry.name, epochs)
        if known is not None:
            return known
        console.print(f"{entry.name}: " + (f"up to epoch {epochs}" if epochs else "fitting"))
        before, start = self.journal.seconds(entry.name), time.monotonic()
        try:
            outcome, squared = self._trained(entry, epochs)
        except InputError as error:  # such as a loss that is not a number
            outcome = Outcome(float("inf"), 0, 0, 0.0, 0.0, True, failed=str(error))
            squared = np.empty((0, 0))
        # A killed session's seconds are in the checkpoint, not on this clock.
        seconds = max(before + time.monotonic() - start, outcome.seconds)
        outcome = dataclasses.replace(outcome, seconds=seconds)
        self.journal.add(entry.name, epochs, outcome, squared)
        return outcome

    def _trained(self, entry: Entry, epochs: int) -> tuple[Outcome, np.ndarray]:
        dataset, windows = self._dataset_of(entry.flags)
        run_dir = self._directory / entry.name
        flags = entry.flags.model_copy(
            update={"resume": True, "outputs": "validation", "run_dir": str(run_dir)}
        )
        series, system = self._system(entry, dataset, flags)
        if entry.network:
            fitted = fit_network(series, system, dataset, windows, flags, run_dir, epochs=epochs)
            outcome = Outcome(
                value=fitted.best_value,
                epochs=fitted.epochs,
                best_epoch=fitted.best_epoch,
                seconds=fitted.seconds,
                epoch_seconds=_epoch_seconds(fitted),
                finished=fitted.stopped_early or fitted.epochs >= flags.epochs,
                scores=_mse(fitted.metrics),
            )
        else:
            series.fitted = fit_estimator(system, dataset, windows, flags)
            told = series.fitted["validation"]
            value = monitored(flags.monitor, told)
            outcome = Outcome(value, 0, 0, 0.0, 0.0, True, scores=_mse(told))
        validation = choosing_set(dataset, windows, flags)
        predicted = validation.predictions(system.predict)
        errors = np.stack([predicted[name] for name in SCENARIOS]).astype(np.float64)
        return outcome, np.square(errors - validation.truth)

    def series(self, name: str) -> Series | None:
        """State that the training steps of a candidate share, if this process trained it."""
        found = self._open.get(name)
        return found[0] if found else None

    def _system(self, entry: Entry, dataset: Dataset, flags: TrainConfig) -> tuple[Series, System]:
        """What a candidate's steps share: its network is compiled once."""
        if entry.name not in self._open:
            builder, options = model_options(flags)
            model = built(builder, options, dataset, flags)
            if entry.network:
                losses.check_loss(flags.loss, model)
            series = Series()
            self._open[entry.name] = series, series.system(model, dataset, flags)
        return self._open[entry.name]

    def _dataset_of(self, flags: TrainConfig) -> tuple[Dataset, Windows]:
        key = ",".join(flags.inputs)
        if key not in self._windows:
            own = with_inputs(self._dataset, flags)
            self._windows[key] = own, Windows(own)
        return self._windows[key]


def _epoch_seconds(fitted: FitResult) -> float:
    """Seconds of an epoch: the median of all but the first, which compiles.

    After the first alone: those of its steps at the speed of the executions after the first, and
    where it has no other, all of it.
    """
    ends = [row["seconds"] for row in fitted.history]
    if len(ends) > 1:
        return float(np.median(np.diff(ends)))
    steps = fitted.steps / fitted.steps_per_second
    return min(steps, ends[0]) if np.isfinite(steps) else ends[0]


def _mse(metrics: dict[str, float]) -> dict[str, float]:
    return {f"{name}_mse": float(metrics[f"{name}_mse"]) for name in SCENARIOS}


def with_inputs(dataset: Dataset, flags: TrainConfig) -> Dataset:
    """Restrict a dataset to the inputs of a candidate.

    Ages, the calendar and lifetimes are made of the same arrays as everything else, batch by
    batch, and the evidence of taxonomies has channels of its own, so that leaving one out changes
    what is fitted, and no array.
    """
    task, spec = dataset.fitted.task, dataset.fitted.spec
    if set(flags.inputs) == set(task.inputs):
        return dataset
    changed: dict[str, Any] = {"age": None} if "age" not in flags.inputs else {}
    changed |= {"cycles": ()} if "calendar" not in flags.inputs else {}
    changed |= {"lifetime": None} if "lifetime" not in flags.inputs else {}
    if "taxonomy_evidence" not in flags.inputs:
        changed["taxonomy_evidence"] = False
    fitted = dataset.fitted.model_copy(
        update={
            "spec": spec.model_copy(update=changed),
            "task": task.model_copy(update={"inputs": flags.inputs}),
        }
    )
    name = ",".join(flags.inputs) or "none"
    return dataclasses.replace(
        dataset, fitted=fitted, fingerprint=f"{dataset.fingerprint}-inputs-{name}"
    )


def _of_run(entry: Entry, flags: TrainConfig, epochs: int, run_dir: Path) -> TrainConfig:
    """The flags of the run that a candidate becomes: its training goes on where it ended."""
    own = {name: getattr(flags, name) for name in OF_THE_RUN}
    if not REGISTRY[entry.flags.model].seeded:
        own["ensemble"] = 1  # its members would all be the same
    return entry.flags.model_copy(
        update={
            **own,
            "recipe": "",
            "budget": "",
            "epochs": epochs,
            "resume": True,
            "run_dir": str(run_dir),
        }
    )


def _continued(candidate: Path, run_dir: Path) -> None:
    """Hands a candidate's checkpoints and logs to the run, unless it has its own."""
    for name in ("logs", "checkpoints"):
        source = candidate / name
        if source.exists() and not (run_dir / name).exists():
            copy = functools.partial(shutil.copytree, source, dirs_exist_ok=True)
            write_directory(run_dir / name, copy)
