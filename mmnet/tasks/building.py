"""Construction of systems from flags."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmnet import config, models
from mmnet.checks import InputError
from mmnet.config import (
    TrainConfig,
)
from mmnet.data.dataset import Dataset

WEIGHTS = Path("checkpoints", "best.npz")
"""Weights of the best epoch, in the run directory or in a member's directory."""
MEMBERS = Path("members")
"""Folder of an ensemble's run directory with one directory per member, named by its seed."""


def members_of(flags: TrainConfig) -> list[TrainConfig]:
    """List the flags of each member of an ensemble, which differ in the seed.

    >>> [member.seed for member in members_of(TrainConfig(ensemble=3, seed=5))]
    [5, 6, 7]
    """
    return [
        flags.model_copy(update={"seed": flags.seed + number}) for number in range(flags.ensemble)
    ]


def member_directory(flags: TrainConfig, member: TrainConfig) -> Path:
    """Path of a member's checkpoints and logs, relative to the run directory.

    >>> for number in (1, 2):
    ...     flags = TrainConfig(ensemble=number, seed=5)
    ...     print([member_directory(flags, member).as_posix() for member in members_of(flags)])
    ['.']
    ['members/5', 'members/6']
    """
    return MEMBERS / str(member.seed) if flags.ensemble > 1 else Path()


def weights_of(flags: TrainConfig, run_dir: Path) -> list[Path]:
    """The files of the best epoch's weights, one per member of a run."""
    return [run_dir / member_directory(flags, one) / WEIGHTS for one in members_of(flags)]


def has_several_outputs(flags: TrainConfig) -> bool:
    """Return whether the flags ask for further horizons or rates."""
    return len(flags.horizon) > 1 or bool(flags.also_predict)


def model_options(flags: TrainConfig) -> tuple[models.Builder, dict[str, Any]]:
    """The builder of `--model`, and the options that all systems share with `--set` over them.

    Raises:
        InputError: an unknown model or option, an ensemble of a model that draws nothing,
            several outputs of a model that has one, or several devices for what is not a network.
    """
    named = models.resolve_options(flags.model, flags.set)
    for name in sorted(set(named) & {*config.ModelFlags.model_fields, "seed"}):
        raise InputError(f"--set={name}=...: this option has its own flag; use --{name}")
    builder = models.REGISTRY[flags.model]
    if builder.kind != "network" and has_several_outputs(flags):
        networks = (name for name, one in models.REGISTRY.items() if one.kind == "network")
        raise InputError(
            f"--model={flags.model} predicts one rate at one horizon; give one --horizon and no "
            f"--also_predict, or use one of the networks: {', '.join(networks)}"
        )
    if flags.ensemble > 1 and not builder.seeded:
        raise InputError(
            f"--ensemble={flags.ensemble}: --model={flags.model} draws nothing at random, so that "
            "all members would be identical; remove --ensemble"
        )
    if flags.devices > 1 and builder.kind != "network":
        raise InputError(
            f"--devices={flags.devices} splits the training steps of a network, and "
            f"--model={flags.model} has none; remove --devices"
        )
    weights = flags.mode_weights or builder.published_mode_weights
    if len(weights) != 3:
        raise InputError(f"--mode_weights must be three numbers. Received: {flags.mode_weights}")
    shared = {
        "coarse_granularity": flags.coarse_granularity,
        "taxonomy_flags": flags.taxonomy_flags,
        "mode_weights": tuple(weights),
        "noisy_rate": flags.noisy_rate,
        "seed": flags.seed,
    }
    return builder, shared | named


def built(
    builder: models.Builder, options: dict[str, Any], dataset: Dataset, flags: TrainConfig
) -> Any:
    """Build the system that the options describe, in the precision that the flags name.

    Raises:
        InputError: an option is out of its range.
    """
    import keras  # the options above are read before it is loaded

    keras.config.set_dtype_policy(flags.precision)
    try:
        return builder(dataset.fitted.spec, **builder.accepted(options))
    except ValueError as error:
        raise InputError(f"--model={flags.model}: {error}") from None
