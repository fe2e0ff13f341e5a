"""All flags of MMNet's drivers, and the groups shared with MMa4CTR; each flag is declared once.

`flags` parses them.
"""

from __future__ import annotations

import itertools
from typing import Annotated, Any, ClassVar, Literal

import pydantic
from pydantic import Field

from mmnet.experiment_flags import GridFlags, StudyFlags
from mmnet.flags import Columns, Flags, Numbers, Repeated
from mmnet.promotion_flags import ChallengerFlags, LoggedFlags, PromotionFlags, VersionFlags
from mmnet.run_flags import EarlierFlags, MlflowFlags, RecipeFlags, WarmStartFlags
from mmnet.scoring_flags import DriftFlags, ScoringFlags
from mmnet.table_flags import ContentFlags, EngineFlags, MemoryFlags, TableFlags

# ---------------------------------------------------------------------- groups of both systems


class FitFlags(Flags):
    """The training loop."""

    ESSENTIAL: ClassVar[tuple[str, ...] | None] = (
        "epochs",
        "batch_size",
        "learning_rate",
        "patience",
        "seed",
        "resume",
    )

    epochs: int = Field(30, ge=1, description="Maximum number of passes over the training data.")
    batch_size: int = Field(64, ge=1, description="Examples per training step.")
    learning_rate: float = Field(
        0.001, gt=0, description="Initial learning rate of the Adam optimizer."
    )
    patience: int = Field(
        5, ge=0, description="Epochs without improvement before stopping; 0 never stops early."
    )
    seed: int = Field(
        0, description="Random seed of initial weights, example order, dropout and disturbances."
    )
    deterministic: bool = Field(
        False, description="Make training bit-for-bit reproducible; this is slower."
    )
    jit: bool = Field(True, description="Compile the training step with XLA.")
    devices: Annotated[int, "added later"] = Field(
        1,
        ge=1,
        description="Number of GPUs to train a network on; each one computes its part of every "
        "batch.",
    )
    steps_per_execution: int = Field(
        32, ge=1, description="Maximum number of training steps per call of the compiled function."
    )
    checkpoint_seconds: float = Field(
        60, ge=0, description="Seconds between checkpoints within an epoch."
    )
    profile_steps: Numbers = Field(
        (), description="FIRST,LAST training steps to trace with the profiler, e.g. 320,352."
    )
    resume: bool = Field(
        False, description="Resume the run in --run_dir from its newest checkpoint."
    )

    @pydantic.field_validator("profile_steps")
    @classmethod
    def _first_and_last(cls, steps: tuple[int, ...]) -> tuple[int, ...]:
        if steps and (len(steps) != 2 or not 0 < steps[0] <= steps[1]):
            raise ValueError("must be FIRST,LAST, counted from 1")
        return steps


class RunFlags(Flags):
    """Dataset and run directories."""

    dataset_dir: str = Field(
        "", description="Directory of the prepared dataset; default: inside --run_dir."
    )
    run_dir: str = Field("", description="Directory of the run; default: runs/<time>-<model>.")


class TrainRunFlags(FitFlags, RunFlags):
    """A training run of either system."""


class EvaluateFlags(Flags):
    """The run to evaluate."""

    run_dir: str = Field("", description="Directory of the run to evaluate.")
    dataset_dir: str = Field(
        "", description="Directory of the prepared dataset; default: the dataset of the run."
    )


class ExportFlags(Flags):
    """The exported model to use."""

    saved_model: str = Field(
        "", description="Exported SavedModel: export/<version>, or export for the newest version."
    )


class ScoreFlags(ExportFlags):
    """The exported model to score with, and where to write the scores."""

    output: str = Field(
        "scores.parquet",
        description="Parquet file to write. If the name does not end in .parquet, `mmnet.predict` "
        "writes a directory of Parquet files and resumes there after an interruption. With "
        "delta:PATH, `mmnet.predict` replaces the rows of the period in a Delta table, which needs "
        "`pip install 'mmnet[lakehouse]'`.",
    )


# ------------------------------------------------------------------- groups of the first system


