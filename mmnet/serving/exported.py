"""The files alongside the SavedModel in an export, read without TensorFlow."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from mmnet.checks import InputError
from mmnet.data.dataset import Fitted

Document = TypeVar("Document", bound=BaseModel)

OUTPUT = "predicted_share_rate"
WEIGHTS = "fusion_weights"
STATIC = "static"
"""Name of what the static half gives and the dynamic half reads."""
MODALITIES = "modalities"
"""Names of the fusion's weights, in `ABOUT`."""
TOLERANCE = "relative_tolerance"
"""Of golden rows, in `ABOUT`."""
ABOUT_DIRECTORY = "assets.extra"
ABOUT = f"{ABOUT_DIRECTORY}/fitted.json"


def fitted(path: str | os.PathLike[str]) -> Fitted:
    """Reads what a model was fitted with.

    Raises:
        InputError: it is not there, or not what it should be.
    """
    path = version_directory(path)
    try:
        return Fitted.model_validate(about(path)["fitted"])
    except (ValueError, KeyError):
        raise _unreadable(path) from None


def modalities(path: str | os.PathLike[str]) -> list[str]:
    """Names the weights that the signature `explained` of a SavedModel gives.

    Raises:
        InputError: no SavedModel, not one of this package, or a model without gated fusion.
    """
    path = version_directory(path)
    found = about(path).get(MODALITIES)
    if not found:
        raise InputError(
            f"--explain: the model in {path} has no gated fusion whose weights could be shown; "
            "leave it out"
        )
    return list(found)


def version_directory(path: str | os.PathLike[str]) -> Path:
    """The directory of a SavedModel: the path itself, or the newest version below."""
    path = Path(path)
    if (path / "saved_model.pb").exists():
        return path
    versions = [p for p in path.glob("*/saved_model.pb") if p.parent.name.isdigit()]
    if not versions:
        raise InputError(f"--saved_model={path}: no SavedModel there, nor in a version below")
    return max(versions, key=lambda found: int(found.parent.name)).parent


def about(path: Path) -> dict[str, Any]:
    """Reads the file `ABOUT` of a SavedModel.

    Raises:
        InputError: it is missing, or not a JSON object.
    """
    try:
        found = json.loads((path / ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise _unreadable(path) from None
    if not isinstance(found, dict):
        raise _unreadable(path)
    return found


def asset(path: str | os.PathLike[str], name: str) -> dict[str, Any]:
    """Reads a JSON document that went along with a SavedModel.

    Args:
        path: the version's directory, or its parent for the newest version.
        name: of the file in `assets.extra/`.

    Raises:
        InputError: the file is missing, or does not hold a JSON object.
    """
    file = version_directory(path) / ABOUT_DIRECTORY / name
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise InputError(f"{file} is missing or damaged; export the model with this version")
    return found


def document(path: str | os.PathLike[str], name: str, kind: type[Document]) -> Document:
    """Reads a document that went along with a SavedModel, as the model that it was written from.

    Raises:
        InputError: it is not there, or does not hold what it should.
    """
    try:
        return kind.model_validate(asset(path, name))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        told = first["msg"].splitlines()[0]
        raise InputError(
            f"--saved_model={path}: {name}: {place}: {told}; export the model again"
        ) from None


def _unreadable(path: Path) -> InputError:
    return InputError(f"{path} has no readable {ABOUT}; export it with this version of mmnet")
