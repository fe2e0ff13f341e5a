"""Options of a model, read from its source: to load Keras for a wrong option would take seconds."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import types
import typing
from pathlib import Path
from typing import Any


def options_of(module: str, function: str) -> dict[str, inspect.Parameter]:
    """The keyword-only arguments of a function, as `inspect.signature` would return them.

    Nothing is run: defaults must be literals. What the arguments' types name is imported, so that
    must come from a module that is quick to load.

    Args:
        module: where the function is, by its full name.
        function: its name.

    Returns:
        Name -> its type and default.

    >>> options_of("mmnet.models.mmved", "mmved")["kl_weight"]
    <Parameter "kl_weight: float = 0.3">
    """
    found = importlib.util.find_spec(module)
    if found is None or not found.origin:
        raise ModuleNotFoundError(module)
    source = ast.parse(Path(found.origin).read_text(encoding="utf-8"), found.origin)
    (read,) = (
        node.args
        for node in source.body
        if isinstance(node, ast.FunctionDef) and node.name == function
    )
    texts = {one.arg: ast.unparse(one.annotation) for one in read.kwonlyargs if one.annotation}
    used = {node.id for node in ast.walk(read) if isinstance(node, ast.Name)}
    kinds = typing.get_type_hints(
        types.SimpleNamespace(__annotations__=texts), globalns=_imported(source, used)
    )
    return {
        one.arg: inspect.Parameter(
            one.arg,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if default is None else ast.literal_eval(default),
            annotation=kinds.get(one.arg, inspect.Parameter.empty),
        )
        for one, default in zip(read.kwonlyargs, read.kw_defaults, strict=True)
    }


def _imported(source: ast.Module, used: set[str]) -> dict[str, Any]:
    """What a module imports of the names that are used, by these names."""
    return {
        name.asname or name.name: getattr(importlib.import_module(node.module), name.name)
        for node in source.body
        if isinstance(node, ast.ImportFrom) and node.module
        for name in node.names
        if (name.asname or name.name) in used
    }