class TaskFlags(Flags):
    """Examples: windows, targets, taxonomy means, and the split."""

    ESSENTIAL: ClassVar[tuple[str, ...] | None] = (
        *("window", "horizon", "split", "split_ratios", "min_clicks", "inputs"),
    )

    window: int = Field(6, ge=1, description="Length of the input history, in periods (ω1).")
    horizon: Annotated[tuple[Annotated[int, Field(ge=1)], ...], "comma-separated"] = Field(
        (1,),
        description="How many periods after the window to predict (h). Several, e.g. 1,2,3, are "
        "predicted by one network; the first is the main one.",
    )
    split: Literal["chronological", "by_item", "random_window"] = Field(
        "chronological",
        description="How examples are split into train, validation and test; random_window leaks "
        "the future.",
    )
    split_ratios: Annotated[tuple[float, ...], "comma-separated"] = Field(
        (8, 1, 1), description="Relative sizes of train, validation and test."
    )
    test_periods: Annotated[int, "added later"] = Field(
        0,
        ge=0,
        description="Number of target periods to test on with --split=chronological, whatever "
        "--split_ratios says; 0: by --split_ratios.",
    )
    split_seed: Annotated[int, "added later"] = Field(
        0, description="Random seed of the splits by_item and random_window; not --seed."
    )
    split_group: Annotated[Columns, "added later"] = Field(
        (),
        description="Items columns, texts or vectors for --split=by_item: items that share a value "
        "in one of them stay in the same split.",
    )
    origin: int = Field(
        0,
        ge=0,
        description="Rolling-origin evaluation: move the test span back by this many test spans.",
    )
    min_clicks: int = Field(
        1, ge=1, description="Treat a period of an item with fewer clicks as missing."
    )
    min_train_clicks: int = Field(
        1, ge=1, description="Minimum clicks in the target period of a training example."
    )
    min_target_clicks: int = Field(
        50, ge=1, description="Minimum clicks in the target period of a validation or test example."
    )
    min_test_rows: int = Field(
        200, ge=1, description="Minimum number of test examples; with fewer, training is refused."
    )
    first_period: str = Field("", description="Ignore counts before this period.")
    taxonomy_mean: Literal["leave_one_out", "paper"] = Field(
        "leave_one_out",
        description="How taxonomy means are computed: without the item itself (leave_one_out), or "
        "by Eq. 4, which includes the item's own rate (paper).",
    )
    taxonomy_weighting: Literal["items", "clicks"] = Field(
        "items",
        description="Weights of a taxonomy mean: the mean of the items' rates (items), or pooled "
        "shares over pooled clicks (clicks).",
    )
    inputs: Annotated[
        tuple[Literal["age", "calendar", "lifetime", "taxonomy_evidence"], ...],
        "comma-separated",
        "added later",
    ] = Field(
        (),
        description="Inputs beyond the paper: age is the item's age in the target period; "
        "calendar is the target's hour, weekday or month; lifetime is the item's clicks and rate "
        "in all periods before the window; taxonomy_evidence is the number of items, or their "
        "clicks, that each taxonomy mean is of.",
    )
    text_tokens: int = Field(32, ge=1, description="Maximum number of tokens read per text.")
    text_vocabulary: int = Field(
        20_000, ge=1, description="Maximum vocabulary size of each text column."
    )
    hash_vocabularies: Annotated[bool, "added later"] = Field(
        False,
        description="Store hashes of taxonomies, categorical values and words in the dataset's "
        "vocabularies and in the export, instead of the values; scores stay the same. A hash hides "
        "a value only if it cannot be guessed.",
    )

    @property
    def main_horizon(self) -> int:
        """The first horizon; reports are about it."""
        return self.horizon[0]

    @property
    def longest_horizon(self) -> int:
        """The last horizon, for which a span of the calendar must have room."""
        return self.horizon[-1]

    @pydantic.field_validator("horizon", mode="before")
    @classmethod
    def _one_or_more(cls, horizon: Any) -> Any:
        return horizon if isinstance(horizon, tuple | list) else (horizon,)

    @pydantic.field_validator("horizon")
    @classmethod
    def _ascending(cls, horizon: tuple[int, ...]) -> tuple[int, ...]:
        if not horizon:
            raise ValueError("must be a number of periods, or several")
        if any(one >= other for one, other in itertools.pairwise(horizon)):
            raise ValueError("must be different horizons in ascending order, such as 1,2,3")
        return horizon

    @pydantic.field_serializer("horizon", when_used="json")
    def _as_before(self, horizon: tuple[int, ...]) -> int | list[int]:
        """A single horizon is stored as the number that it was before there could be several."""
        return horizon[0] if len(horizon) == 1 else list(horizon)


