"""Weights of test rows from logged decisions: what the champion's own filter kept from view.

An item that was dropped has no audience, so its rate is never observed, and test rows are items
that the champion liked. A row that was let through with probability p stands for 1/p rows of the
items that were decided on. Means are self-normalized, sum(w e) / sum(w) (Hajek): their bias falls
with the number of rows, and their variance does not depend on how many rows were let through,
unlike that of sum(w e) / n. No weight can speak for items that are let through with probability 0.

Weights are clipped from above, since one row with p = 0.001 would decide everything. A clipped mean
is biased towards the unweighted one; `Weighting` reports how much was clipped.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from mmnet.checks import InputError, quoted, shown
from mmnet.config import TableFlags
from mmnet.data import tables, time_columns
from mmnet.data.calendars import BY_COLUMN, Calendar
from mmnet.data.columns import floats, id_texts, strings
from mmnet.data.dialects import text_options
from mmnet.data.tables import Table
from mmnet.serving.decision import DROP, EXPLORE, KEEP

FLAG = "decisions"
"""The flag that names the table, and the table's name in messages."""
DECISIONS = (KEEP, EXPLORE, DROP)


@dataclass(frozen=True)
class Columns:
    """Names of the columns of a table of logged decisions.

    Attributes:
        item: item id.
        period: the period that the decision was for.
        decision: keep, explore or drop.
        propensity: the probability, in [0, 1], with which the item would be let through.
    """

    item: str
    period: str
    decision: str
    propensity: str


@dataclass(frozen=True)
class Weighting:
    """Weights of the rows of a comparison, described.

    Attributes:
        rows: test rows.
        decided: share of them that the table has a decision for; others have weight 1, as rows
            that no filter was applied to.
        let_through: share of test items whose last decision was `keep`.
        explored: share of test items whose last decision was `explore`.
        dropped: share of rows that were observed although their item was let through with
            probability 0; the log cannot explain them, so they have weight 0.
        largest: the largest weight before clipping.
        clip: largest weight allowed; infinite for none.
        clipped: share of rows whose weight was clipped.
        effective_rows: (sum of weights)² / sum of squared weights.
    """

    rows: int
    decided: float
    let_through: float
    explored: float
    dropped: float
    largest: float
    clip: float
    clipped: float
    effective_rows: float

    def to_json(self) -> dict[str, Any]:
        """Returns all attributes; the clip is None where no weight is too large."""
        return asdict(self) | {"clip": self.clip if np.isfinite(self.clip) else None}


def read(path: str, flags: TableFlags, calendar: Calendar, names: Columns) -> pd.DataFrame:
    """Reads a table of logged decisions.

    Args:
        path: `--decisions`: a file, a directory or a glob pattern.
        flags: how text files are read.
        calendar: the calendar of the counts.
        names: its columns.

    Returns:
        `item_id`, `period` (absolute index), `decision`, `propensity`; one row per item and period.

    Raises:
        InputError: a column is missing, or a value is invalid; it names the file and the row.
    """
    columns = dict.fromkeys((names.item, names.period, names.decision, names.propensity), FLAG)
    said = text_options(flags.text_set, FLAG)
    tables.check_header(path, FLAG, columns, said)
    return of_table(tables.read(path, FLAG, columns=columns, said=said), calendar, names)


def of_table(table: Table, calendar: Calendar, names: Columns) -> pd.DataFrame:
    """Checks a table of logged decisions in memory; see `read`."""
    propensity = floats(table, names.propensity, FLAG)
    wrong = ~((propensity >= 0) & (propensity <= 1))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InputError(
            f"{table.where(row, names.propensity)}: a propensity is a probability from 0 to 1. "
            f"Received: {propensity[row]:g}"
        )
    decision = strings(table, names.decision, FLAG)
    wrong = ~np.isin(decision, DECISIONS)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InputError(
            f"{table.where(row, names.decision)}: a decision is one of {', '.join(DECISIONS)}. "
            f"Received: {quoted(decision[row])}"
        )
    reading = time_columns.reading_of(table, names.period, FLAG, BY_COLUMN)
    found = pd.DataFrame(
        {
            "item_id": id_texts(table, names.item, FLAG).to_numpy().astype(object),
            "period": calendar.read(table, names.period, FLAG, reading).numbers.astype(np.int64),
            "decision": decision,
            "propensity": propensity,
        }
    )
    repeated = found.duplicated(["item_id", "period"]).to_numpy()
    if repeated.any():
        row = int(np.argmax(repeated))
        raise InputError(
            f"{table.where(row)}: a second decision on item {shown(found['item_id'][row])} for the "
            "same period; the table must have one row per item and period"
        )
    return found


def weigh(
    item: np.ndarray, period: np.ndarray, decisions: pd.DataFrame, clip: float
) -> tuple[np.ndarray, Weighting]:
    """Weights test rows by the decision that let them through.

    The decision on a row is the item's last one for its period or an earlier period.

    Args:
        item: item id of each row, text [rows].
        period: absolute index of its target's period, int64 [rows].
        decisions: result of `read`.
        clip: the largest weight, at least 1.

    Returns:
        Weights, float64 [rows], and a description of them.

    Raises:
        InputError: `clip` is below 1, or no row has a weight.

    >>> logged = pd.DataFrame({"item_id": ["a", "b"], "period": [3, 3]})
    >>> logged["decision"], logged["propensity"] = ["keep", "explore"], [1.0, 0.01]
    >>> item = np.array(["a", "b", "c"], object)
    >>> weight, about = weigh(item, np.array([3, 4, 4]), logged, clip=20)
    >>> weight.tolist(), about.largest, round(about.decided, 2)
    ([1.0, 20.0, 1.0], 100.0, 0.67)
    """
    if not clip >= 1:
        raise InputError(f"--clip={clip:g} must be 1 or more, the smallest weight of a row")
    rows = pd.DataFrame({"item_id": item, "period": np.asarray(period, np.int64)})
    rows["row"] = np.arange(len(rows))
    found = pd.merge_asof(
        rows.sort_values("period", kind="stable"),
        decisions.astype({"period": np.int64}).sort_values("period", kind="stable"),
        on="period",
        by="item_id",
    ).sort_values("row")
    decision, propensity = found["decision"].to_numpy(), found["propensity"].to_numpy(np.float64)
    decided = ~np.isnan(propensity)
    impossible = decided & (propensity == 0)
    raw = np.ones(len(rows))
    np.divide(1, propensity, out=raw, where=decided & ~impossible)
    raw[impossible] = 0
    weight = np.minimum(raw, clip)
    if not weight.any():
        raise InputError(
            "no test row was let through with a probability above 0, so nothing can be weighted; "
            "log the propensity of --explore, or leave out --decisions"
        )
    last = rows.assign(decision=decision).sort_values("period").groupby("item_id").last()
    return weight, Weighting(
        rows=len(rows),
        decided=float(decided.mean()),
        let_through=float((last["decision"] == KEEP).mean()),
        explored=float((last["decision"] == EXPLORE).mean()),
        dropped=float(impossible.mean()),
        largest=float(raw.max()),
        clip=float(clip),
        clipped=float((raw > clip).mean()),
        effective_rows=float(weight.sum() ** 2 / np.sum(weight**2)),
    )
