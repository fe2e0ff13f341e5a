"""Compares a filter by score with the best possible filter and with simple rules.

`sweep` moves the threshold over one score; `replay` compares the pools that several scores choose
at equal size. Intervals are percentiles of a bootstrap of items, thresholds and pools held fixed:
they include the sampling error of the items in the log, but not that of training.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mmnet import checks
from mmnet.evaluation import plots
from mmnet.evaluation.precision import TOP_PERCENT, in_top
from mmnet.evaluation.report import markdown_table
from mmnet.evaluation.significance import Clusters
from mmnet.files import write_atomic

KEPT_SHARES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.02)
POOL_SHARES = (0.5, 0.3, 0.2, 0.1, 0.05)
REPLICATES = 200
CONFIDENCE = 0.95


def sweep(
    truth: np.ndarray,
    predicted: np.ndarray,
    item: np.ndarray,
    *,
    kept_shares: Sequence[float] = KEPT_SHARES,
    thresholds: Sequence[float] = (),
    top_percent: float = TOP_PERCENT,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure what each threshold keeps, that is, the rows with predicted >= threshold.

    Args:
        truth: share rates, percent, [rows].
        predicted: scores, [rows].
        item: item of each row, [rows].
        kept_shares: shares of the rows to keep, each of which defines a threshold; more rows are
            kept if scores are tied.
        thresholds: more thresholds, as they are.
        top_percent: share of the rows that counts as the best, by true rate; ties count by their
            expectation.
        replicates: number of bootstrap replicates over items; 0 leaves the intervals NaN.
        seed: seed of the bootstrap.

    Returns:
        One row per threshold, falling: `threshold`, `kept_share`, `recall` (share of the true top
        that is kept), `pool_rate` (mean true rate of what is kept, percent), `oracle_rate` (that of
        the same number of rows with the highest true rates) and `regret` (their difference); and
        `<name>_low`, `<name>_high` of recall, pool_rate and regret. A threshold that keeps nothing
        has the recall 0 and no rates, NaN.

    >>> truth, predicted = np.array([1.0, 2, 3, 4]), np.array([1.0, 3, 2, 4])
    >>> found = sweep(truth, predicted, np.arange(4), kept_shares=[0.5], top_percent=25)
    >>> found[["threshold", "kept_share", "recall", "pool_rate", "oracle_rate", "regret"]]
       threshold  kept_share  recall  pool_rate  oracle_rate  regret
    0        3.0         0.5     1.0        3.0          3.5     0.5
    """
    truth, predicted = (np.asarray(values, np.float64) for values in (truth, predicted))
    checks.same_shape(truth=truth, predicted=predicted, item=np.asarray(item))
    order = np.argsort(-predicted, kind="stable")
    falling = predicted[order]
    wanted = [falling[max(1, round(share * len(falling))) - 1] for share in kept_shares]
    levels = np.unique([*wanted, *thresholds])[::-1]
    ends = np.searchsorted(-falling, -levels, side="right")  # rows kept at each
    sums = _Sums(truth, in_top(top_percent, truth), order, ends)
    value = sums(np.ones((len(truth), 1)))
    table = pd.DataFrame({"threshold": levels, "kept_share": ends / len(truth)})
    drawn: dict[str, np.ndarray] = {}
    if replicates:
        parts = [sums(weights) for weights in Clusters(item).resample(replicates, seed)]
        drawn = {name: np.concatenate([part[name] for part in parts], axis=1) for name in value}
    for name in ("recall", "pool_rate", "oracle_rate", "regret"):
        table[name] = value[name][:, 0]
        if name != "oracle_rate":
            ends_of = _percentiles(drawn[name]) if replicates else (np.nan, np.nan)
            table[f"{name}_low"], table[f"{name}_high"] = ends_of
    return table


