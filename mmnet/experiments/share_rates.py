"""The system that predicts share rates, as the runner sees it: `mmnet.experiment`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmnet import config
from mmnet.checks import InputError, did_you_mean
from mmnet.config import ExperimentConfig, TrainConfig
from mmnet.data import input_tables
from mmnet.experiments.plan import Cell, Kind, Plan
from mmnet.models import REGISTRY, resolve_options
from mmnet.schema import SCENARIOS
from mmnet.training.records import Record

_SHARED_PLACES = {"source_dir", "image_root", "encoder_cache", *config.ENGINE}


class ShareRates:
    """See `plan.System`."""

    train_flags = TrainConfig
    tasks = "mmnet.tasks"
    example = "Table 1: ha, gru, mmnet"
    runs = "runs/experiments"
    own_flags = frozenset({"seed", "origin", *config.PLACES} - _SHARED_PLACES)
    decides_nothing = frozenset(
        {*config.PLACES, *input_tables.PLACES, "vectors", "checkpoint_seconds"}
    )
    dataset_flags = frozenset({*config.TABLES, *config.TASK}) - decides_nothing
    known_to_dataset = (*config.TABLES, *config.TASK)

    def kind(self, flags: TrainConfig) -> Kind:
        """Checks the model and its options."""
        if flags.model not in REGISTRY:
            raise InputError(
                f"--model must be one of {', '.join(REGISTRY)}. Received: {flags.model}"
                f"{did_you_mean(flags.model, REGISTRY)}"
            )
        resolve_options(flags.model, flags.set)
        return Kind(REGISTRY[flags.model].seeded, rolls=flags.split == "chronological")

    def check(self, planned: Plan, flags: ExperimentConfig) -> None:
        """`plan` has checked all that its tables need."""

    def of_cell(self, flags: TrainConfig, seed: int, origin: int) -> TrainConfig:
        """A row's flags with a cell's own seed and origin.

        An ensemble of K has K seeds in each cell, so that no two cells of a row share a member:
        those of cell s begin at s * K. A row that draws nothing is trained once, as ever.
        """
        size = flags.ensemble if REGISTRY[flags.model].seeded else 1
        own = {"seed": seed * size, "ensemble": size, "origin": origin}
        return flags.model_copy(update=own)

    def shown(self, record: Record) -> str:
        """MSE by scenario: on test, or of the best epoch on validation where there is no test."""
        if record.metrics:
            kind, mse = "test", {name: record.metrics[name]["mse"] for name in SCENARIOS}
        else:
            found = record.fitted["validation"]
            kind, mse = "validation", {name: found[f"{name}_mse"] for name in SCENARIOS}
        return f"{kind} MSE " + "  ".join(f"{name} {value:.4g}" for name, value in mse.items())

    def files(
        self, planned: Plan, records: Mapping[Cell, Record], flags: ExperimentConfig
    ) -> dict[str, Any]:
        """Claims, tables and figures."""
        from mmnet.experiments import share_rate_tables  # matplotlib, once there is what to draw

        return share_rate_tables.files(planned, records, flags)


SYSTEM = ShareRates()
