"""Drift of a new period from the data that a model was trained and validated on.

For every input and for the score: PSI and the Kolmogorov-Smirnov distance to the export's profile.
For the period: its total clicks and the model's bias. A comparison drifts if it exceeds its limit
by more than sampling error, and exceeds every validation period, where the model was good enough.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from mmnet.evaluation.report import markdown_table
from mmnet.files import write_atomic
from mmnet.serving.profile import Distribution, Profile, Values, ks, psi

EXIT_CODE = 3
"""Exit code of the driver if something has drifted, for schedulers."""
LUCK = 0.999
"""Quantile of PSI, KS and bias under sampling error alone."""


@dataclass(frozen=True)
class Finding:
    """One comparison.

    Attributes:
        name: name of the input, "score", "clicks" or "bias".
        measure: "PSI", "KS", "ratio" or "percent".
        value: value of the new period.
        limit: value above which it has drifted; for a ratio, also below 1 / limit.
        then, now: the compared values, as text.
        drifted: whether it has drifted.
    """

    name: str
    measure: str
    value: float
    limit: float
    then: str
    now: str
    drifted: bool


@dataclass(frozen=True)
class Limits:
    """Limits of drift; see `DriftConfig`."""

    psi: float
    ks: float
    volume: float
    bias: float


def compare(
    profile: Profile,
    observed: Values,
    predicted: np.ndarray,
    truth: np.ndarray,
    clicks: int,
    limits: Limits,
) -> list[Finding]:
    """Compares a new period with the profile.

    Args:
        profile: profile of the export.
        observed: inputs of the period's rows, see `profile.observe`.
        predicted: percent, of the rows whose target has enough clicks for evaluation.
        truth: their share rates, percent.
        clicks: total clicks of the period.
        limits: limits of drift.

    Returns:
        PSI and KS of every input and of the score, the volume and the bias.
    """
    found: list[Finding] = []
    for name, values in observed.items():
        found += _of_values(name, profile.inputs[name], values, profile.items, limits)
    scores = predicted.astype(np.float64)
    found += _of_values("score", profile.score, scores, profile.score.n, limits)
    usual = [period.clicks for period in profile.periods.values()]
    ratio = clicks / max(1.0, float(np.median(usual)))
    spread = max(max(usual) / np.median(usual), np.median(usual) / max(1, min(usual)))
    limit = max(limits.volume, float(spread))
    found.append(
        Finding(
            "clicks",
            "ratio",
            ratio,
            limit,
            f"{np.median(usual):,.0f}",
            f"{clicks:,}",
            not 1 / limit <= ratio <= limit,
        )
    )
    if len(truth) > 1:
        error = scores - truth
        bias = float(error.mean())
        luck = float(stats.norm.ppf((1 + LUCK) / 2) * error.std(ddof=1) / math.sqrt(len(error)))
        usual_bias = max(
            abs(period.bias - profile.bias)
            for period in profile.periods.values()
            if period.bias is not None
        )
        limit = max(limits.bias * profile.mean_rate, usual_bias) + luck
        moved = abs(bias - profile.bias)
        found.append(
            Finding(
                "bias",
                "percent",
                moved,
                limit,
                f"{profile.bias:+.3g}",
                f"{bias:+.3g}",
                moved > limit,
            )
        )
    return found


def _of_values(
    name: str, then: Distribution, values: np.ndarray, items: int, limits: Limits
) -> list[Finding]:
    if not len(values):
        return []
    # Rows of an item are similar, so the effective sample size is the number of items.
    n, m = min(then.n, items), len(values)
    shares = np.array(then.shares)
    told = _told(then, values)
    # Without drift, PSI is about chi-squared times (1/n + 1/m) (Yurdakul & Naranjo, 2020).
    luck = stats.chi2.ppf(LUCK, max(1, np.count_nonzero(shares) - 1)) * (1 / n + 1 / m)
    value, limit = psi(then, values), max(limits.psi, then.usual_psi) + float(luck)
    found = [Finding(name, "PSI", value, limit, *told, value > limit)]
    distance = ks(then, values)
    if not math.isnan(distance):
        luck = stats.kstwobign.ppf(LUCK) * math.sqrt(1 / n + 1 / m)
        limit = max(limits.ks, then.usual_ks) + float(luck)
        found.append(Finding(name, "KS", distance, limit, *told, distance > limit))
    return found


def _told(then: Distribution, values: np.ndarray) -> tuple[str, str]:
    """Describes two distributions: medians, or the most frequent value; and what is absent."""
    if values.dtype == object:
        share = then.bins(values)
        top = then.values[0] if then.values else "nothing"
        return (
            f"{top} {then.shares[0]:.1%}, absent {then.absent:.1%}",
            f"{top} {share[0]:.1%}, absent {share[-1]:.1%}",
        )
    present = values[~np.isnan(values)]
    now = f"{np.median(present):.4g}" if len(present) else "nothing"
    before = "nothing" if then.median is None else f"{then.median:.4g}"
    return (
        f"median {before}, absent {then.absent:.1%}",
        f"median {now}, absent {1 - len(present) / len(values):.1%}",
    )


def write(directory: Path, findings: list[Finding], about: dict[str, Any]) -> None:
    """Writes drift.json and drift.md.

    Args:
        directory: output directory, created if needed.
        findings: findings about one period.
        about: facts about the period and the model, for the JSON.
    """
    drifted = [one for one in findings if one.drifted]
    document = {**about, "drifted": bool(drifted), "findings": [asdict(one) for one in findings]}
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomic(directory / "drift.json", text)
    header = ["Input", "Measure", "Value", "Limit", "Training", "Now", "Drifted"]
    lines = [
        [
            one.name,
            one.measure,
            f"{one.value:.3g}",
            f"{one.limit:.3g}",
            one.then,
            one.now,
            "**yes**" if one.drifted else "",
        ]
        for one in sorted(findings, key=lambda one: not one.drifted)
    ]
    summary = f"{len(drifted)} of {len(findings)} comparisons drifted" if drifted else "No drift"
    parts = [
        f"# Drift of period {about['period']}\n",
        f"{summary}, over {about['rows']:,} rows. Limits allow for sampling error of so few rows, "
        "and for the variation between validation periods.\n",
        markdown_table(header, lines),
    ]
    write_atomic(directory / "drift.md", "\n".join(parts))
