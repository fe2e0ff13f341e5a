"""Quality of the pool that a filter leaves: the paper's Table 2 asked of a log.

    python experiments/pool_quality/pool.py --source_dir=DIR --work=DIR [--seeds=0,1,2,3,4]
        [--shares=0.5,0.3,0.1] [--likes_runs=DIR,...] [--complete_runs=DIR,...]
        [--output=experiments/pool_quality/results.md] [--plan]

DIR of --source_dir has KuaiRand (see `mmnet/data/sources/kuairand.py`). For likes per 100
impressions, which stand for shares, and for the complete rate, MMNet is trained with each seed and
LightGBM once. Each scores all items for every day of the test span, as of the day before; the
highest scores of the candidates of a day are the pool. A candidate is an item with an impression
on the day. Share rates (likes) and dwell times are those of the log's impressions of the pool.

--likes_runs and --complete_runs name finished runs of `python -m mmnet.train` to use in the place
of MMNet's training. The plan is printed first, and --plan stops there. What is trained or scored is
in --work, so that a killed run continues, and other seeds can be added later.
"""

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

import mmnet
from mmnet.checks import InputError
from mmnet.evaluation.dwell import REPLICATES, Shown, gains, pool
from mmnet.evaluation.report import markdown_table
from mmnet.experiments.paper import TABLE_2
from mmnet.files import read_json, write_atomic
from mmnet.training.records import git_state, machine

HERE = Path("experiments/pool_quality")
ROWS = {"mmnet": "experiments/rows/mmnet.txt", "lightgbm": "experiments/rows/lightgbm_modes.txt"}
RATES = {"likes": ("is_like", "shown"), "complete": ("played_ms", "full_ms")}
"""Supervision -> numerator and denominator of its rate, columns of `read_log`."""
TITLES = {"likes": "Likes (for shares)", "complete": "Complete rate"}
PUBLISHED = {"likes": "share_rate", "complete": "complete_rate"}
MMNET, NONE, HA, LIGHTGBM = "MMNet", "no filter", "mean rate of six days", "LightGBM + three modes"
RANDOM = "random items"
BASES = (NONE, RANDOM, HA, LIGHTGBM)
RANDOM_POOLS = 10
NAMES = {
    "aisr": "AISR (likes)",
    "seconds_per_user": "ADT/u",
    "seconds_per_item": "ADT/i",
    "seconds_per_impression": "Dwell per impression",
}
WINDOW = 6


@dataclass(frozen=True)
class System:
    """A trained model, and the scores that it gives.

    Attributes:
        supervision: key of `RATES`.
        name: key of `ROWS`.
        seed: of its training.
        run: its run directory.
        scores: table of its scores.
        ours: whether this script trains it.
    """

    supervision: str
    name: str
    seed: int
    run: Path
    scores: Path
    ours: bool = True

    @property
    def trained(self) -> bool:
        """Whether its training is complete."""
        return (self.run / "export").is_dir() and (self.run / "record.json").exists()

    def train(self, source_dir: Path) -> None:
        """Trains it, or resumes its training."""
        if not self.ours:
            raise InputError(f"{self.run}: not a finished run with an export; train it to its end")
        flags = [
            f"--flagfile={HERE / self.supervision}.txt",
            f"--flagfile={ROWS[self.name]}",
            f"--source_dir={source_dir}",
            f"--seed={self.seed}",
        ]
        resume = (self.run / "flags.txt").exists()
        command = [sys.executable, "-m", "mmnet.train", f"--run_dir={self.run}"]
        subprocess.run([*command, *(["--resume"] if resume else flags)], check=True)

    def test_days(self) -> list[str]:
        """The days of its test span, as the log has them."""
        start = read_json(self.run / "record.json")["split_dates"]["test"]
        return [day for day in self.days() if day >= start]

    def days(self) -> list[str]:
        """All days of its dataset, oldest first."""
        return [str(day) for day in mmnet.Run.open(self.run).dataset.periods]

    def score(self) -> None:
        """Writes the scores of all items for each test day, as of the day before."""
        run, days = mmnet.Run.open(self.run), self.days()
        parts = []
        for day in self.test_days():
            before = days[days.index(day) - 1]
            found = run.export.score(dataset=run.dataset, as_of=before)
            parts.append(
                pd.DataFrame(
                    {
                        "item": found["item_id"].astype(str),
                        "day": day,
                        "score": found["predicted_share_rate"],
                    }
                )
            )
        write_atomic(self.scores, pd.concat(parts).to_csv(index=False))


