"""Kills the drivers by SIGKILL at random moments, many times, and looks at what they leave.

    python experiments/reliability/kill_many.py [--kills=60] [--seed=0] [--output=FILE]

First every driver of both systems runs once undisturbed, on small simulated logs. Then, again and
again, one of them is started in a directory that earlier kills have left behind, and killed after a
random time. After each kill every file that bears its final name is read to its end. At last all
drivers run through in the directories of the victims, and what they end with must be what the
undisturbed ones gave: the weights bit for bit, the scores, the metrics, the datasets, the tables of
experiments, and an export that `--verify` passes.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from wholeness import Wholeness

from mmnet.files import write_atomic

ROOT = Path(__file__).resolve().parents[2]

TABLES = [
    "--source=simulated",
    "--source_set=items=400",
    "--source_set=periods=24",
    "--source_set=clicks=600000",
    "--taxonomies=category,tags",
    "--numerics=duration",
    "--texts=title",
    "--release=release",
    "--min_test_rows=30",
]
TRAINING = ["--set=units=4", "--set=field_width=2", "--epochs=3", "--batch_size=32"]
TRAINING += ["--checkpoint_seconds=0.3", "--steps_per_execution=8", "--deterministic", "--resume"]

CLICKS = [f"--generate={one}" for one in ("users=80", "feeds=200", "rows=12000", "rate=0.1")]
CLICKS += ["--generate=text_scale=0.03", "--min_rows=20"]
CLICKS_TRAINING = ["--epochs=40", "--batch_size=512", "--jit=false", "--deterministic"]
NEEDS = {
    "evaluate": "run/export/1",
    "predict": "run/export/1",
    "drift": "run/export/1",
    "mma4ctr.evaluate": "clicks_run/record.json",
    "mma4ctr.predict": "clicks_run/record.json",
}
"""Drivers that read what another one has to finish first."""

COPIES = {"prepare": ("prepared", "dataset"), "mma4ctr.prepare": ("clicks_prepared", "clicks")}
"""What is made, and the copy that others read: kills of `prepare` replace its own by others."""


def commands(place):
    """Driver -> its arguments, all below one directory, in the order they build on each other."""
    run, dataset = place / "run", place / "dataset"
    clicks, clicks_run = place / "clicks", place / "clicks_run"
    scored = [f"--saved_model={run / 'export'}", f"--dataset_dir={dataset}"]
    return {
        "prepare": [*TABLES, f"--dataset_dir={place / 'prepared'}"],
        "train": [*TRAINING, f"--dataset_dir={dataset}", f"--run_dir={run}"],
        "evaluate": [f"--run_dir={run}", f"--dataset_dir={dataset}"],
        "predict": [*scored, "--rule=stored", f"--output={place / 'scores.parquet'}"],
        "drift": [*scored, "--checked=20", "--volume=100", f"--output={place / 'drift'}"],
        "experiment": [
            *(f"--experiment={place / 'small'}", f"--cells={place / 'cells'}"),
        ],
        "mma4ctr.prepare": [*CLICKS, f"--dataset_dir={place / 'clicks_prepared'}"],
        "mma4ctr.train": [
            *(*CLICKS_TRAINING, "--resume", f"--dataset_dir={clicks}", f"--run_dir={clicks_run}"),
        ],
        "mma4ctr.evaluate": [f"--run_dir={clicks_run}"],
        "mma4ctr.predict": [
            *(f"--saved_model={clicks_run / 'export'}", f"--pairs={place / 'pairs.csv'}"),
            f"--output={place / 'clicks.parquet'}",
        ],
        "mma4ctr.experiment": [
            *(*CLICKS_TRAINING, f"--dataset_dir={clicks}", "--row=a: --matrix=visual"),
            *("--row=b: --matrix=textual", "--seeds=0", f"--cells={place / 'clicks_cells'}"),
            f"--results={place / 'clicks_results'}",
        ],
    }


def furnish(place):
    """What is not made by a driver: an experiment's flags and rows, and pairs to score."""
    table = ["--table=One: ha, smoothed", "--reference=smoothed", "--replicates=100", "--seeds=0"]
    rows = place / "small" / "rows"
    rows.mkdir(parents=True)
    (place / "small" / "experiment.txt").write_text("\n".join([*TABLES, *table]) + "\n")
    (rows / "ha.txt").write_text("# HA: the mean\n--model=ha\n")
    (rows / "smoothed.txt").write_text("# Smoothed: empirical Bayes\n--model=smoothed_history\n")
    pairs = [f"{user},{item}\n" for user in range(200) for item in range(50)]
    (place / "pairs.csv").write_text("user_id,item_id\n" + "".join(pairs))


