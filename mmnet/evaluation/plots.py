"""Plots of one evaluation, from its table of predictions; see `report` for the columns."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colors, font_manager, ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend

from mmnet.evaluation.metrics import calibration_by_decile
from mmnet.files import write_atomic
from mmnet.schema import SCENARIOS

TAXONOMY = "taxonomy_"
"""Prefix of the names of taxonomy columns in predictions, so that they cannot collide."""
TITLES = {"normal": "Normal", "cold_start": "Cold-start", "noisy": "Noisy"}
COLOURS = {"normal": "#0072B2", "cold_start": "#D55E00", "noisy": "#009E73"}
MARKERS = {"normal": "o", "cold_start": "s", "noisy": "^"}
_TRUTH, _GUIDE = "#C9CED6", "#555555"


def by_scenario(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Split the rows by scenario, in the order of `SCENARIOS`."""
    return {scenario: frame[frame["scenario"] == scenario] for scenario in SCENARIOS}


def write_figure(path: Path, figure: Figure) -> None:
    """Writes a figure as PNG, whole or not at all."""
    figure.set_dpi(150)
    if layout := figure.get_layout_engine():
        # While a figure has a layout engine, even one that has nothing left to do, Matplotlib draws
        # it twice each time that it is saved, here and in report.html.
        layout.execute(figure)
        figure.set_layout_engine(None)
    # The software's version would change the bytes, and says nothing about the plot.
    write_atomic(path, functools.partial(figure.savefig, dpi=150, metadata={"Software": None}))


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")


