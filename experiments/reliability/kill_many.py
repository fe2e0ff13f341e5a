"""Ends the drivers by signals at random moments, many times, and looks at what they leave.

    python experiments/reliability/kill_many.py [--kills=60] [--minutes=M] [--seed=0]
        [--signals=KILL,TERM,INT] [--forked] [--drivers=predict,drift] [--few=N]
        [--output=FILE]

First every driver of both systems, or those asked for and what they read from, runs once
undisturbed, on small simulated logs. `--few` leaves N of them, which the seed chooses. Then, again
and again, one of them is started in a directory that earlier kills have left behind, and sent a
signal after a random time. Half of the SIGKILLs also kill the processes that it started. After
SIGTERM and SIGINT the driver must end by itself with exit code 130 within a minute, or by the
signal if it had not come beyond its imports, and leave no temporary file that was not there before.
After each signal every file with its final name is read to its end. At last all drivers that were
killed run through in the directories of the victims, and what they end with must be what the
undisturbed ones gave: weights, scores, metrics, datasets, vectors and tables to the last bit, and
exports that score as they should. Runs with several seeds, also at the same time, become one page
by `kill_pages.py`.

With `--forked` a driver is not a new interpreter but a fork of one that has imported TensorFlow and
executed nothing, so that its imports take no time and more signals meet it at work.
"""

import argparse
import atexit
import json
import multiprocessing
import multiprocessing.reduction
import os
import random
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.csv as csv
import pyarrow.parquet as pq
import refusing
from kill_pages import page
from wholeness import Wholeness

from mmnet.checks import InputError
from mmnet.files import only_one, write_atomic

ROOT = Path(__file__).resolve().parents[2]

