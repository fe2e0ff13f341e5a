"""Exports, loaded to score with: by TensorFlow alone, without Keras or any code of models."""

from __future__ import annotations

import os
from typing import Any

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.python.saved_model.loader_impl import parse_saved_model

from mmnet.checks import InputError
from mmnet.data.dataset import Fitted
from mmnet.serving.exported import fitted, version_directory


def load(path: str | os.PathLike[str]) -> tuple[Any, Fitted]:
    """Loads a SavedModel of `export`: the version's directory, or the newest below its parent.

    Returns:
        The loaded module, and what it was fitted with.

    Raises:
        InputError: no SavedModel, not one of this package, or a damaged one.
    """
    path = version_directory(path)
    found = fitted(path)
    try:
        return tf.saved_model.load(str(path)), found
    except (tf.errors.OpError, OSError, ValueError, KeyError, RuntimeError, DecodeError) as error:
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"--saved_model={path} cannot be loaded ({told}); --verify says what is damaged"
        ) from None


def signatures(path: str | os.PathLike[str]) -> set[str]:
    """Names the signatures of a SavedModel, without loading it.

    Raises:
        InputError: no SavedModel, or a damaged one.
    """
    path = version_directory(path)
    try:
        return set(parse_saved_model(str(path)).meta_graphs[0].signature_def)
    except (OSError, DecodeError, IndexError):
        raise InputError(
            f"--saved_model={path} cannot be read; --verify says what is damaged"
        ) from None
