"""Profile of a model's inputs, scores and errors in training and validation.

The profile is part of the export, so that drift from it can be detected wherever the model is
served. It describes examples with known outcomes, (item, period) with clicks in the period: the
same kind of rows is available for any new period once its counts are known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict

from mmnet import schema
from mmnet.data.dataset import Dataset
from mmnet.data.splits import Examples

if TYPE_CHECKING:
    from mmnet.data.windows import Windows

FILE = "profile.json"
"""File of an export, in `assets.extra/`."""
ROWS = 50_000
"""Maximum number of examples; it determines distributions to half a percent."""
BINS = 10
PERIODS = 12
"""Number of periods that define normal variation, the last ones of validation; as many periods
before them define the volume."""
VALUES = 20
"""Maximum number of values of a category to distinguish; the others are one group."""
REST, UNKNOWN, ABSENT = "(rest)", "(unknown)", "(absent)"
Values = dict[str, np.ndarray]
"""Input -> its value in each row: float64 with NaN where absent, or text."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Distribution(_Model):
    """Distribution of one input.

    Attributes:
        n: number of rows.
        absent: share of rows without a value.
        median: median of the other rows; None for a category.
        edges: inner borders of the bins of numbers, deciles unless values are tied.
        values: values of a category, the most frequent first.
        shares: shares of rows in the bins, or with the values and then `REST`, and last absent.
        quantiles: quantiles of present numbers at 0, 1, ..., 100 %; empty for a category.
        usual_psi, usual_ks: the largest values of any validation period compared with this.
    """

    n: int
    absent: float
    median: float | None = None
    edges: tuple[float, ...] = ()
    values: tuple[str, ...] = ()
    shares: tuple[float, ...]
    quantiles: tuple[float, ...] = ()
    usual_psi: float = 0.0
    usual_ks: float = 0.0

    def bins(self, values: np.ndarray) -> np.ndarray:
        """Returns the shares of other values in the bins of this distribution."""
        if self.quantiles or values.dtype != object:
            present = values[~np.isnan(values)]
            place = np.searchsorted(self.edges, present, side="left")
            counts = np.bincount(place, minlength=len(self.edges) + 1)
            counts = np.append(counts, len(values) - len(present))
        else:
            known = {value: number for number, value in enumerate(self.values)}
            last = len(known) + 1
            place = [last if v == ABSENT else known.get(v, last - 1) for v in values]
            counts = np.bincount(place, minlength=last + 1)
        return counts / max(1, len(values))


def psi(distribution: Distribution, values: np.ndarray) -> float:
    """Computes the population stability index: sum over bins of (now - then) ln(now / then).

    Half a row is added to every bin on both sides, so that an empty bin counts as one that so few
    rows did not reach.

    >>> round(psi(distribution(np.repeat([1.0, 2.0], 500)), np.repeat([1.0, 2.0], [900, 100])), 2)
    0.88
    """
    then = _smoothed(np.array(distribution.shares), distribution.n)
    now = _smoothed(distribution.bins(values), len(values))
    return float(np.sum((now - then) * np.log(now / then)))


def _smoothed(shares: np.ndarray, rows: int) -> np.ndarray:
    return (shares * rows + 0.5) / (rows + 0.5 * len(shares))


def ks(distribution: Distribution, values: np.ndarray) -> float:
    """Computes the largest distance of two distribution functions, by 101 quantiles: to 1 %.

    NaN for a category, or if either side has no values.
    """
    if not distribution.quantiles or values.dtype == object:
        return float("nan")
    present = np.sort(values[~np.isnan(values)])
    if not len(present):
        return float("nan")
    grid, place = np.unique(distribution.quantiles, return_index=True)
    # At a value with several quantiles, the function jumps from the first to the last of them.
    below = place / 100
    last = np.append(place[1:], len(distribution.quantiles)) - 1
    upto = last / 100
    at_most = np.searchsorted(present, grid, side="right") / len(present)
    under = np.searchsorted(present, grid, side="left") / len(present)
    jumps = upto > below
    # Between two quantiles, the function is only known to be between their values.
    return float(
        max(np.max(np.abs(at_most - upto)), np.max(np.abs(under - below)[jumps], initial=0))
    )


class Period(_Model):
    """Statistics of one period.

    Attributes:
        rows: number of examples.
        clicks: total clicks of the period.
        bias: mean prediction minus mean true rate, percent; None in training, which has seen them.
    """

    rows: int
    clicks: int
    bias: float | None


