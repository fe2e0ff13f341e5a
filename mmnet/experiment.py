"""A folder of flagfiles in; every system trained, compared and put into tables.

python -m mmnet.experiment --experiment=experiments/simulated_content

Interrupted or killed, the same command goes on where it was; finished, it only reads.
"""

import sys
from collections.abc import Iterator, Sequence

from mmnet import config, driver


def with_flagfile(arguments: Sequence[str]) -> Iterator[str]:
    """Puts an experiment's own flagfile where its folder is named; what follows overrides it.

    >>> list(with_flagfile(["--experiment=experiments/tau", "--seeds=0"]))
    ['--experiment=experiments/tau', '--flagfile=experiments/tau/experiment.txt', '--seeds=0']
    """
    for argument in arguments:
        yield argument
        name, _, folder = argument.lstrip("-").partition("=")
        if name == "experiment" and folder:
            yield f"--flagfile={folder.rstrip('/')}/experiment.txt"


if __name__ == "__main__":
    arguments = list(with_flagfile(sys.argv[1:]))
    sys.exit(driver.run(config.ExperimentConfig, __doc__, "experiment", arguments))
