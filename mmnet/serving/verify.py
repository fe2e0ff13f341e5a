"""Whether an export is whole and still scores as it did where it was made, check by check."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from mmnet.checks import InputError
from mmnet.serving import checksums, exported, golden


@dataclass(frozen=True)
class Check:
    """One question and its answer.

    Attributes:
        name: what was checked.
        problem: what is wrong, which file, weight, line or value; empty where nothing is.
    """

    name: str
    problem: str = ""


def verify(path: str | Path) -> Iterator[Check]:
    """Checks an export: its files by their checksums, then its golden rows in every signature.

    A model whose files have changed is not loaded: there is no telling what would run.

    Args:
        path: the version's directory, or its parent for the newest version.

    Yields:
        One `Check` at least for each question, several where several things are wrong.

    Raises:
        InputError: there is no SavedModel.
    """
    directory = exported.version_directory(path)
    found = [Check("checksums", problem) for problem in checksums.problems(directory)]
    yield from found or [Check("checksums")]
    if found:
        return
    try:
        about = exported.about(directory)
        tolerance = float(about[exported.TOLERANCE])
        least = {exported.OUTPUT: max(1.0, float(about["fitted"]["spec"]["rate_scale"]))}
        signatures = tf.saved_model.load(str(directory)).signatures
    except (InputError, KeyError, TypeError, ValueError, OSError, tf.errors.OpError) as error:
        yield Check("loads", str(error).splitlines()[0])
        return
    yield Check("loads")
    seen: dict[str, str] = {}
    try:
        for batch in golden.read(directory / golden.FILE):
            wrong = golden.differences(signatures, batch, tolerance, least)
            seen[batch.signature] = seen.get(batch.signature) or wrong
    except ValueError as error:
        yield Check("golden rows", f"{golden.FILE} cannot be read: {error}")
        return
    for signature, wrong in seen.items():
        yield Check(f"golden rows, {signature}", wrong)
    for signature in sorted(set(signatures) - set(seen)):
        yield Check(f"golden rows, {signature}", "there are none of this signature")
