"""Train the rows of an experiment with several seeds, compare them, and write tables.

python -m mmnet.experiment --experiment=experiments/simulated_content

After an interruption, the same command resumes; once all runs exist, it only writes the tables.
"""

import sys
from collections.abc import Iterator, Sequence

from mmnet import config, driver


def with_flagfile(arguments: Sequence[str]) -> Iterator[str]:
    """Inserts an experiment's own flagfile after `--experiment`, so that later flags override it.

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
