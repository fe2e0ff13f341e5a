"""Nothing that is read can run: no pickles, no code in files, no path out of its directory."""

import ast
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mmnet
from mmnet import driver
from mmnet.checks import InputError, printable_lines
from mmnet.console import PlainConsole
from mmnet.data import dataset as datasets
from mmnet.data.ledger import Rule, ledger_table
from mmnet.evaluation.report import markdown_table
from mmnet.experiments import results
from mmnet.flags import Flags
from mmnet.serving import drift
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


OF_TEXT = {
    "data/spelling.py": "the text of a cell",
    "data/sources/tiktok.py": "a line of a log",
    "mma4ctr/data/sources/tiktok.py": "a line of a log",
    "evaluation/filtering.py": "what pandas has just written",
    "models/forests.py": "what CatBoost has just written",
    "serving/requests.py": "the body of a request",
    "training/fitting.py": "settings that were just written",
    "training/resume.py": "part of a file whose SHA-256 was checked",
}
"""Modules that parse JSON which is not a file of its own, and what it is."""


def test_json_files_are_read_by_one_function():
    """`files.read_json` raises what its callers answer by a sentence, however deep a file nests."""
    found = set()
    for path in FILES:
        for name, _, node in calls(ast.parse(path.read_text(encoding="utf-8"))):
            owner = getattr(getattr(node.func, "value", None), "id", "")
            if owner == "json" and name in ("load", "loads"):
                found.add(str(path.relative_to(PACKAGE)))
    assert found == OF_TEXT.keys() | {"files.py"}


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
    with pytest.raises(InputError, match=r"clicks\.npy is missing or truncated"):
        datasets.load(tmp_path / "set")
    np.savez(tmp_path / "best.npz", dataset=np.array("x"), **{"array-0": pickled})
    with pytest.raises(InputError):
        resume.load_arrays(tmp_path / "best.npz", "x")
    assert not trap.exists()


# ----------------------------------------------------------------------- foreign text in reports

HOSTILE = "a|b\n\x1b]0;owned\x07\u202e<script>alert(1)</script>[x](http://x)"
"""A name of a column: a cell and a line of its own, a terminal's title, HTML and a link."""


def is_harmless(text):
    """Whether text has none of what the hostile name is made of."""
    return not any(one in text for one in ("\x1b", "\x07", "\u202e", "<script", "](http"))


def test_a_name_cannot_add_cells_lines_html_or_links_to_a_markdown_table(tmp_path):
    finding = drift.Finding(HOSTILE, "PSI", 1.0, 0.2, HOSTILE, HOSTILE, True)
    drift.write(tmp_path, [finding], {"period": 3, "rows": 9})
    ledger = ledger_table([Rule(HOSTILE, HOSTILE, 2, 1, HOSTILE)])
    for text, columns in (
        (markdown_table(["System", "MSE"], [[HOSTILE, "1"]]), 2),
        (ledger, 6),
        ((tmp_path / "drift.md").read_text("utf-8"), 7),
    ):
        assert is_harmless(text)
        rows = [line for line in text.splitlines() if line.startswith("|")]
        assert len(rows) == 3
        # Every bar is one between cells or has a backslash: a name is escaped once.
        assert {line.replace(r"\|", "").count("|") for line in rows} == {columns + 1}
        assert r"\\|" not in text


def test_a_name_cannot_control_a_terminal(capsys):
    out = io.StringIO()
    PlainConsole(file=out).print(f"{HOSTILE}\n[red]two[/]")
    assert out.getvalue() == printable_lines(HOSTILE) + "\n[red]two[/]\n"

    def refuse(flags):
        error = InputError(f"{HOSTILE}: wrong. Received: {HOSTILE * 100}")
        error.ledger.append(HOSTILE)
        raise error

    def fail(flags):
        raise RuntimeError(HOSTILE)

    assert driver.run(Flags, "", refuse, []) == driver.WRONG_INPUT
    *_, refusal = refused = capsys.readouterr().err.splitlines()
    assert len(refused) == 2  # the ledger and the sentence
    assert len(refusal) < 600
    assert driver.run(Flags, "", fail, []) == driver.INTERNAL
    told = capsys.readouterr().err
    for text in (out.getvalue(), *refused, told):
        assert not any(one in text for one in ("\x1b", "\x07", "\u202e"))


def test_a_text_of_a_csv_report_is_no_formula():
    frame = pd.DataFrame({"row": ["=1+1", "+a", "@b", "-c", "mmnet"], "difference": [-0.5] * 5})
    lines = results.as_bytes(frame).decode().splitlines()
    assert lines[1:] == ["'=1+1,-0.5", "'+a,-0.5", "'@b,-0.5", "'-c,-0.5", "mmnet,-0.5"]
