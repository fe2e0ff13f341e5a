"""Exports of both systems: written, checked, loaded and verified in one way.

An export is a directory that holds a SavedModel and, in `assets.extra/`, what it takes to check and
to use it:

    saved_model.pb, variables/                 the module and its signatures
    assets.extra/fitted.json or mma4ctr.json   what the system says of the model, `exported.About`
    assets.extra/*.json                        more documents: decision rules, a profile
    assets.extra/tf_serving_warmup_requests    golden rows, see `golden`
    assets.extra/checksums.json                see `checksums`

Loading takes TensorFlow alone, without Keras or any code of models.
"""

from __future__ import annotations

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
    """Writes `directory/<version>/`, whole or not at all.

    Args:
        directory: of the versions, in the layout of TensorFlow Serving.
        module: holds all variables and tables that the signatures need.
        signatures: what can be called, by name.
        about: what the system says of the model.
        version: of this model.
        assets: more JSON documents to go along, by the file's name in `assets.extra/`.
        goldens: batches to go along with the outputs that the trained model gives; the SavedModel
            must give them too.
        checked: more batches that the SavedModel must score in the same way; they are not written.
        names: key in the SavedModel's checkpoint -> what a person calls that weight; by default
            the path of attributes that leads to it from the module.

    Returns:
        The version's directory.

    Raises:
        RuntimeError: the SavedModel gives other scores than the trained model.
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
                    raise RuntimeError(f"the SavedModel is not the model: {wrong}; not exported")
        if goldens:
            golden.write(beside / golden.FILE, goldens)
        checksums.write(beside, names or {})

    return write_directory(Path(directory) / str(version), fill)


def load(path: str | os.PathLike[str], kind: type[Kind]) -> tuple[Any, Kind]:
    """Loads an export: the version's directory, or the newest below its parent.

    Returns:
        The loaded module, and what the system says of it.

    Raises:
        InputError: no SavedModel, not one of this system, or a damaged one.
    """
    path = exported.version_directory(path)
    about = exported.about(path, kind)
    try:
        return tf.saved_model.load(str(path)), about
    except Exception as error:  # each part of a damaged file raises its own
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"--saved_model={path} cannot be loaded ({told}); --verify says what is damaged"
        ) from None


def signatures(path: str | os.PathLike[str]) -> set[str]:
    """Names the signatures of a SavedModel, without loading it.

    Raises:
        InputError: no SavedModel, or a damaged one.
    """
    path = exported.version_directory(path)
    try:
        return set(parse_saved_model(str(path)).meta_graphs[0].signature_def)
    except (OSError, DecodeError, IndexError):
        raise InputError(
            f"--saved_model={path} cannot be read; --verify says what is damaged"
        ) from None


# ------------------------------------------------------------------------------------ verifying


@dataclass(frozen=True)
class Check:
    """One question about an export, and its answer.

    Attributes:
        name: what was checked.
        problem: what is wrong, which file, weight, line or value; empty where nothing is.
    """

    name: str
    problem: str = ""

    @property
    def line(self) -> str:
        """How the check is shown."""
        return f"WRONG  {self.name}: {self.problem}" if self.problem else f"ok     {self.name}"


def verify(path: str | os.PathLike[str]) -> Iterator[Check]:
    """Checks an export: its files by their checksums, then its golden rows in every signature.

    A model whose files have changed is not loaded: there is no telling what would run.

    Args:
        path: the version's directory, or its parent for the newest version; of either system.

    Yields:
        One `Check` at least for each question, several where several things are wrong.

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
    except Exception as error:  # each part of a damaged file raises its own
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
        yield Check(f"golden rows, {signature}", "there are none of this signature")


def check(path: str | os.PathLike[str], report: Callable[[str], object] | None = None) -> Path:
    """Refuses an export that is not what was written.

    Args:
        path: as of `verify`.
        report: receives a line on every check, to be shown.

    Returns:
        The version's directory.

    Raises:
        InputError: a check found something wrong, or there is no SavedModel.
    """
    wrong = []
    for one in verify(path):
        if report is not None:
            report(one.line)
        wrong += [one.problem] if one.problem else []
    exported.refuse(path, wrong)
    return exported.version_directory(path)
