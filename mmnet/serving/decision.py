"""Keep, drop or explore: rules over scores, solved on validation and stored in the export.

A rule (see `rules` for its format) is solved once, as a threshold. The threshold alone decides what
is dropped, so the decision on an item does not depend on the other items that are scored.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from mmnet.checks import InputError, did_you_mean
from mmnet.evaluation import conformal
from mmnet.evaluation.conformal import Intervals
from mmnet.evaluation.precision import TOP_PERCENT, in_top
from mmnet.serving.rules import Kind, parse

FILE = "decision.json"
"""File of an export, in `assets.extra/`."""
KEEP, DROP, EXPLORE = "keep", "drop", "explore"


class Rule(BaseModel):
    """A rule and its solution.

    Attributes:
        kind: the quantity that is fixed.
        value: its value: percent, or a share in [0, 1].
        threshold: keep items predicted at this rate or more, percent.
        kept_share, recall: on validation, in [0, 1].
        n: number of validation rows that it was solved on.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind
    value: float
    threshold: float
    kept_share: float
    recall: float
    n: int


class Decisions(BaseModel):
    """`decision.json`: everything that turns scores into decisions.

    Attributes:
        top_percent: the true top items that `recall` refers to, in percent.
        rules: rules by their text; the first is the default.
        intervals: prediction intervals.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    top_percent: float
    rules: dict[str, Rule]
    intervals: Intervals

    def bounds(self, clicks: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns interval ends of live rows, percent, by the clicks in their windows.

        Rows are calibrated as in the normal scenario. If validation had too few items without
        history for a group of their own, those are calibrated as in cold-start.
        """
        low, high = self.intervals("normal", clicks, predicted)
        groups = [group.clicks for group in self.intervals.groups if group.scenario == "normal"]
        known = {group.scenario for group in self.intervals.groups}
        if 1 not in groups and "cold_start" in known:
            new = np.asarray(clicks) == 0
            low[new], high[new] = self.intervals("cold_start", clicks[new], predicted[new])
        return low, high

    def rule(self, name: str) -> Rule:
        """Returns a stored rule by name, "stored" for the first one, or any `threshold=`.

        Raises:
            InputError: the rule does not exist.
        """
        if name == "stored":
            return next(iter(self.rules.values()))
        if name in self.rules:
            return self.rules[name]
        kind, value = parse(name)
        if kind == "threshold":
            nan = float("nan")
            return Rule(kind=kind, value=value, threshold=value, kept_share=nan, recall=nan, n=0)
        raise InputError(
            f"--rule={name} was not solved when this model was trained, only "
            f"{', '.join(self.rules)}{did_you_mean(name, self.rules) or '.'} Train with "
            f"--rules={name}, or set --rule=threshold=PERCENT"
        )


def solve(
    text: str, truth: np.ndarray, predicted: np.ndarray, top_percent: float = TOP_PERCENT
) -> Rule:
    """Finds the threshold of a rule on validation.

    It is halfway between the lowest score that is kept and the highest one that is dropped, so that
    no item changes sides if the model is served with other rounding.

    Args:
        text: the rule, see `rules.parse`.
        truth: share rates, percent, [rows].
        predicted: percent, [rows].
        top_percent: the true top of `recall`; ties count by their expectation.

    >>> truth = np.array([9.0, 1, 2, 3, 4])
    >>> solve("recall=1", truth, np.array([5.0, 8, 1, 2, 3]), top_percent=20).threshold
    4.0
    """
    kind, value = parse(text)
    truth, predicted = np.asarray(truth, np.float64), np.asarray(predicted, np.float64)
    top = in_top(top_percent, truth)
    order = np.argsort(-predicted, kind="stable")
    falling = predicted[order]
    if kind == "threshold":
        threshold = value
    else:
        if kind == "keep":
            last = max(1, int(value * len(falling) + 1e-9)) - 1
        else:
            reached = np.cumsum(top[order]) >= value * top.sum() - 1e-9
            last = int(np.argmax(reached))
        below = falling[falling < falling[last]]
        threshold = (falling[last] + below[0]) / 2 if len(below) else 0.0
        threshold = float(min(threshold, falling[last]))
    kept = predicted >= threshold
    return Rule(
        kind=kind,
        value=value,
        threshold=threshold,
        kept_share=float(kept.mean()),
        recall=float(top[kept].sum() / top.sum()),
        n=len(truth),
    )


def fit(
    frame: pd.DataFrame, rules: Sequence[str], *, level: float, max_rate: float | None
) -> Decisions:
    """Solves rules and calibrates intervals.

    Args:
        frame: predictions of the validation rows in all scenarios, see `evaluation.report`. Rules
            are solved on the normal scenario, which is closest to a catalogue.
        rules: texts of the rules.
        level: target coverage of the intervals.
        max_rate: no interval ends above it.
    """
    normal = frame[frame["scenario"] == "normal"]
    truth, predicted = (normal[name].to_numpy() for name in ("share_rate", "predicted_share_rate"))
    return Decisions(
        top_percent=TOP_PERCENT,
        rules={text: solve(text, truth, predicted) for text in rules},
        intervals=conformal.fit(frame, level=level, max_rate=max_rate),
    )


def decide(predicted: np.ndarray, threshold: float, high: np.ndarray | None = None) -> np.ndarray:
    """Returns decisions, text [rows].

    Args:
        predicted: percent, [rows].
        threshold: keep items predicted at this rate or more.
        high: upper ends of prediction intervals, [rows]; items below the threshold whose interval
            reaches it are to be explored instead of dropped.

    >>> decide(np.array([3.0, 1.0, 0.1]), 2.0, np.array([9.0, 2.5, 0.5])).tolist()
    ['keep', 'explore', 'drop']
    """
    below = np.full(len(predicted), DROP, object)
    if high is not None:
        below[np.asarray(high) >= threshold] = EXPLORE
    return np.where(np.asarray(predicted) >= threshold, KEEP, below)


def add(
    scores: pa.Table, decisions: Decisions, rule: str = "", *, explore: bool = False
) -> pa.Table:
    """Adds interval ends and, with a rule, decisions to a table of scores.

    Args:
        scores: table with `predicted_share_rate` and `seen_clicks`.
        decisions: decisions of the export.
        rule: see `Decisions.rule`; empty for no decisions.
        explore: see `decide`.

    Returns:
        The table with `share_rate_low`, `share_rate_high` (percent) and `decision`.

    Raises:
        InputError: the rule does not exist.
    """
    threshold = decisions.rule(rule).threshold if rule else None
    predicted = scores["predicted_share_rate"].to_numpy()
    low, high = decisions.bounds(scores["seen_clicks"].to_numpy(), predicted)
    scores = scores.append_column("share_rate_low", pa.array(low))
    scores = scores.append_column("share_rate_high", pa.array(high))
    if threshold is None:
        return scores
    decided = decide(predicted, threshold, high if explore else None)
    return scores.append_column("decision", pa.array(decided, pa.string()))