def read_log(source_dir: Path) -> pd.DataFrame:
    """All impressions: user, item, day, is_like, is_rand, seconds, shown, played_ms and full_ms."""
    columns = ["user_id", "video_id", "date", "is_like", "is_rand", "play_time_ms", "duration_ms"]
    paths = sorted(source_dir.glob("log_*"))
    if not paths:
        raise InputError(
            f"{source_dir}/log_*: no such file; --source_dir must have KuaiRand's logs"
        )
    parts = [
        pd.read_parquet(path, columns=columns)
        if path.suffix == ".parquet"
        else pd.read_csv(path, usecols=columns)
        for path in paths
    ]
    log = pd.concat(parts, ignore_index=True).dropna(subset=["play_time_ms"])
    timed = (log["duration_ms"] > 0).fillna(False)
    return pd.DataFrame(
        {
            "user": log["user_id"],
            "item": log["video_id"].astype(str),
            "day": pd.to_datetime(log["date"].astype(str)).dt.strftime("%Y-%m-%d"),
            "is_like": log["is_like"].astype(float),
            "is_rand": log["is_rand"].astype(int),
            "seconds": log["play_time_ms"].astype(float) / 1000,
            "shown": 1.0,
            "played_ms": np.where(timed, np.minimum(log["play_time_ms"], log["duration_ms"]), 0),
            "full_ms": np.where(timed, log["duration_ms"].fillna(0), 0),
        }
    ).astype({"played_ms": float, "full_ms": float})


def history(log: pd.DataFrame, rate: tuple[str, str], days: Sequence[str]) -> pd.DataFrame:
    """The mean of an item's rates over the six days before each of `days`; none where it has none.

    Returns:
        item, day and score, percent.
    """
    sums = log.groupby(["day", "item"], as_index=False)[list(dict.fromkeys(rate))].sum()
    sums = sums[sums[rate[1]] > 0]
    sums["score"] = 100 * sums[rate[0]] / sums[rate[1]]
    parts = []
    for day in days:
        end = pd.Timestamp(day)
        window = [str((end - pd.Timedelta(days=n)).date()) for n in range(1, WINDOW + 1)]
        means = sums[sums["day"].isin(window)].groupby("item", as_index=False)["score"].mean()
        parts.append(means.assign(day=day))
    return pd.concat(parts, ignore_index=True)


def candidates(log: pd.DataFrame, scored: pd.DataFrame) -> tuple[Shown, pd.DataFrame]:
    """The items with impressions on the days that were scored, and those impressions.

    Args:
        log: impressions of any days.
        scored: item and day of everything that was scored.

    Returns:
        The impressions, and item and day of each candidate.
    """
    keys = scored[["item", "day"]].drop_duplicates()
    log = log.merge(keys, on=["item", "day"])
    found = log.groupby(["item", "day"], as_index=False).agg(rate=("is_like", "mean"))
    number = log.merge(found.reset_index(), on=["item", "day"], how="left")["index"]
    shown = Shown(
        item=found["item"].to_numpy(),
        rate=100 * found["rate"].to_numpy(),
        candidate=number.to_numpy(),
        user=log["user"].to_numpy(),
        seconds=log["seconds"].to_numpy(),
    )
    return shown, found[["item", "day"]]


def durations(log: pd.DataFrame, keys: pd.DataFrame) -> np.ndarray:
    """The duration of each candidate, seconds; 0 where it is unknown."""
    longest = log.groupby(["item", "day"], as_index=False)["full_ms"].max()
    return keys.merge(longest, on=["item", "day"])["full_ms"].to_numpy() / 1000


def of_candidates(keys: pd.DataFrame, scores: pd.DataFrame) -> np.ndarray:
    """The score of each candidate; 0, as HA has it, for an item without one."""
    return keys.merge(scores, on=["item", "day"], how="left")["score"].fillna(0.0).to_numpy()


def table_of(
    log: pd.DataFrame, scores: Mapping[str, Sequence[pd.DataFrame]], shares: Sequence[float]
) -> tuple[pd.DataFrame, Shown]:
    """Gains of MMNet over the bases, at each size of the pool; see `gains`.

    Args:
        log: impressions of the test days, and of which kind.
        scores: rule -> its scores of each seed.
        shares: sizes of the pool.
    """
    shown, keys = candidates(log, scores[MMNET][0])
    length = durations(log, keys)
    parts = []
    for share in shares:
        pools = {
            rule: [pool(of_candidates(keys, one), keys["day"], share) for one in of_rule]
            for rule, of_rule in scores.items()
        }
        draw = np.random.default_rng(0)
        scattered = [draw.random(len(keys)) for _ in range(RANDOM_POOLS)]
        pools[RANDOM] = [pool(score, keys["day"], share) for score in scattered]
        pools[NONE] = [np.ones(len(keys))]
        mean = {
            rule: float(
                np.mean([np.average(length, weights=one * (length > 0)) for one in of_rule])
            )
            for rule, of_rule in pools.items()
        }
        found = gains(shown, pools, BASES)
        parts.append(found.assign(share=share, duration=found["rule"].map(mean)))
    return pd.concat(parts, ignore_index=True), shown