LOG = [
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
ROWS = ["--table=One: ha, smoothed_history", "--seeds=0"]
ROWS += ["--reference=ha", "--replicates=100"]

CLICKS = ["--generate=users=100", "--generate=feeds=250", "--generate=rows=15000"]
CLICKS += ["--generate=rate=0.05", "--generate=text_scale=0.03", "--min_rows=20"]
CLICK_TRAINING = ["--epochs=4", "--batch_size=1024", "--jit=false", "--deterministic"]
CLICK_ROWS = ["--row=A: --matrix=visual", "--row=B: --matrix=none --user_features=rate"]
CLICK_ROWS += ["--seeds=0,1", "--evaluate_at=1,4", "--figure=epochs"]


def commands(place):
    """Driver -> its arguments, all below one directory, in the order they build on each other.

    Each writes where no other reads: what is read is a copy of the undisturbed one's.
    """
    dataset, run, clicks = place / "read/dataset", place / "read/run", place / "clicks"
    scored = [f"--saved_model={run / 'export'}", f"--dataset_dir={dataset}"]
    of_clicks = [f"--dataset_dir={place / 'read/clicks'}"]
    encoder = [f"--text_handle={place.parent / 'bert'}", "--text_encoder=hub", "--text_pieces=32"]
    return {
        "prepare": [*LOG, f"--dataset_dir={place / 'dataset'}"],
        "train": [*TRAINING, f"--dataset_dir={dataset}", f"--run_dir={place / 'run'}"],
        "evaluate": [f"--run_dir={run}", f"--dataset_dir={dataset}"],
        "predict": [*scored, "--rule=stored", f"--output={place / 'scores.parquet'}"],
        "drift": [*scored, "--checked=20", "--volume=100", f"--output={place / 'drift'}"],
        "experiment": [
            *(*LOG, *ROWS, f"--cells={place / 'cells'}", f"--results={place / 'results'}"),
        ],
        "encode": [
            *(f"--items={place.parent / 'items.csv'}", "--texts=title", *encoder),
            *(f"--encoder_cache={place / 'vectors'}", f"--output={place / 'encoded'}"),
        ],
        "mma4ctr.prepare": [*CLICKS, f"--dataset_dir={clicks / 'dataset'}"],
        "mma4ctr.train": [*of_clicks, *CLICK_TRAINING, f"--run_dir={clicks / 'run'}", "--resume"],
        "mma4ctr.evaluate": [*of_clicks, f"--run_dir={place / 'read/clicks_run'}"],
        "mma4ctr.predict": [
            *(
                f"--saved_model={place / 'read/clicks_run/export'}",
                f"--pairs={place / 'pairs.csv'}",
            ),
            f"--output={clicks / 'scores.parquet'}",
        ],
        "mma4ctr.experiment": [
            *(*of_clicks, *CLICK_TRAINING, *CLICK_ROWS, f"--cells={clicks / 'cells'}"),
            f"--results={clicks / 'results'}",
        ],
    }


COPIED = {
    "prepare": ("dataset", "read/dataset"),
    "train": ("run", "read/run"),
    "mma4ctr.prepare": ("clicks/dataset", "read/clicks"),
    "mma4ctr.train": ("clicks/run", "read/clicks_run"),
}
"""What other drivers read, and where."""


def needed(drivers):
    """The drivers, and those before them that they read from."""
    sources = {"mma4ctr": {"mma4ctr.prepare", "mma4ctr.train"}, "": {"prepare", "train"}}
    wanted = set(drivers)
    for driver in drivers:
        if driver not in ("encode", "experiment"):
            wanted |= sources["mma4ctr" if driver.startswith("mma4ctr") else ""]
    return wanted


class Forked:
    """A driver in a fork of a process that has imported TensorFlow; used like a `Popen`.

    Its errors go to another file if one is given, and `report` is a descriptor for `refusing`.
    """

    def __init__(self, driver, arguments, log, environment, errors=None, report=None):
        own = [
            None if one is None else multiprocessing.reduction.DupFd(one)
            for one in (errors and errors.fileno(), report)
        ]
        given = driver, arguments, log.name, environment, *own
        self._process = FORKS.Process(target=in_fork, args=given)
        self._process.start()
        self.pid = self._process.pid

    def wait(self, timeout=None):
        """Waits for its end; returns the exit code."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout)
        return self._process.exitcode

    def send_signal(self, number):
        """Sends a signal to this process only."""
        os.kill(self.pid, number)

    def kill(self):
        """Sends SIGKILL to this process only."""
        self._process.kill()


FORKS = multiprocessing.get_context("forkserver")


def in_fork(driver, arguments, log, environment, errors, report):
    """Runs a driver as `python -m` does; called in the forked process."""
    os.setsid()
    with open(log, "ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if errors is not None:
        os.dup2(errors.detach(), 2)
    if report is not None:
        refusing.report_to(report.detach())
    os.environ.update(environment)
    tempfile.tempdir = None  # it may have been looked up before
    sys.argv = [driver, *arguments]
    try:
        runpy.run_module(f"mmnet.{driver}", run_name="__main__", alter_sys=True)
    except KeyboardInterrupt:  # before the driver could handle it: Python ends by the signal
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    finally:
        atexit._run_exitfuncs()  # which a fork of `multiprocessing` leaves out


def start(driver, arguments, log, **environment):
    """A driver in a process of its own, which leads a group of its own."""
    own = {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment = {**os.environ, **own, **environment}
    if start.forked:
        return Forked(driver, arguments, log, environment)
    return subprocess.Popen(
        [sys.executable, "-m", f"mmnet.{driver}", *arguments],
        env=environment,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


start.forked = False


def fork_from_now_on():
    """Drivers become forks of a process that imports once what they need."""
    paths = [str(ROOT), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    FORKS.set_forkserver_preload(["imported"])
    start.forked = True


def ended(driver, code, log):
    """The error for a driver that ended badly by itself."""
    tail = "\n".join(Path(log.name).read_text(errors="replace").splitlines()[-20:])
    return SystemExit(f"{tail}\n{driver} ended with exit code {code} by itself")


def run_through(place, log, drivers):
    """Runs drivers to their end; returns driver -> seconds."""
    seconds = {}
    for driver, arguments in commands(place).items():
        if driver not in drivers:
            continue
        began = time.monotonic()
        code = start(driver, arguments, log).wait()
        if code:
            raise ended(driver, code, log)
        seconds[driver] = time.monotonic() - began
        written, read = COPIED.get(driver, ("", ""))
        if read and not (place / read).exists():
            shutil.copytree(place / written, place / read)
    return seconds


def set_up(directory):
    """What drivers read that no driver writes: an encoder, titles, and pairs to score."""
    sys.path.insert(0, str(ROOT))
    from mmnet.data.sources import simulated
    from tests.encoders import tiny_bert

    tiny_bert.write(directory / "bert")
    items = simulated.simulate(items=300, periods=3, clicks=1000).items
    csv.write_csv(items.select(["item_id", "title"]), directory / "items.csv")
    for place in ("reference", "victim"):
        text = "user_id,item_id\n" + "".join(f"{n},{n}\n" for n in range(500))
        write_atomic(directory / place / "pairs.csv", text)


def disturb(driver, place, draws):
    """Takes away what would let a driver end at once, so that the kill meets it at work."""
    if draws.random() < 0.3:
        return
    match driver:
        case "prepare":
            changed(place / "dataset/dataset.json")
        case "mma4ctr.prepare":
            changed(place / "clicks/dataset/dataset.json")
            if draws.random() < 0.5:
                (place / "clicks/dataset/raw/generated.json").unlink(missing_ok=True)
        case "train" | "mma4ctr.train":
            shutil.rmtree(place / ("run" if driver == "train" else "clicks/run"), True)
        case "experiment" | "mma4ctr.experiment":
            where = place if driver == "experiment" else place / "clicks"
            shutil.rmtree(where / "results", ignore_errors=True)
            for cell in sorted((where / "cells").glob("*")):
                if draws.random() < 0.5:
                    shutil.rmtree(cell) if cell.is_dir() else cell.unlink()
        case "encode":
            shutil.rmtree(place / "vectors", ignore_errors=True)


def changed(about):
    """Makes a dataset one of other files."""
    if about.exists():
        document = json.loads(about.read_text(encoding="utf-8"))
        write_atomic(about, json.dumps(document | {"fingerprint": "of other files"}))


def kill(process, everything, victim):
    """SIGKILL to a process, or to all that it started too; returns when no cell is at work."""
    os.killpg(process.pid, signal.SIGKILL) if everything else process.kill()
    process.wait()
    for cells in (victim / "cells", victim / "clicks/cells"):
        while cells.exists():
            try:  # a cell that has lost its parent goes on to its end, and holds the lock as long
                with only_one(cells, "in use"):
                    break
            except InputError:
                time.sleep(0.2)


IMPORTING = (-signal.SIGTERM, -signal.SIGINT)
"""Exit codes of a driver that a signal met before it could handle one."""


def asked_to_end(process, number, log):
    """Sends SIGTERM or SIGINT; returns what is wrong with how the driver ended, if anything."""
    process.send_signal(number)
    try:
        code = process.wait(60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return "was still running a minute later"
    if code in (0, 3, 130, *IMPORTING):
        return ""
    lines = Path(log.name).read_text(errors="replace").splitlines()[-30:]
    print("\n".join(lines), file=sys.stderr, flush=True)
    return f"ended with exit code {code}: {lines[-1][:200] if lines else 'nothing was printed'}"


def hidden(place):
    """Files and directories that wait for their names."""
    return {path for path in place.rglob(".*") if path.name != ".cache"}


def outcome(driver, place):
    """What two runs of a driver must agree in to the last bit: name -> bytes, arrays, tables."""
    run, clicks = place / "run", place / "clicks"
    match driver:
        case "prepare":
            return arrays(*sorted((place / "dataset").glob("*/*.npy")))
        case "train":
            return arrays(run / "checkpoints/best.npz") | texts(run / "evaluation/metrics.json")
        case "evaluate":
            return texts(place / "read/run/evaluation/metrics.json")
        case "predict":
            return {"scores": pq.read_table(place / "scores.parquet")}
        case "drift":
            return texts(place / "drift/drift.json")
        case "experiment":
            return texts(*(place / "results" / f"{name}" for name in ("one.csv", "claims.json")))
        case "encode":
            return {"vectors": pq.read_table(place / "encoded/title.parquet")}
        case "mma4ctr.prepare":
            return arrays(*sorted((clicks / "dataset").glob("*/*.npy")))
        case "mma4ctr.train":
            served = pq.read_table(clicks / "run/evaluation/predictions.parquet")
            found = arrays(clicks / "run/weights.npz") | {"predictions": served}
            return found | texts(clicks / "run/evaluation/metrics.json")
        case "mma4ctr.evaluate":
            return texts(place / "read/clicks_run/evaluation/metrics.json")
        case "mma4ctr.predict":
            return {"scores": pq.read_table(clicks / "scores.parquet")}
        case "mma4ctr.experiment":
            return texts(clicks / "results/results.md")
    raise AssertionError(driver)


def texts(*paths):
    """Contents of files by their names."""
    return {path.name: path.read_text(encoding="utf-8") for path in paths}


def arrays(*paths):
    """Bytes of arrays by the names of their files, and of their places in them."""
    found = {"files": [path.name for path in paths]}
    for path in paths:
        loaded = np.load(path, allow_pickle=False)
        members = loaded if path.suffix == ".npz" else {"": loaded}
        for name in members:
            found[f"{path.name}/{name}"] = (members[name].shape, members[name].tobytes())
    return found


def different(reference, victim, drivers):
    """Names whatever the two places differ in."""
    found = []
    for driver in drivers:
        wanted, came = outcome(driver, reference), outcome(driver, victim)
        names = sorted({*wanted, *came})
        found += [f"{driver}: {n}" for n in names if wanted.get(n) != came.get(n)]
    return found


def signalled(driver, victim, seconds, number, draws, log):
    """Starts a driver and sends it a signal; returns when, and what is wrong, or None if it ended.

    What is wrong covers the driver's own end and temporary files, not the files with final names.
    """
    temporary = victim.parent / "temporary"
    temporary.mkdir(exist_ok=True)
    before = hidden(victim) | set(temporary.iterdir())
    delay = draws.uniform(0.4, 1.0) * seconds
    everything = draws.random() < 0.5
    process = start(driver, commands(victim)[driver], log, TMPDIR=str(temporary))
    try:
        if code := process.wait(delay):
            raise ended(driver, code, log)
        return None
    except subprocess.TimeoutExpired:
        pass
    if number == signal.SIGKILL:
        kill(process, everything, victim)
        return delay, ""
    problem = asked_to_end(process, number, log)
    left = (hidden(victim) | set(temporary.iterdir())) - before
    names = ", ".join(sorted(path.name for path in left))
    return delay, problem or (f"left {names}" if left else "")


def main():
    """Sends signals, looks, and writes what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--signals", default="KILL")
    parser.add_argument("--forked", action="store_true")
    parser.add_argument("--drivers", default="")
    parser.add_argument("--few", type=int, default=0)
    parser.add_argument("--output", default=str(Path(__file__).with_suffix(".md")))
    flags = parser.parse_args()
    if flags.forked:
        fork_from_now_on()
    draws = random.Random(flags.seed)
    until = time.monotonic() + 60 * flags.minutes
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    with tempfile.TemporaryDirectory() as directory:
        directory = Path(directory)
        reference, victim = directory / "reference", directory / "victim"
        set_up(directory)
        with (directory / "log.txt").open("ab") as log:
            asked = flags.drivers.split(",") if flags.drivers else [*commands(reference)]
            asked = draws.sample(asked, flags.few) if flags.few else asked
            seconds = run_through(reference, log, needed(asked))
            seconds = {driver: seconds[driver] for driver in asked}
            shutil.copytree(reference, victim, dirs_exist_ok=True)
            lines, turns, whole = [], [], Wholeness(victim)
            whole()
            while len(lines) < flags.kills and time.monotonic() < until:
                turns = turns or draws.sample(list(seconds), len(seconds))
                driver, name = turns.pop(), draws.choice(flags.signals.split(","))
                disturb(driver, victim, draws)
                number = signal.Signals[f"SIG{name}"]
                found = signalled(driver, victim, seconds[driver], number, draws, log)
                read = whole.read
                try:
                    whole()
                except AssertionError as error:
                    found = (found or (0, ""))[0], str(error).replace(str(victim), "")
                if found is None:  # it ended first: the next signal comes earlier
                    seconds[driver] *= 0.8
                else:
                    lines.append((name, driver, found[0], whole.read - read, found[1]))
            drivers = [name for name in seconds if name in {line[1] for line in lines}]
            run_through(victim, log, drivers)
            whole()
        differences = different(reference, victim, drivers)
        litter = sorted(str(path.relative_to(victim)) for path in hidden(victim))
        with (directory / "log.txt").open("ab") as log:
            export = f"--saved_model={victim / 'run/export'}"
            there = (victim / "run/export").exists()
            verified = start("predict", ["--verify", export], log).wait() if there else 0
    write_atomic(flags.output, page(flags, lines, drivers, differences, litter, verified))
    print("\n".join(Path(flags.output).read_text(encoding="utf-8").splitlines()[:9]))
    sys.exit(bool([line for line in lines if line[-1]] or differences or verified))


if __name__ == "__main__":
    main()
