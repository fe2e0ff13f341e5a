"""Training that is killed by SIGKILL and started again, in real processes."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import mmnet

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
DRAWS = random.Random(time.time_ns())


def start(run_dir, slow):
    root = str(Path(mmnet.__file__).parents[1])
    return subprocess.Popen(
        [sys.executable, Path(__file__).with_name("tiny.py"), run_dir, f"--slow={slow}"],
        env={**os.environ, "PYTHONPATH": root, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(condition, process):
    """Polls until the condition holds."""
    while not condition():
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.001)


def kill(process, delay):
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL, "it ended before it was killed"


def steps_saved(run_dir):
    """(epochs ended, steps) of the newest checkpoint."""
    names = [path.stem.split("_") for path in (run_dir / "checkpoints").glob("epoch_*")]
    return max(((int(name[1]), int(name[3])) for name in names), default=(0, 0))


@pytest.mark.slow
def test_killed_three_times_ends_with_the_same_weights(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    reference = start(whole, slow=0)
    delays = [round(DRAWS.uniform(0, most), 3) for most in (0.4, 0.4, 0.1)]

    process = start(killed, slow=0.2)  # in the middle of the first epoch
    wait_for(lambda: steps_saved(killed) >= (0, 2), process)
    kill(process, delays[0])
    first = steps_saved(killed)

    process = start(killed, slow=0.2)  # around the end of an epoch: in the validation or just after
    assert any("validating" in line for line in process.stdout)
    kill(process, delays[1])
    second = steps_saved(killed)

    process = start(killed, slow=0.2)  # as soon as it has gone on: while it writes, or nearly
    wait_for(lambda: steps_saved(killed) > second, process)
    kill(process, delays[2])
    third = steps_saved(killed)

    process = start(killed, slow=0)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    told, _ = reference.communicate()
    assert reference.returncode == 0, told
    assert "resuming from step" in output
    assert first < (3, 15) > third, "the kills came too late to mean anything"

    with np.load(whole / "weights.npz") as wanted, np.load(killed / "weights.npz") as found:
        assert wanted.files == found.files
        for name in wanted.files:
            np.testing.assert_array_equal(
                found[name],
                wanted[name],
                err_msg=f"killed after {(first, second, third)}, {delays}",
            )
