"""What the paper claims, checked: each claim holds, does not hold, or cannot be decided.

Every check is a sum of logarithms of MSEs, such as log(MSE of a baseline / MSE of MMNet), that the
claim says is above 0. Its interval counts the luck of test items and of seeds, see
`evaluation.significance`; a claim of several parts holds if all do, and fails if one does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import stats

from mmnet.evaluation import plots
from mmnet.evaluation.scenarios import SCENARIOS
from mmnet.evaluation.significance import Clusters, Estimate, Predictions, combine

HOLDS, FAILS, OPEN = "holds", "does not hold", "not decidable"
PUBLISHED = ("ha", "gru", "encoder_decoder", "mmved", "dftc")
"""The baselines of Table 1."""

Term = tuple[float, str, str]
"""Factor, system, scenario: factor · log(MSE)."""


@dataclass(frozen=True)
class Part:
    """One check of a claim: `estimate` of what the claim says is above 0, and how it reads."""

    text: str
    estimate: Estimate

    @property
    def verdict(self) -> str:
        """From where the interval lies."""
        if self.estimate.low > 0:
            return HOLDS
        return FAILS if self.estimate.high < 0 else OPEN


@dataclass(frozen=True)
class Claim:
    """A claim of Yu et al. (2021), and what became of it here."""

    name: str
    text: str
    parts: list[Part] = field(default_factory=list)
    missing: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """Of all parts together."""
        verdicts = {part.verdict for part in self.parts}
        if FAILS in verdicts:
            return FAILS
        return HOLDS if verdicts == {HOLDS} and not self.missing else OPEN


def contrast(
    scenarios: Mapping[str, Predictions],
    terms: Sequence[Term],
    *,
    confidence: float,
    by_period: bool = False,
) -> Estimate:
    """A sum of logarithms of MSEs over the same test rows, with its interval (delta method).

    Args:
        scenarios: from `significance.align`.
        terms: factor, system and scenario each.
        confidence: of the interval.
        by_period: cluster by item and period.
    """
    any_scenario = next(iter(scenarios.values()))
    clusters = Clusters(any_scenario.item, any_scenario.period if by_period else None)
    rows = np.zeros(len(any_scenario.truth))
    by_seed: dict[str, np.ndarray | float] = {}
    value, known = 0.0, True
    for factor, system, scenario in terms:
        predictions = scenarios[scenario]
        errors = (predictions.predicted[system] - predictions.truth) ** 2  # [seeds, rows]
        value += factor * math.log(errors.mean())
        rows += factor * errors.mean(axis=0) / errors.mean()
        of_seed = factor * np.log(errors.mean(axis=1))
        by_seed[system] = by_seed.get(system, 0.0) + of_seed
        known &= system not in predictions.trained_once
    variances, freedoms = [clusters.variance(rows)], [clusters.freedom]
    for values in by_seed.values():
        if np.size(values) > 1 and np.ptp(values) > 0:
            variances.append(float(np.var(values, ddof=1)) / np.size(values))
            freedoms.append(np.size(values) - 1)
    return combine(value, variances, freedoms, confidence=confidence, seed_variance_known=known)


def ledger(
    scenarios: Mapping[str, Predictions], *, confidence: float, by_period: bool = False
) -> list[Claim]:
    """Checks C1 to C7 on predictions whose systems are named as the rows of experiments/rows.

    Args:
        scenarios: from `significance.align`; systems that are not there leave claims open.
        confidence: of each part's interval.
        by_period: cluster by item and period, for rolling origins.
    """
    normal = scenarios["normal"].predicted
    mse = {
        (system, scenario): float(np.mean((runs - found.truth) ** 2))
        for scenario, found in scenarios.items()
        for system, runs in found.predicted.items()
    }

    def check(text: str, terms: Sequence[Term], times: float = 1.0) -> Part:
        """`times`: the ratio must be above so much, not only above 1."""
        found = contrast(scenarios, terms, confidence=confidence, by_period=by_period)
        ratio = (
            f"{math.exp(found.value):.3g} [{math.exp(found.low):.3g}, {math.exp(found.high):.3g}]"
        )
        return Part(f"{text} = {ratio}", _shifted(found, math.log(times)))

    def ratio(above: str, below: str, scenario: str, times: float = 1.0) -> Part:
        text = (
            f"{plots.TITLES[scenario]}: MSE {above} / {below} = "
            f"{mse[above, scenario]:.4g} / {mse[below, scenario]:.4g}"
        )
        return check(text, [(1, above, scenario), (-1, below, scenario)], times)

    def best(scenario: str) -> str:
        there = [name for name in PUBLISHED if name in normal]
        return min(there, key=lambda name: mse[name, scenario])

    def c1() -> Iterator[Part]:
        yield from (ratio(best(scenario), "mmnet", scenario) for scenario in SCENARIOS)

    def c2() -> Iterator[Part]:
        yield ratio(best("cold_start"), "mmnet", "cold_start", times=4)
        yield ratio(best("noisy"), "mmnet", "noisy", times=10)

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
        taus = sorted((n for n in normal if n.startswith("tau_")), key=lambda n: float(n[4:]))
        cold = [mse[name, "cold_start"] for name in taus]
        trend = float(stats.spearmanr(range(len(taus)), cold).statistic)
        part = ratio(taus[0], taus[-1], "cold_start")
        yield Part(f"{part.text} (rank correlation of MSE with τ {trend:.2f})", part.estimate)
        optimum = min(taus, key=lambda name: mse[name, "noisy"])
        for end in (taus[0], taus[-1]):
            if end == optimum:  # the best is at an end: nothing to compare, and not interior
                yield Part(f"Noisy: the lowest MSE is at {end}", _never())
            else:
                yield ratio(end, optimum, "noisy")

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
            ("tau_0.1", "tau_0.9"),
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
        missing = tuple(system for system in needs if system not in normal)
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
        lines.append(f"- Not decidable, as rows are not in this experiment: {'; '.join(unchecked)}")
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


def _shifted(found: Estimate, by: float) -> Estimate:
    return Estimate(
        found.value - by,
        found.error,
        found.low - by,
        found.high - by,
        found.p if not by else math.nan,
        found.seed_variance_known,
    )


def _never() -> Estimate:
    return Estimate(-1.0, 0.0, -1.0, -1.0, 0.0)
