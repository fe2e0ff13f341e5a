"""The flags of nights: the versions of a model, their comparison, and what is promoted."""

from __future__ import annotations

from typing import Annotated, ClassVar

import pydantic
from pydantic import Field

from mmnet.flags import Flags, Repeated

PREVIOUS = "true"
"""Value of `--rollback` without a version."""


class VersionFlags(Flags):
    """The directory of versions."""

    models: str = Field(
        "", description="Directory of the model's numbered versions; created if it does not exist."
    )
    keep: int = Field(
        5,
        ge=2,
        description="Number of champions to keep, counted back from the current one; older "
        "versions, and the runs of older nights, are removed.",
    )
    rollback: Annotated[str, "optional value"] = Field(
        "",
        description="Make an earlier version the champion, and do nothing else: the champion "
        "before the current one, or --rollback=VERSION.",
    )
    history: bool = Field(
        False, description="Print the nights and rollbacks so far, and do nothing else."
    )

    @pydantic.field_validator("rollback")
    @classmethod
    def _version(cls, text: str) -> str:
        if text and text != PREVIOUS and not (text.isascii() and text.isdecimal() and int(text)):
            raise ValueError("must be the number of a version, or be given without a value")
        return text


class ChallengerFlags(Flags):
    """The challenger."""

    cold: bool = Field(
        False,
        description="Train the challenger from new weights; by default a network starts from the "
        "champion's.",
    )
    refit: bool = Field(
        False,
        description="Fit a promoted challenger once more on all periods, the compared ones too, "
        "and serve that instead.",
    )
    refit_distance: float = Field(
        0.2,
        gt=0,
        description="Largest distance of a refitted model from the compared one: the root mean "
        "square difference of their scores of golden rows, as a fraction of the standard deviation "
        "of rates, and the growth of the MSE on the compared periods. Beyond it, the compared "
        "model is served.",
    )
    allow_drift: bool = Field(
        False, description="Go on if the newest period has drifted from the champion's training."
    )


class PromotionFlags(Flags):
    """The comparison and the promotion."""

    compare_periods: int = Field(
        3, ge=1, description="Number of last periods on which champion and challenger are compared."
    )
    promote: str = Field(
        "better",
        description="Promotion rule: better, or not_worse=MARGIN with a margin as a fraction of "
        "the champion's MSE; @SCENARIO,SCENARIO after it names where it must hold, if not only "
        "@normal.",
    )
    alpha: float = Field(
        0.05,
        gt=0,
        lt=1,
        description="Probability of a wrong promotion: in --alpha_nights nights in a row under "
        "better, in one night under not_worse.",
    )
    alpha_nights: int = Field(
        30, ge=1, description="Number of nights in a row that --alpha is for under better."
    )
    anchor: int = Field(
        30,
        ge=1,
        description="not_worse is measured against the best champion of this many nights, too, so "
        "that margins do not add up.",
    )
    outage_budget: float = Field(
        0.1,
        ge=0,
        description="Refuse a challenger whose MSE without any single input is above the "
        "champion's without it by more than this fraction.",
    )
    accept_field: Repeated = Field(
        (),
        description="Field that a challenger may read although its values change after items are "
        "first seen, or although the champion does not read it (repeatable).",
    )


class LoggedFlags(Flags):
    """Logged decisions."""

    ESSENTIAL: ClassVar[tuple[str, ...] | None] = ("decisions",)

    decisions: str = Field(
        "",
        description="Table of the decisions of earlier nights: test rows are weighted by 1 / "
        "propensity, to undo what the champion's own filter has hidden.",
    )
    decisions_item_column: str = Field("item_id", description="Its column of item ids.")
    decisions_period_column: str = Field(
        "period", description="Its column of the periods that were decided on."
    )
    decision_column: str = Field(
        "decision", description="Its column of decisions: keep, explore or drop."
    )
    propensity_column: str = Field(
        "propensity",
        description="Its column of the probability with which the item would be let through.",
    )
    clip: float = Field(20.0, ge=1, description="Largest weight of a test row; it is reported.")
