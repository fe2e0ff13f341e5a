"""All that the tests of an experiment are computed from, as the file tests.json keeps it.

Values by seed, the variance of each system and of each difference due to test rows, and the
contrasts of the claims: no target, no prediction and no number of a single test row. Numbers are
kept in full, so that they are read back to the bit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    ValidationError,
)

from mmnet.checks import InputError
from mmnet.evaluation.significance import KeptMeasure, Measure
from mmnet.experiments.claims import Contrast, Evidence
from mmnet.experiments.comparison import Group
from mmnet.files import read_json

FILE = "tests.json"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class _Measure(_Part):
    """A `KeptMeasure`; `variances` has a line per system, of its pairs with those before it."""

    scenario: str
    metric: str
    freedom: PositiveFloat
    lower_is_better: bool
    limits: tuple[float, float | None]
    seeds: dict[str, Annotated[list[float], Field(min_length=1)]] = Field(min_length=1)
    variances: list[list[NonNegativeFloat]]

    @classmethod
    def of(cls, scenario: str, metric: str, measure: Measure) -> _Measure:
        names = list(measure.seeds)
        low, high = measure.limits
        return cls(
            scenario=scenario,
            metric=metric,
            freedom=measure.freedom,
            lower_is_better=measure.lower_is_better,
            limits=(low, high if np.isfinite(high) else None),
            seeds={name: found.tolist() for name, found in measure.seeds.items()},
            variances=[
                [
                    measure.row_variance([name] if name == other else [name, other])
                    for other in names[: place + 1]
                ]
                for place, name in enumerate(names)
            ],
        )

    def measure(self, num_seeds: Mapping[str, int], trained_once: frozenset[str]) -> KeptMeasure:
        names, (low, high) = list(self.seeds), self.limits
        return KeptMeasure(
            seeds={name: np.array(found) for name, found in self.seeds.items()},
            num_seeds={name: num_seeds[name] for name in names},
            freedom=self.freedom,
            trained_once=trained_once,
            lower_is_better=self.lower_is_better,
            limits=(low, np.inf if high is None else high),
            variances={
                tuple(sorted({name, other})): variance
                for place, (name, line) in enumerate(zip(names, self.variances, strict=True))
                for other, variance in zip(names[: place + 1], line, strict=True)
            },
        )


class _Windows(_Part):
    """The rows of a `Group`."""

    about: str
    num_seeds: dict[str, PositiveInt]
    trained_once: list[str]
    measures: list[_Measure] = Field(min_length=1)


class _Contrast(_Part):
    """A contrast of the claims, see `claims.Contrast`."""

    terms: list[tuple[float, str, str]]
    value: float
    variances: list[NonNegativeFloat]
    freedoms: list[PositiveFloat]
    seed_variance_known: bool


class Kept(_Part):
    """The content of tests.json."""

    windows: list[_Windows]
    mse: list[tuple[str, str, NonNegativeFloat]]
    contrasts: list[_Contrast]

    @classmethod
    def of(cls, groups: Sequence[Group], evidence: Evidence) -> Kept:
        """Keep what the tests of groups and claims are computed from."""
        found = []
        for group in groups:
            first = next(iter(group.measures.values()))
            found.append(
                _Windows(
                    about=group.about,
                    num_seeds=dict(first.num_seeds),
                    trained_once=sorted(first.trained_once),
                    measures=[_Measure.of(*key, one) for key, one in group.measures.items()],
                )
            )
        return cls(
            windows=found,
            mse=[(*key, value) for key, value in evidence.mse.items()],
            contrasts=[
                _Contrast(
                    terms=list(terms),
                    value=one.value,
                    variances=list(one.variances),
                    freedoms=list(one.freedoms),
                    seed_variance_known=one.seed_variance_known,
                )
                for terms, one in evidence.contrasts.items()
            ],
        )

    @classmethod
    def read(cls, path: Path) -> Kept:
        """Read tests.json.

        Raises:
            InputError: it is missing or damaged.
        """
        try:
            return cls.model_validate(read_json(path))
        except FileNotFoundError:
            raise InputError(
                f"{path} does not exist, so that --retest has nothing to compute from; tables of "
                "earlier versions have no such file. Run the experiment without --retest"
            ) from None
        except (OSError, ValueError) as error:
            what: object = error
            if isinstance(error, ValidationError):
                first = error.errors()[0]
                what = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
            raise InputError(
                f"{path} cannot be read ({what}); run the experiment without --retest"
            ) from None

    def text(self) -> str:
        """The file as text; numbers are read back to the bit."""
        return json.dumps(self.model_dump(mode="json"), separators=(",", ":")) + "\n"

    def groups(self) -> list[Group]:
        """The groups, without predictions.

        Raises:
            KeyError, ValueError: systems and numbers do not go together.
        """
        return [
            Group(
                one.about,
                {
                    (measure.scenario, measure.metric): measure.measure(
                        one.num_seeds, frozenset(one.trained_once)
                    )
                    for measure in one.measures
                },
            )
            for one in self.windows
        ]

    def evidence(self) -> Evidence:
        """Return the MSEs and contrasts that the claims are checked by."""
        return Evidence(
            {(system, scenario): value for system, scenario, value in self.mse},
            {
                tuple(one.terms): Contrast(
                    *(one.value, tuple(one.variances), tuple(one.freedoms)),
                    one.seed_variance_known,
                )
                for one in self.contrasts
            },
        )
