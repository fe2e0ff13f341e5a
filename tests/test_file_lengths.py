"""No file grows beyond what one reading takes in."""

import ast
import io
import tokenize
from pathlib import Path

import mmnet

PACKAGE = Path(mmnet.__file__).parent
MOST = 400
"""Lines of code of a file: blank lines, comments and docstrings are not counted."""
LONGER: dict[str, str] = {}
"""Files that may be longer, and why."""


def lines_of_code(path):
    text = path.read_text(encoding="utf-8")
    places = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = set()
    for node in ast.walk(ast.parse(text)):
        for body in [node.body] if isinstance(node, places) else []:
            for one in body:
                value = getattr(one, "value", None) if isinstance(one, ast.Expr) else None
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    docstrings.update(range(one.lineno, one.end_lineno + 1))
    silent = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    found = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in (*silent, tokenize.ENDMARKER):
            found.update(range(token.start[0], token.end[0] + 1))
    return len(found - docstrings)


def test_a_docstring_and_comments_are_no_code(tmp_path):
    path = tmp_path / "one.py"
    path.write_text('"""Says\n\nso."""\n\n# why\nA = (\n    1,\n)\n"""Of A."""\n', "utf-8")
    assert lines_of_code(path) == 3


def test_no_file_is_longer_than_it_has_a_reason_for():
    lengths = {
        str(path.relative_to(PACKAGE)): lines_of_code(path) for path in PACKAGE.rglob("*.py")
    }
    assert {name for name, lines in lengths.items() if lines > MOST} == set(LONGER)
