"""Figures of an experiment: bars with intervals, τ curves, degradation by hiding and by age."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mmnet.checks import InputError
from mmnet.evaluation import plots
from mmnet.experiments.comparison import Compared
from mmnet.experiments.plan import Cell, Plan, TablePlan
from mmnet.files import UNREADABLE, read_json
from mmnet.schema import SCENARIOS

AGES = (0, 1, 2, 4, 8, 16, 32)
"""Lower ends of the bins of item age, in periods."""
FEWEST = 30
"""Minimum number of test windows for a bin to be drawn."""


def of_table(
    table: TablePlan, planned: Plan, parts: Sequence[Compared], cells: Sequence[Cell]
) -> dict[str, Figure]:
    """Figures of one table by kind, of the first of its groups of test windows.

    Rows that differ in nothing but τ make curves over τ; all others make bars and, where there are
    several, degradation curves.
    """
    part = parts[0]
    rows = [name for name in table.rows if name in part.group.rows]
    if len(rows) < 2:
        return {}
    taus = {name: planned.rows[name].flags.noisy_rate for name in rows}
    others = {planned.rows[name].flags.model_copy(update={"noisy_rate": 0.0}) for name in rows}
    if len(others) == 1 and len(set(taus.values())) == len(rows) > 2:
        return {"tau": tau_curves(part, taus)}
    titles = {name: planned.rows[name].title for name in rows}
    figures = {"bars": bars(part, titles)}
    if len(parts) == 1:
        curves = {titles[name]: _degradation(name, cells) for name in rows}
        figures["degradation"] = plots.degradation_plot(curves)
        if "age_periods" in part.group.windows:
            figures["age"] = age_curves(part, titles)
    return figures


def bars(part: Compared, titles: Mapping[str, str]) -> Figure:
    """MSE of every system in each scenario with its 95 % interval."""
    figure = Figure(figsize=(12, 1.2 + 0.3 * len(titles)), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    for axes, scenario in zip(panels, SCENARIOS, strict=True):
        plots.tidy(axes)
        found = [part.cell(name, scenario, "mse") for name in titles]
        value = np.array([one["value"] for one in found])
        ends = np.array([[one["low"], one["high"]] for one in found]).T
        best = [part.is_best(name, scenario, "mse") for name in titles]
        axes.barh(
            range(len(titles)),
            value,
            xerr=np.abs(ends - value),
            color=[plots.COLOURS[scenario] if one else "#C9CED6" for one in best],
            error_kw={"linewidth": 1, "ecolor": "#555555"},
        )
        axes.set(title=plots.TITLES[scenario], xlabel="MSE (percent²)")
    panels[0].set_yticks(range(len(titles)), list(titles.values()))
    panels[0].invert_yaxis()
    figure.suptitle("Test MSE, 95 % intervals; rows in colour cannot be told apart from the best")
    return figure


def tau_curves(part: Compared, taus: Mapping[str, float]) -> Figure:
    """MSE and P@5 % over τ, one panel per scenario (Yu et al. 2021, Table 4)."""
    figure = Figure(figsize=(12, 6), layout="constrained")
    panels = figure.subplots(2, 3, sharex=True)
    in_order = sorted(taus, key=lambda name: taus[name])
    for column, scenario in zip(panels.T, SCENARIOS, strict=True):
        for axes, (metric, label) in zip(
            column, {"mse": "MSE (percent²)", "precision_at_5": "P@5 %"}.items(), strict=True
        ):
            plots.tidy(axes)
            found = [part.cell(name, scenario, metric) for name in in_order]
            x, y = [taus[name] for name in in_order], [one["value"] for one in found]
            sd = np.nan_to_num([one["sd_over_seeds"] for one in found])
            colour = plots.COLOURS[scenario]
            axes.plot(x, y, color=colour, marker=plots.MARKERS[scenario])
            axes.fill_between(x, y - sd, y + sd, color=colour, alpha=0.15, linewidth=0)
            axes.set_ylabel(label)
        column[0].set_title(plots.TITLES[scenario])
        column[1].set_xlabel("τ, share hidden by the noisy block in training")
    figure.suptitle("Test score over τ; the band is ± one sd over seeds")
    return figure


def age_curves(part: Compared, titles: Mapping[str, str]) -> Figure:
    """MSE over item age at the target, one panel per scenario."""
    figure = Figure(figsize=(12, 4.2), layout="constrained")
    panels = figure.subplots(1, 3)
    for axes, scenario in zip(panels, SCENARIOS, strict=True):
        plots.tidy(axes)
        predictions = part.group.scenarios[scenario]
        age = _ages(part, predictions.item, predictions.period)
        for number, (name, title) in enumerate(titles.items()):
            errors = (predictions.predicted[name] - predictions.truth) ** 2
            points = [
                (start, errors[:, inside].mean())
                for start, end in zip(AGES, (*AGES[1:], np.inf), strict=True)
                if np.count_nonzero(inside := (age >= start) & (age < end)) >= FEWEST
            ]
            style = {"color": f"C{number % 10}", "marker": "os^Dvx"[number % 6], "markersize": 4}
            axes.plot(*zip(*points, strict=True), label=title, **style)
        axes.set_xscale("symlog", base=2, linthresh=1)
        axes.set_xticks(AGES, [str(age) for age in AGES])
        axes.set(title=plots.TITLES[scenario], xlabel="item age at the target (periods, from)")
        axes.set_ylim(bottom=0)
    panels[0].set_ylabel("MSE (percent²)")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center")
    figure.suptitle("Test MSE by item age")
    return figure


def _ages(part: Compared, item: np.ndarray, period: np.ndarray) -> np.ndarray:
    """Ages of the aligned rows."""
    windows = part.group.windows
    known = windows.set_index(["item_id", "period"])["age_periods"]
    return known.reindex(pd.MultiIndex.from_arrays([item, period])).to_numpy(float)


def _curve(path: Path) -> pd.DataFrame:
    try:
        return pd.DataFrame(read_json(path))
    except UNREADABLE:
        raise InputError(
            f"{path} is missing or damaged; delete the cell's directory, and run the same command "
            "again"
        ) from None


def _degradation(row: str, cells: Sequence[Cell]) -> list[dict[str, float]]:
    """Mean over a row's cells of their curves."""
    found = [
        _curve(cell.directory / "evaluation" / "degradation.json")
        for cell in cells
        if cell.row == row
    ]
    # Intervals of single cells, which `mmnet.evaluate` adds, do not average.
    curves = pd.concat(found).filter(regex="^(?!mse_)")
    return curves.groupby("missing_rate").mean().reset_index().to_dict("records")
