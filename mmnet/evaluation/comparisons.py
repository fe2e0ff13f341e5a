"""Many comparisons at once: adjusted p-values, letters, and the tables of an experiment.

significance.measure  -> one `Measure` per scenario and metric  ->  `compare`, `pairs`: tables
"""

from __future__ import annotations

import itertools
import string
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mmnet import checks
from mmnet.evaluation.significance import Estimate, Measure


def holm(p: Sequence[float]) -> np.ndarray:
    """p-values corrected for their number (Holm, 1979, Scandinavian Journal of Statistics 6).

    Rejecting where the result is at most alpha keeps the chance of one false rejection or more
    among all of them at most alpha, whatever their dependence.

    >>> holm([0.01, 0.04, 0.03]).round(2).tolist()
    [0.03, 0.06, 0.06]
    """
    order, number = np.argsort(p), len(p)
    found = np.empty(number)
    # The smallest stands against all, the next against one fewer, and none overtakes a smaller.
    scaled = np.asarray(p, np.float64)[order] * np.arange(number, 0, -1)
    found[order] = np.minimum(1, np.maximum.accumulate(scaled))
    return found


LETTERS = 0.05
"""Level of the letters."""
DRAWS = 10_000
"""Draws of a column's differences; an adjusted p-value of .05 is right to .002."""


def step_down(
    p: np.ndarray,
    errors: np.ndarray,
    wanted: np.ndarray | None = None,
    draws: int = DRAWS,
) -> np.ndarray:
    """p-values adjusted for their number, by what they have in common (step-down max-T).

    Differences between systems depend on each other: the test rows are the same, and so is the
    system that two pairs share. Under the hypothesis that all systems are equal, the differences
    are taken as normal with the variances and covariances that `errors` imply, and each statistic
    z is the normal quantile of its p. With z sorted from the largest, the adjusted p of the j-th is
    the share of draws whose largest |z| of the pairs from j on is as large, and none is smaller
    than that of a pair before it (Westfall & Young, 1993, "Resampling-based multiple testing",
    algorithm 2.8; with an estimated covariance: Hothorn, Bretz & Westfall, 2008, Biometrical
    Journal 50(3)). It is never below p, and never above Holm's.

    Args:
        p: of each pair, of `wanted` ones at least, [systems, systems], symmetric.
        errors: standard error of each pair's difference, 0 on the diagonal, of the same shape.
        wanted: which pairs are tested together, True above the diagonal; None tests all.
        draws: number of draws.

    Returns:
        Adjusted p-values of the wanted pairs in the order of `np.nonzero(wanted)`.

    >>> p = np.array([[1, 0.01, 0.2], [0.01, 1, 0.3], [0.2, 0.3, 1]])
    >>> step_down(p, 1.0 - np.eye(3)).round(2).tolist()  # Holm's: 0.03, 0.4, 0.4
    [0.02, 0.34, 0.34]
    """
    from scipy import special  # as in `significance`

    wanted = np.triu(np.ones(p.shape, bool), 1) if wanted is None else wanted
    one, other = np.nonzero(wanted)
    own = np.asarray(p, np.float64)[one, other]
    if len(own) < 2:
        return own
    # A covariance of the systems themselves with these variances of differences.
    center = np.eye(len(p)) - 1 / len(p)
    scale, axes = np.linalg.eigh(center @ (np.asarray(errors) ** 2) @ center / -2)
    root = axes * np.sqrt(np.maximum(scale, 0)) @ axes.T
    size = np.linalg.norm(root[one] - root[other], axis=1)
    random = np.random.default_rng(0).standard_normal((draws, len(p)))
    order = np.argsort(own, kind="stable")
    drawn = np.empty((len(own), draws))  # the largest |z| of the pairs from each one on
    largest = np.zeros(draws)
    for pair in order[::-1]:
        if size[pair] > 1e-6 * size.max():  # else the two systems are one
            direction = (root[one[pair]] - root[other[pair]]) / size[pair]
            largest = np.maximum(largest, np.abs(random @ direction))
        drawn[pair] = largest
    z = -special.ndtri(own / 2)
    share = (1 + np.sum(drawn >= z[:, None], axis=1)) / (1 + draws)
    found = np.empty(len(own))
    found[order] = np.maximum.accumulate(share[order])
    return np.clip(found, own, holm(own.tolist()))


def letters(different: np.ndarray) -> list[str]:
    """Compact letter display: two systems share a letter if and only if `different` is False.

    Insert and absorb (Piepho, 2004, "An algorithm for a letter-based representation of all-pairwise
    comparisons", Journal of Computational and Graphical Statistics 13(2)): every pair that differs
    splits the groups that hold both, and groups within others are dropped.

    Args:
        different: symmetric, False on the diagonal, [systems, systems], the best system first.

    Returns:
        Letters of each system; `a` is the group of the best. After z come capitals, then others.

    >>> letters(np.array([[0, 0, 1], [0, 0, 0], [1, 0, 0]], bool))
    ['a', 'ab', 'b']
    """
    different = np.asarray(different, bool)
    if different.ndim != 2 or (different != different.T).any() or different.diagonal().any():
        raise ValueError("`different` must be symmetric, and False on the diagonal")
    groups = {frozenset(range(len(different)))}
    for one, other in zip(*np.nonzero(np.triu(different)), strict=True):
        split = [group for group in groups if {one, other} <= group]
        groups = groups.difference(split) | {g - {out} for g in split for out in (one, other)}
        groups = {group for group in groups if not any(group < wider for wider in groups)}
    in_order = sorted(groups, key=sorted)
    return [
        "".join(_letter(number) for number, group in enumerate(in_order) if system in group)
        for system in range(len(different))
    ]


