"""What the stages of the quick start cost: preparing, training, evaluation and export.

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
import json
import os
import platform
import runpy
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
FLAGFILE = "experiments/quickstart/flags.txt"
STAGES = ("start-up", "prepare", "train", "evaluate", "export")
Seconds = dict[str, tuple[float, float]]
"""Stage -> wall and CPU seconds."""


def work(flagfile: str, run_dir: str, began: float) -> None:
    """Runs the quick start in this process and writes what its stages took.

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
        arguments = ("--worker", str(run_dir), str(time.time()), f"--flagfile={flagfile}")
        done = subprocess.run(
            [sys.executable, __file__, *arguments],
            cwd=checkout,
            env={**os.environ, "PYTHONPATH": str(checkout), "TF_CPP_MIN_LOG_LEVEL": "3"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"the quick start failed in {checkout}:\n{done.stderr}")
        found = json.loads((run_dir / "stages.json").read_text())
    stages = {name: (found[name][0], found[name][1]) for name in STAGES}
    both = [found["evaluate"][kind] + found["export"][kind] for kind in (0, 1)]
    whole = [sum(found[name][kind] for name in STAGES) for kind in (0, 1)]
    return {**stages, "evaluate + export": (both[0], both[1]), "all": (whole[0], whole[1])}


def spread(values: list[float]) -> str:
    """Median (least to most)."""
    return f"{np.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def table(runs: list[Seconds], others: list[Seconds]) -> list[str]:
    """A line per stage: its seconds, and where there are others, theirs over these."""
    header = ["stage", "wall s", "CPU s"]
    if others:
        header += ["other's wall s", "other's CPU s", "other's CPU / its CPU"]
    lines = [header, ["---", *["---:"] * (len(header) - 1)]]
    for name in runs[0]:
        cells = [name, *(spread([one[name][kind] for one in runs]) for kind in (0, 1))]
        if others:
            cells += [spread([one[name][kind] for one in others]) for kind in (0, 1)]
            pairs = zip(runs, others, strict=True)
            cells.append(spread([other[name][1] / one[name][1] for one, other in pairs]))
        lines.append(cells)
    return [f"| {' | '.join(line)} |" for line in lines]


def main() -> None:
    """Runs the quick start again and again, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--against", default="")
    parser.add_argument("--flagfile", default=str(ROOT / FLAGFILE))
    parser.add_argument("--output", default="")
    parser.add_argument("--worker", nargs=2, metavar=("RUN_DIR", "BEGAN"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.flagfile, options.worker[0], float(options.worker[1]))
        return
    flagfile = Path(options.flagfile).resolve()
    runs, others = [], []
    for number in range(options.runs):
        runs.append(run(ROOT, flagfile))
        if options.against:
            others.append(run(Path(options.against).resolve(), flagfile))
        print(f"run {number + 1} of {options.runs}", file=sys.stderr)
    flags = flagfile.relative_to(ROOT) if flagfile.is_relative_to(ROOT) else flagfile.name
    against = " --against=CHECKOUT" if options.against else ""
    lines = [
        "# Stages of the quick start\n",
        f"`python experiments/performance/stages.py --runs={options.runs}{against}`: "
        f"{flags}, {len(os.sched_getaffinity(0))} cores, {platform.machine()}, TensorFlow "
        f"{version('tensorflow')}, Keras {version('keras')}. Median (least to most); a process "
        "per run.\n",
        *table(runs, others),
    ]
    print("\n".join(lines))
    if options.output:
        Path(options.output).write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
