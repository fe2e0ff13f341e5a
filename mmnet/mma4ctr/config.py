"""Flags of the second system, each declared once; what both systems share is in `mmnet.config`."""

from __future__ import annotations

from typing import ClassVar, Literal

import pydantic
from pydantic import Field

from mmnet.checks import InputError
from mmnet.config import EngineFlags, EvaluateFlags, FitFlags, GridFlags, ScoreFlags, TrainRunFlags
from mmnet.flags import Columns, Flags, Numbers, Repeated
from mmnet.mma4ctr.models import REGISTRY
from mmnet.table_flags import TextFlags

MODALITIES = ("visual", "acoustic", "textual")
"""In the order of the method: v, a, t."""

MATRICES = (
    *("vat_concat", "va_concat", "vt_concat", "at_concat"),
    *("vat_cross", "va_cross", "vt_cross", "at_cross"),
    *MODALITIES,
    "none",
)


class InteractionFlags(EngineFlags, TextFlags):
    """Where the publishers' files are, and which of their rows are read."""

    source: str = Field("wechat", description="Publisher of the files: wechat or tiktok.")
    source_dir: str = Field("", description="Directory of the publisher's files.")
    generate: Repeated = Field(
        (),
        description="name=value option of the generator (repeatable): writes such files first, "
        "into --source_dir or the dataset directory.",
    )
    label: str = Field(
        "",
        description="What a positive is: weighted (WeChat's seven behaviours), like, finish "
        "(TikTok); empty = weighted for wechat, like for tiktok.",
    )
    min_rows: int = Field(
        -1, ge=-1, description="Users of fewer rows are left out; -1 = 100 (wechat), 4000 (tiktok)."
    )
    unknown_items: Literal["drop", "fail"] = Field(
        "fail",
        description="Rows of items that feed_info.csv lacks (wechat; tiktok drops what has none).",
    )


class PrepareConfig(InteractionFlags):
    """Flags of `python -m mmnet.mma4ctr.prepare`."""

    dataset_dir: str = Field("", description="Dataset directory to write.")


class ProtocolFlags(Flags):
    """Which rows train and test, and what a user's features may know."""

    ESSENTIAL: ClassVar[tuple[str, ...] | None] = (
        "protocol",
        "user_features",
        "matrix",
        "item_scores",
    )

    protocol: Literal["p0", "c1", "c2"] = Field(
        "c1",
        description="p0 = as published, test labels are in test features; c1 = features strictly "
        "past in time; c2 = new users, features from one half of their rows, scores on the other.",
    )
    shuffle_labels: bool = Field(
        False, description="Permutes all labels first (P0-s): an honest protocol then scores 0.5."
    )
    user_features: Literal["signed", "exposure", "rate", "none"] = Field(
        "signed",
        description="signed = the method's; exposure = all signs +1 (P0-u); rate = the user's "
        "positive rate only (P0-r); none. The device goes along with all but none.",
    )
    user_length: int = Field(
        21, ge=0, description="d, entries per modality; 0 = the user's number as one column."
    )
    matrix: Literal[MATRICES] = Field(  # type: ignore[valid-type]
        "vat_concat", description="Item part: modalities put side by side, multiplied, or one."
    )
    item_scores: str = Field(
        "",
        description="What mmnet.predict wrote of the items: the score becomes a column of theirs, "
        "and rows of items decided `drop` are left out.",
    )
    score_column: bool = Field(
        True, description="Read the scores of --item_scores; false only filters by them."
    )
    first_time: int = Field(
        0, ge=0, description="c1: rows before this time are history only (0 = the second bin)."
    )
    time_bins: int = Field(50, ge=4, description="Bins of time in c1, where times are no days.")


class ModalityFlags(Flags):
    """How raw modalities become tables."""

    ESSENTIAL: ClassVar[tuple[str, ...] | None] = ()

    pca_variance: float = Field(
        0.9, gt=0, lt=1, description="Share of the variance that PCA keeps of a text or vector."
    )
    pca_widths: Numbers = Field(
        (),
        description="Components of visual, acoustic, textual instead of that; 192,219,43 and "
        "71,10,22 were the published data's.",
    )
    rounding: Literal["auto", "true", "false"] = Field(
        "auto", description="PCA to 4 decimals, as published; auto = in p0."
    )
    music: bool = Field(
        True, description="The untrained random vectors of song and singer (WeChat, acoustic)."
    )

    @pydantic.field_validator("pca_widths")
    @classmethod
    def _three(cls, widths: tuple[int, ...]) -> tuple[int, ...]:
        if widths and (len(widths) != len(MODALITIES) or min(widths) < 1):
            raise ValueError("must be three numbers of 1 or more")
        return widths


