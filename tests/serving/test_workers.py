"""Processes that score: their settings, their errors, and their end."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from mmnet.checks import InputError
from mmnet.serving import workers


def refuse(text):
    raise InputError(text)


def test_a_process_has_one_core_and_its_errors_are_told(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    with workers.pool(1) as pool:
        assert pool.submit(os.getenv, "OMP_NUM_THREADS").result() == "1"
        with pytest.raises(InputError, match=r"^items\.csv is empty$"):
            pool.submit(workers.guarded, refuse, "items.csv is empty").result()
        with pytest.raises(RuntimeError, match=r"a scoring process failed:\nTraceback(.|\n)*'x'"):
            pool.submit(workers.guarded, int, "x").result()
    assert os.environ["OMP_NUM_THREADS"] == "7"


def killed(begun):
    with workers.pool(1) as pool:
        ended = pool.submit(os._exit, 9)
        pool.submit(begun.touch)
        ended.result()


def test_a_process_that_is_killed_is_reported_and_what_waits_is_not_begun(tmp_path):
    with pytest.raises(RuntimeError, match="a scoring process was killed"):
        killed(tmp_path / "begun")
    assert not (tmp_path / "begun").exists()


def interrupted():
    with workers.pool(1) as pool:
        scored = pool.submit(time.sleep, 600)
        while not scored.running():
            time.sleep(0.01)
        raise KeyboardInterrupt


def test_an_interrupt_does_not_wait_for_what_is_being_scored():
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert time.monotonic() - began < 60


def test_processes_end_with_the_one_that_started_them():
    script = """
        import os, time
        from mmnet.serving import workers

        if __name__ == "__main__":
            with workers.pool(1) as pool:
                print(pool.submit(os.getpid).result(), flush=True)
                pool.submit(time.sleep, 600).result()
    """
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True
    )
    child = int(parent.stdout.readline())
    parent.kill()
    try:
        parent.communicate(timeout=60)  # until nobody can write to the pipe any more
    except subprocess.TimeoutExpired:
        os.kill(child, signal.SIGKILL)
        pytest.fail("the process that scores lives on")
