"""Rebuilds the directories that a power cut may leave in the middle of a driver, and reads them.

    python experiments/reliability/crash_states.py [--drivers=NAME,…] [--reruns=2] [--seed=0]

Needs strace. Every driver of both systems runs on small simulated logs, first undisturbed and then
under strace, in a directory where an earlier run has left its results. From the recorded system
calls come the states that a crash after any of them may leave (`crashes.py` says which). In each
state every file with its final name must hold bytes that were published under that name and be
readable; a file that existed before and after the run must exist; datasets must load, and exports
pass their checksums. Some states, drawn by a seed, are written back, hidden files included; the
driver runs again in them, and must end with what the undisturbed run gave, to the last bit.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

import crashes
import kill_many
from wholeness import APPENDED, read

from mmnet.files import write_atomic

LOGS = (*APPENDED, ".trace.json.gz", "/log/", "tensorboard/")


OTHER = {
    "prepare": ["--min_test_rows=31"],
    "evaluate": ["--test_missing_rate=0.3"],
    "predict": ["--explain"],
    "drift": ["--checked=21"],
    "experiment": ["--replicates=101"],
    "mma4ctr.prepare": ["--min_rows=21"],
    "mma4ctr.experiment": ["--evaluate_at=1,3"],
}
"""Flags with which a driver replaces its results by different ones."""


def results(driver, place):
    """What a driver writes."""
    clicks = place / "clicks"
    match driver:
        case "prepare":
            return [place / "dataset"]
        case "train":
            return [place / "run"]
        case "evaluate":
            return [place / "read/run/evaluation"]
        case "predict":
            return [place / "scores.parquet"]
        case "drift":
            return [place / "drift"]
        case "experiment":
            return [place / "cells", place / "results"]
        case "encode":
            return [place / "vectors", place / "encoded"]
        case "mma4ctr.prepare":
            return [clicks / "dataset"]
        case "mma4ctr.train":
            return [clicks / "run"]
        case "mma4ctr.evaluate":
            return [place / "read/clicks_run/evaluation"]
        case "mma4ctr.predict":
            return [clicks / "scores.parquet"]
        case "mma4ctr.experiment":
            return [clicks / "cells", clicks / "results"]
    raise AssertionError(driver)


def traced(driver, arguments, victim, trace, log):
    """Runs a driver under strace; returns its disk before the run, and its calls."""
    disk = crashes.Disk(victim)
    command = [sys.executable, "-m", f"mmnet.{driver}", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(kill_many.ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    code, calls = crashes.record(command, trace, env=environment, stdout=log, stderr=log)
    if code:
        raise kill_many.ended(driver, code, log)
    shutil.rmtree(trace)
    return disk, calls


def unreadable(trees, place):
    """Writes trees and reads what is visible in them; returns what is wrong."""
    from mmnet.data import dataset
    from mmnet.mma4ctr.data import dataset as interactions
    from mmnet.serving import checksums

    problems, seen = [], set()
    for tree in trees:
        new = {path: content for path, content in tree.items() if (path, content) not in seen}
        files = {path for path, content in new.items() if content is not None}
        files = {path for path in files if crashes.visible(path)}
        files = {path for path in files if not any(mark in path for mark in LOGS)}
        if not files:
            continue
        shutil.rmtree(place, ignore_errors=True)
        crashes.write(tree, place)
        for path in sorted(files):
            try:
                read(place / path)
            except Exception as error:
                problems.append(f"{path} cannot be read: {error!r}")
        for path in sorted(tree):
            where = (place / path).parent
            try:
                if path.endswith("dataset/dataset.json") and crashes.visible(path):
                    (interactions if "clicks" in path else dataset).STORE.load(where)
                if path.endswith(checksums.FILE) and crashes.visible(path):
                    export = (place / path.removesuffix(checksums.FILE)).resolve()
                    problems += [f"{path}: {one}" for one in checksums.problems(export)]
            except Exception as error:
                problems.append(f"{path} cannot be loaded: {error!r}")
        seen |= set(new.items())
    return list(dict.fromkeys(problems))


def shortened(names):
    """One cell of the table for a list of names or problems."""
    return "; ".join(name.replace("|", "/") for name in names[:3]) + (
        f"; and {len(names) - 3} more" if len(names) > 3 else ""
    )


def examine(driver, again, directory, flags, log):
    """One row of the table: what the crashes of one driver leave.

    The first time it runs where it has never run; again, with other flags, over its results.
    """
    victim = directory / "victim"
    arguments = kill_many.commands(victim)[driver] + (OTHER[driver] if again else [])
    if not again:
        for path in results(driver, victim):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    disk, calls = traced(driver, arguments, victim, directory / "trace", log)
    disk.keep(calls)
    states, problems, trees = crashes.torn(disk, calls, LOGS)
    problems += unreadable(trees, directory / "read")
    gone = crashes.lost(disk, calls, LOGS)
    draws = random.Random(f"{flags.seed} {driver}")
    kept = directory / "kept"
    victim.rename(kept)
    reruns = [] if again else draws.sample(trees, min(flags.reruns, len(trees)))
    for tree in reruns:
        shutil.rmtree(victim, ignore_errors=True)
        crashes.write(tree, victim)
        code = kill_many.start(driver, arguments, log).wait()
        if code:
            problems.append(f"a run in a state that a crash left ended with exit code {code}")
        else:
            problems += kill_many.different(directory / "reference", victim, [driver])
    shutil.rmtree(victim, ignore_errors=True)
    kept.rename(victim)
    shutil.rmtree(directory / "read", ignore_errors=True)
    name = f"{driver}, over its results" if again else driver
    print(name, states, len(trees), problems, gone, flush=True)
    return name, len(calls), states, len(trees), problems, gone, len(reruns)


def main():
    """Examines the drivers, and writes what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--drivers", default="")
    parser.add_argument("--reruns", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default=str(Path(__file__).with_suffix(".md")))
    flags = parser.parse_args()
    if shutil.which("strace") is None:
        sys.exit("strace is not installed; Debian has it as a package of that name")
    with tempfile.TemporaryDirectory() as directory:
        directory = Path(directory).resolve()
        kill_many.set_up(directory)
        chosen = flags.drivers.split(",") if flags.drivers else kill_many.commands(directory)
        with (directory / "log.txt").open("ab") as log:
            kill_many.run_through(directory / "reference", log, kill_many.needed(chosen))
            shutil.copytree(directory / "reference", directory / "victim", dirs_exist_ok=True)
            rows = [
                examine(driver, again, directory, flags, log)
                for driver in chosen
                for again in ([False, True] if driver in OTHER else [False])
            ]
    broken = [row for row in rows if row[4] or row[5]["ordered"]]
    text = "\n".join(
        [
            "# The states that a power cut may leave\n",
            f"`python experiments/reliability/crash_states.py --reruns={flags.reruns} "
            f"--seed={flags.seed}`\n",
            f"{len(rows)} runs of {len(set(chosen))} drivers, {sum(row[2] for row in rows)} "
            f"different states. In {len(rows) - len(broken)} of the runs every file with its "
            "final name was whole in each state, none was missing, every dataset loaded, every "
            "export passed its checksums, and nothing was lost after the end; runs that started in "
            f"{sum(row[6] for row in rows)} of the states ended with what an "
            "undisturbed run gives, bit for bit.\n",
            "*Lost after the end* counts files of a finished driver that a power cut right after "
            "its exit may take back: where directory entries reach the disk in order (ext4, XFS, "
            "Btrfs), and where POSIX alone is promised.\n",
            "| driver | calls | states | visible trees | problems | lost after the end, "
            "in order | … by POSIX alone |",
            "| --- | ---: | ---: | ---: | --- | --- | --- |",
            *(
                f"| {driver} | {calls} | {states} | {trees} | {shortened(problems) or 'none'} "
                f"| {shortened(gone['ordered']) or 'none'} "
                f"| {shortened(gone['unordered']) or 'none'} |"
                for driver, calls, states, trees, problems, gone, _ in rows
            ),
            "",
        ]
    )
    write_atomic(flags.output, text)
    print(text)
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
