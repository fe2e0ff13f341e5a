"""Journal of a search on disk, from which a killed search is replayed."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from mmnet.checks import InputError
from mmnet.files import UNREADABLE, read_json, write_atomic
from mmnet.search.halving import Outcome

FILE, ERRORS = "journal.json", "errors.npz"


class Journal:
    """The outcome of every step of a search, and each candidate's errors on validation.

    Args:
        directory: directory of the search; made if need be.
        dataset: fingerprint of the data that it is about.

    Raises:
        InputError: the journal there is damaged, or about other data.
    """

    def __init__(self, directory: Path, dataset: str):
        self._path, self._dataset = directory / FILE, dataset
        self._steps: dict[tuple[str, int], Outcome] = {}
        if not self._path.exists():
            return
        try:
            stored = read_json(self._path)
            for row in stored["steps"]:
                step = (row.pop("candidate"), row.pop("asked"))
                row["value"] = float(row["value"])
                self._steps[step] = Outcome(**row)
        except UNREADABLE as error:
            raise InputError(
                f"{self._path} is damaged ({error}); start again in an empty run directory"
            ) from None
        if stored["dataset"] != dataset:
            raise InputError(
                f"{self._path} belongs to different data; resume with the tables of that run, or "
                "start again in an empty run directory"
            )

    def outcome(self, candidate: str, epochs: int) -> Outcome | None:
        """Outcome of training a candidate up to a number of epochs; None if not yet trained."""
        return self._steps.get((candidate, epochs))

    def seconds(self, candidate: str) -> float:
        """Seconds of all steps of a candidate so far."""
        found = [one.seconds for (name, _), one in self._steps.items() if name == candidate]
        return max(found, default=0.0)

    def add(self, candidate: str, epochs: int, outcome: Outcome, squared: np.ndarray) -> None:
        """Writes a step that has ended.

        Args:
            candidate: its name.
            epochs: that were asked for.
            outcome: its result.
            squared: squared errors of the best epoch, float64 [scenarios, rows]; empty if training
                failed.
        """
        path = self._path.parent / candidate / ERRORS
        write_atomic(path, lambda beside: np.savez(beside, squared=squared))
        self._steps[candidate, epochs] = outcome
        steps = [
            {"candidate": name, "asked": asked} | asdict(one) | {"value": str(one.value)}
            for (name, asked), one in self._steps.items()
        ]
        text = json.dumps({"dataset": self._dataset, "steps": steps}, indent=1)
        write_atomic(self._path, text + "\n")

    def squared(self, candidate: str) -> np.ndarray:
        """Squared errors of a candidate's best epoch, float64 [scenarios, rows].

        Raises:
            InputError: they are missing or damaged.
        """
        path = self._path.parent / candidate / ERRORS
        try:
            with np.load(path, allow_pickle=False) as stored:
                return stored["squared"]
        except UNREADABLE as error:
            raise InputError(
                f"{path} is damaged ({error}); start again in an empty run directory"
            ) from None
