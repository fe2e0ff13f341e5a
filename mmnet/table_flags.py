"""The flags of input tables: their files, columns, time formats, and how events are counted."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import pydantic
from pydantic import Field

from mmnet import memory_limit
from mmnet.checks import InputError
from mmnet.flags import Columns, Flags, Repeated


class MemoryFlags(Flags):
    """Memory limit of a command."""

    memory: Annotated[str, "added later"] = Field(
        "",
        description="Memory limit of the command and its child processes, e.g. 8GB. Steps that are "
        "estimated to need more are refused, and a command that exceeds it ends with exit code 1. "
        "Default: estimates are compared with the memory of the machine.",
    )

    @pydantic.field_validator("memory")
    @classmethod
    def _size(cls, memory: str) -> str:
        try:
            small = bool(memory) and memory_limit.size(memory, "--memory") < 1 << 20
        except InputError:
            raise ValueError("must be a size such as 8GB") from None
        if small:
            raise ValueError("must be 1MB or more")
        return memory


class EngineFlags(MemoryFlags):
    """The engine that reads and counts large tables."""

    ESSENTIAL: ClassVar[tuple[str, ...] | None] = ()

    engine: str = Field(
        "duckdb://",
        description="Engine that reads and counts tables: duckdb:// (in this process), "
        "duckdb://FILE, pyspark://, or the URL of another Ibis backend. ${NAME} is replaced by the "
        "value of an environment variable, to keep passwords out of command lines and files.",
    )
    engine_memory: str = Field(
        "1GB",
        description="Memory limit of DuckDB, or of the Spark driver, e.g. 4GB. With --memory, the "
        "default is half of the memory that remains within it.",
    )
    engine_threads: int = Field(
        0, ge=0, description="Number of threads of the engine; 0 uses all CPU cores."
    )
    engine_spill: str = Field(
        "", description="Directory for temporary files of data that do not fit in memory."
    )
    allow_remote: Annotated[bool, "added later"] = Field(
        False,
        description="Allow --events to be a URL (https, s3, ...) that the engine reads. DuckDB "
        "then installs the extensions that it needs from extensions.duckdb.org.",
    )


class TextFlags(Flags):
    """The format of CSV files, where it is not detected."""

    ESSENTIAL: ClassVar[tuple[str, ...] | None] = ()

    text_set: Annotated[Repeated, "added later"] = Field(
        (),
        description="CSV format option that replaces the detected one, as NAME=VALUE: separator, "
        "quote (doubled, backslash, none) or encoding; for one table, e.g. items.encoding=latin-1 "
        "(repeatable).",
    )


class ContentFlags(TextFlags):
    """The items table, and how its texts and images are encoded as vectors."""

    ESSENTIAL: ClassVar[tuple[str, ...] | None] = (
        "items",
        "texts",
        "images",
        "text_encoder",
        "image_encoder",
    )

    items: str = Field(
        "",
        description="Items table: a CSV, JSON lines or Parquet file, a directory of such files or "
        "a glob pattern.",
    )
    item_column: str = Field("item_id", description="Column of item ids, in every table.")
    repeats: Annotated[Literal["drop", "fail"], "added later"] = Field(
        "fail",
        description="How to handle exact duplicates of a row of the counts, items or vectors.",
    )
    texts: Columns = Field((), description="Items columns of free text.")
    images: Columns = Field(
        (), description="Items columns of image file paths, relative to --image_root."
    )
    text_encoder: Literal["tokens", "hub", "none"] = Field(
        "tokens",
        description="Text encoder: tokens trains word embeddings and needs no download; hub is a "
        "frozen BERT.",
    )
    text_handle: str = Field(
        "",
        description="BERT for --text_encoder=hub: a TensorFlow Hub handle, or a directory with the "
        "SavedModels encoder/ and preprocess/.",
    )
    text_preprocessor: str = Field(
        "",
        description="TensorFlow Hub handle of the preprocessor of a BERT that --text_handle names "
        "by handle.",
    )
    text_pieces: int = Field(
        128, ge=3, description="Maximum number of word pieces (BERT tokens) read per text."
    )
    text_precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="Compute dtype of the BERT."
    )
    image_encoder: Literal["none", "resnet50", "hub"] = Field(
        "none",
        description="Frozen image encoder: ResNet-50, or a feature-vector model of TensorFlow Hub.",
    )
    image_weights: str = Field(
        "",
        description="Weights file of ResNet-50, or the handle or directory of the TensorFlow Hub "
        "model.",
    )
    image_root: str = Field(
        "",
        description="Directory that image paths are relative to; paths that lead out of it are "
        "refused.",
    )
    encoder_cache: str = Field(
        "runs/encoder_cache", description="Cache directory of the encoded vectors."
    )


class EventFlags(EngineFlags):
    """Events instead of a counts table: how they are read, filtered and counted."""

    ESSENTIAL: ClassVar[tuple[str, ...] | None] = ("events", "time_column")

    events: str = Field(
        "",
        description="Events table: a file, directory or glob pattern as for --counts, or the name "
        "of a table in the warehouse of --engine. --numerator and --denominator are then "
        "expressions of its columns, e.g. 'play_ms >= 0.9 * length_ms', or `events`, which counts "
        "every event.",
    )
    time_column: str = Field("timestamp", description="Events column of the event's time.")
    rate: Repeated = Field(
        (),
        description="Additional rate to count in the same pass, as NAME=NUMERATOR/DENOMINATOR, "
        "into the columns NAME_numerator and NAME_denominator (repeatable). Put divisions inside "
        "an expression in parentheses. --also_predict predicts it, also from counts.",
    )
    bad_events: Literal["drop", "fail"] = Field(
        "fail",
        description="How to handle events that have no item or time, or a value that cannot be "
        "counted.",
    )
    null_comparisons: Annotated[Literal["bad", "false"], "added later"] = Field(
        "bad",
        description="How to treat a comparison with an empty value (null): as a bad event, or as "
        "false.",
    )
    events_until: str = Field("", description="Drop events at or after this time.")
    ingestion_column: str = Field("", description="Events column of the time the event arrived.")
    max_delay: str = Field(
        "",
        description="Drop events that arrived more than this long after they occurred, e.g. 2d.",
    )
    event_key: Columns = Field(
        (),
        description="Events columns that identify an event; of duplicates only the first counts.",
    )
    user_column: str = Field("", description="Events column of user ids.")
    max_events_per_user_item_period: int = Field(
        0,
        ge=0,
        description="Maximum number of events to count per user, item and period; 0 = no limit.",
    )


class TimeFlags(Flags):
    """The length of a period, and the format of times."""

    ESSENTIAL: ClassVar[tuple[str, ...] | None] = ("period", "time_unit", "time_format")

    period: str = Field(
        "1d", description="Length of a period, e.g. 1h, 1d or 7d; 1M means calendar months."
    )
    time_zone: str = Field(
        "UTC", description="Time zone in which days and months begin, e.g. Europe/Berlin."
    )
    time_format: Annotated[str, "added later"] = Field(
        "",
        description="Format of times that are not ISO 8601, in strptime codes, e.g. %d.%m.%Y or "
        "%Y%m%d.",
    )
    time_unit: Literal["period", "s", "ms", "us", "ns", "index"] = Field(
        "period",
        description="How to read integer timestamps: as s, ms, us or ns since the Unix epoch, or "
        "as period indices (index); period detects which by their size.",
    )
    stray_periods: Annotated[Literal["drop", "fail", "keep"], "added later"] = Field(
        "fail",
        description="How to handle a few rows whose periods are far from all others, such as 1970.",
    )
    use_partial: Annotated[bool, "added later"] = Field(
        False, description="Use the last period even if it looks incomplete."
    )


class TableFlags(ContentFlags, EventFlags, TimeFlags):
    """The input tables and their columns."""

    ESSENTIAL: ClassVar[tuple[str, ...] | None] = (
        *("counts", "source", "source_dir", "numerator", "denominator"),
        *("taxonomies", "categoricals", "numerics"),
    )

    counts: str = Field(
        "",
        description="Counts table: a CSV, JSON lines or Parquet file, a directory of such files or "
        "a glob pattern.",
    )
    source: str = Field(
        "",
        description="Data source with a known layout, instead of tables: simulated, snapshots, "
        "kuairand, kuairec, wechat or tiktok.",
    )
    source_dir: str = Field("", description="Directory of the files of --source.")
    source_set: Repeated = Field((), description="Option of --source, as NAME=VALUE (repeatable).")
    period_column: str = Field("period", description="Period column of the counts table.")
    numerator: str = Field(
        "shares", description="Column with the numerator of the rate, e.g. shares."
    )
    denominator: str = Field(
        "clicks", description="Column with the denominator of the rate, e.g. clicks."
    )
    also_predict: Annotated[Columns, "added later", "left out if empty"] = Field(
        (),
        description="Names of further rates that one network predicts along with the main one, "
        "each given by --rate=NAME=NUMERATOR/DENOMINATOR; without --events, NUMERATOR and "
        "DENOMINATOR are columns of the counts, e.g. like=likes/views.",
    )
    taxonomies: Columns = Field(
        (), description="Items columns to use as taxonomies, such as category or tags."
    )
    categoricals: Columns = Field((), description="Items columns of other categorical values.")
    numerics: Columns = Field((), description="Items columns of numbers.")
    release: str = Field(
        "",
        description="Items column of the release time; default: the first period with counts of "
        "the item.",
    )
    release_from: Annotated[Literal["auto", "catalogue", "log"], "added later"] = Field(
        "auto",
        description="Where release times come from: a catalogue that knows them in advance, or "
        "first clicks in the log, so that --inputs=age must be hidden along with the history; auto "
        "compares them with the counts.",
    )
    vectors: Repeated = Field(
        (),
        description="Table of content vectors, as NAME:FILE, with columns of item id and of lists "
        "of floats (repeatable).",
    )
    leave_out_vectors: Columns = Field((), description="Vectors of --source not to use.")
    unknown_items: Literal["drop", "fail"] = Field(
        "fail", description="How to handle counts of items that are not in the items table."
    )
    empty_counts: Annotated[Literal["zero", "fail"], "added later"] = Field(
        "fail",
        description="How to handle empty values in a count column: read them as 0, or fail.",
    )
    rate_may_exceed_one: bool = Field(
        False,
        description="Allow rates above 100 %, where the numerator is not a subset of the "
        "denominator.",
    )
    decimal: Annotated[str, "added later"] = Field(
        "", description="Decimal mark of numbers in text; default: detected for each column."
    )
    thousands: Annotated[str, "added later"] = Field(
        "",
        description="Thousands separator of numbers in text, or `space`; default: detected for "
        "each column.",
    )
    list_separator: Annotated[str, "added later"] = Field(
        "",
        description="Separator of the values of a list in text, or `tab` or `space`; default: a "
        "semicolon.",
    )
    shard_items: int = Field(
        65_536,
        ge=1,
        description="Number of items to process at a time; memory use depends on it, results do "
        "not.",
    )
