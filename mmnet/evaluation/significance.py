"""Statistical significance of differences between systems, over test items and over seeds.

    align    predictions of many runs (system x seed)   ->  one `Predictions` per scenario
    measure  -> one `Measure` per scenario and metric   ->  `comparisons`: tidy tables

Two sources of sampling error are counted, for every metric in the same way:

- Test rows. Rows of one item rise and fall together, so the variance of a mean over rows is
  clustered by item, and where rolling origins give many periods by item and period (Cameron,
  Gelbach & Miller, 2011, "Robust inference with multiway clustering", JBES 29(2)). The variance of
  P@N, which is not a mean over rows, is that of a bootstrap of items.
- Training. A system's value is its mean over n seeds, whose variance s²/n is added. What depends
  on item and seed together is in both estimates; it is subtracted once (`repeated`). A system of
  which every run predicts the same adds nothing; one that was trained once adds nothing that is
  known, and every result that rests on it is marked (`seed_variance_known`).

These variances have very different degrees of freedom (thousands of items, five seeds), and
Satterthwaite's t rejects a true hypothesis too often: at alpha = .01 up to 1.7 times as often with
five seeds and 3.5 times with three. `half_width` uses two more careful rules, by the number of
seeds. By simulation (experiments/significance: 215 to 1,171 items, 3 to 10 seeds), they declare
equal systems different at most as often as alpha = .05 and 1.3 times as often as .01, as long as
the errors of both systems have the same distribution, however skewed. Where one system alone has
rare, large errors, it is up to 1.7 and 3.4 times as often, since means of few heavy-tailed items
are skewed. Seeds are assumed to be normal: with three seeds, of which one is now and then an
outlier, equal systems are declared different too often.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mmnet import checks
from mmnet.evaluation.precision import Ranked, precision_at, top_sizes

PERCENTS = (5, 10)
KEY = ["item_id", "period"]
COLUMNS = ("scenario", *KEY, "share_rate", "predicted_share_rate")
CHUNK = 2_000_000  # rows times replicates at once: 16 MB per array


@dataclass(frozen=True)
class Predictions:
    """The predictions of every system for the same rows of one scenario.

    Args:
        truth: share rates, percent, [rows].
        item: item of each row, anything sortable, [rows].
        period: the target's period, anything sortable, [rows].
        predicted: system → percent, [seeds, rows]; systems may differ in their number of seeds.
        deterministic: systems that do not depend on a seed, for which one run is enough.

    Raises:
        ValueError: shapes differ, a value is not finite, an item and period are repeated, or
            runs of a deterministic system differ.
    """

    truth: np.ndarray
    item: np.ndarray
    period: np.ndarray
    predicted: Mapping[str, np.ndarray]
    deterministic: frozenset[str] = frozenset()

    def __post_init__(self):
        checks.same_shape(truth=self.truth, item=self.item, period=self.period)
        if self.truth.ndim != 1 or not self.truth.size or not self.predicted:
            raise ValueError(
                "`Predictions` need at least one row and one system. "
                f"Received: truth of shape {self.truth.shape}, {len(self.predicted)} systems"
            )
        if pd.MultiIndex.from_arrays([self.item, self.period]).has_duplicates:
            raise ValueError("`item` and `period` must identify a row. Received: a duplicate pair")
        for system, runs in self.predicted.items():
            if runs.ndim != 2 or not len(runs) or runs.shape[1:] != self.truth.shape:
                raise ValueError(
                    f"`predicted` must be [seeds, {len(self.truth)} rows]. "
                    f"Received: {system} of shape {runs.shape}"
                )
            if system in self.deterministic and len(self.runs(system)) > 1:
                raise ValueError(
                    "Runs of a system in `deterministic` must predict the same. "
                    f"Received: {system}, whose runs differ"
                )
        if not all(np.isfinite(values).all() for values in (self.truth, *self.predicted.values())):
            raise ValueError("`Predictions` must be finite. Received: NaN or infinity")

    def runs(self, system: str) -> np.ndarray:
        """A system's predictions, [seeds, rows]; one row where every run predicts the same."""
        runs = self.predicted[system]
        return runs[:1] if (runs == runs[0]).all() else runs

    @property
    def trained_once(self) -> frozenset[str]:
        """Systems whose seed variance exists but is unknown."""
        return frozenset(s for s, r in self.predicted.items() if len(r) == 1) - self.deterministic