class NetworkFlags(FitFlags):
    """The network and how it is trained."""

    ESSENTIAL: ClassVar[tuple[str, ...] | None] = ("model", "loss")

    model: Literal[tuple(REGISTRY)] = Field(  # type: ignore[valid-type]
        "mma4ctr",
        description="mma4ctr; lr reads the same rows; the others user and item numbers, and what "
        "the user took before (c1 and c2 only).",
    )
    arch: Literal["readme", "head_adaptive"] = Field(
        "readme", description="128-32-4-1, or what the authors' code has for each width."
    )
    loss: Literal["listwise", "bce"] = Field("listwise", description="listwise = as published.")
    epochs: int = Field(10, ge=1, description="Number of passes over the training rows.")
    batch_size: int = Field(
        8192, ge=1, description="Rows per training step; the listwise loss is over the batch."
    )
    patience: int = Field(
        0, ge=0, description="Epochs without improvement before stopping; 0 never stops early."
    )
    schedule: Literal["step", "constant"] = Field(
        "step", description="Learning-rate schedule; step halves it every five epochs."
    )
    interrupt: Literal["off", "head", "intent"] = Field(
        "off",
        description="Validation AUC of 0.5 or less: head = as coded, only the log is skipped; "
        "intent = the epoch is undone and repeated at half the rate.",
    )
    select: Literal["auto", "last", "validation"] = Field(
        "auto", description="Which epoch is tested; auto = last in p0, else best validation AUC."
    )
    evaluate_at: Numbers = Field((), description="Epochs to test as well, one row each.")


class TrainConfig(InteractionFlags, ProtocolFlags, ModalityFlags, NetworkFlags, TrainRunFlags):
    """Flags of `python -m mmnet.mma4ctr.train`."""

    outputs: Literal["all", "predictions", "metrics"] = Field(
        "all",
        description="predictions leaves out figures and the SavedModel; metrics leaves out the "
        "predictions too.",
    )


class EvaluateConfig(EvaluateFlags):
    """Flags of `python -m mmnet.mma4ctr.evaluate`."""

    umap: int = Field(
        0, ge=0, description="Rows per class of the UMAP figures; 0 = none (needs umap-learn)."
    )


class PredictConfig(ScoreFlags, TextFlags):
    """Flags of `python -m mmnet.mma4ctr.predict`."""

    pairs: str = Field("", description="Table of user_id and item_id: a file, directory or glob.")
    batch_size: int = Field(65_536, ge=1, description="Pairs per call.")
    verify: bool = Field(
        False, description="Only check the SavedModel: checksums, and golden rows scored again."
    )


class ExperimentConfig(GridFlags, TrainConfig):
    """Flags of `python -m mmnet.mma4ctr.experiment`; all flags of train go to every cell."""

    rows: str = Field(
        "mma4ctr/experiments/rows",
        description="Folder of row flagfiles, searched after the experiment's own rows/; the "
        "default is part of the package.",
    )
    row: Repeated = Field(
        (),
        description="'NAME: --flag=value --flag=value', a row without a flagfile; such rows make "
        "a table of their own (repeatable).",
    )
    published: Repeated = Field(
        (), description="'NAME: text', what the authors' README has for a row (repeatable)."
    )
    reference: Columns = Field(
        (),
        description="Rows to compare with; a table takes the first that it has, or else its last "
        "row.",
    )
    figure: Literal["none", "epochs", "learning_rate", "batch_size"] = Field(
        "none", description="Curve of test AUC over this."
    )


def check(flags: TrainConfig) -> None:
    """Refuses flags that do not go together.

    Raises:
        InputError: they leave the model nothing to read, or users that it cannot know.
    """
    if flags.matrix == "none" and flags.user_features == "none":
        raise InputError("--matrix=none and --user_features=none leave nothing to read")
    if flags.matrix == "none" and flags.user_features != "rate" and flags.user_length:
        raise InputError(
            "--matrix=none has no modality for a user's features; take --user_features=rate "
            "or --user_length=0"
        )
    if REGISTRY[flags.model].reads == "numbers" and flags.protocol == "p0":
        raise InputError(
            f"--model={flags.model} knows users by their numbers, and in p0 no user of test is "
            "in train; take --protocol=c1"
        )


def published(flags: ExperimentConfig) -> dict[str, str]:
    """Row -> what the authors' README has for it."""
    pairs = (text.partition(":") for text in flags.published)
    return {name.strip(): value.strip() for name, _, value in pairs}


PLACES = (
    *("source_dir", "dataset_dir", "run_dir", "item_scores", "outputs", "resume"),
    "profile_steps",
    *EngineFlags.model_fields,
)
DECIDES = {
    *ProtocolFlags.model_fields,
    *ModalityFlags.model_fields,
    "model",
    "arch",
    "loss",
    "seed",
}
"""What tells one model from another: TensorBoard shows it next to the metrics."""

INTERACTIONS = tuple(InteractionFlags.model_fields)
