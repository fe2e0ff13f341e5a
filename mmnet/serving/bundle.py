"""Exports of both systems: written, checked, loaded and verified in the same way.

An export is a directory with a SavedModel and, in `assets.extra/`, the files needed to check and to
use it:

    saved_model.pb, variables/                 the module and its signatures
    assets.extra/fitted.json or mma4ctr.json   description of the model, `exported.About`
    assets.extra/*.json                        more documents: decision rules, a profile
    assets.extra/tf_serving_warmup_requests    golden rows, see `golden`
    assets.extra/checksums.json                see `checksums`

Loading needs TensorFlow alone, without Keras or any code of models.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.python.saved_model.loader_impl import parse_saved_model

from mmnet.checks import InputError
from mmnet.files import write_directory
from mmnet.serving import checksums, exported, golden
from mmnet.serving.exported import ABOUT_DIRECTORY, About, Kind
from mmnet.serving.golden import Golden

Signature = tuple[Callable[..., Mapping[str, tf.Tensor]], Mapping[str, tf.TensorSpec]]
"""A function of named tensors, and its inputs by name."""


def write(
    directory: str | os.PathLike[str],
    module: tf.Module,
    signatures: Mapping[str, Signature],
    about: About,
    *,
    version: int = 1,
    assets: Mapping[str, Any] | None = None,
    goldens: Sequence[Golden] = (),
    checked: Sequence[Golden] = (),
    names: Mapping[str, str] | None = None,
) -> Path:
    """Writes `directory/<version>/` atomically.

    Args:
        directory: directory of the versions, in the layout of TensorFlow Serving.
        module: owner of all variables and tables that the signatures need.
        signatures: functions by name.
        about: the system's description of the model.
        version: version of this model.
        assets: more JSON documents to include, by file name in `assets.extra/`.
        goldens: batches to include, with the outputs of the trained model, which the SavedModel
            must reproduce.
        checked: more batches that the SavedModel must score in the same way; they are not written.
        names: key in the SavedModel's checkpoint -> readable name of the weight; default: the path
            of attributes that leads to it from the module.

    Returns:
        The directory of the version.

    Raises:
        RuntimeError: the SavedModel returns other scores than the trained model.
    """

    def fill(beside: Path) -> None:
        functions = {
            name: tf.function(function, autograph=False).get_concrete_function(**inputs)
            for name, (function, inputs) in signatures.items()
        }
        tf.saved_model.save(module, str(beside), functions)
        documents = {f"{ABOUT_DIRECTORY}/{name}": one for name, one in (assets or {}).items()}
        documents[about.FILE] = about.model_dump(mode="json")
        (beside / ABOUT_DIRECTORY).mkdir(exist_ok=True)
        for name, document in documents.items():
            text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
            (beside / name).write_text(text, encoding="utf-8")
        if goldens or checked:
            loaded = tf.saved_model.load(str(beside))  # it keeps the signatures' variables alive
            for one in (*checked, *goldens):
                if wrong := golden.differences(loaded.signatures, one, about.tolerance):
                    raise RuntimeError(
                        f"not exported: the SavedModel differs from the model: {wrong}"
                    )
        if goldens:
            golden.write(beside / golden.FILE, goldens)
        checksums.write(beside, names or {})

    return write_directory(Path(directory) / str(version), fill)


def load(path: str | os.PathLike[str], kind: type[Kind]) -> tuple[Any, Kind]:
    """Loads an export: the version's directory, or the newest version in its parent.

    The last two stay in memory: loading takes seconds, and most uses of an export less. One whose
    files have been replaced or written to since is loaded again.

    Returns:
        The loaded module, and the system's description of the model.

    Raises:
        InputError: it is not a SavedModel, not one of this system, or damaged.
    """
    path = exported.version_directory(path)
    about = exported.about(path, kind)
    try:
        return _loaded(path.resolve(), _seen(path)), about
    except Exception as error:  # each part of a damaged file raises its own exception
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"--saved_model={path} cannot be loaded ({told}); find the damage with --verify"
        ) from None


@functools.lru_cache(maxsize=2)
def _loaded(path: Path, seen: tuple[tuple[str, int, int, int], ...]) -> Any:
    del seen  # part of the cache key
    return tf.saved_model.load(str(path))


def _seen(path: Path) -> tuple[tuple[str, int, int, int], ...]:
    """Returns what tells the files of an export from others with their names."""
    files = [(str(file.relative_to(path)), file.stat()) for file in sorted(path.rglob("*"))]
    return tuple((name, one.st_ino, one.st_mtime_ns, one.st_size) for name, one in files)


def release() -> None:
    """Drops the exports that stay in memory."""
    _loaded.cache_clear()


def signatures(path: str | os.PathLike[str]) -> set[str]:
    """Returns the names of the signatures of a SavedModel, without loading it.

    Raises:
        InputError: it is not a SavedModel, or damaged.
    """
    path = exported.version_directory(path)
    try:
        return set(parse_saved_model(str(path)).meta_graphs[0].signature_def)
    except (OSError, DecodeError, IndexError):
        raise InputError(
            f"--saved_model={path} cannot be read; find the damage with --verify"
        ) from None


# ------------------------------------------------------------------------------------ verifying


@dataclass(frozen=True)
class Check:
    """Result of one check of an export.

    Attributes:
        name: name of the check.
        problem: what is wrong, with the file, weight, line or value; empty if nothing is.
    """

    name: str
    problem: str = ""

    @property
    def line(self) -> str:
        """The check as a line of text."""
        return f"WRONG  {self.name}: {self.problem}" if self.problem else f"ok     {self.name}"


def verify(path: str | os.PathLike[str]) -> Iterator[Check]:
    """Checks an export: its files by their checksums, then its golden rows in every signature.

    A model whose files have changed is not loaded, since loading could run anything.

    Args:
        path: directory of the version, or its parent for the newest version; of either system.

    Yields:
        At least one `Check` for each aspect, several if several things are wrong.

    Raises:
        InputError: there is no SavedModel.
    """
    directory = exported.version_directory(path)
    found = [Check("checksums", problem) for problem in exported.changes(directory)]
    yield from found or [Check("checksums")]
    if found:
        return
    try:
        tolerance = exported.about_any(directory).tolerance
        signatures = tf.saved_model.load(str(directory)).signatures
    except Exception as error:  # each part of a damaged file raises its own exception
        yield Check("loads", (str(error) or type(error).__name__).splitlines()[0])
        return
    yield Check("loads")
    seen: dict[str, str] = {}
    try:
        for batch in golden.read(directory / golden.FILE):
            wrong = golden.differences(signatures, batch, tolerance)
            seen[batch.signature] = seen.get(batch.signature) or wrong
    except ValueError as error:
        yield Check("golden rows", f"{golden.FILE} cannot be read: {error}")
        return
    for signature, wrong in seen.items():
        yield Check(f"golden rows, {signature}", wrong)
    for signature in sorted(set(signatures) - set(seen)):
        yield Check(f"golden rows, {signature}", "no golden rows of this signature")


def check(path: str | os.PathLike[str], report: Callable[[str], object] | None = None) -> Path:
    """Raises an error if an export has changed since it was written.

    Args:
        path: as for `verify`.
        report: called with a line about every check.

    Returns:
        The directory of the version.

    Raises:
        InputError: a check failed, or there is no SavedModel.
    """
    wrong = []
    for one in verify(path):
        if report is not None:
            report(one.line)
        wrong += [one.problem] if one.problem else []
    exported.refuse(path, wrong)
    return exported.version_directory(path)
