"""Level and power of the tests between systems, on simulated squared errors.

    python experiments/significance/level_and_power.py [--runs=20000] [--tables=2000] [--work=DIR]

Two laws of squared errors. `both`: those of both systems are lognormal (sigma 1.5) with logarithms
that correlate by .9 and equal means. `one`: what the systems share cancels, and one of them alone
has a lognormal part (sigma 1.5); the other has a normal part with a tenth of its variance, and the
means are equal. A seed moves all squared errors of its run by a normal amount. The ratio is the
variance of the difference that is due to the means over seeds, relative to that due to items.

Pairs: "both seeded" share the seeds' variance evenly; with "one unstable" all of it is in one of
two seeded systems; with "one fixed" the other system is deterministic. Tables have seven rows, two
of them deterministic. `before` is the quantile bound of Banerjee (1960) with Holm's correction,
`now` is `mmnet.evaluation.significance.half_width` with `comparisons.step_down`.

It writes pairs.csv and tables.csv with every setting, and level_and_power.md. What has been
simulated is a file in --work; a killed process continues where it was.
"""

import argparse
import itertools
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import special

from mmnet.evaluation import comparisons
from mmnet.evaluation.report import markdown_table
from mmnet.evaluation.significance import Clusters, SampledMeasure, half_width
from mmnet.files import make_directory, write_atomic
from mmnet.training.records import git_state

HERE = Path(__file__).parent
SIGMA, ALIKE = 1.5, 0.9
ITEMS, SEEDS, RATIOS = (215, 400, 1171), (3, 5, 10), (0.03, 0.1, 0.3, 1, 3, 10)
LAWS, LEVELS = ("both", "one"), (0.05, 0.01)
PAIRS = {"both seeded": (0.5, 0.5), "one unstable": (1, 0), "one fixed": (1,)}
"""Kinds of pairs, and the part of the seeds' variance that each seeded system has."""
ROWS, FIXED = 7, 2
"""Systems of a table, and how many of them are deterministic."""
TABLE_ITEMS, TABLE_RATIOS = (215, 1171), (0.1, 1)
Z_POWER = 0.8
"""Power that a z-test at .01 with known variances would have."""
LOGNORMAL_MEAN = np.exp(SIGMA**2 / 2)
LOGNORMAL_VARIANCE = (np.exp(SIGMA**2) - 1) * np.exp(SIGMA**2)


# ---------------------------------------------------------------- tests


def bound(variances, freedoms, level):
    """Half width of the test before: √(Σ v t²), [...]."""
    quantile = special.stdtrit(np.asarray(freedoms, float), np.asarray(level)[..., None] / 2)
    return np.sqrt(np.sum(variances * quantile**2, axis=-1))


def satterthwaite(variances, freedoms, level):
    """Half width by Satterthwaite's degrees of freedom, [...]."""
    total = variances.sum(axis=-1)
    freedom = total**2 / np.sum(variances**2 / np.asarray(freedoms, float), axis=-1)
    return np.sqrt(total) * -special.stdtrit(freedom, np.asarray(level) / 2)


METHODS = {"before": bound, "now": half_width, "satterthwaite": satterthwaite}


def p_values(method, values, variances, freedoms):
    """P where the half width is the value, by bisection of log10 p, [...]."""
    low, high = np.full(values.shape, -30.0), np.zeros(values.shape)
    for _ in range(30):
        middle = (low + high) / 2
        wide = method(variances, freedoms, 10**middle) > np.abs(values)
        low, high = np.where(wide, middle, low), np.where(wide, high, middle)
    return 10**high


def shift(variance):
    """A difference that a z-test at .01 with this variance finds with probability `Z_POWER`."""
    return (special.ndtri(0.995) + special.ndtri(Z_POWER)) * np.sqrt(variance)


def kept(work, name, simulate, *settings):
    """The lines of a setting: from their file, or simulated and written to it."""
    place = Path(work) / f"{name}.csv"
    if not place.exists():
        write_atomic(place, pd.DataFrame(simulate(*settings)).to_csv(index=False))
        print(f"{name}: done", file=sys.stderr)
    return pd.read_csv(place)


