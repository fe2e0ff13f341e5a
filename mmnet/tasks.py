"""The wiring: config -> dataset -> model -> training -> evaluation -> export, on one page.

Each driver makes one call to the task of its name.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from rich.console import Console

from mmnet import config, models
from mmnet.checks import InputError
from mmnet.config import (
    DriftConfig,
    EncodeConfig,
    EvaluateConfig,
    ExperimentConfig,
    PredictConfig,
    PrepareConfig,
    TableFlags,
    TrainConfig,
)
from mmnet.data import content, pipeline, tables
from mmnet.data import dataset as datasets
from mmnet.data.content import Encoders
from mmnet.data.dataset import Dataset, Fitted
from mmnet.data.tables import Rule
from mmnet.data.windows import Windows
from mmnet.evaluation import conformal, filtering, plots, report
from mmnet.evaluation.attention import Attention
from mmnet.evaluation.predicting import Predict, Predictor, ScenarioSet
from mmnet.evaluation.scenarios import SCENARIOS
from mmnet.experiments import cells, plan, results, tuning
from mmnet.files import only_one, recover_directory, write_atomic
from mmnet.models import picture
from mmnet.models.estimator import Estimator
from mmnet.serving import decision, export, features, golden, profile, scoring, verify
from mmnet.serving import drift as drifting
from mmnet.training import fitting, resume
from mmnet.training.records import Record, Stages
from mmnet.training.run_directory import open_run, read_flags, removed_if_unused, write_flags

WEIGHTS = Path("checkpoints", "best.npz")
MISSING_RATES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Of the degradation curve: what remains of the test score as ever more of the histories goes."""
WATCHED = 2048
"""Examples whose attention is averaged for TensorBoard after each epoch."""

console = Console(highlight=False, soft_wrap=True, markup=False)


# --------------------------------------------------------------------------------- prepare


def prepare(flags: PrepareConfig) -> None:
    """Tables in, a dataset directory out."""
    if not flags.dataset_dir:
        raise InputError("--dataset_dir not given; name the directory to write")
    dataset = _dataset(flags, Path(flags.dataset_dir))
    _print_ledger(dataset)
    console.print(f"dataset: {flags.dataset_dir}")


def _dataset(flags: PrepareConfig | TrainConfig, directory: Path) -> Dataset:
    """Makes a dataset directory of the tables, unless it was made of these and is whole.

    Raises:
        InputError: another process is making it.
    """
    place = directory.resolve()
    with only_one(
        place.parent / f".{place.name}.lock",
        f"--dataset_dir={directory} is being made by another process; wait for it, or choose "
        "another",
        remove=True,
    ):
        recover_directory(place)
        return _made_dataset(flags, directory)


def _made_dataset(flags: PrepareConfig | TrainConfig, directory: Path) -> Dataset:
    table_flags, task_flags = pipeline.table_flags(flags)
    encoders = Encoders(table_flags)
    found = pipeline.load_tables(table_flags, task_flags, directory)
    fingerprint, hashes = pipeline.fingerprint(found, table_flags, task_flags, encoders)
    if datasets.fingerprint_of(directory) == fingerprint:
        with contextlib.suppress(InputError):  # it is damaged: made anew below
            dataset = datasets.load(directory)
            console.print(f"reusing the unchanged dataset in {directory}")
            return dataset
    dataset = pipeline.prepare(found, table_flags, task_flags, encoders)
    dataset.fingerprint, dataset.inputs = fingerprint, hashes
    return datasets.load(datasets.save(dataset, directory))


def _print_ledger(dataset: Dataset) -> None:
    _print_rules(dataset.ledger)


def _print_rules(ledger: Iterable[Rule]) -> None:
    for rule in ledger:
        note = f"  ({rule.note})" if rule.note else ""
        console.print(
            f"  {rule.table}: {rule.rule}: {rule.rows_in:,} in, {rule.dropped:,} dropped{note}"
        )


