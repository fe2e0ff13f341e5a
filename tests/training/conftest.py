import functools
import importlib.util
import sys
from pathlib import Path

import pytest

from mmnet.training import fitting
from mmnet.training.resume import Checkpoints


@pytest.fixture(scope="session")
def tiny():
    """The module beside this file: a tiny model and its training."""
    spec = importlib.util.spec_from_file_location("tiny", Path(__file__).with_name("tiny.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules["tiny"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def uninterrupted(tiny, tmp_path_factory):
    """Two epochs of five steps: the model, the result, and a run with every checkpoint."""
    run_dir = tmp_path_factory.mktemp("uninterrupted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "Checkpoints", functools.partial(Checkpoints, keep=100))
        trained, result = tiny.train(run_dir, hparams={"model": "tiny", "ratios": (8, 1, 1)})
    return trained, result, run_dir
