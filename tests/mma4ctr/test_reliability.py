"""The second system killed at any moment: its files are whole, and it is gone on with."""

import json
from pathlib import Path

import numpy as np
import pytest

from mmnet import driver
from mmnet.checks import InputError
from mmnet.files import only_one
from mmnet.mma4ctr import tasks
from mmnet.mma4ctr.config import (
    EvaluateConfig,
    ExperimentConfig,
    PredictConfig,
    PrepareConfig,
    TrainConfig,
)
from mmnet.training.resume import Checkpoints, load_arrays
from tests.faults import Dead, Moments, watched

LOG = ("users=60", "feeds=150", "rows=6000", "rate=0.1", "text_scale=0.02")
DRIVERS = {"prepare": PrepareConfig, "train": TrainConfig, "experiment": ExperimentConfig}
SMALL = {"epochs": 2, "batch_size": 1024, "jit": False, "protocol": "c2", "matrix": "textual"}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    place = tmp_path_factory.mktemp("log") / "dataset"
    tasks.prepare(PrepareConfig(generate=LOG, min_rows=20, dataset_dir=str(place)))
    return place


def run_driver(name, *flags):
    return driver.run(DRIVERS[name], "", name, flags, tasks="mmnet.mma4ctr.tasks")


def arrays(directory):
    return {path.name: np.load(path) for path in directory.glob("[!.]*.npy")}


def same(one, other):
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)


def trained(dataset, run, **flags):
    tasks.train(TrainConfig(dataset_dir=str(dataset), run_dir=str(run), **SMALL | flags))


def weights(run):
    places = (run / "places.txt").read_text().splitlines()
    data = tasks.dataset.load(Path(places[0].removeprefix("--dataset_dir=")))
    found = load_arrays(run / "weights.npz", data.spec["fingerprint"])
    assert len(found) == 8  # kernel and bias of four layers
    return found


@pytest.mark.slow
def test_whatever_a_driver_is_killed_at_its_files_are_whole(dataset, tmp_path, monkeypatch):
    source = dataset / "raw"
    run, out = tmp_path / "run", tmp_path / "scores.parquet"
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("user_id,item_id\n1,2\n3,4\n")
    flags = {"source_dir": str(source), "min_rows": 20, "dataset_dir": str(tmp_path / "set")}
    rows = ("a: --epochs=1", "b: --epochs=2")
    cells = {"cells": str(tmp_path / "cells"), "results": str(tmp_path / "results")}
    for act, least in (
        (lambda: tasks.prepare(PrepareConfig(**flags)), 30),
        (lambda: trained(tmp_path / "set", run), 60),
        (lambda: tasks.evaluate(EvaluateConfig(run_dir=str(run))), 20),
        (
            lambda: tasks.predict(
                PredictConfig(saved_model=str(run / "export"), pairs=str(pairs), output=str(out))
            ),
            2,
        ),
        (
            lambda: tasks.experiment(
                ExperimentConfig(dataset_dir=str(dataset), row=rows, seeds=(0,), **cells, **SMALL)
            ),
            8,
        ),
    ):
        moments, _ = watched(tmp_path, monkeypatch, act)
        assert moments >= least
    assert not list(tmp_path.rglob(".*"))


@pytest.mark.slow
def test_a_killed_preparation_is_done_again(dataset, tmp_path, monkeypatch):
    place = tmp_path / "dataset"

    def prepared(*options):
        tasks.prepare(PrepareConfig(generate=(*LOG, *options), min_rows=20, dataset_dir=str(place)))

    prepared()
    with Moments(tmp_path).watching(monkeypatch) as moments:
        prepared("seed=1")
    prepared()
    for at in range(0, moments.count, 4):
        with Moments(tmp_path, at).watching(monkeypatch), pytest.raises(Dead):
            prepared("seed=1")  # another log in the same place
        if (place / "dataset.json").exists():  # the old one before any change, or the new one
            assert tasks.dataset.load(place).spec["rows"] > 0
        else:
            with pytest.raises(InputError, match="no prepared dataset"):
                tasks.dataset.load(place)
        prepared()
        same(arrays(dataset), arrays(place))


@pytest.mark.slow
def test_a_killed_training_is_gone_on_with(dataset, tmp_path, monkeypatch):
    with Moments(tmp_path).watching(monkeypatch) as moments:
        trained(dataset, tmp_path / "whole")
    for at in range(0, moments.count, moments.count // 12):
        run = tmp_path / str(at)
        with Moments(tmp_path, at).watching(monkeypatch), pytest.raises(Dead):
            trained(dataset, run)
        trained(dataset, run, resume=(run / "flags.txt").exists())
        same(weights(tmp_path / "whole"), weights(run))
        metrics = [
            json.loads((one / "evaluation/metrics.json").read_text())
            for one in (tmp_path / "whole", run)
        ]
        assert metrics[0] == metrics[1]
        assert (run / "export/1/saved_model.pb").exists()


def test_a_damaged_checkpoint_falls_back_to_the_one_before(dataset, tmp_path):
    trained(dataset, tmp_path / "run", outputs="metrics")
    expected = weights(tmp_path / "run")
    *_, newest = Checkpoints(tmp_path / "run/checkpoints").paths()
    newest.write_bytes(newest.read_bytes()[:-100])  # what a power cut may leave
    with pytest.warns(UserWarning, match="is damaged and was passed over"):
        trained(dataset, tmp_path / "run", outputs="metrics", resume=True)
    same(expected, weights(tmp_path / "run"))  # its last epoch, trained once more


def test_a_seed_repeats_a_run(dataset, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        trained(dataset, tmp_path / name, outputs="metrics", seed=seed)
    same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert (weights(tmp_path / "a")["0"] != weights(tmp_path / "c")["0"]).any()


def test_two_processes_do_not_share_a_run_or_a_dataset(dataset, tmp_path):
    with only_one(tmp_path / "run", ""), pytest.raises(InputError, match="in use by another"):
        trained(dataset, tmp_path / "run")
    flags = PrepareConfig(generate=LOG, dataset_dir=str(dataset))
    with only_one(dataset, ""), pytest.raises(InputError, match="prepared by another process"):
        tasks.prepare(flags)


def test_a_path_below_a_file_is_one_sentence(dataset, tmp_path, capsys):
    (tmp_path / "file").write_text("dear")
    below = str(tmp_path / "file" / "out")
    rows = ["--row=a: --epochs=1", "--seeds=0", f"--dataset_dir={dataset}"]
    for name, flags in (
        ("prepare", [f"--source_dir={dataset / 'raw'}", f"--dataset_dir={below}"]),
        ("train", [f"--dataset_dir={dataset}", f"--run_dir={below}"]),
        ("experiment", [*rows, f"--results={below}", f"--cells={tmp_path / 'cells'}"]),
        ("experiment", [*rows, f"--results={tmp_path / 'results'}", f"--cells={below}"]),
    ):
        own = [f"--{key}={value}" for key, value in SMALL.items()] if name == "experiment" else []
        assert run_driver(name, *flags, *own) == driver.WRONG_INPUT
        error = capsys.readouterr().err
        assert error.count("error: ") == 1
        assert "Not a directory" in error
        assert below in error
    assert (tmp_path / "file").read_text() == "dear"
