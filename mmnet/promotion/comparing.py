"""Champion and challenger on the same rows: periods that neither has learned from.

    judge(export, tables)  ->  one `Judged` per export: its own reading of the same tables
    compare(champion, challenger)  ->  `Comparison`: predictions of both, row by row

Each model reads the tables with its own vocabularies, scales and window. Rows, disturbances and
true rates are the same for both. A model is judged only on periods after those that trained,
stopped, calibrated or chose it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf

from mmnet.checks import InputError
from mmnet.config import ENGINE, TableFlags
from mmnet.data import input_tables, pipeline
from mmnet.data.dataset import Dataset
from mmnet.data.splits import Examples
from mmnet.data.tables import InMemory
from mmnet.data.windows import Windows
from mmnet.evaluation.predicting import ScenarioSet
from mmnet.evaluation.scenarios import SCENARIOS, hidden_steps
from mmnet.files import UNREADABLE, read_json, write_atomic
from mmnet.promotion import propensities
from mmnet.promotion.paired import Paired
from mmnet.promotion.propensities import Weighting
from mmnet.serving import bundle, exported, profile
from mmnet.serving.exported import AboutShareRates

FILE, ROWS = "comparison.json", "comparison.parquet"


class NotComparableError(InputError):
    """Two models that cannot be compared fairly on these data; the champion stays."""


@dataclass
class Judged:
    """An export with its own reading of a night's tables.

    Attributes:
        path: directory of the version.
        about: the export's description.
        dataset: the tables as this model reads them, as a view of its main output; its `split` is
            not used.
    """

    path: Path
    about: AboutShareRates
    dataset: Dataset
    _loaded: Any = field(repr=False)  # owns the variables of its signatures

    @property
    def learned_until(self) -> int:
        """Absolute index of the first period that the model has not learned from.

        Raises:
            NotComparableError: its split is not by time, so no period is free of its training.
        """
        label = self.about.first_targets.get("test")
        if label is None:
            raise NotComparableError(
                f"{self.path}: its split is not by time, so it has learned from every period; "
                "train it with --split=chronological"
            )
        return self.about.fitted.calendar.number(str(label), "first_targets")

    @cached_property
    def windows(self) -> Windows:
        """Windows of the dataset."""
        return Windows(self.dataset)

    def predict(self, inputs: Mapping[str, tf.Tensor]) -> np.ndarray:
        """Scores a batch with the SavedModel; percent, float32 [batch]."""
        return self._loaded.signatures["serving_default"](**inputs)[exported.OUTPUT].numpy()


def judge(path: str | os.PathLike[str], found: InMemory, tables: TableFlags) -> Judged:
    """Opens an export, and reads tables as the export's own model does.

    Args:
        path: a version, or its parent for the newest one.
        found: the tables, with items' fields as they were first seen.
        tables: flags of where they are and how they were opened; columns are the model's own.

    Raises:
        InputError: there is no export or it is damaged, or the tables lack a column it reads.
    """
    directory = exported.check_unchanged(path)
    about = exported.about(directory, AboutShareRates)
    names = (*input_tables.PLACES, *ENGINE, "vectors", "use_partial")
    own = about.fitted.tables.model_copy(update={name: getattr(tables, name) for name in names})
    dataset = pipeline.transform(found, about.fitted.model_copy(update={"tables": own}))
    dataset = dataset.of_output(about.fitted.spec.outputs()[0])
    loaded, _ = bundle.load(directory, AboutShareRates)
    return Judged(directory, about, dataset, loaded)


@dataclass(frozen=True)
class Comparison:
    """Predictions of two models for the same rows.

    Attributes:
        champion: path of the model that serves.
        challenger: path of the other one.
        periods: the compared periods, as users write them.
        rows: one row per item and period: `item_id`, `period`, `share_rate` (percent), `weight`,
            and `champion_<scenario>` and `challenger_<scenario>`, predictions in percent.
        weighting: how rows were weighted; None where no decisions were logged.
    """

    champion: str
    challenger: str
    periods: tuple[int | str, ...]
    rows: pd.DataFrame
    weighting: Weighting | None = None

    def paired(self, scenario: str, *, weighted: bool | None = None) -> Paired:
        """Returns the squared errors of both models in one scenario.

        Args:
            scenario: one of `SCENARIOS`.
            weighted: whether rows have their weights; default: where decisions were logged.
        """
        truth = self.rows["share_rate"].to_numpy(np.float64)

        def errors(model: str) -> np.ndarray:
            return (self.rows[f"{model}_{scenario}"].to_numpy(np.float64) - truth) ** 2

        use = self.weighting is not None if weighted is None else weighted
        return Paired(
            errors("champion"),
            errors("challenger"),
            self.rows["item_id"].to_numpy(),
            self.rows["weight"].to_numpy(np.float64) if use else None,
        )

    def to_json(self) -> dict[str, Any]:
        """Returns the comparison as JSON values: per scenario both MSEs, difference and ratio."""
        return {
            "champion": self.champion,
            "challenger": self.challenger,
            "periods": list(self.periods),
            "rows": len(self.rows),
            "items": int(self.rows["item_id"].nunique()),
            "weighting": None if self.weighting is None else self.weighting.to_json(),
            "scenarios": {
                scenario: {
                    "unweighted": _told(self.paired(scenario, weighted=False)),
                    **({"weighted": _told(self.paired(scenario))} if self.weighting else {}),
                }
                for scenario in SCENARIOS
            },
        }

    def write(self, directory: str | os.PathLike[str]) -> None:
        """Writes `comparison.parquet`, the rows, and then `comparison.json`, for people and `read`.

        Args:
            directory: created if needed.
        """
        place = Path(directory)
        write_atomic(place / ROWS, lambda path: self.rows.to_parquet(path, index=False))
        text = json.dumps(self.to_json(), indent=1, ensure_ascii=False)
        write_atomic(place / FILE, text + "\n")

    @classmethod
    def read(cls, directory: str | os.PathLike[str]) -> Comparison:
        """Reads what `write` wrote.

        Raises:
            InputError: it is missing or damaged.
        """
        place = Path(directory)
        try:
            found = read_json(place / FILE)
            weighting = found["weighting"]
            return cls(
                champion=found["champion"],
                challenger=found["challenger"],
                periods=tuple(found["periods"]),
                rows=pd.read_parquet(place / ROWS),
                weighting=None if weighting is None else Weighting(**weighting),
            )
        except UNREADABLE:
            raise InputError(
                f"{place / FILE} is missing or damaged; delete {place} to compare the models again"
            ) from None


def _told(paired: Paired) -> dict[str, Any]:
    champion, challenger = paired.mse
    return {
        "champion_mse": champion,
        "challenger_mse": challenger,
        "difference": paired.difference().to_json(),
        "ratio": paired.ratio().to_json(),
        "p_not_better": paired.p_not_below(1.0),
    }


def compare(
    champion: Judged,
    challenger: Judged,
    *,
    periods: int,
    missing_rate: float,
    scenario_seed: int,
    decisions: pd.DataFrame | None = None,
    clip: float = np.inf,
) -> Comparison:
    """Compares two models on the last periods of the tables.

    Args:
        champion: the model that serves.
        challenger: the other one.
        periods: number of periods, the last ones.
        missing_rate: probability of hiding a step in the noisy scenario.
        scenario_seed: seed of the hidden steps.
        decisions: result of `propensities.read`; None for equal weights.
        clip: largest weight of a row.

    Raises:
        NotComparableError: a model has learned from one of the periods, the two predict different
            rates, horizons or calendars, or no row is left.
    """
    pair = (champion, challenger)
    _check_alike(champion, challenger)
    rows = compared_rows(pair, periods)
    scenarios = scenario_sets(pair, rows, missing_rate=missing_rate, scenario_seed=scenario_seed)
    frame = scenarios[1].keys()
    frame["share_rate"] = scenarios[1].truth.astype(np.float64)
    for name, judged, shown in zip(("champion", "challenger"), pair, scenarios, strict=True):
        for scenario, predicted in shown.predictions(judged.predict).items():
            frame[f"{name}_{scenario}"] = predicted.astype(np.float64)
    weight, weighting = np.ones(len(frame)), None
    panel = challenger.dataset.panel
    if decisions is not None:
        absolute = panel.first_period + scenarios[1].target_column
        weight, weighting = propensities.weigh(
            frame["item_id"].to_numpy(), absolute, decisions, clip
        )
    frame.insert(3, "weight", weight)
    columns = range(panel.num_periods - periods, panel.num_periods)
    return Comparison(
        champion=str(champion.path),
        challenger=str(challenger.path),
        periods=tuple(panel.label(column) for column in columns),
        rows=frame,
        weighting=weighting,
    )


def compared_rows(judged: Sequence[Judged], periods: int) -> Examples:
    """Returns the rows that models are compared on, as columns of the last model's panel.

    A row is an item with enough clicks in one of the last periods, whose window ends in the last
    period before them or later.

    Raises:
        NotComparableError: a model has learned from one of the periods, or no row is left.
    """
    last = judged[-1].dataset
    first = last.panel.num_periods - periods
    horizon = last.fitted.spec.horizon
    if first < horizon:
        raise NotComparableError(
            f"the counts have {last.panel.num_periods} periods, which leaves none before the "
            f"{periods} that models are compared on; wait for more, or lower --compare_periods"
        )
    for one in judged:
        if one.learned_until > last.panel.first_period + first:
            raise NotComparableError(
                f"{one.path} has learned from the periods before "
                f"{last.panel.label(one.learned_until - last.panel.first_period)}, and models are "
                f"compared from {last.panel.label(first)} on; a model cannot be judged on periods "
                "that it has learned from, so wait for newer data, or train it on older data"
            )
    # Later targets of an earlier t would be older than the weights, as in the test split.
    columns = range(first + horizon - 1, last.panel.num_periods)
    least = last.fitted.task.min_target_clicks
    parts = [profile.of_period(last, column, least) for column in columns]
    found = Examples(
        np.concatenate([part.items for part in parts]),
        np.concatenate([part.times for part in parts]),
    )
    if not len(found):
        raise NotComparableError(
            f"no item has {least} clicks or more in the last {periods} periods, so there is "
            "nothing to compare models on; lower --min_target_clicks or raise --compare_periods"
        )
    return found


def scenario_sets(
    judged: Sequence[Judged], rows: Examples, *, missing_rate: float, scenario_seed: int
) -> list[ScenarioSet]:
    """Returns the same rows with the same hidden steps for every model.

    Models may have windows of different lengths: what is hidden is drawn for the longest one, and
    counts back from the target.

    Args:
        judged: the models.
        rows: rows of the last one's panel.
        missing_rate: see `compare`.
        scenario_seed: see `compare`.
    """
    start = judged[-1].dataset.panel.first_period
    longest = max(one.dataset.fitted.spec.window for one in judged)
    found, hidden = [], None
    for one in reversed(judged):
        shift = start - one.dataset.panel.first_period
        examples = Examples(rows.items, (rows.times + shift).astype(np.int32))
        shown = ScenarioSet(
            one.dataset,
            one.windows,
            examples,
            missing_rate=missing_rate,
            scenario_seed=scenario_seed,
        )
        if hidden is None:
            period = one.dataset.panel.first_period + shown.target_column
            hidden = {
                scenario: hidden_steps(
                    scenario,
                    shown.hashes,
                    period,
                    window=longest,
                    missing_rate=missing_rate,
                    seed=scenario_seed,
                )
                for scenario in SCENARIOS
            }
        window = one.dataset.fitted.spec.window
        shown.hidden = {scenario: steps[:, -window:] for scenario, steps in hidden.items()}
        found.append(shown)
    return found[::-1]


def _check_alike(champion: Judged, challenger: Judged) -> None:
    """Refuses two models that predict different quantities."""
    one, other = champion.about.fitted, challenger.about.fitted
    for what, before, now in (
        ("numerators", one.tables.numerator, other.tables.numerator),
        ("denominators", one.tables.denominator, other.tables.denominator),
        ("horizons", one.spec.horizon, other.spec.horizon),
        ("calendars", one.calendar.describe(), other.calendar.describe()),
    ):
        if before != now:
            raise NotComparableError(
                f"champion and challenger have different {what}, {before} and {now}, so their "
                "errors cannot be compared; train the challenger with the champion's, or begin a "
                "new directory of --models"
            )
    served = {output.name for output in one.spec.outputs()}
    if lost := sorted(served - {output.name for output in other.spec.outputs()}):
        raise NotComparableError(
            f"the challenger does not return {lost[0]}, which the champion serves; train it with "
            "the champion's --horizon and --also_predict, or begin a new directory of --models"
        )
