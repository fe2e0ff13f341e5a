"""Keep, drop or explore: rules over scores, solved on validation and stored in the export.

A rule (see `rules` for its format) is solved once, as a threshold; a quota, as one per group. The
thresholds alone decide what is kept, so the decision on an item does not depend on the other items
that are scored.

An item in the explore band has a score below its threshold, and an interval whose upper end is not.
It is explored if a draw is below the rule's `explore_probability`,

    propensity = 1 where kept, explore_probability in the band, 0 elsewhere
    explore_probability = min(1, Explore.share / band_share)

so that the expected share of explored items is at most `Explore.share` on validation. The draw is
a hash of item and period (`draws.uniform`): it is the same whenever and wherever it is made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from mmnet.checks import InputError, did_you_mean
from mmnet.data.dataset import Fitted
from mmnet.evaluation import conformal
from mmnet.evaluation.conformal import Intervals
from mmnet.evaluation.precision import TOP_PERCENT, in_top
from mmnet.schema import FIRST_ID, PREDICTED, FieldSpec, Output
from mmnet.serving.rules import Kind, output_of, parse

FILE = "decision.json"
"""File of an export, in `assets.extra/`."""
FEWEST = 100
"""Fewest validation rows of a group for a threshold of its own. With so few, two standard errors of
the share that a quota keeps of the group are 0.1."""
KEEP, DROP, EXPLORE = "keep", "drop", "explore"
Thresholds = float | np.ndarray
"""One threshold, or one per row, percent."""


class Rule(BaseModel):
    """A rule and its solution.

    Attributes:
        kind: the quantity that is fixed.
        value: its value: percent, or a share in [0, 1].
        threshold: keep items predicted at this rate or more, percent; of a quota, items of groups
            that have no threshold of their own, and items without a known group.
        kept_share, recall: on validation, in [0, 1].
        n: number of validation rows that it was solved on.
        per: column with the groups of a quota; empty without one.
        thresholds: group -> threshold, percent, of groups with `FEWEST` rows or more.
        band_share: share of the validation rows in the explore band.
        explore_probability: probability with which an item in the band is explored; None for a
            rule that was not solved, and in exports of earlier versions.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind
    value: float
    threshold: float
    kept_share: float
    recall: float
    n: int
    # Left out of files where they say nothing, which then equal those of earlier versions.
    per: str = Field("", exclude_if=lambda per: not per)
    thresholds: dict[str, float] = Field({}, exclude_if=lambda found: not found)
    band_share: float | None = Field(None, exclude_if=lambda share: share is None)
    explore_probability: float | None = Field(None, exclude_if=lambda found: found is None)

    def by_id(self, vocabulary: Sequence[str]) -> np.ndarray:
        """Returns the threshold of every id of the quota's column, percent, float64 [ids].

        Args:
            vocabulary: values of the column, by id from `schema.FIRST_ID` on.
        """
        own = [self.thresholds.get(value, self.threshold) for value in vocabulary]
        return np.array([self.threshold] * FIRST_ID + own, np.float64)

    def of_groups(self, groups: np.ndarray) -> np.ndarray:
        """Returns the threshold of each row, percent, by its group, text [rows]."""
        return np.array([self.thresholds.get(one, self.threshold) for one in groups], np.float64)


class Explore(BaseModel):
    """Exploration of items that may prove better than their scores.

    Attributes:
        salt: 32 hexadecimal digits, the key of the hash that draws; each model has another one, so
            that another model explores other items.
        share: largest expected share of explored items, in [0, 1].
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    salt: str = Field(pattern="^[0-9a-f]{32}$")
    share: float = Field(ge=0, le=1)


class Decisions(BaseModel):
    """`decision.json`: everything that turns scores into decisions.

    Attributes:
        top_percent: the true top items that `recall` refers to, in percent.
        rules: rules by their text; the first is the default.
        intervals: prediction intervals.
        explore: exploration; None in exports of earlier versions, which explored the whole band.
        others: name of each further output -> its intervals and exploration. `rules` has the rules
            of all outputs, and those of the others are empty.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    top_percent: float
    rules: dict[str, Rule]
    intervals: Intervals
    explore: Explore | None = Field(None, exclude_if=lambda explore: explore is None)
    others: dict[str, Decisions] = Field({}, exclude_if=lambda others: not others)

    def of(self, output: Output) -> Decisions:
        """Returns the decisions by one output, with its own intervals and the rules of all.

        Raises:
            InputError: the export has none.
        """
        if output.name == PREDICTED:
            return self
        if output.name not in self.others:
            raise InputError(
                f"{FILE} has no intervals of {output.name}; export the model again with this "
                "version of mmnet"
            )
        return self.others[output.name].model_copy(update={"rules": self.rules})

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
        kind, value, *_ = parse(name)
        if kind == "threshold":
            nan = float("nan")
            return Rule(kind=kind, value=value, threshold=value, kept_share=nan, recall=nan, n=0)
        raise InputError(
            f"--rule={name} was not solved when this model was trained, only "
            f"{', '.join(self.rules)}{did_you_mean(name, self.rules) or '.'} Train with "
            f"--rules={name}, or set --rule=threshold=PERCENT"
        )

    def output_of(self, name: str, outputs: Sequence[Output]) -> Output:
        """Returns the output that a rule decides by.

        Args:
            name: see `rule`.
            outputs: what the model predicts.

        Raises:
            InputError: the rule names what the model does not predict.
        """
        text = next(iter(self.rules)) if name == "stored" else name
        return output_of(text, outputs, "rule")

    def quota(self, name: str, fitted: Fitted) -> tuple[FieldSpec, np.ndarray] | None:
        """Returns the field of a quota, and the threshold of each of its ids, percent.

        Args:
            name: see `rule`.
            fitted: values that the model was fitted with.

        Returns:
            None for a rule with one threshold.

        Raises:
            InputError: the rule does not exist.
        """
        rule = self.rule(name)
        if not rule.per:
            return None
        (field,) = (field for field in fitted.spec.fields if field.name == rule.per)
        return field, rule.by_id(fitted.vocabularies[field.tensor])

    def explore_probability(self, name: str) -> float:
        """Returns the probability with which a rule explores an item in its band.

        Raises:
            InputError: it was not solved for this rule, or the rule does not exist.
        """
        found = self.rule(name).explore_probability
        if self.explore is None:
            return 1.0
        if found is None:
            raise InputError(
                f"--explore: its probability was not solved for --rule={name} when this model was "
                f"trained; train with --rules={name}, or use one of {', '.join(self.rules)}"
            )
        return found


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
    kind, value, *_ = parse(text)
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


