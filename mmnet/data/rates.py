"""The further rates of `--also_predict`: which columns of the counts table they are read from."""

from __future__ import annotations

import re
from typing import NamedTuple

from mmnet.checks import InputError, did_you_mean, quoted, shown
from mmnet.config import TableFlags
from mmnet.schema import FeatureSpec


class Columns(NamedTuple):
    """The columns of a rate in the counts table."""

    denominator: str
    numerator: str


def further(flags: TableFlags) -> dict[str, Columns]:
    """Returns the further rates by name, in the order of `--also_predict`.

    With `--events`, a rate has the columns into which its events are counted; otherwise `--rate`
    names columns of the counts table.

    Raises:
        InputError: a rate is not given by `--rate`, or is not NAME=NUMERATOR/DENOMINATOR.

    >>> further(TableFlags(also_predict=("like",), rate=("like=likes/views",)))
    {'like': Columns(denominator='views', numerator='likes')}
    """
    if not flags.also_predict:
        return {}
    given: dict[str, str] = {}
    for setting in flags.rate:
        name, _, text = setting.partition("=")
        if name in given:
            raise InputError(
                f"--rate names {quoted(name)} twice; use a different name for each rate"
            )
        given[name] = text
    found: dict[str, Columns] = {}
    for name in flags.also_predict:
        if not re.fullmatch(r"\w+", name, re.ASCII):
            raise InputError(
                f"--also_predict={quoted(name)}: a rate that is predicted needs a name of letters "
                "a-z, digits and underscores"
            )
        if name not in given:
            raise InputError(
                f"--also_predict={quoted(name)}: no --rate has this name"
                f"{did_you_mean(name, given)}; add --rate={name}=NUMERATOR/DENOMINATOR"
            )
        if name in found:
            raise InputError(f"--also_predict names {quoted(name)} twice; name each rate once")
        found[name] = _columns(name, given[name], flags)
    _check_names(flags)
    main = Columns(flags.denominator, flags.numerator)
    for name, columns in found.items():
        if columns == main:
            raise InputError(
                f"--also_predict={name}: its rate is that of --numerator and --denominator; leave "
                "it out"
            )
    return found


def columns_of(flags: TableFlags) -> list[str]:
    """Returns the columns of further rates that are not those of the main rate, each once."""
    own = {flags.denominator, flags.numerator}
    found = (column for of_rate in further(flags).values() for column in of_rate)
    return [column for column in dict.fromkeys(found) if column not in own]


def check_same(flags: TableFlags, spec: FeatureSpec) -> None:
    """Makes sure that tables are read for the further rates of a model.

    Raises:
        InputError: the flags name other rates.
    """
    names = tuple(rate.name for rate in spec.rates)
    if flags.also_predict != names:
        said, own = (shown(",".join(some)) or "none" for some in (flags.also_predict, names))
        raise InputError(
            f"--also_predict={said} differs from the further rates of the model, {own}; leave it "
            "out"
        )


def _check_names(flags: TableFlags) -> None:
    """Refuses a name that would make two outputs, or two columns of a table, be called alike."""
    folded = [name.casefold() for name in flags.also_predict]
    for name in flags.also_predict:
        if folded.count(name.casefold()) > 1:  # files of some systems would be the same
            raise InputError(
                f"--also_predict={name}: another rate has the same name in other letters; use "
                "another name in --also_predict and --rate"
            )
        if name in ("low", "high"):
            raise InputError(
                f"--also_predict={name}: share_rate_{name} is an end of the intervals; use another "
                "name in --also_predict and --rate"
            )
        if re.fullmatch(r"share_rate(_h\d+)?", name) or (
            (found := re.fullmatch(r"(.+)_h\d+", name)) and found[1] in flags.also_predict
        ):
            raise InputError(
                f"--also_predict={name}: the prediction of another output is called "
                f"predicted_{name}; use another name in --also_predict and --rate"
            )


def _columns(name: str, text: str, flags: TableFlags) -> Columns:
    if flags.events:  # what is counted is read by `expressions`
        return Columns(f"{name}_denominator", f"{name}_numerator")
    numerator, _, denominator = (part.strip() for part in text.partition("/"))
    if not numerator or not denominator or "/" in denominator:
        raise InputError(
            f"--rate={name}={shown(text)}: without --events it must be NAME=NUMERATOR/DENOMINATOR "
            f"with two columns of the counts table, such as {name}=likes/views"
        )
    return Columns(denominator, numerator)


def definitions(flags: TableFlags) -> dict[str, str]:
    """Returns NUMERATOR/DENOMINATOR of the further rates by name, as `--rate` gives them."""
    texts = dict(setting.split("=", 1) for setting in flags.rate if "=" in setting)
    return {name: texts[name] for name in flags.also_predict}


def alone(flags: TableFlags, rate: str) -> TableFlags:
    """Returns the flags of a dataset that has one rate only, for its name in reports.

    Args:
        flags: flags with further rates.
        rate: name of a further one; empty for the main one.
    """
    update: dict[str, object] = {"also_predict": ()}
    if rate:
        numerator, _, denominator = definitions(flags)[rate].rpartition("/")
        update |= {"numerator": numerator.strip(), "denominator": denominator.strip()}
    return flags.model_copy(update=update)
