"""Trainer of share rate models, with the optimizer, loss and monitor that the flags name."""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np

from mmnet.config import TrainingFlags
from mmnet.evaluation.output_sets import metric_of
from mmnet.evaluation.scenarios import SCENARIOS
from mmnet.schema import FeatureSpec
from mmnet.training import losses, mirrored
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
    spec: FeatureSpec | None = None,
) -> Trainer:
    """A trainer whose `validate` returns the metrics `MSE_NAMES`, and any others.

    Args:
        model: see `Trainer`.
        batches: see `Trainer`; their targets are [batch], percent; of several outputs
            [batch, outputs].
        steps_per_epoch: see `Trainer`; a cosine schedule counts epochs by it.
        flags: how the model is fitted.
        rate_scale: the MSE is in percent² over its square.
        spec: of a model with several outputs; None: it has one.

    Raises:
        InputError: the loss does not fit the model's link.
    """
    losses.check_loss(flags.loss, model)
    units = mse_units(spec) if spec else {}
    rate = flags.learning_rate
    if flags.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, flags.epochs * steps_per_epoch)
    with mirrored.scope_of(model):
        optimizer = Adam(rate)
    return Trainer(
        model,
        batches,
        steps_per_epoch,
        flags,
        optimizer=optimizer,
        loss=losses.loss_named(flags.loss, rate_scale, spec),
        monitor=Monitor(
            flags.monitor,
            lambda metrics: monitored(flags.monitor, metrics, units),
            shown=MSE_NAMES,
        ),
        shared={
            "learning_rate": flags.learning_rate,
            # Where a cosine ends depends on the epochs.
            "schedule": [flags.schedule, flags.epochs * (flags.schedule != "constant")],
            "loss": flags.loss,
            "monitor": flags.monitor,
            "rate_scale": float(rate_scale),
            **({"outputs": units} if units else {}),
        },
        weight_average=flags.weight_average,
    )


def mse_units(spec: FeatureSpec) -> dict[str, float]:
    """Compute the factor that brings an MSE of each output to the scale of the main rate.

    >>> from mmnet.schema import RateSpec
    >>> like = RateSpec(name="like", rate_scale=0.5, rate_mean=1, max_rate=100)
    >>> mse_units(FeatureSpec(window=6, horizon=1, rate_scale=2, rates=(like,)))
    {'predicted_share_rate': 1.0, 'predicted_like': 16.0}

    Returns:
        Name of the output -> factor; nothing for a single output.
    """
    outputs = spec.outputs()
    if len(outputs) == 1:
        return {}
    scales = {output.name: spec.of_rate(output.rate).rate_scale for output in outputs}
    return {name: (spec.rate_scale / scale) ** 2 for name, scale in scales.items()}


def monitored(
    monitor: str, metrics: Mapping[str, float], units: Mapping[str, float] | None = None
) -> float:
    """Compute the monitored value, which is lowest at the best epoch.

    With several outputs it is the mean of their values, each MSE on the scale of the main rate.

    Args:
        monitor: a flag.
        metrics: of the validation; those of further outputs by `metric_of`.
        units: see `mse_units`.

    >>> monitored("normal", {"normal_mse": 1.0, "cold_start_mse": 4.0, "noisy_mse": 2.0})
    1.0
    >>> round(float(np.exp(monitored("mean_log_mse", {
    ...     "normal_mse": 1.0, "cold_start_mse": 4.0, "noisy_mse": 2.0}))), 6)
    2.0
    """
    if units:
        values = []
        for output, unit in units.items():
            own = {name: unit * metrics[metric_of(output, name)] for name in MSE_NAMES}
            values.append(monitored(monitor, own))
        return float(np.mean(values))
    if monitor != "mean_log_mse":
        return metrics[f"{monitor}_mse"]
    # An MSE of exactly 0 must not outweigh the two others; `np.maximum` keeps NaN.
    return float(np.mean([np.log(np.maximum(metrics[name], 1e-12)) for name in MSE_NAMES]))
