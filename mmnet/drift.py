"""Is a new period still like what the model was trained on? Ends with 0 if so, with 3 if not.

python -m mmnet.drift --saved_model=runs/first/export --counts=counts.csv --items=items.csv
"""

import sys

from mmnet import config, driver

if __name__ == "__main__":
    sys.exit(driver.run(config.DriftConfig, __doc__, "drift", sys.argv[1:]))