# ---------------------------------------------------------------------------------- encode


def encode(flags: EncodeConfig) -> None:
    """An items table in; its texts and images as vectors in the cache, and as Parquet."""
    if not flags.items:
        raise InputError("--items not given; name the items table")
    encoders = Encoders(flags)
    if not encoders.columns:
        raise InputError(
            "nothing to encode; give --texts with --text_encoder=hub, or --images with "
            "--image_encoder"
        )
    columns = [flags.item_column, *flags.texts, *flags.images]
    items = tables.read(flags.items, "items", text_columns=columns)
    ids = tables.strings(items, flags.item_column, "item_column")
    for encoded in encoders.encode(items):
        console.print(f"{encoded.column.name}: {encoded.hits:,} found, {encoded.encoded:,} encoded")
        _print_rules([encoded.rule])
        if flags.output:
            path = content.write(encoded, ids, flags.item_column, flags.output)
            console.print(f"  {path}")
    if flags.prune:
        for kind, dropped in encoders.prune(items).items():
            console.print(f"{kind} cache: {dropped:,} vectors dropped")


# ----------------------------------------------------------------------------------- train


def train(flags: TrainConfig) -> None:
    """Tables or a dataset directory in, a run directory out."""
    _model_options(flags)  # wrong ones are refused before a directory is made
    for rule in flags.rules:
        decision.parse(rule)
    flags, run_dir = open_run(flags)
    with _only_run(run_dir):
        _train(flags, run_dir)


def _only_run(run_dir: Path) -> contextlib.AbstractContextManager[int]:
    """Two processes in one run would each think that the checkpoints were its own."""
    return only_one(
        run_dir, f"--run_dir={run_dir} is in use by another process; wait for it, or choose another"
    )


def _train(flags: TrainConfig, run_dir: Path) -> None:
    stages = Stages()
    builder, options = _model_options(flags)
    with stages.stage("prepare"), removed_if_unused(run_dir):
        dataset, flags = _dataset_of_run(flags, run_dir)
        builder, options = _model_options(flags)
        model = _built(builder, options, dataset, flags)
        if builder.kind == "network":
            fitting.check_loss(flags.loss, model)
        _attention(model, dataset, flags)  # --explain is refused before training
    write_flags(flags, run_dir)
    windows = Windows(dataset)
    _print_ledger(dataset)
    record = Record.of_this_process(
        flags=flags.model_dump(mode="json", exclude=set(config.PLACES))
        | {"mode_weights": list(options["mode_weights"])},
        inputs=dataset.inputs,
        split_dates=dataset.first_targets,
        rows_per_rule={f"{r.table}: {r.rule}": r.rows_out for r in dataset.ledger},
        missing_share=dataset.missing_share(),
    )
    if builder.kind == "network":
        console.print(f"{model.name}: {_parameters(model):,} parameters; run: {run_dir}")
        write_atomic(run_dir / "architecture.md", _architecture(model))
        result = _fit(model, dataset, windows, flags, run_dir)
        stages.seconds["train"] = result.seconds  # of all sessions of the run
        resume.save_weights(model, run_dir / WEIGHTS, dataset.fingerprint)
        fitted = {
            "best_epoch": result.best_epoch,
            "epochs": result.epochs,
            "validation": result.metrics,
        }
        record = record.model_copy(update={"parameters": _parameters(model), "fitted": fitted})
        console.print(f"best epoch {result.best_epoch} of {result.epochs}")
    if builder.kind == "estimator":
        with stages.stage("train"):
            fitted = _fit_estimator(model, dataset, windows, flags)
        resume.save_arrays(model.state(), run_dir / WEIGHTS, dataset.fingerprint)
        record = record.model_copy(update={"fitted": fitted})
        console.print(
            f"{flags.model}: "
            + ", ".join(f"{name} {value}" for name, value in fitted.items() if name != "validation")
        )
    if flags.outputs == "validation":
        record.finished(stages).write(run_dir / "record.json")
        return
    with stages.stage("evaluate"):
        found = _report(model, dataset, windows, flags, run_dir / "evaluation")
    record.finished(stages, metrics=found).write(run_dir / "record.json")
    if flags.outputs == "predictions":
        return
    if builder.kind == "network":
        with stages.stage("export"):
            _export(model, dataset, windows, flags, run_dir)
        record.finished(stages, metrics=found).write(run_dir / "record.json")
    _print_end(run_dir, flags, stages, exported=builder.kind == "network")


