"""One small trained run, made once for all tests of the whole."""

import importlib
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import hypothesis
import pytest

# A machine that does other work too may need seconds for what takes milliseconds.
hypothesis.settings.register_profile("no_deadline", deadline=None)
hypothesis.settings.load_profile("no_deadline")

SIMULATED = [
    "--source=simulated",
    "--source_set=items=500",
    "--source_set=periods=24",
    "--source_set=clicks=800000",
    "--taxonomies=category,tags",
    "--categoricals=author",
    "--numerics=duration",
    "--texts=title",
    "--release=release",
    "--min_test_rows=50",
]
SMALL = ["--set=units=8", "--set=field_width=4", "--epochs=2", "--batch_size=32"]


@pytest.fixture(autouse=True)
def seeded():
    """Weights that a test does not seed are the same in every run."""
    if {"keras", "mmnet.models"} & set(sys.modules):  # a model's builder loads Keras when called
        importlib.import_module("keras").utils.set_random_seed(0)


@pytest.fixture(scope="session")
def simulated_flags():
    """Flags of a small simulated log."""
    return list(SIMULATED)


@pytest.fixture(scope="session")
def tiny_bert_dir(tmp_path_factory):
    """A directory for the hub text encoder."""
    pytest.importorskip("tensorflow_hub")
    from tests.encoders import tiny_bert

    return tiny_bert.write(tmp_path_factory.mktemp("bert") / "tiny")


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory):
    """The run directory of a small MMNet, trained, evaluated and exported."""
    from mmnet import config, tasks

    directory = tmp_path_factory.mktemp("runs") / "small"
    tasks.train(config.parse(config.TrainConfig, [*SIMULATED, *SMALL, f"--run_dir={directory}"]))
    return directory
