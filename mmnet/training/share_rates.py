"""Trainer of share rate models, with the optimizer, loss and monitor that the flags name."""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np

from mmnet.config import TrainingFlags
from mmnet.evaluation.scenarios import SCENARIOS
from mmnet.training import losses
from mmnet.training.adam import Adam
from mmnet.training.fitting import Monitor, Trainer
from mmnet.training.stepping import Batches

MSE_NAMES = tuple(f"{scenario}_mse" for scenario in SCENARIOS)


def trainer(
    model: keras.Model,
    batches: Batches,
    steps_per_epoch: int,
    flags: TrainingFlags,
    *,
    rate_scale: float,
) -> Trainer:
    """A trainer whose `validate` returns the metrics `MSE_NAMES`, and any others.

    Args:
        model: see `Trainer`.
        batches: see `Trainer`; their targets are [batch], percent.
        steps_per_epoch: see `Trainer`; a cosine schedule counts epochs by it.
        flags: how the model is fitted.
        rate_scale: the MSE is in percent² over its square.

    Raises:
        InputError: the loss does not fit the model's link.
    """
    losses.check_loss(flags.loss, model)
    rate = flags.learning_rate
    if flags.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, flags.epochs * steps_per_epoch)
    return Trainer(
        model,
        batches,
        steps_per_epoch,
        flags,
        optimizer=Adam(rate),
        loss=losses.loss_named(flags.loss, rate_scale),
        monitor=Monitor(
            flags.monitor, lambda metrics: monitored(flags.monitor, metrics), shown=MSE_NAMES
        ),
        shared={
            "learning_rate": flags.learning_rate,
            # Where a cosine ends depends on the epochs.
            "schedule": [flags.schedule, flags.epochs * (flags.schedule != "constant")],
            "loss": flags.loss,
            "monitor": flags.monitor,
            "rate_scale": float(rate_scale),
        },
        weight_average=flags.weight_average,
    )


def monitored(monitor: str, metrics: Mapping[str, float]) -> float:
    """Compute the monitored value, which is lowest at the best epoch.

    >>> monitored("normal", {"normal_mse": 1.0, "cold_start_mse": 4.0, "noisy_mse": 2.0})
    1.0
    >>> round(float(np.exp(monitored("mean_log_mse", {
    ...     "normal_mse": 1.0, "cold_start_mse": 4.0, "noisy_mse": 2.0}))), 6)
    2.0
    """
    if monitor != "mean_log_mse":
        return metrics[f"{monitor}_mse"]
    # An MSE of exactly 0 must not outweigh the two others; `np.maximum` keeps NaN.
    return float(np.mean([np.log(np.maximum(metrics[name], 1e-12)) for name in MSE_NAMES]))