# ---------------------------------------------------------------- two systems


def item_errors(draw, law, items, systems, runs):
    """Squared errors by item, of equal means, [runs, items, systems]; what all share cancels."""
    own = draw.standard_normal((runs, items, systems), np.float32)
    if law == "both":
        shared = draw.standard_normal((runs, items, 1), np.float32)
        return np.exp(SIGMA * (np.sqrt(ALIKE) * shared + np.sqrt(1 - ALIKE) * own))
    own[..., 1:] *= np.sqrt(LOGNORMAL_VARIANCE / 10)
    own[..., 0] = np.exp(SIGMA * own[..., 0]) - LOGNORMAL_MEAN
    return own


def item_variance(law):
    """Variance of an item's difference between the first two systems."""
    if law == "one":
        return 1.1 * LOGNORMAL_VARIANCE
    return 2 * (LOGNORMAL_VARIANCE - (np.exp(ALIKE * SIGMA**2) - 1) * np.exp(SIGMA**2))


def item_parts(draw, law, items, runs):
    """Mean of the items' differences and its estimated variance, both [runs]."""
    means, variances = [], []
    for _ in range(0, runs, 500):
        errors = item_errors(draw, law, items, 2, 500)
        change = (errors[..., 0] - errors[..., 1]).astype(np.float64)
        means.append(change.mean(axis=1))
        variances.append(change.var(axis=1, ddof=1) / items)
    return np.concatenate(means)[:runs], np.concatenate(variances)[:runs]


def of_pairs(runs, work):
    """Levels and powers of pairs: one line per law, items, seeds, ratio, pair and method."""
    settings = itertools.product(LAWS, ITEMS)
    found = [
        kept(work, f"pairs-{runs}-{law}-{items}", _pairs, number, law, items, runs)
        for number, (law, items) in enumerate(settings)
    ]
    return pd.concat(found, ignore_index=True)


def _pairs(at, law, items, runs):
    """All settings of a law and a number of items, which share the draws of items."""
    lines = []
    mean, variance = item_parts(np.random.default_rng((0, at)), law, items, runs)
    true = item_variance(law) / items
    settings = itertools.product(SEEDS, RATIOS, PAIRS.items())
    for number, (seeds, ratio, (pair, shares)) in enumerate(settings):
        draw = np.random.default_rng((1, at, number))
        parts, freedoms, value = [variance], [items - 1], mean
        for share in shares:
            of_seeds = ratio * true * share
            value = value + np.sqrt(of_seeds) * draw.standard_normal(runs)
            parts.append(of_seeds * draw.chisquare(seeds - 1, runs) / (seeds - 1))
            freedoms.append(seeds - 1)
        parts = np.stack(parts, axis=-1)
        far = value + shift(true * (1 + ratio))
        for (name, method), level in itertools.product(METHODS.items(), LEVELS):
            width = method(parts, freedoms, level)
            lines.append(
                {
                    **{"law": law, "items": items, "seeds": seeds, "ratio": ratio},
                    **{"pair": pair, "method": name, "level": level, "runs": runs},
                    "rejected": float(np.mean(np.abs(value) > width)),
                    "power": float(np.mean(np.abs(far) > width)),
                }
            )
    return lines


# ---------------------------------------------------------------- item and seed together


