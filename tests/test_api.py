"""`import mmnet` as its users see it."""

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import mmnet


def test_dir_shows_the_api_and_nothing_private():
    assert dir(mmnet) == sorted([*mmnet.__all__, "__version__"])
    assert not [name for name in dir(mmnet) if name.startswith("_") and name != "__version__"]
    assert dir(mmnet.layers) == sorted(mmnet.layers.__all__)
    for name in mmnet.__all__:
        assert inspect.getdoc(getattr(mmnet, name)), name


def test_every_public_layer_is_exported():
    of_estimators = {"smoothing", "trees"}  # what their exports are made of
    files = {path.stem for path in Path(mmnet.layers.__file__).parent.glob("[a-z]*.py")}
    found = set()
    for file in files - of_estimators:
        module = importlib.import_module(f"mmnet.layers.{file}")
        members = inspect.getmembers(module, inspect.isclass)
        found |= {name for name, one in members if one.__module__ == module.__name__}
    assert {name for name in found if not name.startswith("_")} == set(mmnet.layers.__all__)


def test_what_is_not_there_is_an_attribute_error():
    assert not hasattr(mmnet, "Nothing")
    assert not hasattr(mmnet.layers, "Nothing")


def test_importing_it_is_fast_and_loads_neither_tensorflow_nor_pandas():
    heavy = {"tensorflow", "keras", "pandas", "numpy"}
    code = f"""if True:
        import sys, time
        start = time.process_time()  # of this process, whatever else the machine does
        import mmnet
        dir(mmnet); dir(mmnet.mma4ctr)
        print(time.process_time() - start, *{heavy} & {{*sys.modules}})"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, *loaded = done.stdout.split()
    assert not loaded
    assert float(seconds) < 0.3
