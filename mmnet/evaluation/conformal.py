"""Split-conformal prediction intervals, which have the coverage that they claim.

On validation every example has a residual r = (share rate - prediction) / s, with
s = sqrt(max(prediction, floor)), since the noise of a rate grows as its root. Of the n residuals
of a group, those of the ranks floor((n + 1) a / 2) and ceil((n + 1)(1 - a / 2)) bound a new
example's with probability 1 - a at least, whatever the model, if the group's examples are
exchangeable with it (Vovk, Gammerman & Shafer, 2005, "Algorithmic learning in a random world",
section 4.5: Mondrian conformal prediction; Lei et al., 2018, JASA 113).

A group is a scenario and a range of clicks seen in the window, which are known at the time of the
decision; the target's own clicks are not. The interval is for the rate that will be observed,
including its sampling noise.
"""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict

from mmnet import checks
from mmnet.evaluation.significance import Clusters

CLICKS = (0, 1, 10, 100, 1_000, 10_000)
"""Lower ends of the ranges of clicks."""
FEWEST = 200
"""Rows of a group; a smaller one joins its neighbour. The 5 % tail then rests on ten rows."""


class Group(BaseModel):
    """One group's bounds of r.

    Attributes:
        scenario: scenario of its examples.
        clicks: fewest clicks seen; the group ends where the scenario's next one begins.
        n: validation rows.
        low, high: bounds of r; None where there are too few rows for a bound.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    scenario: str
    clicks: int
    n: int
    low: float | None
    high: float | None


class Intervals(BaseModel):
    """Calibrated intervals.

    Attributes:
        level: 1 - a, the share of new rates that should fall inside.
        floor: lower bound of the prediction in s, percent.
        max_rate: no interval ends above it, percent; None sets no limit.
        groups: the groups, by scenario, then by clicks.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    level: float
    floor: float
    max_rate: float | None
    groups: tuple[Group, ...]

    def __call__(
        self, scenario: str, clicks: np.ndarray, predicted: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper ends, percent, [rows].

        Args:
            scenario: that the rows are of; live rows are normal.
            clicks: seen in the window, [rows].
            predicted: percent, [rows].
        """
        groups = [group for group in self.groups if group.scenario == scenario]
        checks.one_of({group.scenario for group in self.groups}, scenario=scenario)
        starts = np.array([group.clicks for group in groups])
        place = np.maximum(np.searchsorted(starts, clicks, side="right") - 1, 0)
        top = np.inf if self.max_rate is None else self.max_rate
        low = np.array([-np.inf if g.low is None else g.low for g in groups])[place]
        high = np.array([np.inf if g.high is None else g.high for g in groups])[place]
        predicted = np.asarray(predicted, np.float64)
        spread = np.sqrt(np.maximum(predicted, self.floor))
        return (
            np.clip(predicted + low * spread, 0, top),
            np.clip(predicted + high * spread, 0, top),
        )


def fit(frame: pd.DataFrame, *, level: float = 0.9, max_rate: float | None = 100.0) -> Intervals:
    """Calibrate on predictions of rows that neither trained nor chose the model.

    Args:
        frame: `scenario`, `seen_clicks`, `share_rate`, `predicted_share_rate`.
        level: share of new rates that should fall inside, in (0, 1).
        max_rate: see `Intervals`.

    Raises:
        ValueError: `level` is not inside (0, 1), or there are no rows.
    """
    if not 0 < level < 1:
        raise ValueError(f"`level` must be inside (0, 1). Received: level={level}")
    if frame.empty:
        raise ValueError("`frame` must have rows. Received: none")
    predicted = frame["predicted_share_rate"].to_numpy(np.float64)
    floor = max(float(np.mean(predicted)) / 10, 1e-6)
    residual = (frame["share_rate"].to_numpy(np.float64) - predicted) / np.sqrt(
        np.maximum(predicted, floor)
    )
    groups = []
    for scenario in frame["scenario"].unique():
        mine = (frame["scenario"] == scenario).to_numpy()
        clicks = frame["seen_clicks"].to_numpy()[mine]
        for start, rows in _grouped(clicks):
            low, high = _bounds(residual[mine][rows], level)
            group = {"scenario": scenario, "clicks": start, "n": int(rows.sum())}
            groups.append(Group(**group, low=low, high=high))
    return Intervals(level=level, floor=floor, max_rate=max_rate, groups=tuple(groups))


def _grouped(clicks: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Ranges of clicks with `FEWEST` rows at least, and their rows; the first starts at 0."""
    starts = list(CLICKS)
    while len(starts) > 1:
        place = np.searchsorted(starts, clicks, side="right") - 1
        count = np.bincount(place, minlength=len(starts))
        small = int(np.argmin(count))
        if count[small] >= FEWEST:
            break
        del starts[max(small, 1)]  # it joins the one below; the lowest takes the next one in
    place = np.searchsorted(starts, clicks, side="right") - 1
    return [(start, place == number) for number, start in enumerate(starts)]


def _bounds(residual: np.ndarray, level: float) -> tuple[float | None, float | None]:
    """Residuals of the two ranks; None where n is too small for a rank inside the sample.

    >>> _bounds(np.arange(1.0, 20), level=0.9)  # 19 rows: ranks 1 and 19
    (1.0, 19.0)
    >>> _bounds(np.arange(1.0, 19), level=0.9)
    (None, None)
    """
    n, tail = len(residual), (1 - level) / 2
    # A billionth keeps (n + 1) a / 2 from losing a rank to rounding.
    low = int(np.floor((n + 1) * tail + 1e-9))
    high = int(np.ceil((n + 1) * (1 - tail) - 1e-9))
    rising = np.sort(residual)
    return (
        float(rising[low - 1]) if low >= 1 else None,
        float(rising[high - 1]) if high <= n else None,
    )


def coverage(intervals: Intervals, frame: pd.DataFrame) -> pd.DataFrame:
    """Measure how often new rates fall inside their intervals.

    Args:
        intervals: calibrated on other rows.
        frame: columns as for `fit`, and `item_id`.

    Returns:
        A row per scenario (`clicks` "all") and per group of it: `scenario`, `clicks`, `n`, `items`,
        `coverage`, its `standard_error` as a sample of items, and `mean_width`, percent. The rows
        of an item miss together, so the error is that of so many items rather than rows; NaN for a
        single one.
    """
    rows = []
    for scenario in frame["scenario"].unique():
        part = frame[frame["scenario"] == scenario]
        clicks, predicted = part["seen_clicks"].to_numpy(), part["predicted_share_rate"].to_numpy()
        truth = part["share_rate"].to_numpy()
        low, high = intervals(scenario, clicks, predicted)
        inside, width = (low <= truth) & (truth <= high), high - low
        starts = [group.clicks for group in intervals.groups if group.scenario == scenario]
        ranges = {"all": np.ones(len(part), bool)}
        if len(starts) > 1:
            for start, end in itertools.zip_longest(starts, starts[1:]):
                named = f"{start:,} or more" if end is None else f"{start:,}–{end - 1:,}"
                named = f"{start:,}" if end == start + 1 else named
                ranges[named] = (clicks >= start) & (clicks < (np.inf if end is None else end))
        for named, chosen in ranges.items():
            if chosen.any():
                item = part["item_id"].to_numpy()[chosen]
                items = len(np.unique(item))
                error = Clusters(item).variance(inside[chosen]) ** 0.5 if items > 1 else np.nan
                rows.append(
                    {
                        "scenario": scenario,
                        "clicks": named,
                        "n": int(chosen.sum()),
                        "items": items,
                        "coverage": float(inside[chosen].mean()),
                        "standard_error": error,
                        "mean_width": float(width[chosen].mean()),
                    }
                )
    return pd.DataFrame(rows)