def tidy(axes: Axes) -> None:
    """Apply the style that all plots share."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#E6E6E6", linewidth=0.8)
    axes.set_axisbelow(True)


BANDS = "Bands: 95 % intervals of the MSE by test item, without the variance between seeds"
"""Note in plots that have bands."""


def degradation_plot(curves: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """MSE and P@5 % over the share of hidden history, one curve per system.

    Args:
        curves: system -> rows of `missing_rate`, `mse` and `precision_at_5`; `mse_low` and
            `mse_high`, if they are known, are a band.
    """
    figure = _figure(11, 4.2)
    figure.suptitle("Test score by the share of the history that is hidden")
    panels = figure.subplots(1, 2)
    for axes, (key, label) in zip(
        panels, {"mse": "MSE (percent²)", "precision_at_5": "P@5 %"}.items(), strict=True
    ):
        tidy(axes)
        for number, (system, rows) in enumerate(curves.items()):
            axes.plot(
                [row["missing_rate"] for row in rows],
                [row[key] for row in rows],
                color=f"C{number % 10}",
                marker="os^Dvx"[number % 6],
                markersize=4,
                label=system,
                clip_on=False,
            )
            if all(f"{key}_low" in row for row in rows):
                _band(
                    axes,
                    [row["missing_rate"] for row in rows],
                    [row[f"{key}_low"] for row in rows],
                    [row[f"{key}_high"] for row in rows],
                    f"C{number % 10}",
                )
                axes.set_title(BANDS, loc="left", fontsize="small", color=_GUIDE)
        axes.set(xlabel="share of steps hidden", ylabel=label, xlim=(0, 1))
        axes.set_ylim(bottom=0)
    if len(curves) > 1:
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center")
    return figure


def _band(axes: Axes, x: Any, low: Any, high: Any, colour: str) -> None:
    """Shades an interval around a curve."""
    axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)


def outage_plot(outage: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Figure:
    """MSE and P@5 % of each scenario with one input removed at a time.

    Args:
        outage: removed input ("nothing" first) -> scenario -> `mse` and `precision_at_5`.
    """
    figure = _figure(11, 2.4 + 0.5 * len(outage))
    figure.suptitle("Test score with one input removed at a time")
    panels = figure.subplots(2, 3, sharey=True)
    places = np.arange(len(outage))[::-1]  # "nothing" on top
    for row, (key, label) in zip(
        panels, {"mse": "MSE (percent²)", "precision_at_5": "P@5 %"}.items(), strict=True
    ):
        for axes, scenario in zip(row, SCENARIOS, strict=True):
            tidy(axes)
            axes.grid(visible=False, axis="y")
            values = [found[scenario][key] for found in outage.values()]
            axes.barh(places, values, height=0.6, color=COLOURS[scenario])
            axes.axvline(values[0], color=_GUIDE, linestyle="--", linewidth=1)
            axes.set(xlabel=label)
            axes.margins(x=0.08, y=0.03)
            if key == "mse":
                axes.set_title(TITLES[scenario])
        row[0].set_yticks(places, list(outage))
        for text in row[0].get_yticklabels():
            text.set(parse_math=False, fontfamily=_fonts())
    return figure


def filter_plot(sweeps: Mapping[str, pd.DataFrame], pools: Mapping[str, pd.DataFrame]) -> Figure:
    """Recall of the true top and rate of the pool over the kept share, with the pools of rules.

    Args:
        sweeps: scenario -> see `filtering.sweep`.
        pools: scenario -> see `filtering.replay`; the first rule of each is the model.
    """
    figure = _figure(13, 4.2)
    recall, pool, gain = figure.subplots(1, 3)
    for scenario, table in sweeps.items():
        rising = table.sort_values("kept_share")
        for axes, name in ((recall, "recall"), (pool, "pool_rate")):
            look = {"color": COLOURS[scenario], "label": TITLES[scenario]}
            axes.plot(rising["kept_share"], rising[name], marker=MARKERS[scenario], ms=4, **look)
            ends = rising[f"{name}_low"], rising[f"{name}_high"]
            _band(axes, rising["kept_share"], *ends, COLOURS[scenario])
    normal = sweeps["normal"].sort_values("kept_share")
    pool.plot(normal["kept_share"], normal["oracle_rate"], "--", color=_GUIDE, label="Oracle")
    recall.plot([0, 1], [0, 1], "--", color=_GUIDE, label="Chance")
    for rule, rows in pools["normal"].groupby("rule", sort=False):
        gain.plot(rows["pool_share"], rows["pool_rate"], marker="o", ms=4, label=str(rule))
    recall.set(xlabel="share kept", ylabel="recall of the true top", xlim=(0, 1), ylim=(0, 1.02))
    pool.set(xlabel="share kept", ylabel="mean share rate of the pool (%)", xlim=(0, 1))
    gain.set(xlabel="share kept, per period", ylabel="mean share rate of the pool (%)")
    gain.set_title("Normal, pools of equal size", fontsize=10)
    for axes in (recall, pool, gain):
        tidy(axes)
        axes.legend(fontsize=8)
        for text in axes.get_legend().get_texts():
            text.set(parse_math=False, fontfamily=_fonts())
    return figure


GATES = ("head", "fusion", "prior_fusion")
"""Kinds of `attention.Means` that have a panel in the plot of the gates."""


def gates_plot(gates: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Figure:
    """Mean weights of the parts of the head and of the modalities, one bar per scenario.

    Args:
        gates: kind, of `GATES` -> scenario -> name -> mean weight; those of a scenario sum to 1.
            One panel per kind.
    """
    figure = _figure(9, 3.2 if len(gates) == 1 else 0.3 + 2.2 * len(gates))
    panels = figure.subplots(len(gates), squeeze=False)[:, 0]
    names = dict.fromkeys(
        name for scenarios in gates.values() for named in scenarios.values() for name in named
    )
    colours = {name: f"C{number % 10}" for number, name in enumerate(names)}
    titles = {
        "head": "Weights of the parts of a prediction",
        "fusion": "Weights of the modalities in each scenario",
        "prior_fusion": "Weights of the modalities in the prior",
    }
    if "head" in gates:  # the fusion is of one of its parts
        titles["fusion"] = "Weights of the modalities in the " + (
            "direct part" if "prior_fusion" in gates else "prior"
        )
    for axes, (kind, scenarios) in zip(panels, gates.items(), strict=True):
        _stacked_bars(axes, scenarios, colours)
        axes.set_title(titles[kind], loc="left")
        if len(gates) > 1:
            legend = axes.legend(
                loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize="small"
            )
            _as_written(legend)
    if len(gates) == 1:
        legend = figure.legend(loc="outside lower center", frameon=False, ncols=4, fontsize="small")
        _as_written(legend)
    panels[-1].set_xlabel(
        "mean weight in the gated fusion" if list(gates) == ["fusion"] else "mean weight"
    )
    return figure


def _stacked_bars(
    axes: Axes, scenarios: Mapping[str, Mapping[str, float]], colours: Mapping[str, str]
) -> None:
    """One bar per scenario, of parts that sum to 1."""
    axes.spines[["top", "right", "left"]].set_visible(False)
    places = np.arange(len(scenarios))[::-1]
    start = np.zeros(len(scenarios))
    for name in next(iter(scenarios.values())):
        weights = np.array([named[name] for named in scenarios.values()])
        axes.barh(places, weights, left=start, height=0.6, color=colours[name], label=name)
        for place, left, weight in zip(places, start, weights, strict=True):
            if weight >= 0.04:  # there is room for it
                axes.text(
                    left + weight / 2, place, f"{weight:.2f}", ha="center", va="center", color="w"
                )
        start = start + weights
    axes.set_yticks(places, [TITLES[scenario] for scenario in scenarios])
    axes.tick_params(axis="y", length=0)
    axes.set(xlim=(0, 1))


def _as_written(legend: Legend) -> None:
    """Shows the names of users' columns as they are, and in a font that has their signs."""
    for text in legend.get_texts():
        text.set(parse_math=False, fontfamily=_fonts())


