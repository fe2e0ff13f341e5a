"""Train a challenger on the newest data, and promote it if it is better than the champion.

python -m mmnet.nightly --models=models/mmnet --counts=counts.csv --items=items.csv
"""

import sys

from mmnet import config, driver

if __name__ == "__main__":
    sys.exit(driver.run(config.NightlyConfig, __doc__, "nightly", sys.argv[1:]))
