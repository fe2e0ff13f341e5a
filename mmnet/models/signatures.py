"""Options of a model, read from its source: to load Keras for a wrong option would take seconds."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any


def options_of(module: str, function: str) -> Callable[..., None]:
    """A function with the keyword-only arguments of another one, and nothing else of it.

    Only what the arguments' types and defaults name is imported, so that must come from a module
    that is quick to load.

    Args:
        module: where the other one is, by its full name.
        function: its name.

    Returns:
        A function that does nothing; `inspect.signature` and `typing.get_type_hints` read it.

    >>> options_of("mmnet.models.mmved", "mmved").__kwdefaults__["kl_weight"]
    0.3
    """
    found = importlib.util.find_spec(module)
    if found is None or not found.origin:
        raise ModuleNotFoundError(module)
    source = ast.parse(Path(found.origin).read_text(encoding="utf-8"), found.origin)
    (shell,) = (
        node for node in source.body if isinstance(node, ast.FunctionDef) and node.name == function
    )
    shell.args.args, shell.args.defaults, shell.returns = [], [], None
    shell.body, shell.decorator_list = [ast.Pass()], []
    used = {node.id for node in ast.walk(shell) if isinstance(node, ast.Name)}
    imports: list[ast.stmt] = [
        node
        for node in source.body
        if isinstance(node, ast.ImportFrom)
        and (
            node.module == "__future__" or used & {name.asname or name.name for name in node.names}
        )
    ]
    tree = ast.fix_missing_locations(ast.Module([*imports, shell], []))
    namespace: dict[str, Any] = {"__name__": module}
    exec(compile(tree, found.origin, "exec"), namespace)
    return namespace[function]
