"""What an installed mmnet tells type checkers, and what its own type check covers."""

import runpy
from pathlib import Path

import setuptools

ROOT = Path(__file__).parents[1]


def test_type_hints_are_shipped(monkeypatch):
    told = {}
    monkeypatch.setattr(setuptools, "setup", told.update)
    runpy.run_path(str(ROOT / "setup.py"))
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