def of_interaction(runs, items=400, seeds=5):
    """Levels where a seed changes what single items do and nothing else (ratio 1)."""
    draw = np.random.default_rng(2)
    clusters = Clusters(np.arange(items))
    spread = np.sqrt(item_variance("both") * seeds / 2)
    rejected = {"before": [], "bound, counted once": [], "now": []}
    for _ in range(runs):
        errors = item_errors(draw, "both", items, 2, 1)[0].T.astype(np.float64)
        samples = {
            name: errors[number] + spread * draw.standard_normal((seeds, items))
            for number, name in enumerate("ab")
        }
        measured = SampledMeasure(
            seeds={name: one.mean(axis=1) for name, one in samples.items()},
            num_seeds=dict.fromkeys("ab", seeds),
            samples=samples,
            variance=clusters.variance,
            freedom=clusters.freedom,
            trained_once=frozenset(),
            lower_is_better=True,
            limits=(-np.inf, np.inf),
        )
        found = measured.difference("a", "b")
        change = (samples["a"] - samples["b"]).mean(axis=0)
        of_seeds = [np.var(one, ddof=1) / seeds for one in measured.seeds.values()]
        freedoms = [items - 1, seeds - 1, seeds - 1]
        once = found.error**2 - sum(of_seeds)
        of_items = {"before": clusters.variance(change), "bound, counted once": once}
        for name, own in of_items.items():
            parts = np.array([max(0.0, own), *of_seeds])
            wide = [bound(parts, freedoms, level) for level in LEVELS]
            rejected[name].append(abs(found.value) > np.array(wide))
        rejected["now"].append(found.p <= np.array(LEVELS))
    return [
        {"method": name, **dict(zip(map(str, LEVELS), np.mean(one, axis=0), strict=True))}
        for name, one in rejected.items()
    ]


# ---------------------------------------------------------------- tables of several rows


def of_tables(runs, work):
    """Family-wise errors and powers of tables: one line per law, items, seeds, ratio and method."""
    settings = itertools.product(LAWS, TABLE_ITEMS, SEEDS, TABLE_RATIOS)
    found = [
        kept(work, "-".join(map(str, ("tables", runs, *setting))), _tables, number, *setting, runs)
        for number, setting in enumerate(settings)
    ]
    return pd.concat(found, ignore_index=True)


def _tables(at, law, items, seeds, ratio, runs):
    lines = []
    draw = np.random.default_rng((3, at))
    drawn = [_table(draw, law, items, seeds, ratio) for _ in range(runs)]
    values, variances = map(np.array, zip(*drawn, strict=True))
    better = shift(item_variance(law) / items * (1 + ratio))
    for change in (0.0, better) if law == "both" else (0.0,):
        moved = values - change * (np.arange(ROWS) == 0)
        for name in ("before", "now"):
            apart, versus = _decisions(name, moved, variances, items, seeds)
            lines.append(
                {
                    **{"law": law, "items": items, "seeds": seeds, "ratio": ratio},
                    **{"method": name, "shifted": change > 0, "runs": runs},
                    "any_letter_05": apart[0.05].any(axis=(1, 2)).mean(),
                    "any_letter_01": apart[0.01].any(axis=(1, 2)).mean(),
                    "any_reference_05": versus[0.05].any(axis=1).mean(),
                    "any_reference_01": versus[0.01].any(axis=1).mean(),
                    "first_two_05": apart[0.05][:, 0, 1].mean(),
                    "first_two_01": apart[0.01][:, 0, 1].mean(),
                    "reference_05": versus[0.05][:, 1].mean(),
                    "reference_01": versus[0.01][:, 1].mean(),
                }
            )
    return lines


def _table(draw, law, items, seeds, ratio):
    """Means of all systems, [systems], and variances of all pairs by part, [pairs, 3]."""
    errors = item_errors(draw, law, items, ROWS, 1)[0].astype(np.float64)
    covariance = np.cov(errors, rowvar=False) / items
    of_seeds = np.zeros(ROWS)
    of_seeds[: ROWS - FIXED] = ratio * item_variance(law) / items / 2
    mean = errors.mean(axis=0) + np.sqrt(of_seeds) * draw.standard_normal(ROWS)
    of_seeds *= draw.chisquare(seeds - 1, ROWS) / (seeds - 1)
    one, other = np.triu_indices(ROWS, 1)
    of_items = covariance[one, one] + covariance[other, other] - 2 * covariance[one, other]
    return mean, np.stack([of_items, of_seeds[one], of_seeds[other]], axis=-1)


