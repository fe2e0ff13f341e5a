"""The files of one evaluation: metrics, predictions, tables and plots.

Everything is made from one table of predictions, one row per (scenario, item, target period):

    scenario, item_id, period (the target's label), clicks, share_rate, predicted_share_rate

and, where known: shares; observed_periods (steps of the window with missing flag 0 in that
scenario) and natural_observed_periods (the same in the normal scenario); seen_clicks (clicks of
the window that are not hidden); age_periods (the target's
period since release); true_share_rate (simulated data); taxonomy columns; system (one name).
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mmnet import checks
from mmnet.evaluation import html_page, html_report, intervals, other_outputs, plots
from mmnet.evaluation.error_tables import SECTIONS, error_table, grouped_errors
from mmnet.evaluation.html_page import number_text as _number
from mmnet.evaluation.metrics import (
    calibration_by_decile,
    error_by,
    mae,
    mse,
    sampling_noise,
    spearman,
)
from mmnet.evaluation.precision import is_tied, precision_at, precision_per_period
from mmnet.files import write_atomic
from mmnet.schema import SCENARIOS

COLUMNS = ("scenario", "item_id", "period", "clicks", "share_rate", "predicted_share_rate")
PERCENTS = (5, 10)
Scores = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Numbers by three names, e.g. removed input, scenario and metric."""


@dataclass(frozen=True)
class Setting:
    """The settings of training and testing that a system's scores depend on.

    Attributes:
        split: how test rows were chosen, a flag.
        taxonomy_mean: whether an item's own rate is in its taxonomy means, a flag.
        seed: the training seed.
        binomial: whether the numerator counts a subset of the denominator, so that sampling noise
            is defined. It is also left out where the numbers contradict this.
    """

    split: str
    taxonomy_mean: str
    seed: int
    binomial: bool = True


@dataclass(frozen=True)
class Further:
    """Results of a system's further outputs.

    Attributes:
        metrics: `horizons` and `rates` of metrics.json, see `other_outputs.nested`.
        rows: predictions of all outputs, see `OutputSet.table`.
    """

    metrics: Mapping[str, Any]
    rows: pd.DataFrame


@dataclass(frozen=True)
class Probes:
    """Results of predicting the test rows with inputs removed, and weights inside the network.

    Attributes:
        degradation: rows of `missing_rate` and metrics, see `ScenarioSet.degradation`.
        outage: removed input -> scenario -> metrics, see `ScenarioSet.outage`.
        attention_rows: weights per example, see `Attention.frame`.
    """

    degradation: Sequence[Mapping[str, float]] = ()
    outage: Scores = field(default_factory=dict)
    attention_rows: pd.DataFrame | None = None


@dataclass(frozen=True)
class Told:
    """Results of other modules that the HTML page shows.

    Attributes:
        decision: content of decision.json, see `filtering.write`; empty without one.
        intervals: see `intervals.estimate`; empty without one.
        record: content of the run's record.json, or the part known so far.
        figures: file name -> figure, of files that others write.
        columns: name of a categorical column -> its values as text, several joined by `;`, one per
            row of a scenario, in the order of the predictions.
    """

    decision: Mapping[str, Any] = field(default_factory=dict)
    intervals: Mapping[str, Any] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, Figure] = field(default_factory=dict)
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)


def metrics(frame: pd.DataFrame, setting: Setting) -> dict[str, Any]:
    """Score one system's predictions: the content of metrics.json.

    Args:
        frame: predictions of one system in all three scenarios, see the module.
        setting: how the system was trained and tested.

    Returns:
        `split`, `taxonomy_mean`, `seed`, and for each scenario `mse`, `mae`, `precision_at_5`,
        `precision_at_10`, `spearman`, `n`; also `precision_at_{5,10}_per_period`, `tied`
        (the P@N whose true top is decided by ties), `sampling_noise_mse`, `mse_to_true_rate` and
        `by_observed_periods` (rows of observed_periods, n, mse). The keys are always there; None
        is what is not known or not defined.

    Raises:
        ValueError: a column is missing, there is more than one system, or the scenarios differ in
            their rows or truth.
    """
    _check(frame)
    frame = _with_noise(frame, setting.binomial)
    found: dict[str, Any] = {
        "split": setting.split,
        "taxonomy_mean": setting.taxonomy_mean,
        "seed": setting.seed,
    }
    for scenario, rows in plots.by_scenario(frame).items():
        found[scenario] = _scenario_metrics(rows)
    return _plain(found)


