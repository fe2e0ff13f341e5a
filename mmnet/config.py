"""Every flag of the first system, and the groups that both systems share, each declared once.

See `flags` for how they are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import pydantic
from pydantic import Field

from mmnet.flags import Columns, Flags, Numbers, Repeated
from mmnet.recipes import durations, reading
from mmnet.table_flags import ContentFlags, EngineFlags, TableFlags

# ---------------------------------------------------------------------- groups of both systems


class FitFlags(Flags):
    """The course of training."""

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
    seed: int = Field(0, description="Seed of initial weights, example order and all other draws.")
    deterministic: bool = Field(False, description="Make reruns identical to the bit, but slower.")
    jit: bool = Field(True, description="Compile the training step with XLA.")
    steps_per_execution: int = Field(
        32, ge=1, description="Maximum number of training steps per call of the compiled program."
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
    """Where a run reads its dataset and writes its results."""

    dataset_dir: str = Field("", description="Prepared dataset; default: inside --run_dir.")
    run_dir: str = Field("", description="Run directory; default: runs/<time>-<model>.")


class TrainRunFlags(FitFlags, RunFlags):
    """A training run of either system."""


class EvaluateFlags(Flags):
    """Which run is evaluated."""

    run_dir: str = Field("", description="Run directory to evaluate.")
    dataset_dir: str = Field("", description="Prepared dataset; default: the run's own.")


class ExportFlags(Flags):
    """Which exported model is used."""

    saved_model: str = Field("", description="SavedModel: export/<version>, or its parent.")


class ScoreFlags(ExportFlags):
    """Which exported model scores, and where the scores go."""

    output: str = Field(
        "scores.parquet",
        description="Parquet file to write. `mmnet.predict` takes a name without .parquet as a "
        "directory of files, and resumes there if it was killed.",
    )


class GridFlags(Flags):
    """The experiment: its rows and seeds, how they are compared, and where results go."""

    experiment: str = Field(
        "", description="Folder of the experiment; its experiment.txt is read as a flagfile."
    )
    title: str = Field("", description="Title of the results page.")
    table: Repeated = Field(
        (), description="'TITLE: row, row, ...[: SEEDS]'; a row is a flagfile's stem (repeatable)."
    )
    rows: str = Field(
        "experiments/rows",
        description="Folder of row flagfiles, searched after the experiment's own rows/; the "
        "default is part of the package.",
    )
    seeds: Numbers = Field(
        (0, 1, 2, 3, 4), min_length=1, description="Training seeds of every row that draws."
    )
    reference: Columns = Field(
        ("mmnet",), description="Rows to compare with; a table takes the first that it has."
    )
    significance: float = Field(
        0.01, gt=0, lt=1, description="Level of the tests after Holm's correction."
    )
    jobs: int = Field(1, ge=1, description="Number of cells that run at the same time.")
    cells: str = Field(
        "",
        description="Directory of the cells' runs; default: runs/experiments/<name>, for MMa4CTR "
        "runs/mma4ctr/<name>.",
    )
    results: str = Field("", description="Directory of the tables; default: inside --experiment.")


# ------------------------------------------------------------------- groups of the first system


class TaskFlags(Flags):
    """Which examples are made of the tables, and how they are split."""

    ESSENTIAL: ClassVar[tuple[str, ...] | None] = (
        *("window", "horizon", "split", "split_ratios", "min_clicks", "inputs"),
    )

    window: int = Field(6, ge=1, description="Periods seen (ω1).")
    horizon: int = Field(1, ge=1, description="Periods ahead (h).")
    split: Literal["chronological", "by_item", "random_window"] = Field(
        "chronological", description="How examples are split; random_window leaks the future."
    )
    split_ratios: Annotated[tuple[float, ...], "comma-separated"] = Field(
        (8, 1, 1), description="Train, validation, test."
    )
    split_seed: Annotated[int, "added later"] = Field(
        0, description="Seed of the splits by_item and random_window; not --seed."
    )
    split_group: Annotated[Columns, "added later"] = Field(
        (),
        description="Items columns, texts or vectors: items that share a value in one of them are "
        "in the same part of --split=by_item.",
    )
    origin: int = Field(
        0, ge=0, description="Rolling cut-off: test this many test spans before the last one."
    )
    min_clicks: int = Field(1, ge=1, description="Fewer clicks make a period missing.")
    min_train_clicks: int = Field(1, ge=1, description="Fewest clicks of a training target.")
    min_target_clicks: int = Field(50, ge=1, description="The same for validation and test.")
    min_test_rows: int = Field(200, ge=1, description="Fewer test rows are refused.")
    first_period: str = Field("", description="Ignore counts before this period.")
    taxonomy_mean: Literal["leave_one_out", "paper"] = Field(
        "leave_one_out", description="paper = Eq. 4, which shows an item its own rate."
    )
    taxonomy_weighting: Literal["items", "clicks"] = Field(
        "items", description="Mean of the items' rates, or pooled shares over pooled clicks."
    )
    inputs: Annotated[tuple[Literal["age", "calendar"], ...], "comma-separated", "added later"] = (
        Field(
            (),
            description="Inputs beyond the paper's: age, of the item in the target period; "
            "calendar, the target's hour, weekday or month.",
        )
    )
    text_tokens: int = Field(32, ge=1, description="Tokens read of each text.")
    text_vocabulary: int = Field(20_000, ge=1, description="Most words kept of each text column.")


class ScenarioFlags(Flags):
    """The scenarios of validation and test."""

    ESSENTIAL: ClassVar[tuple[str, ...] | None] = ()

    test_missing_rate: float = Field(
        0.5, ge=0, le=1, description="Share of the steps that the noisy scenario hides."
    )
    scenario_seed: int = Field(0, description="Seed of the steps that noisy hides; not --seed.")


class ModelFlags(Flags):
    """Which system, and the options that all systems share."""

    ESSENTIAL: ClassVar[tuple[str, ...] | None] = ("model", "mode_weights", "set")

    model: str = Field(
        "mmnet",
        description="mmnet; gru, encoder_decoder, mmved, dftc, transformer; smoothed_history, "
        "lightgbm, catboost; ha, ha_taxonomy, last_rate, taxonomy_mean.",
    )
    coarse_granularity: bool = Field(True, description="Read the taxonomy sequences.")
    taxonomy_flags: bool = Field(True, description="Embed their missing flags too.")
    mode_weights: Annotated[tuple[float, ...], "comma-separated"] = Field(
        (), description="normal,cold,noisy; empty = the system's published setting."
    )
    noisy_rate: float = Field(0.5, ge=0, le=1, description="τ, share hidden by the noisy block.")
    set: Repeated = Field((), description="name=value option of the model (repeatable).")


class TrainingFlags(FitFlags):
    """How the model is fitted."""

    ESSENTIAL: ClassVar[tuple[str, ...] | None] = ("loss", "monitor", "ensemble")

    ensemble: Annotated[int, "added later"] = Field(
        1, ge=1, description="Number of seeds, from --seed on, trained and averaged as one model."
    )
    schedule: Literal["constant", "cosine"] = Field(
        "constant", description="Learning-rate schedule; cosine decays to 0 over all --epochs."
    )
    loss: Literal["mse", "binomial", "poisson"] = Field(
        "mse",
        description="Loss function. binomial and poisson are log-likelihoods per click, for "
        "--set=link=logit and --set=link=log.",
    )
    half_weight_clicks: float = Field(
        0,
        ge=0,
        description="Clicks at which a target has half the largest weight in the loss; 0 weighs "
        "all targets alike.",
    )
    weight_average: Annotated[float, "added later"] = Field(
        0,
        ge=0,
        lt=1,
        description="Momentum of an exponential moving average of the weights, e.g. 0.999, which "
        "is validated and exported in their place; 0 does not average.",
    )
    monitor: Literal["mean_log_mse", "normal", "cold_start", "noisy"] = Field(
        "mean_log_mse", description="Validation metric that chooses the best epoch."
    )
    precision: Literal["float32", "mixed_bfloat16"] = Field(
        "float32", description="Compute dtype policy."
    )
    validation_halves: Annotated[bool, "added later"] = Field(
        False,
        description="Cut validation by item: one half chooses the epoch, the other one fits "
        "thresholds and prediction intervals.",
    )


class RecipeFlags(Flags):
    """Many flags by one name."""

    recipe: Annotated[str, "added later"] = Field(
        "",
        description="Flags by name, beneath those that are given: paper, direct, smoothed, "
        "mixed, lightgbm; or auto, which finds them on validation within --budget.",
    )
    budget: Annotated[str, "added later"] = Field(
        "",
        description="Time in which --recipe=auto looks, such as 20m; default: 8 times that of "
        "training the paper's network.",
    )

    @pydantic.field_validator("budget")
    @classmethod
    def _duration(cls, text: str) -> str:
        if text:
            durations.seconds_of(text)
        return text

    @classmethod
    def beneath(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """The flags that were given, and beneath them the recipe's."""
        return reading.beneath(cls, given)

    def check(self) -> None:
        """Makes sure that what the recipe fixes stays as it is."""
        reading.check(self)


