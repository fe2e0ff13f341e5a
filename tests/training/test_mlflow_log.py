"""A finished run in MLflow: a local SQLite store, and stores that fail.

What needs MLflow runs where the extra `[mlflow]` is installed, as in the stage "mlflow" of
`.ci/run`.
"""

import importlib.util
import json

import pytest

from mmnet import credentials, driver
from mmnet.config import TrainConfig
from mmnet.run_flags import MlflowFlags
from mmnet.training import mlflow_log, tensorboard
from mmnet.training.records import Record

needs_mlflow = pytest.mark.skipif(
    importlib.util.find_spec("mlflow") is None, reason="mlflow is not installed"
)


LOSSES = [3.0, 2.0, 1.5]  # by epoch of ten steps
METRICS = {"normal": {"mse": 2.5, "n": 40}, "cold_start": {"mse": 4.0, "note": "text"}}


def write_run(directory):
    """The files of a finished run, as training writes them."""
    flags = {"taxonomies": ["category", "tags"], "epochs": 3, "jit": False, "events": ""}
    record = Record.of_this_process(flags=flags, metrics=METRICS)
    record.write(directory / "record.json")
    for name in ("flags.txt", "evaluation/report.html", "evaluation/predictions.parquet"):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(name)
    for name in ("saved_model.pb", "assets.extra/fitted.json"):
        (directory / "export" / "1" / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / "export" / "1" / name).write_text(name)
    with tensorboard.Logs(directory / "logs") as logs:
        for epoch, loss in enumerate(LOSSES, 1):
            logs.scalars(10 * epoch, {"train/epoch_loss": loss, "attention/tags & more": 0.5})
    return directory


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A run logged twice, as after `--resume`: the flags, the run directory, a client."""
    from mlflow.tracking import MlflowClient

    place = tmp_path_factory.mktemp("mlflow")
    own = write_run(place / "run")
    asked = MlflowFlags(mlflow=f"sqlite:///{place}/mlflow.db", mlflow_model="share_rates")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)  # where a SQLite store keeps its artifacts
        for _ in range(2):
            mlflow_log.log(asked, own)
    return own, MlflowClient(tracking_uri=asked.mlflow, registry_uri=asked.mlflow)


@needs_mlflow
def test_a_run_is_logged_once_with_its_flags_and_metrics_by_epoch(store):
    own, client = store
    experiment = client.get_experiment_by_name("mmnet")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.status, run.info.run_name) == ("FINISHED", "run")
    assert run.info.run_id == json.loads((own / mlflow_log.FILE).read_text())["run_id"]
    params = {"taxonomies": "category,tags", "epochs": "3", "jit": "false", "events": ""}
    assert run.data.params == params
    tests = {name: value for name, value in run.data.metrics.items() if name.startswith("test/")}
    assert tests == {"test/normal/mse": 2.5, "test/normal/n": 40, "test/cold_start/mse": 4.0}
    losses = client.get_metric_history(run.info.run_id, "train/epoch_loss")
    found = sorted((one.step, one.value) for one in losses)
    assert found == [(10, 3.0), (20, 2.0), (30, 1.5)]
    assert "attention/tags _ more" in run.data.metrics


@needs_mlflow
def test_the_export_is_a_version_with_an_alias_and_tables_by_item_stay(store):
    _, client = store
    version = client.get_model_version_by_alias("share_rates", "candidate")
    assert int(version.version) == len(client.search_model_versions("name = 'share_rates'")) == 1
    assert version.source.endswith("/artifacts/export/1")

    def logged(folder):
        return {one.path for one in client.list_artifacts(version.run_id, folder)}

    assert logged("export/1") == {"export/1/saved_model.pb", "export/1/assets.extra"}
    assert logged("evaluation") == {"evaluation/report.html"}
    assert logged(None) == {"record.json", "flags.txt", "evaluation", "export"}


@needs_mlflow
def test_a_store_that_fails_is_a_warning_without_its_password(tmp_path, capsys):
    own = write_run(tmp_path / "run")
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