def solve_quota(
    text: str,
    truth: np.ndarray,
    predicted: np.ndarray,
    groups: np.ndarray,
    outputs: Sequence[Output] = (),
) -> Rule:
    """Finds the thresholds of a quota on validation.

    Args:
        text: the rule, `keep=SHARE per COLUMN`.
        truth: share rates, percent, [rows].
        predicted: percent, [rows].
        groups: value of the column, text [rows]; empty where it is not known.
        outputs: see `rules.parse`.

    >>> predicted = np.tile(np.arange(100.0), 2) + np.repeat([0.0, 1000.0], 100)
    >>> found = solve_quota("keep=0.5 per x", predicted, predicted, np.repeat(["a", "b"], 100))
    >>> found.thresholds, found.threshold, found.kept_share
    ({'a': 49.5, 'b': 1049.5}, 549.5, 0.5)
    """
    parsed = parse(text, outputs)
    overall = solve(f"{parsed.kind}={parsed.value!r}", truth, predicted)
    groups = np.asarray(groups, object)
    thresholds = {}
    # Sorted by group once: to look for the rows of each would cost groups × rows.
    codes, names = pd.factorize(groups, sort=True)
    order = np.argsort(codes, kind="stable")
    borders = np.cumsum(np.bincount(codes, minlength=len(names)))[:-1]
    for group, rows in zip(names, np.split(order, borders), strict=True):
        if group and len(rows) >= FEWEST:
            own = solve(f"{parsed.kind}={parsed.value!r}", truth[rows], predicted[rows])
            thresholds[group] = own.threshold
    quota = overall.model_copy(update={"per": parsed.per, "thresholds": thresholds})
    kept = np.asarray(predicted) >= quota.of_groups(groups)
    top = in_top(TOP_PERCENT, np.asarray(truth, np.float64))
    shares = {"kept_share": float(kept.mean()), "recall": float(top[kept].sum() / top.sum())}
    return quota.model_copy(update=shares)


def fit(
    frame: pd.DataFrame,
    rules: Sequence[str],
    *,
    level: float,
    max_rate: float | None,
    explore_share: float = 0.0,
    groups: Mapping[str, np.ndarray] | None = None,
    outputs: Sequence[Output] = (),
) -> Decisions:
    """Solves rules, calibrates intervals, and solves how often their bands are explored.

    Args:
        frame: predictions of the validation rows in all scenarios, see `evaluation.report`. Rules
            are solved on the normal scenario, which is closest to a catalogue.
        rules: texts of the rules.
        level: target coverage of the intervals.
        max_rate: no interval ends above it.
        explore_share: see `Explore.share`.
        groups: column of a quota -> its value in each row of the normal scenario, text [rows];
            empty where it is not known.
        outputs: what the model predicts; see `rules.parse`.
    """
    normal = frame[frame["scenario"] == "normal"]
    truth, predicted = (normal[name].to_numpy() for name in ("share_rate", "predicted_share_rate"))
    explore = Explore(salt=_salt(normal), share=explore_share)
    intervals = conformal.fit(frame, level=level, max_rate=max_rate)
    found = Decisions(top_percent=TOP_PERCENT, rules={}, intervals=intervals, explore=explore)
    _, high = found.bounds(normal["seen_clicks"].to_numpy(), predicted)
    solved = {}
    for text in rules:
        per = parse(text, outputs).per
        if per:
            of_rows = (groups or {})[per]
            rule = solve_quota(text, truth, predicted, of_rows, outputs)
            threshold: Thresholds = rule.of_groups(of_rows)
        else:
            rule = solve(text, truth, predicted)
            threshold = rule.threshold
        band = float(in_band(predicted, threshold, high).mean())
        probability = min(1.0, explore_share / band) if band else 0.0
        # A band without validation rows: nothing is known of its share, so nothing is explored.
        solved[text] = rule.model_copy(
            update={"band_share": band, "explore_probability": probability}
        )
    return found.model_copy(update={"rules": solved})


