"""Columns of items that appear to leak the future.

A column is reported for one of these reasons, each with a threshold that chance does not reach:

- it is a total of later clicks, or correlates with them beyond what earlier clicks explain;
- it is the rate itself;
- its values sort the items by their outcome: more finely than sampling noise allows for anything
  that was known before, or into ranges of the ordered outcome;
- it is empty for the newest items only: it is filled in later.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mmnet.data.counts import Panel

CUTS = (0.0, 0.25, 0.5, 0.75, 0.9)
"""Positions in the log, as shares of the periods, after which clicks count as later."""

FEWEST = 50
"""Minimum number of items for any statement."""

EQUAL = 0.5
"""Minimum share of the items whose value is exactly their total, or their rate."""

SAME_ORDER = 0.9
"""Rank correlation with later clicks that only a total of them reaches: values known at release,
such as an author's followers, rarely exceed 0.6."""

BEYOND = 0.6
"""The same after earlier clicks and the first period are partialled out, with more items."""

FEWEST_BEYOND = 100

SIGMAS = 5.0
"""Standard errors by which variance within values must be below sampling noise: one in three
million by chance, which even many columns and groups of items do not reach."""

BELOW = 0.1
"""Minimum share of all variance, so that the finding matters."""

DISPERSED = 0.8
"""Minimum variance of rates in units of sampling noise, between an item's even and odd periods and
between items, for it to be sampling noise at all; counts computed from rates have none."""

SWAPPED = 0.02
"""Maximum share of the items of two neighbouring values that are on the wrong side of their border,
relative to the smaller value's items."""

GAP = 0.1
"""Maximum gap between neighbouring values, in standard deviations of all items."""

TOUCHING, OTHER_TOUCHING = 0.05, 0.02
"""Minimum shares of the smaller and of the larger value's items within a quarter of its standard
deviation of its edge, on average over neighbours. For the halves of a normal distribution it is
12 % each, for its highest tenth 17 % and for the rest 4 %; for whole distributions with so little
overlap it is 1 %."""

BINS = 20
"""Number of bins for numbers, with equally many items each."""

NEWEST, OLDER = 0.5, 0.1
"""Minimum share of the newest items without a value, if most of the others have one."""

SHARES_OF_NEWEST = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3)
FEWEST_NEWEST = 10


@dataclass(frozen=True)
class Leak:
    """A column that appears to leak the future, and the reason."""

    column: str
    reason: str


@dataclass(frozen=True)
class Outcomes:
    """Outcomes of items, before and after some periods.

    Attributes:
        first_seen: int64 [items], column of the first clicks.
        num_periods: number of periods of the panel.
        cuts: column at which each of the later sums begins.
        clicks, shares: float64 [cuts, items], sums from there on.
        labels: description of each cut.
        noisy: whether rates vary between periods at least as much as by sampling noise alone, so
            that the estimate of sampling noise is valid.
    """

    first_seen: np.ndarray
    num_periods: int
    cuts: tuple[int, ...]
    clicks: np.ndarray
    shares: np.ndarray
    labels: tuple[str, ...]
    noisy: bool = True


def outcomes(panel: Panel, first_seen: np.ndarray, shards: Sequence[slice]) -> Outcomes:
    """Sums the clicks and shares of each item from several periods on."""
    cuts = tuple(dict.fromkeys(int(cut * panel.num_periods) for cut in CUTS))
    clicks, shares = (np.zeros((len(cuts), len(first_seen))) for _ in range(2))
    squares, noise = 0.0, 0.0
    for part in shards:
        sides = halves(panel.clicks[part], panel.shares[part])
        squares, noise = squares + sides[0], noise + sides[1]
        for array, sums in ((panel.clicks[part], clicks), (panel.shares[part], shares)):
            totals = np.cumsum(array[:, ::-1], axis=1)[:, ::-1]
            sums[:, part] = totals[:, list(cuts)].T
    labels = ("in all periods", *(f"from {panel.label(cut)} on" for cut in cuts[1:]))
    noisy = outcomes_are_noisy(squares, noise)
    return Outcomes(first_seen, panel.num_periods, cuts, clicks, shares, labels, noisy)


