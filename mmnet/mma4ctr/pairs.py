"""The pairs to score and the SavedModel for it, found and read before TensorFlow is loaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mmnet.checks import InputError
from mmnet.data import tables
from mmnet.data.columns import integers

ABOUT = "assets.extra/mma4ctr.json"
"""Of an export."""


def saved_model(path: str) -> Path:
    """The version's directory of a SavedModel: the path itself, or the newest one below.

    Raises:
        InputError: no SavedModel, or not one of the second system.
    """
    place = Path(path)
    if not (place / "saved_model.pb").exists():
        versions = sorted(
            (p.parent for p in place.glob("*/saved_model.pb") if p.parent.name.isdigit()),
            key=lambda found: int(found.name),
        )
        if not path or not versions:
            raise InputError(f"--saved_model={path}: no SavedModel there, nor in a version below")
        place = versions[-1]
    if not (place / ABOUT).exists():
        raise InputError(f"{place} is no SavedModel of mma4ctr (no {ABOUT})")
    return place


def read(pattern: str) -> tuple[np.ndarray, np.ndarray]:
    """User and item ids of a table, int64 [pairs] both.

    Raises:
        InputError: no such table or columns, or an id that is not a whole number.
    """
    if not pattern:
        raise InputError("--pairs not given; name a table of user_id and item_id")
    found = tables.read(pattern, "pairs")
    ids = [integers(found, name, "pairs", what="an id") for name in ("user_id", "item_id")]
    return ids[0].astype(np.int64), ids[1].astype(np.int64)
