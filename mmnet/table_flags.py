"""The flags of tables: where they are, what their columns and times mean, how they are counted."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from mmnet.flags import Columns, Flags, Repeated


class EngineFlags(Flags):
    """The engine that reads large tables."""

    ESSENTIAL: ClassVar[tuple[str, ...] | None] = ()

    engine: str = Field(
        "duckdb://",
        description="Engine that reads and counts: DuckDB in this process, duckdb://FILE, "
        "pyspark:// or the URL of another Ibis backend.",
    )
    engine_memory: str = Field("1GB", description="Memory limit of DuckDB or of Spark's driver.")
    engine_threads: int = Field(0, ge=0, description="Threads of the engine; 0 = all cores.")
    engine_spill: str = Field("", description="Directory for data that do not fit in memory.")


class TextFlags(Flags):
    """How text files are written, where it is not found out."""

    ESSENTIAL: ClassVar[tuple[str, ...] | None] = ()

    text_set: Annotated[Repeated, "added later"] = Field(
        (),
        description="NAME=VALUE of text files, instead of what is found out: separator, quote "
        "(doubled, backslash, none) or encoding; items.NAME=VALUE of one table (repeatable).",
    )


class ContentFlags(TextFlags):
    """The items table's texts and images, and how they become vectors."""

    ESSENTIAL: ClassVar[tuple[str, ...] | None] = (
        "items",
        "texts",
        "images",
        "text_encoder",
        "image_encoder",
    )

    items: str = Field(
        "", description="Items table: a CSV, JSON lines or Parquet file, a directory or a glob."
    )
    item_column: str = Field("item_id", description="Column of item ids, in every table.")
    repeats: Annotated[Literal["drop", "fail"], "added later"] = Field(
        "fail", description="What to do with exact repeats of a row of counts, items or vectors."
    )
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


class EventFlags(EngineFlags):
    """Events instead of a counts table: how they are read, left out and counted."""

    ESSENTIAL: ClassVar[tuple[str, ...] | None] = ("events", "time_column")

    events: str = Field(
        "",
        description="Events table: a file, directory or glob as of --counts, or the name of a "
        "table in --engine's warehouse. --numerator and --denominator are then expressions of its "
        "columns ('play_ms >= 0.9 * length_ms'), or `events`, which counts every event.",
    )
    time_column: str = Field("timestamp", description="Events column of when it happened.")
    rate: Repeated = Field(
        (),
        description="NAME=NUMERATOR/DENOMINATOR, one more rate counted in the same pass, into "
        "NAME_numerator and NAME_denominator (repeatable); a division in it is in parentheses.",
    )
    bad_events: Literal["drop", "fail"] = Field(
        "fail", description="What to do with events without item, time or countable values."
    )
    null_comparisons: Annotated[Literal["bad", "false"], "added later"] = Field(
        "bad", description="A condition that is unknown for an empty value: bad event, or false."
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


class TableFlags(ContentFlags, EventFlags, TimeFlags):
    """Where the tables are and what their columns mean."""

    ESSENTIAL: ClassVar[tuple[str, ...] | None] = (
        *("counts", "source", "source_dir", "numerator", "denominator"),
        *("taxonomies", "categoricals", "numerics"),
    )

    counts: str = Field(
        "", description="Counts table: a CSV, JSON lines or Parquet file, a directory or a glob."
    )
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
    taxonomies: Columns = Field((), description="Items columns that are taxonomies.")
    categoricals: Columns = Field((), description="Other categorical items columns.")
    numerics: Columns = Field((), description="Numeric items columns.")
    release: str = Field("", description="Items column of the release; empty = first period seen.")
    release_from: Annotated[Literal["auto", "catalogue", "log"], "added later"] = Field(
        "auto",
        description="Whether releases are known ahead, or come from first clicks, so that "
        "--inputs=age is hidden with the history; auto compares them with the counts.",
    )
    vectors: Repeated = Field(
        (), description="NAME:FILE, a table of item id and one list-of-floats column (repeatable)."
    )
    leave_out_vectors: Columns = Field((), description="Vectors of the source to leave out.")
    unknown_items: Literal["drop", "fail"] = Field(
        "fail", description="What to do with counts of items that the items table lacks."
    )
    empty_counts: Annotated[Literal["zero", "fail"], "added later"] = Field(
        "fail", description="How to read an empty value in a count column: as 0, or as a mistake."
    )
    rate_may_exceed_one: bool = Field(
        False, description="The numerator is no part of the denominator."
    )
    decimal: Annotated[str, "added later"] = Field(
        "", description="Decimal mark of numbers in text; default: the one that fits the column."
    )
    thousands: Annotated[str, "added later"] = Field(
        "", description="Mark between thousands of numbers in text, or `space`; default: likewise."
    )
    list_separator: Annotated[str, "added later"] = Field(
        "", description="Separator of lists in text, or `tab`, `space`; default: a semicolon."
    )
    shard_items: int = Field(
        65_536, ge=1, description="Items handled at a time; memory depends on it, results do not."
    )
