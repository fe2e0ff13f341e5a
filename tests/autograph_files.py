"""Files that TensorFlow writes to the directory for temporary files, and removes at exit.

Processes that end by `os._exit`, as pytest-xdist's workers and forks do, have to remove them.
"""

import sys
from pathlib import Path


def remove():
    """Removes those of this process."""
    for name, module in list(sys.modules.items()):
        if name.startswith("__autograph_generated_file"):
            Path(module.__file__).unlink(missing_ok=True)