def align(
    cells: Iterable[tuple[str, pd.DataFrame]], deterministic: Iterable[str] = ()
) -> dict[str, Predictions]:
    """Align the predictions of many runs row by row.

    Args:
        cells: (system, predictions of one seed), the latter with `scenario`, `item_id`, `period`,
            `share_rate` and `predicted_share_rate`, rows in any order; runs of several origins
            joined. Read one at a time, so a generator keeps little in memory.
        deterministic: systems that no seed can change.

    Returns:
        Scenario → predictions, rows in the order of the first cell.

    Raises:
        ValueError: a column is missing, or cells differ in scenarios, rows or truth.

    >>> frame = pd.DataFrame({"scenario": "normal", "item_id": ["a", "b"], "period": [7, 7],
    ...                       "share_rate": [1.0, 2.0], "predicted_share_rate": [1.5, 1.5]})
    >>> align([("ha", frame), ("ha", frame[::-1])])["normal"].predicted["ha"].tolist()
    [[1.5, 1.5], [1.5, 1.5]]
    """
    first: dict[str, pd.DataFrame] = {}
    predicted: dict[str, dict[str, list[np.ndarray]]] = {}
    for system, frame in cells:
        missing = [column for column in COLUMNS if column not in frame]
        if missing:
            raise ValueError(f"A cell of {system} lacks the column {', '.join(missing)}")
        parts = {str(name): rows for name, rows in frame.groupby("scenario", sort=False)}
        first = first or {name: rows.reset_index(drop=True) for name, rows in parts.items()}
        if set(parts) != set(first):
            raise ValueError(
                f"Cells must have the same scenarios, {', '.join(first)}. "
                f"Received: a cell of {system} with {', '.join(parts)}"
            )
        for name, rows in parts.items():
            found = _in_order(first[name], rows, f"a cell of {system} in {name}")
            predicted.setdefault(name, {}).setdefault(system, []).append(found)
    return {
        name: Predictions(
            rows["share_rate"].to_numpy(np.float64),
            rows["item_id"].to_numpy(),
            rows["period"].to_numpy(),
            {system: np.stack(runs) for system, runs in predicted[name].items()},
            frozenset(deterministic),
        )
        for name, rows in first.items()
    }


def _in_order(first: pd.DataFrame, rows: pd.DataFrame, cell: str) -> np.ndarray:
    """The predictions of `rows` in the order of `first`, once both are of the same rows."""
    index, wanted = pd.MultiIndex.from_frame(rows[KEY]), pd.MultiIndex.from_frame(first[KEY])
    if index.has_duplicates:
        raise ValueError(
            "Cells must have one row per scenario, item_id and period. "
            f"Received: two of {index[index.duplicated()][0]} in {cell}"
        )
    position = index.get_indexer(wanted)
    if len(rows) != len(first) or (position < 0).any():
        raise ValueError(
            f"Cells must have the same test rows. Received: {cell} has {len(rows)} rows, "
            f"which include {np.count_nonzero(position >= 0)} of the first cell's {len(first)}"
        )
    rows = rows.iloc[position]
    # Share rates are float32 at heart; other versions of the arithmetic may round them elsewhere.
    truths = rows["share_rate"].to_numpy(float), first["share_rate"].to_numpy(float)
    if (differ := ~np.isclose(*truths, rtol=1e-6, atol=1e-9)).any():
        raise ValueError(
            f"Cells must have the same truth. Received: {cell} has a different share_rate in "
            f"{np.count_nonzero(differ)} rows, such as {wanted[differ][0]}"
        )
    return rows["predicted_share_rate"].to_numpy(np.float64)


# ------------------------------------------------------------------ sampling error of test rows


