"""A trained model and a dataset in; metrics, tables and plots out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mmnet import models, schema
from mmnet.checks import InputError
from mmnet.config import (
    TrainConfig,
)
from mmnet.console import Progress
from mmnet.data.dataset import Dataset
from mmnet.data.splits import Examples
from mmnet.data.windows import Windows
from mmnet.evaluation import (
    conformal,
    filtering,
    html_page,
    intervals,
    other_outputs,
    output_sets,
    plots,
    report,
)
from mmnet.evaluation.attention import Attention, Looks
from mmnet.evaluation.halves import Halves, halves
from mmnet.evaluation.predicting import Predict, Predicted, Predictor, ScenarioSet
from mmnet.files import UNREADABLE, read_json
from mmnet.models.ensemble import averaged
from mmnet.schema import FieldSpec, Output
from mmnet.serving import decision, rules
from mmnet.tasks.building import MEMBERS, built, members_of, model_options, weights_of
from mmnet.tasks.shown import console, print_remarks, target_remarks
from mmnet.training import resume, tensorboard
from mmnet.training.records import Record

MISSING_RATES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Rates of the degradation curve: the test score as more and more of the histories is hidden."""


@dataclass(frozen=True)
class System:
    """A model and its compiled functions, which training, evaluation and export share.

    A network is traced and compiled once per `System`; on a few thousand examples this takes
    longer than all predictions together. Weights are read at each call.

    Attributes:
        model: a Keras model, an estimator or a baseline.
        predict: maps the inputs of a batch to percent, [batch] or [batch, outputs].
        attention: attention and gate weights; None for a model without any.
    """

    model: Any
    predict: Predict
    attention: Attention | None

    @classmethod
    def of(cls, model: Any, dataset: Dataset, flags: TrainConfig) -> System:
        """Wraps a model.

        Raises:
            InputError: --explain was given, and the model has no attention.
        """
        attention = attention_of(model, dataset, flags)
        predict = attention.predict if attention else predictor_of(model, flags.jit)
        return cls(model, predict, attention)

    def outcomes(self, examples: ScenarioSet) -> tuple[Predicted, Looks]:
        """Predictions of all examples in every scenario, with the attention weights."""
        if self.attention is None:
            return examples.predictions(self.predict), {}
        return self.attention.look(examples)


@dataclass(frozen=True)
class Validation:
    """Results of a system on the validation split, or on the half that calibrates.

    Attributes:
        examples: examples of the split, or the half, with a target of the main output.
        predicted: predictions of their main output in all scenarios.
        decisions: rules and prediction intervals.
    """

    examples: Examples
    predicted: Predicted
    decisions: decision.Decisions


def evaluate(
    dataset: Dataset, flags: TrainConfig, run_dir: Path, *, name: str = "evaluation"
) -> None:
    """Score the trained model of a run and write the results.

    Args:
        dataset: dataset to score it on.
        flags: flags of the run, and of the scoring.
        run_dir: the run directory.
        name: name of the directory in it to write to.

    Raises:
        InputError: there are no weights, or those of another model or dataset.
    """
    model = restored(dataset, flags, run_dir)
    system, windows = System.of(model, dataset, flags), Windows(dataset)
    validation = validation_of(system.predict, dataset, windows, flags)
    path = run_dir / "record.json"
    record = Record.read(path) if path.exists() else None
    if record:  # the scenarios may be other ones than those of the run
        scored = flags.model_dump(mode="json", include={"test_missing_rate", "scenario_seed"})
        record = record.model_copy(update={"flags": record.flags | scored})
    report_on(system, dataset, windows, flags, run_dir / name, validation, record)
    log_plots(run_dir, run_dir / name)
    print_systems(run_dir / name, title_of(flags))
    console.print(f"\nreport  {run_dir / name / html_page.FILE}")
    print_remarks(target_remarks(dataset, "validation", "test"))


def print_systems(directory: Path, own: str) -> None:
    """Prints the metrics of the system of an evaluation, and of the simple baselines.

    Args:
        directory: of the evaluation, in a run directory.
        own: name of the system.

    Raises:
        InputError: its metrics are missing or damaged.
    """
    path = directory / "systems.json"
    try:
        systems = read_json(path)
        header, rows = report.table_cells({own: systems.pop(own), **systems})
    except UNREADABLE:
        raise InputError(
            f"{path} is missing or damaged; python -m mmnet.evaluate --run_dir={directory.parent} "
            "writes it again"
        ) from None
    console.table([title.replace(" ", "\n") for title in header], rows, report.OPTIONAL)


LOGGED = ("calibration", "gates", "degradation")
"""Plots of an evaluation that TensorBoard shows."""


def log_plots(run_dir: Path, directory: Path) -> None:
    """Logs plots of an evaluation for TensorBoard, in place of those of an earlier one.

    Args:
        run_dir: the run directory; one without logs gets none.
        directory: of the evaluation, in it.
    """
    logs = run_dir / "logs"
    if not (logs.exists() or (run_dir / MEMBERS).exists()):
        return
    found = {name: directory / f"{name}.png" for name in LOGGED}
    pngs = {name: path.read_bytes() for name, path in found.items() if path.exists()}
    place = logs / directory.name
    for earlier in place.glob("events.*"):
        earlier.unlink()
    with tensorboard.Logs(place) as writer:
        for name, png in pngs.items():
            if png:
                writer.image(0, f"{directory.name}/{name}", png)


