"""KuaiRand: impressions of short videos with 12 kinds of feedback.

Origin: https://kuairand.com (chongminggao/KuaiRand), CC BY-SA 4.0. Download KuaiRand-Pure.tar.gz
(KuaiRand-1K and 27K have the same layout) from https://zenodo.org/records/10439422, which also
shows its MD5, and unpack it; the files are in its `data`.

| file | columns (comma, header) |
|---|---|
| log_*.csv (or .parquet) | user_id, video_id, date (20220425, China time), hourmin, time_ms, is_click, is_like, is_follow, is_comment, is_forward, is_hate, long_view, play_time_ms, duration_ms, profile_stay_time, comment_stay_time, is_profile_enter, is_rand, tab; one row per impression |
| video_features_basic_*.csv | video_id, author_id, video_type, upload_dt, upload_type, visible_status, video_duration, server_width, server_height, music_id, music_type, tag ("12,34") |
"""  # noqa: E501

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from mmnet.checks import InputError
from mmnet.config import TableFlags
from mmnet.data import tables
from mmnet.data.columns import separator_of, strings
from mmnet.data.dialects import text_options
from mmnet.data.ledger import Rule
from mmnet.data.sources import reading
from mmnet.data.sources.reading import Scan, Totals
from mmnet.data.tables import Table, Tables

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

LONGEST_MS = 24 * 60 * 60 * 1000
"""Longest duration that is added up, a day: sums of 1e11 impressions stay within int64."""


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
    --numerator=is_forward` choose the rate. `finish` counts impressions that were played to their
    end, play_time_ms >= duration_ms, and `timed` those whose duration is known: the complete rate
    by plays is `--denominator=timed --numerator=finish`. The day is the publisher's `date` (China
    time).

    Yu et al. (2021) section 6.4 divide finished duration by full duration: this is
    `--denominator=full_seconds --numerator=played_seconds`. Both are sums over the impressions of
    a known duration, of at most a day; an impression counts as played up to its duration, so that
    repeated playing counts once. Sums of a day are in milliseconds, and then rounded to seconds.
    A second is what a click is to other rates: `--min_target_clicks=1000` asks for a full duration
    of 1,000 seconds, ten impressions of a video of 100 seconds. Seconds of one impression depend
    on each other, so that models that weigh by clicks (`--half_weight_clicks`, smoothed heads)
    take a rate for surer than it is.

    Args:
        directory: where the publisher's files are.
        flags: `item_column` and `period_column` name the counts' keys.
        logs: glob of the log files, CSV or Parquet.
        videos: glob of the video features.

    Raises:
        InputError: no directory, a missing file or column, a value of the wrong kind.
    """
    directory = reading.needed(directory, "kuairand")
    log = Scan(
        reading.find(directory, logs, "logs"),
        ("video_id", "date", *LABELS, "play_time_ms", "duration_ms"),
        "logs",
        name="impressions",
        said=text_options(flags.text_set, "events"),
    )
    measured = ("impressions", *LABELS, "timed", "finish", "played_seconds", "full_seconds")
    totals = Totals(["item", "day"], dict.fromkeys(measured, "sum"))
    untimed = too_long = 0
    for batch in log:
        numbers = {
            name: reading.whole_numbers(batch, name, "logs", what="a kind of feedback")
            for name in LABELS
        }
        played, length = (
            reading.whole_numbers(batch, name, "logs", what="a time in ms", allow_empty=True)
            for name in ("play_time_ms", "duration_ms")
        )
        timed = pc.fill_null(pc.and_(pc.greater(length, 0), pc.is_valid(played)), False)
        finish = pc.fill_null(pc.and_(timed, pc.greater_equal(played, length)), False)
        untimed += len(batch) - pc.sum(timed).as_py()
        added = pc.fill_null(pc.and_(timed, pc.less_equal(length, LONGEST_MS)), False)
        too_long += pc.sum(timed).as_py() - pc.sum(added).as_py()
        # In ms until the sums are complete; min_element_wise would take a number beside a null.
        full = pc.if_else(added, length, 0)
        watched = pc.if_else(added, pc.if_else(finish, length, played), 0)
        keys = {
            "item": reading.id_column(batch, "video_id"),
            "day": reading.days(batch, "date"),
            "impressions": reading.ones(len(batch)),
        }
        flagged = {"timed": timed.cast(pa.int64()), "finish": finish.cast(pa.int64())}
        totals.add(
            pa.table(keys | numbers | flagged | {"played_seconds": watched, "full_seconds": full})
        )
    counts = totals.table()
    if not len(counts):
        raise InputError(f"{log.paths[0]} has no rows")
    for name in ("played_seconds", "full_seconds"):
        # Both are rounded alike, so that what was played is never more than the whole.
        seconds = pc.divide(pc.add(counts[name], 500), 1000)
        counts = counts.set_column(counts.column_names.index(name), name, seconds)
    names = [flags.item_column, flags.period_column, *measured]
    items = _items(directory / videos, flags)
    note = f"{len(counts)} counts rows; {untimed} impressions of unknown duration"
    if too_long:
        note += f", {too_long} of more than a day, which are in no sum of seconds"
    return Tables(
        counts=Table(counts.rename_columns(names), "counts"),
        items=items,
        inputs=(*log.paths, *items.paths),
        ledger=(
            log.rule(),
            Rule("impressions", "counted by video and day", log.rows, log.rows, note),
        ),
    )


def _items(videos: Path, flags: TableFlags) -> Table:
    catalogue = tables.read(
        str(videos),
        "items",
        columns=["video_id", "tag"],
        said=text_options(flags.text_set, "items"),
    )
    data = catalogue.data
    tags = pa.array(strings(catalogue, "tag", "source_set=videos"), pa.string())
    data = data.set_column(
        data.column_names.index("tag"), "tag", pc.replace_substring(tags, ",", separator_of(flags))
    ).rename_columns([flags.item_column if c == "video_id" else c for c in data.column_names])
    return replace(catalogue, data=data)
