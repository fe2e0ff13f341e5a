"""Sampling error of metrics of click probabilities, from the test users and from the seeds.

    Scored (the test rows of one run)   ->  influence values by user   ->  one `SampledMeasure` each

Every metric is a function of weights on the test rows, all 1. Its derivative by a row's weight is
the row's influence. The influences of a user's rows, which rise and fall together, are summed, and
the variance of the metric as a sample of users is G/(G - 1) Σ sum², G users (the infinitesimal
jackknife: Jaeckel, 1972; Efron, 1982, "The jackknife, the bootstrap and other resampling plans").
For AUC that is the estimate of Obuchowski (1997, "Nonparametric analysis of clustered ROC curve
data", Biometrics 53); with one row per user it is DeLong's.

Runs of one seed share all that the seed decides, such as a generated log or the row order, so two
systems are compared seed by seed as well as user by user. Seeds that have a log each have users of
their own: then all of the variance of users is in that of the seeds, and is not added again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mmnet import checks
from mmnet.evaluation.significance import Estimate, SampledMeasure, combine, repeated

Influence = Callable[["Scored"], np.ndarray]


@dataclass(frozen=True)
class Scored:
    """The test rows of one run.

    Args:
        label: 0 or 1, [rows].
        probability: predicted probability of a 1, [rows].
        calibrated: the same probabilities, calibrated, [rows].
        user: user of each row, anything sortable, [rows].
        log: log that the users belong to; equal users of two logs are two clusters.

    Raises:
        ValueError: shapes differ, or there are not both kinds of rows.
    """

    label: np.ndarray
    probability: np.ndarray
    calibrated: np.ndarray
    user: np.ndarray
    log: str = ""

    def __post_init__(self):
        checks.same_shape(label=self.label, probability=self.probability, user=self.user)
        if not 0 < np.count_nonzero(self.label) < len(self.label):
            raise ValueError("`label` must contain both 0 and 1. Received: a single value")


def auc_influence(rows: Scored) -> np.ndarray:
    """Compute the influence d AUC / d weight of each row.

    It is the row's placement minus the mean placement, divided by the rows of its label.

    >>> score = np.array([0.1, 0.4, 0.3, 0.8])
    >>> auc_influence(Scored(np.array([0, 0, 1, 1]), score, score, np.arange(4)))
    array([ 0.125, -0.125, -0.125,  0.125])
    """
    found = np.empty(len(rows.label))
    for kind in (1, 0):
        mine = rows.label == kind
        others = np.sort(rows.probability[~mine])
        # The share of the other kind below a row, of ties one half.
        below = [
            np.searchsorted(others, rows.probability[mine], side) for side in ("left", "right")
        ]
        placement = (below[0] + below[1]) / (2 * len(others))
        sign = 1 if kind else -1
        found[mine] = sign * (placement - placement.mean()) / np.count_nonzero(mine)
    return found


def average_precision_influence(rows: Scored) -> np.ndarray:
    """Compute the influence d average precision / d weight of each row.

    With precision p_i = t_i / n_i at each of P positives, t and n counting rows that score at
    least as much, the average is Σ p_i / P. A row adds to t and n of every positive that scores
    no more than it does; a positive row also has a precision of its own.
    """
    order = np.argsort(-rows.probability, kind="stable")
    score, label = rows.probability[order], rows.label[order].astype(np.float64)
    first = np.flatnonzero(np.append(True, score[1:] != score[:-1]))
    tied = np.diff(np.append(first, len(score)))
    positives = np.add.reduceat(label, first)  # by distinct score, the highest first
    number, hits = np.cumsum(tied), np.cumsum(positives)
    precision = hits / number

    def lower(values: np.ndarray) -> np.ndarray:
        """Sums over the positives that score no more than each distinct score."""
        return np.cumsum((positives * values)[::-1])[::-1]

    def of_rows(values: np.ndarray) -> np.ndarray:
        return np.repeat(values, tied)

    mean = np.sum(positives * precision) / hits[-1]
    own = label * (of_rows(precision) - mean)
    added = label * of_rows(lower(1 / number)) - of_rows(lower(precision / number))
    found = np.empty(len(label))
    found[order] = (own + added) / hits[-1]
    return found


def mean_influence(values: np.ndarray) -> np.ndarray:
    """Compute the influence d mean / d weight of each value; the mean leaves NaN out."""
    return np.nan_to_num(values - np.nanmean(values)) / np.count_nonzero(~np.isnan(values))


class PairedBySeed(SampledMeasure):
    """A metric of systems that share all that a seed decides."""

    def difference(self, system: str, other: str, confidence: float = 0.95) -> Estimate:
        """The system's value minus the other's, paired by user, and by seed if they have the same.

        Seeds that one of them has more than the other leave them paired by user alone.
        """
        own, others = self.seeds[system], self.seeds[other]
        if len(own) != len(others) or len(own) == 1:
            return super().difference(system, other, confidence)
        change, samples = own - others, self.samples[system] - self.samples[other]
        rows = self.variance(samples.mean(axis=0)) - repeated(self.variance, samples)
        return combine(
            float(change.mean()),
            [
                max(0.0, rows),
                float(np.var(change, ddof=1)) / len(change),
            ],
            [self.freedom, len(change) - 1],
            confidence=confidence,
        )


def measures(
    runs: Mapping[str, Sequence[Scored]],
    values: Mapping[str, Mapping[str, Sequence[float]]],
    influences: Mapping[str, Influence],
    lower_is_better: frozenset[str] = frozenset(),
) -> dict[tuple[str, str], SampledMeasure]:
    """One measure per metric, clustered by user and paired by seed.

    Args:
        runs: system -> test rows of each seed, seeds in the same order for all systems. Systems
            may be tested on other rows of the same users.
        values: metric -> system -> its value of each seed.
        influences: metric -> from a run's rows to d metric / d weight of each row, [rows].
        lower_is_better: metrics for which smaller values are better.

    Returns:
        (`test`, metric) -> measure.
    """
    every = [run for mine in runs.values() for run in mine]
    number = {log: n for n, log in enumerate(dict.fromkeys(run.log for run in every))}
    users, place = np.unique(np.concatenate([run.user for run in every]), return_inverse=True)
    log = np.repeat([number[run.log] for run in every], [len(run.user) for run in every])
    cluster, place = np.unique(log * len(users) + place, return_inverse=True)
    parts = iter(np.split(place, np.cumsum([len(run.user) for run in every])[:-1]))
    code = {system: [next(parts) for _ in mine] for system, mine in runs.items()}
    clusters = len(cluster)
    checks.at_least(2, users=clusters)

    def by_user(system: str, values: Callable[[Scored], np.ndarray]) -> np.ndarray:
        """Sums over the rows of each user, [seeds, users]."""
        mine = zip(code[system], runs[system], strict=True)
        return np.array([np.bincount(at, values(run), clusters) for at, run in mine])

    freedom = max(1.0, min(_freedom(by_user(s, lambda run: run.label).mean(axis=0)) for s in runs))
    scale = clusters / (clusters - 1)
    return {
        ("test", metric): PairedBySeed(
            seeds={system: np.array(values[metric][system]) for system in runs},
            num_seeds={system: len(mine) for system, mine in runs.items()},
            samples={system: by_user(system, influence) for system in runs},
            variance=lambda sums: float(scale * np.sum(sums**2)),
            freedom=freedom,
            trained_once=frozenset(system for system, mine in runs.items() if len(mine) == 1),
            lower_is_better=metric in lower_is_better,
            limits=(0.0, np.inf if metric in lower_is_better else 1.0),
        )
        for metric, influence in influences.items()
    }


def _freedom(positives: np.ndarray) -> float:
    """Degrees of freedom by the positives of each user, which are few and decide.

    As `Clusters.freedom`: users - 1 where all have as many, fewer where some have most of them.
    """
    return float(np.sum(positives**2) ** 2 / np.sum(positives**4) - 1)
