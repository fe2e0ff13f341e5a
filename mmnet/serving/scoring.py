"""Scores for every item of the items table, with or without history."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import tensorflow as tf
from rich.progress import track

from mmnet.checks import InputError
from mmnet.data.counts import Counted, Panel
from mmnet.data.dataset import Dataset
from mmnet.data.splits import Examples
from mmnet.data.windows import Windows
from mmnet.files import write_atomic
from mmnet.serving.exported import OUTPUT, WEIGHTS

BATCH = 1024


def as_of_column(panel: Panel | Counted, as_of: str, flag: str = "as_of") -> int:
    """A panel's column of `--as_of`, or of another flag; the last one when it is empty.

    Raises:
        InputError: a period outside the counts.
    """
    if not as_of:
        return panel.num_periods - 1
    column = panel.calendar.number(as_of, flag) - panel.first_period
    if not 0 <= column < panel.num_periods:
        raise InputError(
            f"--{flag}={as_of} is outside the counts, which run from {panel.label(0)} to "
            f"{panel.label(panel.num_periods - 1)}"
        )
    return column


def score(
    predict: Callable[..., Mapping[str, tf.Tensor]],
    dataset: Dataset,
    *,
    as_of: str = "",
    modalities: Sequence[str] = (),
    windows: Windows | None = None,
) -> pa.Table:
    """Scores every item as of one period, reading nothing later.

    Args:
        predict: the signature `serving_default`, or `explained`.
        dataset: items and counts.
        as_of: the last period read; empty = the last there is.
        modalities: names of the weights that `explained` gives; none = they are not wanted.
        windows: of the dataset, where they are made already.

    Returns:
        item_id, period (as_of + horizon, in the input's type), predicted_share_rate (percent),
        observed_periods (window entries that were not missing), seen_clicks (their clicks), and
        weight_<modality> for each of the modalities, which sum to 1; one row per item.
    """
    panel, spec = dataset.panel, dataset.fitted.spec
    column = as_of_column(panel, as_of)
    num_items = len(panel.item_ids)
    everyone = Examples(np.arange(num_items, dtype=np.int32), np.full(num_items, column, np.int32))
    windows = windows or Windows(dataset)
    scores = np.empty(num_items, np.float32)
    observed = np.empty(num_items, np.int32)
    clicks = np.empty(num_items, np.int64)
    weights = np.empty((num_items, len(modalities)), np.float32)
    batches = windows.batches(everyone, BATCH)
    for part, inputs in track(
        batches, "scoring", total=-(-num_items // BATCH), disable=num_items < 50 * BATCH
    ):
        found = predict(**inputs)
        scores[part] = found[OUTPUT].numpy()
        if modalities:
            weights[part] = found[WEIGHTS].numpy()
        observed[part] = spec.window - inputs["missing_flag"].numpy().sum(axis=1)
        clicks[part] = inputs["clicks"].numpy().sum(axis=1, dtype=np.float64)
    target = np.full(num_items, panel.first_period + column + spec.horizon)
    return pa.table(
        {
            "item_id": pa.array(panel.item_ids, pa.string()),
            "period": pa.array(panel.calendar.periods(target)),
            "predicted_share_rate": scores.astype(np.float64),
            "observed_periods": observed,
            "seen_clicks": clicks,
            **{f"weight_{name}": weights[:, n] for n, name in enumerate(modalities)},
        }
    )


def write(scores: pa.Table, path: str | Path) -> Path:
    """Writes scores as Parquet, whole or not at all.

    Raises:
        InputError: the path cannot be written.
    """
    try:
        return write_atomic(path, lambda beside: pa.parquet.write_table(scores, beside))
    except OSError as error:
        raise InputError(f"--output={path}: {error.strerror or error}") from None