class Profile(_Model):
    """`profile.json`.

    Attributes:
        inputs: distributions of the training examples, by name.
        score: distribution of the validation examples' scores.
        items: number of distinct items in the training examples.
        mean_rate: mean of the validation targets, percent.
        bias: bias on validation, percent.
        periods: the last periods of training and validation, by label.
    """

    inputs: dict[str, Distribution]
    score: Distribution
    items: int
    mean_rate: float
    bias: float
    periods: dict[str, Period]

    @property
    def constant_rate(self) -> float | None:
        """The common rate of all targets that rules were solved on, percent; None if they differ.

        Only the mean of the targets is stored. Whether they all have the same rate, other than 0,
        is inferred from the rates of the windows, which then have it too.
        """
        seen = self.inputs["history: share rate"].quantiles
        if self.mean_rate == 0:
            return 0.0
        same = bool(seen) and seen[0] == seen[-1]
        return seen[0] if same and math.isclose(seen[0], self.mean_rate, rel_tol=1e-6) else None


def sample(examples: Examples, number: int = ROWS) -> Examples:
    """Chooses evenly spaced examples, at most `number`."""
    chosen = np.unique(np.linspace(0, len(examples) - 1, number).astype(int))
    return examples.taken(chosen)


def observe(dataset: Dataset, windows: Windows, examples: Examples) -> Values:
    """Returns every input as one number, or one text, per example.

    Returns:
        `history: ...` (share rate, missing share, clicks), likewise `history of <rate>: ...`,
        `taxonomy rate: <name>`, `taxonomy evidence: <name>`, `numeric: <name>`, `field: <name>`,
        `text: <name>` (known words), `vector: <name>` (its length) and `target clicks`.
    """
    spec = dataset.fitted.spec
    parts: dict[str, list[np.ndarray]] = {}
    for _, inputs in windows.batches(examples, 4096):
        for name, values in _observed({k: v.numpy() for k, v in inputs.items()}, dataset).items():
            parts.setdefault(name, []).append(values)
    found = {name: np.concatenate(values) for name, values in parts.items()}
    target = examples.times.astype(np.int64) + spec.horizon
    found["target clicks"] = dataset.panel.clicks[examples.items, target].astype(np.float64)
    return found


def _observed(inputs: Mapping[str, np.ndarray], dataset: Dataset) -> Values:
    fitted = (dataset.inputs_of or dataset).fitted
    spec, vocabularies = fitted.spec, fitted.vocabularies
    found: Values = {}
    for of in ("", *(one.name for one in spec.rates)):
        own, title = spec.sequences(of), f"history of {of}" if of else "history"
        rate, flag, clicks = (
            inputs[own[tensor.name]].astype(np.float64) for tensor in schema.HISTORY
        )
        found |= {
            f"{title}: share rate": _mean(rate, flag == 0),
            f"{title}: missing share": flag.mean(axis=1),
            f"{title}: clicks": clicks.sum(axis=1),
        }
    for number, name in enumerate(spec.taxonomies):
        rates = inputs[schema.TAXONOMY_RATE.name][..., number].astype(np.float64)
        seen = inputs[schema.TAXONOMY_MISSING_FLAG.name][..., number] == 0
        found[f"taxonomy rate: {name}"] = _mean(rates, seen)
        if spec.taxonomy_evidence:
            evidence = inputs[schema.TAXONOMY_EVIDENCE.name][..., number].astype(np.float64)
            found[f"taxonomy evidence: {name}"] = _mean(evidence, evidence >= 0)
    if spec.age:
        age = inputs[schema.AGE.name].astype(np.float64)
        found["age at the target"] = np.where(age >= 0, age, np.nan)
    if spec.lifetime:
        clicks = inputs[schema.EARLIER_CLICKS.name].astype(np.float64)
        rate = inputs[schema.EARLIER_RATE.name].astype(np.float64)
        found["before the window: clicks"] = np.where(clicks >= 0, clicks, np.nan)
        found["before the window: share rate"] = np.where(clicks > 0, rate, np.nan)
    for numeric in spec.numerics:
        found[f"numeric: {numeric.name}"] = inputs[numeric.tensor].astype(np.float64)
    for field in spec.fields:
        # Of the ids at hand alone: a batch has few of a large vocabulary's.
        ids, of_rows = np.unique(inputs[field.tensor][:, 0], return_inverse=True)
        names = [_value(number, vocabularies[field.tensor]) for number in ids.tolist()]
        found[f"field: {field.name}"] = np.array(names, object)[of_rows]
    for text in spec.texts:
        known = (inputs[text.tensor] >= schema.FIRST_ID).sum(axis=1).astype(np.float64)
        found[f"text: {text.name}"] = np.where(inputs[text.tensor].any(axis=1), known, np.nan)
    for vector in spec.vectors:
        length = np.linalg.norm(inputs[vector.tensor].astype(np.float64), axis=1)
        found[f"vector: {vector.name}"] = np.where(length > 0, length, np.nan)
    return found