class ScenarioFlags(Flags):
    """The evaluation scenarios of validation and test."""

    ESSENTIAL: ClassVar[tuple[str, ...] | None] = ()

    test_missing_rate: float = Field(
        0.5, ge=0, le=1, description="Fraction of history steps hidden in the noisy scenario."
    )
    scenario_seed: int = Field(
        0, description="Random seed of the steps hidden in the noisy scenario; not --seed."
    )


class ModelFlags(Flags):
    """The model, and the options that all models share."""

    ESSENTIAL: ClassVar[tuple[str, ...] | None] = ("model", "mode_weights", "set")

    model: str = Field(
        "mmnet",
        description="Name of the model: mmnet; gru, encoder_decoder, mmved, dftc, transformer; "
        "smoothed_history, lightgbm, catboost; ha, ha_taxonomy, last_rate, taxonomy_mean.",
    )
    coarse_granularity: bool = Field(
        True, description="Use the taxonomy sequences (coarse granularity) as inputs."
    )
    taxonomy_flags: bool = Field(
        True, description="Use the missing flags of the taxonomy sequences as inputs."
    )
    mode_weights: Annotated[tuple[float, ...], "comma-separated"] = Field(
        (),
        description="Relative frequency of normal,cold-start,noisy examples in training; default: "
        "the published setting of the model.",
    )
    noisy_rate: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Probability of hiding a history step of a noisy training example (τ).",
    )
    set: Repeated = Field((), description="Model option, as NAME=VALUE (repeatable).")


class TrainingFlags(FitFlags):
    """Loss, early stopping and ensembling."""

    ESSENTIAL: ClassVar[tuple[str, ...] | None] = ("loss", "monitor", "ensemble")

    ensemble: Annotated[int, "added later"] = Field(
        1,
        ge=1,
        description="Number of networks to train, with seeds counted from --seed, and to average "
        "into one model.",
    )
    schedule: Literal["constant", "cosine"] = Field(
        "constant", description="Learning-rate schedule; cosine decays to 0 over all --epochs."
    )
    loss: Literal["mse", "binomial", "poisson"] = Field(
        "mse",
        description="Loss function. binomial and poisson are negative log-likelihoods per click, "
        "for use with --set=link=logit and --set=link=log.",
    )
    half_weight_clicks: float = Field(
        0,
        ge=0,
        description="Number of clicks at which a target has half of the maximum weight in the "
        "loss; 0 gives all targets the same weight.",
    )
    weight_average: Annotated[float, "added later"] = Field(
        0,
        ge=0,
        lt=1,
        description="Momentum of an exponential moving average (EMA) of the weights, e.g. 0.999; "
        "the averaged weights are validated and exported. 0 disables averaging.",
    )
    monitor: Literal["mean_log_mse", "normal", "cold_start", "noisy"] = Field(
        "mean_log_mse", description="Validation metric that selects the best epoch."
    )
    precision: Literal["float32", "mixed_bfloat16"] = Field(
        "float32", description="Compute dtype policy."
    )
    validation_halves: Annotated[bool, "added later"] = Field(
        False,
        description="Split validation by item into two halves: one selects the epoch, the other "
        "fits thresholds and prediction intervals.",
    )


class DecisionFlags(Flags):
    """Decision rules and prediction intervals; both are fitted on validation."""

    rules: Columns = Field(
        ("recall=0.99",),
        min_length=1,
        description="Decision rules: threshold=PERCENT keeps items predicted at that rate or more, "
        "keep=SHARE keeps that share of the items, recall=SHARE drops as many items as possible "
        "while keeping that share of the true top 5 %, keep=SHARE per COLUMN keeps that share of "
        "the items of each value of a taxonomy or categorical column. With several horizons or "
        "rates, a rule may end in ' of RATE' and ' at HORIZON'. predict calls the first one "
        "`stored`.",
    )
    explore_share: Annotated[float, "added later"] = Field(
        0.05,
        ge=0,
        le=1,
        description="Largest expected share of items that are explored: items that a rule would "
        "drop, although the upper end of their interval reaches its threshold.",
    )
    interval_level: float = Field(
        0.9, gt=0, lt=1, description="Target coverage of the prediction intervals."
    )


class ExplainFlags(Flags):
    """Output in addition to the metrics."""

    explain: bool = Field(
        False,
        description="Write attention.parquet with the attention weights of every example.",
    )


class PlaceFlags(RunFlags, ExplainFlags):
    """Results to write, and their directories; these flags are not part of a run's flags.txt."""

    outputs: Literal["all", "predictions", "validation"] = Field(
        "all",
        description="Which results to write. predictions skips simple baselines, plots and the "
        "SavedModel; validation stops after training and never opens the test split.",
    )


