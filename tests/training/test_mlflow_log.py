"""A finished run in MLflow: a local SQLite store, and stores that fail.

What needs MLflow runs where the extra `[mlflow]` is installed, as in the stage "mlflow" of
`.ci/run`.
"""

import importlib.util
import json
import shutil

import pytest

from mmnet import credentials, driver
from mmnet.config import MlflowFlags, TrainConfig
from mmnet.training import mlflow_log
from mmnet.training.records import Record

needs_mlflow = pytest.mark.skipif(
    importlib.util.find_spec("mlflow") is None, reason="mlflow is not installed"
)


@pytest.fixture(scope="module")
def store(run_dir, tmp_path_factory):
    """A run logged twice, as after `--resume`: the flags, the run directory, a client."""
    from mlflow.tracking import MlflowClient

    place = tmp_path_factory.mktemp("mlflow")
    own = shutil.copytree(run_dir, place / "run", ignore=shutil.ignore_patterns("dataset"))
    asked = MlflowFlags(mlflow=f"sqlite:///{place}/mlflow.db", mlflow_model="share_rates")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)  # where a SQLite store keeps its artifacts
        for _ in range(2):
            mlflow_log.log(asked, own)
    return asked, own, MlflowClient(tracking_uri=asked.mlflow, registry_uri=asked.mlflow), place


@needs_mlflow
def test_a_run_is_logged_once_with_its_flags_and_metrics(store):
    _, own, client, _ = store
    experiment = client.get_experiment_by_name("mmnet")
    (run,) = client.search_runs([experiment.experiment_id])
    record = Record.read(own / "record.json")
    assert run.info.status == "FINISHED"
    assert run.info.run_id == json.loads((own / mlflow_log.FILE).read_text())["run_id"]
    assert run.data.params["taxonomies"] == "category,tags"
    assert set(run.data.params) == set(record.flags)
    assert run.data.metrics["test/normal/mse"] == record.metrics["normal"]["mse"]
    losses = client.get_metric_history(run.info.run_id, "epoch/loss")
    assert [one.step for one in losses] == sorted({one.step for one in losses})
    assert len(losses) == record.fitted["epochs"]


@needs_mlflow
def test_the_export_is_a_version_with_an_alias_and_tables_by_item_stay_here(store):
    _, own, client, _ = store
    version = client.get_model_version_by_alias("share_rates", "candidate")
    assert (version.version, len(client.search_model_versions("name = 'share_rates'"))) == ("1", 1)
    run_id = version.run_id
    assert version.source.endswith("/artifacts/export/1")
    logged = {one.path for one in client.list_artifacts(run_id, "export/1")}
    assert {"export/1/saved_model.pb", "export/1/assets.extra"} <= logged
    evaluation = {one.path for one in client.list_artifacts(run_id, "evaluation")}
    assert "evaluation/report.html" in evaluation
    assert (own / "evaluation" / "predictions.parquet").exists()
    assert not [path for path in evaluation if path.endswith(".parquet")]


@needs_mlflow
def test_a_store_that_fails_is_a_warning_without_its_password(store, tmp_path, capsys):
    _, own, _, _ = store
    flags = MlflowFlags(mlflow="postgresql://me:mark3d-word@localhost:1/mlflow")
    mlflow_log.log(flags, own)
    err = capsys.readouterr().err
    assert err.startswith(
        "warning: --mlflow=postgresql://***@localhost:1/mlflow: the run was not logged, or only in "
        "part ("
    )
    assert err.endswith(f"; it is complete in {own}\n")
    assert "mark3d-word" not in err


def test_without_the_flag_nothing_is_logged(tmp_path, capsys):
    mlflow_log.log(MlflowFlags(), tmp_path)
    assert (list(tmp_path.iterdir()), capsys.readouterr()) == ([], ("", ""))


def test_without_mlflow_the_flag_is_refused_before_training(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    flags = [f"--run_dir={tmp_path}/run", "--source=simulated", "--mlflow=sqlite:///mlflow.db"]
    assert driver.run(TrainConfig, None, "train", flags) == driver.WRONG_INPUT
    message = "error: --mlflow needs the extra: pip install 'mmnet[mlflow]'\n"
    assert capsys.readouterr().err == message
    assert not (tmp_path / "run").exists()


def test_a_variable_that_is_not_set_is_refused_before_training(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    flags = ["--source=simulated", "--mlflow=http://me:${NO_SUCH_WORD}@localhost"]
    assert driver.run(TrainConfig, None, "train", flags) == driver.WRONG_INPUT
    assert "variable NO_SUCH_WORD is not set" in capsys.readouterr().err
    assert credentials.redacted(flags[1]) == flags[1]