class DecisionFlags(Flags):
    """What is decided with the scores; solved on validation."""

    rules: Columns = Field(
        ("recall=0.99",),
        min_length=1,
        description="threshold=PERCENT, keep=SHARE or recall=SHARE of the true top 5 % (drop as "
        "much as possible); the first is what predict takes for stored.",
    )
    interval_level: float = Field(
        0.9, gt=0, lt=1, description="Share of new rates that prediction intervals should hold."
    )


class ExplainFlags(Flags):
    """What is written besides the metrics."""

    explain: bool = Field(
        False, description="Write attention.parquet, every attention weight of each example."
    )


class PlaceFlags(RunFlags, ExplainFlags):
    """Where the run's results go, and which; left out of a run's flags.txt."""

    outputs: Literal["all", "predictions", "validation"] = Field(
        "all",
        description="What to write. predictions leaves out simple baselines, plots and the "
        "SavedModel; validation ends after training, before the test split is opened.",
    )


# ------------------------------------------------------------------------------------- drivers


class PrepareConfig(TableFlags, TaskFlags):
    """Flags of `python -m mmnet.prepare`."""

    dataset_dir: str = Field("", description="Dataset directory to write.")


class InspectConfig(TableFlags, TaskFlags):
    """Flags of `python -m mmnet.inspect`. Flags that are given stay, the others are proposed."""

    output: str = Field("", description="Flagfile to write; default: printed with the report.")


