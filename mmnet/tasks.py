"""The wiring: config -> dataset -> model -> training -> evaluation -> export, on one page.

Each driver makes one call to the task of its name.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from rich.console import Console

from mmnet import config, models
from mmnet.checks import InputError
from mmnet.config import EvaluateConfig, PredictConfig, PrepareConfig, TableFlags, TrainConfig
from mmnet.data import dataset as datasets
from mmnet.data import pipeline
from mmnet.data.dataset import Dataset
from mmnet.data.windows import Windows
from mmnet.evaluation import report
from mmnet.evaluation.predicting import Predict, Predictor, ScenarioSet
from mmnet.files import write_atomic
from mmnet.models import picture
from mmnet.models.mmnet import attention_probe, fusion_names
from mmnet.serving import export, scoring
from mmnet.training import fitting, resume
from mmnet.training.records import Record, Stages

WATCHED = 2048
"""Examples whose attention is averaged for TensorBoard after each epoch."""

console = Console(highlight=False, soft_wrap=True)


# --------------------------------------------------------------------------------- prepare


def prepare(flags: PrepareConfig) -> None:
    """Tables in, a dataset directory out."""
    if not flags.dataset_dir:
        raise InputError("--dataset_dir not given; name the directory to write")
    dataset = _dataset(flags, Path(flags.dataset_dir))
    _print_ledger(dataset)
    console.print(f"dataset: {flags.dataset_dir}")


def _dataset(flags: PrepareConfig | TrainConfig, directory: Path) -> Dataset:
    """Loads a dataset directory, or makes it from tables unless it was made from these."""
    table_flags, task_flags = pipeline.table_flags(flags)
    if not (flags.counts or flags.items or flags.source):
        if not flags.dataset_dir and not (directory / "dataset.json").exists():
            raise InputError(
                "no tables given; name --counts and --items, a --source or --dataset_dir"
            )
        return datasets.load(directory)
    found = pipeline.load_tables(table_flags)
    fingerprint, hashes = pipeline.fingerprint(found, table_flags, task_flags)
    if datasets.fingerprint_of(directory) == fingerprint:
        console.print(f"reusing the unchanged dataset in {directory}")
        return datasets.load(directory)
    dataset = pipeline.prepare(found, table_flags, task_flags)
    dataset.fingerprint, dataset.inputs = fingerprint, hashes
    datasets.save(dataset, directory)
    return dataset


def _print_ledger(dataset: Dataset) -> None:
    for rule in dataset.ledger:
        note = f"  ({rule.note})" if rule.note else ""
        console.print(
            f"  {rule.table}: {rule.rule}: {rule.rows_in:,} in, {rule.dropped:,} dropped{note}"
        )


# ----------------------------------------------------------------------------------- train


def train(flags: TrainConfig) -> None:
    """Tables or a dataset directory in, a run directory out."""
    flags, run_dir = _run_of(flags)
    builder, options = _model_options(flags)
    _make(run_dir)
    stages = Stages()
    with stages.stage("prepare"), _removed_if_unused(run_dir):
        dataset = _dataset(flags, Path(flags.dataset_dir or run_dir / "dataset"))
    windows = Windows(dataset)
    _print_ledger(dataset)
    record = Record.of_this_process(
        flags=flags.model_dump(mode="json") | {"mode_weights": list(options["mode_weights"])},
        inputs=dataset.inputs,
        split_dates=dataset.first_targets,
        rows_per_rule={f"{r.table}: {r.rule}": r.rows_out for r in dataset.ledger},
        missing_share=dataset.missing_share(),
    )
    write_atomic(run_dir / "flags.txt", config.to_flagfile(flags))

    keras.config.set_dtype_policy(flags.precision)
    model = builder(dataset.fitted.spec, **builder.accepted(options))
    if builder.trained:
        console.print(f"{model.name}: {_parameters(model):,} parameters; run: {run_dir}")
        write_atomic(run_dir / "architecture.md", _architecture(model))
        with stages.stage("train"):
            result = _fit(model, dataset, windows, flags, run_dir)
        save_weights(model, run_dir)
        record = record.model_copy(update={"parameters": _parameters(model)})
        console.print(f"best epoch {result.best_epoch} of {result.epochs}")
    with stages.stage("evaluate"):
        found = _report(model, dataset, windows, flags, run_dir / "evaluation")
    if builder.trained:
        with stages.stage("export"):
            _export(model, dataset, windows, flags, run_dir)
    record.finished(stages, metrics=found).write(run_dir / "record.json")
    _print_end(run_dir, stages, exported=builder.trained)


def _run_of(flags: TrainConfig) -> tuple[TrainConfig, Path]:
    """The run directory, and the flags to run with: those of the run to resume, if any."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    run_dir = Path(flags.run_dir or f"runs/{stamp}-{flags.model}")
    stored = run_dir / "flags.txt"
    if flags.resume:
        if not flags.run_dir:
            raise InputError("--resume needs --run_dir, the run to go on with")
        if stored.exists():
            return _resumed(flags, stored), run_dir
    elif stored.exists() or (run_dir / "checkpoints").exists():
        raise InputError(
            f"--run_dir={run_dir} already holds a run; go on with it by --resume, or choose another"
        )
    return flags, run_dir


