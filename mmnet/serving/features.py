"""Scores as features for a downstream ranker: one row per item and period, without look-ahead.

    item_id, period (the one predicted), predicted_share_rate, share_rate_low, share_rate_high,
    observed_periods, seen_clicks, weight_<modality>..., in_training

A model with several horizons has a row per item and horizon as of every period, so that a period
has one row of each horizon.

A row uses nothing of its own or later periods. `in_training` marks periods that the model was
trained on: the model may have memorised their outcomes, so a ranker should not learn from them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from mmnet.checks import InputError
from mmnet.console import tracked
from mmnet.data.dataset import Dataset
from mmnet.serving import score_rows
from mmnet.serving.blocks import Scorer
from mmnet.serving.decision import Decisions
from mmnet.serving.first_pass import as_of_column
from mmnet.serving.inputs import DatasetInputs
from mmnet.serving.job import Job


def tables(
    job: Job,
    dataset: Dataset,
    decisions: Decisions,
    *,
    first: str = "",
    trained_before: int | None = None,
) -> Iterator[pa.Table]:
    """Yields one table per period, in order.

    An item is included from its release on; without a release column, from the period after it was
    first seen, as it was unknown before.

    Args:
        job: how the items are scored; its `as_of` is the last as-of period.
        dataset: items and counts.
        decisions: decisions of the export, for the intervals.
        first: the first as-of period; empty = the same as the last one.
        trained_before: number of the first period whose outcomes training did not use; None if
            the split is not by time, and every period may have been used.

    Raises:
        InputError: a period is outside the counts, or the first is after the last.
    """
    panel, fitted = dataset.panel, dataset.fitted
    end = as_of_column(panel, job.as_of)
    start = as_of_column(panel, first, "ranking_from") if first else end
    if start > end:
        raise InputError(f"--ranking_from={first} is after --as_of={panel.label(end)}")
    scorer = Scorer(job)
    spec = fitted.spec
    inputs_as_of = functools.partial(
        DatasetInputs, dataset, fitted, allow_short=job.allow_short_history
    )
    for column in tracked(range(start, end + 1), "features"):
        scores = scorer.scores(inputs_as_of(column))
        found = score_rows.add(pa.concat_tables(scores), decisions, spec)
        # Rows of an item are together, one per horizon.
        horizon = np.tile(score_rows.horizons(spec), len(panel.release))
        release = np.repeat(panel.release, scorer.rows_per_item)
        known = release <= column + (horizon if fitted.tables.release else 0)
        target = panel.first_period + column + horizon
        trained = np.ones(len(target), bool) if trained_before is None else target < trained_before
        found = found.append_column("in_training", pa.array(trained))
        yield found.filter(pa.array(known))
