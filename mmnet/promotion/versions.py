"""The directory of a model's versions: TensorFlow Serving's layout, and a pointer to the champion.

    1/, 2/, ...       exports, each complete; `assets.extra/night.json` in it is its `Origin`
    champion          number of the version to serve, written last
    compared/<n>/     the export by which version n is compared, where version n was refitted on
                      the compared periods as well
    nights/<period>/  a directory per night, see `nights`
    dataset/          the dataset of the newest night
    first_seen/       see `first_seen`
    history/          see `history`

TensorFlow Serving reads the numbered directories and ignores the others. At any moment each version
is whole or absent, and `champion` names one that is there.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from mmnet.checks import InputError
from mmnet.files import directories, read_json, write_atomic, write_directory
from mmnet.serving import checksums, exported, parent

COMPARED, NIGHTS, DATASET, FIRST_SEEN = "compared", "nights", "dataset", "first_seen"
_REMOVED = ".removed-"
"""Start of the names of directories that are being removed."""


class Origin(BaseModel):
    """Origin of a version.

    Attributes:
        night: directory name of its night.
        trained_until: last period that its recipe was trained, stopped or calibrated on.
        refitted_until: last period that its weights were refitted on; None without a refit.
        champion: the champion that it was compared with; 0 for the first version.
        warm: whether its training started from that champion's weights.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    night: str
    trained_until: str
    refitted_until: str | None = None
    champion: int = 0
    warm: bool = False


class Versions:
    """The versions in a directory, and which one is the champion.

    Only the process that has locked the directory may change anything; see `files.only_one`.

    Args:
        directory: `--models`.
    """

    def __init__(self, directory: str | os.PathLike[str]):
        self.directory = Path(directory)

    def numbers(self) -> list[int]:
        """Returns the versions that are there, in ascending order."""
        return sorted(self._found(self.directory))

    def path(self, number: int) -> Path:
        """Returns the directory of a version.

        Raises:
            InputError: there is no such version.
        """
        found = self._found(self.directory)
        if number not in found:
            raise InputError(
                f"{self.directory} has no version {number}; it has "
                f"{', '.join(map(str, sorted(found))) or 'none'}"
            )
        return found[number]

    def compared_path(self, number: int) -> Path:
        """Returns the export to compare a version by: without the periods of a refit."""
        return self._found(self.directory / COMPARED).get(number, self.path(number))

    def champion(self) -> int:
        """Returns the number of the champion; 0 before the first one.

        Raises:
            InputError: the pointer is damaged, or names a version that does not exist.
        """
        return exported.champion(self.directory, self.numbers())

    def origin(self, number: int) -> Origin:
        """Returns the origin of a version.

        Raises:
            InputError: its `night.json` is missing or damaged.
        """
        path = self.path(number)
        try:
            return Origin.model_validate(exported.asset(path, parent.NIGHT))
        except ValidationError:
            raise InputError(
                f"{path}: {parent.NIGHT} is damaged; remove this version, or copy it again"
            ) from None

    def publish(
        self, number: int, export: Path, origin: Origin, compared: Path | None = None
    ) -> Path:
        """Writes a version from an export, unless a killed process had written it.

        Args:
            number: its number.
            export: directory of the export's version; its files are checked and copied.
            origin: what it was made from.
            compared: export to compare it by, where that is another one.

        Raises:
            InputError: a file of an export has changed since it was written.
        """
        if number in self.numbers() and self.origin(number) == origin:
            return self.path(number)
        if compared is not None:
            own = origin.model_copy(update={"refitted_until": None})
            about = {parent.NIGHT: own.model_dump(mode="json")}
            copy(compared, self.directory / COMPARED / str(number), about)
        about = {parent.NIGHT: origin.model_dump(mode="json")}
        return copy(export, self.directory / str(number), about)

    def promote(self, number: int) -> None:
        """Moves the pointer to a version.

        Raises:
            InputError: there is no such version.
        """
        self.path(number)
        write_atomic(self.directory / exported.CHAMPION, f"{number}\n")

    def prune(self, keep: Collection[int]) -> list[int]:
        """Removes all versions but some; returns those that were removed.

        Args:
            keep: versions to keep; the champion is kept in any case.
        """
        kept = {*keep, self.champion()}
        gone = [number for number in self.numbers() if number not in kept]
        for number in gone:
            remove(self.path(number))
        for number, path in self._found(self.directory / COMPARED).items():
            if number not in kept:
                remove(path)
        return gone

    def clear(self) -> None:
        """Finishes removals that a killed process had begun."""
        for place in (self.directory, self.directory / COMPARED, self.directory / NIGHTS):
            for left in place.glob(f"{_REMOVED}*"):
                shutil.rmtree(left, ignore_errors=True)

    @staticmethod
    def _found(parent: Path) -> dict[int, Path]:
        return {
            int(name): path
            for name, path in directories(parent).items()
            if name.isdecimal() and name.isascii() and (path / "saved_model.pb").exists()
        }


def remove(directory: Path) -> None:
    """Removes a directory so that readers find it whole or not at all."""
    gone = directory.with_name(f"{_REMOVED}{directory.name}-{uuid.uuid4().hex[:12]}")
    os.replace(directory, gone)
    shutil.rmtree(gone, ignore_errors=True)


def copy(export: Path, place: Path, documents: Mapping[str, Any]) -> Path:
    """Copies an export, and adds documents to it or replaces them.

    Args:
        export: directory of the export's version.
        place: directory of the copy.
        documents: name in `assets.extra/` -> JSON value.

    Raises:
        InputError: a file of the export has changed since it was written.
    """
    exported.check_unchanged(export)
    weights = read_json(export / checksums.FILE)["weights"]

    def fill(beside: Path) -> None:
        shutil.copytree(export, beside, dirs_exist_ok=True)
        for name, document in documents.items():
            text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
            (beside / exported.ABOUT_DIRECTORY / name).write_text(text, encoding="utf-8")
        checksums.seal(beside, weights)

    return write_directory(place, fill)