# ------------------------------------------------------------------------------------- report

NO_TEST = """\
**This is not an A/B test.** The impressions are those of a log: users saw what another system
chose, and no user saw what a filter would have shown instead of what it removes. The tables show
whether the items that a filter keeps are those with which users stayed longer and which they
liked more often. The published numbers are of an online test with millions of users against a
base of rules; they are here because the question is the same, not as a size to reach.
"""
MEASURED = """\
Gains are relative, with 95 % intervals of {replicates:,} bootstrap replicates: by item, and by
item and user for ADT/u. They do not contain the variance between seeds. AISR is the mean over
items of likes per 100 impressions. ADT/u is the mean over users of their seconds per impression
in the pool, of users with an impression there: a smaller pool has other users, more of those
with many impressions, so that it is better compared with {pools} random pools of its size than
with no filter. ADT/i is the time that an item gets on a day, which grows with its impressions;
dwell per impression does not. The log's own system decided who saw what, except for random
impressions (`is_rand`), which have tables of their own.
"""


def conclusions(table: pd.DataFrame, supervision: str, share: float) -> str:
    """What became of the published gains, in one line of the page."""
    length = table[table["share"] == share].groupby("rule")["duration"].first()
    own = table[(table["rule"] == MMNET) & (table["share"] == share)]
    own = own.set_index(["measure", "base"])
    parts = []
    for name in TABLE_2[PUBLISHED[supervision]]:
        said = []
        for base in (RANDOM, HA, LIGHTGBM):
            row = own.loc[(name, base)]
            side = "higher than" if row["gain_low"] > 0 else "lower than"
            if row["gain_low"] <= 0 <= row["gain_high"]:
                side = "not distinguishable from"
            said.append(f"{side} {base} ({_gain(row)})")
        parts.append(f"{NAMES[name]} is {', '.join(said)}")
    parts.append(
        f"its mean video lasts {length[MMNET]:.1f} seconds, that of all items {length[NONE]:.1f}"
    )
    return f"- **{TITLES[supervision]}**, {share:.0%} of the items: {'; '.join(parts)}.\n"


def gain_rows(table: pd.DataFrame, supervision: str) -> list[list[str]]:
    """Rows of the page: the published gains, and ours at each size of the pool."""
    published = TABLE_2[PUBLISHED[supervision]]
    known = [f"{published[name]:+.2f} %" if name in published else "–" for name in NAMES]
    rows = [["published, online", "rules", *known]]
    own = table[table["rule"] == MMNET].set_index(["share", "base", "measure"])
    for share in dict.fromkeys(table["share"]):
        for base in BASES:
            cells = [_gain(own.loc[(share, base, name)]) for name in NAMES]
            rows.append([f"{share:.0%} of the items", base, *cells])
    return rows


def _gain(row: pd.Series) -> str:
    sd = "" if np.isnan(row["gain_sd"]) else f", sd {row['gain_sd']:.1f}"
    return f"{row['gain']:+.1f} % [{row['gain_low']:+.1f}, {row['gain_high']:+.1f}]{sd}"


def value_rows(table: pd.DataFrame) -> list[list[str]]:
    """Rows of the page: the measures themselves."""
    own = table[table["base"] == NONE].set_index(["share", "rule", "measure"])
    found, length = own["value"], own["duration"]
    return [
        [
            f"{share:.0%}",
            rule,
            *(f"{found[share, rule, name]:.2f}" for name in NAMES),
            f"{length[share, rule, 'aisr']:.1f}",
        ]
        for share in dict.fromkeys(table["share"])
        for rule in dict.fromkeys(table["rule"])
    ]


def section(supervision: str, kinds: Mapping[str, tuple[pd.DataFrame, Shown] | None]) -> list[str]:
    """The tables of one supervision."""
    parts = [f"## {TITLES[supervision]}\n"]
    for kind, found in kinds.items():
        if found is None:
            parts.append(f"### {kind}\n\nThe test days of this log have none.\n")
            continue
        table, shown = found
        users = len(np.unique(shown.user))
        parts.append(
            f"### {kind}\n\n{len(shown.seconds):,} impressions of {len(shown.item):,} candidates, "
            f"{users:,} users.\n\n"
            + markdown_table(
                ["Pool", "Relative to", *NAMES.values()], gain_rows(table, supervision)
            )
            + "\nThe measures themselves, in percent and seconds, and the mean duration of a video "
            "of the pool in seconds.\n\n"
            + markdown_table(["Pool", "Filter", *NAMES.values(), "Duration"], value_rows(table))
        )
    return parts


