"""Intervals of one evaluation's metrics, and of differences from simple baselines, by test item.

They hold the choice of test items: rows of one item rise and fall together, so items are the unit,
see `significance`. They do not hold the variance between training seeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from mmnet.evaluation import plots, significance
from mmnet.evaluation.html_page import number_text
from mmnet.evaluation.significance import Clusters, Estimate, Predictions, half_width
from mmnet.schema import SCENARIOS

METRICS = {"mse": "MSE", **{f"precision_at_{n}": f"P@{n}" for n in significance.PERCENTS}}
"""Metrics that have intervals, and their titles."""
CAPTION = (
    "Intervals by test item, since the rows of one item rise and fall together: they hold what "
    "other test items could have shown. The variance between seeds is not in them.\n"
)
"""Caption of the table of intervals."""
REPLICATES = 200
"""Replicates of the bootstrap of items; fewer where there are many rows."""
MOST_DRAWS = 4_000_000
"""Rows times replicates of one scenario, which keeps the bootstrap to some seconds."""
LEVEL = 0.05
"""1 - confidence of all intervals."""
FEWEST = 2
"""Degrees of freedom that the variance of a group needs for an interval."""


def estimate(
    frame: pd.DataFrame, others: Mapping[str, pd.DataFrame], system: str, seed: int = 0
) -> dict[str, Any]:
    """Estimate 95 % intervals of MSE and P@N, by resampling items.

    Rows of one item rise and fall together, so items are the unit: see `significance`. The system
    was trained once, so the intervals do not cover another training seed.

    Args:
        frame: predictions of the system in all scenarios, see `report`.
        others: name -> predictions of the same rows by a simple baseline, in the same order.
        system: its name.
        seed: of the bootstrap of P@N.

    Returns:
        Scenario -> metric (`mse`, `precision_at_5`, `precision_at_10`) -> `low` and `high` of the
        system's value; `others` -> rule -> `low` and `high` of the rule's; and `difference` ->
        rule -> `value`, `low`, `high` and `p` of the system's value minus the rule's, paired by
        row. Empty where the test rows are of fewer than two items.
    """
    found: dict[str, Any] = {}
    if frame["item_id"].nunique() < 2:
        return found
    replicates = int(np.clip(MOST_DRAWS * 3 // max(len(frame), 1), 20, REPLICATES))
    parts = {name: plots.by_scenario(other) for name, other in others.items()}
    for scenario, rows in plots.by_scenario(frame).items():
        predicted = {system: rows} | {name: part[scenario] for name, part in parts.items()}
        predictions = Predictions(
            rows["share_rate"].to_numpy(np.float64),
            rows["item_id"].to_numpy(),
            rows["period"].to_numpy(),
            {
                name: part["predicted_share_rate"].to_numpy(np.float64)[None]
                for name, part in predicted.items()
            },
            frozenset(others),
        )
        measures = significance.measure({scenario: predictions}, replicates=replicates, seed=seed)
        found[scenario] = {
            metric: {
                **_ends(measure.interval(system)),
                "others": {name: _ends(measure.interval(name)) for name in others},
                "difference": {
                    name: _difference(measure.difference(system, name)) for name in others
                },
            }
            for (_, metric), measure in measures.items()
        }
    return found


def with_ends(
    metrics: Mapping[str, Any], intervals: Mapping[str, Any], rule: str | None = None
) -> dict[str, Any]:
    """Metrics of a system, with the ends of their intervals.

    Args:
        metrics: see `report.metrics`.
        intervals: see `estimate`; empty where they are not known.
        rule: name of a simple baseline; None is the system itself.

    Returns:
        The metrics, and in each scenario `mse_low`, `mse_high` and those of `precision_at_5` and
        `precision_at_10` in their units; None where they are not known.
    """
    found = dict(metrics)
    for scenario in SCENARIOS:
        found[scenario] = dict(metrics[scenario])
        for metric in METRICS:
            one = intervals.get(scenario, {}).get(metric, {})
            ends = one if rule is None else one.get("others", {}).get(rule, {})
            found[scenario] |= {f"{metric}_{end}": ends.get(end) for end in ("low", "high")}
    return found


def table_cells(systems: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Intervals of all systems, one row each.

    Args:
        systems: name -> result of `with_ends`.

    Returns:
        The header, and the rows.
    """
    header = ["System", *(f"{plots.TITLES[s]} {METRICS[key]}" for s, key in _columns())]
    rows = []
    for name, found in systems.items():
        row = [name]
        for scenario, key in _columns():
            ends = (found[scenario][f"{key}_{end}"] for end in ("low", "high"))
            low, high = (number_text(end, fixed=key != "mse") for end in ends)
            row.append(f"[{low}, {high}]")
        rows.append(row)
    return header, rows


def _columns() -> list[tuple[str, str]]:
    return [(scenario, metric) for scenario in SCENARIOS for metric in METRICS]


def mse_ends(squared: np.ndarray, clusters: Clusters) -> dict[str, float]:
    """95 % interval of a mean of squared errors.

    Args:
        squared: squared errors, [rows].
        clusters: the rows by item.

    Returns:
        `low`, not below 0, and `high`.

    >>> found = mse_ends(np.array([1.0, 2.0, 3.0]), Clusters(np.array([7, 8, 9])))
    >>> round(found["low"], 3), round(found["high"], 3)  # 2 ± 4.303 / √3, not below 0
    (0.0, 4.484)
    """
    half = half_width([clusters.variance(squared)], [clusters.freedom], LEVEL)
    mean = float(np.mean(squared))
    return {"low": max(0.0, mean - float(half)), "high": mean + float(half)}


def group_ends(
    squared: np.ndarray, item: np.ndarray, group: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """95 % intervals of the mean squared error of groups of rows, see `mse_ends`.

    Args:
        squared: squared errors, [rows].
        item: item of each row, [rows].
        group: number of the group of each row, from 0 on, [rows].

    Returns:
        Lower and upper ends, [groups]; NaN where a group has one item, or so few that have nearly
        all of its rows that an interval would say nothing.
    """
    order = np.argsort(group, kind="stable")
    counts = np.bincount(group)
    # Sorting the ids of a million rows takes seconds; numbering them does not.
    items, values = pd.factorize(np.asarray(item))[0][order], squared[order]
    low, high = np.full((2, len(counts)), np.nan)
    for number, end in enumerate(np.cumsum(counts)):
        rows = slice(end - counts[number], end)
        if (items[rows] == items[rows][:1]).all():
            continue
        clusters = Clusters(items[rows])
        if clusters.freedom >= FEWEST:
            found = mse_ends(values[rows], clusters)
            low[number], high[number] = found["low"], found["high"]
    return low, high


def _ends(found: Estimate) -> dict[str, float]:
    return {"low": found.low, "high": found.high}


def _difference(found: Estimate) -> dict[str, float]:
    return {"value": found.value, **_ends(found), "p": found.p}
