"""The directories of nights: which night this is, how far it came, and what it decided.

    night.json     written first: the data and flags of the night, and the champion at its start
    verdict.json   written once the night has decided; from here on it can be finished without data
    nightly.json   written last, with nightly.md and nightly.html: the night is finished

Other files of a night are made again unless they are whole, so a night that is killed at any
moment is resumed by the same command, and one that has decided is finished by any later night.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from mmnet.checks import InputError
from mmnet.files import read_json, write_atomic
from mmnet.promotion import versions
from mmnet.promotion.history import Event
from mmnet.promotion.versions import Origin

BEGUN, VERDICT, FINISHED = "night.json", "verdict.json", "nightly.json"
RUN, REFIT, DRIFT, COMPARISON = "run", "refit", "drift", "comparison"
"""Folders of a night: the challenger's run, its refit, the drift report, the compared rows."""


class Begun(BaseModel):
    """A night that has begun.

    Attributes:
        identity: hash of its data and flags.
        champion: number of the champion at its start.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    identity: str
    champion: int


class Verdict(BaseModel):
    """Decision of a night, and everything that is needed to carry it out.

    Attributes:
        event: the night's entry in the history.
        origin: origin of the new version; None if the challenger was not promoted.
        export: export to publish, relative to the night's directory.
        compared: export to compare the new version by, likewise; empty if it is the same.
        remarks: further sentences for the report.
        facts: the rest of `nightly.json`: comparison, outages, drift, fields, dates.
        seconds: step -> wall seconds.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    event: Event
    origin: Origin | None = None
    export: str = ""
    compared: str = ""
    remarks: tuple[str, ...] = ()
    facts: dict[str, Any] = {}
    seconds: dict[str, float] = {}


class Night:
    """The directory of a night.

    Args:
        directory: the directory.
    """

    def __init__(self, directory: Path):
        self.directory = directory

    @property
    def name(self) -> str:
        """Name of the directory."""
        return self.directory.name

    def is_finished(self) -> bool:
        """Checks whether nothing is left to do."""
        return (self.directory / FINISHED).exists()

    def verdict(self) -> Verdict | None:
        """Returns what the night decided; None before that.

        Raises:
            InputError: the file is damaged.
        """
        return _read(self.directory / VERDICT, Verdict)

    def begun(self) -> Begun | None:
        """Returns which night it is; None if it cannot be read, so that the night begins again."""
        try:
            return _read(self.directory / BEGUN, Begun)
        except InputError:
            return None

    def decide(self, verdict: Verdict) -> None:
        """Writes the verdict."""
        write_json(self.directory / VERDICT, verdict.model_dump(mode="json"))

    def finish(self, document: dict[str, Any]) -> None:
        """Writes `nightly.json`, after all other files."""
        write_json(self.directory / FINISHED, document)

    def document(self) -> dict[str, Any]:
        """Returns the content of `nightly.json`.

        Raises:
            InputError: the file is damaged.
        """
        path = self.directory / FINISHED
        try:
            return dict(read_json(path))
        except (OSError, ValueError, TypeError):
            raise InputError(f"{path} is damaged; remove it, and run the night again") from None


def all_nights(models: Path) -> Iterator[Night]:
    """Yields the nights of a directory of versions."""
    for path in sorted((models / versions.NIGHTS).glob("[!.]*")):
        if path.is_dir():
            yield Night(path)


def begin(models: Path, period: str, begun: Begun) -> Night:
    """Returns the directory of a night: a new one, or that of the same night if it was killed.

    A night that was killed before it decided, and had other data, flags or another champion, is
    removed. A finished night of the same period keeps its directory; the new one is numbered.

    Args:
        models: directory of the versions.
        period: last period of the night's data.
        begun: the night.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as models:
    ...     night = begin(Path(models), "2024-03-01", Begun(identity="a", champion=1))
    ...     again = begin(Path(models), "2024-03-01", Begun(identity="a", champion=1))
    ...     night.finish({})
    ...     other = begin(Path(models), "2024-03-01", Begun(identity="b", champion=2))
    >>> night.name, again.name, other.name
    ('2024-03-01', '2024-03-01', '2024-03-01-2')
    """
    name, number = period.replace(":", "-"), 1
    parent = models / versions.NIGHTS
    night = Night(parent / name)
    while night.is_finished():
        number += 1
        night = Night(parent / f"{name}-{number}")
    if night.directory.exists() and night.begun() != begun:
        versions.remove(night.directory)
    if not night.directory.exists():
        write_json(night.directory / BEGUN, begun.model_dump(mode="json"))
    return night


def identity(*parts: Any) -> str:
    """Returns a hash of JSON values.

    >>> identity({"a": 1}, "b") == identity({"a": 1}, "b") != identity({"a": 2}, "b")
    True
    """
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def write_json(path: Path, document: Any) -> None:
    """Writes a JSON document atomically."""
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomic(path, text)


def _read(path: Path, kind: type[Any]) -> Any:
    try:
        return kind.model_validate(read_json(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, ValidationError):
        raise InputError(
            f"{path} is damaged; remove the directory {path.parent}, and run the night again"
        ) from None
