"""The pairs to score and the SavedModel for it, found and read before TensorFlow is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmnet.checks import InputError
from mmnet.data import table_files, tables
from mmnet.data.columns import whole_ids
from mmnet.data.dialects import text_options
from mmnet.data.ledger import Rule
from mmnet.serving import exported

COLUMNS = ("user_id", "item_id")


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
        text_set: the user's settings of text files.

    Raises:
        InputError: no such table or columns, or an id that is not a whole number.
    """
    if not pattern:
        raise InputError("--pairs not given; name a table of user_id and item_id")
    said = text_options(text_set, "pairs")
    found = tables.read(pattern, "pairs", columns=COLUMNS, said=said)
    user, item = (whole_ids(found, name, "pairs") for name in COLUMNS)
    return user, item


def found_out(pattern: str, text_set: Sequence[str] = ()) -> list[Rule]:
    """Detected format of the files of pairs; see `table_files.rules`."""
    return table_files.found_out(pattern, "pairs", text_options(text_set, "pairs"), COLUMNS)
