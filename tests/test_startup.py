import importlib
import os
import sys

import pytest

from mmnet import startup
from mmnet.checks import InputError


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


def test_float32_is_float32_on_a_gpu_too():
    tf = pytest.importorskip("tensorflow")
    switch = tf.config.experimental.enable_tensor_float_32_execution
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    switch(True)
    try:
        startup._set_up()
        assert not tf.config.experimental.tensor_float_32_execution_enabled()
    finally:
        switch(before)


def test_gpus_are_preferred_and_counted(monkeypatch):
    tf = pytest.importorskip("tensorflow")
    found = {"GPU": ["one", "two"], "CPU": ["a processor"]}
    monkeypatch.setattr(tf.config, "list_physical_devices", found.__getitem__)
    assert startup.devices_for(2) == ["GPU:0", "GPU:1"]
    with pytest.raises(InputError, match=r"--devices=3: TensorFlow sees 2 GPUs .* --devices=2"):
        startup.devices_for(3)
    found["GPU"] = []
    monkeypatch.setattr(tf.config, "get_logical_device_configuration", lambda cpu: [cpu, cpu])
    assert startup.devices_for(2) == ["CPU:0", "CPU:1"]
    with pytest.raises(InputError, match=r"--devices=3: TensorFlow sees no GPU .* --devices=1"):
        startup.devices_for(3)
