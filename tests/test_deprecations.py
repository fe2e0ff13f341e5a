"""What is deprecated works for two more minor versions, and warns once."""

import ast
import warnings
from pathlib import Path
from typing import Annotated

import pytest
from packaging.version import Version

import mmnet
from mmnet import deprecations
from mmnet.deprecations import Deprecated
from mmnet.flags import Flags, parse

PACKAGE = Path(mmnet.__file__).parent


class ExampleFlags(Flags):
    """Flags of an example."""

    scores: Annotated[str, Deprecated("0.2", "use --output")] = ""
    output: str = ""


@pytest.fixture(autouse=True)
def nothing_warned_of(monkeypatch):
    monkeypatch.setattr(deprecations, "_warned", set())


def test_a_deprecated_flag_works_and_warns_once():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            assert parse(ExampleFlags, ["--scores=a"]).scores == "a"
    assert [one.category for one in caught] == [FutureWarning]
    sentence = "--scores is deprecated since mmnet 0.2 and will be removed in 0.5: use --output"
    assert [str(one.message) for one in caught] == [sentence]


def test_a_flag_that_is_not_given_does_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert parse(ExampleFlags, ["--output=a"]).scores == ""


@pytest.mark.parametrize(
    ("since", "removed"), [("0.2", (0, 5)), ("1.9", (1, 12))], ids=["0.2", "1.9"]
)
def test_two_minor_versions_lie_between(since, removed):
    assert Deprecated(since, "").removed_in == removed


def overdue(source, version):
    """Versions that deprecated something which is to be gone in a version."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Deprecated":
            since = Deprecated(node.args[0].value, "")
            if version >= since.removed_in:
                yield since.since


def test_nothing_is_kept_past_its_time():
    now = Version(mmnet.__version__)
    major, minor = now.major, now.minor
    for path in PACKAGE.rglob("*.py"):
        assert not list(overdue(path.read_text(encoding="utf-8"), (major, minor))), path
    assert list(overdue('Deprecated("0.2", "use --x")', (0, 5))) == ["0.2"]
    assert not list(overdue('Deprecated("0.2", "use --x")', (0, 4)))