def _decisions(name, values, variances, items, seeds):
    """Which pairs are apart, and which rows are apart from the first, by level."""
    one, other = np.triu_indices(ROWS, 1)
    change = values[:, one] - values[:, other]
    p = np.empty(change.shape)
    for trained in range(3):  # pairs by their number of seeded systems
        chosen = (one < ROWS - FIXED).astype(int) + (other < ROWS - FIXED) == trained
        freedoms = [items - 1, *[seeds - 1] * trained]
        parts = variances[:, chosen, : 1 + trained]
        p[:, chosen] = p_values(METHODS[name], change[:, chosen], parts, freedoms)
    errors = np.sqrt(variances.sum(axis=-1))
    first = np.zeros((ROWS, ROWS), bool)
    first[0, 1:] = True
    apart = {level: np.zeros((len(values), ROWS, ROWS), bool) for level in LEVELS}
    versus = {level: np.zeros((len(values), ROWS), bool) for level in LEVELS}
    for run in np.flatnonzero(p.min(axis=1) <= max(LEVELS)):  # no p is adjusted downwards
        if name == "before":
            every, against = comparisons.holm(p[run]), comparisons.holm(p[run, : ROWS - 1])
        else:
            square, size = np.ones((ROWS, ROWS)), np.zeros((ROWS, ROWS))
            square[one, other] = square[other, one] = p[run]
            size[one, other] = size[other, one] = errors[run]
            every = comparisons.step_down(square, size, draws=2000)
            against = comparisons.step_down(square, size, first, draws=2000)
        for level in LEVELS:
            apart[level][run, one, other] = every <= level
            versus[level][run, 1:] = against <= level
    return apart, versus


# ---------------------------------------------------------------- page


def times(share, level):
    """A share as a multiple of its level."""
    return f"{share / level:.2f}"


def level_table(pairs):
    """Law `both`: the largest level over the numbers of items, by seeds, ratio and pair."""
    of = pairs[pairs["law"] == "both"]
    worst = of.groupby(["seeds", "ratio", "pair", "method", "level"])["rejected"].max()
    rows = []
    for seeds, ratio, pair in itertools.product(SEEDS, RATIOS, PAIRS):
        row = [str(seeds), f"{ratio:g}", pair]
        for level, name in itertools.product(LEVELS, METHODS):
            row.append(times(worst[seeds, ratio, pair, name, level], level))
        rows.append(row)
    columns = [f"{name.title()}, {level}" for level in LEVELS for name in METHODS]
    return markdown_table(["Seeds", "Ratio", "Pair", *columns], rows)


def skewed_table(pairs):
    """Law `one`: the range over ratios and pairs, by items and seeds."""
    of = pairs[pairs["law"] == "one"].groupby(["items", "seeds", "method", "level"])["rejected"]
    low, high = of.min(), of.max()
    rows = []
    for items, seeds in itertools.product(ITEMS, SEEDS):
        row = [f"{items:,}", str(seeds)]
        for level, name in itertools.product(LEVELS, ("before", "now")):
            at = items, seeds, name, level
            row.append(f"{times(low[at], level)} to {times(high[at], level)}")
        rows.append(row)
    columns = [f"{name.title()}, {level}" for level in LEVELS for name in ("before", "now")]
    return markdown_table(["Items", "Seeds", *columns], rows)


def power_table(pairs):
    """Law `both`, 400 items: power by seeds, ratio and pair."""
    of = pairs[(pairs["law"] == "both") & (pairs["items"] == 400)]
    of = of.set_index(["seeds", "ratio", "pair", "method", "level"])["power"]
    rows = []
    for seeds, ratio, pair in itertools.product(SEEDS, RATIOS, PAIRS):
        found = [
            f"{of[seeds, ratio, pair, name, level]:.2f}"
            for level in LEVELS
            for name in ("before", "now")
        ]
        rows.append([str(seeds), f"{ratio:g}", pair, *found])
    columns = [f"{name.title()}, {level}" for level in LEVELS for name in ("before", "now")]
    return markdown_table(["Seeds", "Ratio", "Pair", *columns], rows)


