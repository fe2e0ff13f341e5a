"""Share rate and dwell time of the pools that filters choose, from the impressions of a log.

Yu et al. (2021) section 6.4 report an online A/B test, Table 2: the average item-level share rate
(AISR), the average dwell time per user (ADT/u) and per item (ADT/i) with MMNet as the filter,
relative to a base of rules. Here the same measures are those of impressions that a log already
has, of the items that a filter would have kept. That is not an A/B test: users were shown these
items by another system, and would have been shown others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse

from mmnet import checks
from mmnet.evaluation.filtering import CONFIDENCE
from mmnet.evaluation.precision import in_top
from mmnet.evaluation.significance import Clusters

OF_ITEMS = ("aisr", "seconds_per_item", "seconds_per_impression")
OF_USERS = "seconds_per_user"
MEASURES = (*OF_ITEMS, OF_USERS)
REPLICATES = 1000
AT_ONCE = 50
"""Replicates of users that are computed together."""


@dataclass(frozen=True)
class Shown:
    """Candidates of a filter, which are items in a period, and the impressions of them.

    Attributes:
        item: item of each candidate, [candidates].
        rate: its observed share rate, percent, [candidates].
        candidate: index of the candidate that was shown, [impressions].
        user: who it was shown to, [impressions].
        seconds: how long the user stayed, [impressions].

    Raises:
        ValueError: lengths differ, an index is out of range, a rate or a time is not finite, or a
            candidate has no impression.
    """

    item: np.ndarray
    rate: np.ndarray
    candidate: np.ndarray
    user: np.ndarray
    seconds: np.ndarray

    def __post_init__(self):
        checks.same_shape(item=np.asarray(self.item), rate=np.asarray(self.rate))
        arrays = {
            name: np.asarray(getattr(self, name)) for name in ("candidate", "user", "seconds")
        }
        checks.same_shape(**arrays)
        for name in ("rate", "seconds"):
            if not np.isfinite(np.asarray(getattr(self, name), np.float64)).all():
                raise ValueError(f"`{name}` must be finite")
        candidate = arrays["candidate"]
        if len(candidate) and not 0 <= candidate.min() <= candidate.max() < len(self.item):
            raise ValueError(f"`candidate` must be in [0, {len(self.item)})")
        if not self.impressions.all():
            where = int(np.argmin(self.impressions))
            raise ValueError(f"`candidate` must show every candidate. Received: none of {where}")

    @property
    def impressions(self) -> np.ndarray:
        """Impressions of each candidate, [candidates]."""
        return np.bincount(self.candidate, minlength=len(self.item))

    @property
    def total_seconds(self) -> np.ndarray:
        """Seconds that users stayed with each candidate, [candidates]."""
        return np.bincount(self.candidate, self.seconds, minlength=len(self.item))


def pool(score: np.ndarray, period: np.ndarray, share: float) -> np.ndarray:
    """Choose the candidates with the highest scores of each period.

    Args:
        score: [candidates].
        period: when each is a candidate, anything sortable, [candidates].
        share: share of each period's candidates that the pool holds, in (0, 1].

    Returns:
        The weight of each candidate in the pool, [candidates]: 1, 0, or where scores are tied the
        probability to be chosen among the tied ones.

    >>> pool(np.array([3.0, 1, 5, 5]), np.array([0, 0, 1, 1]), 0.5)
    array([1. , 0. , 0.5, 0.5])
    """
    score = np.asarray(score, np.float64)
    _, number = np.unique(np.asarray(period), return_inverse=True)
    weights = np.zeros(len(score))
    for one in range(number.max() + 1):
        group = number == one
        weights[group] = in_top(100 * share, score[group])
    return weights


def measures(shown: Shown, weights: np.ndarray) -> dict[str, float]:
    """Measure one pool.

    Args:
        shown: candidates and impressions.
        weights: weight of each candidate in the pool, [candidates].

    Returns:
        "aisr", the mean rate of the pool's candidates, percent (AISR); "seconds_per_item", mean
        dwell time of a candidate, over all its impressions (ADT/i); "seconds_per_impression", of
        an impression in the pool; "seconds_per_user" (ADT/u), the mean over users of their dwell
        time per impression in the pool, of users with an impression there. Impressions count by
        the weight of their candidate. NaN for an empty pool.

    >>> shown = Shown(np.array(["a", "b"]), np.array([2.0, 4.0]), np.array([0, 0, 1]),
    ...               np.array([7, 8, 8]), np.array([10.0, 20, 60]))
    >>> list(measures(shown, np.array([1.0, 1.0])).values())
    [3.0, 45.0, 30.0, 25.0]
    """
    ones = np.ones((len(shown.item), 1)), np.ones((_users(shown)[1], 1))
    pools = _Pools(shown, [weights])
    found = pools.of_items(ones[0]) | {OF_USERS: pools.of_users(*ones)}
    return {name: float(value[0, 0]) for name, value in found.items()}


def gains(
    shown: Shown,
    pools: Mapping[str, Sequence[np.ndarray]],
    bases: Sequence[str],
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure pools relative to others, as the paper's Table 2 does.

    Args:
        shown: candidates and impressions.
        pools: rule -> weights of the candidates, [candidates], of each of its seeds. A measure of
            a rule is the mean over its seeds.
        bases: rules that every rule is compared with.
        replicates: number of bootstrap replicates of items; for "seconds_per_user" of items and of
            users, an impression having the product of both weights, since users who saw the same
            item are not independent (Owen, 2007, errs towards larger variances). Pools are held
            fixed, so that intervals do not contain the variance of training.
        seed: seed of the bootstrap.

    Returns:
        A row per rule, measure and base: `rule`, `measure`, `value` (see `measures`), `base`,
        `gain` (percent of the base's measure), `gain_low`, `gain_high` (95 % interval of the
        paired gain), and `gain_sd`, the sd over the seeds of the rule, NaN for a single one.

    Raises:
        ValueError: fewer than two items or users.
    """
    together = _Pools(shown, [weights for of_rule in pools.values() for weights in of_rule])
    number = _users(shown)[1]
    ones = np.ones((len(shown.item), 1)), np.ones((number, 1))
    value = together.of_items(ones[0]) | {OF_USERS: together.of_users(*ones)}
    by_item, by_user = (
        np.concatenate([*Clusters(keys).resample(replicates, of)], axis=1)
        for keys, of in ((shown.item, seed), (np.arange(number), seed + 1))
    )
    drawn = together.of_items(by_item)
    drawn[OF_USERS] = np.concatenate(
        [
            together.of_users(
                by_item[:, start : start + AT_ONCE], by_user[:, start : start + AT_ONCE]
            )
            for start in range(0, replicates, AT_ONCE)
        ],
        axis=1,
    )
    ends = np.cumsum([len(of_rule) for of_rule in pools.values()])
    lines = {
        rule: slice(end - len(pools[rule]), end) for rule, end in zip(pools, ends, strict=True)
    }
    tails = np.array([1 - CONFIDENCE, 1 + CONFIDENCE]) / 2
    rows = []
    for rule, own in lines.items():
        for name in MEASURES:
            for base in bases:
                of_base, of_base_drawn = value[name][lines[base]], drawn[name][lines[base]]
                each = 100 * (value[name][own, 0] / of_base.mean() - 1)
                ratio = drawn[name][own].mean(axis=0) / of_base_drawn.mean(axis=0)
                # A resample that holds nothing of a pool is left out.
                low, high = np.nanquantile(100 * (ratio - 1), tails)
                rows.append(
                    {
                        "rule": rule,
                        "measure": name,
                        "value": float(value[name][own].mean()),
                        "base": base,
                        "gain": float(each.mean()),
                        "gain_low": float(low),
                        "gain_high": float(high),
                        "gain_sd": float(np.std(each, ddof=1)) if len(each) > 1 else np.nan,
                    }
                )
    return pd.DataFrame(rows)