def _dataset_of_run(flags: TrainConfig, run_dir: Path) -> tuple[Dataset, TrainConfig]:
    """The dataset to train on, and the flags with those that it was prepared with.

    Raises:
        InputError: no tables and no dataset, or a dataset that was prepared otherwise.
    """
    directory = Path(flags.dataset_dir or run_dir / "dataset")
    if flags.counts or flags.events or flags.items or flags.source:
        if flags.resume and datasets.fingerprint_of(directory):
            # The checkpoint says whether it is the run's own.
            return datasets.load(directory), flags
        return _dataset(flags, directory), flags
    if not flags.dataset_dir:
        raise InputError(
            "no tables given; name --counts or --events and --items, a --source or --dataset_dir"
        )
    dataset = datasets.load(directory)
    prepared = dict(dataset.fitted.tables) | dict(dataset.fitted.task)
    for name in sorted(flags.model_fields_set & set(prepared)):
        if getattr(flags, name) != prepared[name]:
            raise InputError(
                f"--{name}={getattr(flags, name)} differs from how {directory} was prepared, with "
                f"{prepared[name]!r}; leave it out, or prepare another dataset"
            )
    return dataset, flags.model_copy(update=prepared)


def _model_options(flags: TrainConfig) -> tuple[models.Builder, dict[str, Any]]:
    """The builder of `--model`, and the options that all systems share with `--set` over them."""
    named = models.resolve_options(flags.model, flags.set)
    for name in sorted(set(named) & set(config.ModelFlags.model_fields)):
        raise InputError(f"--set={name}=...: this option has a flag of its own, --{name}")
    builder = models.REGISTRY[flags.model]
    weights = flags.mode_weights or builder.published_mode_weights
    if len(weights) != 3:
        raise InputError(f"--mode_weights takes three numbers. Received: {flags.mode_weights}")
    shared = {
        "coarse_granularity": flags.coarse_granularity,
        "taxonomy_flags": flags.taxonomy_flags,
        "mode_weights": tuple(weights),
        "noisy_rate": flags.noisy_rate,
        "seed": flags.seed,
    }
    return builder, shared | named


def _built(
    builder: models.Builder, options: dict[str, Any], dataset: Dataset, flags: TrainConfig
) -> Any:
    keras.config.set_dtype_policy(flags.precision)
    try:
        return builder(dataset.fitted.spec, **builder.accepted(options))
    except ValueError as error:
        raise InputError(f"--model={flags.model}: {error}") from None


def _fit(
    model: keras.Model, dataset: Dataset, windows: Windows, flags: TrainConfig, run_dir: Path
) -> fitting.FitResult:
    batches, steps_per_epoch = windows.training_batches(
        dataset.split.train,
        flags.batch_size,
        flags.seed,
        half_weight_clicks=flags.half_weight_clicks,
        weighting=fitting.loss_weighting(flags.loss),
    )
    validation = _scenarios(dataset, windows, "validation", flags)
    watched = validation.first(WATCHED)
    predict = Predictor(model, flags.jit)
    attention = Attention(model, dataset.fitted.spec, flags.jit)
    settings = fitting.Settings(
        epochs=flags.epochs,
        learning_rate=flags.learning_rate,
        patience=flags.patience,
        monitor=flags.monitor,
        seed=flags.seed,
        deterministic=flags.deterministic,
        schedule=flags.schedule,
        loss=flags.loss,
        jit=flags.jit,
        steps_per_execution=min(flags.steps_per_execution, steps_per_epoch),
        checkpoint_seconds=flags.checkpoint_seconds,
        profile_steps=flags.profile_steps or None,
    )
    return fitting.fit(
        model,
        batches,
        steps_per_epoch,
        lambda _: validation.mse(predict) | attention(watched),
        settings,
        rate_scale=dataset.fitted.spec.rate_scale,
        run_dir=run_dir,
        resume=flags.resume,
        hparams=flags.model_dump(mode="json", include=set(config.ModelFlags.model_fields)),
        fixed={
            "batch_size": flags.batch_size,
            "half_weight_clicks": flags.half_weight_clicks,
            "dataset": dataset.fingerprint,
        },
    )


