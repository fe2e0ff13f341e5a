"""A process that trains cells of one configuration in turn, which `cells` names to it.

Each line of stdin is the path of a cell's flagfile, each line of stdout the exit code of that
cell. What training prints goes to `output.txt` beside the flagfile.
"""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from mmnet import driver
from mmnet.config import TrainConfig
from mmnet.startup import load_tensorflow
from mmnet.tasks import starting

if TYPE_CHECKING:  # it needs TensorFlow
    from mmnet.tasks.training import Series

OUTPUT = "output.txt"


def main() -> int:
    """Trains until there are no more lines, or until it is interrupted."""
    answers = os.fdopen(os.dup(1), "w")
    load_tensorflow()
    from mmnet.tasks.training import Series

    series = Series()
    for line in sys.stdin:
        flagfile = Path(line.removesuffix("\n"))
        with (flagfile.parent / OUTPUT).open("ab") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        if (code := answer(flagfile, series, answers)) == driver.INTERRUPTED:
            return code
    return 0


def answer(flagfile: Path, series: Series, answers: TextIO) -> int:
    """Trains one cell and tells its exit code."""
    train = functools.partial(starting.train, series=series)
    code = driver.run(TrainConfig, None, train, [f"--flagfile={flagfile}"])
    sys.stdout.flush()
    print(code, file=answers, flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
