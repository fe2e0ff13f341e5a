"""Training that starts from an earlier model, and checks that the two models are compatible."""

from __future__ import annotations

from typing import Any

from mmnet.checks import InputError
from mmnet.config import TrainConfig
from mmnet.data.dataset import Dataset
from mmnet.data.earlier import FIX, NotAlike, check_carried
from mmnet.flags import build
from mmnet.recipes.reading import AUTO
from mmnet.serving import parent
from mmnet.serving.parent import Parent
from mmnet.tasks.building import model_options
from mmnet.tasks.shown import console

SPLIT = ("split", "split_ratios", "split_seed", "split_group")
"""Flags that must be alike where the split is not by time."""


def earlier_model(flags: TrainConfig) -> Parent | None:
    """Reads the model that a run starts from, without TensorFlow.

    Args:
        flags: flags of the run.

    Returns:
        None without `--warm_start`, and for models that are fitted in one go.

    Raises:
        NotAlike: it is another model, or has other options.
        InputError: it cannot be read, or the flags contradict each other.
    """
    if not flags.warm_start:
        return None
    if flags.recipe == AUTO:
        raise InputError(
            f"--warm_start starts from one network, and --recipe={AUTO} compares several; give the "
            "recipe that an earlier run found by its flags (recipe.txt), or remove --warm_start"
        )
    builder, _ = model_options(flags)
    if builder.kind != "network":
        console.print(
            f"--warm_start is not used: --model={flags.model} is fitted on all training rows again"
        )
        return None
    found = parent.read(flags.warm_start)
    own, theirs = _options(flags), _options(_flags_of(found))
    for name, value in own.items():
        if (other := theirs.get(name)) != value:
            raise NotAlike(
                f"--warm_start: {name}={value} differs from {other} of the earlier model; {FIX}"
            )
    return found


def _flags_of(earlier: Parent) -> TrainConfig:
    """The flags of its run; those that its version of mmnet did not have are at their defaults."""
    known = {
        name: earlier.flags[name] for name in TrainConfig.model_fields if name in earlier.flags
    }
    return build(TrainConfig, known)


def _options(flags: TrainConfig) -> dict[str, Any]:
    """What the weights of a network mean, by name; the model first."""
    builder, options = model_options(flags)
    own = builder.options(**builder.accepted(options)).model_dump(mode="json", exclude={"seed"})
    return {"model": flags.model, "ensemble": flags.ensemble, "precision": flags.precision} | own


def check_start(dataset: Dataset, earlier: Parent) -> None:
    """Makes sure that a dataset continues the earlier model's, and that its test is still unseen.

    Raises:
        NotAlike: its inputs, ids or scales differ, or the earlier model has learned from a test
            period.
    """
    check_carried(dataset.fitted, earlier.fitted)
    task, before = dataset.fitted.task, earlier.fitted.task
    if task.split != "chronological" or before.split != "chronological":
        for name in SPLIT:
            if getattr(task, name) != getattr(before, name):
                raise NotAlike(
                    f"--warm_start: --{name} differs from that of the earlier model, which may "
                    f"have learned from test rows; {FIX}"
                )
        return
    calendar = dataset.fitted.calendar
    test = calendar.number(str(dataset.first_targets["test"]), "warm_start")
    if "test" not in earlier.first_targets:
        raise NotAlike(
            "--warm_start: the earlier model was exported without the periods of its split, so "
            f"that it may have learned from test periods; {FIX}"
        )
    learned = calendar.number(str(earlier.first_targets["test"]), "warm_start") - 1
    if earlier.refitted_until is not None:
        learned = max(learned, calendar.number(str(earlier.refitted_until), "warm_start"))
    if learned >= test:
        raise NotAlike(
            f"--warm_start: the earlier model has learned from periods up to "
            f"{calendar.label(learned)}, and the test begins with {calendar.label(test)}, so that "
            f"its error would be too small; start from an older model, or {FIX}"
        )
