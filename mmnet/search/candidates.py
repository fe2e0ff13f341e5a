"""Candidates of `--recipe=auto`: each one has a name, its flags and a rank of simplicity.

A new candidate is one entry of `CANDIDATES`. The flags that a user gave are part of every
candidate; one that contradicts them is left out.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pydantic

from mmnet import flags as reading_flags
from mmnet.checks import InputError
from mmnet.config import TrainConfig
from mmnet.models import REGISTRY, resolve_options
from mmnet.recipes import reading
from mmnet.training.run_directory import OF_THE_RUN


@dataclass(frozen=True)
class Candidate:
    """One system that is tried.

    Attributes:
        name: name of its directory, also used in the report.
        title: description for the report.
        arguments: its flags, beneath those of the user.
        simplicity: rank; of candidates that cannot be told apart the lowest one is taken. Fewer
            fitted parts are simpler: a prior per taxonomy value, then trees, then the paper's
            network, then what is added to it.
        always: it is trained even if the budget is too small.
        cost: time of an epoch over that of the paper's network, until it is measured.
        needs: modules that must be installed.
        within_one: True: only for rates within one; False: only for rates that may exceed it.
    """

    name: str
    title: str
    arguments: tuple[str, ...]
    simplicity: int
    always: bool = False
    cost: float = 1.0
    needs: tuple[str, ...] = ()
    within_one: bool | None = None


def _recipe(name: str) -> str:
    return f"--flagfile={reading.flagfile(name)}"


DIRECT, SMOOTHED, MIXED = _recipe("direct"), _recipe("smoothed"), _recipe("mixed")
TREES, OFFSET = _recipe("lightgbm"), "--set=offset=smoothed"
BINOMIAL = ("--loss=binomial", "--set=link=logit", "--half_weight_clicks=0")
POISSON = ("--loss=poisson", "--set=link=log", "--half_weight_clicks=0")
WEIGHTED, EVEN = "--half_weight_clicks=50", "--half_weight_clicks=0"
DROPOUT = "--set=content_dropout=0.2"
AVERAGED = "--weight_average=0.999"
TWO_PARTS = 1.1
"""Time of a training step of the mixed head over that of the paper's network; docs/heads.md."""


def _candidate(name: str, title: str, simplicity: int, *arguments: str, **more: Any) -> Candidate:
    return Candidate(name, title, arguments, simplicity, **more)


CANDIDATES: tuple[Candidate, ...] = (
    # What the paper has is the default of every flag.
    _candidate("paper", "the paper's network", 20, "--inputs=", always=True),
    _candidate("lightgbm", "boosted trees", 10, TREES, always=True, needs=("lightgbm",)),
    _candidate("mixed", "mixed head", 50, MIXED, always=True, cost=TWO_PARTS),
    _candidate(
        "smoothed_history",
        "empirical Bayes",
        0,
        "--inputs=age,calendar",
        "--model=smoothed_history",
        "--set=centre=fitted",
    ),
    _candidate(
        "lightgbm_offset",
        "boosted trees from the smoothed rate, click weights",
        12,
        *(TREES, WEIGHTED, OFFSET),
        needs=("lightgbm",),
    ),
    _candidate("direct", "direct head with evidence", 30, DIRECT),
    _candidate("smoothed", "smoothed head, click weights, content dropout", 42, SMOOTHED),
    _candidate(
        "mixed_averaged", "mixed head, averaged weights", 51, MIXED, AVERAGED, cost=TWO_PARTS
    ),
    _candidate(
        "mixed_steady",
        "mixed head, click weights, content dropout, averaged weights",
        54,
        *(MIXED, WEIGHTED, DROPOUT, AVERAGED),
        cost=TWO_PARTS,
    ),
    _candidate(
        "mixed_weighted",
        "mixed head, click weights, content dropout",
        52,
        *(MIXED, WEIGHTED, DROPOUT),
        cost=TWO_PARTS,
    ),
    _candidate(
        "mixed_binomial",
        "mixed head, binomial likelihood",
        53,
        *(MIXED, *BINOMIAL),
        cost=TWO_PARTS,
        within_one=True,
    ),
    _candidate(
        "mixed_poisson",
        "mixed head, Poisson likelihood",
        53,
        *(MIXED, *POISSON),
        cost=TWO_PARTS,
        within_one=False,
    ),
    _candidate("direct_averaged", "direct head, averaged weights", 31, DIRECT, AVERAGED),
    _candidate("smoothed_even", "smoothed head, equal weights", 41, SMOOTHED, EVEN),
    _candidate(
        "direct_dropout",
        "direct head, click weights, content dropout",
        32,
        *(DIRECT, WEIGHTED, DROPOUT),
    ),
    _candidate(
        "direct_binomial",
        "direct head, binomial likelihood, content dropout",
        33,
        *(DIRECT, DROPOUT, *BINOMIAL),
        within_one=True,
    ),
    _candidate(
        "direct_poisson",
        "direct head, Poisson likelihood, content dropout",
        33,
        *(DIRECT, DROPOUT, *POISSON),
        within_one=False,
    ),
    _candidate(
        "smoothed_binomial",
        "smoothed head, binomial likelihood",
        43,
        *(SMOOTHED, *BINOMIAL),
        within_one=True,
    ),
    _candidate(
        "lightgbm_weighted",
        "boosted trees, click weights",
        11,
        *(TREES, WEIGHTED),
        needs=("lightgbm",),
    ),
    _candidate(
        "lightgbm_cross_entropy",
        "boosted trees from the smoothed rate, click weights, cross entropy",
        13,
        *(TREES, WEIGHTED, OFFSET, "--set=objective=cross_entropy"),
        needs=("lightgbm",),
        within_one=True,
    ),
    _candidate(
        "catboost",
        "CatBoost's trees from the smoothed rate, click weights",
        14,
        *("--inputs=age,calendar", "--model=catboost", "--mode_weights=1,1,1", WEIGHTED, OFFSET),
        needs=("catboost",),
    ),
)
"""In the order in which they are tried while there is time; the first network measures it."""