def table(metrics_by_system: Mapping[str, Mapping[str, Any]]) -> str:
    """Table 1 of Yu et al. (2021) in Markdown; see `table_cells`."""
    return markdown_table(*table_cells(metrics_by_system))


OPTIONAL = (3, 6, 9)
"""Columns of `table_cells` that a narrow terminal can do without: P@10."""


def table_cells(
    metrics_by_system: Mapping[str, Mapping[str, Any]],
) -> tuple[list[str], list[tuple[str, ...]]]:
    """Table 1 of Yu et al. (2021): one row per system, the best of a column between `**`.

    Numbers that print alike are best together. † marks a P@N whose true top is decided by ties.

    Returns:
        The header, and the rows.
    """
    columns = [
        (f"{plots.TITLES[scenario]} {short}", scenario, key)
        for scenario in SCENARIOS
        for short, key in [("MSE", "mse")] + [(f"P@{n}", f"precision_at_{n}") for n in PERCENTS]
    ]
    cells = [list(metrics_by_system)]
    for _, scenario, key in columns:
        found = [system[scenario] for system in metrics_by_system.values()]
        shown = [_number(row[key], fixed=key != "mse") for row in found]
        known = [float(text) for text in shown if text != "–"]
        best = (min if key == "mse" else max)(known, default=None)
        cells.append(
            [
                (f"**{text}**" if text != "–" and float(text) == best else text)
                + ("†" if key in row.get("tied", ()) else "")
                for text, row in zip(shown, found, strict=True)
            ]
        )
    cells.append([f"{system['normal']['n']:,}" for system in metrics_by_system.values()])
    header = ["System", *(title for title, _, _ in columns), "n"]
    return header, list(zip(*cells, strict=True))


