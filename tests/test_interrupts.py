"""Ctrl-C and SIGTERM end a driver, also where a library loses the exception."""

import os
import signal

import pytest

from mmnet import files, interrupts
from mmnet.checks import InputError
from mmnet.driver import INTERRUPTED, OK, run
from mmnet.flags import Flags

SIGNALS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


class NoFlags(Flags):
    """A driver without flags."""


def driven(task):
    """The exit code of a driver with this task, on the main thread."""
    return run(NoFlags, "A driver.", lambda flags: task(), [])


@pytest.fixture(autouse=True)
def default_handlers():
    """Those of a new process, whatever runs these tests."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def lost(number):
    """Sends a signal to this process, whose exception a caller drops."""
    try:
        os.kill(os.getpid(), number)
        while True:  # Python runs the handler between two instructions
            pass
    except KeyboardInterrupt:
        pass


@SIGNALS
def test_a_signal_interrupts(number, capsys):
    assert driven(lambda: os.kill(os.getpid(), number)) == INTERRUPTED
    assert capsys.readouterr().err == "interrupted\n"
    assert not interrupts.came()


@SIGNALS
@pytest.mark.parametrize("error", [AttributeError("no _type_spec"), InputError("it is damaged")])
def test_an_error_that_replaces_the_interruption_is_not_the_user_s(number, error, capsys):
    def task():
        lost(number)
        raise error

    assert driven(task) == INTERRUPTED
    assert capsys.readouterr().err == "interrupted\n"


@SIGNALS
@pytest.mark.parametrize("write", [files.write_atomic, files.write_directory])
def test_no_file_gets_its_name_after_a_signal(number, write, tmp_path):
    path, content = tmp_path / "scores.txt", lambda beside: beside.write_text("half")
    if write is files.write_directory:
        content = lambda beside: (beside / "half.txt").write_text("half")  # noqa: E731

    def task():
        lost(number)
        write(path, content)

    assert driven(task) == INTERRUPTED
    assert list(tmp_path.iterdir()) == []
    assert driven(lambda: write(path, content) and OK) == OK
    assert list(tmp_path.iterdir()) == [path]


def test_errors_without_a_signal_stay_what_they_are(capsys):
    def task():
        raise InputError("it is damaged")

    assert driven(task) == 1
    assert capsys.readouterr().err == "error: it is damaged\n"


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda number, frame: None])
def test_an_ignored_or_handled_ctrl_c_stays_so(handler):
    signal.signal(signal.SIGINT, handler)
    assert driven(lambda: os.kill(os.getpid(), signal.SIGINT)) == OK
    assert signal.getsignal(signal.SIGINT) is handler


def test_handlers_are_put_back():
    driven(lambda: OK)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