def family_table(tables):
    """Chance of any false difference in a column of seven rows."""
    of = tables[~tables["shifted"]].set_index(["law", "items", "seeds", "ratio", "method"])
    rows = []
    for law, items, seeds, ratio in itertools.product(LAWS, TABLE_ITEMS, SEEDS, TABLE_RATIOS):
        row = [law, f"{items:,}", str(seeds), f"{ratio:g}"]
        for column, level in (("letter_05", 0.05), ("reference_01", 0.01)):
            for name in ("before", "now"):
                row.append(times(of.loc[(law, items, seeds, ratio, name), f"any_{column}"], level))
        rows.append(row)
    columns = [
        *("Letters at .05, before", "Letters at .05, now"),
        *("Reference at .01, before", "Reference at .01, now"),
    ]
    return markdown_table(["Law", "Items", "Seeds", "Ratio", *columns], rows)


def found_table(tables):
    """Power of a column of seven rows of which the first is better than all others."""
    of = tables[tables["shifted"]].set_index(["items", "seeds", "ratio", "method"])
    rows = []
    for items, seeds, ratio in itertools.product(TABLE_ITEMS, SEEDS, TABLE_RATIOS):
        row = [f"{items:,}", str(seeds), f"{ratio:g}"]
        for column in ("first_two_01", "first_two_05", "reference_01"):
            for name in ("before", "now"):
                row.append(f"{of.loc[(items, seeds, ratio, name), column]:.2f}")
        rows.append(row)
    columns = [
        f"{title}, {name}"
        for title in ("Letters at .01", "Letters at .05", "Reference at .01")
        for name in ("before", "now")
    ]
    return markdown_table(["Items", "Seeds", "Ratio", *columns], rows)


def interaction_table(found):
    """Levels where item and seed matter together."""
    rows = [
        [line["method"], *(times(line[str(level)], level) for level in LEVELS)]
        for _, line in found.iterrows()
    ]
    return markdown_table(["Test", *map(str, LEVELS)], rows)


def page(pairs, interaction, tables, flags):
    """The record as Markdown, the conclusion first."""
    of = pairs[(pairs["law"] == "both") & (pairs["method"] == "now")]
    largest = of.groupby("level")["rejected"].max()
    skewed = pairs[(pairs["law"] == "one") & (pairs["method"] == "now")]
    skewed = skewed.groupby("level")["rejected"].max()
    gain = pairs[(pairs["law"] == "both") & (pairs["seeds"] == 5)]
    gain = gain.pivot_table(
        index=["items", "ratio", "pair", "level"], columns="method", values="power"
    )
    gain = gain["now"] - gain["before"]
    equal = tables[(tables["method"] == "now") & ~tables["shifted"]]
    family, odd = equal[equal["law"] == "both"], equal[equal["law"] == "one"]
    commit, clean = git_state()
    errors = [
        f"{np.sqrt(level * (1 - level) / runs):.4f} at {level}"
        for runs in (flags.runs, flags.tables)
        for level in LEVELS
    ]
    return "\n".join(
        [
            "# Level and power of the tests between systems, simulated squared errors\n",
            f"`python experiments/significance/level_and_power.py --runs={flags.runs} "
            f"--tables={flags.tables}`, commit {commit}{'' if clean else ' with changes'}; "
            "every setting of [pairs](pairs.csv) and [tables](tables.csv).\n",
            f"- Errors of one distribution in both systems: equal systems are declared different "
            f"at most {times(largest[0.05], 0.05)} times as often as the level at .05 and "
            f"{times(largest[0.01], 0.01)} times at .01, whatever the number of items and seeds "
            "and the ratio of their variances.",
            f"- With five seeds the power is higher than before in every setting, by "
            f"{gain.min():.4f} to {gain.max():.2f}; with three it is low either way wherever the "
            "seeds' variance counts.",
            f"- A column of seven equal systems has a false letter at most "
            f"{times(family['any_letter_05'].max(), 0.05)} times as often as .05, and a false "
            f"difference from the reference at most "
            f"{times(family['any_reference_01'].max(), 0.01)} times as often as .01.",
            f"- **Where one system alone has rare, large errors, the level does not hold**: up to "
            f"{times(skewed[0.05], 0.05)} times .05 and {times(skewed[0.01], 0.01)} times .01 for "
            f"a pair, {times(odd['any_letter_05'].max(), 0.05)} times for the letters of a column "
            f"and {times(odd['any_reference_01'].max(), 0.01)} times against the reference. Items "
            "are then too few for their mean to be normal; more seeds do not help, more items "
            "do.\n",
            MEANING.format(", ".join(errors[:2]), ", ".join(errors[2:])),
            "## Level of a pair, both systems with skewed errors\n",
            "Rejections of equal systems divided by the level, the largest over 215, 400 and 1,171 "
            "items.\n",
            level_table(pairs),
            "## Level of a pair, one system with skewed errors\n",
            "Rejections of equal systems divided by the level, over all ratios and pairs.\n",
            skewed_table(pairs),
            "## Power of a pair\n",
            "Law `both`, 400 items; a difference that a z-test at .01 with known variances finds "
            f"with probability {Z_POWER}.\n",
            power_table(pairs),
            "## Item and seed together\n",
            "Law `both`, 400 items, five seeds; a seed changes what single items do, and nothing "
            f"else (ratio 1). Rejections of equal systems divided by the level, "
            f"{flags.tables:,} runs.\n",
            interaction_table(interaction),
            "## Columns of seven rows: any false difference\n",
            "Runs with any false difference divided by the level: letters from all 21 pairs, and "
            "six comparisons with the reference.\n",
            family_table(tables),
            "## Columns of seven rows: power\n",
            "Law `both`; the first row is better than all others by the difference above. Share of "
            "runs in which it has no letter in common with a seeded row, and in which that row "
            "differs from it as the reference. Published tables had letters at .01.\n",
            found_table(tables),
        ]
    )


