"""The system that predicts clicks, as the runner of experiments sees it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmnet.checks import InputError, did_you_mean
from mmnet.experiments.plan import Cell, Kind, Plan
from mmnet.mma4ctr import config
from mmnet.mma4ctr.config import ExperimentConfig, TrainConfig
from mmnet.mma4ctr.data import interactions
from mmnet.training.records import Record


class Clicks:
    """See `plan.System`."""

    train_flags = TrainConfig
    tasks = "mmnet.mma4ctr.tasks"
    example = "Protocols: p0, c1, c2"
    runs = "runs/mma4ctr"
    own_flags = frozenset({"seed", "run_dir", "resume"})
    decides_nothing = frozenset(config.PLACES) - {"item_scores"}
    dataset_flags = frozenset(config.INTERACTIONS) - decides_nothing | {"source_dir"}
    # The scores of --item_scores are read by every cell.
    known_to_dataset = tuple(name for name in config.INTERACTIONS if name != "text_set")

    def kind(self, flags: TrainConfig) -> Kind:
        """Checks that flags go together."""
        config.check(flags)
        if flags.source_dir or flags.generate:
            interactions.label_of(flags)
        return Kind()

    def check(self, planned: Plan, flags: ExperimentConfig) -> None:
        """Check that every published value belongs to a row."""
        for name in config.published(flags):
            if name not in planned.rows:
                near = did_you_mean(name, planned.rows)
                raise InputError(f"--published={name!r} is not a row{near}")

    def of_cell(self, flags: TrainConfig, seed: int, origin: int) -> TrainConfig:
        """A row's flags with a cell's seed; a generated log is another one for each seed."""
        generate = flags.generate
        if generate and not any(one.startswith("seed=") for one in generate):
            generate = (*generate, f"seed={seed}")
        return flags.model_copy(update={"seed": seed, "generate": generate})

    def shown(self, record: Record) -> str:
        """AUC on the test rows."""
        return f"test AUC {record.metrics['test']['auc']:.4f}"

    def files(
        self, planned: Plan, records: Mapping[Cell, Record], flags: ExperimentConfig
    ) -> dict[str, Any]:
        """Tables and the curve."""
        from mmnet.mma4ctr.experiments import tables  # matplotlib, once there is what to draw

        return tables.files(planned, records, flags)


SYSTEM = Clicks()