class TrainConfig(
    RecipeFlags,
    TableFlags,
    TaskFlags,
    ScenarioFlags,
    ModelFlags,
    TrainingFlags,
    DecisionFlags,
    PlaceFlags,
    TrainRunFlags,
):
    """Flags of `python -m mmnet.train`."""


class EvaluateConfig(EvaluateFlags, ScenarioFlags, ExplainFlags):
    """Flags of `python -m mmnet.evaluate`. Scenario flags left at their default are the run's."""


class StudyFlags(Flags):
    """What only experiments with share rates have: rolling origins, P@N intervals and tuning."""

    origins: int = Field(
        1, ge=1, description="Number of rolling cut-offs, counted back from the last one."
    )
    replicates: int = Field(
        1000, ge=100, description="Bootstrap replicates of the intervals of P@N."
    )
    tune: Columns = Field(
        (),
        description="Rows to tune on validation, which writes ROW_tuned.txt; no table is made.",
    )
    trials: int = Field(20, ge=1, description="Trials per row to tune, the same for all.")
    space: str = Field(
        "",
        description="Text file of what --tune tunes, for any model, a line such as "
        "'learning_rate = 0.0003 .. 0.005 log' each; default: that of the model.",
    )


class ExperimentConfig(
    GridFlags, StudyFlags, TableFlags, TaskFlags, ScenarioFlags, ModelFlags, TrainingFlags
):
    """Flags of `python -m mmnet.experiment`. All flags of train are given to every cell."""


