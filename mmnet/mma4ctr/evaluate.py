"""A run directory in, its metrics and figures out.

python -m mmnet.mma4ctr.evaluate --run_dir=runs/clicks --umap=300
"""

import sys

from mmnet import driver
from mmnet.mma4ctr import config

if __name__ == "__main__":
    sys.exit(
        driver.run(
            config.EvaluateConfig, __doc__, "evaluate", sys.argv[1:], tasks="mmnet.mma4ctr.tasks"
        )
    )
