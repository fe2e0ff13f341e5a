"""Train, evaluate and export a model, from tables or from a prepared dataset.

python -m mmnet.train --flagfile=experiments/quickstart/flags.txt --run_dir=runs/first
"""

import sys

from mmnet import config, driver

if __name__ == "__main__":
    sys.exit(driver.run(config.TrainConfig, __doc__, "train", sys.argv[1:]))