def _letter(number: int) -> str:
    known = string.ascii_letters
    return known[number] if number < len(known) else chr(0x100 + number - len(known))


def pairs(measures: Mapping[tuple[str, str], Measure], *, confidence: float = 0.95) -> pd.DataFrame:
    """All differences between two systems.

    Args:
        measures: result of `significance.measure`.
        confidence: confidence level of the intervals, each of a single pair.

    Returns:
        One row per scenario, metric and pair, the better system first: `scenario`, `metric`,
        `system`, `other`, `difference` (system minus other), `error`, `low`, `high`, `p`,
        `p_adjusted` (over the pairs of that scenario and metric, see `step_down`),
        `seed_variance_known`.
    """
    columns = ["scenario", "metric", "system", "other", "difference", "error", "low", "high", "p"]
    found = []
    for (scenario, metric), measured in measures.items():
        differences = _differences(measured, confidence)
        adjusted = _adjusted(differences)
        for pair, d in differences.items():
            row = (scenario, metric, *pair, d.value, d.error, d.low, d.high, d.p)
            found.append((*row, adjusted[pair], d.seed_variance_known))
    return pd.DataFrame(found, columns=[*columns, "p_adjusted", "seed_variance_known"])


def _differences(measured: Measure, confidence: float) -> dict[tuple[str, str], Estimate]:
    every = itertools.combinations(measured.ranking(), 2)
    return {pair: measured.difference(*pair, confidence) for pair in every}


def _adjusted(
    differences: Mapping[tuple[str, str], Estimate], reference: str = ""
) -> dict[tuple[str, str], float]:
    """Adjusted p-values of all pairs, or of those with the reference."""
    # By name, so that the draws of `step_down` do not depend on the ranking.
    names = sorted({name for pair in differences for name in pair})
    p, errors = np.ones((len(names),) * 2), np.zeros((len(names),) * 2)
    wanted, place = np.zeros(p.shape, bool), {}
    for pair, found in differences.items():
        at = tuple(sorted(map(names.index, pair)))
        p[at] = p[at[::-1]] = found.p
        errors[at] = errors[at[::-1]] = found.error
        if not reference or reference in pair:
            wanted[at], place[at] = True, pair
    order = [place[at] for at in zip(*map(np.ndarray.tolist, np.nonzero(wanted)), strict=True)]
    return dict(zip(order, step_down(p, errors, wanted).tolist(), strict=True))


def compare(
    measures: Mapping[tuple[str, str], Measure],
    reference: str,
    *,
    alpha: float = LETTERS,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Compare every system with the reference and with all other systems.

    Args:
        measures: result of `significance.measure`.
        reference: the system that the others are compared with.
        alpha: level of the letters.
        confidence: confidence level of the intervals.

    Returns:
        One row per scenario, metric and system, the best first: `scenario`, `metric`, `system`,
        `n_seeds`, `value` (mean over seeds), `sd_over_seeds` (NaN of one), `low`, `high`,
        `letters` (two systems share one if their p, adjusted over all pairs of that scenario and
        metric, is above alpha), `difference` (system minus reference), `difference_low`,
        `difference_high`, `p`, `p_adjusted` (over the comparisons with the reference of that
        scenario and metric), `seed_variance_known` (of the system and the reference). NaN in the
        reference's own row.

    Raises:
        ValueError: no system has the reference's name.
    """
    found = []
    for (scenario, metric), measured in measures.items():
        checks.one_of(measured.seeds, reference=reference)
        ranking = measured.ranking()
        differences = _differences(measured, confidence)
        different = np.zeros((len(ranking), len(ranking)), bool)
        for pair, p in _adjusted(differences).items():
            different[tuple(map(ranking.index, pair))] = p <= alpha
        adjusted = {
            next(name for name in pair if name != reference): p
            for pair, p in _adjusted(differences, reference).items()
        }
        versus = {s: measured.difference(s, reference, confidence) for s in adjusted}
        for system, shown in zip(ranking, letters(different | different.T), strict=True):
            own, d = measured.interval(system, confidence), versus.get(system)
            found.append(
                {
                    "scenario": scenario,
                    "metric": metric,
                    "system": system,
                    "n_seeds": measured.num_seeds[system],
                    "value": own.value,
                    "sd_over_seeds": measured.sd_over_seeds(system),
                    "low": own.low,
                    "high": own.high,
                    "letters": shown,
                    "difference": d.value if d else np.nan,
                    "difference_low": d.low if d else np.nan,
                    "difference_high": d.high if d else np.nan,
                    "p": d.p if d else np.nan,
                    "p_adjusted": adjusted.get(system, np.nan),
                    "seed_variance_known": (d or own).seed_variance_known,
                }
            )
    return pd.DataFrame(found)
