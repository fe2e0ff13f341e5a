"""KuaiRand: impressions of short videos with 12 kinds of feedback (chongminggao/KuaiRand)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from mmnet.checks import InputError
from mmnet.config import TableFlags
from mmnet.data import tables
from mmnet.data.tables import Rule, Table, Tables

LABELS = (
    "is_click",
    "is_like",
    "is_follow",
    "is_comment",
    "is_forward",
    "is_hate",
    "long_view",
    "is_profile_enter",
)


def kuairand(
    directory: Path | None,
    flags: TableFlags,
    *,
    logs: str = "log_*",
    videos: str = "video_features_basic_*.csv",
) -> Tables:
    """Counts impressions and feedback per video and day.

    The counts table has `impressions` (rows) and a column per kind of feedback, so
    `--denominator=impressions --numerator=long_view` or `--denominator=is_click
    --numerator=is_forward` choose the rate. The day is the publisher's `date` (China time).

    Args:
        directory: where the publisher's files are.
        flags: the item column is always `video_id`.
        logs: glob of the log files, CSV or Parquet.
        videos: glob of the video features.

    Raises:
        InputError: no directory, a missing file or column.
    """
    if directory is None:
        raise InputError("--source=kuairand needs --source_dir, the directory of its files")
    log = tables.read(str(directory / logs), "counts", text_columns=["video_id", "date"])
    wanted = ["video_id", "date", *LABELS]
    columns = {column: log.need(column, "source_set=logs") for column in wanted}
    for label in LABELS:
        if not pa.types.is_integer(columns[label].type):
            numbers = tables.integers(log, label, "source_set=logs", what="a kind of feedback")
            columns[label] = pa.chunked_array([numbers])
    grouped = (
        pa.table(columns)
        .group_by(["video_id", "date"])
        .aggregate([([], "count_all"), *((label, "sum") for label in LABELS)])
    )
    written = grouped["date"].cast(pa.string()).to_pandas()
    days = pd.to_datetime(written, format="%Y%m%d", errors="coerce")
    if days.isna().any():
        wrong = grouped["date"][int(days.isna().argmax())]
        row = columns["date"].index(wrong).as_py() if wrong.is_valid else 0
        raise InputError(
            f"{log.where(row, 'date')}: a date must be written as 20220425. "
            f"Received: {wrong.as_py()!r}"
        )
    counts = pa.table(
        {
            flags.item_column: grouped["video_id"].cast(pa.string()),
            flags.period_column: pa.array(days.dt.date),
            "impressions": grouped["count_all"],
            **{label: pc.fill_null(grouped[f"{label}_sum"], 0) for label in LABELS},
        }
    )
    catalogue = tables.read(
        str(directory / videos),
        "items",
        text_columns=["video_id", "tag", *tables.text_columns(flags)],
    )
    data = catalogue.data
    tags = pa.array(tables.strings(catalogue, "tag", "source_set=videos"), pa.string())
    data = data.set_column(
        data.column_names.index("tag"), "tag", pc.replace_substring(tags, ",", tables.SEPARATOR)
    ).rename_columns([flags.item_column if c == "video_id" else c for c in data.column_names])
    items = Table(data, "items", catalogue.files, catalogue.starts)
    return Tables(
        counts=Table(counts, "counts"),
        items=items,
        inputs=log.files + catalogue.files,
        ledger=(
            Rule(
                "impressions",
                "counted by video and day",
                len(log),
                len(log),
                f"{counts.num_rows} counts rows",
            ),
        ),
    )
