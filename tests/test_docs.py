"""The examples of the documentation run as they stand."""

import re
from pathlib import Path

import numpy as np
import pytest

import mmnet

DOCS = Path(__file__).parents[1] / "docs"


def page(name):
    return (DOCS / name).read_text(encoding="utf-8")


def run_blocks(name):
    """Runs the Python examples of a page in turn; returns their names."""
    names = {}
    for block in re.findall(r"^```python\n(.*?)^```$", page(name), re.DOTALL | re.MULTILINE):
        exec(compile(block, f"docs/{name}", "exec"), names)
    return names


def test_the_python_pages_name_the_whole_api():
    for name in (*mmnet.__all__, *mmnet.mma4ctr.__all__):
        assert re.search(rf"\b{name}\b", page("python.md")), name
    for name in mmnet.layers.__all__:
        assert re.search(rf"^\|.*`{name}`", page("layers.md"), re.MULTILINE), name


@pytest.mark.slow(first=True)
@pytest.mark.usefixtures("undrawn")
def test_the_python_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = run_blocks("python.md")
    assert "| mmnet |" in capsys.readouterr().out
    assert set(names["scores"]["decision"]) <= {"keep", "drop"}


@pytest.mark.slow
def test_the_page_of_layers_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run_blocks("layers.md")
    inputs = [names[name] for name in ("seen", "missing", "district_id")]
    # Eagerly, as `predict` compiles the two models apart.
    np.testing.assert_array_equal(*(np.asarray(names[one](inputs)) for one in ("model", "same")))
    _, weights = names["listing"]([np.zeros((1, 20), "int32"), np.ones((1, 64), "float32")])
    np.testing.assert_array_equal(weights, [[0, 1]])
