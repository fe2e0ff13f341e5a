"""Train several runs of an experiment in one process; `mmnet.experiments.cells` starts it.

The argument is the module of the system's tasks. Each line of stdin is the path of a run's
flagfile, each line of stdout the exit code of that run. The output of training is written to
`output.txt`, next to the flagfile.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from mmnet import driver
from mmnet.experiments.cells import OUTPUT
from mmnet.startup import load_tensorflow

Trainer = tuple[type, Callable[[Any], None]]
"""Class of the training flags, and the task that trains a run with them."""


def main(tasks: str) -> int:
    """Trains one run per line of stdin, until the end of input or an interruption."""
    answers = os.fdopen(os.dup(1), "w")
    load_tensorflow()
    trainer = importlib.import_module(tasks).trainer()
    for line in sys.stdin.buffer:
        flagfile = Path(os.fsdecode(line.removesuffix(b"\n")))
        with (flagfile.parent / OUTPUT).open("ab") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        if train(flagfile, trainer, answers) == driver.INTERRUPTED:
            return driver.INTERRUPTED
    return driver.OK


def train(flagfile: Path, trainer: Trainer, answers: TextIO) -> int:
    """Trains one run and writes its exit code, unless it was interrupted."""
    flags, task = trainer
    code = driver.run(flags, None, task, [f"--flagfile={flagfile}"])
    sys.stdout.flush()
    if code != driver.INTERRUPTED:
        print(code, file=answers, flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
