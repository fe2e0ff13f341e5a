"""The files of docs/deploy/: parsed, and run as far as that needs no other program."""

import importlib.util
import json
import logging.config
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from mmnet.json_logs import Formatter
from tests import examples

DEPLOY = Path(__file__).parents[1] / "docs" / "deploy"
PAGE = DEPLOY.with_suffix(".md").read_text(encoding="utf-8")


def text_of(name):
    return (DEPLOY / name).read_text(encoding="utf-8")


def test_every_file_is_on_the_page_or_copied_by_a_dockerfile():
    copied = " ".join(text_of(f"{name}/Dockerfile") for name in ("mlserver", "tf_serving"))
    for path in DEPLOY.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            name = path.relative_to(DEPLOY).as_posix()
            known = f"docs/deploy/{name}" in PAGE or path.name in copied
            assert known or f"docs/deploy/{path.parent.name}" in PAGE, name


def test_a_dockerfile_copies_what_is_there():
    for name in ("mlserver", "tf_serving"):
        for line in re.findall(r"^COPY (.+) \S+$", text_of(f"{name}/Dockerfile"), re.MULTILINE):
            for file in line.split():
                assert file == "mmnet-*.whl" or (DEPLOY / name / file).exists()


def test_tensorflow_serving_serves_the_version_that_is_written():
    config = model_server_config_pb2.ModelServerConfig()
    text_format.Parse(text_of("tf_serving/models.config"), config)
    (model,) = config.model_config_list.config
    assert (model.name, model.model_platform) == ("mmnet", "tensorflow")
    assert list(model.model_version_policy.specific.versions) == [1]
    # What the page's sed changes, and nothing else.
    assert len(re.findall("versions: [0-9]+", text_of("tf_serving/models.config"))) == 1


def test_mlserver_logs_with_its_settings():
    settings = json.loads(text_of("mlserver/settings.json"))["logging_settings"]
    # Only the formatter: to configure would close the handlers of everything else in this process.
    configurator = logging.config.DictConfigurator(settings)
    formatter = configurator.configure_formatter(configurator.config["formatters"]["json"])
    record = logging.LogRecord("mmnet", logging.WARNING, "", 1, "tags: %d unknown", (3,), None)
    line = json.loads(formatter.format(record))
    wanted = {"level": "WARNING", "driver": "mlserver", "message": "tags: 3 unknown"}
    assert isinstance(formatter, Formatter)
    assert {name: line[name] for name in wanted} == wanted
    # MLServer gives its own logger a handler of text, which goes where a list of none is set.
    assert settings["loggers"]["mlserver"]["handlers"] == []
    assert settings["handlers"][settings["root"]["handlers"][0]]["formatter"] == "json"


@pytest.mark.parametrize("name", ["mlserver", "tf_serving"])
def test_kserve_finds_one_service(name):
    yaml = pytest.importorskip("yaml")
    service = yaml.safe_load(text_of(f"kserve/{name}.yaml"))
    assert (service["apiVersion"], service["kind"]) == (
        "serving.kserve.io/v1beta1",
        "InferenceService",
    )
    (container,) = service["spec"]["predictor"].get("containers", [{}])
    if name == "mlserver":
        assert container["readinessProbe"]["httpGet"] == {"path": "/ready", "port": 8080}
        mounts = {one["name"] for one in container["volumeMounts"]}
        assert mounts == {one["name"] for one in service["spec"]["predictor"]["volumes"]}


def module(path, **others):
    """A file of docs/deploy/ as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    found = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        for name, other in others.items():
            patch.setitem(sys.modules, name.replace("_", "."), other)
        spec.loader.exec_module(found)
    return found


# ----------------------------------------------------------------------------- the nightly DAG


@pytest.fixture
def dag():
    return module(DEPLOY / "nightly_dag.py")


def test_a_night_ends_in_its_newest_report_or_in_an_error(dag, tmp_path, monkeypatch):
    codes, commands = [0, 1, 3], []

    def ran(command, check):
        commands.append(command)
        night = tmp_path / "nights" / "2026-11-29"
        night.mkdir(parents=True, exist_ok=True)
        (night / "nightly.json").write_text('{"outcome": "kept"}')
        return types.SimpleNamespace(returncode=codes.pop(0))

    monkeypatch.setattr(subprocess, "run", ran)
    found = dag.run_night(str(tmp_path), "nightly.txt", "--cold")
    assert found == {"outcome": "kept"}
    assert commands[0][1:] == [
        *("-m", "mmnet.nightly", f"--models={tmp_path}", "--log_format=json"),
        *("--flagfile=nightly.txt", "--cold"),
    ]
    with pytest.raises(RuntimeError, match="exit code 1"):
        dag.run_night(str(tmp_path))
    with pytest.raises(RuntimeError, match="drift stopped the night"):
        dag.run_night(str(tmp_path))


def test_with_airflow_there_is_one_task_a_night():
    made = []

    def named(kind):
        return lambda **how: lambda function: lambda *_: made.append((kind, how)) or function()

    sdk = types.SimpleNamespace(
        dag=named("dag"), task=lambda **how: lambda function: lambda: made.append(("task", how))
    )
    module(DEPLOY / "nightly_dag.py", airflow_sdk=sdk, airflow=types.SimpleNamespace(sdk=sdk))
    (_, of_dag), (_, of_task) = made
    assert (of_dag["schedule"], of_dag["max_active_runs"]) == ("0 3 * * *", 1)
    assert of_task["retries"] == 2


@pytest.mark.slow
def test_the_callable_runs_a_night_and_may_run_it_again(dag, tmp_path, monkeypatch):
    examples.write_tables(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nightly.txt").write_text(
        "--counts=counts.parquet\n--items=items.csv\n--taxonomies=category\n"
        "--model=smoothed_history\n--min_target_clicks=1\n--min_test_rows=1\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(DEPLOY.parents[1]))
    found = [dag.run_night("models", "nightly.txt") for _ in range(2)]
    assert [one["outcome"] for one in found] == ["promoted"] * 2
    assert (tmp_path / "models" / "champion").read_text().strip() == "1"
