"""Level and power of promotion rules over many nights, on simulated errors.

    python experiments/promotion/level_and_power.py [--runs=1000] [--work=DIR] [--output=FILE]

Every night a challenger is compared with the champion on the last three periods, so the tests of
neighbouring nights share two thirds of their rows. Items live for three periods. Rates, clicks
and errors are drawn so that the models' errors have the skew of real ones: the rate of a row is
binomial, and both models err by item. The comparison is `mmnet.promotion.paired`, as in production;
what differs is the level at which a single night is tested.

The p values of 50 runs at a time are a file in --work. A killed process continues where it was,
more runs can be added, and several processes share the work; whichever finds all files writes the
page.
"""

import argparse
import contextlib
import io
import sys
import tempfile
from pathlib import Path

import numpy as np
from scipy import stats

from mmnet.checks import InputError
from mmnet.evaluation.report import markdown_table
from mmnet.files import only_one, write_atomic
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
    *((4500, 0.9, "cold", "heavy"), (6000, 0.9, "cold", "heavy")),
)
"""Test items, true ratio of MSEs, challengers, tails."""
CHUNK = 50
"""Runs of a file of p values."""
WANTED = 0.8
"""Power that is required."""
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
        "0.05 / 5 every night (`--alpha_nights=5`)": lambda k: ALPHA / 5,
    }


def any_night(p, level):
    """Share of runs with a promotion on any of their nights."""
    return (p <= np.array([level(k) for k in range(1, p.shape[1] + 1)])).any(axis=1).mean()


def told(share, runs):
    """A share with its standard error, in percent."""
    return f"{share:.1%} ± {100 * np.sqrt(max(share * (1 - share), 1 / runs) / runs):.1f}"


def settings():
    """All settings in order: name of the files -> arguments of `run`."""
    found = {}
    for items, start, tails, biased in LEVELS:
        name = f"level-{items}-{start}-{tails}{'-weighted' if biased else ''}"
        given = {"items": items, "start": start, "tails": tails, "biased": biased}
        found[name] = given | {"nights": NIGHTS}
    for items, ratio, start, tails in POWERS:
        given = {"items": items, "ratio": ratio, "start": start, "tails": tails}
        found[f"power-{items}-{ratio:g}-{start}-{tails}"] = given | {"nights": WEEK}
    return found


def work_on(work, runs):
    """Computes all files of p values that no other process has or is computing."""
    for number, (name, given) in enumerate(settings().items()):
        for first in range(0, runs, CHUNK):
            place = work / f"{name}-{first:05d}.npy"
            if place.exists():
                continue
            with (
                contextlib.suppress(InputError),
                only_one(work / f".{place.stem}", "", remove=True),
            ):
                if place.exists():  # another process has just written it
                    continue
                draws = [
                    np.random.default_rng(np.random.SeedSequence((number, first + one)))
                    for one in range(CHUNK)
                ]
                content = io.BytesIO()
                np.save(content, np.array([run(one, **given) for one in draws]))
                write_atomic(place, content.getvalue())
        print(f"{name}: done", flush=True)


def p_values(work, runs):
    """The p values of each setting by name, [runs, nights]; None while files lack."""
    found = {}
    for name in settings():
        places = [work / f"{name}-{first:05d}.npy" for first in range(0, runs, CHUNK)]
        if not all(place.exists() for place in places):
            return None
        found[name] = np.concatenate([np.load(place) for place in places])[:runs]
    return found


def arithmetic(p, items):
    """Why the power is what it is: the cells of a setting's row.

    The statistic z of a night is about normal. With its mean m and standard deviation s over runs,
    the power at a level with the quantile q is that of a normal value above (q - m) / s; m grows
    with the root of the number of test items.
    """
    z = stats.norm.isf(p[:, 0])
    mean, spread = z.mean(), z.std(ddof=1)
    cells = [f"{mean:.2f}", f"{spread:.2f}"]
    for level in (ALPHA, ALPHA / 5, ALPHA / NIGHTS):
        cells.append(f"{stats.norm.sf((stats.norm.isf(level) - mean) / spread):.0%}")
    for level in (ALPHA, ALPHA / 5, ALPHA / NIGHTS):
        needed = stats.norm.isf(level) + stats.norm.ppf(WANTED) * spread
        cells.append(f"{items * (needed / mean) ** 2:,.0f}")
    return cells


