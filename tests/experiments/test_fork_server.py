import contextlib
import fcntl
import os
import signal
import time
from pathlib import Path

import pytest

from mmnet.experiments import fork_server
from mmnet.experiments.fork_server import ForkServer

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(fork_server, "MODULE", "tests.experiments.small_server")


@contextlib.contextmanager
def served(place, argument="words"):
    """A fork server, its errors in a file, and a lock that it keeps."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with (place / "errors.txt").open("ab") as errors, (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        server = ForkServer(argument, environment, errors, lock.fileno())
    yield server
    server.close()


class Fork:
    """A fork and the pipes to it."""

    def __init__(self, server, place):
        self.server, (asked, ask), (read, answers) = server, os.pipe(), os.pipe()
        with (place / "errors.txt").open("ab") as errors:
            self.process = server.start(asked, answers, errors.fileno())
        for theirs in (asked, answers):
            os.close(theirs)
        self.ask, self.answers = os.fdopen(ask, "w"), os.fdopen(read)

    def told(self, line):
        print(line, file=self.ask, flush=True)
        return self.answers.readline().strip()

    def ended(self):
        with contextlib.suppress(BrokenPipeError):
            self.ask.close()
        assert self.answers.read() == ""  # no other process has the other end
        self.answers.close()
        return self.server.exit_code(self.process)


def is_locked(place):
    with (place / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_forks_work_side_by_side_and_share_only_what_was_there_before(tmp_path):
    with served(tmp_path) as server:
        one, other = Fork(server, tmp_path), Fork(server, tmp_path)
        assert one.process != other.process
        assert [one.told("a"), other.told("b"), one.told("c")] == ["11 a", "11 b", "12 c"]
        assert (one.ended(), other.ended()) == (12, 11)
        third = Fork(server, tmp_path)
        assert third.told("d") == "11 d"
        assert third.ended() == 11
    lines = (tmp_path / "errors.txt").read_text().splitlines()
    assert lines == ["imported words", "noted a", "noted b", "noted c", "noted d"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_signal_ends_one_fork(tmp_path, number):
    with served(tmp_path) as server:
        one, other = Fork(server, tmp_path), Fork(server, tmp_path)
        assert one.told("a") == "11 a"
        os.kill(one.process, number)
        assert one.ended() == -number
        assert other.told("b") == "11 b"
        assert other.ended() == 11


def test_signals_to_all_end_the_forks_and_not_the_server(tmp_path):
    with served(tmp_path) as server:
        one = Fork(server, tmp_path)
        assert one.told("a") == "11 a"
        for number in (signal.SIGTERM, signal.SIGINT):
            server._process.send_signal(number)
        assert Fork(server, tmp_path).told("b") == "11 b"
        os.kill(one.process, signal.SIGINT)
        assert one.ended() != 0
    assert "KeyboardInterrupt" in (tmp_path / "errors.txt").read_text()


def test_a_fork_goes_on_without_its_server_and_keeps_the_lock(tmp_path):
    with served(tmp_path) as server:
        one = Fork(server, tmp_path)
        assert one.told("a") == "11 a"
    assert one.told("b") == "12 b"
    assert is_locked(tmp_path)
    one.ask.close()
    assert one.answers.read() == ""
    until = time.monotonic() + 60
    while is_locked(tmp_path) and time.monotonic() < until:
        time.sleep(0.01)
    assert not is_locked(tmp_path)


def test_a_server_that_cannot_import_gives_its_exit_code(tmp_path):
    with served(tmp_path, "broken") as server:
        assert server.start(0, 1, 2) is None
        assert server.exit_code(None) == 7
    assert (tmp_path / "errors.txt").read_text() == "imported broken\n"


def test_a_server_that_is_killed_has_an_exit_code_for_all(tmp_path):
    with served(tmp_path) as server:
        one = Fork(server, tmp_path)
        server._process.kill()
        assert one.told("a") == "11 a"
        assert one.ended() == -signal.SIGKILL
