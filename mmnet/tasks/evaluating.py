"""A trained model and a dataset in; metrics, tables and plots out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np

from mmnet import models
from mmnet.checks import InputError
from mmnet.config import (
    TrainConfig,
)
from mmnet.data.dataset import Dataset
from mmnet.data.windows import Windows
from mmnet.evaluation import conformal, filtering, plots, report
from mmnet.evaluation.attention import Attention
from mmnet.evaluation.predicting import Predict, Predictor, ScenarioSet
from mmnet.serving import decision
from mmnet.tasks.building import WEIGHTS, built, model_options
from mmnet.tasks.shown import console
from mmnet.training import resume

MISSING_RATES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Of the degradation curve: what remains of the test score as ever more of the histories goes."""


def evaluate(
    dataset: Dataset, flags: TrainConfig, run_dir: Path, *, name: str = "evaluation"
) -> None:
    """Scores the trained model of a run, and writes what came of it.

    Args:
        dataset: to score it on.
        flags: of the run, and how to score.
        run_dir: the run directory.
        name: of the directory in it to write to.

    Raises:
        InputError: there are no weights, or those of another model or dataset.
    """
    builder, options = model_options(flags)
    model = built(builder, options, dataset, flags)
    if builder.kind == "network":
        resume.load_weights(model, run_dir / WEIGHTS, dataset.fingerprint)
    if builder.kind == "estimator":
        model.restore(resume.load_arrays(run_dir / WEIGHTS, dataset.fingerprint))
    report_on(model, dataset, Windows(dataset), flags, run_dir / name)
    console.print((run_dir / name / "table.md").read_text(encoding="utf-8"))


def scenario_set(dataset: Dataset, windows: Windows, split: str, flags: TrainConfig) -> ScenarioSet:
    """The examples of a split in all scenarios."""
    return ScenarioSet(
        dataset,
        windows,
        dataset.split[split],
        missing_rate=flags.test_missing_rate,
        scenario_seed=flags.scenario_seed,
    )


def predictor_of(system: Any, jit: bool) -> Predict:
    """One way to ask a Keras model or a floor."""
    if isinstance(system, keras.Model):
        return Predictor(system, jit)
    return lambda inputs: system.predict({name: np.asarray(t) for name, t in inputs.items()})


def report_on(
    system: Any, dataset: Dataset, windows: Windows, flags: TrainConfig, directory: Path
) -> dict[str, Any]:
    """Scores a system on the test split beside the floors, and writes what came of it."""
    test = scenario_set(dataset, windows, "test", flags)
    predict = predictor_of(system, flags.jit)
    attention = attention_of(system, dataset, flags)
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
        name: test.frame(predictor_of(builder(dataset.fitted.spec), False))
        for name, builder in models.REGISTRY.items()
        if builder.kind == "floor" and name != flags.model
    }
    decisions = decisions_of(system, dataset, windows, flags)
    filtering.write(
        directory,
        rows,
        floors,
        {text: rule.threshold for text, rule in decisions.rules.items()},
        conformal.coverage(decisions.intervals, rows),
        system=title_of(flags),
        level=flags.interval_level,
    )
    return report.write_report(
        directory,
        rows,
        **about,
        **more,
        attention=attention.means(looks) if attention else None,
        system=title_of(flags),
        others={name: report.metrics(frame, **about) for name, frame in floors.items()},
        taxonomies=[f"{plots.TAXONOMY}{name}" for name in dataset.fitted.spec.taxonomies],
        numerator=dataset.fitted.tables.numerator,
        denominator=dataset.fitted.tables.denominator,
    )


def attention_of(system: Any, dataset: Dataset, flags: TrainConfig) -> Attention | None:
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


def title_of(flags: TrainConfig) -> str:
    """The row's name; a training mode that was not published is part of it."""
    builder = models.REGISTRY[flags.model]
    weights = tuple(flags.mode_weights) or builder.published_mode_weights
    if builder.kind == "floor" or weights == builder.published_mode_weights:
        return flags.model
    return f"{flags.model}, modes {','.join(f'{weight:g}' for weight in weights)}"


def decisions_of(
    system: Any, dataset: Dataset, windows: Windows, flags: TrainConfig
) -> decision.Decisions:
    """Rules and prediction intervals, from validation alone."""
    validation = scenario_set(dataset, windows, "validation", flags)
    return decision.fit(
        validation.frame(predictor_of(system, flags.jit)),
        flags.rules,
        level=flags.interval_level,
        max_rate=dataset.fitted.spec.max_rate,
    )