def _fit_estimator(
    estimator: Estimator, dataset: Dataset, windows: Windows, flags: TrainConfig
) -> dict[str, Any]:
    train = _scenarios(dataset, windows, "train", flags)
    validation = _scenarios(dataset, windows, "validation", flags)
    told = estimator.fit(
        train.sample("normal", flags.half_weight_clicks),
        {scenario: validation.sample(scenario) for scenario in SCENARIOS},
    )
    return told | {"validation": validation.mse(_predict(estimator, False))}


def _parameters(model: keras.Model) -> int:
    return int(sum(np.prod(variable.shape) for variable in model.trainable_variables))


def _architecture(model: keras.Model) -> str:
    lines: list[str] = []
    model.summary(print_fn=lines.append, line_length=110)
    summary = "\n".join(lines)
    return f"```mermaid\n{picture.mermaid(model)}\n```\n\n```text\n{summary}\n```\n"


def _export(
    model: keras.Model, dataset: Dataset, windows: Windows, flags: TrainConfig, run_dir: Path
) -> None:
    _, check = next(windows.batches(dataset.split.validation, 256))
    about = {
        "flags": flags.model_dump(mode="json", exclude=set(config.PLACES)),
        "first_targets": dataset.first_targets,
    }
    validation = _scenarios(dataset, windows, "validation", flags)
    predict = _predict(model, flags.jit)
    described = profile.fit(
        dataset,
        windows,
        dataset.split.train,
        dataset.split.validation,
        validation.outputs("normal", predict),
    )
    assets = {
        decision.FILE: _decisions(model, dataset, windows, flags).model_dump(mode="json"),
        profile.FILE: described.model_dump(mode="json"),
    }
    export.export(
        model,
        dataset.fitted,
        run_dir / "export",
        check={name: tensor.numpy() for name, tensor in check.items()},
        rows=golden.rows(dataset, windows, dataset.split.validation),
        assets=assets,
        about=about,
    )


def _decisions(
    system: Any, dataset: Dataset, windows: Windows, flags: TrainConfig
) -> decision.Decisions:
    """Rules and prediction intervals, from validation alone."""
    validation = _scenarios(dataset, windows, "validation", flags)
    return decision.fit(
        validation.frame(_predict(system, flags.jit)),
        flags.rules,
        level=flags.interval_level,
        max_rate=dataset.fitted.spec.max_rate,
    )


# -------------------------------------------------------------------------------- evaluate


def evaluate(flags: EvaluateConfig) -> None:
    """A run directory in, its metrics, tables and plots out."""
    run_dir = Path(flags.run_dir)
    if not flags.run_dir:
        raise InputError("--run_dir not given; name the run to evaluate")
    own = read_flags(run_dir)
    with _only_run(run_dir):
        _evaluate(flags, own, run_dir)


