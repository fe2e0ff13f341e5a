"""Intervals of one evaluation's metrics, and of differences from simple baselines, by test item."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from mmnet.evaluation import plots, significance
from mmnet.evaluation.significance import Estimate, Predictions

REPLICATES = 200
"""Replicates of the bootstrap of items; fewer where there are many rows."""
MOST_DRAWS = 4_000_000
"""Rows times replicates of one scenario, which keeps the bootstrap to some seconds."""


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
        system's value, and `difference` -> rule -> `value`, `low`, `high` and `p` of the system's
        value minus the rule's, paired by row. Empty where the test rows are of fewer than two
        items.
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
                "difference": {
                    name: _difference(measure.difference(system, name)) for name in others
                },
            }
            for (_, metric), measure in measures.items()
        }
    return found


def _ends(found: Estimate) -> dict[str, float]:
    return {"low": found.low, "high": found.high}


def _difference(found: Estimate) -> dict[str, float]:
    return {"value": found.value, **_ends(found), "p": found.p}
