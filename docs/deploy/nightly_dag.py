"""The night as a task of Apache Airflow; `run_night` is plain Python and needs no Airflow.

Airflow finds the DAG in its folder of DAGs. Retries are safe: a night that is run again resumes, or
gives the same answer.
"""

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

MODELS = os.environ.get("MMNET_MODELS", "models/mmnet")
FLAGFILE = os.environ.get("MMNET_FLAGFILE", "nightly.txt")
DRIFT = 3
"""Exit code of a night that drift has stopped: a finding, which running again does not change."""


def run_night(models: str = MODELS, flagfile: str = FLAGFILE, *more: str) -> dict[str, Any]:
    """Runs `python -m mmnet.nightly` in a process of its own, so that its memory is returned.

    Args:
        models: directory of the versions.
        flagfile: flags of the night.
        more: further flags.

    Returns:
        The newest `nightly.json`: a small document, which Airflow keeps as the task's result.

    Raises:
        RuntimeError: the night has failed, which a retry may mend, or drift has stopped it.
    """
    command = [sys.executable, "-m", "mmnet.nightly", f"--models={models}", "--log_format=json"]
    command += [f"--flagfile={flagfile}", *more]
    code = subprocess.run(command, check=False).returncode
    if code == DRIFT:
        raise RuntimeError("drift stopped the night; read drift.md of its directory")
    if code:
        raise RuntimeError(f"the night ended with exit code {code}; its log has the reason")
    reports = Path(models, "nights").glob("*/nightly.json")
    newest = max(reports, key=lambda path: path.stat().st_mtime_ns)
    return json.loads(newest.read_text(encoding="utf-8"))


try:
    from airflow.sdk import dag, task
except ImportError:  # without Airflow this file is a module with one function
    pass
else:

    @dag(schedule="0 3 * * *", catchup=False, max_active_runs=1, tags=["mmnet"])
    def mmnet_nightly() -> None:
        """One task a night; a second one never runs at the same time."""
        task(retries=2, retry_delay=timedelta(minutes=15))(run_night)()

    mmnet_nightly()
