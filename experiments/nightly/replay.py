"""A real log replayed day by day: warm, cold, once a week, never. What each costs and gains.

    python experiments/nightly/replay.py --data=DIR --work=DIR [--seeds=0,1,2] [--nights=9]
        [--output=experiments/nightly/replay.md]

DIR of --data has KuaiRand-Pure (see `mmnet/data/sources/kuairand.py`), of which the 14 days of the
random and the standard log from 2022-04-25 on are replayed. Every night sees one more day. It is
`python -m mmnet.nightly` in a process of its own, as a scheduler would run it, with a rule that
promotes whatever was trained: `cold` trains from scratch, `warm` from the version of the night
before. A weekly schedule serves the cold version of the last seventh night, and `never` that of
the first. The versions are then measured on the day after the night, which none of them has seen.

CPU seconds are those of the whole process, imports, evaluation, comparison and export included, and
those of the training within it. The plan is printed first. What a night has measured is a file in
--work, so that a killed replay continues, and other seeds can be added later. Nothing of the log
is written anywhere else.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmnet import config, driver
from mmnet.data import input_tables
from mmnet.data.sources.kuairand import kuairand
from mmnet.evaluation.report import markdown_table
from mmnet.files import read_json, write_atomic
from mmnet.flags import parse
from mmnet.promotion.paired import Paired
from mmnet.training.records import git_state

FIRST, WEEK = 5, 7
"""Days of the log on the first night; nights from one cold training to the next."""
SCENARIOS = ("normal", "cold_start")
KINDS = ("cold", "warm")
COLUMNS = [
    *("--item_column=video_id", "--denominator=impressions", "--numerator=long_view"),
    *("--taxonomies=tag,author_id", "--categoricals=video_type,upload_type,music_type"),
    *("--numerics=video_duration", "--release=upload_dt", "--min_target_clicks=10"),
]
FLAGS = [
    *("--window=2", "--compare_periods=1", "--min_test_rows=10", "--split_ratios=3,1,1"),
    *("--set=units=16", "--set=tcn_filters=32,16", "--batch_size=128", "--epochs=6"),
    *("--nojit", "--allow_drift", "--keep=99", "--promote=not_worse=0.99"),
    "--outage_budget=1e9",
]
SCHEDULES = {
    "nightly cold": "from scratch every night",
    "nightly warm": "from the night before, 3 epochs",
    "weekly cold": "from scratch every seventh night",
    "never": "once, on the first night",
}


def write_log(data: Path, work: Path) -> list[str]:
    """Writes the counts until each day, and the items released by then; returns the days."""
    flags = parse(config.TrainConfig, ["--source=kuairand", f"--source_dir={data}", *COLUMNS])
    found = kuairand(data, flags)
    counts, items = found.counts.data, found.items.data
    days = sorted(set(counts["period"].cast(pa.string()).to_pylist()))
    released = items["upload_dt"].cast(pa.string())
    for number, day in enumerate(days, start=1):
        seen = counts.filter(pc.less_equal(counts["period"].cast(pa.string()), day))
        there = pc.is_in(items["video_id"], pc.unique(seen["video_id"]))
        known = items.filter(pc.or_(pc.fill_null(pc.less_equal(released, day), False), there))
        for name, table in (("counts", seen), ("items", known)):
            place = work / "log" / f"{name}-{number:02d}.parquet"
            write_atomic(place, lambda path, table=table: pa.parquet.write_table(table, path))
    return days


def tables(work: Path, day: int) -> list[str]:
    """Flags of the tables as of the end of a day, counted from 1."""
    log = work / "log"
    return [
        *(f"--counts={log / f'counts-{day:02d}.parquet'}",),
        *(f"--items={log / f'items-{day:02d}.parquet'}",),
    ]


def night_here(place: Path, command: list[str]) -> int:
    """Runs a night in this process, and writes the CPU seconds of its training."""
    from mmnet.tasks import training

    fit, spent = training.fit_network, []

    def timed(*arguments, **named):
        start = time.process_time()
        try:
            return fit(*arguments, **named)
        finally:
            spent.append(time.process_time() - start)

    training.fit_network = timed
    code = driver.run(config.NightlyConfig, None, "nightly", command)
    write_atomic(place, json.dumps({"cpu_train": sum(spent)}) + "\n")
    return code


def run_night(work: Path, seed: int, kind: str, night: int) -> None:
    """Runs a night in a process of its own, and writes what it cost."""
    place = work / f"seed-{seed}"
    models, before = place / f"{kind}-{night:02d}", place / f"{kind}-{night - 1:02d}"
    timing = place / f"{kind}-{night:02d}.timing.json"
    # A night that was killed begins again where the night before has ended, so that it costs once.
    shutil.rmtree(models, ignore_errors=True)
    if (kind, night) == ("warm", 1):  # it starts from nothing, as the cold one does
        before = next(one for one in sorted(place.glob("cold-??")))
        shutil.copytree(before, models)
        shutil.copyfile(place / "cold-01.json", place / "warm-01.json")
        return
    if night > 1:
        shutil.copytree(before, models)
    command = [f"--models={models}", f"--seed={seed}", *tables(work, FIRST + night - 1)]
    command += [*COLUMNS, *FLAGS, *(["--cold"] if kind == "cold" else [])]
    spent_before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    with (place / f"{kind}.log").open("a") as log:
        asked = [sys.executable, __file__, "--night-here", str(timing), *command]
        done = subprocess.run(asked, stdout=log, stderr=log, check=False)
    if done.returncode:
        sys.exit(f"night {night} ended with {done.returncode}; see {place / kind}.log")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = sum(
        getattr(after, one) - getattr(spent_before, one) for one in ("ru_utime", "ru_stime")
    )
    events = sorted((models / "history").glob("*.json"))
    event = read_json(events[-1])
    if event["outcome"] != "promoted" or event["champion"] != night:
        sys.exit(f"night {night} was {event['outcome']}: {event['reasons']}")
    found = read_json(timing) | {
        "cpu_night": spent,
        "wall_seconds": time.monotonic() - began,
        "warm": read_json(models / str(night) / "assets.extra" / "night.json")["warm"],
    }
    write_atomic(place / f"{kind}-{night:02d}.json", json.dumps(found) + "\n")
    shutil.rmtree(before, ignore_errors=True)  # later versions are kept with the earlier ones


def measure(work: Path, seed: int, night: int) -> None:
    """Writes the squared errors on the day after a night, by schedule and scenario."""
    from mmnet.promotion import comparing

    place = work / f"seed-{seed}"
    week = 1 + (night - 1) // WEEK * WEEK
    versions = dict(
        zip(SCHEDULES, (("cold", night), ("warm", night), ("cold", week), ("cold", 1)), strict=True)
    )
    newest = {kind: max(place.glob(f"{kind}-??")) for kind in KINDS}
    flags = parse(config.TrainConfig, [*tables(work, FIRST + night), *COLUMNS, "--window=2"])
    about, task = input_tables.table_flags(flags)
    found = input_tables.load_tables(about, task)
    exports = {
        one: comparing.judge(newest[one[0]] / str(one[1]), found, about)
        for one in dict.fromkeys(versions.values())
    }
    judged = list(exports.values())
    rows = comparing.compared_rows(judged, 1)
    shown = comparing.scenario_sets(judged, rows, missing_rate=0.3, scenario_seed=0)
    errors = {}
    for one, given, scenarios in zip(exports, judged, shown, strict=True):
        truth = scenarios.truth.astype(np.float64)
        predicted = scenarios.predictions(given.predict)
        errors[one] = {name: np.square(predicted[name] - truth).tolist() for name in SCENARIOS}
    write_atomic(
        place / f"errors-{night:02d}.json",
        json.dumps(
            {
                "items": [str(one) for one in shown[-1].keys()["item_id"]],
                "errors": {name: errors[one] for name, one in versions.items()},
            }
        )
        + "\n",
    )


def trainings(work: Path, seed: int, schedule: str, nights: int) -> list[dict]:
    """What the trainings of a schedule cost."""
    chosen = {
        "nightly cold": ("cold", range(1, nights + 1)),
        "nightly warm": ("warm", range(1, nights + 1)),
        "weekly cold": ("cold", range(1, nights + 1, WEEK)),
        "never": ("cold", range(1, 2)),
    }
    kind, which = chosen[schedule]
    return [read_json(work / f"seed-{seed}" / f"{kind}-{one:02d}.json") for one in which]


def report(work: Path, seeds: list[int], nights: int, days: list[str]) -> str:
    """The results as Markdown."""
    measured = {
        (seed, night): read_json(work / f"seed-{seed}" / f"errors-{night:02d}.json")
        for seed in seeds
        for night in range(1, nights + 1)
    }

    def pooled(schedule: str, scenario: str) -> np.ndarray:
        """Squared errors of all nights, mean over seeds, [rows]."""
        parts = [
            [measured[seed, night]["errors"][schedule][scenario] for night in range(1, nights + 1)]
            for seed in seeds
        ]
        return np.mean([np.concatenate(one) for one in parts], axis=0)

    items = np.concatenate([measured[seeds[0], night]["items"] for night in range(1, nights + 1)])
    lines, by_night = [], []
    for schedule, what in SCHEDULES.items():
        cells = [f"{schedule}: {what}"]
        for scenario in SCENARIOS:
            of_seeds = [
                np.concatenate(
                    [measured[seed, n]["errors"][schedule][scenario] for n in range(1, nights + 1)]
                ).mean()
                for seed in seeds
            ]
            spread = f" (sd {np.std(of_seeds, ddof=1):.2f})" if len(seeds) > 1 else ""
            cells.append(f"{np.mean(of_seeds):.2f}{spread}")
        for scenario in SCENARIOS:
            if schedule == "nightly cold":
                cells.append("")
                continue
            pair = pooled("nightly cold", scenario), pooled(schedule, scenario)
            ratio = Paired(*pair, items).ratio()
            cells.append(
                f"{100 * (ratio.value - 1):+.1f} % ({100 * (ratio.low - 1):+.1f} to "
                f"{100 * (ratio.high - 1):+.1f})"
            )
        costs = [trainings(work, seed, schedule, nights) for seed in seeds]
        cells.append(str(len(costs[0])))
        for what in ("cpu_train", "cpu_night"):
            cells.append(f"{np.mean([sum(one[what] for one in of_seed) for of_seed in costs]):.0f}")
        lines.append(cells)
    for night in range(1, nights + 1):
        cells = [f"{days[FIRST + night - 1]}"]
        for scenario in SCENARIOS:
            for schedule in SCHEDULES:
                values = [
                    np.mean(measured[seed, night]["errors"][schedule][scenario]) for seed in seeds
                ]
                cells.append(f"{np.mean(values):.0f}")
        by_night.append([*cells, str(len(measured[seeds[0], night]["items"]))])
    cold = np.mean(
        [
            one["cpu_train"]
            for seed in seeds
            for one in trainings(work, seed, "nightly cold", nights)
        ]
    )
    warm_nights = [
        one for seed in seeds for one in trainings(work, seed, "nightly warm", nights)[1:]
    ]
    if not all(one["warm"] for one in warm_nights):
        sys.exit("a night of the warm schedule did not start warm")
    warm = np.mean([one["cpu_train"] for one in warm_nights])
    header = ["Schedule", "MSE normal", "MSE cold-start"]
    header += ["Normal, from nightly cold", "Cold-start, from nightly cold"]
    header += ["Trainings", "CPU s of training", "CPU s of whole nights"]
    columns = [
        f"{one}, {scenario.replace('_', '-')}" for scenario in SCENARIOS for one in SCHEDULES
    ]
    weekly = [str(one) for one in range(1, nights + 1, WEEK)]
    commit, clean = git_state()
    asked = f"--seeds={','.join(map(str, seeds))} --nights={nights}"
    return f"""# A real log, replayed day by day

