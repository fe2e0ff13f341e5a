import ast
import re
from pathlib import Path

import pytest

from mmnet.models.mmnet import mmnet
from mmnet.models.options import MMNetOptions
from mmnet.models.picture import mermaid
from tests.models.tiny import SPEC

ROOT = Path(__file__).parents[1]
ROW = re.compile(r"^\| (?P<paper>[^|]+) \| [^|]+ \| `(?P<code>[^`]+)`[^|]*\| `(?P<test>[^`]+)` \|$")
NOTES = (ROOT / "BUILD_NOTES.md").read_text(encoding="utf-8")
ROWS = [row.groupdict() for row in map(ROW.match, NOTES.splitlines()) if row]


def cited_equations():
    """Every equation that a docstring below mmnet/ cites as the paper's."""
    found = set()
    for path in (ROOT / "mmnet").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                for sentence in re.split(r"\n\n|\. (?=[A-Z])", ast.get_docstring(node) or ""):
                    if "Lian" not in sentence:  # xDeepFM's own equations
                        found.update(re.findall(r"Eq\. \d+", sentence))
    return found


def test_the_map_has_all_equations_of_the_paper():
    assert [row["paper"] for row in ROWS if "Eq." in row["paper"]] == [
        f"Eq. {number}" for number in range(1, 12)
    ]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["paper"])
def test_the_map_names_code_and_tests_that_are_there(row):
    path, _, name = row["code"].partition(":")
    assert (ROOT / path).exists()
    assert (ROOT / row["test"]).exists()
    if name:
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        assert name in {getattr(node, "name", None) for node in tree.body}


def test_what_docstrings_cite_is_in_the_map():
    assert cited_equations() <= {row["paper"] for row in ROWS}
    assert len(cited_equations()) >= 8


def test_the_picture_is_the_models_own():
    assert mermaid(mmnet(SPEC, MMNetOptions())).strip() in NOTES
