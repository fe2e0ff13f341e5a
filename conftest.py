"""How many processes run the tests, and with how many threads each.

One per core, but at most four (`--maxprocesses` in pyproject.toml): each holds TensorFlow, about
2 GB by the end.
"""

import gc
import os

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # one of several: each has a core, and takes no more
    for name in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # else LightGBM's threads wait busily


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """Files and tests that are named run in this process: each other would import TensorFlow."""
    if not any(os.path.isdir(argument) for argument in config.args):
        return 0
    return None  # the others are for pytest-xdist to count


def pytest_collection_finish():
    """Spares the garbage collector what the imports made: half a million objects that stay."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish():
    """Does what TensorFlow would do at exit, which xdist's workers skip."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        from tests import autograph_files

        autograph_files.remove()
