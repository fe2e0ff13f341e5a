"""All flags of MMa4CTR's drivers; `mmnet.config` declares the groups shared with MMNet."""

from __future__ import annotations

from typing import ClassVar, Literal

import pydantic
from pydantic import Field

from mmnet.checks import InputError
from mmnet.config import EngineFlags, EvaluateFlags, FitFlags, ScoreFlags, TrainRunFlags
from mmnet.experiment_flags import GridFlags
from mmnet.flags import Columns, Flags, Numbers, Repeated
from mmnet.mma4ctr.models import REGISTRY, deviations
from mmnet.table_flags import MemoryFlags, TextFlags

MODALITIES = ("visual", "acoustic", "textual")
"""Modalities in the order of the method: v, a, t."""

MATRICES = (
    *("vat_concat", "va_concat", "vt_concat", "at_concat"),
    *("vat_cross", "va_cross", "vt_cross", "at_cross"),
    *MODALITIES,
    "none",
)


class InteractionFlags(EngineFlags, TextFlags):
    """The click log: its files, and which of their rows are used."""

    source: str = Field(
        "wechat", description="Layout of the files: wechat, tiktok, tiktok_track2 or kuairand."
    )
    source_dir: str = Field("", description="Directory of the files of --source.")
    generate: Repeated = Field(
        (),
        description="Option of the generator of synthetic data, as NAME=VALUE (repeatable); if "
        "given, files in the layout of --source are generated into --source_dir or the dataset "
        "directory first.",
    )
    label: str = Field(
        "",
        description="Definition of a positive label: weighted (WeChat's seven behaviours); like or "
        "finish (TikTok); click, long_view or like (KuaiRand). Default: weighted for wechat, like "
        "for tiktok, click for kuairand.",
    )
    min_rows: int = Field(
        -1,
        ge=-1,
        description="Minimum number of rows of a user; users with fewer are left out. -1 means 100 "
        "for wechat, 4000 for tiktok, 100 for tiktok_track2 and 0 for kuairand.",
    )
    unknown_items: Literal["drop", "fail"] = Field(
        "fail",
        description="How to handle rows of items that are not in the item files (wechat and "
        "kuairand; for tiktok, rows of items without features are always dropped).",
    )


class PrepareConfig(InteractionFlags):
    """Flags of `python -m mmnet.mma4ctr.prepare`."""

    dataset_dir: str = Field("", description="Dataset directory to write.")


class ProtocolFlags(Flags):
    """The evaluation protocol, and which features it allows."""

    ESSENTIAL: ClassVar[tuple[str, ...] | None] = (
        "protocol",
        "user_features",
        "matrix",
        "item_scores",
        "past_rates",
    )

    protocol: Literal["p0", "c1", "c2", "recbole"] = Field(
        "c1",
        description="Evaluation protocol: p0 as published, where test labels leak into test "
        "features; c1 with features from strictly earlier times only; c2 with new users, whose "
        "features come from one half of their rows and whose scores from the other; recbole as the "
        "published baselines were trained and scored, where every row is a positive, whatever its "
        "label, and negatives are items drawn at random.",
    )
    shuffle_labels: bool = Field(
        False,
        description="Permute all labels first (P0-s); an AUC other than 0.5 then reveals leakage.",
    )
    user_features: Literal["signed", "exposure", "rate", "none"] = Field(
        "signed",
        description="User features: signed as in the method; exposure with all signs +1 (P0-u); "
        "rate with the user's positive rate only (P0-r); none. All but none also use the device.",
    )
    user_length: int = Field(
        21,
        ge=0,
        description="Length of a user's features per modality (d); 0 uses the user's number as one "
        "column.",
    )
    matrix: Literal[MATRICES] = Field(  # type: ignore[valid-type]
        "vat_concat",
        description="Item features: modalities (v, a, t) concatenated or multiplied, or one of "
        "them.",
    )
    item_scores: str = Field(
        "",
        description="Scores of items that mmnet.predict wrote: the score becomes a feature of the "
        "item, and rows of items with decision `drop` are left out. Of scores of several days "
        "(c1, logs by days), a row reads that of its day, unless it is marked `in_training`.",
    )
    score_column: bool = Field(
        True,
        description="Use the scores of --item_scores as a feature; false only filters items by "
        "decision.",
    )
    first_time: int = Field(
        0,
        ge=0,
        description="In c1, rows before this time serve as history only; 0 = the second time bin.",
    )
    time_bins: int = Field(
        50, ge=4, description="Number of time bins in c1, if times are not days."
    )
    validation_days: int = Field(
        1, ge=1, description="Number of days to validate on in c1, if times are days."
    )
    test_days: int = Field(
        1, ge=1, description="Number of days to test on in c1, the last ones, if times are days."
    )
    past_rates: bool = Field(
        False,
        description="In c1, also use the rates of positives that user and item had before, and the "
        "numbers of rows behind them, as features.",
    )