def calibration_plot(rows: pd.DataFrame, rate: str) -> Figure:
    """Mean predicted and mean true rate by decile of the prediction."""
    figure = _figure(11, 4.2)
    figure.suptitle("Predicted and true share rate, by tenths of the rows in order of prediction")
    panels = figure.subplots(1, 3, sharex=True, sharey=True)
    deciles = {
        scenario: calibration_by_decile(part["share_rate"], part["predicted_share_rate"])
        for scenario, part in by_scenario(rows).items()
    }
    means = pd.concat(deciles.values())[["mean_predicted", "mean_true"]].to_numpy()
    high = 1.05 * means.max() or 1.0
    for axes, (scenario, found) in zip(panels, deciles.items(), strict=True):
        tidy(axes)
        axes.plot([0, high], [0, high], color=_GUIDE, linestyle="--", linewidth=1)
        axes.plot(
            found["mean_predicted"],
            found["mean_true"],
            color=COLOURS[scenario],
            marker=MARKERS[scenario],
            markersize=6,
            clip_on=False,
        )
        axes.set(title=f"{TITLES[scenario]} (n = {found['n'].sum():,})", aspect="equal")
        axes.set(xlim=(min(0, means.min()), high), ylim=(min(0, means.min()), high))
    panels[0].set_ylabel(f"mean true\n{rate}")
    figure.supxlabel(f"mean predicted {rate}", fontsize="medium")
    panels[0].annotate(
        "perfect", (0.62 * high, 0.62 * high), (0, -14), textcoords="offset points", color=_GUIDE
    )
    return figure


def scatter_plot(rows: pd.DataFrame, rate: str) -> Figure:
    """Every test row, predicted against true, as shaded cells."""
    figure = _figure(12, 4.9)
    panels = figure.subplots(1, 3, sharex=True, sharey=True)
    both = rows[["predicted_share_rate", "share_rate"]].to_numpy(float)
    # A few far rows must not press all others into a corner; they are counted instead.
    low, high = min(0.0, both.min()), float(np.quantile(both, 0.999)) or 1.0
    high = max(high, both.max()) if both.max() < 1.5 * high else high
    images = []
    for axes, (scenario, part) in zip(panels, by_scenario(rows).items(), strict=True):
        tidy(axes)
        x, y = part["predicted_share_rate"].to_numpy(float), part["share_rate"].to_numpy(float)
        shown = (x <= high) & (y <= high)
        images.append(
            axes.hexbin(
                x[shown],
                y[shown],
                gridsize=40,
                extent=(low, high, low, high),
                mincnt=1,
                cmap="viridis",
                linewidths=0.1,
            )
        )
        axes.plot([low, high], [low, high], color=_GUIDE, linestyle="--", linewidth=1)
        beyond = f"\n{np.count_nonzero(~shown):,} rows beyond the axes" if not shown.all() else ""
        axes.set(title=f"{TITLES[scenario]} (n = {len(part):,}){beyond}", aspect="equal")
        ends = low - 0.02 * (high - low), high + 0.02 * (high - low)  # whole cells at the edge
        axes.set(xlim=ends, ylim=ends)
    most = max([image.get_array().max() for image in images if image.get_array().size], default=1)
    norm = colors.LogNorm(1, max(2, most))
    for image in images:
        image.set_norm(norm)
    figure.suptitle("Predicted and true share rates, every test row")
    panels[0].set_ylabel(f"true\n{rate}")
    figure.supxlabel(f"predicted {rate}", fontsize="medium")
    bar = figure.colorbar(images[0], ax=panels, label="test rows per cell", pad=0.01)
    bar.ax.yaxis.set_major_formatter("{x:,.0f}")
    return figure


