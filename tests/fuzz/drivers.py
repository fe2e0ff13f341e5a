"""Whole drivers as processes, in a small world of which one or two things are disturbed.

Most start as a fork of an interpreter that has imported what all of them need, and runs the
driver's module as `python -m` does; one seed of `OWN_PROCESS` is a process of its own.
"""

import contextlib
import ctypes
import hashlib
import importlib
import io
import itertools
import os
import random
import re
import resource
import runpy
import shutil
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from mmnet import config, driver
from mmnet.mma4ctr import config as clicks_config
from tests import autograph_files
from tests.fuzz import disturbances, worlds
from tests.fuzz.outcomes import LONGEST, REFUSED, WELL, check_ledger, is_expected

OWN_PROCESS = 16
MOST_SECONDS = 150
MOST_MEMORY = 24 << 30  # of addresses
DRIFT = 3
"""The exit code of `mmnet.drift` where there is some."""


@dataclass(frozen=True)
class Command:
    """A command line that ends well in an undisturbed world.

    Attributes:
        name: of the driver's module.
        flags: of the command line.
        needs: what it reads, in the world.
        made: what it makes.
        kept: patterns of what may be there after a refusal as well: whole, and used again.
    """

    name: str
    flags: tuple[str, ...]
    needs: tuple[str, ...]
    made: tuple[str, ...]
    kept: tuple[str, ...] = ()

    @property
    def world(self):
        return "clicks" if "mma4ctr" in self.name else "share_rates"

    @property
    def config(self):
        module = clicks_config if self.world == "clicks" else config
        return getattr(module, f"{self.name.rpartition('.')[2].title()}Config")


TABLES, EVENTS = ("counts.csv", "items.csv"), ("events.csv", "items.csv")
SCORED = ("--counts=counts.csv", "--items=items.csv")
PARQUET = ("--counts=counts.parquet", "--items=items.parquet", *worlds.TABLES[2:])
EXPERIMENT = ("--experiment=experiment",)
CACHE = r"(cache|static)(/|$)"
CELLS = r"(cells|new)(/|$)"