class ModalityFlags(Flags):
    """Dimensionality reduction of visual, acoustic and textual features."""

    ESSENTIAL: ClassVar[tuple[str, ...] | None] = ()

    pca_variance: float = Field(
        0.9, gt=0, lt=1, description="Fraction of the variance that PCA keeps."
    )
    pca_widths: Numbers = Field(
        (),
        description="Number of PCA components of visual,acoustic,textual, instead of "
        "--pca_variance; the published data have 192,219,43 and 71,10,22.",
    )
    rounding: Literal["auto", "true", "false"] = Field(
        "auto", description="Round PCA output to 4 decimals, as published; auto rounds in p0 only."
    )
    music: bool = Field(
        True,
        description="Use untrained random vectors of song and singer as acoustic features "
        "(wechat).",
    )

    @pydantic.field_validator("pca_widths")
    @classmethod
    def _three(cls, widths: tuple[int, ...]) -> tuple[int, ...]:
        if widths and (len(widths) != len(MODALITIES) or min(widths) < 1):
            raise ValueError("must be three numbers of 1 or more")
        return widths


class NetworkFlags(FitFlags):
    """The model and its training."""

    ESSENTIAL: ClassVar[tuple[str, ...] | None] = ("model", "loss")

    model: Literal[tuple(REGISTRY)] = Field(  # type: ignore[valid-type]
        "mma4ctr",
        description="Name of the model. mma4ctr and lr use content features; the others use user "
        "and item numbers and the items that the user interacted with before (not in p0).",
    )
    arch: Literal["readme", "head_adaptive"] = Field(
        "readme",
        description="Layer widths of mma4ctr: 128-32-4-1 (readme), or those that the authors' code "
        "chooses by input width.",
    )
    loss: Literal["listwise", "bce"] = Field(
        "listwise",
        description="Loss function: listwise as published, or binary cross-entropy (bce).",
    )
    faithful: Columns = Field(
        ("auto",),
        description="Definition of the baselines: paper, each paper's own; recbole, that of "
        "RecBole 1.1.1 with its deviations; or deviations by name, comma-separated "
        "(docs/mma4ctr.md); auto means recbole under --protocol=recbole, else paper.",
    )
    negatives: Literal["untaken", "shown"] = Field(
        "untaken",
        description="Negative of a positive row in the pairwise models (bpr, fpmc, lightgcn, "
        "ngcf): untaken, a random item that the user took in no training row, as in their papers; "
        "or shown, a random training row that the user did not take.",
    )
    epochs: int = Field(10, ge=1, description="Number of passes over the training rows.")
    batch_size: int = Field(
        8192,
        ge=1,
        description="Rows per training step; the listwise loss is computed over the batch.",
    )
    patience: int = Field(
        0, ge=0, description="Epochs without improvement before stopping; 0 never stops early."
    )
    schedule: Literal["step", "constant"] = Field(
        "step", description="Learning-rate schedule; step halves the rate every five epochs."
    )
    interrupt: Literal["off", "head", "intent"] = Field(
        "off",
        description="How to handle an epoch with a validation AUC of 0.5 or less: skip its log "
        "entry only, as the authors' code does (head), or undo and repeat the epoch at half the "
        "learning rate (intent).",
    )
    select: Literal["auto", "last", "validation"] = Field(
        "auto",
        description="Epoch to test: the last one, or the one with the best validation AUC "
        "(validation); auto means last in p0, else validation.",
    )
    evaluate_at: Numbers = Field((), description="Additional epochs to test, one result row each.")
    lightgbm: bool = Field(
        False,
        description="Also fit LightGBM to the same rows of features, as a reference; it needs the "
        "extra `baselines`.",
    )


class TrainConfig(InteractionFlags, ProtocolFlags, ModalityFlags, NetworkFlags, TrainRunFlags):
    """Flags of `python -m mmnet.mma4ctr.train`."""

    outputs: Literal["all", "predictions", "metrics"] = Field(
        "all",
        description="Which results to write. predictions skips figures and the SavedModel; metrics "
        "also skips the predictions.",
    )


