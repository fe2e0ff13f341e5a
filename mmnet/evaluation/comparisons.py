"""Many comparisons at once: corrected p-values, letters, and the tables of an experiment.

significance.measure  -> one `Measure` per scenario and metric  ->  `compare`, `pairs`: tables
"""

from __future__ import annotations

import itertools
import string
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mmnet import checks
from mmnet.evaluation.significance import Measure


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
        `system`, `other`, `difference` (system minus other), `error`, `low`, `high`, `p`, `p_holm`
        (over the pairs of that scenario and metric), `seed_variance_known`.
    """
    columns = ["scenario", "metric", "system", "other", "difference", "error", "low", "high", "p"]
    found = []
    for (scenario, metric), measured in measures.items():
        differences = [
            (pair, measured.difference(*pair, confidence))
            for pair in itertools.combinations(measured.ranking(), 2)
        ]
        corrected = holm([d.p for _, d in differences])
        for (pair, d), p_holm in zip(differences, corrected, strict=True):
            row = (scenario, metric, *pair, d.value, d.error, d.low, d.high, d.p)
            found.append((*row, float(p_holm), d.seed_variance_known))
    return pd.DataFrame(found, columns=[*columns, "p_holm", "seed_variance_known"])


def compare(
    measures: Mapping[tuple[str, str], Measure],
    reference: str,
    *,
    alpha: float = 0.01,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Compare every system with the reference and with all other systems.

    Args:
        measures: result of `significance.measure`.
        reference: the system that the others are compared with.
        alpha: level of the letters; Yu et al. (2021) use 0.01.
        confidence: confidence level of the intervals.

    Returns:
        One row per scenario, metric and system, the best first: `scenario`, `metric`, `system`,
        `n_seeds`, `value` (mean over seeds), `sd_over_seeds` (NaN of one), `low`, `high`,
        `letters` (from all pairs of that scenario and metric, Holm-corrected at alpha),
        `difference` (system minus reference), `difference_low`, `difference_high`, `p`, `p_holm`
        (over the comparisons with the reference of that scenario and metric),
        `seed_variance_known` (of the system and the reference). NaN in the reference's own row.

    Raises:
        ValueError: no system has the reference's name.
    """
    found = []
    every_pair = pairs(measures, confidence=confidence).groupby(["scenario", "metric"])
    for (scenario, metric), measured in measures.items():
        checks.one_of(measured.seeds, reference=reference)
        ranking = measured.ranking()
        different = np.zeros((len(ranking), len(ranking)), bool)
        if len(ranking) > 1:
            group = every_pair.get_group((scenario, metric))
            # Rows of a group are in the order of the upper triangle.
            different[np.triu_indices(len(ranking), 1)] = group["p_holm"] <= alpha
        others = [system for system in ranking if system != reference]
        versus = {s: measured.difference(s, reference, confidence) for s in others}
        p_holm = dict(zip(others, holm([versus[s].p for s in others]), strict=True))
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
                    "p_holm": p_holm.get(system, np.nan),
                    "seed_variance_known": (d or own).seed_variance_known,
                }
            )
    return pd.DataFrame(found)