def joined(
    of_outputs: Mapping[str, Decisions], rules: Sequence[str], outputs: Sequence[Output]
) -> Decisions:
    """Joins the decisions of several outputs, each with the rules that name it.

    Args:
        of_outputs: name of each output -> result of `fit`.
        rules: all rules in the order of `--rules`.
        outputs: what the model predicts, the main prediction first.
    """
    solved = {text: of_outputs[output_of(text, outputs).name].rules[text] for text in rules}
    main, *others = (of_outputs[output.name] for output in outputs)
    further = {
        output.name: one.model_copy(update={"rules": {}})
        for output, one in zip(outputs[1:], others, strict=True)
    }
    return main.model_copy(update={"rules": solved, "others": further})


def _salt(rows: pd.DataFrame) -> str:
    """Returns a salt that depends on the model alone, so that a run can be repeated exactly."""
    digest = hashlib.sha256(b"mmnet explore")
    digest.update(rows["predicted_share_rate"].to_numpy(np.float64).tobytes())
    digest.update("\n".join(map(str, rows["item_id"])).encode())
    return digest.hexdigest()[:32]


def in_band(predicted: np.ndarray, threshold: Thresholds, high: np.ndarray) -> np.ndarray:
    """Returns which rows are in the explore band, bool [rows].

    Args:
        predicted: percent, [rows].
        threshold: of the rule.
        high: upper ends of the prediction intervals, [rows].
    """
    return (np.asarray(predicted) < threshold) & (np.asarray(high) >= threshold)


def decide(
    predicted: np.ndarray, threshold: Thresholds, explored: np.ndarray | None = None
) -> np.ndarray:
    """Returns decisions, text [rows].

    Args:
        predicted: percent, [rows].
        threshold: keep items predicted at this rate or more.
        explored: whether an item that is not kept is explored instead of dropped, bool [rows].

    >>> explored = np.array([False, True, False])
    >>> decide(np.array([3.0, 1.0, 0.1]), 2.0, explored).tolist()
    ['keep', 'explore', 'drop']
    """
    below = np.full(len(predicted), DROP, object)
    if explored is not None:
        below[explored] = EXPLORE
    return np.where(np.asarray(predicted) >= threshold, KEEP, below)


@dataclass(frozen=True)
class Asked:
    """A decision that is asked for.

    Attributes:
        rule: see `Decisions.rule`.
        threshold: of the rule.
        explore: whether items in the band are explored.
        period: number of the predicted period, or one per row.
    """

    rule: str
    threshold: Thresholds
    explore: bool
    period: int | np.ndarray


def add(scores: pa.Table, decisions: Decisions, asked: Asked | None = None) -> pa.Table:
    """Adds interval ends and, if asked, decisions to a table of scores.

    Args:
        scores: table with `item_id`, `predicted_share_rate` and `seen_clicks`.
        decisions: decisions of the export.
        asked: the decision; None adds intervals alone.

    Returns:
        The table with `share_rate_low`, `share_rate_high` (percent) and `decision`; with
        exploration also `propensity`, the probability that the item is kept or explored.

    Raises:
        InputError: the rule does not exist.
    """
    predicted = scores["predicted_share_rate"].to_numpy()
    low, high = decisions.bounds(scores["seen_clicks"].to_numpy(), predicted)
    scores = scores.append_column("share_rate_low", pa.array(low))
    scores = scores.append_column("share_rate_high", pa.array(high))
    if asked is None:
        return scores
    if not asked.explore:
        decided = decide(predicted, asked.threshold)
        return scores.append_column("decision", pa.array(decided, pa.string()))
    band = in_band(predicted, asked.threshold, high)
    probability = decisions.explore_probability(asked.rule)
    explored = band.copy()
    if decisions.explore is not None and probability < 1:
        from mmnet.serving import draws  # imports TensorFlow, which is loaded after flags are read

        ids = scores["item_id"].filter(pa.array(band))
        periods = np.broadcast_to(asked.period, len(band))[band]
        explored[band] = draws.of_items(ids, periods, decisions.explore.salt) < probability
    decided = decide(predicted, asked.threshold, explored)
    propensity = np.where(predicted >= asked.threshold, 1.0, np.where(band, probability, 0.0))
    scores = scores.append_column("decision", pa.array(decided, pa.string()))
    return scores.append_column("propensity", pa.array(propensity))
