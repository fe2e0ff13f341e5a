"""A look at tables before any training: what is wrong with them, and a flagfile that fits them.

python -m mmnet.inspect --counts=counts.csv --items=items.csv --output=flags.txt
"""

import sys

from mmnet import config, driver

if __name__ == "__main__":
    sys.exit(driver.run(config.InspectConfig, __doc__, "inspect", sys.argv[1:]))
