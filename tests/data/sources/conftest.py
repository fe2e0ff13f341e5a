"""Real logs are no part of the repository; tests of them are skipped where they are absent."""

import os
from pathlib import Path

import pytest

ELSEWHERE = "MMNET_REAL_LOGS"
USUAL = Path(__file__).parents[4] / "shared" / "data"


@pytest.fixture
def real_log():
    """A function from a log's name to its directory."""

    def find(name):
        directory = Path(os.environ.get(ELSEWHERE, USUAL)) / name
        if not directory.is_dir():
            pytest.skip(f"no real log {name} at hand; {ELSEWHERE} may name the directory of logs")
        return directory

    return find
