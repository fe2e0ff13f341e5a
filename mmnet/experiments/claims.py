"""Checks of the paper's claims: each one holds, does not hold, or cannot be decided.

Every check is a sum of logarithms of MSEs, such as log(MSE of a baseline / MSE of MMNet), that the
claim expects to be above 0. Its interval includes the sampling error of test items and seeds, see
`evaluation.significance`; a claim of several parts holds if all do, and fails if one does. A
system that was trained once decides nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy import stats

from mmnet.evaluation import plots
from mmnet.evaluation.significance import Clusters, Estimate, Predictions, combine, repeated
from mmnet.experiments.needed import to_decide
from mmnet.schema import SCENARIOS

HOLDS, FAILS, OPEN = "holds", "does not hold", "not decidable"
PUBLISHED = ("ha", "gru", "encoder_decoder", "mmved", "dftc")
"""The baselines of Table 1."""

Term = tuple[float, str, str]
"""Term of a sum: factor, system and scenario stand for factor · log(MSE)."""


@dataclass(frozen=True)
class Part:
    """One check of a claim, with its text, verdict and margin.

    Attributes:
        text: with the numbers.
        verdict: one of `HOLDS`, `FAILS`, `OPEN`.
        margin: lower end of the interval of the value that the claim expects to be above 0.
    """

    text: str
    verdict: str
    margin: float

    @classmethod
    def of(cls, text: str, contrast: Contrast, confidence: float, above: float = 0.0) -> Part:
        """Decide by the position of the interval; systems that were trained once decide nothing.

        The text of an open part states how many test rows or seeds would decide it.
        """
        estimate = contrast.estimate(confidence)
        margin = estimate.low - above
        if not contrast.seed_variance_known:
            return cls(f"{text} (one seed)", OPEN, margin)
        if margin > 0 or estimate.high < above:
            return cls(text, HOLDS if margin > 0 else FAILS, margin)
        needed = to_decide(
            contrast.value - above, contrast.variances, contrast.freedoms, confidence
        )
        return cls(f"{text}, {needed}", OPEN, margin)


def weakest(parts: Iterable[Part]) -> Part:
    """Select the part that decides where all must hold: one that fails, else an open one, ..."""
    order = (FAILS, OPEN, HOLDS)
    return min(parts, key=lambda part: (order.index(part.verdict), part.margin))


@dataclass(frozen=True)
class Claim:
    """A claim of Yu et al. (2021), and its verdict here."""

    name: str
    text: str
    parts: list[Part] = field(default_factory=list)
    missing: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """Verdict of all parts together."""
        verdicts = {part.verdict for part in self.parts}
        if FAILS in verdicts:
            return FAILS
        return HOLDS if verdicts == {HOLDS} and not self.missing else OPEN


@dataclass(frozen=True)
class Contrast:
    """A sum of logarithms of MSEs over the same test rows, with all that its interval needs.

    Args:
        value: the sum.
        variances: independent parts of its variance: test rows, then the seeds of systems.
        freedoms: their degrees of freedom.
        seed_variance_known: False where a system was trained once.
    """

    value: float
    variances: tuple[float, ...]
    freedoms: tuple[float, ...]
    seed_variance_known: bool

    def estimate(self, confidence: float) -> Estimate:
        """The sum with its interval (delta method)."""
        return combine(
            self.value,
            self.variances,
            self.freedoms,
            confidence=confidence,
            seed_variance_known=self.seed_variance_known,
        )


@dataclass(frozen=True)
class Evidence:
    """The MSEs and contrasts that claims are checked by; they can be kept without predictions.

    Args:
        mse: (system, scenario) → mean squared error over rows and seeds, percent².
        contrasts: terms → contrast, of all that `ledger` asked for.
        compute: computes a contrast that is missing; None where predictions are gone.
    """

    mse: Mapping[tuple[str, str], float]
    contrasts: dict[tuple[Term, ...], Contrast] = field(default_factory=dict)
    compute: Callable[[Sequence[Term]], Contrast] | None = None

    @classmethod
    def of(cls, scenarios: Mapping[str, Predictions], by_period: bool = False) -> Evidence:
        """Compute from predictions; see `ledger`."""
        mse = {
            (system, scenario): float(np.mean((runs - found.truth) ** 2))
            for scenario, found in scenarios.items()
            for system, runs in found.predicted.items()
        }
        return cls(mse, compute=lambda terms: contrast(scenarios, terms, by_period=by_period))

    @property
    def systems(self) -> set[str]:
        """Systems that claims can be about."""
        return {system for system, _ in self.mse}

    def contrast(self, terms: Sequence[Term]) -> Contrast:
        """Find a contrast, or compute it.

        Raises:
            KeyError: it was not kept.
        """
        key = tuple(terms)
        if key not in self.contrasts and self.compute:
            self.contrasts[key] = self.compute(terms)
        return self.contrasts[key]


def contrast(
    scenarios: Mapping[str, Predictions], terms: Sequence[Term], *, by_period: bool = False
) -> Contrast:
    """Compute a sum of logarithms of MSEs over the same test rows.

    Args:
        scenarios: result of `significance.align`.
        terms: factor, system and scenario each.
        by_period: cluster by item and period.
    """
    any_scenario = next(iter(scenarios.values()))
    clusters = Clusters(any_scenario.item, any_scenario.period if by_period else None)
    by_row: dict[str, np.ndarray | float] = {}  # [seeds, rows]
    by_seed: dict[str, np.ndarray | float] = {}
    value, known = 0.0, True
    for factor, system, scenario in terms:
        predictions = scenarios[scenario]
        errors = (predictions.predicted[system] - predictions.truth) ** 2  # [seeds, rows]
        value += factor * math.log(errors.mean())
        by_row[system] = by_row.get(system, 0.0) + factor * errors / errors.mean()
        of_seed = factor * np.log(errors.mean(axis=1))
        by_seed[system] = by_seed.get(system, 0.0) + of_seed
        known &= system not in predictions.trained_once
    runs = [np.asarray(one) for one in by_row.values()]
    of_rows = clusters.variance(np.sum([one.mean(axis=0) for one in runs], axis=0))
    of_rows -= sum(repeated(clusters.variance, one) for one in runs)
    variances, freedoms = [max(0.0, of_rows)], [clusters.freedom]
    for values in by_seed.values():
        if np.size(values) > 1 and np.ptp(values) > 0:
            variances.append(float(np.var(values, ddof=1)) / np.size(values))
            freedoms.append(np.size(values) - 1)
    return Contrast(value, tuple(variances), tuple(freedoms), known)


def ledger(evidence: Evidence, *, confidence: float) -> list[Claim]:
    """Check C1 to C7 on systems with the names of the packaged rows.

    Args:
        evidence: MSEs and contrasts; missing systems leave claims open.
        confidence: confidence level of each part's interval.
    """
    there, mse = evidence.systems, evidence.mse

    def check(text: str, terms: Sequence[Term], times: float = 1, sure: float = confidence) -> Part:
        """Add a part; the ratio must exceed `times`, not only 1."""
        contrast = evidence.contrast(terms)
        found = contrast.estimate(sure)
        value, low, high = (math.exp(x) for x in (found.value, found.low, found.high))
        shown = f"[{low:.3g}, {high:.3g}]" if high < 1000 * low else "(too few seeds to tell)"
        return Part.of(f"{text} = {value:.3g} {shown}", contrast, sure, math.log(times))

    def ratio(above: str, below: str, scenario: str, times: float = 1, **how: float) -> Part:
        text = (
            f"{plots.TITLES[scenario]}: MSE {above} / {below} = "
            f"{mse[above, scenario]:.4g} / {mse[below, scenario]:.4g}"
        )
        return check(text, [(1, above, scenario), (-1, below, scenario)], times, **how)

    def against_all(scenario: str, times: float = 1) -> Part:
        """Require this ratio to each baseline; the part shows the closest one."""
        return weakest(ratio(name, "mmnet", scenario, times) for name in PUBLISHED)

    def c1() -> Iterator[Part]:
        yield from (against_all(scenario) for scenario in SCENARIOS)

    def c2() -> Iterator[Part]:
        yield against_all("cold_start", times=4)
        yield against_all("noisy", times=10)

    def c3() -> Iterator[Part]:
        yield ratio("mmnet_m", "mmnet", "cold_start")
        for other in ("normal", "noisy"):
            terms = [(1, "mmnet_m", "cold_start"), (-1, "mmnet", "cold_start")]
            terms += [(-1, "mmnet_m", other), (1, "mmnet", other)]
            yield check(f"that ratio in cold-start over that in {other}", terms)

    def c4() -> Iterator[Part]:
        yield ratio("mmnet", "norm_cold", "cold_start")
        yield ratio("norm_cold", "mmnet", "noisy")

    def c5() -> Iterator[Part]:
        taus = sorted((n for n in there if n.startswith("tau_")), key=lambda n: float(n[4:]))
        first, *inner, last = taus
        trend = float(stats.spearmanr(range(len(taus)), [mse[n, "cold_start"] for n in taus])[0])
        part = ratio(first, last, "cold_start")
        yield replace(part, text=f"{part.text}; rank correlation of MSE with τ {trend:.2f}")
        # The best of several τ in between is found by looking, so each is held to more.
        sure = 1 - (1 - confidence) / len(inner)
        best = max(
            (
                weakest(ratio(end, tau, "noisy", sure=sure) for end in (first, last))
                for tau in inner
            ),
            key=lambda part: part.margin,
        )
        ends = [weakest(ratio(tau, end, "noisy") for tau in inner) for end in (first, last)]
        if any(part.verdict == HOLDS for part in ends):  # an end is better than all in between
            yield replace(max(ends, key=lambda part: part.margin), verdict=FAILS)
        else:
            yield replace(best, verdict=HOLDS if best.verdict == HOLDS else OPEN)

    def c6(with_means: str) -> Callable[[], Iterator[Part]]:
        return lambda: (ratio("mmnet_c", with_means, scenario) for scenario in SCENARIOS)

    def c7() -> Iterator[Part]:
        yield ratio("mmnet_m", "norm_noisy", "noisy")
        yield ratio("mmnet_m", "norm_cold", "cold_start")

    claims: list[tuple[str, str, Callable[[], Iterator[Part]], tuple[str, ...]]] = [
        ("C1", "MMNet is best in all three scenarios.", c1, ("mmnet", *PUBLISHED)),
        (
            "C2",
            "Its cold-start MSE is at least 4 times below the best baseline's, its noisy MSE at "
            "least 10 times.",
            c2,
            ("mmnet", *PUBLISHED),
        ),
        ("C3", "Without multi-mode training, cold-start suffers most.", c3, ("mmnet", "mmnet_m")),
        (
            "C4",
            "norm/cold beats the full MMNet in cold-start and loses in noisy.",
            c4,
            ("mmnet", "norm_cold"),
        ),
        (
            "C5",
            "Cold-start improves with τ; noisy is best at a τ in between.",
            c5,
            ("tau_0.1", "tau_0.5", "tau_0.9"),
        ),
        (
            "C6",
            "The coarse-granularity module helps in all three (leave-one-out means).",
            c6("mmnet_m"),
            ("mmnet_m", "mmnet_c"),
        ),
        (
            "C6, paper means",
            "The same with the paper's own means, which hold the item's own rate.",
            c6("mmnet_m_paper_means"),
            ("mmnet_m_paper_means", "mmnet_c"),
        ),
        (
            "C7",
            "Each disturbance block helps its own scenario.",
            c7,
            ("mmnet_m", "norm_noisy", "norm_cold"),
        ),
    ]
    found = []
    for name, text, parts, needs in claims:
        missing = tuple(system for system in needs if system not in there)
        found.append(Claim(name, text, [] if missing else list(parts()), missing))
    return found


def markdown(claims: Sequence[Claim]) -> str:
    """The ledger as text: a line per claim, its parts below it."""
    lines = []
    for claim in claims:
        if claim.parts:
            lines.append(f"- **{claim.name}: {claim.verdict}.** {claim.text}")
            lines += [f"  - {part.text}: {part.verdict}" for part in claim.parts]
    unchecked = [f"{one.name} ({', '.join(one.missing)})" for one in claims if one.missing]
    if unchecked:
        missing = "; ".join(unchecked)
        lines.append(f"- Not decidable, because rows are missing from this experiment: {missing}")
    return "\n".join(lines) + "\n"


def as_json(claims: Sequence[Claim]) -> list[dict[str, Any]]:
    """The ledger as JSON values."""
    return [
        {
            "claim": claim.name,
            "text": claim.text,
            "verdict": claim.verdict,
            "parts": [{"text": part.text, "verdict": part.verdict} for part in claim.parts],
            "missing": list(claim.missing),
        }
        for claim in claims
    ]
