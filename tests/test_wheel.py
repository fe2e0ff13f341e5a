"""The package as its users have it: from a wheel, in an empty directory, without the checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
LOG = ["--source=simulated", "--source_set=items=200", "--source_set=periods=16"]
LOG += ["--source_set=clicks=100000", "--taxonomies=category", "--release=release"]
LOG += ["--min_test_rows=20", "--replicates=100"]
CLICKS = ["--generate=users=60", "--generate=feeds=150", "--generate=rows=8000"]
CLICKS += ["--generate=rate=0.05", "--generate=text_scale=0.03", "--min_rows=20"]


def done(command, where):
    """Runs a command that knows nothing of the checkout."""
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ran = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, cwd=where, env=outside
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """A new environment with the wheel; what mmnet needs is that of the running environment."""
    place = tmp_path_factory.mktemp("wheel")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, place)  # building leaves files beside the sources
    shutil.copytree(ROOT / "mmnet", place / "mmnet", ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    built = ["wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir=dist", "."]
    done([*pip, *built], place)
    done([sys.executable, "-m", "venv", "--without-pip", "new"], place)
    found = place / "new" / "bin" / "python"
    (wheel,) = (place / "dist").glob("*.whl")
    done([*pip, "--python", found, "install", "--no-deps", "--no-index", wheel], place)
    asked = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(done([found, "-c", asked], place).strip())
    # A directory named in a .pth comes last, and its own .pth files, an editable mmnet for one,
    # are not read.
    (packages / "running.pth").write_text(sysconfig.get_path("purelib"))
    return found


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="an environment's programs are in bin/")
def test_an_installed_wheel_runs_experiments_in_an_empty_directory(python, tmp_path):
    of = done([python, "-c", "import mmnet; print(mmnet.__file__)"], tmp_path)
    assert Path(of).is_relative_to(python.parents[1])
    assert done([python.with_name("mmnet"), "--version"], tmp_path).startswith("mmnet ")
    paper = done([python.with_name("mmnet"), "train", "--recipe=paper", "--help"], tmp_path)
    assert "--recipe=" in paper
    with pytest.raises(AssertionError, match="choose one of auto, direct, lightgbm, mixed, paper"):
        done([python, "-m", "mmnet", "train", "--recipe=none"], tmp_path)
    rows = ["--table=Two: ha, gru", "--reference=ha", "--seeds=0", "--epochs=1", "--results=out"]
    done([python, "-m", "mmnet.experiment", *LOG, *rows], tmp_path)
    assert set(pd.read_csv(tmp_path / "out" / "two.csv")["system"]) == {"ha", "gru"}


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="an environment's programs are in bin/")
def test_an_installed_wheel_has_the_second_systems_rows(python, tmp_path):
    rows = ["--table=Two: p0, p0_r", "--seeds=0", "--epochs=1", "--jit=false", "--results=out"]
    done([python, "-m", "mmnet.mma4ctr.experiment", *CLICKS, *rows], tmp_path)
    assert set(pd.read_csv(tmp_path / "out" / "two.csv")["system"]) == {"p0", "p0_r"}
