"""The examples of the documentation run as they stand."""

import re
from pathlib import Path

import pytest

import mmnet

DOCS = Path(__file__).parents[1] / "docs"


def test_the_python_page_names_the_whole_api():
    page = (DOCS / "python.md").read_text(encoding="utf-8")
    for name in (*mmnet.__all__, *mmnet.layers.__all__):
        if name not in ("AgeEmbedding", "Bounded", "HiddenHistory", "KnownAge"):  # of MMNet's own
            assert re.search(rf"\b{name}\b", page), name


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_the_python_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page = (DOCS / "python.md").read_text(encoding="utf-8")
    names = {}
    for block in re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE):
        exec(compile(block, "docs/python.md", "exec"), names)
    assert re.search(r"^mmnet +\d", capsys.readouterr().out, re.MULTILINE)
    assert set(names["scores"]["decision"]) <= {"keep", "drop"}
