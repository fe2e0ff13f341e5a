"""A folder of one experiment in; every row and seed trained, tables and figures out.

python -m mmnet.mma4ctr.experiment --experiment=experiments/mma4ctr/leak

If it is interrupted, the same command resumes it; if it is finished, the command only reads.
"""

import sys

from mmnet import driver
from mmnet.experiment import with_flagfile
from mmnet.mma4ctr import config

if __name__ == "__main__":
    arguments = list(with_flagfile(sys.argv[1:]))
    sys.exit(
        driver.run(
            config.ExperimentConfig, __doc__, "experiment", arguments, tasks="mmnet.mma4ctr.tasks"
        )
    )
