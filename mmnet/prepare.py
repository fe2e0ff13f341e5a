"""Prepare a dataset directory from tables.

python -m mmnet.prepare --counts=counts.csv --items=items.csv --dataset_dir=dataset
"""

import sys

from mmnet import config, driver

if __name__ == "__main__":
    sys.exit(driver.run(config.PrepareConfig, __doc__, "prepare", sys.argv[1:]))
