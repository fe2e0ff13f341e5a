"""The files alongside the SavedModel in an export, read without TensorFlow."""

from __future__ import annotations

import abc
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from mmnet import schema
from mmnet.checks import InputError
from mmnet.data.dataset import Fitted
from mmnet.files import directories, read_json
from mmnet.schema import FeatureSpec, Output
from mmnet.serving import checksums, reasons

OUTPUT = schema.PREDICTED
WEIGHTS = "fusion_weights"
STATIC = "static"
"""Name of the output of the static half, which is an input of the dynamic half."""
ITEM = "id"
"""Input of `decide`: the item's id. No column of an items table makes an input of this name."""
LOW, HIGH = "share_rate_low", "share_rate_high"
DECISION, PROPENSITY = "decision", "propensity"
"""Outputs of `decide`, named as the columns of `predict`."""
DECIDE = "decide"
HORIZON = "horizon"
"""Column of `predict` with the horizon of a row, where a model predicts several."""
ABOUT_DIRECTORY = "assets.extra"
CHAMPION = "champion"
"""File among the versions that has the number of the one to use; without it, the newest is used."""


def bounds_of(output: Output) -> tuple[str, str]:
    """Returns the names of the ends of an output's interval, in signatures.

    >>> bounds_of(Output("like", 3, "predicted_like_h3"))
    ('like_h3_low', 'like_h3_high')
    """
    of = output.name.removeprefix("predicted_")
    return f"{of}_low", f"{of}_high"


def named(spec: FeatureSpec, predicted: Any) -> dict[str, Any]:
    """Returns what a network predicts by name, [batch] each.

    Args:
        spec: inputs and outputs of the network.
        predicted: its predictions, [batch], or of several outputs [batch, outputs].
    """
    outputs = spec.outputs()
    if len(outputs) == 1:
        return {outputs[0].name: predicted}
    return {output.name: predicted[:, number] for number, output in enumerate(outputs)}


def scales(spec: FeatureSpec) -> dict[str, float]:
    """Returns output by name -> standard deviation of its rate in training, percent."""
    return {one.name: spec.of_rate(one.rate).rate_scale for one in spec.outputs()}


@dataclass(frozen=True)
class Tolerance:
    """The largest difference at which two scores count as equal.

    Attributes:
        relative: relative to the score, or to its entry in `least` if that is larger.
        least: output by name -> its minimum scale; 1 for all other outputs.
    """

    relative: float
    least: dict[str, float]


class About(BaseModel):
    """An export's description of its model; each system has its own document.

    Further entries, such as the flags of the run, are kept but not read.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    SYSTEM: ClassVar[str]
    """Name of the package of these models."""
    FILE: ClassVar[str]
    """Path of the document in the export's directory."""

    @property
    @abc.abstractmethod
    def tolerance(self) -> Tolerance:
        """Tolerance of the scores of golden rows."""


class AboutShareRates(About):
    """The document of the first system.

    Attributes:
        fitted: values that the model was fitted with.
        modalities: names of the weights that the signature `explained` returns.
        reasons: inputs whose reasons `decide` and `predict` return, see `reasons`; empty in exports
            of earlier versions.
        relative_tolerance: tolerance of scores, relative to a score or to the sd of rates.
        first_targets: first period of validation and of test, if the split is by time.
    """

    SYSTEM = "mmnet"
    FILE = f"{ABOUT_DIRECTORY}/fitted.json"

    fitted: Fitted
    modalities: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    relative_tolerance: float = 1e-5
    first_targets: dict[str, int | str] = {}

    @property
    def tolerance(self) -> Tolerance:
        """Tolerance relative to a score, to the standard deviation of rates, or to 1 percent.

        A reason is a difference of scores, and has their rounding however small it is; the end of
        an interval has that of its score times the interval's width. Scores of ten standard
        deviations are the largest that they are compared with.
        """
        spec = self.fitted.spec
        least = {name: max(1.0, scale) for name, scale in scales(spec).items()}
        for output in spec.outputs():
            least |= dict.fromkeys(bounds_of(output), 10 * least[output.name])
        # Reasons are of the output that the first rule decides by, which may be any.
        least |= dict.fromkeys(reasons.columns(spec), 10 * max(1.0, *scales(spec).values()))
        return Tolerance(self.relative_tolerance, least)


class AboutPairs(About):
    """The document of the second system, MMa4CTR.

    Attributes:
        relative_tolerance: tolerance of probabilities; None in exports of versions without golden
            rows and checksums.
    """

    SYSTEM = "mma4ctr"
    FILE = f"{ABOUT_DIRECTORY}/mma4ctr.json"

    relative_tolerance: float | None = None

    @property
    def tolerance(self) -> Tolerance:
        """Absolute tolerance, since no probability is above 1."""
        return Tolerance(self.relative_tolerance or 0.0, {})


KINDS: tuple[type[About], ...] = (AboutShareRates, AboutPairs)

Kind = TypeVar("Kind", bound=About)
Document = TypeVar("Document", bound=BaseModel)


