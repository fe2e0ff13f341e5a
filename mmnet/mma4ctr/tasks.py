"""The second system's wiring: files -> dataset -> protocol -> tables -> network -> metrics -> export."""  # noqa: E501

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from pydantic import BaseModel, ConfigDict, ValidationError

from mmnet.checks import InputError
from mmnet.console import Progress, console
from mmnet.data.outputs import write_tables
from mmnet.data.store import LEDGER
from mmnet.experiments import running
from mmnet.files import write_atomic
from mmnet.mma4ctr import config
from mmnet.mma4ctr.config import (
    EvaluateConfig,
    ExperimentConfig,
    PredictConfig,
    PrepareConfig,
    TrainConfig,
)
from mmnet.mma4ctr.data import dataset, item_scores
from mmnet.mma4ctr.data.dataset import Dataset
from mmnet.mma4ctr.experiments.clicks import SYSTEM
from mmnet.mma4ctr.serving import pairs
from mmnet.serving import exported, lakehouse
from mmnet.startup import devices_for, load_tensorflow
from mmnet.tasks import shown
from mmnet.training import resume
from mmnet.training.records import Record, Stages
from mmnet.training.run_directory import RunKind, is_there, only_run, removed_if_unused

if TYPE_CHECKING:
    from mmnet.mma4ctr.evaluation.report import Report
    from mmnet.mma4ctr.system import System
    from mmnet.mma4ctr.training.fitting import Fit

WEIGHTS = "weights.npz"
RUNS = RunKind(
    TrainConfig, config.PLACES, ("dataset_dir", "item_scores"), lambda flags: flags.model
)
PREPARED = ("source", "label", "min_rows")
"""Flags that a prepared dataset has decided."""


def prepare(flags: PrepareConfig) -> None:
    """The publisher's files in, a dataset directory out."""
    if not flags.dataset_dir:
        raise InputError("--dataset_dir not given; name the directory to write")
    with Progress("preparing the dataset"):
        found = dataset.prepare(flags, Path(flags.dataset_dir))
    print_dataset(found)


def print_dataset(found: Dataset) -> None:
    """Print the rows that each rule kept, and the size of the log."""
    spec = found.spec
    console.print((found.folder / LEDGER).read_text(encoding="utf-8"))
    console.print(
        f"{spec.rows:,} rows of {spec.users:,} users and {spec.items:,} items, "
        f"{spec.positives:,} of them positive: {found.folder.parent}"
    )
    if spec.positives in (0, spec.rows):
        kind = int(spec.positives > 0)
        console.print(
            f"note: all rows have the label {kind} ({spec.label}): nothing can be learned from "
            "them; check how the label is computed, or choose another --label"
        )


# ---------------------------------------------------------------------------------- train


def train(flags: TrainConfig) -> None:
    """Files or a dataset directory in, a run directory out."""
    was_there = is_there(flags)
    flags, run_dir = RUNS.open(flags)
    with only_run(run_dir), removed_if_unused(run_dir, was_there=was_there):
        config.check(flags)
        if flags.devices > 1:
            devices_for(flags.devices)
        if flags.item_scores:
            item_scores.check(flags.item_scores, flags.text_set)
            shown.print_rules(item_scores.found_out(flags.item_scores, flags.text_set))
        _train(flags, run_dir)


def _train(flags: TrainConfig, run_dir: Path) -> None:
    stages = Stages()
    with stages.stage("prepare"), Progress("preparing the dataset"):
        data = _dataset(flags, run_dir)
    load_tensorflow()
    from mmnet.mma4ctr.system import System

    flags = as_prepared(flags, data)
    with Progress("making rows of features"):
        made = System(data, flags, stages)
    RUNS.write(flags, run_dir)
    shown.print_remarks(made.protocol.remarks(flags.label))
    fitted = made.fit(run_dir)
    weights = {str(n): array for n, array in enumerate(made.model.net.get_weights())}
    resume.save_arrays(weights, run_dir / WEIGHTS, made.digest)
    with stages.stage("evaluate"), Progress("evaluating"):
        report = made.report(fitted)
        record = Record.of_this_process(
            flags=flags.model_dump(mode="json"),
            inputs=data.spec.inputs,
            rows_per_rule=data.spec.ledger,
            parameters=made.parameters,
            fitted={"best_epoch": fitted.best_epoch, "history": fitted.history}
            | {"retries": fitted.retries, "training_seconds": fitted.seconds},
            metrics=report.model_dump(),
        )
        so_far = record.finished(stages)
        _write_evaluation(made, report, fitted, run_dir / "evaluation", flags.outputs, so_far)
    if flags.outputs == "all" and made.builder.hidden:
        with stages.stage("export"), Progress("exporting the model"):
            made.export(run_dir / "export")
    record.finished(stages).write(run_dir / "record.json")
    _print_end(report, run_dir)


def _print_end(report: Report, run_dir: Path) -> None:
    console.table(*report.cells())
    console.print()
    page = run_dir / "evaluation" / "report.html"
    if page.exists():
        console.print(f"report  {page}")
    console.print(f"run     {run_dir}")


