"""The real server, asked by many clients at once: every answer right, every mistake a sentence.

Runs where the extra `[serving]` is installed, as in the stage "mlserver" of `.ci/run`.
"""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mmnet.checks import InputError
from mmnet.serving import checksums
from tests.mma4ctr import exported
from tests.mma4ctr.exported import ITEMS, USERS

mlserver = pytest.importorskip("mlserver")

SCRIPT = Path(__file__).parents[2] / "experiments" / "performance" / "serving.py"


@pytest.fixture(scope="module")
def clicks():
    """A small model of the second system."""
    return exported.model()


def runtime(directory):
    """The runtime of an export, not yet loaded."""
    from mmnet.serving.mlserver_runtime import ShareRates

    parameters = mlserver.settings.ModelParameters(uri=str(directory))
    settings = mlserver.ModelSettings(
        name="clicks", implementation=ShareRates, parameters=parameters
    )
    return ShareRates(settings)


def test_an_export_of_the_second_system_is_served(clicks, tmp_path):
    served = runtime(exported.write(tmp_path, clicks))
    ids = {"user_id": USERS[[0, 1]], "item_id": ITEMS[[0, 2]]}
    inputs = [
        {"name": name, "datatype": "INT64", "shape": [2], "data": array.tolist()}
        for name, array in ids.items()
    ]
    request = mlserver.types.InferenceRequest.model_validate({"inputs": inputs})

    async def answer():
        await served.load()
        return await served.predict(request)

    found = {one.name: one for one in asyncio.run(answer()).outputs}
    wanted = clicks({"state": np.array([1, 3]), "item": np.array([0, 2])}).numpy()
    # float32 sums in another order.
    assert list(found["probability"].data) == pytest.approx(wanted.tolist(), abs=1e-6)
    assert (found["known_user"].datatype, list(found["known_user"].data)) == ("BOOL", [True, True])


def test_an_export_that_fails_its_checks_is_not_served(clicks, tmp_path):
    directory = exported.write(tmp_path, clicks)
    path = directory / checksums.FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    with pytest.raises(InputError, match=r"is not what was exported: .*checksums.json is damaged"):
        asyncio.run(runtime(directory).load())


@pytest.mark.slow
def test_answers_are_right_under_load_and_mistakes_are_refused(tmp_path):
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