def version_directory(path: str | os.PathLike[str]) -> Path:
    """Returns the directory of a SavedModel: the path itself, or one of the versions inside.

    That is the version that a file `champion` names, or else the newest.

    Raises:
        InputError: there is no SavedModel, or not the one that `champion` names.
    """
    path = Path(path)
    if not path.exists():
        path = directories(path.parent).get(path.name, path)
    if (path / "saved_model.pb").exists():
        return path
    versions = {
        int(name): one
        for name, one in directories(path).items()
        if name.isdecimal() and name.isascii() and (one / "saved_model.pb").exists()
    }
    if not versions:
        raise InputError(f"--saved_model={path}: no SavedModel there, nor in a version inside")
    return versions[champion(path, versions) or max(versions)]


def champion(path: Path, versions: Collection[int]) -> int:
    """Returns the number of the version that the file `champion` names; 0 if there is no such file.

    Args:
        path: directory of the versions.
        versions: the numbers of those that are there.

    Raises:
        InputError: the file cannot be read, or names a version that does not exist.
    """
    file = path / CHAMPION
    try:
        text = file.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return 0
    except (OSError, UnicodeDecodeError):
        text = ""
    if text.isdecimal() and text.isascii() and int(text) in versions:
        return int(text)
    raise InputError(
        f"{file} must name one of the versions {', '.join(map(str, sorted(versions)))}; name one "
        f"with python -m mmnet.nightly --models={path} --rollback=VERSION. Received: {text!r}"
    )


def changes(directory: Path) -> Iterator[str]:
    """Names what is not as it was written, by the checksums.

    Args:
        directory: of a version.
    """
    if not (directory / checksums.FILE).exists() and _is_without_checksums(directory):
        yield f"{checksums.FILE} is missing, as an earlier version of mmnet exported it"
    else:
        yield from checksums.problems(directory)


def check_unchanged(path: str | os.PathLike[str]) -> Path:
    """Refuses an export whose files are not as they were written; seconds, without TensorFlow.

    An export of the second system from before there were checksums is accepted.

    Args:
        path: the version's directory, or its parent for the newest version.

    Returns:
        The version's directory.

    Raises:
        InputError: a file has changed, or there is no SavedModel.
    """
    directory = version_directory(path)
    if (directory / checksums.FILE).exists() or not _is_without_checksums(directory):
        refuse(path, list(changes(directory)))
    return directory


def refuse(path: str | os.PathLike[str], problems: Sequence[str]) -> None:
    """Raises InputError if anything is wrong with an export."""
    if problems:
        more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise InputError(
            f"--saved_model={path} has changed since it was exported: {problems[0]}{more}; copy it "
            "again, or export it again with the training command"
        )


def _is_without_checksums(directory: Path) -> bool:
    """Whether an earlier version of the second system exported it."""
    if not (directory / AboutPairs.FILE).exists():
        return False
    return about(directory, AboutPairs).relative_tolerance is None


def about(path: str | os.PathLike[str], kind: type[Kind]) -> Kind:
    """Reads an export's description of its model.

    Args:
        path: directory of the version, or its parent for the newest version.
        kind: class of the document of the expected system.

    Raises:
        InputError: there is no SavedModel, it belongs to the other system, or is damaged.
    """
    path = version_directory(path)
    for other in KINDS:
        if other is not kind and not (path / kind.FILE).exists() and (path / other.FILE).exists():
            raise InputError(
                f"{path} is not a SavedModel of {kind.SYSTEM} (no {kind.FILE}) but of "
                f"{other.SYSTEM}; score it with the predict driver of {other.SYSTEM}"
            )
    try:
        return kind.model_validate(read_json(path / kind.FILE))
    except (OSError, ValueError):
        raise InputError(
            f"{path} is not a SavedModel of {kind.SYSTEM} (no readable {kind.FILE}); export it "
            "with this version of mmnet"
        ) from None


def about_any(path: Path) -> About:
    """Reads an export's description of a model of either system; see `about`."""
    kind = next((kind for kind in KINDS if (path / kind.FILE).exists()), AboutShareRates)
    return about(path, kind)


def fitted(path: str | os.PathLike[str]) -> Fitted:
    """Reads the values that a model of the first system was fitted with; see `about`."""
    return about(path, AboutShareRates).fitted


def modalities(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Returns the names of the weights that the signature `explained` of a SavedModel returns.

    Raises:
        InputError: it is not a SavedModel of this package, or has no gated fusion.
    """
    found = about(path, AboutShareRates).modalities
    if not found:
        raise InputError(
            f"--explain: the model in {version_directory(path)} has no gated fusion with weights "
            "to show; remove --explain"
        )
    return found


def asset(path: str | os.PathLike[str], name: str) -> dict[str, Any]:
    """Reads a JSON document of an export.

    Args:
        path: directory of the version, or its parent for the newest version.
        name: name of the file in `assets.extra/`.

    Raises:
        InputError: the file is missing, or is not a JSON object.
    """
    file = version_directory(path) / ABOUT_DIRECTORY / name
    try:
        found = read_json(file)
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise InputError(f"{file} is missing or damaged; export the model with this version")
    return found


def has_asset(path: str | os.PathLike[str], name: str) -> bool:
    """Checks whether an export has a file."""
    return (version_directory(path) / ABOUT_DIRECTORY / name).is_file()


def document(path: str | os.PathLike[str], name: str, kind: type[Document]) -> Document:
    """Reads a document of an export as an object of its pydantic class.

    Raises:
        InputError: it does not exist, or its content is invalid.
    """
    try:
        return kind.model_validate(asset(path, name))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        told = first["msg"].splitlines()[0]
        raise InputError(
            f"--saved_model={path}: {name}: {place}: {told}; export the model again"
        ) from None
