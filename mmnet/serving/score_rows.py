"""Scores as rows: one per item; of a model with several outputs, one per item and horizon.

    item_id, period, horizon, predicted_share_rate, predicted_<rate>..., observed_periods,
    seen_clicks, seen_clicks_<rate>..., ...

`period` is the target of the row's horizon, and `horizon` and all columns of further rates are
there only if the model has several outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from mmnet.schema import PREDICTED, FeatureSpec, Output
from mmnet.serving import decision
from mmnet.serving.decision import Asked, Decisions
from mmnet.serving.exported import DECISION, HIGH, HORIZON, LOW, PROPENSITY, bounds_of

Arrays = Mapping[str, np.ndarray]
SEEN_CLICKS = "seen_clicks"
"""Column of the clicks in the window."""


def horizons(spec: FeatureSpec) -> tuple[int, ...]:
    """Returns all horizons of a model, the main one first."""
    return (spec.horizon, *spec.horizons)


def is_single(spec: FeatureSpec) -> bool:
    """Checks whether a model has one output only, whose tables have no column `horizon`."""
    return len(spec.outputs()) == 1


def seen_clicks(rate: str) -> str:
    """Returns the column of the clicks of a rate.

    >>> seen_clicks(""), seen_clicks("like")
    ('seen_clicks', 'seen_clicks_like')
    """
    return f"{SEEN_CLICKS}_{rate}" if rate else SEEN_CLICKS


def joined(tables: Sequence[pa.Table]) -> pa.Table:
    """Joins a table of each horizon, with the same items, so that rows of an item are together.

    >>> parts = [pa.table({"item_id": ["a", "b"], "horizon": [h, h]}) for h in (1, 3)]
    >>> joined(parts).to_pydict()
    {'item_id': ['a', 'a', 'b', 'b'], 'horizon': [1, 3, 1, 3]}
    """
    if len(tables) == 1:
        return tables[0]
    rows = np.arange(sum(map(len, tables))).reshape(len(tables), -1)
    return pa.concat_tables(tables).combine_chunks().take(pa.array(rows.T.ravel()))


def add(
    scores: pa.Table, decisions: Decisions, spec: FeatureSpec, asked: Asked | None = None
) -> pa.Table:
    """Adds interval ends and, if asked, decisions; see `decision.add`.

    With several outputs, the ends of a further rate are `<rate>_low` and `<rate>_high`, and a
    decision is in the row of the horizon that its rule decides by; other rows have none.

    Args:
        scores: rows of this module, those of an item together.
        decisions: decisions of the export.
        spec: outputs of the model.
        asked: the decision, with a threshold of each item; None adds intervals alone.

    Raises:
        InputError: the rule does not exist, or the export has no intervals of an output.
    """
    outputs = spec.outputs()
    if is_single(spec):
        return decision.add(scores, decisions, asked)
    by = None if asked is None else decisions.output_of(asked.rule, outputs)
    horizon = scores[HORIZON].to_numpy()
    ends: dict[str, np.ndarray] = {}
    decided: dict[str, pa.Array] = {}
    for output in outputs:
        rows = np.flatnonzero(horizon == output.horizon)
        found = decision.add(
            _of_output(scores, rows, output, outputs),
            decisions.of(output),
            asked if output == by else None,
        )
        main = next(one for one in outputs if one.rate == output.rate)
        for name, column in zip(bounds_of(main), (LOW, HIGH), strict=True):
            ends.setdefault(name, np.empty(len(scores)))[rows] = found[column].to_numpy()
        if output == by:
            at = np.full(len(scores), -1)
            at[rows] = np.arange(len(rows))
            places = pa.array(at, mask=at < 0)
            columns = (name for name in (DECISION, PROPENSITY) if name in found.column_names)
            decided = {name: found[name].combine_chunks().take(places) for name in columns}
    for name, values in (ends | decided).items():
        scores = scores.append_column(name, pa.array(values))
    return scores


def _of_output(
    scores: pa.Table, rows: np.ndarray, output: Output, outputs: Sequence[Output]
) -> pa.Table:
    """Returns the rows of an output as a table of its own, as of a model with one output."""
    main = next(one for one in outputs if one.rate == output.rate)
    found = scores.take(pa.array(rows))
    columns = {PREDICTED: found[main.name], SEEN_CLICKS: found[seen_clicks(output.rate)]}
    return pa.table({"item_id": found["item_id"], **columns})
