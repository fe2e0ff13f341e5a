"""Checksums of an export: of every file, and of the parts that users would ask about.

A file's SHA-256 shows that something has changed. To show what, `checksums.json` also has a short
digest of every weight and of every value in the JSON assets, so that an error names the broken
weight, vocabulary line or threshold. They detect accidents (a bad disk, an interrupted transfer, an
edit by hand), but no attacker, who would recompute the checksums.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmnet.files import read_json, write_atomic
from mmnet.hashing import sha256

FILE = "assets.extra/checksums.json"
VARIABLES = "variables/variables"
VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
"""Suffix of keys of variables in a checkpoint."""
FORMAT = 1
SHORT = 8
"""Hexadecimal digits of a part's digest; the file's SHA-256 has already found the change."""
SHOWN = 5
"""Maximum number of parts to name per file."""

Mirror = dict[str, Any] | list[Any] | str
"""JSON with every value replaced by its digest; a list of values becomes one string of digests."""


def write(directory: Path, names: Mapping[str, str]) -> Path:
    """Writes the checksums of all other files of an export.

    Args:
        directory: directory of a SavedModel that is complete except for this file.
        names: key in the SavedModel's checkpoint -> readable name of the weight.
    """
    import tensorflow as tf  # reading checks the files without it

    reader = tf.train.load_checkpoint(str(directory / VARIABLES))
    weights = {
        key: {
            "name": names.get(key, key.removesuffix(VALUE)),
            "digest": _digest(reader.get_tensor(key).tobytes()),
        }
        for key in sorted(reader.get_variable_to_shape_map())
        if not key.startswith("_CHECKPOINTABLE")
    }
    return seal(directory, weights)


def seal(directory: Path, weights: Mapping[str, Any]) -> Path:
    """Writes the checksums of an export whose weights have been read; see `write`.

    Args:
        directory: as of `write`.
        weights: key in the checkpoint -> `name` and `digest`.
    """
    names = sorted(_files(directory))
    contents = {
        "format": FORMAT,
        "files": {name: sha256(directory / name) for name in names},
        "values": {
            name: mirror(read_json(directory / name)) for name in names if name.endswith(".json")
        },
        "weights": dict(weights),
    }
    contents["own"] = _own(contents)
    return write_atomic(directory / FILE, json.dumps(contents, indent=1) + "\n")


def problems(directory: Path) -> Iterator[str]:
    """Yields everything in an export that has changed since it was written.

    Yields:
        One clause per file, weight or value, with what is wrong with it.
    """
    try:
        stored = read_json(directory / FILE)
        if stored.pop("own") != _own(stored) or stored["format"] != FORMAT:
            raise ValueError
    except FileNotFoundError:
        yield f"{FILE} is missing"
        return
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        yield f"{FILE} is damaged"
        return
    there = _files(directory)
    for name in sorted(set(there) - set(stored["files"])):
        yield f"{name} does not belong to the export"
    for name, digest in stored["files"].items():
        if name not in there:
            yield f"{name} is missing"
        elif not there[name]:
            yield f"{name} is not a file"
        elif _sha256(directory / name) != digest:
            yield from _what_changed(directory, name, stored)


def _what_changed(directory: Path, name: str, stored: Mapping[str, Any]) -> Iterator[str]:
    parts: list[str] = []
    if name in stored["values"]:
        try:
            now = read_json(directory / name)
        except (OSError, ValueError) as error:  # UnicodeDecodeError is one too
            yield f"{name} is no longer valid JSON: {error}"
            return
        parts = [f"{name}: {part}" for part in different(stored["values"][name], mirror(now))]
    elif name.startswith(VARIABLES):
        parts = [f"{name}: {part}" for part in _changed_weights(directory, stored["weights"])]
    yield from parts[:SHOWN] or [f"{name} has changed"]
    if len(parts) > SHOWN:
        yield f"{name}: and {len(parts) - SHOWN} more"


def _changed_weights(directory: Path, weights: Mapping[str, Any]) -> Iterator[str]:
    import tensorflow as tf

    try:
        reader = tf.train.load_checkpoint(str(directory / VARIABLES))
    except Exception as error:  # each part of a damaged file raises its own exception
        yield f"cannot be read ({type(error).__name__})"
        return
    for key, weight in weights.items():
        try:
            same = _digest(reader.get_tensor(key).tobytes()) == weight["digest"]
        except Exception:  # TensorFlow's own checksum, or the end of the file
            same = False
        if not same:
            yield f"weight {weight['name']} has changed"


# ----------------------------------------------------------------------------- JSON, value by value


def mirror(value: Any) -> Mirror:
    """Replaces every value of a JSON document by its digest.

    >>> mirror({"threshold": 2.5, "words": ["a", "b"]})
    {'threshold': 'b8736b99', 'words': 'ac8d8342c100f95c'}
    """
    if isinstance(value, dict):
        return {key: mirror(one) for key, one in value.items()}
    if isinstance(value, list):
        if any(isinstance(one, dict | list) for one in value):
            return [mirror(one) for one in value]
        return "".join(_digest(json.dumps(one).encode()) for one in value)
    return _digest(json.dumps(value).encode())


def different(then: Mirror, now: Mirror, path: str = "") -> Iterator[str]:
    """Names the values in which two mirrored documents differ.

    >>> list(different(mirror({"words": ["a", "b"]}), mirror({"words": ["a", "c"]})))
    ['words, line 2 has changed']
    >>> list(different(mirror({"rule": {"threshold": 2.5}}), mirror({"rule": {}})))
    ['rule.threshold is missing']
    """
    if isinstance(then, dict) and isinstance(now, dict):
        for key in [*then, *(key for key in now if key not in then)]:
            here = f"{path}.{key}" if path else str(key)
            if key not in now or key not in then:
                yield f"{here} is {'missing' if key in then else 'new'}"
            else:
                yield from different(then[key], now[key], here)
    elif isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        for number, (one, other) in enumerate(zip(then, now, strict=True)):
            yield from different(one, other, f"{path}[{number}]")
    elif isinstance(then, str) and isinstance(now, str) and max(len(then), len(now)) > SHORT:
        lines = [
            number
            for number in range(max(len(then), len(now)) // SHORT)
            if then[number * SHORT :][:SHORT] != now[number * SHORT :][:SHORT]
        ]
        yield from (f"{path}, line {number + 1} has changed" for number in lines)
    elif then != now:
        yield f"{path} has changed"


def _own(contents: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in contents.items() if name != "own"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


_FOLDERS = {"assets", "assets.extra", "variables"}
"""Directories of a SavedModel; the first is empty if the model has no vocabulary files."""


def _files(directory: Path) -> dict[str, bool]:
    """Name of everything in an export but its checksums -> whether it is a file.

    Folders are not listed, apart from links to folders and empty ones that no export has.
    """
    found = {}
    for path in directory.rglob("*"):
        name = path.relative_to(directory).as_posix()
        if path.is_dir() and not path.is_symlink() and (name in _FOLDERS or _is_filled(path)):
            continue
        found[name] = path.is_file()
    found.pop(FILE, None)
    return found


def _is_filled(folder: Path) -> bool:
    try:
        return any(folder.iterdir())
    except OSError:  # it cannot be listed
        return False


def _sha256(path: Path) -> str:
    try:
        return sha256(path)
    except OSError:
        return "it cannot be read"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:SHORT]