COMMANDS = [
    Command("mmnet.prepare", (*worlds.TABLES, "--dataset_dir=new"), TABLES, ("new",)),
    Command("mmnet.prepare", (*worlds.EVENTS, "--dataset_dir=new"), EVENTS, ("new",)),
    Command(
        "mmnet.prepare",
        (*PARQUET, "--dataset_dir=new"),
        ("counts.parquet", "items.parquet"),
        ("new",),
    ),
    Command("mmnet.train", (*worlds.TABLES, "--model=ha", "--run_dir=new"), TABLES, ("new",)),
    Command(
        "mmnet.train",
        ("--dataset_dir=dataset", "--model=smoothed_history", "--run_dir=new"),
        ("dataset",),
        ("new",),
    ),
    Command(
        "mmnet.train",
        ("--dataset_dir=dataset", "--outputs=predictions", *worlds.TINY, "--run_dir=new"),
        ("dataset",),
        ("new",),
    ),
    Command("mmnet.evaluate", ("--run_dir=short",), ("dataset", "short"), ("short",)),
    Command("mmnet.evaluate", ("--run_dir=run",), ("dataset", "run"), ("run",)),
    Command(
        "mmnet.predict",
        ("--saved_model=run/export", *SCORED, "--output=scores.parquet"),
        (*TABLES, "run/export"),
        ("scores.parquet",),
    ),
    Command(
        "mmnet.predict",
        ("--saved_model=run/export", "--dataset_dir=dataset", "--output=scores.parquet"),
        ("dataset", "run/export"),
        ("scores.parquet",),
    ),
    Command(
        "mmnet.predict",
        ("--saved_model=run/export", *SCORED, "--output=scores", "--static_cache=static"),
        (*TABLES, "run/export"),
        ("scores", "static"),
        (CACHE,),
    ),
    Command("mmnet.predict", ("--saved_model=run/export", "--verify"), ("run/export",), ()),
    Command(
        "mmnet.predict",
        ("--saved_model=run/export", *SCORED, "--ranking_features=ranking.parquet"),
        (*TABLES, "run/export"),
        ("ranking.parquet",),
    ),
    Command(
        "mmnet.nightly",
        (*worlds.TABLES, "--model=smoothed_history", "--models=new"),
        TABLES,
        ("new",),
    ),
    Command(
        "mmnet.encode",
        (*worlds.PICTURES, "--output=vectors"),
        ("items.csv", "pictures", "network"),
        ("vectors", "cache"),
        (CACHE,),
    ),
    Command(
        "mmnet.drift",
        ("--saved_model=run/export", *SCORED, "--output=drift"),
        (*TABLES, "run/export"),
        ("drift",),
    ),
    Command(
        "mmnet.drift",
        ("--saved_model=run/export", "--dataset_dir=dataset", "--output=drift"),
        ("dataset", "run/export"),
        ("drift",),
    ),
    Command(
        "mmnet.experiment",
        EXPERIMENT,
        (*TABLES, "experiment", "cells"),
        ("experiment/results", "cells"),
        (CELLS,),
    ),
    Command(
        "mmnet.experiment",
        (*EXPERIMENT, "--cells=new", "--table=Two: last_rate"),
        (*TABLES, "experiment"),
        ("experiment/results", "new"),
        (CELLS,),
    ),
    Command("mmnet.mma4ctr.prepare", (*worlds.LOG, "--dataset_dir=new"), ("source",), ("new",)),
    Command(
        "mmnet.mma4ctr.train",
        ("--dataset_dir=dataset", "--model=lr", *worlds.FAST, "--run_dir=new"),
        ("dataset",),
        ("new",),
    ),
    Command(
        "mmnet.mma4ctr.train",
        (*worlds.LOG, "--outputs=predictions", *worlds.FAST, "--run_dir=new"),
        ("source",),
        ("new",),
    ),
    Command(
        "mmnet.mma4ctr.predict",
        ("--saved_model=run/export", "--pairs=pairs.csv", "--output=scores.parquet"),
        ("pairs.csv", "run/export"),
        ("scores.parquet",),
    ),
    Command("mmnet.mma4ctr.predict", ("--saved_model=run/export", "--verify"), ("run/export",), ()),
    Command("mmnet.mma4ctr.evaluate", ("--run_dir=run",), ("dataset", "run"), ("run",)),
    Command(
        "mmnet.mma4ctr.experiment",
        EXPERIMENT,
        ("dataset", "experiment", "cells"),
        ("experiment/results", "cells"),
        (CELLS,),
    ),
]
NAMES = list(dict.fromkeys(one.name for one in COMMANDS))


# ------------------------------------------------------------------------------- processes


def ready(world):
    """Imports what the drivers need, without an operation of TensorFlow: forks go on from here."""
    os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "OMP_NUM_THREADS": "1"}
    os.environ |= {"OMP_WAIT_POLICY": "PASSIVE", "TF_CPP_MIN_LOG_LEVEL": "3"}
    for name in ("duckdb", "pandas", "mmnet.tasks", "matplotlib.pyplot", "mmnet.tasks.training"):
        importlib.import_module(name)
    for name in ("mma4ctr.tasks", "mma4ctr.system", "serving.bundle", "serving.catalogue"):
        importlib.import_module(f"mmnet.{name}")
    return world


def start(command, place, out, err):
    """Starts a driver in a directory; returns the process id."""
    with contextlib.ExitStack() as opened:
        streams = [opened.enter_context(path.open("wb")) for path in (out, err)]
        process = os.fork()
        if process:
            return process
        code = 99
        try:
            os.setsid()
            os.chdir(place)
            for number, stream in enumerate(streams, 1):
                os.dup2(stream.fileno(), number)
            _as_a_user()
            resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
            code = _become(command)
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()
                autograph_files.remove()
            os._exit(code)


