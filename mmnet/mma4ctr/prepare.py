"""A publisher's files in, a dataset directory out.

python -m mmnet.mma4ctr.prepare --source=wechat --source_dir=DIR --dataset_dir=data/wechat
"""

import sys

from mmnet import driver
from mmnet.mma4ctr import config

if __name__ == "__main__":
    sys.exit(
        driver.run(
            config.PrepareConfig, __doc__, "prepare", sys.argv[1:], tasks="mmnet.mma4ctr.tasks"
        )
    )
