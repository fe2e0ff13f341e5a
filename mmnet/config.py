"""Every flag, declared once: one field = one flag = one argument.

`Config` is a pydantic model; `parse` turns a command line (flagfiles included) into one, and
every mistake in it into one sentence.
"""

from __future__ import annotations

import csv
import inspect
import io
import os
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from absl import flags
from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

from mmnet.checks import InputError, did_you_mean

Columns = Annotated[tuple[str, ...], "comma-separated"]
Repeated = Annotated[tuple[str, ...], "repeatable"]


PACKAGE = Path(__file__).parent


class _Flags(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class ContentFlags(_Flags):
    """The items table's texts and images, and how they become vectors."""

    items: str = Field("", description="Items table: a CSV or Parquet file, directory or glob.")
    item_column: str = Field("item_id", description="Column of item ids, in every table.")
    texts: Columns = Field((), description="Text items columns.")
    images: Columns = Field((), description="Items columns of image files, paths in --image_root.")
    text_encoder: Literal["tokens", "hub", "none"] = Field(
        "tokens",
        description="tokens = trainable vocabulary, needs no download; hub = frozen BERT.",
    )
    text_handle: str = Field(
        "",
        description="BERT of --text_encoder=hub: a TensorFlow Hub handle, or a directory with the "
        "SavedModels encoder/ and preprocess/.",
    )
    text_preprocessor: str = Field(
        "", description="TensorFlow Hub handle of the BERT's preprocessor; a directory has its own."
    )
    text_pieces: int = Field(128, ge=3, description="Word pieces that the BERT reads of each text.")
    text_precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="Arithmetic of the BERT."
    )
    image_encoder: Literal["none", "resnet50", "hub"] = Field(
        "none", description="Frozen image network: ResNet-50, or a TensorFlow Hub feature vector."
    )
    image_weights: str = Field(
        "", description="Weights file of ResNet-50; or the handle or directory of a hub network."
    )
    image_root: str = Field("", description="Directory that image paths are in, and stay in.")
    encoder_cache: str = Field(
        "runs/encoder_cache", description="Directory of the vectors encoded so far."
    )


class EventFlags(_Flags):
    """Events instead of a counts table: how they are read, left out and counted."""

    events: str = Field(
        "",
        description="Events table: a CSV or Parquet file, directory or glob, or the name of a "
        "table in --engine's warehouse. --numerator and --denominator then name its columns, "
        "compare them ('play_time_ms >= duration_ms'), or are `events`, which counts every event.",
    )
    time_column: str = Field("timestamp", description="Events column of when it happened.")
    time_unit: Literal["period", "s", "ms", "us"] = Field(
        "period", description="What a whole number there is: a period itself, or time since 1970."
    )
    rate: Repeated = Field(
        (),
        description="NAME=NUMERATOR/DENOMINATOR, one more rate counted in the same pass, into "
        "NAME_numerator and NAME_denominator of counts.parquet (repeatable).",
    )
    bad_events: Literal["drop", "fail"] = Field(
        "fail", description="What to do with events without item, time or countable values."
    )
    events_until: str = Field("", description="Leave out events at or after this time.")
    ingestion_column: str = Field("", description="Events column of when it arrived.")
    max_delay: str = Field("", description="Leave out what arrived later than this after it: 2d.")
    event_key: Columns = Field(
        (), description="Columns that tell one event from another; of several the first counts."
    )
    user_column: str = Field("", description="Events column of users.")
    max_events_per_user_item_period: int = Field(
        0,
        ge=0,
        description="Further events of a user on an item in a period are left out; 0: none.",
    )
    engine: str = Field(
        "duckdb://",
        description="Who counts: DuckDB in this process, duckdb://FILE, pyspark:// or the URL of "
        "another Ibis backend.",
    )
    engine_memory: str = Field("1GB", description="Memory of DuckDB, or of Spark's driver.")
    engine_threads: int = Field(0, ge=0, description="Threads of the engine; 0 = all cores.")
    engine_spill: str = Field("", description="Directory for what does not fit in memory.")


