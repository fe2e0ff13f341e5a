"""Runs seeds of all kinds of input in processes, and reports how they ended."""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path

from mmnet.startup import load_tensorflow
from tests.fuzz.outcomes import Outcome

SEED = 20_240_301
"""Of the slice that each run of the whole checks sees."""

MOST_SECONDS = 200
"""Of one seed."""


@dataclass(frozen=True)
class Kind:
    """A kind of input.

    Attributes:
        module: of this package; its `check(seed, place, ready)` looks at one input.
        world: which it needs; empty: none.
        seeds: of the slice that each run of the whole checks looks at, the same on any machine.
        cost: seconds of a thousand seeds on two cores.
    """

    module: str
    world: str
    seeds: int
    cost: float

    @property
    def share(self) -> float:
        """Its part of `--seconds`, before it is divided by the sum of all."""
        return self.seeds * self.cost


KINDS = {
    "prepare": Kind("preparing", "", 3000, 7),
    "readers": Kind("readers", "", 900, 37),
    "requests": Kind("requests", "share_rates", 8000, 2),
    "assets": Kind("assets", "share_rates", 3000, 1.3),
    "stored": Kind("stored", "share_rates", 2000, 6),
    "drivers": Kind("drivers", "share_rates", 100, 740),
}


@dataclass
class Report:
    """How the seeds of one kind ended."""

    kind: str
    first: int
    inputs: int = 0
    well: int = 0
    refused: int = 0
    seconds: float = 0
    failed: dict[int, str] = field(default_factory=dict)

    def add(self, seed, answer):
        self.inputs += 1
        if isinstance(answer, Outcome):
            self.well += answer.well
            self.refused += answer.refused
        else:
            self.failed[seed] = answer
            print(f"\n{self.kind}: seed {seed} failed\n{answer}", flush=True)

    def line(self):
        tracebacks = sum("Traceback" in one for one in self.failed.values())
        seeds = f"{self.first} to {self.first + self.inputs - 1}"
        numbers = (self.inputs, self.well, self.refused, len(self.failed), tracebacks)
        shown = "".join(f"{one:>11,}" for one in numbers)
        return f"{self.kind:<9}{seeds:>24}{shown}{self.seconds:>9.0f}"


HEADING = (
    f"{'kind':<9}{'seeds':>24}{'inputs':>11}{'well':>11}{'refused':>11}{'faults':>11}"
    f"{'tracebacks':>11}{'seconds':>9}"
)


class Worker:
    """A process that looks at one seed after another."""

    def __init__(self, kind, world, place):
        self.pipe, theirs = multiprocessing.Pipe()
        self.seed, self.began = None, time.monotonic()
        context = multiprocessing.get_context("fork")
        self.process = context.Process(target=serve, args=(theirs, kind, world, place))
        self.process.start()
        theirs.close()

    def give(self, seed):
        """Asks for a seed; None ends the process."""
        self.seed, self.began = seed, time.monotonic()
        self.pipe.send(seed)

    def answer(self):
        """What became of the seed; a sentence where the process died of it."""
        try:
            return self.pipe.recv()
        except EOFError:
            self.process.join()
            return f"Traceback: the process died, exit code {self.process.exitcode}"

    def late(self):
        """Kills the process if the seed takes too long."""
        if self.seed is not None and time.monotonic() - self.began > MOST_SECONDS:
            self.process.kill()


def serve(pipe, kind, world, place):
    """Looks at the seeds that come through a pipe."""
    if kind.world:
        load_tensorflow()
    module = importlib.import_module(f"tests.fuzz.{kind.module}")
    ready = module.ready(world) if kind.world else None
    pipe.send(None)
    for seed in iter(pipe.recv, None):
        try:
            pipe.send(module.check(seed, place / str(seed), ready))
        except AssertionError as error:
            notes = getattr(error, "__notes__", [])
            pipe.send("\n".join([str(error) or traceback.format_exc(), *notes]))
        except BaseException:
            pipe.send(traceback.format_exc())


def run(name, world, place, *, first, count, seconds, processes):
    """Looks at `count` seeds, or at as many as fit into `seconds`."""
    kind, report = KINDS[name], Report(name, first)
    place.mkdir()
    workers = [Worker(kind, world, place) for _ in range(processes)]
    began, following = time.monotonic(), first
    while workers:
        answered = wait([one.pipe for one in workers], timeout=5)
        for worker in list(workers):
            worker.late()
            if worker.pipe not in answered:
                continue
            answer = worker.answer()
            if worker.seed is not None:
                report.add(worker.seed, answer)
            elif answer is not None:
                raise SystemExit(f"{name}: {answer}")
            more = following < first + count and time.monotonic() - began < seconds
            if not worker.process.is_alive():
                workers.remove(worker)
                if more:
                    workers.append(Worker(kind, world, place))
            elif more:
                worker.give(following)
                following += 1
            else:
                worker.give(None)
                worker.process.join()
                workers.remove(worker)
    report.seconds = time.monotonic() - began
    return report


def make_worlds(place):
    """Makes both worlds, side by side."""
    root = Path(__file__).parents[2]
    started = {}
    for name in ("share_rates", "clicks"):
        command = [sys.executable, "-m", "tests.fuzz.worlds", name, str(place / name)]
        with (place / f"{name}.txt").open("wb") as output:
            started[name] = subprocess.Popen(command, cwd=root, stdout=output, stderr=output)
    for name, process in started.items():
        if process.wait():
            raise SystemExit((place / f"{name}.txt").read_text(errors="replace"))


def main(arguments):
    """Returns the exit code: 1 where a seed failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--kind", default=",".join(KINDS), help="kinds, separated by commas")
    parser.add_argument("--count", type=int, help="seeds of each kind; default: the slice")
    parser.add_argument("--seconds", type=float, help="of all kinds together, after the worlds")
    parser.add_argument("--seed", type=int, default=SEED, help="the first of each kind")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--world", help="directory of worlds that were made before, or to make")
    flags = parser.parse_args(arguments)
    names = flags.kind.split(",")
    if unknown := set(names) - KINDS.keys():
        parser.error(f"no kind {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")
    shares = sum(KINDS[name].share for name in names)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        worlds = Path(flags.world or folder, "worlds").resolve()
        if any(KINDS[name].world for name in names) and not worlds.exists():
            worlds.mkdir(parents=True)
            make_worlds(worlds)
        reports = [
            run(
                name,
                worlds / KINDS[name].world,
                Path(folder, name),
                first=flags.seed,
                count=flags.count or (10**9 if flags.seconds else KINDS[name].seeds),
                seconds=(flags.seconds or 10**9) * KINDS[name].share / shares,
                processes=flags.processes,
            )
            for name in names
        ]
    print("\n".join([HEADING, *(report.line() for report in reports)]))
    for report in reports:
        for seed in report.failed:
            print(
                f"failed; again: python -m tests.fuzz --kind={report.kind} --seed={seed} --count=1"
            )
    return int(any(report.failed for report in reports))
