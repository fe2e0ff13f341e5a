"""What several seeds of one configuration cost: in turn in one process, or a process for each.

    python experiments/performance/seeds.py [--seeds=5] [--before=CHECKOUT] [--only] [--output=FILE]

Wall seconds of `mmnet.experiment` with MMNet on the log of `--experiment`, whose dataset is
prepared beforehand, until the tables are written; and of `mmnet.train` for each seed, some at a
time, without tables. The cores are divided among what runs at a time. With `--before`, the
directory of another checkout of this project, one seed is timed there as well; `--only` leaves out
what is not compared with it.
"""

import functools
import itertools
import platform
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import bench
from bench import ROOT

THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")


class Seeds:
    """Times ways to train seeds on one prepared dataset.

    Args:
        experiment: a folder with the flags of a log and a row `mmnet`.
        scratch: an empty directory.
    """

    def __init__(self, experiment: Path, scratch: Path):
        self.scratch, self.numbers = scratch, itertools.count()
        self.common = [
            f"--flagfile={experiment / 'data.txt'}",
            f"--flagfile={ROOT / 'experiments/training.txt'}",
            "--half_weight_clicks=50",
        ]
        self.dataset = scratch / "dataset"
        self.run(ROOT, "mmnet.prepare", self.common[0], f"--dataset_dir={self.dataset}")

    def run(self, checkout: Path, module: str, *flags: str, threads: int = 0) -> None:
        """Runs a driver of a checkout."""
        limits = dict.fromkeys(THREADS, str(threads)) if threads else {}
        # Flagfiles name each other from the root of this checkout.
        bench.run("-m", module, *flags, cwd=ROOT, checkout=checkout, **limits)

    def experiment(self, seeds: int, jobs: int, checkout: Path = ROOT) -> float:
        """Seconds of an experiment with so many seeds."""
        place = self.scratch / f"experiment{next(self.numbers)}"
        flags = [
            *self.common,
            f"--rows={ROOT / 'mmnet/experiments/rows'}",
            f"--cells={place / 'cells'}",
            f"--results={place / 'results'}",
            f"--seeds={','.join(map(str, range(seeds)))}",
            f"--jobs={jobs}",
        ]
        floor = ["--table=Floor: ha", "--reference=ha"]
        self.run(checkout, "mmnet.experiment", *flags, *floor)  # prepares the dataset
        began = time.monotonic()
        self.run(checkout, "mmnet.experiment", *flags, "--table=One: mmnet", "--reference=mmnet")
        seconds = time.monotonic() - began
        shutil.rmtree(place)
        return seconds

    def processes(self, seeds: int, at_a_time: int) -> float:
        """Seconds of a process per seed."""
        place = self.scratch / f"runs{next(self.numbers)}"
        threads = max(1, bench.cores() // at_a_time)

        def train(seed: int) -> None:
            flags = [*self.common[1:], f"--seed={seed}", f"--run_dir={place / str(seed)}"]
            flags += [f"--dataset_dir={self.dataset}", "--outputs=predictions"]
            self.run(ROOT, "mmnet.train", *flags, threads=threads)

        began = time.monotonic()
        with ThreadPoolExecutor(at_a_time) as pool:
            list(pool.map(train, range(seeds)))
        seconds = time.monotonic() - began
        shutil.rmtree(place)
        return seconds


def main() -> None:
    """Times every way once, in turn, and prints the table."""
    options = bench.options(
        __doc__,
        experiment=str(ROOT / "experiments/simulated_content"),
        seeds=5,
        before="",
        only={"default": False, "help": "one seed before, and all seeds now"},
    )
    folder, most = Path(options.experiment).resolve(), options.seeds
    with tempfile.TemporaryDirectory() as scratch:
        seeds = Seeds(folder, Path(scratch))
        ways = {
            f"{most} seeds in turn in one process": lambda: seeds.experiment(most, 1),
            f"{most} seeds in turn in two processes": lambda: seeds.experiment(most, 2),
        }
        if options.before:
            before = functools.partial(seeds.experiment, 1, 1, Path(options.before).resolve())
            ways = {"one seed, before": before, **ways, "one seed, before, again": before}
        if not options.only:
            ways |= {
                "one seed": lambda: seeds.experiment(1, 1),
                "2 seeds in turn in one process": lambda: seeds.experiment(2, 1),
            }
            ways |= {
                f"a process for each of {most} seeds, {number} at a time": functools.partial(
                    seeds.processes, most, number
                )
                for number in (1, 2, most)
            }
        seconds = {}
        for name, way in ways.items():
            seconds[name] = way()
            print(f"{name}: {seconds[name]:.1f} s", file=sys.stderr)
    unit = [spent for name, spent in seconds.items() if "before" in name]
    header = ["way", "wall s", *(["over one seed before"] if unit else [])]
    table = [header, ["---", *["---:"] * (len(header) - 1)]]
    for name, spent in seconds.items():
        ratio = [f"{spent * len(unit) / sum(unit):.2f}"] if unit else []
        table.append([name, f"{spent:.0f}", *ratio])
    lines = [
        f"# Several seeds of MMNet, {folder.name}\n",
        f"`python experiments/performance/seeds.py --experiment=experiments/{folder.name} "
        f"--seeds={most}{' --before=CHECKOUT' if unit else ''}`: "
        f"{bench.cores()} cores, {platform.machine()}, {bench.versions('TensorFlow', 'Keras')}. "
        "Each way once.\n",
        *(f"| {' | '.join(line)} |" for line in table),
    ]
    bench.publish(lines, options.output)


if __name__ == "__main__":
    main()
