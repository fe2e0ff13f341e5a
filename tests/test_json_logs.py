"""Every message of a driver as one line of JSON."""

import json
import logging
import sys
import warnings

import pytest

from mmnet import driver
from mmnet.checks import InputError
from mmnet.console import console, notes
from mmnet.flags import Flags, parse, usage
from mmnet.json_logs import Formatter


class ExampleConfig(Flags):
    """Flags of an example."""

    rows: int = 1


def logged(capsys, task, *arguments):
    """The exit code, and the messages; nothing is printed elsewhere."""
    code = driver.run(ExampleConfig, None, task, ["--log_format=json", *arguments])
    out, err = capsys.readouterr()
    assert out == ""
    return code, [json.loads(line) for line in err.splitlines()]


def test_what_a_driver_prints_warns_of_and_logs_is_a_line_each(capsys):
    def task(flags):
        console.print(f"{flags.rows} rows\nof two lines")
        notes.print("a note")
        warnings.warn("skipped", stacklevel=1)
        logging.getLogger("other").error("of a library")
        print("without a line break", end="")

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        code, lines = logged(capsys, task, "--rows=7")
    assert code == 0
    assert [line["level"] for line in lines] == ["INFO", "INFO", "WARNING", "ERROR", "INFO"]
    messages = [line["message"] for line in lines]
    assert messages[:2] == ["7 rows\nof two lines", "a note"]
    assert "UserWarning: skipped" in messages[2]
    assert messages[3:] == ["of a library", "without a line break"]
    assert {tuple(line) for line in lines} == {("time", "level", "driver", "message")}
    assert {line["driver"] for line in lines} == {"tests.example"}
    assert all(line["time"].endswith("Z") and line["time"][10] == "T" for line in lines)


@pytest.mark.parametrize(
    ("raised", "code", "level", "message"),
    [
        (InputError("no such file"), 1, "ERROR", "error: no such file"),
        (KeyboardInterrupt(), 130, "WARNING", "interrupted"),
        (RuntimeError("s3://me:word@host fails"), 2, "ERROR", "s3://***@host fails"),
    ],
    ids=["wrong input", "interrupted", "internal"],
)
def test_an_error_is_one_line(capsys, raised, code, level, message):
    def task(_):
        raise raised

    found, lines = logged(capsys, task)
    assert found == code
    assert [line["level"] for line in lines] == [level]
    assert lines[0]["message"].rstrip().endswith(message)


def test_a_wrong_flag_is_reported_in_the_format_of_a_flagfile(capsys, tmp_path):
    flagfile = tmp_path / "flags.txt"
    flagfile.write_text("--log_format=json\n--rwos=2\n")
    code = driver.run(ExampleConfig, None, print, [f"--flagfile={flagfile}"])
    line = json.loads(capsys.readouterr().err)
    assert (code, line["level"]) == (1, "ERROR")
    assert line["message"] == "error: unknown flag --rwos. Did you mean rows?"


def test_afterwards_streams_and_loggers_are_as_before(capsys):
    before = sys.stdout, sys.stderr, logging.getLogger().handlers[:], warnings.showwarning
    logged(capsys, lambda _: None)
    now = sys.stdout, sys.stderr, logging.getLogger().handlers[:], warnings.showwarning
    assert now == before
    driver.run(ExampleConfig, None, lambda _: print("text"), [])
    assert capsys.readouterr() == ("text\n", "")


def test_the_format_is_no_part_of_a_config_and_every_help_shows_it(capsys):
    assert parse(ExampleConfig, ["--log_format=json"]) == ExampleConfig()
    assert "--log_format=text" in usage(ExampleConfig, "", full=True)
    assert driver.run(ExampleConfig, None, print, ["--log_format=xml"]) == 1
    assert "--log_format=xml: value should be one of <text|json>" in capsys.readouterr().err


def test_an_exception_is_part_of_its_message():
    try:
        raise ValueError("wrong")
    except ValueError:
        record = logging.LogRecord("a", logging.ERROR, "", 1, "%s failed", ("x",), sys.exc_info())
    message = json.loads(Formatter("server").format(record))["message"]
    assert message.startswith("x failed\nTraceback")
    assert message.endswith("ValueError: wrong")