def halves(clicks: np.ndarray, shares: np.ndarray) -> tuple[float, float]:
    """Compares the rates of items between even and odd periods.

    Args:
        clicks: int64 [items, periods].
        shares: the same.

    Returns:
        The sum of squared differences, and its expectation from sampling noise alone.
    """
    sides = [(clicks[:, at::2].sum(axis=1), shares[:, at::2].sum(axis=1)) for at in (0, 1)]
    used = (sides[0][0] > 1) & (sides[1][0] > 1)
    rates = [s[used] / n[used] for n, s in sides]
    noise = [r * (1 - r) / (n[used] - 1) for r, (n, _) in zip(rates, sides, strict=True)]
    return float(((rates[0] - rates[1]) ** 2).sum()), float(np.sum(noise))


def outcomes_are_noisy(squares: float, noise: float) -> bool:
    """Checks whether rates vary at least as much as by sampling noise; see `halves`."""
    return squares >= DISPERSED * noise


def of_number(
    column: str, values: np.ndarray, seen: Outcomes, names: tuple[str, str]
) -> list[Leak]:
    """Checks whether a column of numbers contains later outcomes.

    Args:
        column: name of the column.
        values: float64 [items], NaN where empty.
        seen: outcomes of the items.
        names: names of the numerator and the denominator.

    >>> later = np.arange(200.0) + 1
    >>> seen = Outcomes(np.zeros(200, int), 9, (0,), later[None], 0 * later[None], ("in all",))
    >>> of_number("views", later, seen, ("shares", "clicks"))[0].reason
    'equals the clicks in all of 100 % of the items'
    """
    for leak in (
        *_equal(column, values, seen, names),
        *_ordered(column, values, seen, names),
    ):
        return [leak]
    finite = np.isfinite(values)
    if finite.sum() < FEWEST or len(np.unique(values[finite])) <= BINS:
        return of_groups(column, pd.factorize(np.where(finite, values, np.nan))[0], seen, names)
    ranks = pd.Series(values).rank(method="first").to_numpy()
    bins = np.where(finite, (ranks - 1) * BINS // finite.sum(), -1)
    return of_groups(column, np.nan_to_num(bins, nan=-1).astype(int), seen, names, tiles=False)


def of_groups(
    column: str,
    codes: np.ndarray,
    seen: Outcomes,
    names: tuple[str, str],
    *,
    tiles: bool = True,
) -> list[Leak]:
    """Checks whether the values of a column sort the items by their outcome.

    Args:
        column: name of the column.
        codes: int64 [items], number of the value; -1 where empty.
        seen: outcomes of the items.
        names: names of the numerator and the denominator.
        tiles: whether to check for values that are ranges of the ordered outcome.
    """
    for cut, label in enumerate(seen.labels):
        clicks, shares = seen.clicks[cut], seen.shares[cut]
        there = (codes >= 0) & (clicks > 0)
        code, n, s = codes[there], clicks[there], shares[there]
        if len(code) < FEWEST or len(np.unique(code)) * 10 > len(code):
            continue
        if seen.noisy and (s <= n).all() and (excess := finer_than_noise(code, n, s)):
            return [
                Leak(
                    column,
                    f"its values sort the {names[0]} per {names[1]} {label} more finely than "
                    f"sampling noise allows: they explain {excess:.0%} of the variance, all of it "
                    "noise",
                )
            ]
        if not tiles:
            continue
        for outcome, what in ((s / n, f"{names[0]} per {names[1]}"), (np.log(n), names[1])):
            if cuts_the_order(code, outcome):
                return [
                    Leak(column, f"its values are ranges of the items ordered by {what} {label}")
                ]
    return []


def finer_than_noise(codes: np.ndarray, clicks: np.ndarray, shares: np.ndarray) -> float:
    """Returns the share of the variance of rates that is sampling noise but explained by groups.

    A value known before clicks were counted cannot predict their chance: within its groups, rates
    vary at least by sampling noise. Items with few clicks show it best, so items are analysed by
    their number of clicks.

    Args:
        codes: int64 [items], group of each.
        clicks: clicks of each item.
        shares: shares of each item.

    Returns:
        The share; 0 if it may be chance.
    """
    for low, high in ((2, 5), (5, 20), (20, 100), (100, 1000), (1000, np.inf)):
        inside = (clicks >= low) & (clicks < high)
        code, n = codes[inside], clicks[inside]
        if len(code) < FEWEST:
            continue
        rate = shares[inside] / n
        numbers, code = np.unique(code, return_inverse=True)
        size = np.bincount(code)
        mean = np.bincount(code, rate) / size
        several = size[code] > 1
        if len(numbers) < 2 or len(numbers) * 5 > len(code) or not several.any():
            continue
        within = (rate - mean[code]) ** 2 * size[code] / np.maximum(size[code] - 1, 1)
        excess = (rate * (1 - rate) / (n - 1) - within)[several]
        # A group whose rates are all 0 or all 1 does not show its noise, so standard errors are at
        # least those of the rates' own spread.
        error = excess.std() / np.sqrt(len(excess))
        total = rate[several].var()
        if total < DISPERSED * (rate * (1 - rate) / (n - 1))[several].mean():
            continue  # the rates of all items vary less than by chance: they were computed
        if error > 0 and total > 0 and excess.mean() > max(SIGMAS * error, BELOW * total):
            return float(excess.mean() / total)
    return 0.0


def cuts_the_order(codes: np.ndarray, outcome: np.ndarray) -> bool:
    """Checks whether groups are intervals of an outcome.

    They are if neighbouring groups, by their means, hardly overlap, but many items are near the
    border: one distribution was cut. Groups that really differ overlap, or are far apart.

    >>> rates = np.random.default_rng(0).normal(size=500)
    >>> cuts_the_order((rates > 0.3).astype(int), rates)
    True
    >>> cuts_the_order((np.arange(500) % 2), rates + 9 * (np.arange(500) % 2))
    False
    """
    order = pd.Series(outcome).groupby(codes).agg(["mean", "size"]).sort_values("mean")
    order = order[order["size"] >= 10]
    if len(order) < 2 or order["size"].sum() < 0.9 * len(codes):
        return False
    edges = []
    for below, above in zip(order.index[:-1], order.index[1:], strict=True):
        low, high = outcome[codes == below], outcome[codes == above]
        edge = _edges(np.sort(low), np.sort(high), GAP * outcome.std())
        if edge is None:
            return False
        edges.append(edge)
    smaller, larger = np.mean(edges, axis=0)
    return bool(smaller >= TOUCHING and larger >= OTHER_TOUCHING)


def _edges(low: np.ndarray, high: np.ndarray, gap: float) -> tuple[float, float] | None:
    """Returns the shares of two sorted groups at the border between them, the smaller group first.

    Returns:
        None if the two overlap, are far apart, or one has no spread.
    """
    borders = np.unique(np.concatenate([low, high]))
    wrong = (len(low) - np.searchsorted(low, borders)) + np.searchsorted(high, borders)
    border = borders[np.argmin(wrong)]
    if wrong.min() > SWAPPED * min(len(low), len(high)):
        return None
    low, high = low[low < border], high[high >= border]
    if not len(low) or high[0] - low[-1] > gap or not (low.std() and high.std()):
        return None
    below = float((low >= low[-1] - low.std() / 4).mean())
    above = float((high <= high[0] + high.std() / 4).mean())
    return (below, above) if len(low) <= len(high) else (above, below)


def empty_for_newest(column: str, empty: np.ndarray, age: np.ndarray) -> list[Leak]:
    """Checks whether a column is empty for the newest items only.

    Args:
        column: name of the column.
        empty: bool [items].
        age: float64 [items], larger for newer items; NaN where it is not known.

    >>> empty_for_newest("tags", np.arange(100) >= 90, np.arange(100.0))[0].reason
    'is empty for 100 % of the 10 newest items and for 0 % of the others: it is filled in later'
    """
    known = np.isfinite(age)
    empty, age = empty[known], age[known]
    if len(empty) < FEWEST or not empty.any():
        return []
    best: tuple[float, str] | None = None
    for border in np.unique(np.quantile(age, [1 - share for share in SHARES_OF_NEWEST])):
        newest = age >= border
        new, old = int(newest.sum()), int((~newest).sum())
        if new < FEWEST_NEWEST or not old:
            continue
        here, there = empty[newest].mean(), empty[~newest].mean()
        chance = empty.mean()
        error = np.sqrt(chance * (1 - chance) * (1 / new + 1 / old))
        if here < NEWEST or there > OLDER or here - there < SIGMAS * error:
            continue
        reason = (
            f"is empty for {100 * here:.0f} % of the {new:,} newest items and for "
            f"{100 * there:.0f} % of the others: it is filled in later"
        )
        if best is None or here - there > best[0]:
            best = here - there, reason
    return [Leak(column, best[1])] if best else []


def _equal(
    column: str, values: np.ndarray, seen: Outcomes, names: tuple[str, str]
) -> Iterator[Leak]:
    for cut, label in enumerate(seen.labels):
        clicks, shares = seen.clicks[cut], seen.shares[cut]
        with np.errstate(divide="ignore", invalid="ignore"):
            rate = shares / clicks
        for total, what in ((clicks, names[1]), (shares, names[0])):
            there = np.isfinite(values) & (total > 0)
            if there.sum() >= FEWEST and len(np.unique(total[there])) > BINS:
                same = (values[there] == total[there]).mean()
                if same >= EQUAL:
                    yield Leak(
                        column, f"equals the {what} {label} of {100 * same:.0f} % of the items"
                    )
        there = np.isfinite(values) & (shares > 0) & (shares < clicks)
        if there.sum() < FEWEST or len(np.unique(rate[there])) <= BINS:
            continue
        for scale in (1, 100):
            near = np.isclose(values[there], scale * rate[there], rtol=1e-3, atol=0)
            if near.mean() >= EQUAL:
                what = f"{names[0]} per {names[1]} {label} of {100 * near.mean():.0f} %"
                yield Leak(column, f"equals the {what} of the items")


def _ordered(
    column: str, values: np.ndarray, seen: Outcomes, names: tuple[str, str]
) -> Iterator[Leak]:
    for cut, label in enumerate(seen.labels):
        start = seen.cuts[cut]
        released = seen.first_seen < (start if start else seen.num_periods)
        for later, what, every in (
            (seen.clicks[cut], names[1], seen.clicks[0]),
            (seen.shares[cut], names[0], seen.shares[0]),
        ):
            there = np.isfinite(values) & released
            if there.sum() < FEWEST or not later[there].any():
                continue
            x, y = (pd.Series(one[there]).rank().to_numpy() for one in (values, later))
            if (alike := _correlation(x, y)) >= SAME_ORDER:
                reason = f"has the order of the {what} {label} (rank correlation {alike:.2f})"
                yield Leak(column, reason)
            if not start or there.sum() < FEWEST_BEYOND:
                continue
            known = [
                pd.Series(one[there]).rank().to_numpy() for one in (every - later, seen.first_seen)
            ]
            beyond = _correlation(*(_without(one, known) for one in (x, y)))
            if beyond >= BEYOND:
                yield Leak(
                    column,
                    f"correlates with the {what} {label} beyond those before (partial rank "
                    f"correlation {beyond:.2f})",
                )


def _without(ranks: np.ndarray, known: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the residuals of ranks after a linear regression on others."""
    design = np.column_stack([np.ones(len(ranks)), *known])
    return ranks - design @ np.linalg.lstsq(design, ranks, rcond=None)[0]


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x - x.mean(), y - y.mean()
    size = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / size) if size > 1e-9 * len(x) else 0.0
