"""Scores as features for a downstream ranker: one row per item and period, as they were known then.

    item_id, period (the one predicted), predicted_share_rate, share_rate_low, share_rate_high,
    observed_periods, seen_clicks, weight_<modality>..., in_training

A row reads nothing of its period nor later. `in_training` marks periods that the model was trained
on: their scores know their own outcomes by heart, and a ranker should not learn from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import tensorflow as tf
from rich.progress import track

from mmnet.checks import InputError
from mmnet.data.dataset import Dataset
from mmnet.data.windows import Windows
from mmnet.files import write_atomic
from mmnet.serving import decision, scoring
from mmnet.serving.decision import Decisions

Signature = Callable[..., Mapping[str, tf.Tensor]]


def tables(
    predict: Signature,
    dataset: Dataset,
    decisions: Decisions,
    *,
    first: str = "",
    last: str = "",
    modalities: Sequence[str] = (),
    trained_before: int | None = None,
) -> Iterator[pa.Table]:
    """One table per period, in order.

    An item is there from the period of its release on; where no release column says it, from the
    one after it was first seen, as nobody knew of it before.

    Args:
        predict: the signature `serving_default`, or `explained`.
        dataset: items and counts.
        decisions: of the export; its intervals are used.
        first: the first period read up to; empty = the same as `last`.
        last: the last one; empty = the last there is.
        modalities: names of the weights that `explained` gives; none = they are not wanted.
        trained_before: number of the first period whose outcomes training did not see; None where
            the split is not by time, and every period may have been trained on.

    Raises:
        InputError: a period outside the counts, or the first after the last.
    """
    panel, horizon = dataset.panel, dataset.fitted.spec.horizon
    end = scoring.as_of_column(panel, last)
    start = scoring.as_of_column(panel, first) if first else end
    if start > end:
        raise InputError(f"--ranking_from={first} is after --as_of={panel.label(end)}")
    windows = Windows(dataset)
    known_ahead = horizon if dataset.fitted.tables.release else 0
    for column in track(range(start, end + 1), "features", disable=end - start < 20):
        label = str(panel.label(column))
        found = scoring.score(predict, dataset, as_of=label, modalities=modalities, windows=windows)
        found = decision.add(found, decisions)
        found = found.filter(pa.array(panel.release <= column + known_ahead))
        target = panel.first_period + column + horizon
        trained = trained_before is None or target < trained_before
        yield found.append_column("in_training", pa.array(np.full(len(found), trained)))


def write(path: str | Path, parts: Iterator[pa.Table]) -> tuple[Path, int]:
    """Writes the tables into one Parquet file, whole or not at all, a row group per period.

    Returns:
        The path, and the number of rows.

    Raises:
        InputError: the path cannot be written.
    """
    rows = 0

    def write_all(beside: Path) -> None:
        nonlocal rows
        writer = None
        try:
            for part in parts:
                writer = writer or pa.parquet.ParquetWriter(beside, part.schema)
                writer.write_table(part)
                rows += len(part)
        finally:
            if writer:
                writer.close()

    try:
        return write_atomic(path, write_all), rows
    except OSError as error:
        raise InputError(f"--ranking_features={path}: {error.strerror or error}") from None
