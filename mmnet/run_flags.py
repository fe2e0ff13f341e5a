"""The flags of what a run begins with, and of where it is logged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import pydantic
from pydantic import Field

from mmnet.flags import Flags
from mmnet.recipes import durations, reading


class RecipeFlags(Flags):
    """Named sets of flags."""

    recipe: Annotated[str, "added later"] = Field(
        "",
        description="Named set of flags: paper, direct, smoothed, mixed or lightgbm; or auto, "
        "which searches for the best flags on validation within --budget. Flags given explicitly "
        "override the recipe.",
    )
    budget: Annotated[str, "added later"] = Field(
        "",
        description="Time limit of the search of --recipe=auto, e.g. 20m; default: 8 times the "
        "training time of the paper's network.",
    )

    @pydantic.field_validator("budget")
    @classmethod
    def _duration(cls, text: str) -> str:
        if text:
            durations.seconds_of(text)
        return text

    @classmethod
    def beneath(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the recipe's flags, overridden by those that were given."""
        return reading.beneath(cls, given)

    def check(self) -> None:
        """Raises `InputError` where a flag contradicts what the recipe fixes."""
        reading.check(self)


class EarlierFlags(Flags):
    """Earlier model to start from."""

    warm_start: Annotated[str, "added later"] = Field(
        "",
        description="Run directory or exported SavedModel of an earlier network to start from: "
        "its weights and scales are kept, and new values are added to its vocabularies.",
    )


class WarmStartFlags(EarlierFlags):
    """Earlier model to start from."""

    ESSENTIAL: ClassVar[tuple[str, ...] | None] = ("warm_start",)

    warm_epochs: Annotated[int, "added later"] = Field(
        3,
        ge=0,
        description="Maximum number of passes over the training data with --warm_start, instead of "
        "--epochs; 0 keeps the weights and refits thresholds and intervals.",
    )


class MlflowFlags(Flags):
    """MLflow tracking; these flags are not part of a run's flags.txt."""

    ESSENTIAL: ClassVar[tuple[str, ...] | None] = ("mlflow",)

    mlflow: str = Field(
        "",
        description="Tracking URI of the MLflow server or database in which to log the finished "
        "run, e.g. http://HOST:5000 or sqlite:///mlflow.db. ${NAME} is replaced by the value of an "
        "environment variable. Needs `pip install 'mmnet[mlflow]'`.",
    )
    mlflow_experiment: str = Field(
        "mmnet", min_length=1, description="MLflow experiment of the run, created if needed."
    )
    mlflow_model: str = Field(
        "",
        description="Registered model in MLflow of which the export becomes a version; default: "
        "no version is created.",
    )
    mlflow_alias: str = Field(
        "candidate", min_length=1, description="Alias of that version, moved from the last one."
    )
