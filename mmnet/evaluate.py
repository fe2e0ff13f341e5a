"""Evaluate a trained run: write its metrics, tables and plots.

python -m mmnet.evaluate --run_dir=runs/first
"""

import sys

from mmnet import config, driver

if __name__ == "__main__":
    sys.exit(driver.run(config.EvaluateConfig, __doc__, "evaluate", sys.argv[1:]))
