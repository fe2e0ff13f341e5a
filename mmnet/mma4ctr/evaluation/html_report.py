"""The page `report.html` of one run of MMa4CTR, made of what its evaluation has found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mmnet.evaluation.classification import Scored, auc_influence, measures
from mmnet.evaluation.html_page import (
    Block,
    Page,
    Plot,
    Row,
    Section,
    Table,
    Text,
    Tile,
    count,
    facts,
    number,
    number_text,
    percent,
    percent_text,
)
from mmnet.evaluation.html_report import provenance
from mmnet.evaluation.metrics import calibration_by_decile
from mmnet.evaluation.significance import Estimate
from mmnet.mma4ctr.evaluation.metrics import RAW
from mmnet.mma4ctr.evaluation.report import Report

METRICS = {
    "auc": "AUC",
    "user_auc": "User AUC",
    "pr_auc": "PR-AUC",
    "log_loss": "LogLoss",
    "log_loss_calibrated": "Calibrated",
}
LOWER_IS_BETTER = ("log_loss", "log_loss_calibrated")
PLANTED = "planted probability"
"""The truth of a generated log, which no system can be expected to reach."""
CAPTIONS = {
    "roc.png": "ROC curves of the model and of smoothed rates.",
    "training.png": "Loss and validation AUC by epoch.",
    "rows.png": "How many users and items have how many rows.",
}


@dataclass(frozen=True)
class Evaluated:
    """Results that an evaluation hands over.

    Attributes:
        report: content of metrics.json.
        rows: `label`, `probability`, `calibrated_probability` and `user_id` of the test rows.
        label: what a 1 means.
        figures: file name -> figure.
        record: content of record.json, or the part known so far.
        remarks: sentences on why numbers may be meaningless.
    """

    report: Report
    rows: Mapping[str, np.ndarray]
    label: str
    figures: Mapping[str, Figure]
    record: Mapping[str, Any]
    remarks: Sequence[str] = ()

    def plots(self, *names: str) -> list[Block]:
        """Existing figures by file name."""
        return [
            Plot(name, CAPTIONS[name], self.figures[name]) for name in names if name in self.figures
        ]


def auc_interval(rows: Mapping[str, np.ndarray], auc: float) -> Estimate | None:
    """Estimate the 95 % interval of the AUC, clustered by user.

    Args:
        rows: see `Evaluated`.
        auc: of the rows.

    Returns:
        The interval; None where the rows are of one label or of one user.
    """
    if len(np.unique(rows["label"])) < 2 or len(np.unique(rows["user_id"])) < 2:
        return None
    scored = Scored(
        rows["label"], rows["probability"], rows["calibrated_probability"], rows["user_id"]
    )
    found = measures({"model": [scored]}, {"auc": {"model": [auc]}}, {"auc": auc_influence})
    return found["test", "auc"].interval("model")


def page(found: Evaluated) -> Page:
    """Make the page of one run."""
    report, test = found.report, found.report.test
    users = len(np.unique(found.rows["user_id"]))
    interval = auc_interval(found.rows, test["auc"])
    subtitle = (
        f"Predicts the label “{found.label}” of a user and an item; tested on {test['rows']:,} "
        f"rows of {users:,} users, protocol {report.protocol}"
    )
    sections = [
        Section("What was predicted", _task(found, users)),
        Section("Compared with rates", _comparison(found, interval)),
        Section("Calibration", _calibration(found)),
        Section("Training", [*found.plots("training.png"), *_epochs(report)]),
        Section("Users and items", found.plots("rows.png")),
        Section("Model card", _card(found)),
        Section("Provenance", provenance(found.record)),
        Section("Terms", _terms()),
    ]
    summary = [
        *_summary(report, interval),
        *(f"{one[0].upper()}{one[1:]}" for one in found.remarks),
    ]
    return Page(f"Report: {report.title}", subtitle, summary, _tiles(report, interval), sections)


def _best(report: Report, metric: str) -> tuple[str, float] | None:
    """The best reference that a user could have: the planted probability is none."""
    values = {
        name: scores[metric]
        for name, scores in report.references.items()
        if name != PLANTED and np.isfinite(scores[metric])
    }
    if not values:
        return None
    best = (min if metric in LOWER_IS_BETTER else max)(values, key=values.__getitem__)
    return best, values[best]


def _summary(report: Report, interval: Estimate | None) -> list[str]:
    test, found = report.test, []
    if (best := _best(report, "auc")) is not None:
        ends = f" (95 % interval {interval.low:.4f} to {interval.high:.4f})" if interval else ""
        change = test["auc"] - best[1]
        found.append(
            f"The model's AUC is {test['auc']:.4f}{ends}: {abs(change):.4f} "
            f"{'above' if change > 0 else 'below'} the best of the rates "
            f"({best[0]}, {best[1]:.4f}). 0.5 is chance."
        )
    if np.isfinite(test["user_auc"]):
        found.append(
            f"Within one user's rows, the AUC is {test['user_auc']:.4f} on average over "
            f"{test['users_with_both']:,} users: a score that only distinguishes users has 0.5."
        )
    found.append(
        f"{percent_text(test['positives'] / test['rows'])} of the test rows are positive. The "
        f"calibrated LogLoss is {test['log_loss_calibrated']:.4f}, compared with "
        f"{test['log_loss_of_base_rate']:.4f} for that share alone."
    )
    if RAW in test:
        found.append(
            f"RecBole's LogLoss, of the model's outputs as they are, is {test[RAW]:.4f}. Outputs "
            "need not be probabilities, so it does not compare models."
        )
    return found


def _tiles(report: Report, interval: Estimate | None) -> list[Tile]:
    tiles = []
    for metric in ("auc", "user_auc", "log_loss_calibrated"):
        best = _best(report, metric)
        note = f"best rate: {best[1]:.4f}" if best else ""
        if metric == "auc" and interval:
            note = f"95 %: {interval.low:.4f} to {interval.high:.4f}; {note}"
        title = "LogLoss, calibrated" if metric == "log_loss_calibrated" else METRICS[metric]
        tiles.append(Tile(title, number_text(report.test[metric]), note))
    return tiles


def _task(found: Evaluated, users: int) -> list[Block]:
    test, flags = found.report.test, found.record.get("flags", {})
    pairs = [
        ("Predicted", f"probability of the label “{found.label}”"),
        ("Source", flags.get("source")),
        ("Protocol", found.report.protocol),
        ("Test rows", f"{test['rows']:,}, {test['positives']:,} of them positive"),
        ("Test users", f"{users:,}"),
        ("Columns of a row of features", found.report.in_features or None),
    ]
    return [facts("Task", pairs)]


def _comparison(found: Evaluated, interval: Estimate | None) -> list[Block]:
    report = found.report
    systems = {report.title: report.test, **report.references}
    rows: list[Row] = []
    for name, scores in systems.items():
        row: Row = [name]
        for metric in METRICS:
            texts = [
                f"{one[metric]:.4f}"
                for other, one in systems.items()
                if np.isfinite(one[metric]) and other != PLANTED
            ]
            best = (min if metric in LOWER_IS_BETTER else max)(map(float, texts), default=None)
            value = scores[metric]
            text = f"{value:.4f}" if np.isfinite(value) else ""
            strong = bool(text) and name != PLANTED and float(text) == best
            row.append(number(value, text=text, strong=strong))
        rows.append([*row, count(int(scores["rows"])), count(int(scores["positives"]))])
    header = ["System", *METRICS.values(), "Rows", "Positives"]
    blocks: list[Block] = [
        Table("The model and rates that need no network, on the same test rows", header, rows)
    ]
    if interval:
        blocks.append(
            Text(
                f"The 95 % interval of the model's AUC, {interval.low:.4f} to {interval.high:.4f}, "
                "is clustered by user and does not cover another training seed."
            )
        )
    return blocks + found.plots("roc.png")


def _calibration(found: Evaluated) -> list[Block]:
    truth, predicted = found.rows["label"], found.rows["calibrated_probability"]
    deciles = calibration_by_decile(100.0 * truth, 100.0 * predicted)
    rows: list[Row] = [
        [
            number(row["decile"], text=f"{row['decile']:.0f}"),
            count(int(row["n"])),
            percent(row["mean_predicted"] / 100),
            percent(row["mean_true"] / 100),
        ]
        for row in deciles.to_dict("records")
    ]
    header = ["Tenth", "Rows", "Predicted", "Positive"]
    return [
        Text(
            "Rows in order of their calibrated probability, cut into ten parts of equal size. The "
            "calibration was fitted to validation rows."
        ),
        Table("Predicted and observed share of positives by tenth", header, rows),
    ]


def _epochs(report: Report) -> list[Block]:
    if not report.at_epoch:
        return []
    rows: list[Row] = [
        [
            number(int(epoch), text=epoch),
            *(number(scores[metric], text=f"{scores[metric]:.4f}") for metric in METRICS),
        ]
        for epoch, scores in report.at_epoch.items()
    ]
    return [Table("Test metrics by epoch", ["Epoch", *METRICS.values()], rows)]


def _card(found: Evaluated) -> list[Block]:
    report = found.report
    pairs = [
        ("Model", f"{report.title}, seed {report.seed}"),
        ("Parameters", f"{report.parameters:,}"),
        ("Best epoch", report.epoch),
        (
            "Meant for",
            f"ranking items for a user by the probability of “{found.label}”, on the log that it "
            "was trained on",
        ),
        (
            "Not meant for",
            "other logs, users or items without training again; decisions about people; "
            "conclusions on cause: a click depends on what was shown",
        ),
    ]
    return [facts("Model card", pairs)]


def _terms() -> list[Block]:
    return [
        facts(
            "Terms",
            {
                "AUC": "probability that a positive row scores higher than a negative one; 0.5 is "
                "chance",
                "User AUC": "mean over users of the AUC of their own rows",
                "PR-AUC": "mean precision over the positive rows; a constant score has the share "
                "of positives",
                "LogLoss": "mean of −ln of the probability that was given to what happened; lower "
                "is better",
                "Calibrated": "LogLoss after a logistic curve, fitted to validation rows",
                "User rate, item rate": "smoothed share of positives of the user or the item",
            }.items(),
        )
    ]
