"""What older commits wrote still loads, and scores as they scored; see `make.py`.

The archives were made on one machine. Other processors add matrix products up in another order, and
since a63bf34 so does the temporal convolution, in a run but not in an export. Rounding is all that
the tolerances allow for: on the processor that made them, exports score the same to the bit.
"""

import json
import pathlib
import shutil
import tarfile

import numpy as np
import pyarrow.parquet
import pytest

from mmnet import config, driver
from mmnet.mma4ctr import config as clicks_config
from mmnet.training.records import Record

pytestmark = pytest.mark.usefixtures("undrawn")

HERE = pathlib.Path(__file__).parent
COMMITS = sorted({path.parent.name for path in HERE.glob("*/*.tar.xz")})

# float32 sums of some hundred products in another order: two digits of the 6e-8 that it rounds at.
SAME = {"rtol": 1e-5, "atol": 1e-6}
# Adam moves a weight by up to 0.001 a step however small its gradient is, so that a gradient that
# is all rounding may go either way: a few of some dozen steps.
SAME_TRAINING = {"rtol": 1e-3, "atol": 5e-3}


def mmnet(name, *flags):
    kinds = {"train": config.TrainConfig, "evaluate": config.EvaluateConfig}
    kinds |= {"predict": config.PredictConfig, "drift": config.DriftConfig}
    return driver.run(kinds[name], None, name, flags)


def mma4ctr(name, *flags):
    kinds = {"train": clicks_config.TrainConfig, "evaluate": clicks_config.EvaluateConfig}
    kinds["predict"] = clicks_config.PredictConfig
    return driver.run(kinds[name], None, name, flags, tasks="mmnet.mma4ctr.tasks")


@pytest.fixture(scope="module", params=COMMITS)
def old(request, tmp_path_factory):
    """The unpacked artefacts of one commit. Tests that write into a run have their own copy."""
    place = tmp_path_factory.mktemp(request.param)
    for archive in (HERE / request.param).glob("*.tar.xz"):
        with tarfile.open(archive) as packed:
            packed.extractall(place, filter="data")
    return place


@pytest.fixture(autouse=True)
def only_seeded(monkeypatch):
    """Leaves out --deterministic, which old runs have: it would hold for all later tests too."""
    import tensorflow as tf

    monkeypatch.setattr(tf.config.experimental, "enable_op_determinism", lambda: None)


def same_table(path, stored, tolerance):
    """Ids, periods and decisions are equal, scores up to rounding."""
    found, wanted = (pyarrow.parquet.read_table(one) for one in (path, stored))
    assert found.schema.equals(wanted.schema)
    for name in wanted.column_names:
        now, then = found[name].to_pylist(), wanted[name].to_pylist()
        if pyarrow.types.is_floating(wanted.schema.field(name).type):
            np.testing.assert_allclose(now, then, **tolerance, err_msg=name)
        else:
            assert now == then, name


def same_numbers(found, wanted, tolerance):
    """Two JSON documents; numbers up to rounding."""
    if isinstance(wanted, dict):
        assert set(found) == set(wanted)
        for name in wanted:
            same_numbers(found[name], wanted[name], tolerance)
    elif isinstance(wanted, list):
        assert len(found) == len(wanted)
        for now, then in zip(found, wanted, strict=True):
            same_numbers(now, then, tolerance)
    elif isinstance(wanted, float):
        np.testing.assert_allclose(found, wanted, **tolerance)
    else:
        assert found == wanted


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def refused(capsys, sentence):
    """What was run before has ended in one sentence, which has these words."""
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert sentence in error


# ------------------------------------------------------------------------------- share rates


def test_an_old_export_scores_tables_and_explains(old, tmp_path):
    where = [f"--counts={old}/mmnet/tables/counts.csv", f"--items={old}/mmnet/tables/items.csv"]
    where += [f"--vectors=cover:{old}/mmnet/tables/cover.parquet"]
    found = tmp_path / "scores.parquet"
    asked = [f"--saved_model={old}/mmnet/run/export", "--explain", "--rule=stored"]
    assert mmnet("predict", *asked, *where, f"--output={found}") == driver.OK
    same_table(found, old / "mmnet" / "explained.parquet", SAME)


def test_an_old_export_scores_an_old_dataset(old, tmp_path):
    found = tmp_path / "scores.parquet"
    asked = [f"--saved_model={old}/mmnet/run/export", f"--dataset_dir={old}/mmnet/dataset"]
    assert mmnet("predict", *asked, f"--output={found}") == driver.OK
    same_table(found, old / "mmnet" / "scores.parquet", SAME)


def test_an_old_export_is_verified(old, capsys):
    assert mmnet("predict", f"--saved_model={old}/mmnet/run/export", "--verify") == driver.OK
    assert "WRONG" not in capsys.readouterr().out


@pytest.mark.slow
def test_an_old_export_describes_its_training_data(old, tmp_path):
    asked = [f"--saved_model={old}/mmnet/run/export", f"--dataset_dir={old}/mmnet/dataset"]
    assert mmnet("drift", *asked, f"--output={tmp_path / 'drift'}") in (driver.OK, 3)
    assert read(tmp_path / "drift" / "drift.json")
    ranked = tmp_path / "ranked.parquet"
    assert mmnet("predict", *asked, f"--ranking_features={ranked}") == driver.OK
    found, wanted = (
        pyarrow.parquet.read_table(path)["predicted_share_rate"]
        for path in (ranked, old / "mmnet" / "scores.parquet")
    )
    np.testing.assert_allclose(found, wanted, **SAME)


