"""Nothing that is read can run: no pickles, no code in files, no path out of its directory."""

import ast
from pathlib import Path

import numpy as np
import pytest

import mmnet
from mmnet.checks import InputError
from mmnet.data import dataset as datasets
from mmnet.training import resume

PACKAGE = Path(mmnet.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
NO_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "tarfile"}
"""What runs code on loading, or unpacks archives whose members lead anywhere."""
NO_CALLS = {"eval", "exec", "compile", "__import__", "load_model", "unpack_archive", "extractall"}
AS_JSON = {("models/catboost.py", "load_model")}
"""Calls of these names that read numbers from JSON, and say so."""
NO_METHODS = {"read_pickle", "to_pickle", "enable_unsafe_deserialization"}
NO_METHODS_OF_OS = {"system", "popen"}


def calls(tree):
    """Every call: its function's last name, whether it is a method, and its keywords."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = node.func
            name = getattr(function, "attr", getattr(function, "id", ""))
            yield name, isinstance(function, ast.Attribute), node


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_reads_what_could_run(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not {name.split(".")[0] for name in names} & NO_MODULES
    for name, is_method, node in calls(tree):
        keywords = {one.arg: one.value for one in node.keywords}
        if (str(path.relative_to(PACKAGE)), name) in AS_JSON:
            assert ast.literal_eval(keywords["format"]) == "json"
            continue
        # `re.compile` and `model.compile` are methods of that name that run nothing.
        assert name not in (NO_CALLS - {"compile"} if is_method else NO_CALLS)
        owner = getattr(getattr(node.func, "value", None), "id", "")
        assert not (is_method and name in NO_METHODS)
        assert not (owner == "os" and name in NO_METHODS_OF_OS)
        if is_method and name in ("load", "save") and owner == "np":
            stated = keywords.get("allow_pickle")
            assert isinstance(stated, ast.Constant), f"np.{name} must say allow_pickle=False"
            assert stated.value is False
        shell = keywords.get("shell")
        assert shell is None or (isinstance(shell, ast.Constant) and shell.value is False)


def test_the_search_would_find_one():
    tree = ast.parse("import numpy as np\nnp.load('a', allow_pickle=True)\neval('1')")
    assert [name for name, *_ in calls(tree)] == ["load", "eval"]


class Trouble:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_pickle_in_the_place_of_an_array_is_refused_and_not_run(run_dir, tmp_path):
    trap = tmp_path / "trap"
    pickled = np.array([Trouble(trap)], object)
    datasets.save(datasets.load(run_dir / "dataset"), tmp_path / "set")
    (array,) = (tmp_path / "set").glob("*/clicks.npy")
    np.save(array, pickled, allow_pickle=True)
    with pytest.raises(InputError, match=r"clicks\.npy is missing or cut off"):
        datasets.load(tmp_path / "set")
    np.savez(tmp_path / "best.npz", dataset=np.array("x"), **{"array-0": pickled})
    with pytest.raises(InputError):
        resume.load_arrays(tmp_path / "best.npz", "x")
    assert not trap.exists()