class TableFlags(ContentFlags, EventFlags):
    """Where the tables are and what their columns mean."""

    counts: str = Field("", description="Counts table: a CSV or Parquet file, directory or glob.")
    source: str = Field(
        "",
        description="A log with a known layout instead of tables: simulated, snapshots, kuairand, "
        "kuairec, wechat, tiktok.",
    )
    source_dir: str = Field("", description="Directory of the source's files.")
    source_set: Repeated = Field((), description="name=value option of the source (repeatable).")
    period_column: str = Field("period", description="Period column of the counts table.")
    numerator: str = Field("shares", description="Count column above the fraction line.")
    denominator: str = Field("clicks", description="Count column below the fraction line.")
    period: str = Field("1d", description="Width of a period given as a time: 1h, 1d, 7d.")
    time_zone: str = Field("UTC", description="Time zone whose midnights cut periods.")
    taxonomies: Columns = Field((), description="Items columns that are taxonomies.")
    categoricals: Columns = Field((), description="Other categorical items columns.")
    numerics: Columns = Field((), description="Numeric items columns.")
    release: str = Field("", description="Items column of the release; empty = first period seen.")
    vectors: Repeated = Field(
        (), description="NAME:FILE, a table of item id and one list-of-floats column (repeatable)."
    )
    leave_out_vectors: Columns = Field((), description="Vectors of the source to leave out.")
    unknown_items: Literal["drop", "fail"] = Field(
        "fail", description="What to do with counts of items that the items table lacks."
    )
    rate_may_exceed_one: bool = Field(
        False, description="The numerator is no part of the denominator."
    )
    shard_items: int = Field(
        65_536, ge=1, description="Items handled at a time; memory depends on it, results do not."
    )