class Clusters:
    """Clusters of correlated rows: those of an item, and those of a period if given.

    Args:
        item: anything sortable, [rows].
        period: anything sortable, [rows]; None clusters by item alone.

    Raises:
        ValueError: there are fewer than two items or periods.
    """

    def __init__(self, item: np.ndarray, period: np.ndarray | None = None):
        ways = {"item": item} if period is None else {"item": item, "period": period}
        self.codes = [np.unique(np.asarray(way), return_inverse=True)[1] for way in ways.values()]
        for name, code in zip(ways, self.codes, strict=True):
            if code.max(initial=0) < 1:
                raise ValueError(f"`{name}` must have at least two values. Received: fewer")
        if period is not None:
            pair = self.codes[0] * (self.codes[1].max() + 1) + self.codes[1]
            self._both = np.unique(pair, return_inverse=True)[1]

    def variance(self, values: np.ndarray) -> float:
        """Variance of the mean of `values`, [rows], as a sample of clusters.

        With G clusters and the residuals' sums S_g, V = G/(G - 1) Σ S_g² / rows². By two ways it is
        V_item + V_period - V_both (Cameron, Gelbach & Miller, 2011). By sampling error that
        difference can be negative or close to 0; it is never taken below either of the one-way
        variances.

        >>> Clusters(["a", "a", "b", "b"]).variance([1.0, 1.0, 3.0, 3.0])  # two means, not four
        1.0
        """
        residual = np.asarray(values, np.float64) - np.mean(values)
        by_way = [_one_way(residual, code) for code in self.codes]
        if len(by_way) == 1:
            return by_way[0]
        return max(sum(by_way) - _one_way(residual, self._both), *by_way)

    @property
    def freedom(self) -> float:
        """Degrees of freedom of the variance, of the way that has fewer.

        (Σ n_g²)² / Σ n_g⁴ - 1 for clusters of n_g rows: clusters - 1 where all are of one size, and
        fewer where some are large, as if the rows of a cluster were one and the same.
        """
        sizes = [np.bincount(code).astype(np.float64) for code in self.codes]
        return float(min(np.sum(n**2) ** 2 / np.sum(n**4) - 1 for n in sizes))

    def resample(self, replicates: int, seed: int) -> Iterable[np.ndarray]:
        """Bootstrap weights of rows, whole numbers, in chunks [rows, some of the replicates].

        Clusters are drawn with replacement. By two ways, a row's weight is the product of its
        item's and its period's, which errs towards larger variances (Owen, 2007, "The pigeonhole
        bootstrap", Annals of Applied Statistics 1(2)).
        """
        draws = np.random.default_rng(seed).spawn(len(self.codes))
        step = max(1, CHUNK // len(self.codes[0]))
        for start in range(0, replicates, step):
            weights = np.ones((1, 1))
            for draw, code in zip(draws, self.codes, strict=True):
                count = int(code.max()) + 1
                shape = min(step, replicates - start)
                drawn = draw.multinomial(count, np.full(count, 1 / count), size=shape)
                weights = weights * np.ascontiguousarray(drawn.T, np.float64)[code]
            yield weights


def _one_way(residual: np.ndarray, code: np.ndarray) -> float:
    sums = np.bincount(code, residual)
    return float(len(sums) / (len(sums) - 1) * np.sum(sums**2) / len(residual) ** 2)


# -------------------------------------------------------------------- estimates and their error


@dataclass(frozen=True)
class Estimate:
    """A value or a difference with its interval.

    Args:
        value: in the metric's unit.
        error: its standard error.
        low: lower end of the interval.
        high: upper end of it.
        p: two-sided, of the hypothesis that the value is 0.
        seed_variance_known: False where a system was trained once, so that interval and p leave
            out the sampling error of its training.
    """

    value: float
    error: float
    low: float
    high: float
    p: float
    seed_variance_known: bool = True


ENOUGH = 4
"""Degrees of freedom from which `half_width` averages them; those of five seeds."""


def half_width(variances: ArrayLike, freedoms: ArrayLike, level: ArrayLike) -> np.ndarray:
    """Half width of the interval of a value whose variance is a sum of independent estimates.

    With v_k the parts of the variance, V their sum, f_k their degrees of freedom and t(f) the
    two-sided quantile of the t distribution at `level`:

        every f_k >= 4:  √V t(f)  with  V / f = Σ v_k / f_k
        otherwise:       Σ v_k t(f_k) / √V

    The second is that of Cochran and Cox (1950, "Experimental designs", section 4.14). The first
    averages 1 / f_k in place of the quantiles, which are convex in 1 / f, so that it is never
    wider. It is Satterthwaite's rule with the weights v_k / V in place of their squares: his
    degrees of freedom are larger, and too large where v_k is small by chance. Where one variance
    is all, both are the usual t interval.

    Args:
        variances: v_k, not negative, [..., parts].
        freedoms: f_k, more than 0, [parts].
        level: 1 - confidence, in (0, 1), [...] or one for all.

    Returns:
        Half widths, [...].
    """
    from scipy import special  # few of those that need this file combine anything

    parts, freedom = np.asarray(variances, np.float64), np.asarray(freedoms, np.float64)
    total, tail = parts.sum(axis=-1), np.asarray(level, np.float64) / 2
    if freedom.min() >= ENOUGH:
        quantile = -special.stdtrit(_averaged(parts, freedom), tail)
    else:
        weights = parts / np.where(total > 0, total, 1)[..., None]
        quantile = np.sum(weights * -special.stdtrit(freedom, tail[..., None]), axis=-1)
    return np.sqrt(total) * quantile


def _averaged(parts: np.ndarray, freedom: np.ndarray) -> np.ndarray:
    """V / Σ (v_k / f_k), [...]; 1 where all v_k are 0."""
    total = parts.sum(axis=-1)
    return np.where(total > 0, total, 1) / np.where(total > 0, np.sum(parts / freedom, axis=-1), 1)


def combine(
    value: float,
    variances: Sequence[float],
    freedoms: Sequence[float],
    *,
    confidence: float = 0.95,
    seed_variance_known: bool = True,
) -> Estimate:
    """Compute interval and p-value of a value whose variance is a sum of independent estimates.

    The interval is value ± `half_width`, and p is where its end meets 0.

    Args:
        value: what is estimated.
        variances: v_k of its independent parts, not negative.
        freedoms: f_k, more than 0.
        confidence: confidence level of the interval, in (0, 1).
        seed_variance_known: handed on.

    >>> estimate = combine(2.0, [0.5, 0.5], [1e6, 4], confidence=0.95)  # t(8) = 2.31
    >>> round(estimate.error, 2), round(estimate.low, 2), round(estimate.high, 2)
    (1.0, -0.31, 4.31)
    """
    if not 0 < confidence < 1:
        raise ValueError(f"`confidence` must be in (0, 1). Received: confidence={confidence}")
    from scipy import special  # as above

    parts, freedom = np.asarray(variances, np.float64), np.asarray(freedoms, np.float64)
    width = float(half_width(parts, freedom, 1 - confidence))
    error = float(np.sqrt(parts.sum()))
    if value == 0 or not error:
        p = 1.0 if value == 0 else 0.0
    elif freedom.min() >= ENOUGH:
        p = 2 * float(special.stdtr(_averaged(parts, freedom), -abs(value) / error))
    else:
        low, high = -150.0, 0.0  # log10 p, by bisection; nothing is told apart below 1e-150
        for _ in range(50):
            middle = (low + high) / 2
            wide = half_width(parts, freedom, 10**middle) > abs(value)
            low, high = (middle, high) if wide else (low, middle)
        p = float(10**high)
    return Estimate(
        value,
        error,
        value - width,
        value + width,
        p,
        seed_variance_known,
    )


@dataclass(frozen=True)
class Measure:
    """One metric of all systems in one scenario.

    Args:
        seeds: system → its value of each seed that is not a repetition, [seeds].
        num_seeds: system → how many runs there are.
        freedom: degrees of freedom of the variance due to test rows.
        trained_once: systems whose seed variance cannot be known.
        lower_is_better: whether smaller values are better.
        limits: smallest and largest possible value.
    """

    seeds: Mapping[str, np.ndarray]
    num_seeds: Mapping[str, int]
    freedom: float
    trained_once: frozenset[str]
    lower_is_better: bool
    limits: tuple[float, float]

    def row_variance(self, systems: Sequence[str]) -> float:
        """Variance due to test rows of one system's value, or of the first minus the second."""
        raise NotImplementedError

    def of(self, systems: Sequence[str]) -> Self:
        """The same measure of some of its systems, in the order given."""
        return replace(
            self,
            seeds={name: self.seeds[name] for name in systems},
            num_seeds={name: self.num_seeds[name] for name in systems},
        )

    def interval(self, system: str, confidence: float = 0.95) -> Estimate:
        """The system's mean over seeds; the interval ends at the metric's limits."""
        found = self._combine([system], confidence)
        low, high = np.clip([found.low, found.high], *self.limits)
        return replace(found, low=float(low), high=float(high))

    def difference(self, system: str, other: str, confidence: float = 0.95) -> Estimate:
        """The system's value minus the other's, paired by test row."""
        return self._combine([system, other], confidence)

    def ranking(self) -> list[str]:
        """Systems by value, the best first."""
        return sorted(self.seeds, key=self._mean, reverse=not self.lower_is_better)

    def sd_over_seeds(self, system: str) -> float:
        """Standard deviation over seeds; NaN of one run."""
        if self.num_seeds[system] == 1:
            return float("nan")
        seeds = self.seeds[system]
        return float(np.std(seeds, ddof=1)) if len(seeds) > 1 else 0.0

    def _mean(self, system: str) -> float:
        return float(np.mean(self.seeds[system]))

    def _combine(self, systems: Sequence[str], confidence: float) -> Estimate:
        """The value of one system, or the first one's minus the second one's."""
        trained = [seeds for s in systems if len(seeds := self.seeds[s]) > 1]
        return combine(
            self._mean(systems[0]) - sum(self._mean(s) for s in systems[1:]),
            [
                self.row_variance(systems),
                *(np.var(seeds, ddof=1) / len(seeds) for seeds in trained),
            ],
            [self.freedom, *(len(seeds) - 1 for seeds in trained)],
            confidence=confidence,
            seed_variance_known=self.trained_once.isdisjoint(systems),
        )


@dataclass(frozen=True)
class SampledMeasure(Measure):
    """A measure whose variance due to test rows is estimated from samples.

    Args:
        samples: system → squared errors, [seeds, rows], or bootstrap values, [seeds, replicates].
        variance: maps (a difference of) samples to the variance due to test rows.
    """

    samples: Mapping[str, np.ndarray]
    variance: Callable[[np.ndarray], float]

    def row_variance(self, systems: Sequence[str]) -> float:
        """See `Measure`; what the variance of the seeds counts too is subtracted."""
        own, *others = (self.samples[s].mean(axis=0) for s in systems)
        twice = sum(repeated(self.variance, self.samples[s]) for s in systems)
        return max(0.0, self.variance(own - sum(others)) - twice)

    def of(self, systems: Sequence[str]) -> Self:
        """See `Measure`."""
        return replace(super().of(systems), samples={name: self.samples[name] for name in systems})


@dataclass(frozen=True)
class KeptMeasure(Measure):
    """A measure whose variances due to test rows were computed before.

    Args:
        variances: one system or two in alphabetical order → result of `row_variance`.
    """

    variances: Mapping[tuple[str, ...], float]

    def row_variance(self, systems: Sequence[str]) -> float:
        """See `Measure`."""
        return self.variances[tuple(sorted(systems))]


def repeated(variance: Callable[[np.ndarray], float], samples: np.ndarray) -> float:
    """The part of a mean's variance that is in that of test rows and in that of seeds.

    What depends on row and seed together, of variance σ², adds σ² / (n rows) to the variance of the
    mean over n seeds: once in `variance` of the samples' mean, and once in s²/n of the seeds.

    Args:
        variance: maps samples of one seed to the variance due to test rows.
        samples: one row per seed, [seeds, samples]; one seed repeats nothing.

    >>> repeated(np.var, np.array([[1.0, 3.0], [3.0, 1.0]]))  # Σ 1 / (2 · 1)
    1.0
    """
    seeds = len(samples)
    if seeds == 1:
        return 0.0
    own = samples - samples.mean(axis=0)
    return float(sum(variance(one) for one in own) / (seeds * (seeds - 1)))


def measure_mse(predictions: Predictions, *, by_period: bool = False) -> SampledMeasure:
    """MSE in percent² (Eq. 11), with the clustered variance of squared errors.

    Args:
        predictions: predictions of one scenario.
        by_period: cluster by period too, for rolling origins; degrees of freedom are then those of
            the periods, so a handful of them can show little.
    """
    clusters = Clusters(predictions.item, predictions.period if by_period else None)
    squared = {s: (predictions.runs(s) - predictions.truth) ** 2 for s in predictions.predicted}
    return SampledMeasure(
        seeds={system: errors.mean(axis=1) for system, errors in squared.items()},
        num_seeds={system: len(runs) for system, runs in predictions.predicted.items()},
        samples=squared,
        variance=clusters.variance,
        freedom=clusters.freedom,
        trained_once=predictions.trained_once,
        lower_is_better=True,
        limits=(0.0, np.inf),
    )


def measure_precision(
    predictions: Predictions,
    percents: Sequence[float] = PERCENTS,
    *,
    replicates: int,
    seed: int = 0,
    by_period: bool = False,
) -> dict[float, SampledMeasure]:
    """P@N%, in [0, 1], with the variance of a bootstrap of items; one measure per N.

    The bootstrap gives the variance, not the ends of the interval or p: a share of 1,000 replicates
    cannot be small enough to stand a correction for hundreds of pairs, and the resampling of three
    seeds sees two thirds of their variance. Every replicate keeps all seeds, and theirs is added
    as for MSE.

    Args:
        predictions: predictions of one scenario.
        percents: N, each in (0, 100].
        replicates: how many bootstrap samples, at least 2.
        seed: seed of the bootstrap; the same items are drawn for all systems.
        by_period: resample periods too.
    """
    checks.at_least(2, replicates=replicates)
    clusters = Clusters(predictions.item, predictions.period if by_period else None)
    truth, systems = Ranked(predictions.truth), list(predictions.predicted)
    runs = {system: predictions.runs(system) for system in systems}
    ranked = {system: [Ranked(run) for run in runs[system]] for system in systems}
    samples: dict[float, dict[str, list[np.ndarray]]] = {
        percent: {system: [] for system in systems} for percent in percents
    }
    for weights in clusters.resample(replicates, seed):
        for percent in percents:
            size = top_sizes(percent, weights)
            true_weight = truth.top(weights, size).member() * weights
            for system in systems:
                hits = [run.top(weights, size).total(true_weight) for run in ranked[system]]
                samples[percent][system].append(np.array(hits) / size)
    return {
        percent: SampledMeasure(
            seeds={
                system: np.array([precision_at(percent, predictions.truth, run) for run in found])
                for system, found in runs.items()
            },
            num_seeds={system: len(found) for system, found in predictions.predicted.items()},
            samples={s: np.concatenate(parts, axis=1) for s, parts in samples[percent].items()},
            variance=_sample_variance,
            freedom=clusters.freedom,
            trained_once=predictions.trained_once,
            lower_is_better=False,
            limits=(0.0, 1.0),
        )
        for percent in percents
    }


def _sample_variance(samples: np.ndarray) -> float:
    return float(np.var(samples, ddof=1))


def measure(
    scenarios: Mapping[str, Predictions],
    *,
    percents: Sequence[float] = PERCENTS,
    replicates: int,
    seed: int = 0,
    by_period: bool = False,
) -> dict[tuple[str, str], SampledMeasure]:
    """MSE and P@N% of every scenario: (scenario, `mse` or `precision_at_N`) → measure.

    Args:
        scenarios: result of `align`.
        percents: N of P@N%.
        replicates: number of bootstrap replicates of P@N.
        seed: seed of the bootstrap.
        by_period: cluster by item and period instead of by item.
    """
    found: dict[tuple[str, str], SampledMeasure] = {}
    for scenario, predictions in scenarios.items():
        found[scenario, "mse"] = measure_mse(predictions, by_period=by_period)
        precisions = measure_precision(
            predictions, percents, replicates=replicates, seed=seed, by_period=by_period
        )
        for percent, precision in precisions.items():
            found[scenario, f"precision_at_{percent:g}"] = precision
    return found