class EncodeConfig(ContentFlags):
    """Flags of `python -m mmnet.encode`."""

    output: str = Field(
        "", description="Directory for COLUMN.parquet, item id and vector; or none."
    )
    prune: bool = Field(
        False, description="Drop from the cache what these items do not have, of these encoders."
    )


class PredictConfig(ScoreFlags, TableFlags):
    """Flags of `python -m mmnet.predict`. Table flags left at their default are the export's."""

    dataset_dir: str = Field("", description="Prepared dataset to score, instead of tables.")
    as_of: str = Field("", description="Score as of this period; default: the last complete one.")
    explain: bool = Field(False, description="Add a column weight_<modality> per modality.")
    allow_short_history: bool = Field(
        False,
        description="Score where the counts begin later than the training log did, without the "
        "ages that --inputs=age counts from first clicks.",
    )
    only_items: str = Field(
        "", description="Table of the items to score; taxonomy means still come from all items."
    )
    processes: int = Field(1, ge=1, description="Number of processes that score, of one core each.")
    static_cache: str = Field(
        "", description="Directory that keeps what depends on items alone, for the next period."
    )
    runtime: Literal["tensorflow", "xla", "onnx", "openvino", "fastest"] = Field(
        "tensorflow",
        description="What computes; fastest tries all on some items. onnx and openvino need the "
        "extra fast.",
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="bfloat16: with openvino, if the scores stay as good."
    )
    items_a_day: int = Field(
        1_000_000, ge=1, description="For how many items a day the budget counts workers."
    )
    rule: str = Field(
        "",
        description="Add a decision: stored, a rule of the export's --rules, or threshold=PERCENT.",
    )
    explore: bool = Field(
        False, description="Below the threshold, explore what may prove better instead of dropping."
    )
    ranking_features: str = Field(
        "",
        description="Parquet file to write instead of --output: scores, intervals and gate weights "
        "by item and period, for a ranker.",
    )
    ranking_from: str = Field(
        "", description="First period that they are as of; the last is --as_of. Default: that one."
    )
    verify: bool = Field(
        False, description="Only check the SavedModel: checksums, and golden rows scored again."
    )


class DriftConfig(ExportFlags, TableFlags):
    """Flags of `python -m mmnet.drift`. Table flags left at their default are the export's."""

    dataset_dir: str = Field("", description="Prepared dataset to check, instead of tables.")
    output: str = Field("drift", description="Directory for drift.json and drift.md.")
    checked: str = Field(
        "", description="Period to check; default: the last complete one of the counts."
    )
    psi: float = Field(0.2, gt=0, description="Population stability index that counts as drift.")
    ks: float = Field(0.2, gt=0, description="Kolmogorov-Smirnov distance that counts as drift.")
    volume: float = Field(
        2.0, gt=1, description="Factor by which all clicks of a period may grow or shrink."
    )
    bias: float = Field(
        0.2, gt=0, description="Shift of mean prediction minus mean rate, as a share of the rate."
    )


TABLES, TASK = tuple(TableFlags.model_fields), tuple(TaskFlags.model_fields)
ENGINE = (*EngineFlags.model_fields, "shard_items")
"""How tables are worked on: no result depends on it."""
PLACES = (
    *("dataset_dir", "run_dir", "outputs", "explain", "resume", "profile_steps"),
    *("source_dir", "image_root", "encoder_cache", *ENGINE),
)