def restored(dataset: Dataset, flags: TrainConfig, run_dir: Path) -> Any:
    """Load the trained model of a run: a network, an estimator, a baseline, or an ensemble.

    Args:
        dataset: that it was trained on.
        flags: flags of the run.
        run_dir: the run directory.

    Raises:
        InputError: there are no weights, or those of another model or dataset.
    """
    builder, options = model_options(flags)
    found = []
    for member, weights in zip(members_of(flags), weights_of(flags, run_dir), strict=True):
        model = built(builder, options | {"seed": member.seed}, dataset, member)
        if builder.kind == "network":
            resume.load_weights(model, weights, dataset.fingerprint)
        if builder.kind == "estimator":
            model.restore(resume.load_arrays(weights, dataset.fingerprint))
        found.append(model)
    return averaged(found)


def scenario_set(
    dataset: Dataset,
    windows: Windows,
    split: str,
    flags: TrainConfig,
    examples: Examples | None = None,
) -> ScenarioSet:
    """The examples of a split, or some of them, in all scenarios, for all outputs."""
    return output_sets.set_of(
        dataset,
        windows,
        dataset.examples(split) if examples is None else examples,
        missing_rate=flags.test_missing_rate,
        scenario_seed=flags.scenario_seed,
    )


def validation_halves(dataset: Dataset, flags: TrainConfig) -> Halves:
    """Split validation into halves that choose and calibrate; without the flag, both are all."""
    examples = dataset.examples("validation")
    if not flags.validation_halves:
        return Halves(examples, examples)
    return halves(examples, dataset.panel.item_ids)


def choosing_set(dataset: Dataset, windows: Windows, flags: TrainConfig) -> ScenarioSet:
    """The validation examples that choose the epoch, in all scenarios."""
    chosen = validation_halves(dataset, flags).choosing
    return scenario_set(dataset, windows, "validation", flags, chosen)


def predictor_of(system: Any, jit: bool) -> Predict:
    """Return a function that predicts with a Keras model or a baseline."""
    if isinstance(system, keras.Model):
        return Predictor(system, jit)
    return lambda inputs: system.predict({name: np.asarray(t) for name, t in inputs.items()})


def report_on(
    system: System,
    dataset: Dataset,
    windows: Windows,
    flags: TrainConfig,
    directory: Path,
    validation: Validation | None = None,
    record: Record | None = None,
) -> dict[str, Any]:
    """Score a system and the simple baselines on the test split, and write the results.

    Args:
        system: the trained system.
        dataset: its data.
        windows: windows of the dataset.
        flags: flags of the run.
        directory: directory to write to.
        validation: its results on the validation split; None writes the predictions and their
            metrics without tables and plots.
        record: of the run, as far as it has come; the report shows it.

    Returns:
        The content of metrics.json.
    """
    with Progress("evaluating the three scenarios", 5) as progress:
        return _report_on(system, dataset, windows, flags, directory, validation, record, progress)


