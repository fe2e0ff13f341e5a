"""Five real signals; `experiments/reliability/kill_many.py` does it as often as one likes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "experiments" / "reliability" / "kill_many.py"


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_five_kills_lose_and_break_nothing(tmp_path):
    log = tmp_path / "log.md"
    seed = os.getpid()  # other moments in every run; the log says which
    flags = ["--kills=5", f"--seed={seed}", f"--output={log}", "--signals=KILL,TERM"]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *flags], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr + (log.exists() and log.read_text())
    assert "drivers: 0 left a file with its final name" in log.read_text()
