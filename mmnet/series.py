"""Runs that differ in the seed alone, trained in turn by one process; `mmnet.experiment` starts it.

Each line of stdin is the path of a run's flagfile, each line of stdout the exit code of that run.
What training prints goes to `output.txt` beside the flagfile.
"""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from mmnet import config, driver
from mmnet.experiments.cells import OUTPUT
from mmnet.startup import load_tensorflow
from mmnet.tasks import starting

if TYPE_CHECKING:  # it needs TensorFlow
    from mmnet.tasks.training import Series


def main() -> int:
    """Trains until there are no more lines, or until it is interrupted."""
    answers = os.fdopen(os.dup(1), "w")
    load_tensorflow()
    from mmnet.tasks.training import Series

    series = Series()
    for line in sys.stdin.buffer:
        flagfile = Path(os.fsdecode(line.removesuffix(b"\n")))
        with (flagfile.parent / OUTPUT).open("ab") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        if train(flagfile, series, answers) == driver.INTERRUPTED:
            return driver.INTERRUPTED
    return driver.OK


def train(flagfile: Path, series: Series, answers: TextIO) -> int:
    """Trains one run and tells its exit code, unless that ends the process."""
    task = functools.partial(starting.train, series=series)
    code = driver.run(config.TrainConfig, None, task, [f"--flagfile={flagfile}"])
    sys.stdout.flush()
    if code != driver.INTERRUPTED:
        print(code, file=answers, flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
