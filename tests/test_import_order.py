"""Imports point one way, so that every file can be read after those it builds on."""

import ast
from pathlib import Path

import mmnet

PACKAGE = Path(mmnet.__file__).parent
ROOMS = (
    ("schema", "config", "checks", "files", "hashing", "startup"),
    ("data", "encoders", "layers"),
    ("models",),
    ("evaluation",),
    ("training",),
    ("serving",),
    ("mma4ctr",),
    ("experiments",),
    ("tasks",),
    ("driver",),
    ("prepare", "encode", "train", "evaluate", "predict", "drift", "experiment"),
)
RANK = {room: rank for rank, rooms in enumerate(ROOMS) for room in rooms}
BESIDE = {("data", "encoders")}  # what turns content into tokens and vectors


def room_of(path):
    """The second system's own tasks and drivers stand where those of the first do."""
    first, *inside = path.relative_to(PACKAGE).with_suffix("").parts
    own = first == "mma4ctr" and inside[0] in ("tasks", *ROOMS[-1])
    return inside[0] if own else first


def imported(path):
    """Every module that a file imports, wherever the import stands, relative ones resolved."""
    package = ("mmnet", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) + 1 - node.level] if node.level else ()
            module = ".".join([*start, *([node.module] if node.module else [])])
            yield from (f"{module}.{name.name}" for name in node.names)


def files():
    return [path for path in sorted(PACKAGE.rglob("*.py")) if room_of(path) != "__init__"]


def test_every_file_stands_in_a_room():
    assert {room_of(path) for path in files()} <= set(RANK)


def test_imports_point_one_way():
    wrong = []
    for path in files():
        here = room_of(path)
        for module in imported(path):
            parts = module.split(".")
            if parts[:2] == ["mmnet", "mma4ctr"]:
                parts = ["mmnet", room_of(PACKAGE.joinpath(*parts[1:3]))]
            if parts[0] != "mmnet" or len(parts) < 2 or parts[1] not in RANK:
                continue
            there = parts[1]
            beside = RANK[here] == RANK[there] == 0 or (here, there) in BESIDE
            if not (here == there or RANK[there] < RANK[here] or beside):
                wrong.append(f"{path.relative_to(PACKAGE)} imports {module}")
    assert not wrong


def test_layers_and_models_know_keras_only():
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {module}"
        for room in ("layers", "models")
        for path in (PACKAGE / room).rglob("*.py")
        for module in imported(path)
        if module.split(".")[0] == "tensorflow"
    ]
    assert not wrong


def test_flags_are_read_without_tensorflow():
    # A wrong flag is told at once, not after seconds of loading.
    for room in ROOMS[0]:
        for module in imported(PACKAGE / f"{room}.py"):
            assert module.split(".")[0] not in ("tensorflow", "keras")