def as_prepared(flags: TrainConfig, data: Dataset) -> TrainConfig:
    """The flags, with those that the prepared dataset has decided."""
    return flags.model_copy(update=data.spec.model_dump(include=set(PREPARED)))


def _dataset(flags: TrainConfig, run_dir: Path) -> Dataset:
    """The dataset that the flags name; prepared where files are named too."""
    directory = Path(flags.dataset_dir or run_dir / "dataset")
    if flags.source_dir or flags.generate:
        return dataset.prepare(flags, directory)
    if not flags.dataset_dir and not directory.exists():
        raise InputError("no files given; name --source_dir, --generate or --dataset_dir")
    found = dataset.load(directory)
    for name in PREPARED:
        given, prepared = getattr(flags, name), getattr(found.spec, name)
        if name in flags.model_fields_set and given != prepared:
            raise InputError(
                f"--{name}={given} differs from how {directory} was prepared, with "
                f"{prepared!r}; leave it out, or prepare another dataset"
            )
    return found


# -------------------------------------------------------------------------------- evaluate


def evaluate(flags: EvaluateConfig) -> None:
    """A run directory in, its metrics and figures out."""
    if not flags.run_dir:
        raise InputError("--run_dir not given; name the run to evaluate")
    run_dir = Path(flags.run_dir)
    own = RUNS.read(run_dir)
    with only_run(run_dir):
        _evaluate(flags, own, run_dir)


class _Epoch(BaseModel):
    """What figures show of an epoch; further entries are kept."""

    model_config = ConfigDict(extra="allow")

    epoch: int
    loss: float
    auc: float


class _Told(BaseModel):
    """What a run's record says of its training, and evaluating again does not find out."""

    history: list[_Epoch]
    best_epoch: int
    at_epoch: dict[str, dict[str, float | int]] = {}

    @classmethod
    def read(cls, path: Path) -> _Told:
        """Reads it.

        Raises:
            InputError: the record is damaged, or of another system's run.
        """
        record = Record.read(path)
        try:
            return cls.model_validate({**record.metrics, **record.fitted})
        except ValidationError as error:
            wrong = ".".join(str(part) for part in error.errors()[0]["loc"])
            raise InputError(
                f"{path} does not describe the run's training ({wrong} is missing or damaged); "
                "train it again"
            ) from None


def _evaluate(flags: EvaluateConfig, own: TrainConfig, run_dir: Path) -> None:
    if not (run_dir / "record.json").exists():
        raise InputError(
            f"--run_dir={run_dir} is not finished (no record.json); resume it with "
            "python -m mmnet.mma4ctr.train --resume"
        )
    told = _Told.read(run_dir / "record.json")
    data = dataset.load(Path(flags.dataset_dir or own.dataset_dir or run_dir / "dataset"))
    made = restored(data, own, run_dir)
    from mmnet.mma4ctr.training import fitting

    history = [cast("fitting.Epoch", epoch.model_dump()) for epoch in told.history]
    fitted = fitting.Fit(history, told.best_epoch)
    with Progress("evaluating"):
        report = made.report(fitted).model_copy(update={"at_epoch": told.at_epoch})
    record = Record.read(run_dir / "record.json")
    _write_evaluation(made, report, fitted, run_dir / "evaluation", "all", record)
    if flags.umap:
        _write_maps(made, run_dir / "evaluation", flags.umap)
    _print_end(report, run_dir)
    shown.print_remarks(made.protocol.remarks(own.label))


def restored(data: Dataset, own: TrainConfig, run_dir: Path) -> System:
    """The system of a run, with the weights that its training chose.

    Raises:
        InputError: the weights are missing or damaged, or belong to another dataset.
    """
    load_tensorflow()
    from mmnet.mma4ctr.system import System

    made = System(data, own)
    stored = resume.load_arrays(run_dir / WEIGHTS, made.digest)
    weights = [stored[str(n)] for n in range(len(stored))]
    if [one.shape for one in weights] != [tuple(one.shape) for one in made.model.net.weights]:
        raise InputError(
            f"{run_dir / WEIGHTS} does not fit --model={own.model}: the run is of an earlier "
            "version, which built another network; train it again"
        )
    made.model.net.set_weights(weights)
    return made


