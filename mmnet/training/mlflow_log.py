"""A finished run in MLflow (extra `[mlflow]`): parameters, metrics by epoch, artifacts, a version.

Everything is read from the run directory, so that training waits for no server, and a run that is
resumed is the same run in MLflow: `mlflow.json` in the run directory has its id.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmnet import credentials, flags
from mmnet.checks import InputError, shown
from mmnet.console import notes
from mmnet.files import read_json, write_atomic
from mmnet.run_flags import MlflowFlags
from mmnet.training.records import Record

FILE = "mlflow.json"
ARTIFACTS = ("record.json", "flags.txt", "architecture.md", "evaluation", "export")
"""Files and folders of a run directory to log, as far as they exist."""
TABLES = (".parquet",)
"""Files of results by item, which stay in the run directory."""
LONGEST = 500
"""Maximum number of characters of a parameter's value, MLflow's own limit in old servers."""
AT_ONCE = 1000
"""Maximum number of metrics of a request, MLflow's own limit."""
SECONDS, RETRIES = "30", "2"
"""Timeout of a request and number of retries, unless MLflow's own variables set them."""


def check(asked: MlflowFlags) -> None:
    """Refuses `--mlflow` before anything is trained.

    Raises:
        InputError: MLflow is not installed, or a variable of the URI is not set.
    """
    if asked.mlflow and importlib.util.find_spec("mlflow") is None:
        raise InputError("--mlflow needs the extra: pip install 'mmnet[mlflow]'")
    flags.expanded(asked.mlflow, "mlflow")


def log(asked: MlflowFlags, run_dir: Path) -> None:
    """Logs a finished run; without `--mlflow` it does nothing.

    A server that fails does not fail the run, which is complete on disk: it is reported on the
    standard error.

    Args:
        asked: where to log.
        run_dir: the run directory.
    """
    if not asked.mlflow:
        return
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", SECONDS)
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", RETRIES)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # otherwise it reports to its makers
    try:
        _log(asked, run_dir)
    except Exception as error:  # a database's, a server's or a file system's own
        reason = shown(f"{type(error).__name__}: {error}")
        notes.print(
            f"warning: --mlflow={credentials.redacted(asked.mlflow)}: the run was not logged, or "
            f"only in part ({reason}); it is complete in {run_dir}"
        )


def _log(asked: MlflowFlags, run_dir: Path) -> None:
    from mlflow.entities import Metric, Param
    from mlflow.tracking import MlflowClient

    uri = flags.expanded(asked.mlflow, "mlflow")
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    record = Record.read(run_dir / "record.json")
    run_id = _run_id(client, asked, run_dir)
    params = [Param(_name(name), _value(value)) for name, value in sorted(record.flags.items())]
    for start in range(0, len(params), 100):
        client.log_batch(run_id, params=params[start : start + 100])
    metrics = [Metric(_name(tag), *found) for tag, *found in _by_epoch(run_dir)]
    for number in range(0, len(metrics), AT_ONCE):
        client.log_batch(run_id, metrics=metrics[number : number + AT_ONCE])
    for name, value in _numbers(record.metrics, "test"):
        client.log_metric(run_id, _name(name), value)
    for path in _artifacts(run_dir):
        folder = path.parent.relative_to(run_dir).as_posix()
        client.log_artifact(run_id, str(path), None if folder == "." else folder)
    if asked.mlflow_model and (run_dir / "export").exists():
        _register(client, asked, run_id, run_dir)
    client.set_terminated(run_id)
    notes.print(f"logged in MLflow as run {run_id}")


def _run_id(client: Any, asked: MlflowFlags, run_dir: Path) -> str:
    """Returns the MLflow run of a run directory, created unless an earlier session did."""
    about = {"uri": credentials.redacted(asked.mlflow), "experiment": asked.mlflow_experiment}
    try:
        known = read_json(run_dir / FILE)
    except (OSError, ValueError):
        known = None
    if isinstance(known, dict) and {name: known.get(name) for name in about} == about:
        return str(known["run_id"])
    found = client.get_experiment_by_name(asked.mlflow_experiment)
    experiment = found.experiment_id if found else client.create_experiment(asked.mlflow_experiment)
    run_id = client.create_run(experiment, run_name=run_dir.name).info.run_id
    write_atomic(run_dir / FILE, json.dumps(about | {"run_id": run_id}) + "\n")
    return run_id


def _register(client: Any, asked: MlflowFlags, run_id: str, run_dir: Path) -> None:
    """Makes the export a version of the registered model, unless it is one, and names it."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(asked.mlflow_model)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    versions = sorted(path.name for path in (run_dir / "export").iterdir() if path.name.isdecimal())
    source = f"{client.get_run(run_id).info.artifact_uri}/export/{versions[-1]}"
    known = client.search_model_versions(f"run_id = '{run_id}'")
    own = [one for one in known if one.name == asked.mlflow_model]
    version = own[0] if own else client.create_model_version(asked.mlflow_model, source, run_id)
    client.set_registered_model_alias(asked.mlflow_model, asked.mlflow_alias, version.version)


def _artifacts(run_dir: Path) -> Iterator[Path]:
    for name in ARTIFACTS:
        place = run_dir / name
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if path.is_file() and path.suffix not in TABLES:
                yield path


def _by_epoch(run_dir: Path) -> Iterator[tuple[str, float, int, int]]:
    """Yields tag, value, time in ms and step of every scalar of the run's event files.

    An ensemble has a folder of logs per member, whose seed begins its tags.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    for logs in sorted(run_dir.rglob("logs")):
        member = logs.parent.relative_to(run_dir).name
        # All values; it drops what an interrupted session logged after its last checkpoint.
        events = EventAccumulator(str(logs), size_guidance={"tensors": 0}).Reload()
        for tag in events.Tags()["tensors"]:
            if events.SummaryMetadata(tag).plugin_data.plugin_name != "scalars":
                continue  # pictures and hyperparameters
            name = f"{member}/{tag}" if member else tag
            for one in events.Tensors(tag):
                value = float(make_ndarray(one.tensor_proto))
                yield name, value, int(one.wall_time * 1000), one.step


def _numbers(metrics: Mapping[str, Any], path: str) -> Iterator[tuple[str, float]]:
    """Yields the numbers of nested metrics, with their names joined by slashes.

    >>> list(_numbers({"normal": {"mse": 2.0, "rule": "none"}}, "test"))
    [('test/normal/mse', 2.0)]
    """
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{path}/{name}")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield f"{path}/{name}", float(value)


def _name(name: str) -> str:
    """Returns a name without the characters that MLflow refuses.

    >>> _name("outage/no. of tags?")
    'outage/no. of tags_'
    """
    return re.sub(r"[^\w./ -]", "_", name, flags=re.ASCII)


def _value(value: Any) -> str:
    """Returns a flag's value as text.

    >>> _value(["a", "b"]), _value(True), _value("")
    ('a,b', 'true', '')
    """
    if isinstance(value, (list, tuple)):
        return ",".join(map(_value, value))[:LONGEST]
    return (str(value).lower() if isinstance(value, bool) else str(value))[:LONGEST]
