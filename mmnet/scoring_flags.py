"""The flags of scoring, deciding and watching for drift, which several drivers share."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from mmnet.flags import Flags


class ScoringFlags(Flags):
    """Scores and decisions."""

    ESSENTIAL: ClassVar[tuple[str, ...] | None] = ("only_items", "processes", "rule", "explore")

    allow_short_history: bool = Field(
        False,
        description="Score although the counts begin later than the training log did; ages that "
        "--inputs=age counts from first clicks, and the counts of --inputs=lifetime, are then "
        "unknown.",
    )
    only_items: str = Field(
        "", description="Table of the items to score; taxonomy means still use all items."
    )
    processes: int = Field(
        1, ge=1, description="Number of scoring processes; each uses one CPU core."
    )
    static_cache: str = Field(
        "",
        description="Directory to cache the parts of the network that depend on items alone, so "
        "that the next period is scored faster, and the last first passes over tables.",
    )
    runtime: Literal["tensorflow", "xla", "onnx", "openvino", "fastest"] = Field(
        "tensorflow",
        description="Inference runtime; fastest measures all on a sample of the items and uses the "
        "fastest. onnx and openvino need `pip install 'mmnet[fast]'`.",
    )
    rule: str = Field(
        "",
        description="Add a column with the decision of a rule: stored (the export's first rule), "
        "another rule of the export's --rules, or threshold=PERCENT.",
    )
    explore: bool = Field(
        False,
        description="Decide `explore` instead of `drop` for some of the items below the threshold "
        "whose interval reaches it, at the rate that --explore_share of train set, and add a "
        "column with the propensity: the probability with which an item is kept or explored.",
    )


class DriftFlags(Flags):
    """Limits of drift."""

    ESSENTIAL: ClassVar[tuple[str, ...] | None] = ()

    psi: float = Field(
        0.2, gt=0, description="Population stability index (PSI) above which a column drifts."
    )
    ks: float = Field(
        0.2, gt=0, description="Kolmogorov-Smirnov distance above which a column drifts."
    )
    volume: float = Field(
        2.0,
        gt=1,
        description="Factor of change in the total clicks of a period above which it drifts.",
    )
    bias: float = Field(
        0.2,
        gt=0,
        description="Change in bias (mean prediction minus mean rate), as a fraction of the mean "
        "rate, above which predictions drift.",
    )