def _become(command):
    name, own, *flags = command
    if own:
        root = str(Path(__file__).parents[2])
        os.environ["PYTHONPATH"] = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
        os.execv(sys.executable, [sys.executable, "-m", name, *flags])
    sys.stdout, sys.stderr = (io.TextIOWrapper(io.FileIO(n, "w"), "utf-8") for n in (1, 2))
    sys.argv = [name, *flags]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        return ended.code
    return 98


def _as_a_user():
    """Takes from root what lets it read and write files without a permission (Linux)."""
    if os.geteuid() == 0 and sys.platform == "linux":
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)
        sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable, twice: none
        ctypes.CDLL(None).capset(header, sets)
        bound = ctypes.CDLL(None).prctl
        for capability in range(41):
            bound(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP, for what it starts


def wait(process, seconds=MOST_SECONDS):
    """The exit code; after too long a time the process and its children are killed."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)
    raise AssertionError(f"it still ran after {seconds} s")


# ---------------------------------------------------------------------------------- checks


def check(seed, place, world):
    """Runs one driver in a disturbed copy of its world."""
    draws = random.Random(seed)
    name = NAMES[seed % len(NAMES)]  # each as often
    command = draws.choice([one for one in COMMANDS if one.name == name])
    place.mkdir()
    try:
        here = place / "here"
        flags, done = disturbed(command, here, world, draws)
        before = contents(here)
        own = draws.randrange(OWN_PROCESS) == 0
        out, err = place / "out", place / "err"
        try:
            code = wait(start([name, own, *flags], here, out, err))
            printed, said = (path.read_text(errors="replace") for path in (out, err))
            judge(command, code, printed, said, before, contents(here), flags)
            if code in (driver.OK, DRIFT):
                check_scores(here, command.made)
                whole = "counts.csv" in command.needs and not any(map(CHANGES_ROWS.match, done))
                check_ledger(printed, worlds.ROWS[command.world] if whole else None)
        except AssertionError as error:
            own_words = f"python -m {name} {' '.join(map(repr, flags))}\n  disturbed: {done}"
            raise AssertionError(f"{error}\n  {own_words}") from None
    finally:
        _remove(place)
    return REFUSED if code == driver.WRONG_INPUT else WELL


CHANGES_ROWS = re.compile(r"counts\.csv|items\.csv|.*--")


def disturbed(command, here, world, draws):
    """Copies the world and disturbs it; returns the flags, and what was done."""
    here.mkdir()
    for name in command.needs:
        source = world.parent / command.world / name
        if source.is_dir():
            shutil.copytree(source, here / name)
        else:
            (here / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, here / name)
    flags, done = command.flags, []
    for _ in range(draws.choice([0, 1, 1, 1, 1, 2, 2, 3])):
        kind = draws.choice(["file", "file", "file", "directory", "flags", "flags", "output"])
        if kind == "flags":
            flags, what = disturbances.disturb_flags(flags, draws, command.config)
        elif kind == "output" and command.made:
            name = draws.choice(command.made)
            what = f"{name}: {disturbances.disturb_output(here / name, draws)}"
        elif kind == "directory":
            places = [path for name in command.needs if (path := here / name).is_dir()]
            places += [path for one in places for path in one.rglob("*") if path.is_dir()]
            places = [path for path in places if os.access(path, os.R_OK)]
            if not places:
                continue
            path = draws.choice(sorted(places))
            what = f"{path.relative_to(here)}: {disturbances.disturb_directory(path, draws)}"
        else:
            paths = disturbances.files_below(here, [draws.choice(command.needs)])
            if not paths:
                continue
            path = draws.choice(paths)
            what = f"{path.relative_to(here)}: {disturbances.disturb_file(path, draws)}"
        done.append(what)
    return flags, done


def contents(here):
    """Path -> what is there: the hash of a file, where a link leads, or `directory`."""
    found = {}
    for path in sorted(_below(here)):
        name = str(path.relative_to(here))
        if path.is_symlink():
            found[name] = f"link to {os.readlink(path)}"
        elif path.is_dir():
            found[name] = "directory"
        elif os.access(path, os.R_OK):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            found[name] = f"closed, {path.stat().st_size} bytes"
    return found


def _below(directory):
    for entry in os.scandir(directory) if os.access(directory, os.R_OK | os.X_OK) else ():
        yield Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            yield from _below(entry.path)


def judge(command, code, printed, said, before, after, flags=()):
    """Asserts that a driver ended as it should.

    Args:
        command: that was run, undisturbed.
        code: its exit code.
        printed: on stdout.
        said: on stderr.
        before: what the directory had, see `contents`.
        after: what it has.
        flags: that were given.
    """
    assert "Traceback" not in said + printed, f"exit code {code}: {said[-3000:]}"
    assert "Warning: " not in said, f"exit code {code}: {said[-3000:]}"
    assert code in (driver.OK, driver.WRONG_INPUT, DRIFT), f"exit code {code}: {said[-2000:]}"
    assert code != DRIFT or command.name.endswith("drift"), f"exit code {code}"
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    half = [name for name in after.keys() - before.keys() if "/." in f"/{name}"]
    assert not half, f"left: {half}"
    if code == driver.WRONG_INPUT:
        lines = said.strip("\n").split("\n")
        last = next((n for n, line in enumerate(lines) if line.startswith("error: ")), None)
        assert last is not None, f"no sentence: {said}"
        sentence = lines[last].removeprefix("error: ")
        more = lines[last + 1 :]
        assert not more or "Last lines of" in sentence, f"lines after the sentence: {said}"
        assert sentence.isprintable(), repr(sentence)
        assert 12 < len(sentence) <= LONGEST, f"{len(sentence)} characters: {sentence}"
        strange = [line for line in lines[:last] if not is_expected(line)]
        assert not strange, f"stderr: {said}"
        kept = [re.compile(pattern) for pattern in command.kept]
        changed = {name for name in changed if not any(one.match(name) for one in kept)}
        changed.discard("runs")
        if "choose another" in sentence:  # one of several files could not be written
            changed = {name for name in changed if not _is_below(name, command.made)}
        assert not changed, f"refused ({sentence}), but {_difference(changed, before, after)}"
        return
    outputs = {*command.made, *(flag.partition("=")[2] for flag in flags if OUTPUT.match(flag))}
    outputs |= {"runs", "scores.parquet", "drift"}
    inputs = {name for name in changed & before.keys() if not _is_below(name, outputs)}
    assert not inputs, f"inputs changed: {_difference(inputs, before, after)}"


def _is_below(name, places):
    return any(name == one or name.startswith(f"{one}/") for one in places)


OUTPUT = re.compile(
    r"--?(output|dataset_dir|run_dir|results|cells|ranking_features|static_cache|encoder_cache"
    r"|engine_spill|engine)="
)


def _difference(names, before, after):
    return ", ".join(
        f"{name}: {before.get(name, 'nothing')[:20]} -> {after.get(name, 'nothing')[:20]}"
        for name in sorted(names)[:8]
    )


SCORES = re.compile(r"(predicted_)?(share_rate|score)|(calibrated_)?probability|lower|upper")


def check_scores(here, made):
    """Asserts that every score that was written is a number."""
    for name in made:
        place = here / name
        paths = [place] if place.is_file() else [p for p in _below(place)] if place.is_dir() else []
        for path in paths:
            if path.suffix != ".parquet" or path.is_symlink():
                continue
            table = pq.read_table(path, partitioning=None)
            for column in filter(SCORES.fullmatch, table.column_names):
                values = table.column(column).to_numpy()
                assert np.isfinite(values.astype("f8")).all(), f"{path.name}: {column} has NaN"


def _remove(place):
    for path in itertools.chain([place], _below(place)):  # each before what is in it
        if not path.is_symlink():
            with contextlib.suppress(OSError):
                path.chmod(0o700)
    shutil.rmtree(place)
