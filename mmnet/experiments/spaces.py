"""A user's own search space: a text file of settings and their values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from mmnet import config, flags
from mmnet.checks import InputError, did_you_mean, shown
from mmnet.config import TrainConfig
from mmnet.models import REGISTRY, resolve_options
from mmnet.recipes.reading import OF_A_RECIPE

Choices = Sequence[Any]
Range = tuple[float, float, str]
"""Lowest, highest, and the scale: "linear", "log", "integer" or "log integer"."""
Space = Mapping[str, Choices | Range]
"""Name of the tuned setting: a flag, or `set.` and an option of the model."""

SCALES = ("linear", "log", "integer", "log integer")
OPTION = "set."
_TABLES = {*config.TABLES, *config.TASK}
_NOT_TUNED = {*config.PLACES, *_TABLES, *config.ScenarioFlags.model_fields, *OF_A_RECIPE}
_NOT_TUNED |= {"set", "seed", "model", "mode_weights", "ensemble", "monitor", "validation_halves"}
_RANGE = re.compile(r"(\S+)\s*\.\.\s*(\S+?)((?:\s+\w+)*)")


def read(path: str) -> dict[str, Choices | Range]:
    """Reads a search space.

    A line is `NAME = VALUE, VALUE, ...` or `NAME = LOW .. HIGH`, the latter with a scale of
    `SCALES` behind it if it is not linear. A name is a flag of training, or `set.` and an option
    of the model. `#` begins a comment.

    Args:
        path: path of the file.

    Raises:
        InputError: the file cannot be read, or a line is not as described.
    """
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except OSError as error:
        raise InputError(f"--space={path}: {error.strerror}") from None
    except ValueError:
        raise InputError(f"--space={path}: not a UTF-8 text file; save it as UTF-8") from None
    found: dict[str, Choices | Range] = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.partition("#")[0].strip()
        if not line:
            continue
        where = f"--space={path}, line {number}"
        name, sign, values = (part.strip() for part in line.partition("="))
        if not sign or not name or not values:
            raise InputError(
                f"{where}: must be NAME = VALUE, VALUE, ... or NAME = LOW .. HIGH. "
                f"Received: {shown(line)}"
            )
        if name in found:
            raise InputError(f"{where}: duplicate {shown(name)}; give all its values in one line")
        found[name] = _values(values, where)
    if not found:
        raise InputError(f"--space={path} has no settings; add at least one")
    return found


def _values(text: str, where: str) -> Choices | Range:
    """The values of one line."""
    if ".." not in text:
        values = [value.strip() for value in text.split(",")]
        if "" in values or len(set(values)) < len(values):
            raise InputError(f"{where}: values must differ and not be empty. Received: {text}")
        return values
    matched = _RANGE.fullmatch(text)
    try:
        if matched is None:
            raise ValueError
        low, high = float(matched[1]), float(matched[2])
    except ValueError:
        raise InputError(
            f"{where}: a range must be LOW .. HIGH, two numbers. Received: {shown(text)}"
        ) from None
    scale = " ".join(matched[3].split()) or "linear"
    if scale not in SCALES:
        raise InputError(
            f"{where}: a scale must be one of {', '.join(SCALES)}. Received: {shown(scale)}"
            f"{did_you_mean(scale, SCALES)}"
        )
    if not low < high or high - low == float("inf"):
        raise InputError(f"{where}: LOW must be below HIGH, both finite. Received: {shown(text)}")
    if "log" in scale and low <= 0:
        raise InputError(f"{where}: a scale of logarithms needs LOW above 0. Received: {low:g}")
    if "integer" in scale and not (low.is_integer() and high.is_integer()):
        raise InputError(f"{where}: ends must be whole numbers. Received: {shown(text)}")
    return low, high, scale


def check(space: Space, row_flags: TrainConfig, where: str) -> None:
    """Makes sure that a row can have every value of a space.

    Args:
        space: see `read`.
        row_flags: flags of the row to tune.
        where: the space and the row, for messages.

    Raises:
        InputError: an unknown setting, one that is not tuned, or a value that it cannot have.
    """
    options = REGISTRY[row_flags.model].options.model_fields
    tunable = set(TrainConfig.model_fields) - _NOT_TUNED
    names = [*sorted(tunable), *(f"{OPTION}{name}" for name in options)]
    for name, values in space.items():
        option = name.removeprefix(OPTION)
        if name != option and option in {*config.ModelFlags.model_fields, "seed"}:
            raise InputError(f"{where}: {shown(name)} has its own flag; write {option}")
        if name not in names:
            why = f"is not a flag of training, nor {OPTION} and an option of {row_flags.model}"
            if name in _NOT_TUNED:
                why = "is not tuned: a row and its data decide it"
            raise InputError(f"{where}: {shown(name)} {why}{did_you_mean(name, names)}")
        ends = values[:2] if isinstance(values, tuple) else values
        whole = isinstance(values, tuple) and "integer" in values[2]
        for value in ends:
            _check_value(name, int(value) if whole else value, row_flags, where)


def _check_value(name: str, value: Any, row_flags: TrainConfig, where: str) -> None:
    try:
        if name.startswith(OPTION):
            resolve_options(row_flags.model, [f"{name.removeprefix(OPTION)}={value}"])
        else:
            flags.parse(TrainConfig, [f"--{name}={value}"])
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
