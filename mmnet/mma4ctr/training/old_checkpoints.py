"""Conversion of old checkpoints of click models, from before both systems shared a trainer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmnet.training.resume import Arrays, Checkpoint, Checkpoints

_BASE_RATE = "run/base_rate"
"""Key that only old checkpoints have: the learning rate after the epochs undone so far."""


def convert(directory: Path, network: Sequence[str], steps_per_epoch: int, metric: str) -> None:
    """Rewrite the newest checkpoint in the trainer's format, if it is an old one.

    Old ones were written at the end of an epoch, and counted epochs as steps. The old file stays
    until newer ones replace it.

    Args:
        directory: directory of the run's checkpoints.
        network: the names of the network's weights, in the order of `get_weights`.
        steps_per_epoch: training steps of one epoch.
        metric: the name that validation AUC has now.
    """
    files = Checkpoints(directory)
    old = files.newest()
    if old is None or _BASE_RATE not in old.arrays:
        return
    settings = {name: value for name, value in old.settings.items() if name != "retries"}
    settings |= {"precision": "float32", "steps_per_epoch": steps_per_epoch}
    logged = {row["epoch"]: row for row in old.progress.history}
    epochs = range(1, old.progress.epoch + 1)
    progress = replace(
        old.progress,
        step=old.progress.epoch * steps_per_epoch,
        history=[_row(epoch, logged.get(epoch), steps_per_epoch, metric) for epoch in epochs],
        undone=[
            {"epoch": row["epoch"], "metrics": {metric: row["auc"]}}
            for row in old.settings["retries"]
        ],
    )

    def named(prefix: str) -> Arrays:
        return {name: old.best[f"{prefix}/{n}"] for n, name in enumerate(network)}

    reached = {name.split("/")[1] for name in old.best if name.startswith("reached/")}
    arrays = {name: array for name, array in old.arrays.items() if name != _BASE_RATE}
    others = {f"epoch-{epoch}": named(f"reached/{epoch}") for epoch in reached}
    files.write(Checkpoint(progress, settings, arrays, named("best"), others))


def _row(
    epoch: int, row: Mapping[str, Any] | None, steps_per_epoch: int, metric: str
) -> dict[str, Any]:
    """An epoch of the history; the old one left out those that the interrupt did not log."""
    found = {"epoch": epoch, "step": epoch * steps_per_epoch}
    if row is None:
        return found | {"unlogged": True, "epoch_seconds": 0.0, "metrics": {}}
    return found | {
        "loss": row["loss"],
        "monitor": row["auc"],
        "learning_rate": row["learning_rate"],
        "epoch_seconds": row["seconds"],
        "metrics": {metric: row["auc"]},
    }
