"""Squared errors and hits of all systems by item, from which no target can be recomputed.

A published table can only be tested by others if they have more than its means. Results by test row
would give targets away: where a baseline predicts 0, its squared error is the target squared. So
rows are summed over their item, and four rules hold:

- A sum has at least `FEWEST` rows; items with fewer are joined, see `joined`. Where a prediction is
  known, one sum of n squared errors leaves a sphere of n - 1 dimensions for the n targets; sums of
  many systems with known constant predictions leave n - 2, which is 0 for two rows.
- No system predicts one and the same value throughout two sums or more, such as 0 wherever an item
  has no history. Its constant could be guessed, and equal targets with it. Such sums are joined to
  others; a system that has them in more than half of a scenario is left out there.
- Numbers of sums follow their content, not ids: the order of ids is not kept.
- There are more than twice as many sums as systems, or none: from few sums, the variances that are
  published next to them (`experiments.kept`) would determine what was left out.

What is left depends on errors and on ranks alone. Adding a constant to all targets and all
predictions changes none of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mmnet.evaluation.precision import in_top
from mmnet.evaluation.significance import PERCENTS, Predictions

FEWEST = 3
"""Rows of a sum."""
MOST = 80_000
"""Lines of all systems and scenarios together; below 400 kB as Parquet."""
DIGITS, SPREAD_DIGITS = 4, 2
"""Significant digits that are kept of squared errors and of their spread over seeds."""


def item_sums(
    scenarios: Mapping[str, Predictions], percents: Sequence[float] = PERCENTS, most: int = MOST
) -> pd.DataFrame:
    """Sum squared errors and hits over the rows of each item.

    Args:
        scenarios: result of `significance.align`.
        percents: N of P@N %.
        most: largest number of lines; items are joined until there are no more.

    Returns:
        One line per scenario, system and sum: `scenario`, `system`, `item` (a running number, the
        same in all scenarios), `rows`, `squared_error` (over the rows, mean over seeds, percent²),
        `squared_error_spread` (with S of a seed's sum and M of its MSE, and their means S' and M'
        over n seeds, Σ (S - S' - rows (M - M'))²: divided by n (n - 1), what variances of items
        and of seeds both count, see `significance.repeated`), and for each N `true_top_N`,
        `predicted_top_N` and `hits_N` (expected numbers of rows in the true top, the predicted
        top and both, mean over seeds; `hits_N` over `true_top_N`, each summed, is P@N).
        `squared_error` and its spread are NaN where they would give targets away. No line if
        there are no more than twice as many sums as systems.
    """
    lines: list[pd.DataFrame] = []
    first = next(iter(scenarios.values()))
    systems = len(first.predicted)
    of_item = joined(scenarios, max(1, most // (len(scenarios) * systems)))
    if of_item.max() < 2 * systems:
        return pd.DataFrame(columns=_columns(percents), dtype=np.float64)
    order: np.ndarray | None = None
    for scenario, predictions in scenarios.items():
        sums = of_item.loc[predictions.item].to_numpy()
        found = [
            _of_system(predictions, system, sums, percents).assign(scenario=scenario, system=system)
            for system in predictions.predicted
        ]
        if order is None:
            order = _by_content(found)
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        lines += [one.assign(item=rank).sort_values("item") for one in found]
    return pd.concat(lines, ignore_index=True)[_columns(percents)]


def as_parquet(frame: pd.DataFrame) -> bytes:
    """Compress sums of one or several groups of test windows.

    Args:
        frame: results of `item_sums`, with a column `windows` where there are several.
    """
    texts = [name for name in ("windows", "scenario", "system") if name in frame]
    kinds = dict.fromkeys(texts, "category") | dict.fromkeys(["item", "rows"], "int32")
    # Sums of four digits repeat; running numbers compress better as they are.
    coded = [name for name in frame if name != "item"]
    return frame.astype(kinds).to_parquet(
        index=False, compression="zstd", compression_level=12, use_dictionary=coded
    )


def joined(scenarios: Mapping[str, Predictions], most: int) -> pd.Series:
    """Number the sums that items belong to, one each or several together.

    Args:
        scenarios: result of `significance.align`.
        most: largest number of sums.

    Returns:
        The sum of each item, from 0 on; its index is the items.
    """
    first = next(iter(scenarios.values()))
    items, rows = np.unique(first.item, return_counts=True)
    fewest = FEWEST
    while (of_item := _joined(rows, fewest)).max() >= most:
        fewest *= 2
    found = pd.Series(of_item, items)
    weak = np.zeros(of_item.max() + 1, bool)
    for predictions in scenarios.values():
        sums = found.loc[predictions.item].to_numpy()
        for system in predictions.predicted:
            constant = _constant(predictions.runs(system), sums)
            if constant.mean() <= 0.5:  # else the system is left out
                weak |= constant
    strong = np.flatnonzero(~weak)
    if strong.size:
        place = np.arange(len(weak))
        place[weak] = np.resize(strong, np.count_nonzero(weak))
        found[:] = np.unique(place[of_item], return_inverse=True)[1]
    return found


def _joined(rows: np.ndarray, fewest: int) -> np.ndarray:
    """Sum of each item, from its number of rows, so that sums have `fewest` rows or more.

    >>> _joined(np.array([1, 3, 1, 2]), 3).tolist()
    [1, 0, 1, 1]
    """
    found = np.empty(len(rows), np.int64)
    alone = rows >= fewest
    found[alone] = np.arange(np.count_nonzero(alone))
    number, collected = int(np.count_nonzero(alone)), 0
    for item in np.flatnonzero(~alone):
        found[item] = number
        collected += int(rows[item])
        if collected >= fewest:
            number, collected = number + 1, 0
    if collected and number:  # what is left goes with the last sum
        found[found == number] = number - 1
    return found


def _of_system(
    predictions: Predictions, system: str, sums: np.ndarray, percents: Sequence[float]
) -> pd.DataFrame:
    runs, number = predictions.runs(system), int(sums.max()) + 1
    rows = np.bincount(sums, minlength=number)

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(sums, values, number)

    squared = (runs - predictions.truth) ** 2
    mean, by_seed = total(squared.mean(axis=0)), np.array([total(one) for one in squared])
    moved = squared.mean(axis=1) - squared.mean()  # of each seed's MSE
    spread = np.sum((by_seed - mean - moved[:, None] * rows) ** 2, axis=0)
    if number == 1 or _constant(runs, sums).any():
        mean = spread = np.full(number, np.nan)
    found = {
        "rows": rows,
        "squared_error": _rounded(mean, DIGITS),
        "squared_error_spread": _rounded(spread, SPREAD_DIGITS),
    }
    for percent in percents:
        true_top = in_top(percent, predictions.truth)
        tops = np.array([in_top(percent, run) for run in runs])
        for name, values in (
            (f"true_top_{percent:g}", true_top),
            (f"predicted_top_{percent:g}", tops.mean(axis=0)),
            (f"hits_{percent:g}", (tops * true_top).mean(axis=0)),
        ):
            found[name] = _rounded(total(values), DIGITS)
    return pd.DataFrame(found)


def _constant(runs: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """Which sums have one prediction in all rows that another sum has in all rows too, [sums]."""
    order = np.argsort(sums, kind="stable")
    starts = np.flatnonzero(np.diff(sums[order], prepend=-1))
    found = np.zeros(len(starts), bool)
    for run in runs:
        low, high = (f.reduceat(run[order], starts) for f in (np.minimum, np.maximum))
        _, place, times = np.unique(low[low == high], return_inverse=True, return_counts=True)
        found[low == high] |= times[place] > 1
    return found


def _by_content(found: Sequence[pd.DataFrame]) -> np.ndarray:
    """The order of the sums by what they contain."""
    columns = [one[name] for one in found for name in one if one[name].dtype.kind in "if"]
    return np.lexsort([np.nan_to_num(one.to_numpy(float)) for one in columns][::-1])


def _rounded(values: np.ndarray, digits: int) -> np.ndarray:
    """Values with so many significant digits, as float32.

    >>> _rounded(np.array([123456.0, 0.0, 0.9876]), 3).tolist()
    [123000.0, 0.0, 0.9879999756813049]
    """
    size = np.floor(np.log10(np.abs(np.where(values == 0, 1, values))))
    unit = 10.0 ** (size - digits + 1)
    return (np.round(values / unit) * unit).astype(np.float32)


def _columns(percents: Sequence[float]) -> list[str]:
    tops = [f"{n}_{p:g}" for p in percents for n in ("true_top", "predicted_top", "hits")]
    return [*("scenario", "system", "item", "rows", "squared_error", "squared_error_spread"), *tops]
