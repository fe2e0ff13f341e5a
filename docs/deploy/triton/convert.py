"""Writes a signature of an export as Triton's `1/model.onnx` (extra `[fast]`).

python docs/deploy/triton/convert.py models/mmnet docs/deploy/triton/mmnet
"""

import shutil
import sys
from pathlib import Path

from mmnet.serving.conversion import converted
from mmnet.serving.exported import check_unchanged


def write(export: str, repository: str) -> Path:
    """Converts `serving_default`, which has no strings, of the newest or champion version."""
    target = Path(repository, "1", "model.onnx")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(converted(check_unchanged(export), "serving_default"), target)
    return target


if __name__ == "__main__":
    print(write(*sys.argv[1:]))