class TaskFlags(_Flags):
    """Which examples are made of the tables, and how they are split."""

    window: int = Field(6, ge=1, description="Periods seen (ω1).")
    horizon: int = Field(1, ge=1, description="Periods ahead (h).")
    split: Literal["chronological", "by_item", "random_window"] = Field(
        "chronological", description="How examples are split; random_window leaks the future."
    )
    split_ratios: Annotated[tuple[float, ...], "comma-separated"] = Field(
        (8, 1, 1), description="Train, validation, test."
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
    text_tokens: int = Field(32, ge=1, description="Tokens read of each text.")
    text_vocabulary: int = Field(20_000, ge=1, description="Most words kept of each text column.")


class ScenarioFlags(_Flags):
    """The scenarios of validation and test."""

    test_missing_rate: float = Field(0.5, ge=0, le=1, description="Share hidden in noisy.")
    scenario_seed: int = Field(0, description="Seed of the noisy scenario's masks, never --seed.")


class ModelFlags(_Flags):
    """Which system, and the options that all systems share."""

    model: str = Field(
        "mmnet",
        description="mmnet; gru, encoder_decoder, mmved, dftc; smoothed_history, lightgbm; "
        "ha, ha_taxonomy, last_rate, taxonomy_mean.",
    )
    coarse_granularity: bool = Field(True, description="Read the taxonomy sequences.")
    taxonomy_flags: bool = Field(True, description="Embed their missing flags too.")
    mode_weights: Annotated[tuple[float, ...], "comma-separated"] = Field(
        (), description="normal,cold,noisy; empty = the system's published setting."
    )
    noisy_rate: float = Field(0.5, ge=0, le=1, description="τ, share hidden by the noisy block.")
    set: Repeated = Field((), description="name=value option of the model (repeatable).")
    seed: int = Field(0, description="Seed of weights, order of examples and disturbances.")


class TrainingFlags(_Flags):
    """How the model is fitted."""

    epochs: int = Field(30, ge=1, description="Most passes over the training examples.")
    patience: int = Field(5, ge=1, description="Epochs without improvement before stopping.")
    batch_size: int = Field(64, ge=1, description="Examples per step.")
    learning_rate: float = Field(0.001, gt=0, description="Adam's.")
    schedule: Literal["constant", "cosine"] = Field(
        "constant", description="Of the learning rate; cosine falls to 0 by the last epoch."
    )
    loss: Literal["mse", "binomial", "poisson"] = Field(
        "mse", description="binomial and poisson: per click, with --set=link=logit and log."
    )
    half_weight_clicks: float = Field(
        0, ge=0, description="Clicks of a target that count half in the loss; 0 = all alike."
    )
    monitor: Literal["mean_log_mse", "normal", "cold_start", "noisy"] = Field(
        "mean_log_mse", description="What the best epoch is chosen by, on validation."
    )
    precision: Literal["float32", "mixed_bfloat16"] = Field("float32", description="Arithmetic.")
    deterministic: bool = Field(False, description="Bit-identical reruns, at some speed.")
    jit: bool = Field(True, description="Compile the training step with XLA.")
    steps_per_execution: int = Field(32, ge=1, description="Most training steps per call.")
    checkpoint_seconds: float = Field(60, ge=0, description="Between checkpoints within an epoch.")
    profile_steps: Annotated[tuple[int, ...], "comma-separated"] = Field(
        (), description="FIRST,LAST training steps to trace, e.g. 320,352."
    )
    resume: bool = Field(False, description="Go on with the run in --run_dir where it stopped.")

    @pydantic.field_validator("profile_steps")
    @classmethod
    def _first_and_last(cls, steps: tuple[int, ...]) -> tuple[int, ...]:
        if steps and (len(steps) != 2 or not 0 < steps[0] <= steps[1]):
            raise ValueError("must be FIRST,LAST, counted from 1")
        return steps


class DecisionFlags(_Flags):
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


class PlaceFlags(_Flags):
    """Where things are written, and what; left out of a run's flags.txt."""

    dataset_dir: str = Field("", description="Prepared dataset; default: inside --run_dir.")
    run_dir: str = Field("", description="Run directory; default: runs/<time>-<model>.")
    outputs: Literal["all", "predictions", "validation"] = Field(
        "all",
        description="predictions leaves out floors, plots and the SavedModel; validation ends "
        "after training and does not open the test split.",
    )
    explain: bool = Field(False, description="Write attention.parquet, every weight per example.")


class PrepareConfig(TableFlags, TaskFlags):
    """Flags of `python -m mmnet.prepare`."""

    dataset_dir: str = Field("", description="Dataset directory to write.")


class TrainConfig(
    TableFlags, TaskFlags, ScenarioFlags, ModelFlags, TrainingFlags, DecisionFlags, PlaceFlags
):
    """Flags of `python -m mmnet.train`."""


class EvaluateConfig(_Flags):
    """Flags of `python -m mmnet.evaluate`."""

    run_dir: str = Field("", description="Run directory to evaluate.")
    dataset_dir: str = Field("", description="Prepared dataset; default: the run's own.")
    test_missing_rate: float = Field(
        0.5, ge=0, le=1, description="Share hidden in noisy; the run's unless given."
    )
    scenario_seed: int = Field(0, description="Seed of the noisy masks; the run's unless given.")
    explain: bool = Field(False, description="Write attention.parquet, every weight per example.")


class GridFlags(_Flags):
    """Which systems, how often, and where their runs and tables go."""

    experiment: str = Field(
        "", description="Folder of the experiment; its experiment.txt is read as a flagfile."
    )
    title: str = Field("", description="Of the results page.")
    table: Repeated = Field(
        (), description="'TITLE: row, row, ...[: SEEDS]'; a row is a flagfile's stem (repeatable)."
    )
    rows: str = Field(
        "experiments/rows",
        description="Folder of row flagfiles, searched after the experiment's own rows/; the "
        "default is part of the package.",
    )
    seeds: Annotated[tuple[int, ...], "comma-separated"] = Field(
        (0, 1, 2, 3, 4), min_length=1, description="Training seeds of every row that draws."
    )
    reference: Annotated[tuple[str, ...], "comma-separated"] = Field(
        ("mmnet",), description="Rows to compare with; a table takes the first that it has."
    )
    significance: float = Field(0.01, gt=0, lt=1, description="Level of the tests, after Holm.")
    jobs: int = Field(1, ge=1, description="Cells at a time.")
    cells: str = Field(
        "",
        description="Directory of the cells' runs; default: runs/experiments/<name>, for MMa4CTR "
        "runs/mma4ctr/<name>.",
    )
    results: str = Field("", description="Directory of the tables; default: inside --experiment.")


class StudyFlags(_Flags):
    """What only experiments with share rates have: rolling origins, P@N intervals and tuning."""

    origins: int = Field(1, ge=1, description="Rolling cut-offs, the last one first.")
    replicates: int = Field(1000, ge=100, description="Bootstrap replicates of P@N intervals.")
    tune: Annotated[tuple[str, ...], "comma-separated"] = Field(
        (), description="Tunes these rows on validation and writes ROW_tuned.txt; makes no tables."
    )
    trials: int = Field(20, ge=1, description="Trials of each row to tune, the same for all.")


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


class PredictConfig(TableFlags):
    """Flags of `python -m mmnet.predict`. Table flags left at their default are the export's."""

    saved_model: str = Field("", description="SavedModel: export/<version>, or its parent.")
    dataset_dir: str = Field("", description="Prepared dataset to score, instead of tables.")
    output: str = Field(
        "scores.parquet",
        description="Parquet file to write; a name without .parquet is a directory of files, which "
        "goes on where it was killed.",
    )
    as_of: str = Field("", description="Score as of this period; default: the last one seen.")
    explain: bool = Field(False, description="Add a column weight_<modality> per modality.")
    only_items: str = Field(
        "", description="Table of the items to score; taxonomy means still come from all items."
    )
    processes: int = Field(
        1, ge=1, description="Processes that score into a directory, of one core each."
    )
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


class DriftConfig(TableFlags):
    """Flags of `python -m mmnet.drift`. Table flags left at their default are the export's."""

    saved_model: str = Field("", description="SavedModel: export/<version>, or its parent.")
    dataset_dir: str = Field("", description="Prepared dataset to check, instead of tables.")
    output: str = Field("drift", description="Directory for drift.json and drift.md.")
    checked: str = Field("", description="Period to check; default: the last one of the counts.")
    psi: float = Field(0.2, gt=0, description="Population stability index that counts as drift.")
    ks: float = Field(0.2, gt=0, description="Kolmogorov-Smirnov distance that counts as drift.")
    volume: float = Field(
        2.0, gt=1, description="Factor by which all clicks of a period may grow or shrink."
    )
    bias: float = Field(
        0.2, gt=0, description="Shift of mean prediction minus mean rate, as a share of the rate."
    )


TABLES, TASK = tuple(TableFlags.model_fields), tuple(TaskFlags.model_fields)
ENGINE = ("engine", "engine_memory", "engine_threads", "engine_spill", "shard_items")
"""How tables are worked on: no result depends on it."""
PLACES = (
    *("dataset_dir", "run_dir", "outputs", "explain", "resume", "profile_steps"),
    *("source_dir", "image_root", "encoder_cache", *ENGINE),
)


def define(config: type[BaseModel], values: flags.FlagValues) -> None:
    """Defines one absl flag per field of `config` in `values`."""
    for name, field in config.model_fields.items():
        _define_one(name, field, values)


def _define_one(name: str, field: FieldInfo, values: flags.FlagValues) -> None:
    default, text = field.default, field.description or ""
    kind: Any = field.annotation
    how: dict[str, Any] = {"flag_values": values}
    if "repeatable" in field.metadata:
        flags.DEFINE_multi_string(name, list(default), text, **how)
    elif "comma-separated" in field.metadata:
        flags.DEFINE_list(name, [str(value) for value in default], text, **how)
    elif typing.get_origin(kind) is Literal:
        flags.DEFINE_enum(name, default, list(typing.get_args(kind)), text, **how)
    elif kind is bool:
        flags.DEFINE_bool(name, default, text, **how)
    else:  # numbers too: pydantic reads them, and says what is wrong with them
        flags.DEFINE_string(name, str(default), text, **how)


_NO_FLAGFILE = r".*Unable to open flagfile: \[Errno \d+\] (.*): '(.*)'"


def _sentence(error: flags.Error) -> str:
    text = str(error).replace("\n", " ")
    text = re.sub(_NO_FLAGFILE, r"--flagfile=\2: \1", text)
    text = re.sub(r": \('Non-boolean .*", ": must be true or false", text)
    return re.sub(r"^(ERROR:: |flag (?=--))", "", text)


def find(name: str, beside: str = "") -> str:
    """The path of a flagfile, or of a folder of them.

    A name is looked for beside the flagfile that it is in, then from the working directory, and
    then in the package, where the row flagfiles are (`experiments/rows`). A name that is nowhere
    is returned as it is.
    """
    places = [Path(beside).parent / name] if beside else []
    places += [Path(name), PACKAGE / name]
    return str(next(filter(os.path.exists, places), name))  # where `Path.exists` may raise


def portable(path: Path) -> Path:
    """A path as `find` finds it on any machine, if it is inside the package."""
    return path.relative_to(PACKAGE) if path.is_relative_to(PACKAGE) else path


class _FlagValues(flags.FlagValues):
    """Finds flagfiles wherever `find` does; absl looks in the working directory only."""

    def _get_flag_file_lines(self, filename: str, parsed_file_stack: Any = None) -> list[str]:
        if filename:
            filename = find(filename, parsed_file_stack[-1] if parsed_file_stack else "")
        return super()._get_flag_file_lines(filename, parsed_file_stack)


Parsed = typing.TypeVar("Parsed", bound=BaseModel)


def parse(config: type[Parsed], arguments: Sequence[str]) -> Parsed:
    """Parses command-line arguments (without the program's name) into a config.

    `model_fields_set` of the result names the flags that were given.

    Raises:
        InputError: an unknown flag, a value out of range, a flagfile that is not there.

    >>> parse(PrepareConfig, ["--window=3", "--taxonomies=category,tags"]).taxonomies
    ('category', 'tags')
    >>> parse(PrepareConfig, ["--windw=3"])
    Traceback (most recent call last):
    ...
    mmnet.checks.InputError: unknown flag --windw. Did you mean window?
    """
    values = _FlagValues()
    define(config, values)
    try:
        rest = values(["mmnet", *arguments])[1:]
    except flags.UnrecognizedFlagError as error:
        near = did_you_mean(error.flagname, config.model_fields)
        raise InputError(f"unknown flag --{error.flagname}{near}") from None
    except flags.Error as error:
        raise InputError(_sentence(error)) from None
    if rest:
        raise InputError(f"unexpected argument {rest[0]!r}; every setting is a --flag=value")
    given = [name for name in config.model_fields if values[name].present]
    return build(config, {name: getattr(values, name) for name in given})


def build(config: type[Parsed], given: dict[str, Any]) -> Parsed:
    """Validates values into a config, with one sentence for the first one that is wrong."""
    try:
        return config.model_validate(given)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"][:1])
        rule = first["msg"][0].lower() + first["msg"][1:]
        raise InputError(f"--{name}: {rule}. Received: {first['input']!r}") from None


def to_flagfile(config: BaseModel, *, leave_out: Sequence[str] = PLACES) -> str:
    """Every resolved flag, one per line, places left out; `parse` reads it back."""
    lines = []
    for name, field in type(config).model_fields.items():
        if name in leave_out:
            continue
        value = getattr(config, name)
        if "repeatable" in field.metadata:
            lines += [f"--{name}={each}" for each in value]
        elif "comma-separated" in field.metadata:
            lines.append(f"--{name}={_joined(value)}")
        elif isinstance(value, bool):
            lines.append(f"--{name}={str(value).lower()}")
        else:
            lines.append(f"--{name}={value}")
    return "\n".join(lines) + "\n"


def _joined(values: Sequence[Any]) -> str:
    """Values separated by commas, with quotes around one that holds a comma itself."""
    text = io.StringIO()
    shown = [int(v) if isinstance(v, float) and v.is_integer() else v for v in values]
    csv.writer(text, lineterminator="").writerow(shown)
    return text.getvalue()


def named_options(
    function: Callable[..., Any], settings: Iterable[str], flag: str
) -> dict[str, Any]:
    """Parses `name=value` settings against a function's keyword-only arguments.

    Values are read by the arguments' annotations; a comma separates the parts of a tuple, `none`
    is None where the annotation allows it, and a later setting wins.

    Raises:
        InputError: an unknown name, a value of the wrong type.

    >>> def model(spec, *, units: int = 64, filters: tuple[int, ...] | None = None): ...
    >>> named_options(model, ["units=32", "filters=8,4"], "set")
    {'units': 32, 'filters': (8, 4)}
    """
    hints = typing.get_type_hints(function)
    kinds = {
        name: hints[name]
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    return options(kinds, function.__name__, settings, flag)


def options(
    kinds: Mapping[str, Any], owner: str, settings: Iterable[str], flag: str
) -> dict[str, Any]:
    """Parses `name=value` settings of options whose types are known; see `named_options`.

    Args:
        kinds: option -> its type.
        owner: what has these options, for messages.
        settings: `name=value` each; a later one wins.
        flag: that they came from.
    """
    found = {}
    for setting in settings:
        name, sign, text = setting.partition("=")
        if not sign:
            raise InputError(f"--{flag} takes name=value. Received: {setting!r}")
        if name not in kinds:
            raise InputError(
                f"--{flag}={setting}: {owner} has no option {name!r}"
                f"{did_you_mean(name, kinds)} (it has: {', '.join(kinds) or 'none'})"
            )
        kind, members = kinds[name], typing.get_args(kinds[name])
        value: Any = text
        if type(None) in members and text.lower() == "none":
            value = None
        elif any(typing.get_origin(member) is tuple for member in (kind, *members)):
            value = [part.strip() for part in text.split(",") if part.strip()]
        try:
            found[name] = pydantic.TypeAdapter(kind).validate_python(value)
        except pydantic.ValidationError as error:
            rule = error.errors()[0]["msg"]
            raise InputError(f"--{flag}={setting}: {rule[0].lower()}{rule[1:]}") from None
    return found


def usage(config: type[BaseModel], summary: str) -> str:
    """What `--help` prints: the summary, then the flags in the groups they are declared in."""
    lines = [summary.strip(), ""]
    seen: set[str] = set()
    for group in _groups(config):
        inherited = [set(getattr(base, "model_fields", ())) for base in group.__bases__]
        names = [name for name in group.model_fields if name not in seen.union(*inherited)]
        seen.update(names)
        if not names:
            continue
        lines += [f"{(group.__doc__ or '').splitlines()[0]}"]
        for name in names:
            field = config.model_fields[name]
            default = field.default
            if isinstance(default, tuple):
                default = ",".join(str(value) for value in default)
            shown = str(default).lower() if isinstance(default, bool) else default
            lines.append(f"  --{name}={shown}\n      {field.description}{_choices(field)}")
        lines.append("")
    lines.append("--flagfile=FILE reads flags from a file, one a line; flagfiles may name others.")
    return "\n".join(lines)


def _groups(config: type[BaseModel]) -> list[type[BaseModel]]:
    """The classes that flags are declared in, a class before those that it builds on."""
    bases = [base for parent in config.__bases__ for base in parent.__mro__]
    return [
        *(base for base in bases if issubclass(base, _Flags) and base is not _Flags),
        config,
    ]


def _choices(field: FieldInfo) -> str:
    kind = field.annotation
    if typing.get_origin(kind) not in (Literal, types.UnionType):
        return ""
    return f" One of: {', '.join(str(value) for value in typing.get_args(kind))}."