def _write_evaluation(
    made: System, report: Report, fitted: Fit, directory: Path, outputs: str, record: Record
) -> None:
    document = json.dumps(report.model_dump(), indent=1)
    write_atomic(directory / "metrics.json", document + "\n")
    write_atomic(directory / "table.md", report.table())
    if outputs == "metrics":
        return
    protocol, part = made.protocol, made.protocol.parts["test"]
    score, data = made.scores("test"), made.data
    rows = pa.table(
        {
            "user_id": data.user_ids[protocol.user[part]],
            "item_id": data.item_ids[protocol.item[part]],
            "time": protocol.time[part],
            "label": protocol.label[part],
            "probability": score,
            "calibrated_probability": made.calibration()(score),
        }
    )
    from mmnet.mma4ctr.evaluation import references

    with_references = rows
    for name, values in made.references.items():
        column = pa.array(references.calibrated(protocol, values))
        with_references = with_references.append_column(name.lower().replace(" ", "_"), column)
    write_atomic(
        directory / "predictions.parquet",
        lambda beside: pa.parquet.write_table(with_references, beside),
    )
    if outputs == "predictions":
        return
    from mmnet.evaluation import html_page
    from mmnet.evaluation.plots import write_figure
    from mmnet.mma4ctr.evaluation import figures, html_report

    label = protocol.label[part]
    rates = references.rates(protocol, len(data.user_ids), len(data.item_ids))
    curves = {report.title: (label, score)}
    curves |= {name: (label, values[part]) for name, values in rates.items()}
    drawn = {
        "roc.png": figures.roc(curves),
        "training.png": figures.training(fitted.history),
        "rows.png": figures.pies(np.asarray(data.user), np.asarray(data.item)),
    }
    for name, figure in drawn.items():
        write_figure(directory / name, figure)
    known = record.model_dump(mode="json")
    known["flags"] = {n: v for n, v in known["flags"].items() if n not in config.PLACES}
    evaluated = html_report.Evaluated(
        report,
        {name: rows[name].to_numpy() for name in rows.column_names},
        label="shown" if made.flags.protocol == "recbole" else made.flags.label,
        figures=drawn,
        record=known,
        remarks=protocol.remarks(made.flags.label),
    )
    write_atomic(directory / html_page.FILE, html_page.render(html_report.page(evaluated)))


def _write_maps(made: System, directory: Path, number: int) -> None:
    """UMAP of input rows and of hidden vectors, as many rows of either kind."""
    from mmnet.evaluation.plots import write_figure
    from mmnet.mma4ctr.evaluation import figures
    from mmnet.mma4ctr.training import fitting

    protocol, part = made.protocol, made.protocol.parts["test"]
    label = protocol.label[part]
    chosen = np.concatenate([np.flatnonzero(label == kind)[:number] for kind in (0, 1)])
    state, item = protocol.state[part][chosen], protocol.item[part][chosen]
    if made.features is None or not made.builder.hidden:
        raise InputError(
            "--umap maps MMa4CTR's rows and hidden vectors; this run has another model"
        )
    inputs = made.features.rows(state, item, "test")
    hidden = fitting.scores(made.model, protocol, "test", "hidden")[chosen]
    for name, rows, seed in (("inputs", inputs, 12), ("hidden", hidden, 2)):
        for dimensions in (2, 3):
            figure = figures.maps(
                rows, label[chosen], dimensions, f"UMAP of {name}, test rows", seed
            )
            write_figure(directory / f"umap_{name}_{dimensions}d.png", figure)


# --------------------------------------------------------------------------------- predict


def predict(flags: PredictConfig) -> None:
    """A SavedModel and a table of pairs in, scores out."""
    pairs.saved_model(flags.saved_model)
    if flags.verify:
        load_tensorflow(keras=False)
        from mmnet.serving import bundle

        bundle.check(flags.saved_model, report=shown.console.print)
        return
    if lakehouse.place_of(flags.output):
        raise InputError(
            f"--output={flags.output}: scores of pairs are written to a Parquet file, not to a "
            "Delta table; name a file"
        )
    exported.check_unchanged(flags.saved_model)
    files = pairs.opened(flags.pairs, flags.text_set)
    shown.print_rules(pairs.rules(flags.pairs, files))
    load_tensorflow()
    from mmnet.mma4ctr.serving import scoring

    serve = scoring.load(flags.saved_model).signatures["serving_default"]
    unknown = {"users": 0, "items": 0}

    def scored(progress: Progress) -> Iterator[pa.Table]:
        for piece in pairs.pieces(files):
            scores = scoring.score(serve, piece, flags.batch_size)
            unknown["users"] += pc.sum(pc.invert(scores["known_user"])).as_py()
            unknown["items"] += pc.sum(pc.invert(scores["known_item"])).as_py()
            progress.advance(len(scores))
            yield scores

    with Progress("scoring", pairs.number(files)) as progress:
        path = write_tables(scored(progress), flags.output, "output")
    told = ", ".join(f"{count:,} of unknown {name}" for name, count in unknown.items())
    console.print(f"{progress.done:,} pairs scored, {told}: {path}")


# ------------------------------------------------------------------------------ experiment


def experiment(flags: ExperimentConfig) -> None:
    """A folder of flagfiles in; every row and seed trained, tables and figures out."""

    def prepare(cell: TrainConfig, directory: Path) -> str:
        cell = cell.model_copy(update={"dataset_dir": str(directory)})
        return _dataset(cell, directory).spec.content

    folder = running.run(flags, SYSTEM, prepare)
    console.print(f"report  {folder / 'report.html'}")


def trainer() -> tuple[type[TrainConfig], Callable[[TrainConfig], None]]:
    """Flags and task of runs in turn in one process; see `mmnet.series`."""
    import keras

    def train_one(flags: TrainConfig) -> None:
        keras.backend.clear_session()  # or the graphs of all runs stay in memory
        train(flags)

    return TrainConfig, train_one