def write_predictions(
    directory: str | os.PathLike[str],
    frame: pd.DataFrame,
    setting: Setting,
    probes: Probes,
    further: Further | None = None,
    found: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write predictions.parquet, the results of probes, and last metrics.json.

    That is degradation.json, outage.json and attention.parquet.

    Args:
        directory: directory to write to, made if need be.
        frame: predictions of one system in all three scenarios, see the module.
        setting: how the system was trained and tested.
        probes: what else was found on the test rows.
        further: results of further outputs; None: there is one output.
        found: result of `metrics`, perhaps with more; None computes it.

    Returns:
        The content of metrics.json.
    """
    found = dict(metrics(frame, setting) if found is None else found)
    if further:
        found |= _plain(further.metrics)
        frame = further.rows
    directory = Path(directory)
    first = [*COLUMNS, *(column for column in frame if column not in COLUMNS)]
    write_atomic(
        directory / "predictions.parquet",
        lambda path: frame[first].to_parquet(path, index=False),
    )
    if probes.degradation:
        write_atomic(directory / "degradation.json", _json(list(probes.degradation)))
    if probes.outage:
        write_atomic(directory / "outage.json", _json(probes.outage))
    if (rows := probes.attention_rows) is not None:
        write_atomic(
            directory / "attention.parquet", lambda path: rows.to_parquet(path, index=False)
        )
    write_atomic(directory / "metrics.json", _json(found))  # last: where it is, all is
    return found


def write_report(
    directory: str | os.PathLike[str],
    frame: pd.DataFrame,
    setting: Setting,
    probes: Probes,
    *,
    system: str | None = None,
    others: Mapping[str, Mapping[str, Any]] | None = None,
    taxonomies: Sequence[str] = (),
    attention: Scores | None = None,
    numerator: str,
    denominator: str,
    remarks: Sequence[str] = (),
    told: Told | None = None,
    further: Further | None = None,
) -> dict[str, Any]:
    """Write all files about one system's predictions, each whole or not at all.

    metrics.json, systems.json (the same for every row of the table), predictions.parquet, table.md,
    report.html, calibration.png, predicted_vs_true.png, error_by_clicks.png, and where they are
    known intervals.json, degradation.json, degradation.png, outage.json, outage.png,
    attention.json, gates.png, attention.parquet, error_by_age.png and
    share_rate_by_<taxonomy>.png.

    Args:
        directory: directory to write to, made if need be.
        frame: predictions of one system in all three scenarios, see the module.
        setting: how the system was trained and tested.
        probes: what else was found on the test rows.
        system: its name in the table; else the one in the column `system`, else "model".
        others: more rows of the table by name (baselines, floors), each from `metrics`.
        taxonomies: taxonomy columns of the frame to plot: a value, a list, or joined by `;`.
        attention: scenario -> kind -> mean weights, see `Attention.means`.
        numerator: name of the numerator, for the plots' labels.
        denominator: name of the denominator, for the plots' labels.
        remarks: warnings about numbers that are not meaningful, for the end of table.md.
        told: more of what report.html shows.
        further: see `write_predictions`.

    Returns:
        The content of metrics.json: see `metrics`, with the ends of `intervals.with_ends`.
    """
    told = told or Told()
    found = intervals.with_ends(metrics(frame, setting), told.intervals)
    name = system or (str(frame["system"].iloc[0]) if "system" in frame else "model")
    rules = {
        rule: intervals.with_ends(one, told.intervals, rule) for rule, one in (others or {}).items()
    }
    systems = {name: found, **rules}
    directory = Path(directory)
    rows = _with_noise(frame, setting.binomial)
    gates = _gates(attention or {})
    # One table per question, for the plots, table.md and report.html.
    coded = rows.assign(item_id=pd.factorize(rows["item_id"])[0])  # numbers are faster to group
    errors = {
        column: error_table(coded, column, with_ends=True) for column in SECTIONS if column in rows
    }
    numerator, denominator = checks.shown(numerator, 60), checks.shown(denominator, 60)
    figures = _figures(
        {name: probes.degradation} if probes.degradation else {},
        rows,
        errors,
        taxonomies,
        _label(numerator),
        _label(denominator),
    )
    if len(probes.outage) > 1:
        figures["outage.png"] = plots.outage_plot(probes.outage)
    if gates:
        figures["gates.png"] = plots.gates_plot(gates)
    for file, figure in figures.items():
        plots.write_figure(directory / file, figure)
    if attention:
        write_atomic(directory / "attention.json", _json(attention))
    if told.intervals:
        write_atomic(directory / "intervals.json", _json(told.intervals))
    text = _report_text(rows, found, systems, errors, probes.outage, gates)
    header, lines = other_outputs.cells(further.metrics if further else {})
    if lines:
        text += f"\n## {other_outputs.TITLE}\n\n{markdown_table(header, lines)}"
    text += "".join(f"\n{remark[0].upper()}{remark[1:]}.\n" for remark in remarks)
    write_atomic(directory / "table.md", text)
    write_atomic(directory / "systems.json", _json(systems))
    filters = told.decision.get("rules", {}).get("normal", ())
    threshold = filters[0]["threshold"] if filters else None
    evaluated = html_report.Evaluated(
        system=name,
        systems=systems,
        rows=rows,
        numerator=numerator,
        denominator=denominator,
        errors=grouped_errors(rows, taxonomies, told.columns, threshold),
        calibration=_deciles(rows),
        outage=probes.outage,
        gates=gates,
        figures={**figures, **told.figures},
        decision=told.decision,
        intervals=told.intervals,
        record=told.record,
        remarks=remarks,
        further=(header, lines),
    )
    write_atomic(directory / html_page.FILE, html_page.render(html_report.page(evaluated)))
    return write_predictions(directory, frame, setting, probes, further, found)


def _figures(
    degradation: Mapping[str, Sequence[Mapping[str, float]]],
    rows: pd.DataFrame,
    errors: Mapping[str, pd.DataFrame],
    taxonomies: Sequence[str],
    numerator: str,
    denominator: str,
) -> dict[str, Figure]:
    """File name -> figure of predictions and errors."""
    rate = f"share rate ({numerator} per 100 {denominator}, %)"
    found = {"degradation.png": plots.degradation_plot(degradation)} if degradation else {}
    found["calibration.png"] = plots.calibration_plot(rows, rate)
    found["predicted_vs_true.png"] = plots.scatter_plot(rows, rate)
    found["error_by_clicks.png"] = plots.error_plot(
        errors["clicks"], f"{denominator} of the target period"
    )
    if "age_periods" in errors:
        found["error_by_age.png"] = plots.error_plot(
            errors["age_periods"], "item age at the target (periods)"
        )
    for taxonomy in taxonomies:
        file = re.sub(r"[^0-9A-Za-z_]", "_", taxonomy.removeprefix(plots.TAXONOMY))
        found[f"share_rate_by_{file}.png"] = plots.taxonomy_plot(rows, taxonomy, rate)
    return found


# ----------------------------------------------------------------------------------- metrics


def _label(count: str) -> str:
    """The name of a count, perhaps an expression, in a plot; Matplotlib reads `$` as a formula."""
    return count.replace("$", r"\$")


def _check(frame: pd.DataFrame) -> None:
    missing = [column for column in COLUMNS if column not in frame]
    if missing:
        near = checks.did_you_mean(missing[0], map(str, frame.columns))
        raise ValueError(f"Predictions need the column {', '.join(missing)}{near}")
    if sorted(frame["scenario"].unique()) != sorted(SCENARIOS):
        raise ValueError(
            f"Predictions need the scenarios {', '.join(SCENARIOS)}. "
            f"Received: {', '.join(map(str, frame['scenario'].unique()))}"
        )
    if "system" in frame and frame["system"].nunique(dropna=False) > 1:
        raise ValueError(
            "Predictions must be of one system. "
            f"Received: {', '.join(map(str, frame['system'].unique()))}"
        )
    key = ["item_id", "period"]
    if (twice := frame.duplicated(["scenario", *key])).any():
        row = frame[twice].iloc[0]
        raise ValueError(
            "Predictions need one row per scenario, item_id and period. "
            f"Received two of {row['scenario']}, {row['item_id']}, {row['period']}"
        )
    # Scenarios differ in what is predicted, never in what is true.
    truths = [
        rows[[*key, "share_rate"]].sort_values(key, ignore_index=True)
        for rows in plots.by_scenario(frame).values()
    ]
    for scenario, truth in zip(SCENARIOS[1:], truths[1:], strict=True):
        if not truth.equals(truths[0]):
            raise ValueError(
                "Every scenario must score the same items, periods and share rates. "
                f"Received: {scenario} differs from {SCENARIOS[0]}"
            )


def _with_noise(frame: pd.DataFrame, binomial: bool) -> pd.DataFrame:
    """Adds `sampling_noise`, NaN unless the rate can be a share of counted events."""
    rate, clicks = frame["share_rate"].to_numpy(float), frame["clicks"].to_numpy(float)
    shares = frame["shares"].to_numpy(float) if "shares" in frame else rate * clicks / 100
    whole = np.allclose(shares, np.round(shares), rtol=1e-6, atol=1e-3)  # float32 rates round
    counts = binomial and whole and rate.min() >= 0 and rate.max() <= 100
    noise = sampling_noise(clicks, rate) if counts else np.nan
    return frame.assign(sampling_noise=noise)


def _scenario_metrics(rows: pd.DataFrame) -> dict[str, Any]:
    truth = rows["share_rate"].to_numpy(float)
    predicted = rows["predicted_share_rate"].to_numpy(float)
    found: dict[str, Any] = {
        "n": len(rows),
        "mse": mse(truth, predicted),
        "mae": mae(truth, predicted),
        "spearman": spearman(truth, predicted),
        "sampling_noise_mse": rows["sampling_noise"].mean(),
        "mse_to_true_rate": None,
        "by_observed_periods": None,
        "tied": [f"precision_at_{percent}" for percent in PERCENTS if is_tied(percent, truth)],
    }
    for percent in PERCENTS:
        found[f"precision_at_{percent}"] = precision_at(percent, truth, predicted)
        found[f"precision_at_{percent}_per_period"] = precision_per_period(
            percent, truth, predicted, rows["period"].to_numpy()
        )
    if "true_share_rate" in rows:
        found["mse_to_true_rate"] = mse(rows["true_share_rate"].to_numpy(float), predicted)
    if "observed_periods" in rows:
        groups = error_by(rows, "observed_periods")
        found["by_observed_periods"] = groups[["observed_periods", "n", "mse"]].to_dict("records")
    return found


def _plain(value: Any) -> Any:
    """The value in types that JSON has; a number that is not finite becomes None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _json(value: Any) -> str:
    return json.dumps(_plain(value), indent=2, sort_keys=True, allow_nan=False) + "\n"


# ------------------------------------------------------------------------------------ tables


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, its first column left-aligned and every other one right-aligned."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    lines = [header, rule, *rows]
    return "".join(
        "| " + " | ".join(checks.in_markdown(cell) for cell in line) + " |\n" for line in lines
    )


def _report_text(
    rows: pd.DataFrame,
    found: Mapping[str, Any],
    systems: Mapping[str, Mapping[str, Any]],
    errors: Mapping[str, pd.DataFrame],
    outage: Scores,
    gates: Scores,
) -> str:
    noise = found["normal"]["sampling_noise_mse"]
    parts = [
        "# Evaluation\n",
        f"Split {found['split']}, taxonomy means {found['taxonomy_mean']}, seed {found['seed']}. "
        "MSE in percent²; P@N is the expectation under random ties; the best of a column in "
        "bold.\n",
        table(systems),
    ]
    if noise is not None:
        parts.append(
            f"Sampling noise of the test share rates alone causes an MSE of about "
            f"{_number(noise)}; no forecast can be expected to fall below it.\n"
        )
    if any(system[s].get("tied") for system in systems.values() for s in SCENARIOS):
        parts.append(
            "† More rows share the boundary share rate than the true top N % holds, so ties decide "
            "it.\n"
        )
    if found["normal"].get("mse_low") is not None:
        cells = intervals.table_cells(systems)
        parts += ["## 95 % intervals\n", intervals.CAPTION, markdown_table(*cells)]
    if len(outage) > 1:
        parts += [
            "## What if an input is missing?\n",
            "The same test rows with one input removed at a time: taxonomy sequences read as if "
            "no item had been seen, content as for an item that has none. "
            "The history has no row of its own: without it every scenario is cold-start.\n",
            _outage_text(outage),
        ]
    for kind, scenarios in gates.items():
        parts += [*_GATES[kind], _gates_text(scenarios)]
    parts += ["## Calibration by decile of the prediction (mean predicted, mean true, %)\n"]
    parts.append(_calibration_text(rows))
    for column, table_of in errors.items():
        parts += [f"## MSE by {SECTIONS[column]}\n", _error_text(table_of)]
    return "\n".join(parts)


def _outage_text(outage: Scores) -> str:
    kinds = intervals.METRICS
    header = ["Removed"]
    header += [f"{plots.TITLES[s]} {short}" for s in SCENARIOS for short in kinds.values()]
    lines = [
        [name] + [_number(found[s][key], fixed=key != "mse") for s in SCENARIOS for key in kinds]
        for name, found in outage.items()
    ]
    return markdown_table(header, lines)


_GATES = {
    "head": (
        "## Parts of a prediction (mean weight)\n",
        "own_clicks: the rates of the item's own history; prior: the rate expected of such an item "
        "without its history; direct: the network that reads both.\n",
    ),
    "fusion": (
        "## Weights of the modalities in the gated fusion (mean)\n",
        "The history's vector includes the taxonomy sequences, where they are read. A "
        "modality that an item lacks has weight 0 and enters the means with that value.\n",
    ),
    "prior_fusion": ("## Weights of the modalities in the prior's gated fusion (mean)\n",),
}
"""Kind of weights, of `plots.GATES` -> heading and introduction of its table."""


def _gates(attention: Scores) -> dict[str, dict[str, Mapping[str, float]]]:
    """Kind -> scenario -> name -> mean weight, as far as the model has them."""
    found = {
        kind: {scenario: kinds[kind] for scenario, kinds in attention.items() if kind in kinds}
        for kind in plots.GATES
    }
    return {kind: scenarios for kind, scenarios in found.items() if scenarios}


def _gates_text(gates: Mapping[str, Mapping[str, float]]) -> str:
    header = ["Scenario", *gates["normal"]]
    lines = [
        [plots.TITLES[scenario], *(_number(weight, fixed=True) for weight in weights.values())]
        for scenario, weights in gates.items()
    ]
    return markdown_table(header, lines)


def _calibration_text(rows: pd.DataFrame) -> str:
    deciles = list(_deciles(rows).values())
    header = ["Decile", "n"]
    for scenario in SCENARIOS:
        header += [f"{plots.TITLES[scenario]} predicted", f"{plots.TITLES[scenario]} true"]
    cells = [deciles[0]["decile"], deciles[0]["n"].map("{:,}".format)]
    for part in deciles:
        cells += [part["mean_predicted"].map(_number), part["mean_true"].map(_number)]
    return markdown_table(header, zip(*cells, strict=True))


def _deciles(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {
        scenario: calibration_by_decile(part["share_rate"], part["predicted_share_rate"])
        for scenario, part in plots.by_scenario(rows).items()
    }


def _error_text(errors: pd.DataFrame) -> str:
    header = ["Group", "n", *(plots.TITLES[scenario] for scenario in SCENARIOS), "Sampling noise"]
    cells = [errors["group"], errors["n"].map("{:,}".format)]
    cells += [errors[column].map(_number) for column in (*SCENARIOS, "sampling_noise_mse")]
    return markdown_table(header, zip(*cells, strict=True))