def error_plot(errors: pd.DataFrame, groups: str) -> Figure:
    """MSE of each scenario by groups of rows, above the sampling noise.

    Args:
        errors: see `error_tables.error_table`; ends of intervals are bands, if it has any.
        groups: what rows are grouped by, in words.
    """
    figure = _figure(max(6.5, 2 + 0.85 * len(errors)), 4.4)
    axes = figure.subplots()
    tidy(axes)
    places = np.arange(len(errors))
    for scenario in SCENARIOS:
        axes.plot(
            places,
            errors[scenario],
            color=COLOURS[scenario],
            marker=MARKERS[scenario],
            label=TITLES[scenario],
        )
        if with_ends := f"{scenario}_low" in errors:
            ends = errors[f"{scenario}_low"], errors[f"{scenario}_high"]
            _band(axes, places, *ends, COLOURS[scenario])
    if errors["sampling_noise_mse"].notna().any():
        axes.plot(
            places,
            errors["sampling_noise_mse"],
            color=_GUIDE,
            linestyle="--",
            marker=".",
            label="Sampling noise (what a perfect forecast would have)",
        )
    shown = errors[[*SCENARIOS, "sampling_noise_mse"]].to_numpy(float)
    shown = shown[np.isfinite(shown)]
    if len(shown) and shown.min() > 0 and shown.max() > 5 * shown.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(ticker.NullFormatter())
    else:
        axes.set_ylim(bottom=0)
    axes.set_xticks(
        places,
        [f"{group}\nn = {n:,}" for group, n in zip(errors["group"], errors["n"], strict=True)],
        fontsize="small",
    )
    axes.set(xlabel=groups, ylabel="mean squared error (percent²)")
    axes.set_title(f"Error by {groups}", loc="left", pad=20 if with_ends else None)
    if with_ends:
        note = axes.text(0, 1.02, BANDS, transform=axes.transAxes)
        note.set(fontsize="small", color=_GUIDE)
    figure.legend(loc="outside lower center", frameon=False, ncols=4, fontsize="small")
    return figure


def taxonomy_plot(rows: pd.DataFrame, taxonomy: str, rate: str) -> Figure:
    """Mean share rate by value of a taxonomy, true and predicted (Yu et al., 2021, Fig. 3)."""
    values = rows[["scenario", taxonomy, "share_rate", "predicted_share_rate"]].copy()
    values[taxonomy] = values[taxonomy].map(values_of)
    values = values.explode(taxonomy).dropna(subset=taxonomy)
    normal = values[values["scenario"] == "normal"].groupby(taxonomy)["share_rate"]
    truth = normal.agg(["mean", "size"]).sort_values("size", ascending=False, kind="stable")
    kinds, truth = len(truth), truth.head(20).sort_values("mean", kind="stable")

    figure = _figure(8.5, 1.6 + 0.3 * max(3, len(truth)))
    axes = figure.subplots()
    tidy(axes)
    axes.grid(visible=False, axis="y")
    places = np.arange(len(truth))
    axes.barh(places, truth["mean"], color=_TRUTH, label="True")
    for scenario, aside in zip(SCENARIOS, (0.22, 0.0, -0.22), strict=True):
        predicted = values[values["scenario"] == scenario].groupby(taxonomy)["predicted_share_rate"]
        axes.plot(
            predicted.mean().reindex(truth.index),
            places + aside,  # one above another where predictions agree
            color=COLOURS[scenario],
            marker=MARKERS[scenario],
            linestyle="",
            markersize=4,
            label=f"Predicted, {TITLES[scenario].lower()}",
        )
    axes.set_yticks(places, [f"{name}  (n = {n:,})" for name, n in truth["size"].items()])
    for label in axes.get_yticklabels():
        label.set(parse_math=False, fontsize="small", fontfamily=_fonts())
    which = f"the 20 of {kinds:,} values with most test rows" if kinds > 20 else "every value"
    axes.set_title(
        f"Share rate by {taxonomy.removeprefix(TAXONOMY)}, {which}", loc="left", parse_math=False
    )
    axes.set_xlabel(f"mean {rate}")
    axes.margins(y=0.02)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles[-1:] + handles[:-1],  # the bars, though drawn first, are listed last
        labels[-1:] + labels[:-1],
        loc="outside lower center",
        frameon=False,
        ncols=4,
        fontsize="small",
    )
    return figure


def values_of(cell: Any) -> list[str]:
    """The values of a taxonomy cell: one, a list, or joined by `;`; none where it is empty."""
    if isinstance(cell, str):
        cell = cell.split(";")
    elif not isinstance(cell, (list, tuple, np.ndarray)):
        cell = [] if pd.isna(cell) else [cell]
    texts = (str(value).strip() for value in cell)
    return list(dict.fromkeys(text for text in texts if text))


def _fonts() -> list[str]:
    """The default font, then those at hand that have the signs it lacks."""
    found = {font.name for font in font_manager.fontManager.ttflist}
    wide = ("Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei", "PingFang SC", "SimHei")
    return ["DejaVu Sans", *(name for name in wide if name in found)]