# ------------------------------------------------------------------------------------- drivers


class PrepareConfig(TableFlags, TaskFlags, EarlierFlags):
    """Flags of `python -m mmnet.prepare`."""

    dataset_dir: str = Field("", description="Dataset directory to write.")


class InspectConfig(TableFlags, TaskFlags):
    """Flags of `python -m mmnet.inspect`. It keeps the flags given and proposes the others."""

    output: str = Field(
        "", description="Flagfile to write; default: print it as part of the report."
    )


class TrainConfig(
    RecipeFlags,
    TableFlags,
    TaskFlags,
    ScenarioFlags,
    ModelFlags,
    TrainingFlags,
    WarmStartFlags,
    DecisionFlags,
    MlflowFlags,
    PlaceFlags,
    TrainRunFlags,
):
    """Flags of `python -m mmnet.train`."""


class EvaluateConfig(EvaluateFlags, ScenarioFlags, ExplainFlags):
    """Flags of `python -m mmnet.evaluate`. Scenario flags default to those of the run."""


class ExperimentConfig(
    GridFlags, StudyFlags, TableFlags, TaskFlags, ScenarioFlags, ModelFlags, TrainingFlags
):
    """Flags of `python -m mmnet.experiment`. The flags of train apply to every run."""


class EncodeConfig(ContentFlags, MemoryFlags):
    """Flags of `python -m mmnet.encode`."""

    output: str = Field(
        "",
        description="Directory to write vectors to, one COLUMN.parquet of item id and vector per "
        "column; default: fill only the cache.",
    )
    prune: bool = Field(
        False,
        description="Remove vectors of these encoders from the cache that these items do not use.",
    )


class PredictConfig(ScoreFlags, ScoringFlags, TableFlags):
    """Flags of `python -m mmnet.predict`. Table flags default to those of the export."""

    dataset_dir: str = Field(
        "", description="Directory of a prepared dataset to score instead of tables."
    )
    as_of: str = Field(
        "", description="Last period to use as history; default: the last complete period."
    )
    explain: bool = Field(
        False,
        description="Add a column weight_<modality> with the attention weight per modality, and "
        "reason_<input> with the change of the score, in percentage points, if an input is hidden.",
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="Inference dtype. bfloat16 needs --runtime=openvino, and is refused if it "
        "changes the scores too much.",
    )
    items_a_day: int = Field(
        1_000_000, ge=1, description="Items per day for which to estimate the number of workers."
    )
    ranking_features: str = Field(
        "",
        description="Parquet file to write instead of --output, as features for a ranker: scores, "
        "intervals and gate weights by item and period.",
    )
    ranking_from: str = Field(
        "",
        description="First as-of period of --ranking_features; the last one is --as_of. Default: "
        "only that one.",
    )
    verify: bool = Field(
        False,
        description="Only verify the SavedModel: compare checksums, and score the golden rows.",
    )


class DriftConfig(ExportFlags, DriftFlags, TableFlags):
    """Flags of `python -m mmnet.drift`. Table flags default to those of the export."""

    dataset_dir: str = Field(
        "", description="Directory of a prepared dataset to check instead of tables."
    )
    output: str = Field("drift", description="Directory for drift.json and drift.md.")
    checked: str = Field(
        "", description="Period to check; default: the last complete period of the counts."
    )


class NightlyConfig(
    VersionFlags,
    ChallengerFlags,
    PromotionFlags,
    LoggedFlags,
    DriftFlags,
    ScoringFlags,
    TrainConfig,
):
    """Flags of `python -m mmnet.nightly`. The flags of train apply to the challenger."""

    output: str = Field(
        "", description="Scores of all items by the champion, as of `predict`; empty scores none."
    )
    exit_code_kept: int = Field(
        0, ge=0, le=255, description="Exit code of a night that keeps the champion."
    )


TABLES, TASK = tuple(TableFlags.model_fields), tuple(TaskFlags.model_fields)
ENGINE = (*EngineFlags.model_fields, "shard_items")
"""Flags of how tables are processed; no result depends on them."""
PLACES = (
    *("dataset_dir", "run_dir", "outputs", "explain", "resume", "profile_steps"),
    *("source_dir", "image_root", "encoder_cache", *ENGINE),
    *MlflowFlags.model_fields,
)
