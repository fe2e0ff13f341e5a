"""The pairs to score and the SavedModel for it, found and read before TensorFlow is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmnet.checks import InputError
from mmnet.data import tables
from mmnet.data.columns import whole_ids
from mmnet.data.dialects import text_options
from mmnet.serving import exported


def saved_model(path: str) -> Path:
    """The version's directory of a SavedModel: the path itself, or the newest one below.

    Raises:
        InputError: no SavedModel, or not one of the second system.
    """
    if not path:
        raise InputError("--saved_model not given; name a run's export directory")
    place = exported.version_directory(path)
    exported.about(place, exported.AboutPairs)
    return place


def read(pattern: str, text_set: Sequence[str] = ()) -> tuple[np.ndarray, np.ndarray]:
    """User and item ids of a table, int64 [pairs] both.

    Args:
        pattern: the file, directory or glob.
        text_set: what the user says of text files.

    Raises:
        InputError: no such table or columns, or an id that is not a whole number.
    """
    if not pattern:
        raise InputError("--pairs not given; name a table of user_id and item_id")
    names = ("user_id", "item_id")
    said = text_options(text_set, "pairs")
    found = tables.read(pattern, "pairs", columns=names, said=said)
    user, item = (whole_ids(found, name, "pairs") for name in names)
    return user, item
