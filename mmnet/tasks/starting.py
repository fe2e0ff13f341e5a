"""Training and evaluation up to where they need TensorFlow: flags, directories and tables."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmnet.checks import InputError
from mmnet.config import EvaluateConfig, TrainConfig
from mmnet.data import dataset as datasets
from mmnet.data.dataset import Dataset
from mmnet.flags import as_text
from mmnet.recipes import reading
from mmnet.search import candidates
from mmnet.serving import rules
from mmnet.serving.parent import Parent
from mmnet.startup import devices_for, load_tensorflow
from mmnet.tasks import warming
from mmnet.tasks.building import has_several_outputs, model_options, weights_of
from mmnet.tasks.preparing import dataset_of_tables
from mmnet.tasks.shown import console
from mmnet.training import mlflow_log, resume
from mmnet.training.records import Stages
from mmnet.training.run_directory import (
    SEARCH,
    SHARE_RATES,
    is_there,
    only_run,
    removed_if_unused,
)

if TYPE_CHECKING:  # it needs TensorFlow
    from mmnet.tasks.training import Series


def train(flags: TrainConfig, series: Series | None = None) -> None:
    """Tables or a dataset directory in, a run directory out.

    Args:
        flags: flags of the run.
        series: state shared with other runs in this process; None shares nothing.
    """
    model_options(flags)  # wrong ones are refused before a directory is made
    for rule in flags.rules:
        rules.parse(rule)
    asked = flags  # the flags of a run to resume do not say where to log it
    mlflow_log.check(asked)
    was_there = is_there(flags)
    searched = _is_search(flags)
    if flags.recipe == reading.AUTO:  # what it cannot look for is refused, too
        _check_search(flags)
        within_one = not flags.rate_may_exceed_one
        candidates.entries(flags, within_one=within_one, candidates=candidates.CANDIDATES)
    if not flags.resume:
        warming.earlier_model(flags)
    flags, run_dir = SHARE_RATES.open(flags, SEARCH if searched else "")
    stages = Stages()
    with only_run(run_dir), removed_if_unused(run_dir, was_there=was_there):
        if flags.devices > 1:
            devices_for(flags.devices)
        with stages.stage("prepare"):
            earlier = warming.earlier_model(flags)  # of the run to resume, where it is one
            dataset, flags = _dataset_of_run(flags, run_dir, earlier)
            if earlier:
                warming.check_start(dataset, earlier)
            if searched:
                _check_search(flags)
            for rule in flags.rules:
                rules.output_of(rule, dataset.fitted.spec.outputs())
                rules.quota_field(rule, dataset.fitted.spec)
        load_tensorflow()
        from mmnet.tasks import choosing_recipe, training

        if searched:
            with stages.stage("search"):
                flags, dataset, found = choosing_recipe.choose(flags, dataset, run_dir)
            series = found or series
        training.train(flags, dataset, run_dir, stages, series, earlier)
        mlflow_log.log(asked, run_dir)


def _check_search(flags: TrainConfig) -> None:
    if has_several_outputs(flags):
        raise InputError(
            "--recipe=auto compares models of one rate at one horizon; name a recipe for networks "
            "with several, such as --recipe=mixed"
        )


def _is_search(flags: TrainConfig) -> bool:
    """Whether the run's other flags have to be found, or were found by the run to resume."""
    resumed = flags.resume and Path(flags.run_dir, SEARCH, "flags.txt").exists()
    return flags.recipe == reading.AUTO or (bool(flags.run_dir) and resumed)


def trainer() -> tuple[type[TrainConfig], Callable[[TrainConfig], None]]:
    """Flags and task of runs in turn, which share what is compiled; see `mmnet.series`."""
    from mmnet.tasks.training import Series

    return TrainConfig, functools.partial(train, series=Series())


