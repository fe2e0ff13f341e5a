"""What the stages of a small run cost: preparing, training, evaluation and export.

    python experiments/performance/stages.py [--runs=5] [--against=CHECKOUT] [--output=FILE]

Each run is a process of its own, into an empty directory, with the flags of `--flagfile`. CPU
seconds count all threads of the process. `start-up` is from the start of the process to the first
stage, most of it imports; `train` is everything between preparing and evaluation. Predictions are
compiled in whichever stage needs them first.

With `--against`, the directory of another checkout of this project, both take turns, run by run,
and ratios are formed within a turn, so that a machine whose speed drifts does not decide.
"""

import argparse
import contextlib
import functools
import json
import platform
import runpy
import sys
import tempfile
import time
from pathlib import Path

import bench
from bench import ROOT

FLAGFILE = "experiments/quickstart/one_network.txt"
STAGES = ("start-up", "prepare", "train", "evaluate", "export")
Seconds = dict[str, tuple[float, float]]
"""Stage -> wall and CPU seconds."""


def work(flagfile: str, run_dir: str, began: float) -> None:
    """Runs a training in this process and writes what its stages took.

    Args:
        flagfile: flags of `mmnet.train`.
        run_dir: where to; `stages.json` is written beside the run.
        began: when the process was started, seconds since 1970.
    """
    marks: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {}

    def now() -> tuple[float, float]:
        return time.time() - began, time.process_time()

    from mmnet.training import records

    stage = records.Stages.stage

    @contextlib.contextmanager
    def marked(self, name):
        first = now()
        with stage(self, name):
            yield
        marks[name] = first, now()

    records.Stages.stage = marked
    sys.argv = ["mmnet.train", f"--flagfile={flagfile}", f"--run_dir={run_dir}"]
    try:
        runpy.run_module("mmnet.train", run_name="__main__")
    except SystemExit as ended:
        if ended.code:
            raise
    between = {
        "start-up": ((0.0, 0.0), marks["prepare"][0]),
        "train": (marks["prepare"][1], marks["evaluate"][0]),
    }
    seconds = {
        name: [end - start for start, end in zip(*ends, strict=True)]
        for name, ends in (marks | between).items()
    }
    Path(run_dir, "stages.json").write_text(json.dumps(seconds))


def run(checkout: Path, flagfile: Path) -> Seconds:
    """Seconds of the stages of one run of a checkout."""
    with tempfile.TemporaryDirectory() as scratch:
        run_dir = Path(scratch, "run")
        worker = ("--worker", run_dir, time.time(), f"--flagfile={flagfile}")
        bench.run(__file__, *worker, cwd=checkout, checkout=checkout)
        found = json.loads((run_dir / "stages.json").read_text())
    stages = {name: (found[name][0], found[name][1]) for name in STAGES}
    both = [found["evaluate"][kind] + found["export"][kind] for kind in (0, 1)]
    whole = [sum(found[name][kind] for name in STAGES) for kind in (0, 1)]
    return {**stages, "evaluate + export": (both[0], both[1]), "all": (whole[0], whole[1])}


def table(runs: list[Seconds], others: list[Seconds]) -> list[str]:
    """A line per stage: its seconds, and where there are others, theirs over these."""
    header = ["stage", "wall s", "CPU s"]
    if others:
        header += ["other's wall s", "other's CPU s", "other's CPU / its CPU"]
    lines = [header, ["---", *["---:"] * (len(header) - 1)]]
    for name in runs[0]:
        spent = [[one[name][kind] for one in runs] for kind in (0, 1)]
        if others:
            theirs = [[one[name][kind] for one in others] for kind in (0, 1)]
            spent += [*theirs, bench.ratios(theirs[1], spent[1])]
        lines.append([name, *map(bench.spread, spent)])
    return [f"| {' | '.join(line)} |" for line in lines]


def main() -> None:
    """Runs the training again and again, and prints the table."""
    options = bench.options(
        __doc__,
        runs=5,
        against="",
        flagfile=str(ROOT / FLAGFILE),
        worker={"nargs": 2, "metavar": ("RUN_DIR", "BEGAN"), "help": argparse.SUPPRESS},
    )
    if options.worker:
        work(options.flagfile, options.worker[0], float(options.worker[1]))
        return
    flagfile = Path(options.flagfile).resolve()
    checkouts = {"this": ROOT}
    if options.against:
        checkouts["other"] = Path(options.against).resolve()
    calls = {name: functools.partial(run, place, flagfile) for name, place in checkouts.items()}
    found = bench.turns(calls, options.runs)
    flags = flagfile.relative_to(ROOT) if flagfile.is_relative_to(ROOT) else flagfile.name
    against = " --against=CHECKOUT" if options.against else ""
    lines = [
        "# Stages of a small run\n",
        f"`python experiments/performance/stages.py --runs={options.runs}{against}`: "
        f"{flags}, {bench.cores()} cores, {platform.machine()}, "
        f"{bench.versions('TensorFlow', 'Keras')}. Median (least to most); a process per run.\n",
        *table(found["this"], found.get("other", [])),
    ]
    bench.publish(lines, options.output)


if __name__ == "__main__":
    main()