def _evaluate(flags: EvaluateConfig, own: TrainConfig, run_dir: Path) -> None:
    asked = {"test_missing_rate", "scenario_seed"} & flags.model_fields_set
    changed = {name: getattr(flags, name) for name in asked}
    changed = {name: value for name, value in changed.items() if value != getattr(own, name)}
    own = own.model_copy(update=changed | {"explain": flags.explain})
    dataset = datasets.load(flags.dataset_dir or own.dataset_dir or run_dir / "dataset")
    builder, options = _model_options(own)
    model = _built(builder, options, dataset, own)
    if builder.kind == "network":
        resume.load_weights(model, run_dir / WEIGHTS, dataset.fingerprint)
    if builder.kind == "estimator":
        model.restore(resume.load_arrays(run_dir / WEIGHTS, dataset.fingerprint))
    name = "evaluation"
    if changed:
        name = f"evaluation-rate-{own.test_missing_rate:g}-seed-{own.scenario_seed}"
    _report(model, dataset, Windows(dataset), own, run_dir / name)
    console.print((run_dir / name / "table.md").read_text(encoding="utf-8"))


def _scenarios(dataset: Dataset, windows: Windows, split: str, flags: TrainConfig) -> ScenarioSet:
    return ScenarioSet(
        dataset,
        windows,
        dataset.split[split],
        missing_rate=flags.test_missing_rate,
        scenario_seed=flags.scenario_seed,
    )


def _predict(system: Any, jit: bool) -> Predict:
    """One way to ask a Keras model or a floor."""
    if isinstance(system, keras.Model):
        return Predictor(system, jit)
    return lambda inputs: system.predict({name: np.asarray(t) for name, t in inputs.items()})


def _report(
    system: Any, dataset: Dataset, windows: Windows, flags: TrainConfig, directory: Path
) -> dict[str, Any]:
    """Scores a system on the test split beside the floors, and writes what came of it."""
    test = _scenarios(dataset, windows, "test", flags)
    predict = _predict(system, flags.jit)
    attention = _attention(system, dataset, flags)
    looks = attention.look(test) if attention and (flags.explain or flags.outputs == "all") else {}
    rows = test.frame(predict)
    more = {
        "degradation": test.degradation(predict, MISSING_RATES),
        "outage": test.outage(predict),
        "attention_rows": attention.frame(test, looks) if attention and flags.explain else None,
    }
    about = {
        "split": dataset.fitted.task.split,
        "taxonomy_mean": dataset.fitted.task.taxonomy_mean,
        "seed": flags.seed,
        "binomial": not dataset.fitted.tables.rate_may_exceed_one,
    }
    if flags.outputs != "all":
        return report.write_predictions(directory, rows, **more, **about)
    floors = {
        name: test.frame(_predict(builder(dataset.fitted.spec), False))
        for name, builder in models.REGISTRY.items()
        if builder.kind == "floor" and name != flags.model
    }
    decisions = _decisions(system, dataset, windows, flags)
    filtering.write(
        directory,
        rows,
        floors,
        {text: rule.threshold for text, rule in decisions.rules.items()},
        conformal.coverage(decisions.intervals, rows),
        system=_title(flags),
        level=flags.interval_level,
    )
    return report.write_report(
        directory,
        rows,
        **about,
        **more,
        attention=attention.means(looks) if attention else None,
        system=_title(flags),
        others={name: report.metrics(frame, **about) for name, frame in floors.items()},
        taxonomies=[f"{plots.TAXONOMY}{name}" for name in dataset.fitted.spec.taxonomies],
        numerator=dataset.fitted.tables.numerator,
        denominator=dataset.fitted.tables.denominator,
    )


def _attention(system: Any, dataset: Dataset, flags: TrainConfig) -> Attention | None:
    """Where a network looks; None for what attends to nothing.

    Raises:
        InputError: --explain was given, and there is nothing to explain.
    """
    if isinstance(system, keras.Model):
        found = Attention(system, dataset.fitted.spec, flags.jit)
        if found.kinds:
            return found
    if flags.explain:
        raise InputError(f"--explain: --model={flags.model} has no attention to show; leave it out")
    return None


