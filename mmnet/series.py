"""Train several runs of an experiment in one process; `mmnet.experiments.cells` starts it.

The arguments are those of a fork server, and the module of the system's tasks. In each fork, each
line of stdin is the path of a run's flagfile, each line of stdout the exit code of that run. The
output of training is written to `output.txt`, next to the flagfile.
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
from mmnet.experiments.fork_server import serve
from mmnet.startup import load_tensorflow

Trainer = tuple[type, Callable[[Any], None]]
"""Class of the training flags, and the task that trains a run with them."""


LATER = ("pyarrow.dataset", "scipy.stats")
"""Modules that the tasks import late; a fork has them from the beginning."""


def main(descriptor: str, tasks: str) -> int:
    """Imports what training needs and serves forks; see `fork_server.serve`."""
    load_tensorflow()
    trainer = importlib.import_module(tasks).trainer()
    for name in LATER:
        importlib.import_module(name)
    return serve(int(descriptor), lambda: several(trainer))


def several(trainer: Trainer) -> int:
    """Trains one run per line of stdin, until the end of input or an interruption."""
    answers = os.fdopen(os.dup(1), "w")
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