class EvaluateConfig(EvaluateFlags):
    """Flags of `python -m mmnet.mma4ctr.evaluate`."""

    umap: int = Field(
        0,
        ge=0,
        description="Number of rows per class in the UMAP figures, which need umap-learn; 0 skips "
        "them.",
    )


class PredictConfig(ScoreFlags, TextFlags, MemoryFlags):
    """Flags of `python -m mmnet.mma4ctr.predict`."""

    pairs: str = Field(
        "",
        description="Table of user_id and item_id pairs to score: a file, a directory or a glob "
        "pattern.",
    )
    batch_size: int = Field(65_536, ge=1, description="Number of pairs to score at a time.")
    verify: bool = Field(
        False,
        description="Only verify the SavedModel: compare checksums, and score the golden rows.",
    )


class ExperimentConfig(GridFlags, TrainConfig):
    """Flags of `python -m mmnet.mma4ctr.experiment`. The flags of train apply to every run."""

    rows: str = Field(
        "mma4ctr/experiments/rows",
        description="Folder of row flagfiles, searched after the experiment's own rows/; the "
        "default is part of the package.",
    )
    row: Repeated = Field(
        (),
        description="Row without a flagfile, as 'NAME: --flag=value --flag=value'; such rows form "
        "a table of their own (repeatable).",
    )
    published: Repeated = Field(
        (),
        description="Published result of a row, as 'NAME: text' from the authors' README "
        "(repeatable).",
    )
    reference: Columns = Field(
        (),
        description="Rows to compare the others with; each table uses the first one it contains, "
        "else its last row.",
    )
    figure: Literal["none", "epochs", "learning_rate", "batch_size"] = Field(
        "none", description="Hyperparameter to plot the test AUC against."
    )


def check(flags: TrainConfig) -> None:
    """Raises an error if flags contradict each other.

    Raises:
        InputError: the model has no inputs, it cannot know the test users, it lacks a deviation,
            the protocol lacks what a flag asks for, or devices cannot share its batches.
    """
    found = deviations.of(flags.model, flags.faithful, flags.protocol)
    norms = flags.model == "lightgcn" and deviations.NORM in found
    if flags.devices > 1 and (norms or not REGISTRY[flags.model].splits):
        raise InputError(
            f"--devices={flags.devices}: a loss of --model={flags.model} is computed over the "
            "whole batch, which devices cannot share; remove --devices"
        )
    if flags.protocol == "recbole":
        if flags.shuffle_labels:
            raise InputError(
                "--shuffle_labels permutes labels, and --protocol=recbole reads none: every row is "
                "a positive; use another protocol"
            )
        if flags.negatives == "shown":
            raise InputError(
                "--negatives=shown needs rows that a user did not take, and under "
                "--protocol=recbole every row is a positive; leave it out"
            )
    if flags.lightgbm and REGISTRY[flags.model].reads != "rows":
        raise InputError(
            f"--lightgbm reads rows of features, and --model={flags.model} has none; use it with "
            "--model=mma4ctr or --model=lr"
        )
    if flags.past_rates and flags.protocol != "c1":
        raise InputError(
            f"--past_rates are rates before a row, and --protocol={flags.protocol} has no before; "
            "use --protocol=c1"
        )
    if flags.matrix == "none" and flags.user_features == "none" and not flags.past_rates:
        raise InputError(
            "--matrix=none and --user_features=none leave the model without inputs; change one of "
            "them"
        )
    if flags.matrix == "none" and flags.user_features not in ("rate", "none") and flags.user_length:
        raise InputError(
            "--matrix=none leaves no modality to compute user features from; use "
            "--user_features=rate or --user_length=0"
        )
    if REGISTRY[flags.model].reads == "numbers" and flags.protocol == "p0":
        raise InputError(
            f"--model={flags.model} identifies users by their number, and in p0 the test users "
            "are not in the training rows; use --protocol=c1"
        )


def published(flags: ExperimentConfig) -> dict[str, str]:
    """Returns row -> result in the authors' README."""
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
    "faithful",
    "negatives",
    "seed",
}
"""Flags that distinguish models; TensorBoard shows them next to the metrics."""

INTERACTIONS = tuple(InteractionFlags.model_fields)