def _title(flags: TrainConfig) -> str:
    """The row's name; a training mode that was not published is part of it."""
    builder = models.REGISTRY[flags.model]
    weights = tuple(flags.mode_weights) or builder.published_mode_weights
    if builder.kind == "floor" or weights == builder.published_mode_weights:
        return flags.model
    return f"{flags.model}, modes {','.join(f'{weight:g}' for weight in weights)}"


def _print_end(run_dir: Path, flags: TrainConfig, stages: Stages, *, exported: bool) -> None:
    systems = json.loads((run_dir / "evaluation" / "systems.json").read_text(encoding="utf-8"))
    own = _title(flags)
    console.print()
    console.print(report.table({own: systems.pop(own), **systems}))
    seconds = ", ".join(f"{name} {spent:.0f} s" for name, spent in stages.seconds.items())
    console.print(f"time         {seconds}")
    console.print(f"report       {run_dir / 'evaluation' / 'table.md'} and the plots beside it")
    if exported:
        console.print(f"SavedModel   {run_dir / 'export' / '1'}")
        console.print(f"TensorBoard  tensorboard --logdir {run_dir / 'logs'}")


# ------------------------------------------------------------------------------ experiment


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
                found[place] = _dataset(flags, place).fingerprint
    return found


def _tune(flags: ExperimentConfig, directory: Path, lock: int) -> None:
    """Finds each row's best options by the same number of trials on validation.

    Raises:
        InputError: no experiment's folder to write to, or several origins: the validation span of
            the last one is the test span of the one before.
    """
    if not flags.experiment or flags.origins > 1:
        raise InputError("--tune needs --experiment, for its rows/, and --origins=1")
    for row in plan.rows(flags.tune, flags):
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


# --------------------------------------------------------------------------------- predict


def predict(flags: PredictConfig) -> None:
    """A SavedModel and tables (or a dataset directory) in, scores out."""
    if not flags.saved_model:
        raise InputError("--saved_model not given; name a run's export directory")
    if flags.verify:
        _verify(flags.saved_model)
        return
    loaded, fitted = export.load(flags.saved_model)
    modalities = export.modalities(flags.saved_model) if flags.explain else []
    dataset = _dataset_of_export(flags, fitted)
    _print_ledger(dataset)
    if flags.ranking_features:
        _ranking_features(loaded, dataset, flags)
        return
    signature = loaded.signatures["explained" if modalities else "serving_default"]
    scores = scoring.score(signature, dataset, as_of=flags.as_of, modalities=modalities)
    if flags.rule or flags.explore:
        decisions = export.document(flags.saved_model, decision.FILE, decision.Decisions)
        scores = decision.add(scores, decisions, flags.rule or "stored", explore=flags.explore)
    path = scoring.write(scores, flags.output)
    console.print(f"{scores.num_rows:,} items scored for {scores['period'][0].as_py()}: {path}")


def _dataset_of_export(flags: PredictConfig | DriftConfig, fitted: Fitted) -> Dataset:
    """Tables or a dataset directory, read with what the exported model was fitted with."""
    given = {name: getattr(flags, name) for name in config.TABLES if name in flags.model_fields_set}
    if flags.dataset_dir and given:
        raise InputError(f"--dataset_dir holds its tables; leave out --{min(given)}")
    if flags.dataset_dir:
        dataset = datasets.load(flags.dataset_dir)
        if _reads(dataset.fitted) != _reads(fitted):
            raise InputError(
                f"--dataset_dir={flags.dataset_dir} was prepared for another model; give its "
                "tables instead, so that they are read with this model's vocabularies"
            )
    elif given:
        own = fitted.tables.model_dump()
        if {"counts", "events", "items"} & set(given):
            own |= {"source": "", "source_set": ()}
        table_flags = config.build(TableFlags, own | given)
        dataset = pipeline.transform(
            pipeline.load_tables(table_flags, fitted.task),
            fitted.model_copy(update={"tables": table_flags}),
        )
    else:
        raise InputError(
            "nothing to score; give --counts or --events and --items, --source_dir or --dataset_dir"
        )
    return dataset


