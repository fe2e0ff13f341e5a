"""The export of an earlier model, whose weights training starts from."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmnet.checks import InputError
from mmnet.data.dataset import Fitted
from mmnet.hashing import sha256
from mmnet.serving import checksums, exported
from mmnet.serving.exported import AboutShareRates

NIGHT = "night.json"
"""Document of an export that a nightly run wrote; it has the last periods that were learned from.
"""
REFITTED_UNTIL = "refitted_until"
"""Its entry of an export that was refitted on periods which its run had left for the test."""


@dataclass(frozen=True)
class Parent:
    """An earlier model: its weights, the values that it was fitted with, and the flags of its run.

    Attributes:
        directory: the version's directory in the export.
        fitted: vocabularies, scales and flags of its dataset.
        flags: flags of its run, JSON values by name.
        first_targets: first period of validation and of test, if its split is by time.
        refitted_until: last period of its targets, if it was refitted on later periods than its
            split would have let it see; else None.
        digest: SHA-256 of its checksums, and so of all of its files.
    """

    directory: Path
    fitted: Fitted
    flags: dict[str, Any]
    first_targets: dict[str, int | str]
    refitted_until: int | str | None
    digest: str

    @functools.cached_property
    def arrays(self) -> list[np.ndarray]:
        """Its weights in the order of `keras.Model.variables`; reading them needs TensorFlow."""
        import tensorflow as tf

        reader = tf.train.load_checkpoint(str(self.directory / checksums.VARIABLES))
        keys = {
            int(key.split("/")[1]): key
            for key in reader.get_variable_to_shape_map()
            if key.startswith("_variables/")
        }
        return [reader.get_tensor(keys[number]) for number in sorted(keys)]


def read(path: str | os.PathLike[str]) -> Parent:
    """Reads an earlier model, except for its weights; takes seconds, without TensorFlow.

    Args:
        path: a run directory; or an export, as a version's directory or its parent.

    Raises:
        InputError: there is no export, it is not one of this system, or its files have changed.
    """
    place = Path(path)
    if (place / "flags.txt").exists():
        place /= "export"
    try:
        directory = exported.version_directory(place)
    except InputError:
        raise InputError(
            f"--warm_start={path}: no exported model there; name a run that was trained with "
            "--outputs=all, or an export"
        ) from None
    about = exported.about(directory, AboutShareRates)
    if problems := list(exported.changes(directory)):
        raise InputError(
            f"--warm_start={path} has changed since it was exported: {problems[0]}; copy it again, "
            "or train from scratch without --warm_start"
        )
    flags = (about.model_extra or {}).get("flags")
    if not isinstance(flags, dict):
        raise InputError(
            f"--warm_start={path} was exported without the flags of its run; name an export that "
            "python -m mmnet.train wrote"
        )
    night = exported.asset(directory, NIGHT) if exported.has_asset(directory, NIGHT) else {}
    return Parent(
        directory=directory,
        fitted=about.fitted,
        flags=flags,
        first_targets=about.first_targets,
        refitted_until=night.get(REFITTED_UNTIL),
        digest=sha256(directory / checksums.FILE),
    )
