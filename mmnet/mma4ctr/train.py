"""Files or a dataset directory in, a run directory out.

python -m mmnet.mma4ctr.train --dataset_dir=data/wechat --run_dir=runs/clicks
"""

import sys

from mmnet import driver
from mmnet.mma4ctr import config

if __name__ == "__main__":
    sys.exit(
        driver.run(config.TrainConfig, __doc__, "train", sys.argv[1:], tasks="mmnet.mma4ctr.tasks")
    )
