"""Files of frozen encoders; local ones are checked before TensorFlow is loaded."""

from __future__ import annotations

import contextlib
import os
import socket
import urllib.parse
import warnings
from pathlib import Path
from typing import Any

from mmnet.checks import InputError
from mmnet.flags import expanded
from mmnet.startup import load_tensorflow

FETCH_SECONDS = 60.0
"""Maximum time without an answer of a server before a handle counts as unreachable."""


def tensorflow_hub() -> Any:
    """Imports tensorflow-hub, with the operations of tensorflow-text registered."""
    try:
        load_tensorflow()
        import tensorflow_text  # noqa: F401

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own age
            import tensorflow_hub as hub
    except ImportError as error:
        raise InputError(
            f"--text_encoder=hub needs two more packages ({first_line(error)}): pip install "
            'tensorflow-hub tensorflow-text "setuptools<82"'
        ) from None
    return hub


def bert_folders(handle: str, preprocessor: str) -> tuple[Path, Path]:
    """Returns the directories of the preprocessor and of the encoder, downloaded if needed.

    Raises:
        InputError: a handle cannot be downloaded, or a directory is not a SavedModel.
    """
    if preprocessor:
        return _resolve(preprocessor, "text_preprocessor"), _resolve(handle, "text_handle")
    if _is_url(handle):
        raise InputError(
            f"{handle} is an encoder without a preprocessor; set --text_preprocessor as well, or "
            "use a local directory with preprocess/ and encoder/"
        )
    folders = Path(handle) / "preprocess", Path(handle) / "encoder"
    for folder in folders:
        if not _is_saved_model(folder):
            raise _unreachable(handle, f"{folder} is not a SavedModel")
    return folders


def _fetched(handle: str, flag: str) -> Path:
    """Downloads a handle, which may contain environment variables, with tensorflow-hub."""
    import tensorflow_hub as hub

    url, before = expanded(handle, flag), socket.getdefaulttimeout()
    socket.setdefaulttimeout(FETCH_SECONDS)  # tensorflow-hub would wait forever
    try:
        return Path(hub.resolve(url))
    finally:
        socket.setdefaulttimeout(before)


def _resolve(handle: str, flag: str) -> Path:
    """Returns the directory of a handle's SavedModel, downloaded if needed."""
    if _is_saved_model(Path(handle)):
        return Path(handle)
    tensorflow_hub()
    from tensorflow import errors  # loaded by now

    try:
        folder = _fetched(handle, flag)
    except InputError:
        raise
    except (OSError, ValueError, RuntimeError, errors.OpError) as error:
        raise _unreachable(handle, first_line(error)) from None
    if not _is_saved_model(folder):
        raise _unreachable(handle, f"{folder} is not a SavedModel")
    return folder


def _unreachable(handle: str, why: str) -> InputError:
    return InputError(
        f"text encoder {handle!r} cannot be loaded: {why}; without network access, set "
        "TFHUB_CACHE_DIR to a cache that was filled on a machine with access, or use a local "
        "directory with the two SavedModels preprocess/ and encoder/"
    )


def _is_saved_model(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("saved_model.pb", "saved_model.pbtxt"))


def _is_url(handle: str) -> bool:
    return len(urllib.parse.urlparse(handle).scheme) > 1  # C: is a drive


def check_fingerprint(folder: Path) -> None:
    """Raises an error if the fingerprint of a SavedModel is damaged.

    TensorFlow would print a traceback and load it.

    Raises:
        RuntimeError: it is there, but not readable.
    """
    from tensorflow import saved_model

    with contextlib.suppress(FileNotFoundError):
        saved_model.experimental.read_fingerprint(str(folder))


def check_resnet50(weights: str) -> None:
    """Raises an error if the file of weights does not exist.

    Raises:
        InputError: no file is given, or it does not exist.
    """
    if not weights:
        raise InputError(
            "--image_encoder=resnet50 needs --image_weights=FILE, the weights of keras.applications"
            ".ResNet50(include_top=False); once downloaded, Keras keeps them in "
            "~/.keras/models/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"
        )
    if weights != "random" and not os.path.isfile(weights):
        raise InputError(
            f"--image_weights={weights}: no such file; use weights of keras.applications.ResNet50"
            "(include_top=False) as .h5, .weights.h5 or .keras"
        )


def image_folder(weights: str) -> Path:
    """Returns the directory of an image network's SavedModel, downloaded if needed.

    Raises:
        InputError: none is given, it cannot be downloaded, or it is not a SavedModel.
    """
    if not weights:
        raise InputError(
            "--image_encoder=hub needs --image_weights, the directory or the TensorFlow Hub handle "
            "of an image feature-vector SavedModel"
        )
    if "://" in weights:
        try:
            # Imported here, since it loads a second Keras, which a local directory does not need.
            load_tensorflow()
            directory = _fetched(weights, "image_weights")
        except InputError:
            raise
        except Exception as error:  # of the network, of archives, of a missing package
            raise InputError(
                f"--image_weights={weights}: this handle could not be downloaded "
                f"({typed_line(error)}); download it once with TFHUB_CACHE_DIR set to a permanent "
                "directory, or unpack it and use the local directory"
            ) from None
    else:
        directory = Path(weights)
    if not (directory / "saved_model.pb").is_file():
        raise InputError(
            f"--image_weights={weights}: not a SavedModel (saved_model.pb is missing); use "
            "the directory or the TensorFlow Hub handle of an image feature-vector SavedModel"
        )
    return directory


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].strip().rstrip(".:;")


def typed_line(error: Exception) -> str:
    """Returns the type of an error, and the first line of its message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
