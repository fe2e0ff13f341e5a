"""The sources of the tutorials parse, and name what the public API has; the site executes them."""

import ast
import inspect
import re
from pathlib import Path

import pytest

import mmnet
from mmnet import config

TUTORIALS = sorted((Path(__file__).parents[1] / "docs" / "tutorials").glob("*.py"))
OPTIONS = {
    "train": config.TrainConfig,
    "from_source": config.PrepareConfig,
    "score": config.PredictConfig,
    "drift": config.DriftConfig,
}
"""Methods that take flags as options."""


@pytest.fixture(params=TUTORIALS, ids=lambda path: path.stem)
def source(request):
    return request.param.read_text(encoding="utf-8")


def chain(node):
    """The names of `a.b.c`, outermost first; nothing for other expressions."""
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute) and (names := chain(node.value)):
        return [*names, node.attr]
    return []


def test_there_are_four_with_a_title_and_a_conclusion(source):
    assert {path.stem for path in TUTORIALS} == {"decision", "layers", "nightly", "paper"}
    assert re.search(
        r"^# %% \[markdown\]\n# # \S.*\n#\n# \*\*Conclusion\.\*\* ", source, re.MULTILINE
    )


def test_it_names_only_what_is_public(source):
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            assert not node.module.startswith("mmnet"), node.module
        elif isinstance(node, ast.Import):
            assert not [one.name for one in node.names if one.name.startswith("mmnet.")]
        elif isinstance(node, ast.Attribute):
            assert not re.match("_(?!_)", node.attr), node.attr
            root, *names = chain(node) or [""]
            if root == "mmnet" and names != ["__file__"]:
                found = mmnet
                for name in names:
                    assert name in dir(found), ".".join(names)
                    found = getattr(found, name)
                    if not inspect.isclass(found) and not inspect.ismodule(found):
                        break


def test_its_options_are_flags(source):
    asked = 0
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            name = node.func.attr
            if name in OPTIONS:
                owner = {"train": mmnet.Run, "from_source": mmnet.Dataset}.get(name, mmnet.Export)
                known = {
                    *OPTIONS[name].model_fields,
                    *inspect.signature(getattr(owner, name)).parameters,
                }
                given = {keyword.arg for keyword in node.keywords if keyword.arg}
                assert given <= known, given - known
                asked += len(given)
    assert asked or "layers.MultiMode" in source
