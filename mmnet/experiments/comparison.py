"""Comparison of all cells' predictions, in groups of rows that can be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from mmnet.checks import InputError
from mmnet.config import ExperimentConfig, TrainConfig
from mmnet.evaluation import comparisons, other_outputs, significance
from mmnet.evaluation.significance import Measure, Predictions
from mmnet.experiments.plan import Cell, ExperimentFlags, Plan, TablePlan

COLUMNS = [
    *("scenario", "item_id", "period", "clicks", "share_rate", "predicted_share_rate"),
    *("age_periods", "true_share_rate"),
]
"""Columns that are read from a cell's predictions, where they exist."""
DECIDES = ("test_missing_rate", "scenario_seed", "numerator", "denominator")
"""Flags that change the test of the same windows."""


@dataclass(frozen=True)
class Group:
    """Rows of the plan that were tested on the same windows, and can be compared.

    Attributes:
        about: how the windows were chosen, for a heading.
        measures: values with the sampling error of test rows and of seeds.
        scenarios: aligned predictions, of share rates.
        windows: one row of attributes per test window, for share rates.
    """

    about: str
    measures: Mapping[tuple[str, str], Measure]
    scenarios: Mapping[str, Predictions] = field(default_factory=dict)
    windows: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def rows(self) -> tuple[str, ...]:
        """Names of its rows."""
        return tuple(next(iter(self.measures.values())).seeds)

    def of(self, rows: Sequence[str]) -> dict[tuple[str, str], Measure]:
        """The measures of some of its rows."""
        return {
            key: one.of([name for name in rows if name in one.seeds])
            for key, one in self.measures.items()
        }


@dataclass(frozen=True)
class Compared:
    """The part of a table that is about one group.

    Attributes:
        group: the test windows.
        reference: name of the system that the others are compared with.
        frame: result of `comparisons.compare`.
    """

    group: Group
    reference: str
    frame: pd.DataFrame

    def is_best(self, row: str, scenario: str, metric: str) -> bool:
        """Return whether a row cannot be told apart from the one with the best value."""
        of_column = (self.frame["scenario"] == scenario) & (self.frame["metric"] == metric)
        best = self.frame[of_column].iloc[0]["letters"]  # the best comes first
        return bool(set(best) & set(self.cell(row, scenario, metric)["letters"]))

    def cell(self, row: str, scenario: str, metric: str) -> pd.Series:
        """The line of `frame` of one row, scenario and metric."""
        frame = self.frame
        chosen = (frame["system"] == row) & (frame["scenario"] == scenario)
        return frame[chosen & (frame["metric"] == metric)].iloc[0]


def compare(table: TablePlan, groups: Sequence[Group], flags: ExperimentFlags) -> list[Compared]:
    """Compare the rows of a table, group by group."""
    found = []
    for group in groups:
        rows = [name for name in table.rows if name in group.rows]
        if rows:
            reference = next((name for name in flags.reference if name in rows), rows[-1])
            frame = comparisons.compare(group.of(rows), reference)
            found.append(Compared(group, reference, frame))
    return found


def groups(planned: Plan, cells: Sequence[Cell], flags: ExperimentConfig) -> list[Group]:
    """Group the rows of the plan by the windows that they were tested on."""
    frames: dict[str, dict[int, pd.DataFrame]] = {}
    members: dict[str, list[str]] = {}
    for name in planned.rows:
        frames[name] = {
            seed: pd.concat(
                [
                    _read(cell.directory / "evaluation" / "predictions.parquet")
                    for cell in cells
                    if (cell.row, cell.seed) == (name, seed)
                ],
                ignore_index=True,
            )
            for seed in planned.seeds_of(name)
        }
        first = frames[name][planned.seeds[0]]
        windows = pd.util.hash_pandas_object(first[["scenario", "item_id", "period"]], index=False)
        flags_of = planned.rows[name].flags
        decides = {one: getattr(flags_of, one) for one in DECIDES}
        members.setdefault(f"{windows.sum():x} {decides}", []).append(name)
    found = []
    for names in members.values():
        by_period = planned.origins_of(names[0]) > 1
        pairs = [(name, frame) for name in names for frame in frames[name].values()]
        deterministic = [name for name in names if not planned.rows[name].kind.seeded]
        try:
            scenarios = significance.align(pairs, deterministic)
        except ValueError as error:
            raise InputError(f"rows {', '.join(names)} cannot be compared: {error}") from None
        measures = significance.measure(scenarios, replicates=flags.replicates, by_period=by_period)
        task = planned.rows[names[0]].flags
        about = f"split {task.split}" + (f", {planned.origins} origins" if by_period else "")
        about += "".join(
            f", {name} {getattr(task, name)}"
            for name in (*DECIDES, "min_target_clicks", "horizon")
            if getattr(task, name) != TrainConfig.model_fields[name].default
        )
        windows = frames[names[0]][planned.seeds[0]]
        windows = windows[windows["scenario"] == "normal"].reset_index(drop=True)
        found.append(Group(about, measures, scenarios, windows))
    return found


def _read(path: Path) -> pd.DataFrame:
    known = other_outputs.main_rows(pd.read_parquet(path))
    return known[[column for column in COLUMNS if column in known]]
