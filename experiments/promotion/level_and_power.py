"""Level and power of promotion rules over many nights, on simulated errors.

    python experiments/promotion/level_and_power.py [--runs=1000] [--output=FILE]

Every night a challenger is compared with the champion on the last three periods, so the tests of
neighbouring nights share two thirds of their rows. Items live for three periods. Rates, clicks
and errors are drawn so that the models' errors have the skew of real ones: the rate of a row is
binomial, and both models err by item. The comparison is `mmnet.promotion.paired`, as in production;
what differs is the level at which a single night is tested.
"""

import argparse
from pathlib import Path

import numpy as np
from scipy import stats

from mmnet.evaluation.report import markdown_table
from mmnet.files import write_atomic
from mmnet.promotion.paired import Paired
from mmnet.training.records import git_state

HERE = Path(__file__).parent
ALPHA, NIGHTS, PERIODS, WEEK = 0.05, 30, 3, 7
OURS = "**0.05 / 30 every night**"
LEVELS = (
    *((2000, "warm", "light", False), (2000, "cold", "light", False)),
    *((2000, "cold", "heavy", False), (300, "cold", "heavy", False)),
    *((60, "cold", "heavy", False), (2000, "cold", "heavy", True)),
)
"""Test items, challengers, tails, and whether rows are weighted."""
POWERS = (
    *((2000, 0.9, "warm", "light"), (2000, 0.9, "cold", "light")),
    *((2000, 0.9, "warm", "heavy"), (2000, 0.9, "cold", "heavy")),
    *((500, 0.9, "warm", "light"), (2000, 0.95, "warm", "light"), (8000, 0.98, "warm", "light")),
)
"""Test items, true ratio of MSEs, challengers, tails."""
KEPT_BEFORE = 100
"""Nights without a promotion, after which the power is looked at again."""
ALIKE = {"warm": (0.9, 0.9), "cold": (0.6, 0.0)}
"""Correlation of a challenger's errors with the champion's, and of its own part from one night to
the next: a warm start continues the last night's network, a cold one draws a new one."""


class World:
    """True rates and observed rates of items, and errors of models, [births, items, periods].

    Args:
        draws: random numbers.
        tails: "light": every item has errors of one size, nearly normal. "heavy": errors are 30 %
            of an item's rate, whose spread is larger, and have a t distribution with 5 degrees of
            freedom; few items then have most of the squared error.
        items: items born in a period.
        nights: number of nights.
    """

    def __init__(self, draws, tails, items, nights):
        self.draws = draws
        spread, self.freedom = {"light": (0.4, 30), "heavy": (0.6, 5)}[tails]
        births = nights + 2 * (PERIODS - 1)
        self.rate = np.minimum(draws.lognormal(np.log(4), spread, (births, items, 1)), 60)
        clicks = draws.lognormal(np.log(150), 1, (births, items, PERIODS))
        clicks = np.maximum(10, clicks).astype(int)
        self.observed = 100 * draws.binomial(clicks, self.rate / 100) / clicks
        self.size = 0.3 * self.rate if tails == "heavy" else 2.0

    def errors(self):
        """Errors of a model, by item."""
        drawn = self.draws.standard_t(self.freedom, self.rate.shape)
        return self.size * drawn * np.sqrt(1 - 2 / self.freedom)


def window(night):
    """Rows of a night's comparison: births that are alive, and the ages that are compared."""
    for birth in range(night, night + 2 * PERIODS - 1):
        ages = [age for age in range(PERIODS) if night + 2 <= birth + age < night + 2 + PERIODS]
        yield birth, ages


def run(draws, items, nights, start, tails, *, ratio=1.0, biased=False):
    """One run of nights: the one-sided p of every night, [nights].

    Args:
        draws: random numbers.
        items: test items of a night's comparison.
        nights: number of nights.
        start: warm or cold.
        tails: see `World`.
        ratio: the challengers' true MSE relative to the champion's.
        biased: half of the items are let through with probability 0.1 and weighted by 10.
    """
    born = items // (2 * PERIODS - 1)
    world = World(draws, tails, born, nights)
    rate, observed, shape = world.rate, world.observed, world.rate.shape
    alike, steady = ALIKE[start]
    error = world.errors()
    champion = rate + error
    noise, reducible = np.mean((observed - rate) ** 2), np.mean(error**2)
    scale = np.sqrt(1 - (1 - ratio) * (noise + reducible) / reducible)
    own = world.errors()
    found = np.empty(nights)
    propensity = np.where(draws.uniform(size=shape[:2]) < 0.5, 0.1, 1.0) if biased else None
    seen = draws.uniform(size=shape[:2]) < propensity if biased else np.ones(shape[:2], bool)
    for night in range(nights):
        own = steady * own + np.sqrt(1 - steady**2) * world.errors()
        challenger = rate + scale * (alike * error + np.sqrt(1 - alike**2) * own)
        parts = [[], [], [], []]
        for birth, ages in window(night):
            who = np.flatnonzero(seen[birth])
            truth = observed[birth, who][:, ages]
            weight = np.ones(len(who)) if propensity is None else 1 / propensity[birth, who]
            for part, values in zip(
                parts,
                (
                    (champion[birth, who] - truth) ** 2,
                    (challenger[birth, who] - truth) ** 2,
                    np.broadcast_to((birth * born + who)[:, None], truth.shape),
                    np.broadcast_to(weight[:, None], truth.shape),
                ),
                strict=True,
            ):
                part.append(values.ravel())
        ours, theirs, item, weight = map(np.concatenate, parts)
        found[night] = Paired(ours, theirs, item, weight if biased else None).p_not_below()
    return found


