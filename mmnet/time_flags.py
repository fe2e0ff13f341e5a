"""The flags of the clock: what a period is, and how times are written in every table."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from mmnet.flags import Flags


class TimeFlags(Flags):
    """What a period is, and how times are written."""

    ESSENTIAL: ClassVar[tuple[str, ...] | None] = ("period", "time_unit", "time_format")

    period: str = Field(
        "1d", description="Width of a period given as a time: 1h, 1d, 7d; 1M for calendar months."
    )
    time_zone: str = Field("UTC", description="Time zone whose midnights cut periods.")
    time_format: Annotated[str, "added later"] = Field(
        "",
        description="How times are written where it is not ISO 8601, in the codes of strptime: "
        "%d.%m.%Y, %Y%m%d.",
    )
    time_unit: Literal["period", "s", "ms", "us", "ns", "index"] = Field(
        "period",
        description="How to read whole numbers in a column of times: as s, ms, us or ns since the "
        "Unix epoch, or as period indices (index); period chooses by their size.",
    )
    stray_periods: Annotated[Literal["drop", "fail", "keep"], "added later"] = Field(
        "fail", description="What to do with the few rows of periods far away from all others."
    )
    use_partial: Annotated[bool, "added later"] = Field(
        False, description="Use a last period that looks incomplete instead of leaving it out."
    )
