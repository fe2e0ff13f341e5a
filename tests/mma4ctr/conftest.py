"""One small generated log of clicks and a run on it, made once for all tests of the system."""

import pytest

from tests.conftest import SECRETS

LOG = ["--generate=users=150", "--generate=feeds=400", "--generate=rows=30000"]
LOG += ["--generate=rate=0.03", "--generate=text_scale=0.03", "--min_rows=20"]
FAST = ["--epochs=2", "--batch_size=2048", "--jit=false"]


@pytest.fixture(scope="session")
def place(made_once):
    """A directory with `dataset`, the log prepared, and `run`, trained on it in protocol c1."""

    def make(directory):
        from mmnet.flags import parse
        from mmnet.mma4ctr import config, tasks

        data = f"--dataset_dir={directory / 'dataset'}"
        tasks.prepare(parse(config.PrepareConfig, [*LOG, data, SECRETS[0]]))
        flags = [data, f"--run_dir={directory / 'run'}", *FAST, "--protocol=c1", SECRETS[0]]
        tasks.train(parse(config.TrainConfig, flags))

    return made_once("clicks", make)
