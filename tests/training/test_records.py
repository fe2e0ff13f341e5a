import math
import subprocess
import sys
import types
from pathlib import Path

import pytest
from pydantic import ValidationError

import mmnet
from mmnet.checks import InputError
from mmnet.training import records
from mmnet.training.records import Record, Stages, git_state, peak_memory


def test_a_record_reads_back_as_it_was_written(tmp_path):
    stages = Stages()
    with stages.stage("prepare"):
        pass
    record = Record.of_this_process(
        flags={"model": "mmnet", "split_ratios": [8, 1, 1]},
        rows_per_rule={"kept": 10, "too few clicks": 3},
        missing_share=0.25,
    ).finished(stages, parameters=7, metrics={"normal": {"mse": 1.5, "spearman": math.nan}})
    read = Record.read(record.write(tmp_path / "record.json"))
    spearman = read.metrics["normal"].pop("spearman")
    assert math.isnan(spearman)
    del record.metrics["normal"]["spearman"]
    assert read == record
    assert read.versions["mmnet"] == mmnet.__version__
    assert {"python", "tensorflow", "keras", "keras-tcn", "numpy"} <= set(read.versions)
    assert read.machine["cores"] >= 1
    assert list(read.stage_seconds) == ["prepare"]
    assert read.peak_memory_bytes > 1e6


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b'{"parameters": "many"}', b"\xff"])
def test_a_missing_or_damaged_record_is_refused(content, tmp_path):
    path = tmp_path / "record.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(
        InputError, match=r"record\.json, the record of the run, is missing or damaged"
    ):
        Record.read(path)


def test_an_unknown_field_is_refused():
    with pytest.raises(ValidationError):
        Record(sped=1)


def test_a_stage_is_timed_also_when_it_fails_and_adds_up(monkeypatch):
    clock = iter([10.0, 12.0, 100.0, 103.0])
    monkeypatch.setattr(records, "time", types.SimpleNamespace(monotonic=clock.__next__))
    stages = Stages()
    for _ in range(2):
        with pytest.raises(RuntimeError), stages.stage("fit"):
            raise RuntimeError
    assert stages.seconds == {"fit": 2 + 3}


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout that looks like mmnet's own."""
    (tmp_path / "mmnet").mkdir()
    (tmp_path / "mmnet" / "__init__.py").touch()
    monkeypatch.setattr(mmnet, "__file__", str(tmp_path / "mmnet" / "__init__.py"))
    return tmp_path


def test_the_commit_and_whether_it_was_clean(checkout):
    assert git_state() == (None, None)  # no checkout
    git(checkout, "init")
    assert git_state() == (None, None)  # no commit
    git(checkout, "add", ".")
    git(checkout, "commit", "-m", "first")
    commit, clean = git_state()
    assert len(commit) == 40
    assert clean
    (checkout / "mmnet" / "new.py").touch()
    assert git_state() == (commit, False)


def test_a_copy_inside_another_checkout_has_no_commit(checkout, monkeypatch):
    git(checkout, "init")
    git(checkout, "add", ".")
    git(checkout, "commit", "-m", "first")
    inner = checkout / "site-packages" / "mmnet" / "__init__.py"
    monkeypatch.setattr(mmnet, "__file__", str(inner))
    inner.parent.mkdir(parents=True)
    assert git_state() == (None, None)


def test_no_git_is_no_error(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert git_state() == (None, None)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux only")
def test_peak_memory_is_not_the_parent_s():
    assert peak_memory()[0] > 0
    # This process has now held more than any child, which imports TensorFlow and no more, will.
    held = b"x" * max(1, 1_500_000_000 - peak_memory()[0])
    script = "from mmnet.training.records import peak_memory; print(peak_memory()[0])"
    root = str(Path(records.__file__).parents[2])
    child = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=root
    )
    assert int(child.stdout) < peak_memory()[0]
    del held
