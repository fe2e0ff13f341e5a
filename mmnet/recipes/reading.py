"""A recipe's flags, which are read beneath those that were given."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from mmnet import flags as reading_flags
from mmnet.checks import InputError, did_you_mean, shown

FOLDER = Path(__file__).parent
PAPER, AUTO = "paper", "auto"
OF_A_RECIPE = ("recipe", "budget")
"""Flags that stand for others."""


def names() -> list[str]:
    """The recipes there are, in the alphabet's order."""
    return sorted(path.stem for path in FOLDER.glob("*.txt"))


def flagfile(name: str) -> Path:
    """The flagfile of a recipe.

    Raises:
        InputError: there is no such recipe.
    """
    known = names()
    if name not in known:
        raise InputError(
            f"--recipe={shown(name)}: unknown recipe; choose one of {', '.join(known)}"
            f"{did_you_mean(name, known)}"
        )
    return FOLDER / f"{name}.txt"


def own_flags(config: type[BaseModel], name: str) -> dict[str, Any]:
    """The flags that a recipe sets, as `flags.read` returns them.

    Raises:
        InputError: there is no such recipe.
    """
    return reading_flags.read(config, [f"--flagfile={flagfile(name)}"])


def beneath(config: type[BaseModel], given: Mapping[str, Any]) -> dict[str, Any]:
    """The flags that were given, and beneath them those of the recipe that they name.

    A flag that was given replaces the recipe's. Of `--set`, each option is a flag of its own.

    Args:
        config: all flags of a driver.
        given: flag -> value, as `flags.read` returns them.

    Raises:
        InputError: there is no such recipe.
    """
    if not given.get("recipe"):
        return dict(given)
    own = own_flags(config, given["recipe"])
    return {**own, **given, **settings(own, given)}


def names_from_recipe(flags: BaseModel) -> set[str]:
    """The flags that are as the recipe has them, which need not have been given."""
    name = getattr(flags, "recipe", "")
    if not name:
        return set()
    own = reading_flags.build(type(flags), own_flags(type(flags), name))
    return {one for one in own.model_fields_set if getattr(flags, one) == getattr(own, one)}


def settings(own: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, list[str]]:
    """`--set` of both, where either has it: given options replace those of the same name.

    >>> settings({"set": ["evidence=true", "units=64"]}, {"set": ["units=8"]})
    {'set': ['evidence=true', 'units=8']}
    """
    above = list(given.get("set", ()))
    named = {option_of(one) for one in above}
    under = [one for one in own.get("set", ()) if option_of(one) not in named]
    return {"set": [*under, *above]} if under or above else {}


def option_of(setting: str) -> str:
    """The name in `name=value`."""
    return setting.partition("=")[0].strip()


def check(flags: Any) -> None:
    """Makes sure that flags and recipe go together.

    Args:
        flags: flags of a driver with `recipe` and `budget`, the recipe's beneath them.

    Raises:
        InputError: a flag that the paper's recipe fixes has another value; there is a budget and
            nothing to search; or a search could not train in steps, or would need several devices.
    """
    if flags.budget and flags.recipe != AUTO:
        raise InputError(
            f"--budget={flags.budget} limits the search of --recipe={AUTO}; give both, or remove "
            "--budget"
        )
    if flags.recipe == AUTO and flags.schedule != "constant":
        raise InputError(
            f"--schedule={flags.schedule}: --recipe={AUTO} trains the best candidates for more "
            "epochs than the others, which a schedule over all epochs does not allow; remove "
            "--schedule"
        )
    if flags.recipe == AUTO and flags.devices > 1:
        raise InputError(
            f"--devices={flags.devices}: --recipe={AUTO} compares trees and networks, each on one "
            "device; remove --devices, or name a recipe"
        )
    if flags.recipe != PAPER:
        return
    fixed = reading_flags.build(type(flags), own_flags(type(flags), PAPER))
    for name in sorted(fixed.model_fields_set):
        value, published = getattr(flags, name), getattr(fixed, name)
        # No weights are the published ones.
        if value == published or (name == "mode_weights" and not value):
            continue
        raise InputError(
            f"--{name}={_joined(value)} contradicts --recipe={PAPER}, which fixes "
            f"--{name}={_joined(published)}; remove one of the two"
        )
    if flags.set:
        raise InputError(
            f"--set={shown(flags.set[0])}: --recipe={PAPER} fixes all options of the network; "
            "remove one of the two"
        )


def _joined(value: Any) -> str:
    return (
        ",".join(f"{one:g}" if isinstance(one, float) else str(one) for one in value)
        if (isinstance(value, tuple))
        else str(value)
    )