MEANING = """Squared errors by item are lognormal with sigma 1.5: in both systems, with logarithms
that correlate by .9 (law `both`), or in one of them alone, where the other has a normal part with a
tenth of that variance (law `one`). A seed moves all errors of its run by a normal amount. The ratio
is the variance of the difference due to the means over seeds relative to that due to items. "Both
seeded": both systems have half of the seeds' variance. "One unstable": both are seeded, and one has
all of it. "One fixed": the other is deterministic. Settings with the same items and law share their
draws of items. Standard errors of a level: pairs {}; tables {}. Two seeds were not simulated.

`Before` is the bound √(Σ v t²) of Banerjee (1960), with Holm's correction. `Now`: with five seeds
or more, Student's t with averaged degrees of freedom; with fewer, the rule of Cochran and Cox; what
depends on item and seed together counted once; step-down max-T over a column. Satterthwaite's t is
shown for comparison: it has more power, and does not hold its level with few seeds.
"""


def main():
    """Runs everything, and writes the records and the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=20_000, help="runs of a pair")
    parser.add_argument("--tables", type=int, default=2_000, help="runs of a table")
    parser.add_argument("--work", default="", help="directory of the parts; default: none is kept")
    parser.add_argument("--output", default=str(HERE), help="directory of the records")
    flags = parser.parse_args()
    if min(flags.runs, flags.tables) < 2:
        parser.error("--runs and --tables must be at least 2")
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(flags.work or scratch)
        make_directory(work)
        pairs, tables = of_pairs(flags.runs, work), of_tables(flags.tables, work)
        name = f"interaction-{flags.tables}"
        interaction = kept(work, name, of_interaction, flags.tables)
    output = Path(flags.output)
    make_directory(output)
    for name, frame in (("pairs", pairs), ("tables", tables)):
        text = frame.to_csv(index=False, lineterminator="\n", float_format="%.4g")
        write_atomic(output / f"{name}.csv", text)
    write_atomic(output / "level_and_power.md", page(pairs, interaction, tables, flags))
    return 0


if __name__ == "__main__":
    sys.exit(main())
