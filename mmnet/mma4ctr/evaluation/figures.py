"""Figures of one run: ROC, training, activity of users and popularity of items, UMAP maps."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mmnet.checks import InputError
from mmnet.evaluation.plots import tidy

ACTIVITY = (100, 200, 500, 1000, 2000, 4000, 8000)
POPULARITY = (1, 2, 5, 10, 50, 200, 1000)
NEIGHBOURS = 50


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")


def roc(curves: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """ROC curves.

    Args:
        curves: name -> labels and scores.
    """
    figure = _figure(5, 4.6)
    axes = figure.subplots()
    tidy(axes)
    axes.plot([0, 1], [0, 1], color="#555555", linestyle=":", linewidth=1)
    for number, (name, (label, score)) in enumerate(curves.items()):
        order = np.argsort(-score, kind="stable")
        last = np.append(np.diff(score[order]) != 0, True)
        hits, misses = (np.cumsum(label[order] == kind)[last] for kind in (1, 0))
        x = np.append(0, misses / max(misses[-1], 1))
        y = np.append(0, hits / max(hits[-1], 1))
        kept = np.unique(np.linspace(0, len(x) - 1, 2000).astype(int))
        axes.plot(x[kept], y[kept], color=f"C{number % 10}", label=name)
    axes.set(xlabel="false positives", ylabel="true positives", xlim=(0, 1), ylim=(0, 1))
    axes.legend(loc="lower right", frameon=False)
    return figure


def training(history: Sequence[Mapping[str, Any]]) -> Figure:
    """Loss and validation AUC by epoch."""
    figure = _figure(9, 3.6)
    for axes, (key, label) in zip(
        figure.subplots(1, 2), (("loss", "loss"), ("auc", "validation AUC")), strict=True
    ):
        tidy(axes)
        axes.plot([row["epoch"] for row in history], [row[key] for row in history], marker="o")
        axes.set(xlabel="epoch", ylabel=label)
    return figure


def pies(user: np.ndarray, item: np.ndarray) -> Figure:
    """Distributions of rows per user and rows per item.

    Args:
        user: place of each row's user.
        item: place of each row's item.
    """
    figure = _figure(9, 4)
    for axes, codes, edges, title in zip(
        figure.subplots(1, 2),
        (user, item),
        (ACTIVITY, POPULARITY),
        ("users by rows", "items by rows"),
        strict=True,
    ):
        number = np.bincount(codes)
        bucket = np.searchsorted(edges, number[number > 0], side="right")
        sizes = np.bincount(bucket, minlength=len(edges) + 1)
        names = [f"< {edges[0]}"]
        names += [f"{a}-{b - 1}" for a, b in itertools.pairwise(edges)]
        names += [f">= {edges[-1]}"]
        there = sizes > 0
        axes.pie(
            sizes[there],
            labels=[name for name, is_there in zip(names, there, strict=True) if is_there],
            autopct="%.0f %%",
        )
        axes.set_title(title)
    return figure


def curve(
    points: Mapping[str, Sequence[tuple[float, float, float]]], label: str, logarithmic: bool
) -> Figure:
    """Test AUC over a setting, mean and sd over seeds.

    Args:
        points: series -> (setting, mean, sd).
        label: label of the setting.
        logarithmic: its axis.
    """
    figure = _figure(6, 4)
    axes = figure.subplots()
    tidy(axes)
    for name, rows in points.items():
        x, mean, sd = np.array(sorted(rows)).T
        axes.errorbar(x, mean, yerr=sd, marker="o", markersize=4, capsize=2, label=name)
    if logarithmic:
        axes.set_xscale("log")
    axes.axhline(0.5, color="#555555", linestyle=":", linewidth=1)
    axes.set(xlabel=label, ylabel="test AUC")
    if len(points) > 1:
        axes.legend(frameon=False)
    return figure


def maps(rows: np.ndarray, label: np.ndarray, dimensions: int, title: str, seed: int) -> Figure:
    """A UMAP map of rows of features or of hidden vectors.

    Args:
        rows: float [rows, columns].
        label: 0 or 1, the colour.
        dimensions: 2 or 3.
        title: title of the figure.
        seed: seed of the map.

    Raises:
        InputError: umap-learn is not installed.
    """
    try:
        import umap
    except ImportError:
        raise InputError("--umap needs umap-learn: pip install 'mmnet[umap]'") from None
    reducer = umap.UMAP(
        n_neighbors=min(NEIGHBOURS, len(rows) - 1), n_components=dimensions, random_state=seed
    )
    place = reducer.fit_transform(rows)
    figure = _figure(6, 5)
    axes = figure.subplots(subplot_kw={"projection": "3d"} if dimensions == 3 else {})
    for kind, colour, name in ((0, "#0072B2", "negative"), (1, "#D55E00", "positive")):
        axes.plot(*place[label == kind].T, ".", markersize=4, color=colour, label=name)
    axes.set_title(title)
    axes.legend(frameon=False)
    return figure
