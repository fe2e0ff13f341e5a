"""What an installed mmnet tells type checkers, and what its own type check covers."""

import itertools
import re
import runpy
from pathlib import Path

import pytest
import setuptools
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]


@pytest.fixture
def told(monkeypatch):
    """What setup.py says of the package."""
    found = {}
    monkeypatch.setattr(setuptools, "setup", found.update)
    runpy.run_path(str(ROOT / "setup.py"))
    return found


def test_type_hints_are_shipped(told):
    assert "py.typed" in told["package_data"]["mmnet"]
    for package, patterns in told["package_data"].items():
        directory = ROOT.joinpath(*package.split("."))
        assert all(any(directory.glob(pattern)) for pattern in patterns), package


def test_no_module_is_left_out_of_the_type_check():
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert "check_untyped_defs = true" in settings
    for exception in ("ignore_errors", "exclude", "disable_error_code"):
        assert exception not in settings
    for path in (ROOT / "mmnet").rglob("*.py"):
        assert "mypy: " not in path.read_text(encoding="utf-8"), path  # settings of one file


TOOLS = {"pytest", "pytest-xdist", "ruff", "mypy", "codespell"}
"""What only checks the code, and is pinned by CI alone."""


def test_every_requirement_has_bounds(told):
    for line in itertools.chain(told["install_requires"], *told["extras_require"].values()):
        wanted = Requirement(line)
        operators = {one.operator for one in wanted.specifier}
        if wanted.name not in TOOLS and operators != {"=="}:
            assert {">=", "<"} <= operators, line


def test_ci_installs_pinned_versions_within_the_bounds(told):
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert list(pins) == sorted(pins)
    extras = told["extras_require"]
    for line in [*told["install_requires"], *extras["test"], *extras["docs"], *extras["spark"]]:
        wanted = Requirement(line)
        assert wanted.specifier.contains(pins[canonicalize_name(wanted.name)]), line
    commands = (ROOT / ".ci/run").read_text(encoding="utf-8")
    installs = re.findall(r'pip install .*"\.\[test', commands)
    assert installs
    assert all("--constraint constraints.txt" in line for line in installs)