def _ranking_features(loaded: Any, dataset: Dataset, flags: PredictConfig) -> None:
    """Scores of a range of periods, with all that a ranker may want to know beside them."""
    about = export.about(export.version_directory(flags.saved_model))
    gated = "explained" in loaded.signatures
    first_targets = about.get("first_targets", {})
    trained_before = None
    if "validation" in first_targets:
        calendar = dataset.panel.calendar
        trained_before = calendar.number(str(first_targets["validation"]), "first_targets")
    parts = features.tables(
        loaded.signatures["explained" if gated else "serving_default"],
        dataset,
        export.document(flags.saved_model, decision.FILE, decision.Decisions),
        first=flags.ranking_from,
        last=flags.as_of,
        modalities=about[export.MODALITIES] if gated else (),
        trained_before=trained_before,
    )
    path, rows = features.write(flags.ranking_features, parts)
    console.print(f"{rows:,} rows of ranking features: {path}")


def _verify(saved_model: str) -> None:
    """Prints every check of an export.

    Raises:
        InputError: one found something wrong.
    """
    wrong = []
    for check in verify.verify(saved_model):
        told = f"WRONG  {check.name}: {check.problem}" if check.problem else f"ok     {check.name}"
        console.print(told)
        wrong += [check.problem] if check.problem else []
    if wrong:
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise InputError(
            f"--saved_model={saved_model} is not what was exported: {wrong[0]}{more}; copy it "
            "again, or export it anew by running the training command again"
        )


def _reads(fitted: Fitted) -> tuple[Any, ...]:
    """What decides how a dataset's inputs are made."""
    task = fitted.task
    rules = (task.min_clicks, task.taxonomy_mean, task.taxonomy_weighting, task.first_period)
    return fitted.spec, fitted.vocabularies, fitted.encoders, fitted.calendar, rules


# ----------------------------------------------------------------------------------- drift


def drift(flags: DriftConfig) -> int:
    """A SavedModel and tables in, a report of one period out; returns the exit code."""
    if not flags.saved_model:
        raise InputError("--saved_model not given; name a run's export directory")
    loaded, fitted = export.load(flags.saved_model)
    described = export.document(flags.saved_model, profile.FILE, profile.Profile)
    dataset = _dataset_of_export(flags, fitted)
    panel, spec = dataset.panel, fitted.spec
    column = scoring.as_of_column(dataset, flags.checked, flag="checked")
    rows = profile.of_period(dataset, column)
    if column < spec.horizon or not len(rows):
        raise InputError(
            f"--checked={panel.label(column)}: no item with a period to predict it from was "
            "clicked in it; check another period"
        )
    windows = Windows(dataset)
    judged = profile.of_period(dataset, column, fitted.task.min_target_clicks)
    signature = loaded.signatures["serving_default"]
    predicted = [
        signature(**inputs)[export.OUTPUT].numpy()
        for _, inputs in windows.batches(judged, scoring.BATCH)
    ]
    findings = drifting.compare(
        described,
        profile.observe(dataset, windows, rows),
        np.concatenate([np.zeros(0, np.float32), *predicted]),
        windows.targets(judged).astype(np.float64),
        int(panel.clicks[:, column].sum()),
        drifting.Limits(flags.psi, flags.ks, flags.volume, flags.bias),
    )
    period = panel.label(column)
    about = {"period": period, "rows": len(rows), "judged": len(judged)}
    drifting.write(Path(flags.output), findings, about)
    found = [f"{one.name} ({one.measure} {one.value:.3g})" for one in findings if one.drifted]
    console.print(f"{period}: {len(rows):,} rows; report: {Path(flags.output) / 'drift.md'}")
    if not found:
        console.print("no drift")
        return 0
    console.print(f"drifted: {', '.join(found)}")
    return drifting.EXIT_CODE