def page(
    lines: Sequence[str],
    sections: Sequence[str],
    days: Sequence[str],
    seeds: Sequence[int],
    asked: str,
) -> str:
    """The results as Markdown."""
    commit, clean = git_state()
    several = (
        f"the mean over {len(seeds)} seeds, whose sd is given" if len(seeds) > 1 else "one seed"
    )
    return "\n".join(
        [
            "# Quality of the pool that a filter leaves\n",
            "".join(lines),
            NO_TEST,
            f"`python experiments/pool_quality/pool.py --source_dir=DIR --work=DIR {asked}`, "
            f"commit {commit}{'' if clean else ' with changes'}, {machine()['processor']}. "
            f"Test days: {', '.join(days)}. MMNet is {several}, trained as published "
            "(`experiments/published.txt`).\n",
            MEASURED.format(replicates=REPLICATES, pools=RANDOM_POOLS),
            *sections,
        ]
    )


# --------------------------------------------------------------------------------------- main


def systems_of(arguments: argparse.Namespace) -> list[System]:
    """Everything that has to be trained and scored."""
    found = []
    for supervision in RATES:
        place = arguments.work / supervision
        runs = [Path(one) for one in getattr(arguments, f"{supervision}_runs").split(",") if one]
        for number, run in enumerate(runs):
            scores = place / f"mmnet-given-{number}.csv"
            found.append(System(supervision, "mmnet", number, run, scores, ours=False))
        seeds = [] if runs else arguments.seeds
        for name, seed in [*(("mmnet", seed) for seed in seeds), ("lightgbm", 0)]:
            stem = place / f"{name}-{seed}"
            found.append(System(supervision, name, seed, stem, stem.with_suffix(".csv")))
    return found


def main() -> int:
    """Runs what is missing, and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source_dir", type=Path, required=True, help="directory of KuaiRand")
    parser.add_argument("--work", type=Path, required=True, help="directory of runs and scores")
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--shares", default="0.5,0.3,0.1")
    for supervision in RATES:
        parser.add_argument(f"--{supervision}_runs", default="", help="finished runs of MMNet")
    parser.add_argument("--output", type=Path, default=HERE / "results.md")
    parser.add_argument("--plan", action="store_true", help="print the plan and stop")
    arguments = parser.parse_args()
    asked = f"--seeds={arguments.seeds} --shares={arguments.shares}"
    given = [one for one in RATES if getattr(arguments, f"{one}_runs")]
    asked += "".join(f" --{one}_runs=DIR" for one in given)
    arguments.seeds = [int(seed) for seed in arguments.seeds.split(",")]
    shares = [float(share) for share in arguments.shares.split(",")]
    systems = systems_of(arguments)
    try:
        for system in systems:
            state = "scored" if system.scores.exists() else "trained" if system.trained else "to do"
            print(f"{system.supervision}: {system.name}, seed {system.seed}: {state}", flush=True)
        if arguments.plan:
            return 0
        log = read_log(arguments.source_dir)
        for system in systems:
            if not system.scores.exists():
                if not system.trained:
                    system.train(arguments.source_dir)
                system.scores.parent.mkdir(parents=True, exist_ok=True)
                system.score()
        lines, sections, days = sections_of(systems, log, shares)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    write_atomic(arguments.output, page(lines, sections, days, arguments.seeds, asked))
    print(f"wrote {arguments.output}")
    return 0


def sections_of(
    systems: Sequence[System], log: pd.DataFrame, shares: Sequence[float]
) -> tuple[list[str], list[str], list[str]]:
    """The conclusions and the sections of the page, and the test days."""
    found = {system: pd.read_csv(system.scores, dtype={"item": str}) for system in systems}
    days = sorted(found[systems[0]]["day"].unique())
    for system, scores in found.items():
        if sorted(scores["day"].unique()) != days:
            raise InputError(
                f"{system.run}: its test days are not those of {systems[0].run}; train both on the "
                "same log with the same split"
            )
    lines, sections = [], []
    for supervision, rate in RATES.items():
        scores = {
            rule: [of for one, of in found.items() if (one.supervision, one.name) == key]
            for rule, key in (
                (MMNET, (supervision, "mmnet")),
                (LIGHTGBM, (supervision, "lightgbm")),
            )
        } | {HA: [history(log, rate, days)]}
        kinds: dict[str, tuple[pd.DataFrame, Shown] | None] = {}
        for kind, of_kind in {
            "All impressions": log,
            "Random impressions": log[log["is_rand"] == 1],
        }.items():
            of_days = of_kind[of_kind["day"].isin(days)]
            enough = min(of_days["item"].nunique(), of_days["user"].nunique()) > 1
            kinds[kind] = table_of(of_days, scores, shares) if enough else None
        whole = kinds["All impressions"]
        assert whole is not None  # every scored day has impressions
        middle = sorted(shares)[len(shares) // 2]
        lines.append(conclusions(whole[0], supervision, middle))
        sections += section(supervision, kinds)
    return lines, sections, days


if __name__ == "__main__":
    sys.exit(main())
