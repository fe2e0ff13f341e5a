"""Sections of the page `report.html`: comparison, filter, calibration, errors, lost inputs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from mmnet.evaluation import plots
from mmnet.evaluation.error_tables import SECTIONS
from mmnet.evaluation.html_page import (
    Block,
    Plot,
    Row,
    Table,
    Text,
    count,
    number,
    number_text,
    percent,
    percent_text,
)
from mmnet.schema import SCENARIOS

SCENARIO_TEXTS = {
    "normal": "every item with the history that it has",
    "cold_start": "every item as if it were new, without any history",
    "noisy": "a random part of every history is missing",
}
METRICS = {"mse": "MSE", "precision_at_5": "P@5", "precision_at_10": "P@10"}
LOWER_IS_BETTER = "mse"
RULES = {
    "last_rate": "last rate seen",
    "ha": "mean rate so far",
    "ha_taxonomy": "mean rate so far, new items by taxonomy",
    "taxonomy_mean": "mean rate of the taxonomy",
}
"""Simple baselines by name, in words."""


@dataclass(frozen=True)
class Evaluated:
    """Results that an evaluation hands over.

    Attributes:
        system: name of the system; the first key of `systems`.
        systems: name -> content of metrics.json.
        rows: predictions of the test rows, see `report`.
        numerator: what is counted.
        denominator: per hundred of what.
        errors: what rows were grouped by -> `group`, `n`, a column per scenario, and
            `sampling_noise_mse`; where a filter rule is known, `kept_<scenario>`.
        calibration: scenario -> see `metrics.calibration_by_decile`.
        outage: see `report.Probes`.
        gates: kind -> scenario -> name -> mean weight.
        figures: file name -> figure.
        decision: content of decision.json; empty without one.
        intervals: content of intervals.json, see `intervals.estimate`; empty without one.
        record: content of record.json, or the part known so far; empty without one.
        remarks: sentences on why numbers may be meaningless.
        further: header and rows of the table of further outputs; no rows for a single output.
    """

    system: str
    systems: Mapping[str, Mapping[str, Any]]
    rows: pd.DataFrame
    numerator: str
    denominator: str
    errors: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    calibration: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    outage: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    gates: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    figures: Mapping[str, Figure] = field(default_factory=dict)
    decision: Mapping[str, Any] = field(default_factory=dict)
    intervals: Mapping[str, Any] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)
    remarks: Sequence[str] = ()
    further: tuple[Sequence[str], Sequence[Sequence[str]]] = ((), ())

    @property
    def flags(self) -> Mapping[str, Any]:
        """Flags of the run; empty without a record."""
        return self.record.get("flags", {})

    @property
    def rate(self) -> str:
        """The rate in words."""
        return f"{self.numerator} per 100 {self.denominator}"

    @property
    def own(self) -> Mapping[str, Any]:
        """Metrics of the system."""
        return self.systems[self.system]

    def best_rule(self, scenario: str, metric: str) -> tuple[str, float] | None:
        """The best of the other systems in one metric, and its value; None without any."""
        values = {
            name: found[scenario][metric]
            for name, found in self.systems.items()
            if name != self.system and found[scenario][metric] is not None
        }
        if not values:
            return None
        best = (min if metric == LOWER_IS_BETTER else max)(values, key=values.__getitem__)
        return best, values[best]

    def plots(self, captions: Mapping[str, str]) -> list[Block]:
        """Existing figures by file name, with their captions."""
        return [
            Plot(name, caption, self.figures[name])
            for name, caption in captions.items()
            if name in self.figures
        ]


def comparison(found: Evaluated) -> list[Block]:
    """Compare the system with simple baselines, with intervals, and as history is hidden."""
    blocks: list[Block] = [
        Text(
            "A lower MSE and a higher P@N are better; the best of a column is marked. P@N is the "
            "part of the true top N % of the rows that is in the predicted top N %: by chance it "
            "is N %."
        ),
        _systems_table(found),
    ]
    if found.intervals:
        blocks.append(_differences_table(found))
        blocks.append(
            Text(
                "Intervals resample the test items, since the rows of one item rise and fall "
                "together. They do not count how another training seed would have come out."
            )
        )
    return blocks + found.plots(
        {
            "degradation.png": "Test score as ever more of the history is hidden: 0 is the normal "
            "scenario, 1 is cold-start. The band is the 95 % interval of the MSE by test item; it "
            "does not hold the variance between seeds."
        }
    )


def other_outputs(found: Evaluated) -> list[Block]:
    """Metrics of the horizons and rates that the network predicts besides the main output."""
    header, rows = found.further
    return [
        Text(
            "The same network predicts these as well. Each is tested on the rows that have a "
            "target of it; the rest of this page is about the main output."
        ),
        Table("Further outputs of the system", header, [list(row) for row in rows]),
    ]


def _systems_table(found: Evaluated) -> Table:
    columns = [(scenario, metric) for scenario in SCENARIOS for metric in METRICS]
    shown = {
        (scenario, metric): [
            number_text(one[scenario][metric], fixed=metric != "mse")
            for one in found.systems.values()
        ]
        for scenario, metric in columns
    }
    rows: list[Row] = []
    for place, (name, metrics) in enumerate(found.systems.items()):
        row: Row = [f"{name}: {RULES[name]}" if name in RULES else name]
        for scenario, metric in columns:
            texts = shown[scenario, metric]
            known = [float(text) for text in texts if text != "–"]
            best = (min if metric == LOWER_IS_BETTER else max)(known, default=None)
            own = texts[place]
            strong = own != "–" and float(own) == best and len(found.systems) > 1
            tied = "†" if metric in metrics[scenario].get("tied", ()) else ""
            value = metrics[scenario][metric]
            row.append(number(value, text=own + tied, strong=strong))
        rows.append([*row, count(metrics["normal"]["n"])])
    groups = [("", 1), *((plots.TITLES[s], len(METRICS)) for s in SCENARIOS), ("", 1)]
    ties = any(one[s].get("tied") for one in found.systems.values() for s in SCENARIOS)
    note = " († ties decide the true top)" if ties else ""
    header = ["System", *(METRICS[metric] for _, metric in columns), "Rows"]
    return Table(
        f"The system and simple baselines on the same test rows{note}", header, rows, groups
    )


def _differences_table(found: Evaluated) -> Table:
    rows: list[Row] = []
    for scenario, metrics in found.intervals.items():
        for metric, one in metrics.items():
            value = found.own[scenario][metric]
            fixed = metric != "mse"
            ends = ends_of(one["low"], one["high"], fixed)
            row: Row = [f"{plots.TITLES[scenario]} {METRICS[metric]}"]
            row.append(number(value, text=f"{number_text(value, fixed)} {ends}"))
            for other in one["difference"].values():
                text = (
                    f"{signed(other['value'], fixed)} {ends_of(other['low'], other['high'], fixed)}"
                )
                row.append(number(other["value"], text=text))
            rows.append(row)
    first = next(iter(next(iter(found.intervals.values())).values()))
    header = ["Metric", found.system, *(f"minus {name}" for name in first["difference"])]
    return Table("95 % intervals, and differences from each simple baseline", header, rows)


def ends_of(low: float | None, high: float | None, fixed: bool = False) -> str:
    """An interval; empty where it is not known."""
    if low is None or high is None:
        return ""
    return f"[{_short(low, fixed)}, {_short(high, fixed)}]"


def _short(value: float, fixed: bool) -> str:
    """Three decimals, or else three digits."""
    if fixed or abs(value) < 0.1:
        return number_text(value, fixed)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}"


def signed(value: float, fixed: bool) -> str:
    """A difference as `number_text`, with its sign."""
    text = number_text(value, fixed)
    return text if text.startswith("-") or not value else f"+{text}"


def calibration(found: Evaluated) -> list[Block]:
    """Show predicted and true rates, and how often intervals hold the truth."""
    blocks: list[Block] = [
        Text(
            "Rows are put in order of their predicted rate and cut into ten parts of equal size. "
            "Where predictions are calibrated, the mean true rate of each part is its mean "
            "predicted rate."
        ),
        *found.plots(
            {
                "calibration.png": "Mean true rate over mean predicted rate, by tenths of the "
                "rows; the dashed line is a perfect forecast."
            }
        ),
    ]
    if found.calibration:
        tables = list(found.calibration.values())
        rows: list[Row] = [
            [
                number(place + 1, text=str(place + 1)),
                count(tables[0]["n"].iloc[place]),
                *(
                    number(table[name].iloc[place])
                    for table in tables
                    for name in ("mean_predicted", "mean_true")
                ),
            ]
            for place in range(min(map(len, tables)))
        ]
        groups = [("", 2), *((plots.TITLES[scenario], 2) for scenario in found.calibration)]
        header = ["Tenth", "Rows", *(t for _ in tables for t in ("Predicted, %", "True, %"))]
        blocks.append(Table("Predicted and true rates by tenth", header, rows, groups))
    if coverage := found.decision.get("coverage"):
        level = found.decision["level"]
        covered: list[Row] = [
            [
                f"{plots.TITLES[row['scenario']]}, {row['clicks']}",
                count(row["n"]),
                count(row["items"]),
                percent(row["coverage"]),
                percent(row["standard_error"]),
                number(row["mean_width"]),
            ]
            for row in coverage
        ]
        header = [f"Scenario, {found.denominator} seen", "Rows", "Items", "Covered"]
        header += ["Standard error", "Width, %"]
        caption = f"How often the {percent_text(level, 0)} prediction intervals hold the true rate"
        blocks.append(Table(caption, header, covered))
    return blocks


def errors(found: Evaluated) -> list[Block]:
    """Show the error, and what the filter keeps, by groups of rows."""
    if not found.errors:
        return []
    rules = found.decision.get("rules", {}).get("normal", ())
    kept = f" “Kept” is the part that the filter “{rules[0]['rule']}” keeps." if rules else ""
    blocks: list[Block] = [
        Text(
            "MSE in percent², by groups of test rows. Sampling noise is the error that chance in "
            f"the true rates causes: it is high where {found.denominator} are few.{kept}"
        )
    ]
    for title, table in found.errors.items():
        columns = [f"kept_{scenario}" for scenario in SCENARIOS if f"kept_{scenario}" in table]
        rows: list[Row] = [
            [
                str(row["group"]),
                count(row["n"]),
                *(number(row[scenario]) for scenario in SCENARIOS),
                number(row["sampling_noise_mse"]),
                *(percent(row[column]) for column in columns),
            ]
            for row in table.to_dict("records")
        ]
        titles = [plots.TITLES[scenario] for scenario in SCENARIOS]
        words = title
        if title == SECTIONS["clicks"]:
            words = f"{found.denominator} of the target period"
        header = [words[0].upper() + words[1:], "Rows", *titles, "Sampling noise"]
        groups = [("", 2), ("Mean squared error", 4)]
        if columns:
            header, groups = [*header, *titles], [*groups, ("Kept", len(columns))]
        blocks.append(Table(f"By {words}", header, rows, groups))
        safe = re.sub(r"[^0-9A-Za-z_]", "_", title)
        blocks += found.plots(
            {
                FIGURES.get(title, ""): f"Mean squared error by {words}.",
                f"share_rate_by_{safe}.png": f"Mean true and predicted rate by {title}.",
            }
        )
    return blocks


FIGURES = {
    SECTIONS["age_periods"]: "error_by_age.png",
    SECTIONS["clicks"]: "error_by_clicks.png",
}
"""Figures of the tables of errors, by what rows are grouped by."""


_GATES = {
    "head": "What a prediction is made of, mean weights",
    "fusion": "Where the gated fusion looks, mean weights",
    "prior_fusion": "Where the gated fusion of the prior looks, mean weights",
}


def outage(found: Evaluated) -> list[Block]:
    """Show what the loss of an input costs, and where the model looks."""
    blocks: list[Block] = []
    if len(found.outage) > 1:
        blocks.append(
            Text(
                "The same test rows with one input removed at a time. “Nothing” is the complete "
                "input. The history has no row of its own: without it, every scenario is "
                "cold-start."
            )
        )
        rows: list[Row] = [
            [
                name,
                *(
                    number(scores[scenario][metric], fixed=metric != "mse")
                    for scenario in SCENARIOS
                    for metric in METRICS
                ),
            ]
            for name, scores in found.outage.items()
        ]
        groups = [("", 1), *((plots.TITLES[scenario], len(METRICS)) for scenario in SCENARIOS)]
        header = ["Removed", *(METRICS[metric] for _ in SCENARIOS for metric in METRICS)]
        blocks.append(Table("Test score with one input removed", header, rows, groups))
        blocks += found.plots(
            {"outage.png": "The same as bars; the dashed line is nothing removed."}
        )
    for kind, scenarios in found.gates.items():
        header = ["Scenario", *next(iter(scenarios.values()))]
        weighed: list[Row] = [
            [plots.TITLES[scenario], *(number(weight, fixed=True) for weight in weights.values())]
            for scenario, weights in scenarios.items()
        ]
        blocks.append(Table(_GATES[kind], header, weighed))
    return blocks + found.plots({"gates.png": "What predictions are made of in each scenario."})