def _make(run_dir: Path) -> None:
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--run_dir={run_dir} cannot be made: {error.strerror}") from None


@contextlib.contextmanager
def _removed_if_unused(run_dir: Path) -> Iterator[None]:
    """Takes an empty run directory away again when the input turns out to be wrong."""
    try:
        yield
    except InputError:
        with contextlib.suppress(OSError):  # it is not empty: then it stays
            run_dir.rmdir()
        raise


def _resumed(flags: TrainConfig, stored: Path) -> TrainConfig:
    """The run's own flags; those given anew must agree, places aside."""
    own = config.parse(TrainConfig, [f"--flagfile={stored}"])
    for name, field in TrainConfig.model_fields.items():
        given = getattr(flags, name)
        if name in config.PLACES or given in (field.default, getattr(own, name)):
            continue
        raise InputError(
            f"--{name}={given} differs from the run to resume, which has {getattr(own, name)!r}; "
            "leave it out, or start a new run"
        )
    places = {name: getattr(flags, name) for name in config.PLACES}
    return own.model_copy(update=places)


def _model_options(flags: TrainConfig) -> tuple[models.Builder, dict[str, Any]]:
    """The builder of `--model`, and the options that all systems share with `--set` over them."""
    named = models.resolve_options(flags.model, flags.set)
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


