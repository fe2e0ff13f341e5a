"""A driver that exceeds `--memory` ends with a sentence and exit code 1, and leaves nothing."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmnet import config, driver, memory_limit
from mmnet.checks import InputError
from mmnet.config import EncodeConfig, TableFlags
from mmnet.data import budgets, engines
from mmnet.files import scratch_directory, write_directory
from mmnet.memory_limit import VARIABLE, limited, private_bytes
from mmnet.mma4ctr import config as clicks

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

SPARE = 48 << 20
"""Bytes that a test may hold in addition; more than other threads of the tests take meanwhile."""


def above_now():
    return f"--memory={(private_bytes() + SPARE) >> 20}MB"


def grow(seconds=60):
    """Holds more and more memory, 4 MB at a time."""
    held, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        held.append(b"x" * (4 << 20))
        time.sleep(0.005)


def test_a_driver_that_exceeds_its_memory_leaves_nothing(tmp_path, capsys):
    def task(flags):
        with scratch_directory(tmp_path, ".events-"):
            write_directory(tmp_path / "dataset", lambda beside: grow())

    assert driver.run(EncodeConfig, "", task, [above_now()]) == driver.WRONG_INPUT
    told = capsys.readouterr().err
    assert told.startswith("error: memory exceeded --memory=")
    assert told.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
    assert VARIABLE not in os.environ


STUBBORN = """
import signal, sys, time
from pathlib import Path
from mmnet import driver
from mmnet.config import EncodeConfig
from mmnet.files import scratch_directory, write_atomic, write_directory
from mmnet.memory_limit import private_bytes

def grow(beside):
    beside.touch()
    held = []
    while True:
        held.append(b"x" * (4 << 20))
        time.sleep(0.005)

def task(flags):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as a call into C does that takes minutes
    place = Path(sys.argv[1])
    with scratch_directory(place, ".events-"):
        write_directory(place / "dataset", lambda beside: write_atomic(place / "file.json", grow))

limit = f"--memory={(private_bytes() >> 20) + 48}MB"
sys.exit(driver.run(EncodeConfig, "", task, [limit]))
"""


def test_a_task_that_does_not_end_is_ended_and_leaves_nothing(tmp_path):
    (tmp_path / "file.json").write_text("old")
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", STUBBORN, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (driver.WRONG_INPUT, "")
    assert done.stderr.startswith("error: memory exceeded --memory=")
    assert [path.name for path in tmp_path.iterdir()] == ["file.json"]
    assert (tmp_path / "file.json").read_text() == "old"


def test_memory_of_child_processes_counts():
    before = set(memory_limit._descendants())
    code = "held = b'x' * (64 << 20); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-IS", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        child.stdout.readline()
        assert set(memory_limit._descendants()) - before == {child.pid}
        # A bare interpreter has 10 MB of its own.
        assert 64 << 20 < memory_limit._private(child.pid) < 96 << 20
        child.communicate(b"\n")
    assert memory_limit._private(child.pid) == 0


def test_estimates_compare_with_the_limit(monkeypatch):
    monkeypatch.setenv(VARIABLE, "2GB")
    with limited("64MB"):
        assert budgets.memory() == 64 << 20
        with pytest.raises(InputError, match="need about 128 MB of memory, and there are 64 MB;"):
            budgets.check_memory(128 << 20, "rows", "read fewer")
    with limited("4GB"):
        assert budgets.memory() == 2 << 30
    assert os.environ[VARIABLE] == "2GB"
    with limited(""):
        assert budgets.memory() == 2 << 30


def test_an_engine_has_what_is_left_of_the_limit(monkeypatch, tmp_path):
    monkeypatch.setattr(memory_limit, "private_bytes", lambda: 1 << 30)
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
