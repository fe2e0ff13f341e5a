import runpy
import sys
from pathlib import Path

import pytest

import mmnet
from mmnet import __main__ as command

PACKAGE = Path(mmnet.__file__).parent


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["mmnet", *arguments])
    return command.main()


def test_every_driver_is_a_command():
    drivers = [
        path.relative_to(PACKAGE).with_suffix("")
        for path in [*PACKAGE.glob("*.py"), *PACKAGE.glob("mma4ctr/*.py")]
        if "driver.run(" in path.read_text() and path.stem not in ("driver", "series")
    ]
    assert {" ".join(path.parts) for path in drivers} == set(command.COMMANDS)


def test_a_command_runs_its_driver_with_the_rest_of_the_line(monkeypatch):
    ran = []
    monkeypatch.setattr(runpy, "run_module", lambda name, **how: ran.append((name, sys.argv, how)))
    for line in (["predict", "--verify"], ["mma4ctr", "train", "--epochs=1"]):
        with pytest.raises(AssertionError):  # a driver ends the process
            run(monkeypatch, *line)
    first, second = ran
    assert first[:2] == ("mmnet.predict", ["mmnet predict", "--verify"])
    assert second[:2] == ("mmnet.mma4ctr.train", ["mmnet mma4ctr train", "--epochs=1"])
    assert first[2] == {"run_name": "__main__", "alter_sys": True}


def test_a_drivers_exit_code_is_the_commands(monkeypatch, capsys):
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, "train", "--model=x")
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith("error: --model must be one of")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 0, "  inspect "),
        (
            ("--help",),
            0,
            "Train, evaluate and export a model, from tables or from a prepared dataset.",
        ),
        (("--version",), 0, f"mmnet {mmnet.__version__}\n"),
        (("trian",), 1, "error: unknown command trian. Did you mean train?\n"),
        (("mma4ctr",), 1, "error: unknown command mma4ctr"),
        (
            ("x\x1b[31m",),
            1,
            "error: unknown command x\\x1b[31m; `mmnet --help` lists all commands\n",
        ),
    ],
)
def test_what_is_no_command_is_answered(monkeypatch, capsys, arguments, code, said):
    assert run(monkeypatch, *arguments) == code
    told = capsys.readouterr()
    assert said in (told.err if code else told.out)
