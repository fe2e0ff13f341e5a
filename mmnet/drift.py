"""Check a new period for drift from the training data; the exit code is 0 without, 3 with drift.

python -m mmnet.drift --saved_model=runs/first/export --counts=counts.csv --items=items.csv
"""

import sys

from mmnet import config, driver

if __name__ == "__main__":
    sys.exit(driver.run(config.DriftConfig, __doc__, "drift", sys.argv[1:]))
