"""A dataset in; a model fitted, evaluated and exported into a run directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np

from mmnet import config
from mmnet.config import (
    TrainConfig,
)
from mmnet.console import Progress
from mmnet.data.dataset import Dataset
from mmnet.data.windows import Windows
from mmnet.evaluation import html_page
from mmnet.evaluation.predicting import Predicted
from mmnet.evaluation.scenarios import SCENARIOS
from mmnet.files import write_atomic
from mmnet.models import picture
from mmnet.models.ensemble import mean_prediction
from mmnet.models.estimator import Estimator, check_network
from mmnet.serving import (
    export,
    golden,
    profile,
)
from mmnet.serving.parent import Parent
from mmnet.tasks.building import (
    WEIGHTS,
    built,
    member_directory,
    members_of,
    model_options,
)
from mmnet.tasks.evaluating import (
    System,
    Validation,
    choosing_set,
    log_plots,
    print_systems,
    report_on,
    restored,
    scenario_set,
    title_of,
    validation_halves,
    validation_of,
)
from mmnet.tasks.shown import console, print_ledger, print_remarks, target_remarks
from mmnet.training import fitting, losses, mirrored, resume, share_rates, warm_start
from mmnet.training.records import Record, Stages
from mmnet.training.run_directory import SHARE_RATES


class Series:
    """Runs in turn that differ in the seed alone: their networks share what is compiled.

    A network is traced and compiled for the first seed. The weights and random states that a
    later seed begins with are put into the same variables, so that it ends as it would alone, bit
    for bit.

    Attributes:
        trainer: of the network; None before it is trained, and for what is not a network.
        fitted: what `fit_estimator` returned for the system's estimator, where it is kept so that
            the run need not fit it again.
    """

    def __init__(self):
        self._run: tuple[Any, str] | None = None
        self._seed = 0
        self._system: System | None = None
        self._ensemble: System | None = None
        self.trainer: fitting.Trainer | None = None
        self.fitted: dict[str, Any] | None = None

    def system(self, model: Any, dataset: Dataset, flags: TrainConfig) -> System:
        """The system of a newly built model, as the last one's where only the seed differs.

        Raises:
            InputError: --explain was given, and the model has no attention.
        """
        run = (flags.model_copy(update={"seed": 0, "run_dir": ""}), dataset.fingerprint)
        if self._system is not None and self._run == run:
            if self.trainer is not None:
                self.trainer.start_over(model, flags.seed)
                return self._system
            if self.fitted is not None and self._seed == flags.seed:
                return self._system
        found = System.of(model, dataset, flags)
        self._run, self._system, self._ensemble, self.trainer = run, found, None, None
        self._seed, self.fitted = flags.seed, None
        return found

    def becomes(self, flags: TrainConfig, dataset: Dataset) -> None:
        """Hands the last system to a run that continues its training under other flags.

        Args:
            flags: of that run. What differs from the system's own is bookkeeping: the epochs, the
                directory, what is written.
            dataset: of that run, with the arrays and the fitted parts of the system's own.
        """
        self._run = (flags.model_copy(update={"seed": 0, "run_dir": ""}), dataset.fingerprint)
        if self.trainer is not None:
            self.trainer.continue_with(flags)

    def ensemble(self, model: Any, dataset: Dataset, flags: TrainConfig) -> System:
        """The system of an ensemble whose members were the last models; it is not trained."""
        if self._ensemble is not None and isinstance(model, keras.Model):
            resume.copy_model(model, self._ensemble.model)
            return self._ensemble
        self._ensemble = System.of(model, dataset, flags)
        return self._ensemble


def train(
    flags: TrainConfig,
    dataset: Dataset,
    run_dir: Path,
    stages: Stages,
    series: Series | None = None,
    earlier: Parent | None = None,
) -> None:
    """Train on a dataset, and write all files of a run.

    Args:
        flags: those of the run, and those that the dataset was prepared with.
        dataset: dataset to train on.
        run_dir: the run directory; removed if it is still empty when the flags prove to be
            invalid.
        stages: times are added to.
        series: state shared with the runs before and after it; None shares nothing.
        earlier: the model whose weights a network starts with; None draws them.

    Raises:
        InputError: an option that the model refuses.
    """
    builder, options = model_options(flags)
    series = series or Series()
    with stages.stage("prepare"):
        model = built(builder, options, dataset, flags)
        if builder.kind == "network":
            losses.check_loss(flags.loss, model)
            _start(model, dataset, flags, flags, earlier)
        system = series.system(model, dataset, flags)  # --explain is refused before training
        model = system.model
    SHARE_RATES.write(flags, run_dir)
    windows = Windows(dataset)
    print_ledger(dataset)
    print_remarks(target_remarks(dataset, "train", "validation"))  # test stays closed
    if remark := validation_halves(dataset, flags).remark:
        print_remarks([remark])
    record = Record.of_this_process(
        flags=flags.model_dump(mode="json", exclude=set(config.PLACES))
        | {"mode_weights": list(options["mode_weights"])},
        inputs=dataset.inputs | ({"--warm_start": earlier.digest} if earlier else {}),
        split_dates=dataset.first_targets,
        rows_per_rule={f"{r.table}: {r.rule}": r.rows_out for r in dataset.ledger},
        missing_share=dataset.missing_share(),
    )
    if builder.kind == "network":
        each = " in each member" if flags.ensemble > 1 else ""
        console.print(f"{model.name}: {_parameters(model):,} parameters{each}; run: {run_dir}")
        write_atomic(run_dir / "architecture.md", _architecture(model))
        record = record.model_copy(update={"parameters": flags.ensemble * _parameters(model)})
    if builder.kind != "floor":
        fitted = _fit_members(series, system, dataset, windows, flags, run_dir, stages, earlier)
        record = record.model_copy(update={"fitted": fitted})
    if flags.outputs == "validation":
        record.finished(stages).write(run_dir / "record.json")
        return
    with stages.stage("evaluate"):
        if flags.ensemble > 1:
            system = series.ensemble(restored(dataset, flags, run_dir), dataset, flags)
        validation = validation_of(system.predict, dataset, windows, flags)
        directory = run_dir / "evaluation"
        so_far = record.finished(stages)
        found = report_on(system, dataset, windows, flags, directory, validation, so_far)
        log_plots(run_dir, directory)
    record.finished(stages, metrics=found).write(run_dir / "record.json")
    if validation is None:
        return
    if builder.kind != "floor":
        with stages.stage("export"), Progress("exporting the model"):
            network = _network(system.model)
            if network is not None:
                _export(network, system, dataset, windows, flags, run_dir, validation)
        record.finished(stages, metrics=found).write(run_dir / "record.json")
    _print_end(run_dir, flags, stages)


def _fit_members(
    series: Series,
    system: System,
    dataset: Dataset,
    windows: Windows,
    flags: TrainConfig,
    run_dir: Path,
    stages: Stages,
    earlier: Parent | None,
) -> dict[str, Any]:
    """Fits the models of a run in turn: the members of an ensemble, or its only one.

    Args:
        series: shares what is compiled.
        system: the first member's.
        dataset: dataset to train on.
        windows: windows of the dataset.
        flags: flags of the run.
        run_dir: the run directory, to which the weights are written.
        stages: the time is added to.
        earlier: see `train`.

    Returns:
        The record's `fitted`: what fitting told of the only model; or `members`, which has the
        same of each with its seed, and `validation`, the metrics of their mean prediction.
    """
    found: list[dict[str, Any]] = []
    predicted: list[Predicted] = []
    several = flags.ensemble > 1
    validation = choosing_set(dataset, windows, flags)
    for number, member in enumerate(members_of(flags), 1):
        if several:
            console.print(f"member {number} of {flags.ensemble}, seed {member.seed}")
        if number > 1:
            builder, options = model_options(member)
            with stages.stage("prepare"):
                model = built(builder, options, dataset, member)
                _start(model, dataset, flags, member, earlier)
                system = series.system(model, dataset, member)
        directory = member_directory(flags, member)
        told: dict[str, Any]
        if isinstance(system.model, keras.Model):
            result = fit_network(
                series, system, dataset, windows, member, run_dir, directory, earlier=earlier
            )
            before = stages.seconds.get("train", 0.0)
            stages.seconds["train"] = before + result.seconds  # of all sessions of the run
            resume.save_weights(system.model, run_dir / directory / WEIGHTS, dataset.fingerprint)
            told = {
                "best_epoch": result.best_epoch,
                "epochs": result.epochs,
                "validation": result.metrics,
            }
            told |= {"start": result.start} if result.start else {}
            console.print(f"best epoch {result.best_epoch} of {result.epochs}")
        else:
            with stages.stage("train"):
                told = series.fitted or fit_estimator(system, dataset, windows, member)
            state = system.model.state()
            resume.save_arrays(state, run_dir / directory / WEIGHTS, dataset.fingerprint)
            values = (f"{name} {value}" for name, value in told.items() if name != "validation")
            console.print(f"{flags.model}: {', '.join(values)}")
        found.append(told)
        if several:
            with stages.stage("train"):
                predicted.append(validation.predictions(system.predict))
    if not several:
        return found[0]
    metrics = validation.mse(
        {scenario: mean_prediction([one[scenario] for one in predicted]) for scenario in SCENARIOS}
    )
    shown = {name: metrics[name] for name in share_rates.MSE_NAMES}
    shown[flags.monitor] = share_rates.monitored(
        flags.monitor, metrics, share_rates.mse_units(dataset.fitted.spec)
    )
    values = (f"{name} {value:.4g}" for name, value in shown.items())
    console.print(f"ensemble of {flags.ensemble}  {'  '.join(values)}")
    seeds = [member.seed for member in members_of(flags)]
    members = [{"seed": seed} | told for seed, told in zip(seeds, found, strict=True)]
    return {"members": members, "validation": metrics}


def fit_network(
    series: Series,
    system: System,
    dataset: Dataset,
    windows: Windows,
    flags: TrainConfig,
    run_dir: Path,
    directory: Path = Path(),
    epochs: int | None = None,
    earlier: Parent | None = None,
) -> fitting.FitResult:
    """Trains the network of a system, or resumes its training.

    Args:
        series: holds the trainer, which is made for the first run.
        system: system to train; afterwards it has the best epoch's weights.
        dataset: dataset to train on.
        windows: windows of the dataset.
        flags: flags of the run.
        run_dir: the run directory.
        directory: the folder in it where checkpoints and logs go.
        epochs: see `Trainer.fit`.
        earlier: the model that the network's weights are from, if it starts warm.
    """
    if earlier:
        flags = flags.model_copy(update={"epochs": flags.warm_epochs})
    batches, steps_per_epoch = windows.training_batches(
        dataset.examples("train"),
        flags.batch_size,
        flags.seed,
        half_weight_clicks=flags.half_weight_clicks,
        weighting=losses.loss_weighting(flags.loss),
    )
    validation = choosing_set(dataset, windows, flags)

    def validate(trained: keras.Model) -> dict[str, float]:
        if trained is not system.model:
            resume.copy_model(trained, system.model)
        predicted, looks = system.outcomes(validation)
        attention = system.attention.named(looks) if system.attention else {}
        return validation.mse(predicted) | attention

    if series.trainer is None:
        series.trainer = share_rates.trainer(
            _trained(system.model, dataset, flags),
            batches,
            steps_per_epoch,
            flags,
            rate_scale=dataset.fitted.spec.rate_scale,
            spec=dataset.fitted.spec,
        )
    result = series.trainer.fit(
        batches,
        validate,
        run_dir=run_dir,
        within=directory,
        resume=flags.resume,
        epochs=epochs,
        from_start=earlier is not None,
        hparams=flags.model_dump(mode="json", include={*config.ModelFlags.model_fields, "seed"}),
        fixed={
            "batch_size": flags.batch_size,
            "half_weight_clicks": flags.half_weight_clicks,
            "dataset": dataset.fingerprint,
            **({"warm_start": earlier.digest} if earlier else {}),
        },
    )
    if series.trainer.model is not system.model:
        resume.copy_model(series.trainer.model, system.model)
    return result


def _trained(model: keras.Model, dataset: Dataset, flags: TrainConfig) -> keras.Model:
    """The model that is trained: itself, or its copy on several devices."""
    if flags.devices == 1:
        return model
    builder, options = model_options(flags)
    return mirrored.twin_of(model, lambda: built(builder, options, dataset, flags), flags.devices)


def _start(
    model: Any, dataset: Dataset, flags: TrainConfig, member: TrainConfig, earlier: Parent | None
) -> None:
    """Puts the weights of an earlier model into a network, or those of its member."""
    if earlier and isinstance(model, keras.Model):
        warm_start.start(
            model,
            earlier.arrays,
            dataset.fitted,
            earlier.fitted,
            member=member.seed - flags.seed,
            members=flags.ensemble,
        )


def fit_estimator(
    system: System, dataset: Dataset, windows: Windows, flags: TrainConfig
) -> dict[str, Any]:
    """Fits the estimator of a system, and returns the record's entries about it."""
    estimator: Estimator = system.model
    train = scenario_set(dataset, windows, "train", flags)
    validation = choosing_set(dataset, windows, flags)
    told = estimator.fit(
        train.sample("normal", flags.half_weight_clicks),
        {scenario: validation.sample(scenario) for scenario in SCENARIOS},
    )
    return told | {"validation": validation.mse(validation.predictions(system.predict))}


