"""Score every item of a table with an exported SavedModel.

python -m mmnet.predict --saved_model=runs/first/export --counts=counts.csv --items=items.csv
"""

import sys

from mmnet import config, driver

if __name__ == "__main__":
    sys.exit(driver.run(config.PredictConfig, __doc__, "predict", sys.argv[1:]))
