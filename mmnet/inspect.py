"""Inspect tables before training: report what is wrong with them, and propose a flagfile.

python -m mmnet.inspect --counts=counts.csv --items=items.csv --output=flags.txt
"""

import sys

from mmnet import config, driver

if __name__ == "__main__":
    sys.exit(driver.run(config.InspectConfig, __doc__, "inspect", sys.argv[1:]))
