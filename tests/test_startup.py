import importlib
import os
import sys

import pytest

from mmnet import startup


def test_what_looks_uninstalled_can_be_imported_afterwards(tmp_path, monkeypatch):
    (tmp_path / "a_large_package.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    with startup._not_installed(["a_large_package", "os"]):
        with pytest.raises(ImportError):
            importlib.import_module("a_large_package")
        # What is loaded already stays.
        assert sys.modules["os"] is os
    assert importlib.import_module("a_large_package").__name__ == "a_large_package"
    del sys.modules["a_large_package"]


def test_a_package_that_is_loaded_meanwhile_stays(monkeypatch):
    with startup._not_installed(["a_small_package"]):
        monkeypatch.setitem(sys.modules, "a_small_package", os)
    assert sys.modules["a_small_package"] is os


def test_notes_at_start_are_hidden_and_later_ones_are_not(capfd):
    with startup.startup_notes_hidden():
        os.write(2, b"a note\n")
    os.write(2, b"an error\n")
    assert capfd.readouterr().err == "an error\n"


def test_loading_twice_changes_nothing():
    pytest.importorskip("tensorflow")
    pytest.importorskip("keras")
    before = set(sys.modules)
    startup.load_tensorflow()
    assert set(sys.modules) == before
