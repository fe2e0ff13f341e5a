"""`Run`: a training run and the files in its directory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmnet.api.datasets import Dataset
from mmnet.api.directories import RunDirectory
from mmnet.api.exports import Export
from mmnet.api.given import GivenTable, flags_of, in_memory, silent
from mmnet.checks import InputError
from mmnet.config import TASK, EvaluateConfig, TrainConfig
from mmnet.data import dataset as datasets
from mmnet.schema import SCENARIOS
from mmnet.table_flags import TableFlags
from mmnet.training.run_directory import SHARE_RATES, removed_if_unused

if TYPE_CHECKING:
    import keras
    import pandas as pd


class Run(RunDirectory[TrainConfig]):
    """A run directory: a trained model, its evaluation, and its export.

    Args:
        directory: the run directory.

    Attributes:
        directory: the run directory.
        flags: every flag that it was trained with.

    Raises:
        InputError: the directory holds no run.
    """

    KIND = SHARE_RATES

    @classmethod
    def train(
        cls,
        run_dir: str | os.PathLike[str],
        dataset: Dataset | None = None,
        *,
        counts: GivenTable | None = None,
        items: GivenTable | None = None,
        events: GivenTable | None = None,
        vectors: Mapping[str, GivenTable] | None = None,
        verbose: bool = True,
        **options: Any,
    ) -> Run:
        """Trains, evaluates and exports a model, as `python -m mmnet.train` does.

        Args:
            run_dir: a new directory; or with `resume=True` that of a run to resume.
            dataset: dataset to train on; or tables instead.
            counts: see `Dataset.from_tables`.
            items: likewise.
            events: see `Dataset.from_events`.
            vectors: see `Dataset.from_tables`.
            verbose: prints what `mmnet.train` prints. Progress is shown on stderr in any case.
            **options: flags of `mmnet.train`: `model="gru"`, `epochs=5`, `set={"units": 32}`.

        Raises:
            InputError: a table or an option is invalid.
            KeyboardInterrupt: on Ctrl-C, after a checkpoint; `resume=True` continues exactly.
        """
        from mmnet.tasks.starting import train

        tables = {"counts": counts, "items": items, "events": events, "vectors": vectors}
        given = {name: table for name, table in tables.items() if table is not None}
        if dataset is not None and given:
            raise InputError(f"the dataset already has its tables; remove {min(given)}")
        options = {**options, "run_dir": str(run_dir)}
        inside, was_there = Path(run_dir, "dataset"), Path(run_dir).is_dir()
        if dataset is None and in_memory(given):
            # Tables in memory are gone when a run is resumed; what is made of them is kept.
            names = {*TableFlags.model_fields, *TASK}
            resolved = TrainConfig.beneath({"recipe": options.get("recipe", "")}) | options
            of_tables = {name: one for name, one in resolved.items() if name in names}
            options = {name: one for name, one in options.items() if name not in names}
            if not options.get("resume"):
                _check_free(Path(run_dir))
                with removed_if_unused(Path(run_dir), was_there=was_there):
                    Dataset._made(inside, verbose, given | of_tables)
            options["dataset_dir"], given = str(inside), {}
        elif dataset is not None:
            _check_free(Path(run_dir))
            options["dataset_dir"] = str(dataset.save(inside))
        with flags_of(TrainConfig, given | options) as flags, silent(verbose):
            train(flags)
        return cls(run_dir)

    @property
    def systems(self) -> pd.DataFrame:
        """The model compared with simple rules: a row per system and scenario.

        Columns are `system`, `scenario`, and the metrics as in `metrics`: `mse` and `mae` (of rates
        in percent), `precision_at_5`, `precision_at_10`, `spearman` and `n`.

        Raises:
            InputError: the run has not been evaluated.
        """
        import pandas as pd

        # `outputs="predictions"` leaves out the simple rules.
        if Path(self.directory, "evaluation/systems.json").exists():
            systems = self._json("evaluation/systems.json")
        else:
            systems = {self.flags.model: self.metrics}
        rows = [
            {"system": system, "scenario": one} | found[one]
            for system, found in systems.items()
            for one in SCENARIOS
        ]
        metrics = ["mse", "mae", "precision_at_5", "precision_at_10", "spearman", "n"]
        return pd.DataFrame(rows)[["system", "scenario", *metrics]]

    @property
    def export(self) -> Export:
        """The exported model.

        Raises:
            InputError: the run has none.
        """
        return Export.load(self.directory / "export")

    @property
    def dataset(self) -> Dataset:
        """Dataset that the run was trained on.

        Raises:
            InputError: the dataset does not exist any more.
        """
        return Dataset.load(self._dataset_place)

    def evaluate(self, *, verbose: bool = False, **options: Any) -> dict[str, Any]:
        """Evaluates the trained model once more, such as with `test_missing_rate=0.8`.

        Args:
            verbose: prints the table.
            **options: flags of `mmnet.evaluate`.

        Returns:
            The metrics. Those of other scenarios than the run's are written into a directory of
            their own, and `metrics` is unchanged.

        Raises:
            InputError: an option does not fit, or the weights are missing.
        """
        from mmnet.tasks.starting import evaluate, evaluation_name

        given = {"run_dir": str(self.directory)} | options
        with flags_of(EvaluateConfig, given) as flags, silent(verbose):
            evaluate(flags)
            name = evaluation_name(flags, self.flags)
        return self._json(f"{name}/metrics.json")

    def model(self) -> keras.Model:
        """The trained network, with the weights of its best epoch.

        Raises:
            InputError: the model is not a network, or its weights are missing.
        """
        from mmnet.startup import load_tensorflow

        load_tensorflow()
        from mmnet.tasks.building import model_options
        from mmnet.tasks.evaluating import restored

        builder, _ = model_options(self.flags)
        if builder.kind != "network":
            raise InputError(f"--model={self.flags.model} is not a network")
        dataset = datasets.load(self._dataset_place)
        return restored(dataset, self.flags, self.directory)


def _check_free(run_dir: Path) -> None:
    """Refuses a directory that holds a run already, before a dataset is written into it."""
    SHARE_RATES.open(TrainConfig(run_dir=str(run_dir)))