def test_an_old_dataset_is_trained_on(old, tmp_path):
    flags = [f"--dataset_dir={old}/mmnet/dataset", "--model=ha", f"--run_dir={tmp_path / 'ha'}"]
    assert mmnet("train", *flags, "--outputs=predictions") == driver.OK
    found = Record.read(tmp_path / "ha" / "record.json").metrics
    wanted = read(old / "mmnet" / "run" / "evaluation" / "systems.json")["ha"]
    for scenario in ("normal", "cold_start", "noisy"):
        same_numbers(found[scenario], wanted[scenario], SAME)


def test_an_old_run_is_evaluated_again_once_its_dataset_is_named(old, tmp_path, capsys):
    run_dir = shutil.copytree(old / "mmnet" / "run", tmp_path / "run")
    evaluation = old / "mmnet" / "run" / "evaluation"
    assert mmnet("evaluate", f"--run_dir={run_dir}") == driver.WRONG_INPUT
    refused(capsys, "or choose another --dataset_dir")  # it was made on another machine
    where = f"--dataset_dir={old}/mmnet/dataset"
    assert mmnet("evaluate", f"--run_dir={run_dir}", where) == driver.OK
    for name in ("metrics.json", "attention.json", "outage.json"):
        same_numbers(read(run_dir / "evaluation" / name), read(evaluation / name), SAME)
    predictions = "predictions.parquet"
    same_table(run_dir / "evaluation" / predictions, evaluation / predictions, SAME)


def test_an_old_run_is_resumed_within_its_epoch_and_ends_as_it_would_have(old, tmp_path):
    run_dir = shutil.copytree(old / "mmnet" / "interrupted", tmp_path / "run")
    straight = old / "mmnet" / "run"
    flags = ["--resume", f"--run_dir={run_dir}", f"--dataset_dir={old}/mmnet/dataset"]
    assert mmnet("train", *flags, "--outputs=validation") == driver.OK
    with (
        np.load(run_dir / "checkpoints" / "best.npz") as found,
        np.load(straight / "checkpoints" / "best.npz") as wanted,
    ):
        assert set(found.files) == set(wanted.files)
        for name in wanted.files:
            if wanted[name].dtype.kind == "f":
                np.testing.assert_allclose(found[name], wanted[name], **SAME_TRAINING)
            else:
                np.testing.assert_array_equal(found[name], wanted[name], err_msg=name)
    found, wanted = (Record.read(one / "record.json").fitted for one in (run_dir, straight))
    assert (found["best_epoch"], found["epochs"]) == (wanted["best_epoch"], wanted["epochs"])


# ------------------------------------------------------------------------------------ clicks


def test_an_old_export_scores_pairs(old, tmp_path):
    found = tmp_path / "scores.parquet"
    asked = [f"--saved_model={old}/mma4ctr/run/export", f"--pairs={old}/mma4ctr/pairs.csv"]
    assert mma4ctr("predict", *asked, f"--output={found}") == driver.OK
    same_table(found, old / "mma4ctr" / "scores.parquet", SAME)


def test_an_old_run_of_clicks_is_evaluated_again_wherever_its_dataset_is(old, tmp_path, capsys):
    run_dir = shutil.copytree(old / "mma4ctr" / "run", tmp_path / "run")
    evaluation = old / "mma4ctr" / "run" / "evaluation"
    assert mma4ctr("evaluate", f"--run_dir={run_dir}") == driver.WRONG_INPUT
    refused(capsys, "--dataset_dir=")
    where = f"--dataset_dir={old}/mma4ctr/dataset"
    assert mma4ctr("evaluate", f"--run_dir={run_dir}", where) == driver.OK
    found, wanted = read(run_dir / "evaluation" / "metrics.json"), read(evaluation / "metrics.json")
    assert "planted probability" in found["references"]  # the dataset's truth was moved with it
    same_numbers(found, wanted, SAME)
    predictions = "predictions.parquet"
    same_table(run_dir / "evaluation" / predictions, evaluation / predictions, SAME)


def test_an_old_run_of_clicks_is_resumed_and_ends_as_it_would_have(old, tmp_path):
    run_dir = shutil.copytree(old / "mma4ctr" / "interrupted", tmp_path / "run")
    straight = old / "mma4ctr" / "run"
    shutil.copytree(old / "mma4ctr" / "dataset", run_dir / "dataset")  # where it is looked for
    flags = ["--resume", f"--run_dir={run_dir}", "--outputs=metrics"]
    assert mma4ctr("train", *flags) == driver.OK
    with np.load(run_dir / "weights.npz") as found, np.load(straight / "weights.npz") as wanted:
        assert set(found.files) == set(wanted.files)
        for name in set(wanted.files) - {"dataset"}:
            np.testing.assert_allclose(found[name], wanted[name], **SAME_TRAINING)
        assert str(found["dataset"]) == str(wanted["dataset"])
    found, wanted = (Record.read(one / "record.json").fitted for one in (run_dir, straight))
    assert found["best_epoch"] == wanted["best_epoch"]
    assert len(found["history"]) == len(wanted["history"]) == 2


def test_an_old_dataset_of_clicks_is_trained_on(old, tmp_path):
    flags = [f"--dataset_dir={old}/mma4ctr/dataset", f"--run_dir={tmp_path / 'lr'}"]
    fast = ["--model=lr", "--epochs=1", "--jit=false", "--outputs=metrics", "--pca_widths=3,3,3"]
    assert mma4ctr("train", *flags, *fast, "--user_length=3", "--seed=5") == driver.OK
    found = Record.read(tmp_path / "lr" / "record.json").metrics["references"]
    wanted = read(old / "mma4ctr" / "run" / "evaluation" / "metrics.json")["references"]
    same_numbers(found, wanted, SAME)  # the rows are the same, and what they are compared with
