"""The real server, asked by many clients at once: every answer right, every mistake a sentence.

Runs where the extra `[serving]` is installed.
"""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "experiments" / "performance" / "serving.py"


@pytest.mark.slow
def test_answers_are_right_under_load_and_mistakes_are_refused(tmp_path):
    pytest.importorskip("mlserver")
    output = tmp_path / "serving.md"
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--seconds=0.5", f"--output={output}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [
        line.strip("| ").split(" | ") for line in output.read_text().splitlines() if "|" in line
    ]
    loads = [
        line for line in lines if line[-1].endswith(tuple("0123456789")) and " of " in line[-1]
    ]
    assert len(loads) == 12
    for line in loads:
        wrong, answers = line[-1].replace(",", "").split(" of ")
        assert (int(wrong), int(answers) > 0) == (0, True)
    refused = {line[0]: line[1] for line in lines if line[1] in ("400", "404", "413", "422")}
    assert len(refused) == 9
    assert refused["5,000 rows"] == "413"
    by_grpc = {line[0]: line[1:] for line in lines if line[0].startswith("gRPC: ")}
    assert len(by_grpc) == 12
    assert not [one for one, (status, _) in by_grpc.items() if status == "OK"]
    assert by_grpc["gRPC: another model"][0] == "NOT_FOUND"
    assert by_grpc["gRPC: a shape that lies"][0] == "INVALID_ARGUMENT"
    assert not [one for one, (_, told) in by_grpc.items() if "Traceback" in told]