def _users(shown: Shown) -> tuple[np.ndarray, int]:
    """The user of each impression as an index, and the number of users."""
    names, code = np.unique(np.asarray(shown.user), return_inverse=True)
    return code, len(names)


class _Pools:
    """Measures of several pools, [pools, replicates], under weights of candidates and of users."""

    def __init__(self, shown: Shown, pools: Sequence[np.ndarray]):
        self._chosen = np.asarray(pools, np.float64)  # [pools, candidates]
        checks.same_shape(pool=self._chosen[0], item=np.asarray(shown.item))
        self._rate = np.asarray(shown.rate, np.float64)
        self._impressions, self._seconds = shown.impressions, shown.total_seconds
        code, number = _users(shown)
        of_user, shape = (code, shown.candidate), (number, len(shown.item))
        self._user_seconds = sparse.csr_array((shown.seconds, of_user), shape)
        self._user_impressions = sparse.csr_array((np.ones(len(code)), of_user), shape)

    def of_items(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """`OF_ITEMS` under weights of the candidates, [candidates, replicates]."""
        with np.errstate(invalid="ignore", divide="ignore"):  # an empty pool: NaN
            seconds = (self._chosen * self._seconds) @ weights
            number = self._chosen @ weights
            return {
                "aisr": (self._chosen * self._rate) @ weights / number,
                "seconds_per_item": seconds / number,
                "seconds_per_impression": seconds / ((self._chosen * self._impressions) @ weights),
            }

    def of_users(self, weights: np.ndarray, users: np.ndarray) -> np.ndarray:
        """`OF_USERS` under those and weights of the users, [users, replicates]."""
        found = []
        for chosen in self._chosen:
            weighted = chosen[:, None] * weights
            seen = self._user_impressions @ weighted
            with np.errstate(invalid="ignore", divide="ignore"):
                each = np.where(seen > 0, self._user_seconds @ weighted / seen, 0.0)
                found.append(np.sum(users * each, axis=0) / np.sum(users * (seen > 0), axis=0))
        return np.stack(found)