def main():
    """Runs what is missing, and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--work", default="", help="directory of the runs; default: none is kept")
    parser.add_argument("--output", default=str(HERE / "level_and_power.md"))
    flags = parser.parse_args()
    if flags.runs < 2:
        parser.error("--runs must be at least 2")
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(flags.work or scratch)
        work_on(work, flags.runs)
        found = p_values(work, flags.runs)
    if found is None:
        print("the rest is being computed by other processes; the last one writes the page")
        return 0
    write_atomic(flags.output, page(found, flags.runs))
    return 0


def page(found, runs):
    """The tables as Markdown.

    Args:
        found: result of `p_values`.
        runs: number of runs.
    """
    constant = of_one_challenger(np.random.default_rng(0))
    level, power, reasons = [], [], []
    for (items, start, tails, biased), p in zip(LEVELS, found.values(), strict=False):
        for name, rule in rules(constant).items():
            what = f"{start}{', weighted' if biased else ''}"
            share = any_night(p, rule)
            level.append([name, f"{items:,}", what, tails, told(share, runs)])
    for (items, ratio, start, tails), p in zip(
        POWERS, list(found.values())[len(LEVELS) :], strict=True
    ):
        for name, rule in rules(constant).items():
            ways = (
                any_night(p[:, :1], rule),
                any_night(p, rule),
                float((p[:, 0] <= rule(KEPT_BEFORE + 1)).mean()),
            )
            row = [name, f"{items:,}", f"{1 - ratio:.0%}", start, tails]
            power.append([*row, *(told(share, runs) for share in ways)])
        reasons.append([*power[-1][1:5], *arithmetic(p, items)])
    commit, clean = git_state()
    worst = max((row for row in level if row[0] == OURS), key=lambda row: float(_of(row, 4)))
    key = [row for row in power if row[0] == OURS and row[1:3] == ["2,000", "10%"]]
    powers = "; ".join(
        f"{start} challengers, {tails} tails: {_of(row, 5)} %"
        for row in key
        for start, tails in [row[3:5]]
    )
    return "\n".join(
        [
            "# Level and power of the promotion rule, simulated errors\n",
            f"`python experiments/promotion/level_and_power.py --runs={runs}`, commit "
            f"{commit}{'' if clean else ' with changes'}. Tested at 0.05 / 30 every night, at most "
            f"{worst[4]} of runs of 30 nights with equal challengers have a wrong promotion "
            "(required: 5 %). Runs that promote a challenger whose true MSE is 10 % lower on its "
            f"first night, with 2,000 test items (required: 80 %): {powers}.\n",
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
            "## Why the power is what it is\n",
            WHY,
            markdown_table(
                [
                    *("Test items", "Lower MSE", "Challengers", "Tails", "Mean z", "sd of z"),
                    *("Power at 0.05", "at 0.05 / 5", "at 0.05 / 30"),
                    *("Items for 80 % at 0.05", "at 0.05 / 5", "at 0.05 / 30"),
                ],
                reasons,
            ),
        ]
    )


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


WHY = """The statistic z of a night's test is about normal with the mean and the standard deviation
of the table, and promotes where z is above 1.64 at a level of 0.05, above 2.33 at 0.05 / 5, and
above 2.94 at 0.05 / 30. The columns of powers follow from that for the first night; the table above
is what was counted. So where the power is low, most of what is missing is the price of the promise
over 30 nights: the same test at 0.05 has it. The mean of z grows with the root of the number of
test items; the last columns are how many are needed.

What a user can set, none of which touches the promised level:

- `--compare_periods`: more periods are more test items. A challenger does not learn from them, but
  with `--refit` the version that serves does.
- `--alpha_nights`: the number of comparisons that `--alpha` is for. A model that is retrained once
  a week has five comparisons in 30 days, so `--alpha_nights=5` promises the same for these 30 days.
- Warm starts: a challenger that starts from the champion has most of its errors in common with it.
- Waiting: the next nights have new test items. Within a week nearly all are promoted.
"""


if __name__ == "__main__":
    sys.exit(main())