def _value(number: int, vocabulary: Sequence[str]) -> str:
    """Returns the value of an id, or why it has none."""
    if number >= schema.FIRST_ID:
        return vocabulary[number - schema.FIRST_ID]
    return UNKNOWN if number == schema.UNKNOWN_ID else ABSENT


def _mean(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    number = known.sum(axis=1)
    return np.where(number > 0, (values * known).sum(axis=1) / np.maximum(number, 1), np.nan)


def distribution(values: np.ndarray) -> Distribution:
    """Computes the distribution of one input's values."""
    if values.dtype == object:
        names, counts = np.unique(values[values != ABSENT], return_counts=True)
        often = [str(names[i]) for i in np.argsort(-counts, kind="stable")[:VALUES]]
        absent = float(np.mean(values == ABSENT))
        empty = Distribution(n=len(values), absent=absent, values=tuple(often), shares=())
    else:
        present = values[~np.isnan(values)]
        grid = (
            np.quantile(present, np.linspace(0, 1, 101), method="inverted_cdf")
            if len(present)
            else np.array([])
        )
        tenths = grid[10:100:BINS] if len(present) else grid
        empty = Distribution(
            n=len(values),
            absent=float(np.mean(np.isnan(values))),
            median=float(grid[50]) if len(present) else None,
            edges=tuple(np.unique(tenths[tenths < grid[-1]]).tolist()) if len(present) else (),
            quantiles=tuple(grid.tolist()),
            shares=(),
        )
    return empty.model_copy(update={"shares": tuple(empty.bins(values).tolist())})


def fit(
    dataset: Dataset,
    windows: Windows,
    training: Examples,
    validation: Examples,
    predicted: np.ndarray,
) -> Profile:
    """Computes the profile of training, and the distance of each validation period from it.

    Args:
        dataset: dataset of the examples.
        windows: windows of the dataset.
        training: training examples.
        validation: validation examples.
        predicted: scores of the validation examples, percent.
    """
    panel, horizon = dataset.panel, dataset.fitted.spec.horizon
    training = sample(training)
    inputs = {
        name: distribution(values) for name, values in observe(dataset, windows, training).items()
    }
    # Targets of validation need more clicks than those of training; normal variation is measured
    # on the same kind of rows as in training: all with clicks.
    truth = windows.targets(validation).astype(np.float64)
    target = validation.times.astype(np.int64) + horizon
    usual = {name: [0.0, 0.0] for name in inputs}
    score = distribution(predicted.astype(np.float64))
    usual_score = [0.0, 0.0]
    periods: dict[str, Period] = {}
    columns = np.unique(target)[-PERIODS:]
    for column in range(max(0, int(columns[0]) - PERIODS), int(columns[0])):
        periods[str(panel.label(column))] = Period(
            rows=len(of_period(dataset, column)),
            clicks=panel.clicks_in(int(column)),
            bias=None,
        )
    for column in columns:
        rows = target == column
        of_column = of_period(dataset, int(column))
        found = observe(dataset, windows, sample(of_column))
        for name, values in found.items():
            _raise_to(usual[name], inputs[name], values)
        _raise_to(usual_score, score, predicted[rows].astype(np.float64))
        periods[str(panel.label(int(column)))] = Period(
            rows=len(of_column),
            clicks=panel.clicks_in(int(column)),
            bias=float(np.mean(predicted[rows]) - np.mean(truth[rows])),
        )
    return Profile(
        inputs={
            name: one.model_copy(update={"usual_psi": usual[name][0], "usual_ks": usual[name][1]})
            for name, one in inputs.items()
        },
        score=score.model_copy(update={"usual_psi": usual_score[0], "usual_ks": usual_score[1]}),
        items=len(np.unique(training.items)),
        mean_rate=float(np.mean(truth)),
        bias=float(np.mean(predicted) - np.mean(truth)),
        periods=periods,
    )


def _raise_to(largest: list[float], then: Distribution, values: np.ndarray) -> None:
    largest[0] = max(largest[0], psi(then, values))
    largest[1] = float(np.nanmax([largest[1], ks(then, values)]))


def of_period(dataset: Dataset, column: int, min_clicks: int | None = None) -> Examples:
    """Returns examples whose target is this column of the panel: every item with clicks in it.

    Args:
        dataset: dataset of the examples.
        column: column of the panel; the window ends `horizon` before.
        min_clicks: minimum clicks; default: those of a training target.
    """
    task, panel = dataset.fitted.task, dataset.panel
    least = task.min_train_clicks if min_clicks is None else min_clicks
    clicked = (panel.clicks[:, column] >= least) & (panel.release <= column)
    items = np.flatnonzero(clicked).astype(np.int32)
    time = column - dataset.fitted.spec.horizon
    return Examples(items, np.full(len(items), time, np.int32))
