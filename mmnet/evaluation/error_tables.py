"""Errors of one evaluation by groups of its test rows: age, clicks, categories."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mmnet.evaluation import intervals, plots
from mmnet.evaluation.metrics import error_by
from mmnet.schema import SCENARIOS

SECTIONS = {
    "natural_observed_periods": "observed periods in the window, before a scenario hides any",
    "age_periods": "item age at the target (periods since release)",
    "clicks": "clicks of the target period",
}
"""Columns of predictions that rows are grouped by, and their descriptions."""


def error_table(
    rows: pd.DataFrame, column: str, names: Sequence[str] = (), *, with_ends: bool = False
) -> pd.DataFrame:
    """MSE of each scenario by groups of a column.

    Args:
        rows: predictions in all scenarios, see `report`.
        column: numbers to group by.
        names: of the groups, where the numbers are places in this list.
        with_ends: adds 95 % intervals of the MSE by item.

    Returns:
        `group`, `n`, scenarios, `sampling_noise_mse`, and `kept_<scenario>`, where it is known
        whether a filter keeps a row. With ends also `<scenario>_low` and `<scenario>_high`, see
        `intervals.group_ends`.
    """
    starts = None if names else _starts(rows[column], column)
    tables = {s: error_by(part, column, starts) for s, part in plots.by_scenario(rows).items()}
    joined = tables["normal"][[column, "n", "sampling_noise_mse"]]
    for scenario, found in tables.items():
        own = {"mse": scenario} | ({"kept": f"kept_{scenario}"} if "kept" in rows else {})
        joined = joined.merge(found[[column, *own]].rename(columns=own), on=column, how="left")
        if with_ends:
            ends = _ends(rows[rows["scenario"] == scenario], column, joined[column])
            joined[f"{scenario}_low"], joined[f"{scenario}_high"] = ends
    groups = [names[n] for n in joined[column]] if names else _labels(joined[column], starts)
    joined.insert(0, "group", groups)
    return joined.drop(columns=column)


def _ends(part: pd.DataFrame, column: str, groups: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the MSE of groups in one scenario; groups are values, or starts of bins."""
    part = part[part[column] >= groups.min()]  # leaves empty values out, too
    number = np.searchsorted(groups.to_numpy(), part[column].to_numpy(), side="right") - 1
    squared = (part["predicted_share_rate"] - part["share_rate"]).to_numpy(np.float64) ** 2
    return intervals.group_ends(squared, part["item_id"].to_numpy(), number)


MOST_VALUES = 15
"""Values of a categorical column that the page shows; the others are one group."""


def grouped_errors(
    rows: pd.DataFrame,
    taxonomies: Sequence[str],
    columns: Mapping[str, np.ndarray],
    threshold: float | None = None,
) -> dict[str, pd.DataFrame]:
    """Errors, and what a filter keeps, by age, clicks and every categorical column.

    Args:
        rows: predictions in all scenarios, see `report`.
        taxonomies: taxonomy columns of the rows.
        columns: name of another categorical column -> values, one per row of a scenario.
        threshold: of the filter, percent; None leaves out what it keeps.

    Returns:
        What the rows are grouped by, in words -> see `error_table`. Of a column with many values
        those with most rows have groups of their own; the others are the last group.
    """
    if threshold is not None:
        rows = rows.assign(kept=rows["predicted_share_rate"] >= threshold)
    found = {
        words: error_table(rows, column) for column, words in SECTIONS.items() if column in rows
    }
    values = {name.removeprefix(plots.TAXONOMY): rows[name].to_numpy() for name in taxonomies}
    values |= {name: np.tile(cells, len(SCENARIOS)) for name, cells in columns.items()}
    for name, cells in values.items():
        parts = rows.assign(value=[plots.values_of(cell) for cell in cells]).explode("value")
        parts = parts.dropna(subset="value")
        if not len(parts):
            continue
        often = list(parts["value"].value_counts().index)
        shown, others = often[:MOST_VALUES], f"all others ({len(often) - MOST_VALUES:,} values)"
        place = {value: number for number, value in enumerate(shown)}
        # Groups are numbered, so that the others are last whatever they are called.
        parts["value"] = parts["value"].map(place).fillna(MOST_VALUES).astype(int)
        found[name] = error_table(parts, "value", [*shown, others])
    return found


def _starts(values: pd.Series, column: str) -> list[int] | None:
    """Where bins start: 1, 2, 5, 10, … for clicks, 1, 2, 3, 4, 6, 8, 12, … for ages."""
    if column == "natural_observed_periods":
        return None
    steps, base = ((1, 2, 5), 10) if column == "clicks" else ((2, 3), 2)
    series = sorted({0, 1, *(step * base**power for power in range(40) for step in steps)})
    kept = [start for start, end in itertools.pairwise(series) if end > values.min()]
    # The last bin is open, and wide enough that its mean is more than a few rows' luck.
    rows = [np.count_nonzero(values >= start) for start in kept]
    fewest = 30 * len(SCENARIOS)  # every example is there once per scenario
    return [start for start, n in zip(kept, rows, strict=True) if n >= fewest] or kept[:1]


def _labels(groups: pd.Series, starts: Sequence[int] | None) -> list[str]:
    if starts is None:
        return [f"{group:g}" for group in groups]
    ends = dict(itertools.pairwise(starts))
    return [
        f"{group:,} or more"
        if group not in ends
        else f"{group:,}"
        if ends[group] == group + 1
        else f"{group:,}–{ends[group] - 1:,}"
        for group in groups.astype(int)
    ]
