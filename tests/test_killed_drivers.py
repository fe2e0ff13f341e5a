"""Five real signals; `experiments/reliability/kill_many.py` sends any number to all drivers."""

import csv
import io
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from experiments.reliability import kill_pages

SCRIPT = Path(__file__).parents[1] / "experiments" / "reliability" / "kill_many.py"


@pytest.mark.slow(first=True)
@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_five_kills_lose_and_break_nothing(tmp_path):
    log = tmp_path / "log.md"
    seed = os.getpid()  # other drivers and moments in every run; the log says which
    flags = ["--kills=5", "--few=3", f"--seed={seed}", "--signals=KILL,TERM", "--forked"]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *flags, f"--output={log}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr + (log.exists() and log.read_text())
    assert "drivers: 0 left a file with its final name" in log.read_text()


def test_pages_of_several_runs_become_one():
    asked = SimpleNamespace(kills=2, seed=1, signals="KILL,INT", forked=True)
    lines = [("KILL", "train", 1.5, 5, ""), ("INT", "encode", 2.0, 0, "left .a, b")]
    one = kill_pages.page(asked, lines, ["train", "encode"], [], [], 0)
    other = kill_pages.page(asked, lines[:1], ["train"], ["train: scores"], [], 0)
    text, rows = kill_pages.merged([one, other], "kill_many.csv")
    assert "3 signals in 2 runs. 2 SIGKILL, 1 SIGINT to 2 drivers: 1 left a file" in text
    assert "2 signals. After a restart, the drivers finished with the same results" in text
    assert "1 signals. After a restart" in text
    assert "except for train: scores" in text
    assert "| train | 2 | 0 | 10 |" in text
    assert "| INT | encode | 2.00 | left .a, b |" in text
    assert list(csv.reader(io.StringIO(rows)))[1:] == [
        ["1", "KILL", "train", "1.5", "5", ""],
        ["1", "INT", "encode", "2.0", "0", "left .a, b"],
        ["2", "KILL", "train", "1.5", "5", ""],
    ]


def test_another_page_is_not_merged():
    with pytest.raises(ValueError, match=r"not a page of kill_many\.py"):
        kill_pages.merged(["# Something else"], "kill_many.csv")
