"""A SavedModel and a table of user_id and item_id in, scores out.

python -m mmnet.mma4ctr.predict --saved_model=runs/clicks/export --pairs=pairs.parquet
"""

import sys

from mmnet import driver
from mmnet.mma4ctr import config

if __name__ == "__main__":
    sys.exit(
        driver.run(
            config.PredictConfig, __doc__, "predict", sys.argv[1:], tasks="mmnet.mma4ctr.tasks"
        )
    )