class _Sums:
    """Recall, pool rate and regret of all thresholds under bootstrap weights of the rows."""

    def __init__(self, truth: np.ndarray, top: np.ndarray, order: np.ndarray, ends: np.ndarray):
        self._order, self._ends = order, ends
        self._truth, self._top = truth[order], top[order]
        self._best = np.argsort(-truth, kind="stable")
        self._best_truth = truth[self._best]

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """From weights [rows, replicates] to [thresholds, replicates] each."""
        kept = self._kept(weights[self._order])
        rates = self._kept(weights[self._order] * self._truth[:, None])
        found = self._kept(weights[self._order] * self._top[:, None])
        total = np.sum(weights[self._order] * self._top[:, None], axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            pool, recall = rates / kept, found / total
            oracle = self._best_of(weights[self._best], kept) / kept
        return {
            "recall": recall,
            "pool_rate": pool,
            "oracle_rate": oracle,
            "regret": oracle - pool,
        }

    def _kept(self, weighted: np.ndarray) -> np.ndarray:
        # Rows are in falling order of score, so what a threshold keeps is a prefix.
        sums = np.cumsum(weighted, axis=0)
        return np.concatenate([np.zeros((1, sums.shape[1])), sums])[self._ends]

    def _best_of(self, weights: np.ndarray, number: np.ndarray) -> np.ndarray:
        """The largest sum of true rates that rows of this total weight can have."""
        weight = np.cumsum(weights, axis=0)
        rates = np.cumsum(weights * self._best_truth[:, None], axis=0)
        # A resampled row counts several times, so the last one may be kept in part: the sum is
        # linear in between.
        columns = [
            np.interp(number[:, i], np.r_[0, weight[:, i]], np.r_[0, rates[:, i]])
            for i in range(weights.shape[1])
        ]
        return np.stack(columns, axis=1)


def _percentiles(drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    tail = (1 - CONFIDENCE) / 2
    # A resample may hold none of the top rows; it is left out where a value is not defined.
    with warnings.catch_warnings():  # NumPy warns if no resample defines a value, which is NaN
        warnings.simplefilter("ignore", RuntimeWarning)
        low, high = np.nanquantile(drawn, [tail, 1 - tail], axis=-1)
    return low, high


def replay(
    truth: np.ndarray,
    item: np.ndarray,
    period: np.ndarray,
    scores: Mapping[str, np.ndarray],
    *,
    pool_shares: Sequence[float] = POOL_SHARES,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare the pools that several scores choose, period by period and at equal size.

    The paper's A/B question asked of a log: had each rule filtered the candidates of every period
    of a span that it never saw, what would the mean share rate of the items in its pool be? Equal
    scores are drawn at random, so the result is an expectation.

    Args:
        truth: share rates, percent, [rows].
        item: item of each row, [rows].
        period: the target's period, [rows].
        scores: rule -> what it orders by, the highest first, [rows]; the first is the reference.
        pool_shares: share of each period's rows that a pool holds.
        replicates: number of bootstrap replicates over items.
        seed: seed of the bootstrap.

    Returns:
        `pool_share`, `rule`, `pool_rate` with `pool_rate_low` and `_high`, and `gain`, the
        reference's rate minus the rule's, with `gain_low` and `gain_high` of the paired difference.

    >>> table = replay(np.array([1.0, 5, 2, 4]), np.arange(4), np.array([0, 0, 1, 1]),
    ...                {"model": np.array([0, 1, 0, 1]), "clicks": np.array([9, 1, 9, 1])},
    ...                pool_shares=[0.5])
    >>> table[["rule", "pool_rate", "gain"]]
         rule  pool_rate  gain
    0   model        4.5   0.0
    1  clicks        1.5   3.0
    """
    truth = np.asarray(truth, np.float64)
    _, number = np.unique(np.asarray(period), return_inverse=True)
    groups = [np.flatnonzero(number == one) for one in range(number.max() + 1)]
    keys = [(share, rule) for share in pool_shares for rule in scores]
    chosen = np.zeros((len(keys), len(truth)))
    for line, (share, rule) in zip(chosen, keys, strict=True):
        score = np.asarray(scores[rule], np.float64)
        for group in groups:
            line[group] = in_top(100 * share, score[group])
    value = chosen @ truth / chosen.sum(axis=1)
    with np.errstate(invalid="ignore"):  # a resample may hold nothing of a pool
        parts = [
            (chosen * truth) @ weights / (chosen @ weights)
            for weights in Clusters(item).resample(replicates, seed)
        ]
    drawn = np.concatenate(parts, axis=1)
    first = np.arange(len(keys)) // len(scores) * len(scores)  # the reference of the same share
    low, high = _percentiles(drawn)
    gain_low, gain_high = _percentiles(drawn[first] - drawn)
    table = pd.DataFrame(keys, columns=["pool_share", "rule"])
    table["pool_rate"], table["pool_rate_low"], table["pool_rate_high"] = value, low, high
    table["gain"] = value[first] - value
    table["gain_low"], table["gain_high"] = gain_low, gain_high
    return table


def rule_scores(frame: pd.DataFrame, predictions: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """Scores by which simple rules order the rows of one scenario, where they are known.

    Args:
        frame: predictions of one scenario, see `report`.
        predictions: name of a simple baseline -> its predictions of the same rows.
    """
    names = {
        "last_rate": "last rate",
        "ha": "mean rate so far",
        "ha_taxonomy": "mean rate, new items by taxonomy",
        "taxonomy_mean": "rate of the taxonomy",
    }
    found = {
        told: predictions[name]["predicted_share_rate"].to_numpy(float)
        for name, told in names.items()
        if name in predictions
    }
    if "seen_clicks" in frame:
        found["most clicks"] = frame["seen_clicks"].to_numpy(float)
    if "age_periods" in frame:
        found["newest"] = -frame["age_periods"].to_numpy(float)
    return found


# --------------------------------------------------------------------------------- the report


@dataclass(frozen=True)
class Applied:
    """Thresholds of a rule.

    Attributes:
        threshold: keep rows predicted at this rate or more, percent; of a quota, what is shown.
        of_rows: of a quota: the threshold of each row of a scenario, percent, [rows].
    """

    threshold: float
    of_rows: np.ndarray | None = None


def write(
    directory: Path,
    frame: pd.DataFrame,
    floors: Mapping[str, pd.DataFrame],
    rules: Mapping[str, Applied],
    coverage: pd.DataFrame,
    *,
    system: str,
    level: float,
    others: Mapping[str, tuple[pd.DataFrame, Mapping[str, Applied]]] | None = None,
    replicates: int = REPLICATES,
) -> tuple[dict[str, Any], Figure | None]:
    """Write decision.json, decision.md and decision.png: what the filter would have done.

    Args:
        directory: directory of the evaluation.
        frame: the system's predictions of the test rows, all scenarios, see `report`.
        floors: name -> predictions of the same rows, in the same order.
        rules: name -> its thresholds, solved on validation.
        coverage: coverage of prediction intervals, see `conformal.coverage`.
        system: its name.
        level: that the intervals are calibrated for.
        others: name of a further output -> its predictions, and the rules that decide by it.
        replicates: number of bootstrap replicates.

    Returns:
        The content of decision.json, and the figure; empty and None for rows of one item, which
        has no interval.
    """
    sweeps, applied, pools = {}, {}, {}
    for scenario, rows in plots.by_scenario(frame).items():
        truth, predicted = rows["share_rate"].to_numpy(), rows["predicted_share_rate"].to_numpy()
        item = rows["item_id"].to_numpy()
        if len(np.unique(item)) < 2:
            return {}, None
        sweeps[scenario] = sweep(truth, predicted, item, replicates=replicates)
        applied[scenario] = _applied(rows, rules, replicates)
        parts = {name: plots.by_scenario(other)[scenario] for name, other in floors.items()}
        pools[scenario] = replay(
            truth,
            item,
            rows["period"].to_numpy(),
            {system: predicted, **rule_scores(rows, parts)},
            replicates=replicates,
        )
    found: dict[str, Any] = {
        name: {scenario: _records(table) for scenario, table in tables.items()}
        for name, tables in {"rules": applied, "sweep": sweeps, "replay": pools}.items()
    }
    found |= {"coverage": _records(coverage), "level": level, "top_percent": TOP_PERCENT}
    of_others = {
        name: {
            scenario: _applied(rows, own, replicates)
            for scenario, rows in plots.by_scenario(predictions).items()
        }
        for name, (predictions, own) in (others or {}).items()
        if own and predictions["item_id"].nunique() > 1
    }
    if of_others:
        found["others"] = {
            name: {scenario: _records(table) for scenario, table in tables.items()}
            for name, tables in of_others.items()
        }
    write_atomic(directory / "decision.json", json.dumps(found, indent=1) + "\n")
    text = _text(applied, of_others, sweeps, pools, coverage, level)
    write_atomic(directory / "decision.md", text)
    figure = plots.filter_plot(sweeps, pools)
    plots.write_figure(directory / "decision.png", figure)
    return found, figure


def _applied(rows: pd.DataFrame, rules: Mapping[str, Applied], replicates: int) -> pd.DataFrame:
    """What each rule keeps of the rows of one scenario."""
    truth, predicted = rows["share_rate"].to_numpy(), rows["predicted_share_rate"].to_numpy()
    item = rows["item_id"].to_numpy()
    single = [rule.threshold for rule in rules.values() if rule.of_rows is None]
    table = _at(truth, predicted, item, single, replicates) if single else pd.DataFrame()
    lines = []
    for name, rule in rules.items():
        line, score, at = table, predicted, rule.threshold
        if rule.of_rows is not None:  # of a score's distance from its own threshold
            score, at = predicted - rule.of_rows, 0.0
            line = _at(truth, score, item, [at], replicates)
        told = {**line.loc[at], **kept(truth, score, item, at)}
        lines.append({"rule": name, "threshold": rule.threshold, **told})
    return pd.DataFrame(lines)


def _at(
    truth: np.ndarray,
    predicted: np.ndarray,
    item: np.ndarray,
    thresholds: Sequence[float],
    replicates: int,
) -> pd.DataFrame:
    found = sweep(
        truth, predicted, item, kept_shares=(), thresholds=thresholds, replicates=replicates
    )
    return found.set_index("threshold")


def kept(
    truth: np.ndarray, predicted: np.ndarray, item: np.ndarray, threshold: float
) -> dict[str, Any]:
    """Count what a threshold keeps and loses, in rows, in items and in rate.

    Args:
        truth: share rates, percent, [rows].
        predicted: scores, [rows].
        item: item of each row, [rows].
        threshold: a row with predicted >= threshold is kept.

    Returns:
        `kept_rows` and `lost_rows`; `kept_items`, those with a row that is kept, and `lost_items`;
        `lost_rate`, the mean true rate of what is lost, percent, NaN where nothing is.

    >>> kept(np.array([4.0, 1, 2]), np.array([3.0, 1, 1]), np.array(["a", "a", "b"]), 2.0)
    {'kept_rows': 1, 'lost_rows': 2, 'kept_items': 1, 'lost_items': 1, 'lost_rate': 1.5}
    """
    inside = np.asarray(predicted) >= threshold
    items = len(np.unique(item[inside]))
    return {
        "kept_rows": int(inside.sum()),
        "lost_rows": int((~inside).sum()),
        "kept_items": items,
        "lost_items": len(np.unique(item)) - items,
        "lost_rate": float(truth[~inside].mean()) if not inside.all() else float("nan"),
    }


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON has them: NaN is null."""
    return json.loads(table.to_json(orient="records", double_precision=10))


def _text(
    applied: Mapping[str, pd.DataFrame],
    others: Mapping[str, Mapping[str, pd.DataFrame]],
    sweeps: Mapping[str, pd.DataFrame],
    pools: Mapping[str, pd.DataFrame],
    coverage: pd.DataFrame,
    level: float,
) -> str:
    parts = [
        "# Filter decisions\n",
        f"All figures are from test rows; thresholds come from validation. Recall is the share of "
        f"the true top {TOP_PERCENT} % that is kept. Pool is the mean true share rate of the rows "
        "kept, in percent; oracle is that of as many rows with the highest true rates; regret is "
        "the difference. Brackets hold 95 % intervals from a bootstrap of items.\n",
        "## The rules\n",
        _sweep_text(applied, "rule", "Rule"),
        *(
            f"## The rules of {name}\n\n{_sweep_text(tables, 'rule', 'Rule')}"
            for name, tables in others.items()
        ),
        "## Every threshold\n",
        _sweep_text(sweeps, "kept_share", "Wanted"),
        "## Pools of equal size, chosen per period\n",
        "Mean true share rate of the pool in percent; gain is the model's minus the rule's.\n",
    ]
    parts.append(_pools_text(pools))
    parts += [
        f"## Coverage of the {level:.0%} prediction intervals\n",
        "The intervals are split-conformal, calibrated on validation by scenario and clicks seen "
        "in the window. ± is the standard error over a sample of items; the error of calibration "
        "comes on top.\n",
        markdown_table(
            ["Scenario", "Clicks seen", "n", "Items", "Coverage", "Mean width"],
            [
                [
                    plots.TITLES[row.scenario],
                    row.clicks,
                    f"{row.n:,}",
                    f"{row.items:,}",
                    f"{row.coverage:.1%}"
                    + (f" ± {row.standard_error:.1%}" if row.items > 1 else ""),
                    f"{row.mean_width:.3g}",
                ]
                for row in coverage.itertuples()
            ],
        ),
    ]
    return "\n".join(parts)


def _pools_text(pools: Mapping[str, pd.DataFrame]) -> str:
    header = ["Pool", "Rule"]
    columns = []
    for scenario, table in pools.items():
        header += [f"{plots.TITLES[scenario]} rate", f"{plots.TITLES[scenario]} gain"]
        columns.append(
            [
                (
                    _interval(row.pool_rate, row.pool_rate_low, row.pool_rate_high),
                    _interval(row.gain, row.gain_low, row.gain_high) if row.gain_low else "–",
                )
                for row in table.itertuples()
            ]
        )
    first = next(iter(pools.values()))
    return markdown_table(
        header,
        [
            [f"{row.pool_share:.0%}", row.rule, *(cell for column in columns for cell in column[n])]
            for n, row in enumerate(first.itertuples())
        ],
    )


def _sweep_text(tables: Mapping[str, pd.DataFrame], label: str, title: str) -> str:
    header = ["Scenario", title, "Threshold", "Kept", "Recall", "Pool", "Oracle", "Regret"]
    lines = [
        [
            plots.TITLES[scenario],
            f"{row[label]:.0%}" if label == "kept_share" else row[label],
            f"{row['threshold']:.4g}",
            f"{row['kept_share']:.1%}",
            _interval(row["recall"], row["recall_low"], row["recall_high"], 3),
            _interval(row["pool_rate"], row["pool_rate_low"], row["pool_rate_high"]),
            f"{row['oracle_rate']:.3g}",
            _interval(row["regret"], row["regret_low"], row["regret_high"]),
        ]
        for scenario, table in tables.items()
        for row in table.to_dict("records")
    ]
    return markdown_table(header, lines)


def _interval(value: float, low: float, high: float, digits: int | None = None) -> str:
    if not np.isfinite(value):
        return "–"
    shown = ".3g" if digits is None else f".{digits}f"
    return f"{value:{shown}} [{low:{shown}}, {high:{shown}}]"