def _report_on(
    system: System,
    dataset: Dataset,
    windows: Windows,
    flags: TrainConfig,
    directory: Path,
    validation: Validation | None,
    record: Record | None,
    progress: Progress,
) -> dict[str, Any]:
    whole = scenario_set(dataset, windows, "test", flags)
    attention = system.attention
    of_all, looks = system.outcomes(whole)
    main, *others = output_sets.parts_of(whole)
    # From here on the main output is evaluated as if it were the only one.
    test, predicted, predict = main.examples, main.of(of_all), main.alone(system.predict)
    looks = main.looks(looks)
    rows = test.frame(predicted)
    progress.advance(title="evaluating with ever more of the history hidden")
    shown = validation is not None
    degradation = test.degradation(predict, MISSING_RATES, predicted, with_ends=shown)
    progress.advance(title="evaluating with one input removed at a time")
    probes = report.Probes(
        degradation=degradation,
        outage=test.outage(predict, predicted),
        attention_rows=attention.frame(test, looks) if attention and flags.explain else None,
    )
    setting = report.Setting(
        split=dataset.fitted.task.split,
        taxonomy_mean=dataset.fitted.task.taxonomy_mean,
        seed=flags.seed,
        binomial=not dataset.fitted.tables.rate_may_exceed_one,
    )
    of_others = [(part, part.examples.frame(part.of(of_all))) for part in others]
    further = None
    if isinstance(whole, output_sets.OutputSet):
        metrics: dict[Output, dict[str, Any]] = {main.output: {}}
        for part, frame in of_others:
            metrics[part.output] = report.metrics(frame, setting)
        further = report.Further(other_outputs.nested(metrics), whole.table(of_all))
    if validation is None:
        return report.write_predictions(directory, rows, setting, probes, further)
    progress.advance(title="evaluating simple baselines and the filter")
    floors = {
        name: test.frame(test.predictions(predictor_of(builder(test.dataset.fitted.spec), False)))
        for name, builder in models.REGISTRY.items()
        if builder.kind == "floor" and name != flags.model
    }
    decisions = validation.decisions
    outputs = dataset.fitted.spec.outputs()

    def rules_of(part: output_sets.Part) -> dict[str, filtering.Applied]:
        return {
            text: _thresholds(rule, part.examples)
            for text, rule in decisions.rules.items()
            if rules.output_of(text, outputs) == part.output
        }

    decision_found, figure = filtering.write(
        directory,
        rows,
        floors,
        rules_of(main),
        conformal.coverage(decisions.intervals, rows),
        system=title_of(flags),
        level=flags.interval_level,
        others={part.output.name: (frame, rules_of(part)) for part, frame in of_others},
    )
    progress.advance(title="writing the report")
    return report.write_report(
        directory,
        rows,
        setting,
        probes,
        attention=attention.means(looks) if attention else None,
        system=title_of(flags),
        others={name: report.metrics(frame, setting) for name, frame in floors.items()},
        taxonomies=[f"{plots.TAXONOMY}{name}" for name in dataset.fitted.spec.taxonomies],
        numerator=dataset.fitted.tables.numerator,
        denominator=dataset.fitted.tables.denominator,
        remarks=target_remarks(dataset, "validation", "test"),
        told=report.Told(
            decision=decision_found,
            intervals=intervals.estimate(rows, floors, title_of(flags)),
            record=record.model_dump(mode="json") if record else {},
            figures={"decision.png": figure} if figure else {},
            columns={
                field.name: test.values(field.name)
                for field in dataset.fitted.spec.fields
                if field.name not in dataset.fitted.spec.taxonomies
            },
        ),
        further=further,
    )


def _groups(dataset: Dataset, examples: Examples, field: FieldSpec) -> np.ndarray:
    """Values of a field with one value per item, text [examples]; empty where they are unknown."""
    vocabulary = dataset.fitted.vocabularies[field.tensor]
    names = np.array([""] * schema.FIRST_ID + list(vocabulary), object)
    return names[dataset.tensors[field.tensor][examples.items, 0]]


def _thresholds(rule: decision.Rule, rows: ScenarioSet) -> filtering.Applied:
    """Thresholds of a rule for the rows of each scenario."""
    spec = rows.dataset.fitted.spec
    groups = [
        _groups(rows.dataset, rows.examples, field)
        for field in spec.fields
        if field.name == rule.per
    ]
    of_rows = rule.of_groups(groups[0]) if groups else None
    return filtering.Applied(rule.threshold, of_rows)


def attention_of(system: Any, dataset: Dataset, flags: TrainConfig) -> Attention | None:
    """Attention weights of a network; None for a model without attention.

    Raises:
        InputError: --explain was given, and there is nothing to explain.
    """
    if isinstance(system, keras.Model):
        found = Attention(system, dataset.fitted.spec, flags.jit)
        if found.kinds:
            return found
    if flags.explain:
        raise InputError(f"--explain: --model={flags.model} has no attention; remove --explain")
    return None


def title_of(flags: TrainConfig) -> str:
    """Name of the system in tables, including an unpublished training mode or an ensemble."""
    builder = models.REGISTRY[flags.model]
    title = flags.model
    if flags.ensemble > 1:
        title += f", ensemble of {flags.ensemble}"
    weights = tuple(flags.mode_weights) or builder.published_mode_weights
    if builder.kind == "floor" or weights == builder.published_mode_weights:
        return title
    return f"{title}, modes {','.join(f'{weight:g}' for weight in weights)}"


def validation_of(
    predict: Predict, dataset: Dataset, windows: Windows, flags: TrainConfig
) -> Validation | None:
    """Solve rules and calibrate intervals, from validation alone; None unless requested.

    Only `--outputs=all` asks for them.
    """
    if flags.outputs != "all":
        return None
    fitting = validation_halves(dataset, flags).fitting
    scenarios = scenario_set(dataset, windows, "validation", flags, fitting)
    with Progress("predicting the validation rows"):
        predicted = scenarios.predictions(predict)
    outputs = dataset.fitted.spec.outputs()
    fields = [rules.quota_field(rule, dataset.fitted.spec) for rule in flags.rules]
    main, *others = output_sets.parts_of(scenarios)
    found = {}
    for part in (main, *others):
        examples = part.examples
        found[part.output.name] = decision.fit(
            examples.frame(part.of(predicted)),
            [text for text in flags.rules if rules.output_of(text, outputs) == part.output],
            level=flags.interval_level,
            max_rate=examples.dataset.fitted.spec.max_rate,
            explore_share=flags.explore_share,
            groups={
                field.name: _groups(dataset, examples.examples, field)
                for field in fields
                if field is not None
            },
            outputs=outputs,
        )
    decisions = found[main.output.name]
    if others:
        decisions = decision.joined(found, flags.rules, outputs)
    return Validation(main.examples.examples, main.of(predicted), decisions)