def _dataset_of_run(
    flags: TrainConfig, run_dir: Path, earlier: Parent | None
) -> tuple[Dataset, TrainConfig]:
    """The dataset to train on, and the flags with those that it was prepared with.

    Raises:
        InputError: no tables and no dataset, or a dataset that was prepared otherwise.
    """
    directory = Path(flags.dataset_dir or run_dir / "dataset")
    if flags.counts or flags.events or flags.items or flags.source:
        if flags.resume:
            with contextlib.suppress(InputError):  # missing or damaged: it is made again
                # The checkpoint says whether it is the run's own.
                return datasets.load(directory), flags
        return dataset_of_tables(flags, directory, earlier.fitted if earlier else None), flags
    if not flags.dataset_dir:
        raise InputError(
            "no tables given; name --counts or --events and --items, a --source or --dataset_dir"
        )
    dataset = datasets.load(directory)
    prepared = dict(dataset.fitted.tables) | dict(dataset.fitted.task)
    given = flags.model_fields_set & set(prepared)
    if flags.resume:  # a run keeps its places as absolute paths, whatever the dataset has
        given -= set(SHARE_RATES.kept_places)
    for name in sorted(given):
        if getattr(flags, name) != prepared[name]:
            if name == "inputs" and name in reading.names_from_recipe(flags):
                if set(prepared[name]) < set(flags.inputs):
                    said = ",".join(prepared[name]) or "none of them"
                    console.print(
                        f"--recipe={flags.recipe} reads --inputs={','.join(flags.inputs)}; "
                        f"{directory} was prepared with {said}"
                    )
                    continue
                raise InputError(
                    f"--recipe={flags.recipe} reads --inputs={','.join(flags.inputs)}, and "
                    f"{directory} was prepared with --inputs={','.join(prepared[name])}; prepare "
                    "another dataset"
                )
            before = prepared[name]
            raise InputError(
                f"--{name}={as_text(getattr(flags, name))} differs from how {directory} was "
                f"prepared, with {repr(before) if isinstance(before, str) else as_text(before)}; "
                "leave it out, or prepare another dataset"
            )
    return dataset, flags.model_copy(update=prepared)


def evaluate(flags: EvaluateConfig) -> None:
    """A run directory in, its metrics, tables and plots out."""
    run_dir = Path(flags.run_dir)
    if not flags.run_dir:
        raise InputError("--run_dir not given; name the run to evaluate")
    own = SHARE_RATES.read(run_dir)
    with only_run(run_dir):
        _evaluate(flags, own, run_dir)


def evaluation_name(flags: EvaluateConfig, own: TrainConfig) -> str:
    """The directory, in that of a run, that an evaluation writes into.

    Args:
        flags: flags of the evaluation.
        own: flags of the run; scenarios other than its own get their own directory.
    """
    if not (changed := _changed(flags, own)):
        return "evaluation"
    own = own.model_copy(update=changed)
    return f"evaluation-rate-{own.test_missing_rate:g}-seed-{own.scenario_seed}"


def _changed(flags: EvaluateConfig, own: TrainConfig) -> dict[str, Any]:
    """Scenario flags that differ from the run's."""
    asked = {"test_missing_rate", "scenario_seed"} & flags.model_fields_set
    given = {name: getattr(flags, name) for name in asked}
    return {name: value for name, value in given.items() if value != getattr(own, name)}


def _evaluate(flags: EvaluateConfig, own: TrainConfig, run_dir: Path) -> None:
    name, changed = evaluation_name(flags, own), _changed(flags, own)
    own = own.model_copy(update=changed | {"explain": flags.explain})
    dataset = datasets.load(flags.dataset_dir or own.dataset_dir or run_dir / "dataset")
    builder, _ = model_options(own)
    if builder.kind != "floor":  # refused before TensorFlow is loaded
        for weights in weights_of(own, run_dir):
            resume.load_arrays(weights, dataset.fingerprint)
    load_tensorflow()
    from mmnet.tasks import evaluating

    evaluating.evaluate(dataset, own, run_dir, name=name)