def of_one_challenger(draws, runs=20_000):
    """The level at which 30 overlapping tests of one and the same challenger have 5 % together."""
    periods = draws.normal(size=(runs, NIGHTS + PERIODS - 1))
    sums = [periods[:, night : night + PERIODS].sum(axis=1) for night in range(NIGHTS)]
    most = np.max(sums, axis=0) / np.sqrt(PERIODS)
    return float(stats.norm.sf(np.quantile(most, 1 - ALPHA)))


def rules(constant):
    """Name of each rule -> the level of the night with a number, from 1."""
    return {
        "0.05 every night": lambda k: ALPHA,
        "0.05 · 6 / (π² k²) on night k": lambda k: ALPHA * 6 / (np.pi * k) ** 2,
        f"{constant:.4f} every night (5 % if all challengers were one model)": lambda k: constant,
        OURS: lambda k: ALPHA / NIGHTS,
    }


def any_night(p, level):
    """Share of runs with a promotion on any of their nights."""
    return (p <= np.array([level(k) for k in range(1, p.shape[1] + 1)])).any(axis=1).mean()


def told(share, runs):
    """A share with its standard error, in percent."""
    return f"{share:.1%} ± {100 * np.sqrt(max(share * (1 - share), 1 / runs) / runs):.1f}"


def main():
    """Runs all, and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--output", default=str(HERE / "level_and_power.md"))
    flags = parser.parse_args()
    seeds = np.random.SeedSequence(0)
    constant = of_one_challenger(np.random.default_rng(seeds.spawn(1)[0]))

    def p_values(**given):
        drawn = [np.random.default_rng(seed) for seed in seeds.spawn(flags.runs)]
        return np.array([run(draws, **given) for draws in drawn])

    level, power = [], []
    for items, start, tails, biased in LEVELS:
        found = p_values(nights=NIGHTS, items=items, start=start, tails=tails, biased=biased)
        for name, rule in rules(constant).items():
            what = f"{start}{', weighted' if biased else ''}"
            share = any_night(found, rule)
            level.append([name, f"{items:,}", what, tails, told(share, flags.runs)])
            print(*level[-1], flush=True)
    for items, ratio, start, tails in POWERS:
        found = p_values(nights=WEEK, items=items, ratio=ratio, start=start, tails=tails)
        for name, rule in rules(constant).items():
            ways = (
                any_night(found[:, :1], rule),
                any_night(found, rule),
                float((found[:, 0] <= rule(KEPT_BEFORE + 1)).mean()),
            )
            row = [name, f"{items:,}", f"{1 - ratio:.0%}", start, tails]
            power.append([*row, *(told(share, flags.runs) for share in ways)])
            print(*power[-1], flush=True)
    commit, clean = git_state()
    worst = max((row for row in level if row[0] == OURS), key=lambda row: float(_of(row, 4)))
    key = [row for row in power if row[0] == OURS and row[1:3] == ["2,000", "10%"]]
    found = "; ".join(
        f"{start} challengers, {tails} tails: {_of(row, 5)} %"
        for row in key
        for start, tails in [row[3:5]]
    )
    text = "\n".join(
        [
            "# Level and power of the promotion rule, simulated errors\n",
            f"`python experiments/promotion/level_and_power.py --runs={flags.runs}`, commit "
            f"{commit}{'' if clean else ' with changes'}. Tested at 0.05 / 30 every night, at most "
            f"{worst[4]} of runs of 30 nights with equal challengers have a wrong promotion "
            "(required: 5 %). Runs that promote a challenger whose true MSE is 10 % lower on its "
            f"first night, with 2,000 test items (required: 80 %): {found}.\n",
            MEANING,
            "## Runs of 30 nights with a wrong promotion, all challengers equal to the champion\n",
            markdown_table(
                ["Level of a night", "Test items", "Challengers", "Tails", "Runs"], level
            ),
            "## Runs that promote a challenger that is truly better\n",
            markdown_table(
                [
                    *("Level of a night", "Test items", "Lower MSE", "Challengers", "Tails"),
                    *("First night", f"Within {WEEK} nights"),
                    f"One night, {KEPT_BEFORE} nights later",
                ],
                power,
            ),
        ]
    )
    write_atomic(flags.output, text)


def _of(row, column):
    return row[column].split("%")[0]


MEANING = """A warm challenger's errors correlate by 0.9 with the champion's, and its own part by
0.9 with the night before; a cold one's by 0.6, and not at all with the night before. Weighted:
half of the items are let through with probability 0.1 and have weight 10. Light tails: errors of
one size, nearly normal. Heavy tails: errors in proportion to the item's rate, t distributed with
5 degrees of freedom. ± is a standard error over runs.

- Testing at 0.05 every night promotes wrongly in most runs.
- Spending 0.05 once and for all, as 6 / (π² k²), holds its level over any number of nights, but a
  champion that has served for 100 nights can hardly be replaced any more.
- A constant level of 0.05 / 30 holds for any 30 nights in a row by the union bound, however they
  depend on each other, and does not wear out. The bound leaves no room where challengers are unlike
  each other and test items are many. A larger constant that counts on the overlap of test rows is
  right for one challenger that is tested 30 times, not for 30 challengers.
- Power depends on how alike the two models are: what both get wrong cancels in a paired test. Two
  unlike models on items of which few have most of the squared error need more items, or more
  nights: the same challenger has another chance with new items on the next night.
"""


if __name__ == "__main__":
    main()
