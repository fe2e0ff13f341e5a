"""The error of two models when any single input is gone: a column, a modality, or the history.

A challenger may be better on the data as they are because it leans on one input. On the day that
this input does not arrive, its error must not be much larger than the champion's on the same day.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from mmnet import checks, schema
from mmnet.data.splits import Examples
from mmnet.evaluation import metrics
from mmnet.evaluation.predicting import BATCH
from mmnet.evaluation.scenarios import disturb, outages, remove
from mmnet.promotion.comparing import Judged, compared_rows
from mmnet.schema import FeatureSpec

MOST_ROWS = 20_000
"""Maximum number of rows; every input is one more pass over them."""
HISTORY, NOTHING = "history", "nothing"


@dataclass(frozen=True)
class Outage:
    """MSEs, percent², with one input gone.

    Attributes:
        gone: the input.
        champion: the champion's MSE; with nothing gone if it does not read the input.
        challenger: the challenger's MSE.
    """

    gone: str
    champion: float
    challenger: float

    @property
    def growth(self) -> float:
        """The challenger's MSE relative to the champion's, minus 1."""
        if not self.champion:
            return np.inf if self.challenger else 0.0
        return self.challenger / self.champion - 1


@dataclass(frozen=True)
class Outages:
    """Errors of both models for every input that the challenger reads.

    Attributes:
        rows: number of rows that were scored.
        lost: one `Outage` per input.
    """

    rows: int
    lost: tuple[Outage, ...]

    def above(self, budget: float) -> list[Outage]:
        """Returns the outages where the challenger's MSE is more than `budget` above, worst first.

        >>> lost = (Outage("tags", 4.0, 4.2), Outage("title", 4.0, 6.0), Outage("age", 4.0, 5.0))
        >>> [one.gone for one in Outages(9, lost).above(0.1)]
        ['title', 'age']
        """
        over = [one for one in self.lost if one.growth > checks.at_least(0, budget=budget)]
        return sorted(over, key=lambda one: -one.growth)

    def to_json(self) -> dict[str, Any]:
        """Returns the rows, and both MSEs by input."""
        lost = {one.gone: asdict(one) | {"growth": one.growth} for one in self.lost}
        for one in lost.values():
            del one["gone"]
            one["growth"] = one["growth"] if np.isfinite(one["growth"]) else None
        return {"rows": self.rows, "lost": lost}


def measure(
    champion: Judged, challenger: Judged, *, periods: int, most_rows: int = MOST_ROWS
) -> Outages:
    """Measures both models on the compared periods with one input of the challenger gone at a time.

    Args:
        champion: the model that serves.
        challenger: the other one.
        periods: number of periods, the last ones.
        most_rows: more rows than these are sampled evenly.

    Raises:
        NotComparableError: see `comparing.compared_rows`.
    """
    rows = compared_rows((champion, challenger), periods)
    if len(rows) > most_rows:
        chosen = np.linspace(0, len(rows) - 1, most_rows).astype(np.int64)
        rows = rows.taken(chosen)
    start = challenger.dataset.panel.first_period
    before = start - champion.dataset.panel.first_period
    ours = _errors(champion, Examples(rows.items, (rows.times + before).astype(np.int32)))
    theirs = _errors(challenger, rows)
    return Outages(
        rows=len(rows),
        lost=tuple(
            Outage(gone, ours.get(gone, ours[NOTHING]), error)
            for gone, error in theirs.items()
            if gone != NOTHING
        ),
    )


def _errors(judged: Judged, rows: Examples) -> dict[str, float]:
    """Returns the MSE by the input that is gone."""
    spec = (judged.dataset.inputs_of or judged.dataset).fitted.spec  # of all that it reads
    gone = outages(spec)
    columns = columns_of(spec)
    names = [*gone, HISTORY, *columns]
    predicted = {name: np.empty(len(rows), np.float32) for name in names}
    for part, inputs in judged.windows.batches(rows, BATCH):
        hidden = np.ones(inputs[schema.MISSING_FLAG.name].shape, bool)
        for name, tensors in gone.items():
            predicted[name][part] = judged.predict(remove(inputs, tensors))
        predicted[HISTORY][part] = judged.predict(disturb(inputs, hidden))
        for name in columns:
            predicted[name][part] = judged.predict(without_column(inputs, spec, name))
    truth = judged.windows.targets(rows)
    return {name: metrics.mse(truth, one) for name, one in predicted.items()}


def columns_of(spec: FeatureSpec) -> list[str]:
    """Returns the columns of the items table that a model reads, as names of outages.

    >>> from mmnet.schema import FieldSpec
    >>> columns_of(FeatureSpec(window=6, horizon=1, fields=(FieldSpec(name="tags", size=3),)))
    ['column tags']
    """
    own = (*spec.fields, *spec.numerics, *spec.texts)
    return list(dict.fromkeys(f"column {one.name}" for one in own))


def without_column(
    inputs: Mapping[str, tf.Tensor], spec: FeatureSpec, gone: str
) -> dict[str, tf.Tensor]:
    """Removes one column of the items table from a batch.

    The mean of a taxonomy goes with its column: an item without a value is in no taxonomy.

    Args:
        inputs: the tensors of a batch by name.
        spec: the model's inputs.
        gone: one of `columns_of`.
    """
    column = gone.removeprefix("column ")
    own = (*spec.fields, *spec.numerics, *spec.texts)
    found = remove(inputs, [one.tensor for one in own if one.name == column])
    if column in spec.taxonomies:
        lost = np.array([name == column for name in spec.taxonomies])
        for rate in ("", *(one.name for one in spec.rates)):
            for name, value in spec.hidden(rate)[1].items():
                found[name] = tf.where(lost, tf.cast(value, found[name].dtype), found[name])
    return found
