"""`mmnet train …` and `python -m mmnet train …`: the drivers by name.

mmnet train --flagfile=experiments/quickstart/flags.txt --run_dir=runs/first
mmnet mma4ctr train --dataset_dir=data/clicks
"""

from __future__ import annotations

import ast
import runpy
import sys
from pathlib import Path

from mmnet.checks import did_you_mean, shown

COMMANDS = (
    *("inspect", "prepare", "encode", "train", "evaluate", "predict", "drift", "nightly"),
    "experiment",
    *("mma4ctr prepare", "mma4ctr train", "mma4ctr evaluate", "mma4ctr predict"),
    "mma4ctr experiment",
)
"""Commands in the order in which users need them; `mmnet a b` is `python -m mmnet.a.b`."""


def main() -> int:
    """Runs the driver that the command line names; returns the exit code."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0
    if arguments[0] == "--version":
        from mmnet import __version__

        print(f"mmnet {__version__}")
        return 0
    words = 2 if arguments[0] == "mma4ctr" else 1
    name = " ".join(arguments[:words])
    if name not in COMMANDS:
        near = did_you_mean(name, COMMANDS) or "; `mmnet --help` lists all commands"
        print(f"error: unknown command {shown(name)}{near}", file=sys.stderr)
        return 1
    module = f"mmnet.{name.replace(' ', '.')}"
    sys.argv = [f"mmnet {name}", *arguments[words:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)  # ends the process
    raise AssertionError


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {_summary(name)}" for name in COMMANDS]
    return "\n".join(
        [
            "mmnet: item-level share rate prediction, from tables of counts to a filter decision.",
            "",
            *lines,
            "",
            "mmnet COMMAND --help shows the flags of a command.",
        ]
    )


def _summary(name: str) -> str:
    """The first line of a driver's docstring; the driver is not loaded."""
    place = Path(__file__).parent.joinpath(*name.split()).with_suffix(".py")
    return (ast.get_docstring(ast.parse(place.read_text(encoding="utf-8"))) or "").splitlines()[0]


if __name__ == "__main__":
    sys.exit(main())