def start(driver, arguments, log):
    """A driver in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.Popen(
        [sys.executable, "-m", f"mmnet.{driver}", *arguments],
        env=environment,
        stdout=log,
        stderr=subprocess.STDOUT,
    )


def ended(driver, code, log):
    """The error for a driver that ended badly by itself."""
    tail = "\n".join(Path(log.name).read_text(errors="replace").splitlines()[-20:])
    return SystemExit(f"{tail}\n{driver} ended with exit code {code} by itself")


def run_through(place, log):
    """Runs all drivers to their end; returns driver -> seconds."""
    seconds = {}
    for driver, arguments in commands(place).items():
        began = time.monotonic()
        code = start(driver, arguments, log).wait()
        if code:
            raise ended(driver, code, log)
        seconds[driver] = time.monotonic() - began
        made, copy = COPIES.get(driver, ("", ""))
        if made and not (place / copy).exists():
            shutil.copytree(place / made, place / copy)
    return seconds


def disturb(driver, place, draws):
    """Takes away what would let a driver end at once, so that the kill meets it at work."""
    if driver in COPIES and draws.random() < 0.7:
        about = place / COPIES[driver][0] / "dataset.json"
        if about.exists():
            document = json.loads(about.read_text(encoding="utf-8"))
            document |= {"fingerprint": "of other tables", "key": "of other files"}
            write_atomic(about, json.dumps(document))
    run = {"train": place / "run", "mma4ctr.train": place / "clicks_run"}.get(driver)
    if run is not None and (run / "record.json").exists() and draws.random() < 0.5:
        shutil.rmtree(run)
    cells = {"experiment": place / "cells", "mma4ctr.experiment": place / "clicks_cells"}
    if driver in cells and draws.random() < 0.5:
        shutil.rmtree(cells[driver], ignore_errors=True)


def same(reference, victim):
    """Names whatever the two places differ in."""
    different = []
    for name in ("run/checkpoints/best.npz", "clicks_run/weights.npz"):
        weights = [np.load(place / name) for place in (reference, victim)]
        if weights[0].files != weights[1].files or any(
            not np.array_equal(weights[0][one], weights[1][one]) for one in weights[0].files
        ):
            different.append(name)
    for name in ("scores.parquet", "clicks.parquet"):
        scores = [pq.read_table(place / name) for place in (reference, victim)]
        if not scores[0].equals(scores[1]):
            different.append(name)
    for name in (
        *("run/evaluation/metrics.json", "drift/drift.json", "small/results/one.csv"),
        *("clicks_run/evaluation/metrics.json", "clicks_results/results.md"),
    ):
        if (reference / name).read_text() != (victim / name).read_text():
            different.append(name)
    for made, _ in COPIES.values():
        for path in sorted((reference / made).rglob("*.npy")):
            name = path.relative_to(reference)
            other = victim / name
            if not other.exists() or not np.array_equal(
                np.load(path), np.load(other), equal_nan=True
            ):
                different.append(str(name))
    return different


def main():
    """Kills, looks, and writes what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default=str(Path(__file__).with_suffix(".md")))
    flags = parser.parse_args()
    draws = random.Random(flags.seed)
    with tempfile.TemporaryDirectory() as directory:
        directory = Path(directory)
        reference, victim = directory / "reference", directory / "victim"
        with (directory / "log.txt").open("ab") as log:
            furnish(reference)
            seconds = run_through(reference, log)
            shutil.copytree(reference, victim)
            for name in ("run", "clicks_run"):  # so that training is killed at work, not when done
                shutil.rmtree(victim / name)
            lines, whole = [], Wholeness(victim)
            while len(lines) < flags.kills:
                ready = [name for name in seconds if (victim / NEEDS.get(name, "")).exists()]
                driver = draws.choice(ready)
                disturb(driver, victim, draws)
                delay = draws.uniform(0.4, 1.0) * seconds[driver]
                process = start(driver, commands(victim)[driver], log)
                try:
                    code = process.wait(delay)
                except subprocess.TimeoutExpired:
                    process.send_signal(signal.SIGKILL)
                    process.wait()
                    code = None
                problem, read = "", whole.read
                try:
                    whole()
                except AssertionError as error:
                    problem = str(error).replace(str(victim), "")
                if code is None:
                    lines.append((driver, delay, whole.read - read, problem))
                elif code:
                    raise ended(driver, code, log)
            run_through(victim, log)
            whole()
        different = same(reference, victim)
        litter = sorted(
            str(path.relative_to(victim)) for path in victim.rglob(".*") if path.name != ".cache"
        )
        verified = start(
            "predict", ["--verify", f"--saved_model={victim / 'run/export'}"], subprocess.DEVNULL
        ).wait()
    broken = [line for line in lines if line[-1]]
    text = "\n".join(
        [
            "# Killed at random moments\n",
            f"`python experiments/reliability/kill_many.py --kills={flags.kills} "
            f"--seed={flags.seed}`\n",
            f"{len(lines)} SIGKILLs: {len(broken)} left a file that bears its final name and is "
            "not whole. Run to the end afterwards, the drivers gave what undisturbed ones give"
            + (f", except for {', '.join(different)}." if different else ", bit for bit.")
            + f" Hidden files left: {', '.join(litter) or 'none'}"
            f"{' (the next write of that file an hour later takes them away)' if litter else ''}. "
            f"The export {'passes' if verified == 0 else 'FAILS'} `--verify`.\n",
            "| # | driver | killed after (s) | files read anew | not whole |",
            "| ---: | --- | ---: | ---: | --- |",
            *(
                f"| {number} | {driver} | {delay:.2f} | {read} | {problem} |"
                for number, (driver, delay, read, problem) in enumerate(lines, 1)
            ),
            "",
        ]
    )
    write_atomic(flags.output, text)
    print("\n".join(text.splitlines()[:5]))
    sys.exit(bool(broken or different or verified))


if __name__ == "__main__":
    main()