@dataclass(frozen=True)
class Entry:
    """A candidate and the flags of its run, places and epochs aside."""

    candidate: Candidate
    flags: TrainConfig

    @property
    def name(self) -> str:
        """The candidate's."""
        return self.candidate.name

    @property
    def network(self) -> bool:
        """Return whether it is trained in epochs."""
        return REGISTRY[self.flags.model].kind == "network"


def entries(
    flags: TrainConfig, *, within_one: bool, candidates: Sequence[Candidate]
) -> tuple[list[Entry], dict[str, str]]:
    """Select the candidates that the user's flags allow, with reasons for leaving out the others.

    Args:
        flags: flags of the search; `model_fields_set` names those that were given.
        within_one: whether the numerator is a part of the denominator.
        candidates: all there are, usually `CANDIDATES`.

    Raises:
        InputError: none is left.
    """
    found: list[Entry] = []
    out: dict[str, str] = {}
    for candidate in candidates:
        try:
            why, resolved = _reason(candidate, within_one), None
            if not why:
                resolved = _resolved(candidate, flags)
        except InputError as error:
            why, resolved = str(error), None
        same = [one.name for one in found if resolved == one.flags]
        if same:
            why = f"with the flags given it is the same as {same[0]}"
        if why or resolved is None:
            out[candidate.name] = why
        else:
            found.append(Entry(candidate, resolved))
    if not any(one.network for one in found):
        reasons = "; ".join(f"{name}: {why}" for name, why in out.items())
        raise InputError(
            f"--recipe={reading.AUTO}: no network is left to try with these flags ({reasons}); "
            "leave out the flags that it should choose"
        )
    return found, out


def _reason(candidate: Candidate, within_one: bool) -> str:
    """Reason why a candidate cannot be trained here; empty if it can."""
    for module in candidate.needs:
        if importlib.util.find_spec(module) is None:
            return f"{module} is not installed (pip install 'mmnet[baselines]')"
    if candidate.within_one is True and not within_one:
        return "the rates may exceed one"
    if candidate.within_one is False and within_one:
        return "for rates that may exceed one"
    return ""


def _resolved(candidate: Candidate, flags: TrainConfig) -> TrainConfig:
    """The flags of a candidate beneath those that were given.

    Raises:
        InputError: they contradict each other.
    """
    own = reading_flags.read(TrainConfig, candidate.arguments)
    # What --recipe=auto reads is a question of the dataset; a candidate may read less. Inputs that
    # no candidate names are read by all but the paper's network.
    names = own.get("inputs", ())
    more = [one for one in flags.inputs if one not in names] if names else ()
    inputs = tuple(one for one in (*names, *more) if one in flags.inputs)
    free = {*reading.OF_A_RECIPE, "inputs", *OF_THE_RUN}
    given = {name: getattr(flags, name) for name in flags.model_fields_set - free}
    model = given.get("model") or own.get("model") or flags.model
    if "set" in given and model in REGISTRY:  # options that only other models have
        known = REGISTRY[model].options.model_fields
        given["set"] = [one for one in given["set"] if reading.option_of(one) in known]
    merged = {**own, **given, "inputs": inputs, **reading.settings(own, given)}
    found = reading_flags.build(TrainConfig, merged)
    wanted = reading_flags.build(TrainConfig, own)
    for name in sorted(set(own) - {"inputs", "set", "recipe"}):
        if getattr(found, name) != getattr(wanted, name):
            raise InputError(f"--{name} was given with another value")
    options = resolve_options(found.model, found.set)
    for name, value in resolve_options(wanted.model, wanted.set).items():
        if options.get(name) != value:
            raise InputError(f"--set={name} was given with another value")
    try:
        REGISTRY[found.model].options(**options)
    except pydantic.ValidationError as error:  # options that contradict each other
        raise InputError(error.errors()[0]["msg"]) from None
    return found