`python experiments/nightly/replay.py --data=DIR --work=DIR {asked}`, commit
{commit}{"" if clean else " with changes"}. KuaiRand-Pure, long views per 100 impressions, {days[0]}
to {days[FIRST + nights - 1]}: {FIRST} days on the first night, one more each night, {nights}
nights, {len(seeds)} seed{"s" if len(seeds) > 1 else ""} of training. Errors are to the observed
rates of the videos with 10 impressions or more on the next day, which no model has seen; they
contain the noise of so few impressions, which no model can predict. Each night is the whole command
`mmnet.nightly`; CPU seconds are sums over the nights that a schedule trains.

## All nights

Intervals (95 %) are clustered by video; errors of a row are averaged over seeds first.

{markdown_table(header, lines)}
From the second night on, a cold training takes {cold:.1f} s of CPU, a warm one {warm:.1f} s
({warm / cold:.0%}). The weekly schedule trains on {"nights" if weekly[1:] else "night"}
{" and ".join(weekly)}; until the second of them it is the one that never trains again.

## By day

MSE in percent² on the day, mean over seeds; the last column has the number of videos.

{markdown_table(["Day", *columns, "Videos"], by_night)}"""


def main() -> int:
    """Runs what is missing, and writes the page."""
    if sys.argv[1:2] == ["--night-here"]:
        return night_here(Path(sys.argv[2]), sys.argv[3:])
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="directory of KuaiRand-Pure")
    parser.add_argument("--work", type=Path, required=True, help="directory of the nights")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--nights", type=int, default=9)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    given = parser.parse_args()
    seeds = [int(one) for one in given.seeds.split(",")]
    work = given.work.resolve()
    nights = range(1, given.nights + 1)
    todo = [(seed, kind, night) for seed in seeds for night in nights for kind in KINDS]
    left = [
        (seed, kind, night)
        for seed, kind, night in todo
        if not (work / f"seed-{seed}" / f"{kind}-{night:02d}.json").exists()
    ]
    print(
        f"plan: {len(seeds)} seeds of {given.nights} nights, {len(todo)} trainings, of which "
        f"{len(todo) - len(left)} are done; about a minute of CPU each"
    )
    if given.nights < 1 or not given.data.is_dir():
        parser.error("--nights must be at least 1, and --data a directory")
    days = write_log(given.data, work)
    if len(days) < FIRST + given.nights:
        parser.error(f"the log has {len(days)} days, which leaves {len(days) - FIRST} nights")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for seed, kind, night in left:
        (work / f"seed-{seed}").mkdir(parents=True, exist_ok=True)
        run_night(work, seed, kind, night)
        print(f"seed {seed}, {kind}, night {night}: done", flush=True)
    for seed in seeds:
        for night in nights:
            if not (work / f"seed-{seed}" / f"errors-{night:02d}.json").exists():
                measure(work, seed, night)
                print(f"seed {seed}, night {night}: measured", flush=True)
    page = report(work, seeds, given.nights, days)
    write_atomic(given.output, page)
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