def _parameters(model: keras.Model) -> int:
    return int(sum(np.prod(variable.shape) for variable in model.trainable_variables))


def _architecture(model: keras.Model) -> str:
    lines: list[str] = []
    model.summary(print_fn=lines.append, line_length=110)
    summary = "\n".join(lines)
    return f"```mermaid\n{picture.mermaid(model)}\n```\n\n```text\n{summary}\n```\n"


def _network(model: Any) -> keras.Model | None:
    """What is exported of a fitted model: itself, or the network that an estimator makes."""
    if isinstance(model, keras.Model):
        return model
    build = getattr(model, "network", None)
    return build() if build else None


def _export(
    network: keras.Model,
    system: System,
    dataset: Dataset,
    windows: Windows,
    flags: TrainConfig,
    run_dir: Path,
    validation: Validation,
) -> None:
    _, tensors = next(windows.batches(dataset.examples("validation"), 256))
    check = {name: tensor.numpy() for name, tensor in tensors.items()}
    if network is not system.model:
        check_network(network, system.model, check, dataset.fitted.spec.rate_scale)
    about = {
        "flags": flags.model_dump(mode="json", exclude=set(config.PLACES)),
        "first_targets": dataset.first_targets,
    }
    main = dataset.of_output(dataset.fitted.spec.outputs()[0])
    described = profile.fit(
        main,
        windows if main is dataset else Windows(main),
        main.examples("train"),
        validation.examples,
        validation.predicted["normal"],
    )
    export.export(
        network,
        dataset.fitted,
        run_dir / "export",
        check=check,
        rows=golden.rows(dataset, windows, dataset.examples("validation")),
        assets={profile.FILE: described.model_dump(mode="json")},
        about=about,
        decisions=validation.decisions,
    )


def _print_end(run_dir: Path, flags: TrainConfig, stages: Stages) -> None:
    console.print()
    print_systems(run_dir / "evaluation", title_of(flags))
    console.print()
    seconds = ", ".join(f"{name} {spent:.0f} s" for name, spent in stages.seconds.items())
    console.print(f"time         {seconds}")
    console.print(f"report       {run_dir / 'evaluation' / html_page.FILE}")
    if (run_dir / "export" / "1").exists():
        console.print(f"SavedModel   {run_dir / 'export' / '1'}")
    logs = run_dir / "logs" if flags.ensemble == 1 else run_dir
    if any(logs.rglob("events.*")):
        console.print(f"TensorBoard  tensorboard --logdir {logs}")
