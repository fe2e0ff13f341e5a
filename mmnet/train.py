"""Tables or a dataset directory in, a run directory out.

python -m mmnet.train --flagfile=experiments/quickstart/flags.txt --run_dir=runs/first
"""

import sys

from mmnet import config, driver

if __name__ == "__main__":
    sys.exit(driver.run(config.TrainConfig, __doc__, "train", sys.argv[1:]))
