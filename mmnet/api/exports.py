"""`Export`: a trained model that scores tables, decides, checks itself and watches for drift."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmnet.api.datasets import Dataset
from mmnet.api.directories import ExportDirectory
from mmnet.api.given import GivenPeriod, GivenTable, flags_of, placed, silent
from mmnet.checks import InputError
from mmnet.config import DriftConfig, PredictConfig
from mmnet.files import read_json, scratch_directory
from mmnet.schema import FeatureSpec
from mmnet.serving import exported

if TYPE_CHECKING:
    import pandas as pd


class Export(ExportDirectory):
    """An exported model: the SavedModel and the files next to it.

    Attributes:
        path: directory of the version.
        spec: the tensors that the model reads.
        outputs: names of the predictions that its signatures return, the main one first.
        modalities: names of the gated fusion's inputs, in the order of its weights; empty for a
            model without one.
        first_targets: first period of validation and of test, where the split is by time.
    """

    VERIFY = PredictConfig

    def __init__(self, path: Path, about: exported.AboutShareRates):
        super().__init__(path)
        self.spec: FeatureSpec = about.fitted.spec
        self.outputs: tuple[str, ...] = tuple(output.name for output in self.spec.outputs())
        self.modalities: tuple[str, ...] = about.modalities
        self.first_targets: dict[str, int | str] = about.first_targets

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Export:
        """Opens an export; the network itself is loaded when it scores.

        Args:
            path: a version, `export/1`, or its parent, whose newest version is taken.

        Raises:
            InputError: the path has no export.
        """
        directory = exported.version_directory(path)
        return cls(directory, exported.about(directory, exported.AboutShareRates))

    @property
    def rules(self) -> dict[str, dict[str, Any]]:
        """The decision rules by how they were written, each with its threshold in percent.

        Raises:
            InputError: the export has none.
        """
        from mmnet.serving import decision

        found = exported.document(self.path, decision.FILE, decision.Decisions)
        return {name: rule.model_dump(mode="json") for name, rule in found.rules.items()}

    def score(
        self,
        counts: GivenTable | None = None,
        items: GivenTable | None = None,
        *,
        events: GivenTable | None = None,
        vectors: Mapping[str, GivenTable] | None = None,
        dataset: Dataset | None = None,
        as_of: GivenPeriod = "",
        rule: str = "",
        explore: bool = False,
        explain: bool = False,
        verbose: bool = False,
        **options: Any,
    ) -> pd.DataFrame:
        """Scores items: the share rate of each in the period after `as_of`.

        Args:
            counts: a table as the model was trained on; or `events`, or `dataset` instead.
            items: the items to score.
            events: see `Dataset.from_events`.
            vectors: name -> table of content vectors.
            dataset: a dataset that was prepared for this model, in place of tables.
            as_of: the last period that is read; default: the last complete one.
            rule: adds a decision: "stored", a rule of `rules`, or "threshold=PERCENT".
            explore: explores some of what is below the threshold and may prove better, and adds the
                column `propensity`.
            explain: adds a column `weight_<modality>` for each modality, and `reason_<input>` for
                each input.
            verbose: prints what every rule left out.
            **options: further flags of `mmnet.predict`, such as `only_items` or `runtime`.

        Returns:
            A row per item, in the order of `items`, as `mmnet.predict` writes it: `item_id`,
            `period`, `predicted_share_rate` (percent), and the columns that were requested. With
            several horizons or rates a row per item and `horizon`, and `predicted_<rate>`.

        Raises:
            InputError: a table or an option is invalid.
        """
        import pandas as pd

        self._one_file(options)
        tables = {"counts": counts, "items": items, "events": events, "vectors": vectors}
        asked = {"as_of": as_of, "rule": rule, "explore": explore, "explain": explain}
        with scratch_directory(options.get("engine_spill", "")) as scratch:
            output = Path(scratch, "scores.parquet")
            if dataset is not None:
                tables["dataset_dir"] = str(dataset.save(Path(scratch, "dataset")))
            own = {"saved_model": str(self.path), "output": str(output)}
            given = {**own, **tables, **asked, **options}
            with flags_of(PredictConfig, given) as flags, silent(verbose):
                self._predict()(flags)
            return pd.read_parquet(output)

    def drift(
        self,
        counts: GivenTable | None = None,
        items: GivenTable | None = None,
        *,
        events: GivenTable | None = None,
        vectors: Mapping[str, GivenTable] | None = None,
        checked: GivenPeriod = "",
        verbose: bool = False,
        **options: Any,
    ) -> dict[str, Any]:
        """Compare a period with the data that the model was trained on.

        Args:
            counts: see `score`.
            items: likewise.
            events: likewise.
            vectors: likewise.
            checked: the period; default: the last complete one.
            verbose: prints what every rule left out.
            **options: further flags of `mmnet.drift`, such as `psi=0.1`.

        Returns:
            The content of drift.json: `period`, `rows`, `judged`, `drifted` and `findings`, of
            which each has its measure, value and limit.

        Raises:
            InputError: a table or an option is invalid.
        """
        from mmnet.tasks.scoring import drift

        tables = {"counts": counts, "items": items, "events": events, "vectors": vectors}
        with scratch_directory(options.get("engine_spill", "")) as scratch:
            own = {"saved_model": str(self.path), "output": scratch, "checked": checked}
            with flags_of(DriftConfig, {**own, **tables, **options}) as flags, silent(verbose):
                drift(flags)
            return read_json(Path(scratch, "drift.json"))

    def compare(
        self,
        champion: Export,
        counts: GivenTable | None = None,
        items: GivenTable | None = None,
        *,
        periods: int,
        events: GivenTable | None = None,
        vectors: Mapping[str, GivenTable] | None = None,
        decisions: GivenTable | None = None,
        clip: float = math.inf,
        verbose: bool = False,
        **options: Any,
    ) -> dict[str, Any]:
        """Compares the export with another one on the last periods of newer tables.

        Both are scored on the same rows with the same hidden steps, each with its own vocabularies.
        Neither may have learned from these periods.

        Args:
            champion: the other export.
            counts: see `score`.
            items: likewise, with fields as they were known when each item was released.
            periods: number of periods, the last ones.
            events: see `score`.
            vectors: likewise.
            decisions: logged decisions, `item_id`, `period`, `decision` and `propensity`; rows are
                then weighted by 1 / propensity, and weights above `clip` are clipped.
            clip: the largest weight.
            verbose: prints what every rule left out.
            **options: further flags of `mmnet.predict` about the tables.

        Returns:
            `rows`, `items`, `periods`, `weighting`, and for each scenario the MSE of both, in
            percent², their `difference` and `ratio` with 95 % intervals clustered by item, and the
            one-sided p-value of "not better".

        Raises:
            InputError: a table or an option is invalid, or a model has learned from these periods.
        """
        from mmnet.tasks.comparing import compare

        tables = {"counts": counts, "items": items, "events": events, "vectors": vectors}
        own = {"saved_model": str(self.path)}
        with (
            scratch_directory(options.get("engine_spill", "")) as scratch,
            flags_of(PredictConfig, {**own, **tables, **options}) as flags,
            silent(verbose),
        ):
            logged = "" if decisions is None else placed(decisions, "decisions", Path(scratch))
            return compare(
                flags, champion.path, periods=periods, decisions=logged, clip=clip
            ).to_json()

    def evaluate(
        self,
        counts: GivenTable | None = None,
        items: GivenTable | None = None,
        *,
        periods: int,
        events: GivenTable | None = None,
        vectors: Mapping[str, GivenTable] | None = None,
        verbose: bool = False,
        **options: Any,
    ) -> dict[str, Any]:
        """Measures the export's errors on the last periods of newer tables.

        Args:
            counts: see `score`.
            items: likewise.
            periods: number of periods, the last ones, which the model must not have learned from.
            events: see `score`.
            vectors: likewise.
            verbose: prints what every rule left out.
            **options: further flags of `mmnet.predict` about the tables.

        Returns:
            The content of a run's metrics.json: `normal`, `cold_start` and `noisy`, each with
            `mse`, `mae`, `precision_at_5`, `precision_at_10`, `spearman` and `n`.

        Raises:
            InputError: as `compare`.
        """
        from mmnet.tasks.comparing import evaluate

        tables = {"counts": counts, "items": items, "events": events, "vectors": vectors}
        own = {"saved_model": str(self.path)}
        with flags_of(PredictConfig, {**own, **tables, **options}) as flags, silent(verbose):
            return evaluate(flags, periods=periods)

    @staticmethod
    def _one_file(options: Mapping[str, Any]) -> None:
        for name in ("output", "verify", "ranking_features", "ranking_from", "saved_model"):
            if name in options:
                raise InputError(
                    f"score returns its rows; {name!r} is an option of python -m mmnet.predict only"
                )

    @staticmethod
    def _predict() -> Callable[[Any], None]:
        from mmnet.tasks.scoring import predict

        return predict