def _fit(
    model: keras.Model, dataset: Dataset, windows: Windows, flags: TrainConfig, run_dir: Path
) -> fitting.FitResult:
    batches, steps_per_epoch = windows.training_batches(
        dataset.split.train,
        flags.batch_size,
        flags.seed,
        half_weight_clicks=flags.half_weight_clicks,
    )
    validation = _scenarios(dataset, windows, "validation", flags)
    watched = validation.first(WATCHED)
    predict, attention = Predictor(model, flags.jit), Predictor(attention_probe(model), flags.jit)
    names = _attention_names(model, dataset)

    def validate(_: keras.Model) -> dict[str, float]:
        return validation.mse(predict) | _attention_means(watched, attention, names)

    settings = fitting.Settings(
        epochs=flags.epochs,
        learning_rate=flags.learning_rate,
        patience=flags.patience,
        monitor=flags.monitor,
        seed=flags.seed,
        deterministic=flags.deterministic,
        schedule=flags.schedule,
        jit=flags.jit,
        steps_per_execution=min(flags.steps_per_execution, steps_per_epoch),
        checkpoint_seconds=flags.checkpoint_seconds,
        profile_steps=_profile_steps(flags.profile_steps),
    )
    return fitting.fit(
        model,
        batches,
        steps_per_epoch,
        validate,
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


def _profile_steps(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    try:
        first, last = (int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--profile_steps takes FIRST,LAST. Received: {text!r}") from None
    return first, last


def _attention_names(model: keras.Model, dataset: Dataset) -> dict[str, list[str]]:
    """What the entries of each attention's last axis are called."""
    window = dataset.fitted.spec.window
    return {
        "granularity": ["item", *dataset.fitted.spec.taxonomies],
        "temporal": [f"t-{back}" for back in reversed(range(window))],
        "context": [text.name for text in dataset.fitted.spec.texts],
        "fusion": fusion_names(model),
    }


def _attention_means(
    watched: ScenarioSet, attention: Predictor, names: dict[str, list[str]]
) -> dict[str, float]:
    """Mean attention and gate weights: `fusion/cold_start/history` and so on."""
    found = {}
    for scenario in watched.hidden:
        for kind, weights in watched.outputs(scenario, attention).items():
            means = weights.reshape(-1, weights.shape[-1]).mean(axis=0)
            for name, mean in zip(names[kind], means, strict=True):
                found[f"{kind}/{scenario}/{name}"] = float(mean)
    return found


def save_weights(model: keras.Model, run_dir: Path) -> None:
    """Writes every array of the model, by name, into `checkpoints/best.npz`."""
    arrays = {str(i): resume.to_array(v) for i, v in enumerate(resume.model_variables(model))}

    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.savez(file, **arrays)

    write_atomic(run_dir / "checkpoints" / "best.npz", write)


def load_weights(model: keras.Model, run_dir: Path) -> None:
    """Reads the weights of `save_weights` back.

    Raises:
        InputError: they are not there, or of another model.
    """
    path = run_dir / "checkpoints" / "best.npz"
    variables = resume.model_variables(model)
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = [stored[str(i)] for i in range(len(variables))]
    except (OSError, ValueError, KeyError):
        raise InputError(f"{path}: no finished run's weights there; train it first") from None
    for variable, array in zip(variables, arrays, strict=True):
        if tuple(variable.shape) != array.shape:
            raise InputError(f"{path} does not fit the run's model at {variable.path}")
        variable.assign(array)


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
    _, check = next(windows.batches(dataset.split.test, 256))
    about = {"flags": flags.model_dump(mode="json", exclude=set(config.PLACES))}
    export.export(
        model,
        dataset.fitted,
        run_dir / "export",
        check={name: tensor.numpy() for name, tensor in check.items()},
        about=about,
    )


# -------------------------------------------------------------------------------- evaluate


def evaluate(flags: EvaluateConfig) -> None:
    """A run directory in, its metrics, tables and plots out."""
    run_dir = Path(flags.run_dir)
    if not flags.run_dir or not (run_dir / "flags.txt").exists():
        raise InputError(f"--run_dir={flags.run_dir}: no run there (no flags.txt)")
    own = config.parse(TrainConfig, [f"--flagfile={run_dir / 'flags.txt'}"])
    changed = {
        name: getattr(flags, name)
        for name in ("test_missing_rate", "scenario_seed")
        if getattr(flags, name) != EvaluateConfig.model_fields[name].default
    }
    own = own.model_copy(update=changed)
    dataset = datasets.load(flags.dataset_dir or run_dir / "dataset")
    windows = Windows(dataset)
    builder, options = _model_options(own)
    keras.config.set_dtype_policy(own.precision)
    model = builder(dataset.fitted.spec, **builder.accepted(options))
    if builder.trained:
        load_weights(model, run_dir)
    name = "evaluation" if not changed else f"evaluation-{own.test_missing_rate:g}"
    _report(model, dataset, windows, own, run_dir / name)
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
    about = {
        "split": dataset.fitted.task.split,
        "taxonomy_mean": dataset.fitted.task.taxonomy_mean,
        "seed": flags.seed,
        "binomial": not dataset.fitted.tables.rate_may_exceed_one,
    }
    floors = {
        name: report.metrics(test.frame(_predict(builder(dataset.fitted.spec), False)), **about)
        for name, builder in models.REGISTRY.items()
        if not builder.trained and name != flags.model
    }
    return report.write_report(
        directory,
        test.frame(_predict(system, flags.jit)),
        **about,
        system=_title(flags),
        others=floors,
        taxonomies=dataset.fitted.spec.taxonomies,
        numerator=dataset.fitted.tables.numerator,
        denominator=dataset.fitted.tables.denominator,
    )


def _title(flags: TrainConfig) -> str:
    """The row's name; a training mode that was not published is part of it."""
    published = models.REGISTRY[flags.model].published_mode_weights
    weights = tuple(flags.mode_weights) or published
    if weights == published:
        return flags.model
    return f"{flags.model}, modes {','.join(f'{weight:g}' for weight in weights)}"


def _print_end(run_dir: Path, stages: Stages, *, exported: bool) -> None:
    systems = json.loads((run_dir / "evaluation" / "systems.json").read_text(encoding="utf-8"))
    console.print()
    console.print(report.table(systems), markup=False)
    seconds = ", ".join(f"{name} {spent:.0f} s" for name, spent in stages.seconds.items())
    console.print(f"time         {seconds}")
    console.print(f"report       {run_dir / 'evaluation' / 'table.md'} and the plots beside it")
    if exported:
        console.print(f"SavedModel   {run_dir / 'export' / '1'}")
        console.print(f"TensorBoard  tensorboard --logdir {run_dir / 'logs'}")


# --------------------------------------------------------------------------------- predict


def predict(flags: PredictConfig) -> None:
    """A SavedModel and tables (or a dataset directory) in, scores out."""
    if not flags.saved_model:
        raise InputError("--saved_model not given; name a run's export directory")
    loaded, fitted = export.load(flags.saved_model)
    given = {
        name: getattr(flags, name)
        for name, field in TableFlags.model_fields.items()
        if getattr(flags, name) != field.default
    }
    if flags.dataset_dir:
        dataset = datasets.load(flags.dataset_dir)
        if dataset.fitted.spec != fitted.spec or dataset.fitted.vocabularies != fitted.vocabularies:
            raise InputError(
                f"--dataset_dir={flags.dataset_dir} was prepared for another model; give its "
                "tables instead, so that they are read with this model's vocabularies"
            )
    elif given:
        own = fitted.tables.model_dump()
        if "counts" in given or "items" in given:
            own |= {"source": "", "source_set": ()}
        tables = config.build(TableFlags, own | given)
        dataset = pipeline.transform(
            pipeline.load_tables(tables), fitted.model_copy(update={"tables": tables})
        )
    else:
        raise InputError(
            "nothing to score; give --counts and --items, --source_dir or --dataset_dir"
        )
    _print_ledger(dataset)
    scores = scoring.score(loaded.signatures["serving_default"], dataset, as_of=flags.as_of)
    path = scoring.write(scores, flags.output)
    console.print(f"{scores.num_rows:,} items scored for {scores['period'][0].as_py()}: {path}")
