"""A driver that exceeds `--memory` ends with a sentence and exit code 1, and leaves nothing."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mmnet import config, driver, memory_limit
from mmnet.checks import InputError
from mmnet.config import TableFlags
from mmnet.data import budgets, engines
from mmnet.memory_limit import VARIABLE, limited
from mmnet.mma4ctr import config as clicks

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

TASK = """
import signal, sys, time
from pathlib import Path
from mmnet import driver
from mmnet.config import EncodeConfig
from mmnet.files import scratch_directory, write_atomic, write_directory
from mmnet.memory_limit import private_bytes

how, place = sys.argv[1], Path(sys.argv[2])
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it

def write(beside):
    beside.touch()
    if how == "stubborn":  # as a call into C that takes minutes
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    held = []
    while how != "waits":
        held.append(b"x" * (256 << 20 if how == "locked" else 4 << 20))
        time.sleep(0.005)
    print("ready", flush=True)
    time.sleep(60)

def task(flags):
    if how == "returns":
        return 3
    with scratch_directory(place, ".events-"):
        write_directory(place / "dataset", lambda beside: write_atomic(place / "file.json", write))

limit = f"--memory={(private_bytes() >> 20) + 96}MB"
sys.exit(driver.run(EncodeConfig, "", task, [limit]))
"""
"""Holds more and more memory, in steps of 4 MB or, in one call that keeps Python's lock, 256 MB."""


@contextlib.contextmanager
def started(how, place):
    (place / "file.json").write_text("old")
    root = Path(__file__).parents[1]
    with subprocess.Popen(
        [sys.executable, "-c", TASK, how, str(place)],
        env=os.environ | {"PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
    assert [path.name for path in place.iterdir()] == ["file.json"]
    assert (place / "file.json").read_text() == "old"


@pytest.mark.parametrize("how", ["grows", "stubborn", "locked"])
def test_a_command_that_exceeds_its_memory_is_ended_and_leaves_nothing(tmp_path, how):
    with started(how, tmp_path) as process:
        out, told = process.communicate(timeout=60)
    assert (process.returncode, out) == (driver.WRONG_INPUT, "")
    assert told.startswith("error: memory exceeded --memory=")
    assert told.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_is_watched_is_interrupted_as_any_other(tmp_path, number):
    with started("waits", tmp_path) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.communicate(timeout=60) == ("", "interrupted\n")
    assert process.returncode == driver.INTERRUPTED


def test_the_exit_code_is_that_of_the_task(tmp_path):
    with started("returns", tmp_path) as process:
        assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == 3


def test_memory_of_child_processes_counts():
    before = set(memory_limit.descendants(os.getpid()))
    code = "held = b'x' * (64 << 20); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-IS", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        child.stdout.readline()
        assert set(memory_limit.descendants(os.getpid())) - before == {child.pid}
        # A bare interpreter has 10 MB of its own.
        assert 64 << 20 < memory_limit.private_bytes(child.pid) < 96 << 20
        child.communicate(b"\n")
    assert memory_limit.private_bytes(child.pid) == 0


def test_estimates_compare_with_the_limit(monkeypatch):
    monkeypatch.setenv(VARIABLE, "2GB")
    with limited("64MB"):
        assert budgets.memory() == 64 << 20
        with pytest.raises(
            InputError, match="need about 128 MB of memory, but only 64 MB are available;"
        ):
            budgets.check_memory(128 << 20, "rows", "read fewer")
    with limited("4GB"):
        assert budgets.memory() == 2 << 30
    assert os.environ[VARIABLE] == "2GB"
    with limited(""):
        assert budgets.memory() == 2 << 30


def test_an_engine_has_what_is_left_of_the_limit(monkeypatch, tmp_path):
    monkeypatch.setattr(memory_limit, "private_bytes", lambda process=None: 1 << 30)
    assert engines._memory(TableFlags(engine_memory="3GB")) == "3GB"
    assert engines._memory(TableFlags(memory="5GB")) == "2048MiB"
    assert engines._memory(TableFlags(memory="5GB", engine_memory="3GB")) == "3072MiB"
    assert engines._memory(TableFlags(memory="3GB", engine_memory="3GB")) == "2048MiB"
    assert engines._memory(TableFlags(memory="1GB")) == "64MiB"
    with pytest.raises(InputError, match="--engine_memory=6GB is above --memory=5GB; lower it"):
        engines._memory(TableFlags(memory="5GB", engine_memory="6GB"))
    with engines.connected(TableFlags(memory="5GB"), tmp_path) as engine:
        query = "SELECT value FROM duckdb_settings() WHERE name = 'memory_limit'"
        assert engine.backend.con.sql(query).fetchall() == [("2.0 GiB",)]


@pytest.mark.parametrize(
    "flags",
    [
        *(config.InspectConfig, config.PrepareConfig, config.TrainConfig, config.EncodeConfig),
        *(config.PredictConfig, config.DriftConfig, config.ExperimentConfig),
        *(clicks.PrepareConfig, clicks.TrainConfig, clicks.PredictConfig, clicks.ExperimentConfig),
    ],
)
@pytest.mark.parametrize(
    ("memory", "said"), [("much", "a size such as 8GB"), ("512kB", "1MB or more")]
)
def test_every_driver_that_reads_data_has_the_flag(flags, memory, said, capsys):
    assert driver.run(flags, "", lambda _: None, [f"--memory={memory}"]) == driver.WRONG_INPUT
    assert capsys.readouterr().err == f"error: --memory: must be {said}. Received: '{memory}'\n"
