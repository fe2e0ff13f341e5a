"""From flags to a system."""

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
"""Of a run directory: the best epoch's."""


def model_options(flags: TrainConfig) -> tuple[models.Builder, dict[str, Any]]:
    """The builder of `--model`, and the options that all systems share with `--set` over them."""
    named = models.resolve_options(flags.model, flags.set)
    for name in sorted(set(named) & {*config.ModelFlags.model_fields, "seed"}):
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


def built(
    builder: models.Builder, options: dict[str, Any], dataset: Dataset, flags: TrainConfig
) -> Any:
    """The system that the options describe, in the precision that the flags name.

    Raises:
        InputError: an option is out of its range.
    """
    import keras  # the options above are read before it is loaded

    keras.config.set_dtype_policy(flags.precision)
    try:
        return builder(dataset.fitted.spec, **builder.accepted(options))
    except ValueError as error:
        raise InputError(f"--model={flags.model}: {error}") from None
