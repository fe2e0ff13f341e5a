"""KuaiRec: daily counters of short videos, three levels of categories, captions.

Origin: https://kuairec.com (chongminggao/KuaiRec), CC BY-SA 4.0. Download KuaiRec.zip and
kuairec_caption_category.csv from https://zenodo.org/records/18164998, which also shows their MD5;
the captions' is 31bc38cdccdf75a71df137779035f8cb. The other two files are in the zip's `data`.

| file | columns (comma, header) |
|---|---|
| item_daily_features.csv | video_id, date (20200705), author_id, video_type, upload_dt, upload_type, visible_status, video_duration, video_width, video_height, music_id, video_tag_id, video_tag_name, and show_cnt, play_cnt, share_cnt and more counters; 343,341 rows |
| kuairec_caption_category.csv (may be absent) | video_id, manual_cover_text, caption, topic_tag ("[a,b]"), {first, second, third}_level_category_{id, name} |
| item_categories.csv (may be absent) | video_id, feat ("[27, 9]") |

A video and day have a row for each of the video's tags, with the counters repeated: they are taken
once, never summed. In the captions, line breaks stand without quotes, and what is missing is
written UNKNOWN, -124 or [].
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from mmnet.checks import InputError, did_you_mean, one_of, quoted
from mmnet.config import TableFlags
from mmnet.data import rates, table_files
from mmnet.data.columns import floats
from mmnet.data.dialects import TextOptions, text_options
from mmnet.data.ledger import Rule
from mmnet.data.sources import reading
from mmnet.data.sources.reading import Scan
from mmnet.data.tables import Table, Tables

IDS = ("author_id", "video_type", "upload_type", "visible_status", "music_id")
NUMBERS = ("video_duration", "video_width", "video_height")
TAGS = ("video_tag_id", "video_tag_name")
LEVELS = tuple(
    f"{level}_level_category_{what}"
    for level in ("first", "second", "third")
    for what in ("id", "name")
)
CAPTION_COLUMNS = ("video_id", "manual_cover_text", "caption", "topic_tag", *LEVELS)
UNKNOWN = ("UNKNOWN", "-124", "[]")
CAPTIONS, CATEGORIES = "kuairec_caption_category.csv", "item_categories.csv"


def kuairec(
    directory: Path | None,
    flags: TableFlags,
    *,
    behaviour: str = "share_cnt",
    base: str = "play_cnt",
    daily: str = "item_daily_features.csv",
    captions: str | None = CAPTIONS,
    categories: str | None = CATEGORIES,
    disagreeing: str = "fail",
) -> Tables:
    """Counts two of the publisher's daily counters per video and day, and those of further rates.

    Items have the publisher's columns as they were on the video's first day, with its tags as
    lists, and the texts of captions and categories; a video without counts is an item too.

    Args:
        directory: where the publisher's files are.
        flags: `item_column`, `period_column`, `numerator`, `denominator` name the counts' columns;
            `--numerator=like_cnt --denominator=show_cnt` counts these.
        behaviour: the counter where `--numerator` is left at shares.
        base: the counter where `--denominator` is left at clicks.
        daily: file or glob of the daily counters.
        captions: file of captions and category names, none to leave it out.
        categories: file of category numbers, none to leave it out.
        disagreeing: fail or drop, what to do with a video and day whose rows have other counters.

    Raises:
        InputError: no directory, a missing file or column, a value of the wrong kind, rows
            of one video and day that disagree.
    """
    directory = reading.needed(directory, "kuairec")
    try:
        one_of(("fail", "drop"), disagreeing=disagreeing)
    except ValueError as error:
        raise InputError(f"--source_set: {error}") from None
    scan = Scan(
        reading.find(directory, daily, "daily"),
        ("video_id", "date", "upload_dt", *IDS, *NUMBERS, *TAGS),
        "daily",
        name="videos by day and tag",
        said=text_options(flags.text_set, "counts"),
    )
    counters = [name for name in scan.opened(scan.paths[0]).names if name.endswith("_cnt")]
    above, below = (
        reading.chosen(flag, name, contract=word, option=option, default=usual, columns=counters)
        for flag, name, word, option, usual in (
            ("numerator", flags.numerator, "shares", "behaviour", behaviour),
            ("denominator", flags.denominator, "clicks", "base", base),
        )
    )
    further = rates.columns_of(flags)
    for column in further:
        if column not in counters:
            raise InputError(
                f"--rate: no such column to count: {quoted(column)}; available: "
                f"{', '.join(counters)}{did_you_mean(column, counters)}"
            )
    scan.columns = tuple(dict.fromkeys((*scan.columns, below, above, *further)))
    log = scan.whole()
    keys, ledger = _keys(log, scan)
    named = {flags.denominator: below, flags.numerator: above} | {name: name for name in further}
    counts, rules = _counts(log, keys, named, flags, disagreeing)
    items, more_rules = _items(log, keys)
    ledger += [*rules, *more_rules]
    inputs = list(scan.paths)

    for pattern, default, option, read in (
        (captions, CAPTIONS, "captions", _captions),
        (categories, CATEGORIES, "categories", _categories),
    ):
        for path in reading.optional(directory, pattern, default, option):
            side, rules = read(path, text_options(flags.text_set, "items"))
            items = _beside(items, side)
            ledger += rules
            inputs.append(path)
    items = items.rename_columns([flags.item_column, *items.column_names[1:]])
    return Tables(
        counts=Table(counts, "counts"),
        items=Table(items, "items"),
        inputs=tuple(inputs),
        ledger=tuple(ledger),
    )


def _keys(log: Table, scan: Scan) -> tuple[pd.DataFrame, list[Rule]]:
    """Video and day of every row, its place in the log, sorted by both."""
    video = reading.id_column(log, "video_id").to_pandas()
    empty = (video == "").to_numpy()
    if empty.any():
        raise InputError(f"{log.where(int(np.argmax(empty)), 'video_id')}: a video id is empty")
    day = reading.days(log, "date").to_pandas()
    keys = pd.DataFrame({"video": video, "day": day, "row": np.arange(len(log))})
    return keys.sort_values(["video", "day", "row"], ignore_index=True), [scan.rule()]


def _counts(
    log: Table, keys: pd.DataFrame, named: Mapping[str, str], flags: TableFlags, disagreeing: str
) -> tuple[pa.Table, list[Rule]]:
    """Returns the counts, whose columns `named` maps to counters, and the ledger."""
    counters = list(dict.fromkeys(named.values()))
    frame = keys[["video", "day"]].copy()
    for column in counters:
        numbers = reading.whole_numbers(log, column, "daily", what="a counter", allow_empty=True)
        frame[column] = pc.fill_null(numbers, -1).to_numpy()[keys["row"]]
    grouped = frame.groupby(["video", "day"], sort=False)
    first = grouped[counters].transform("first")
    differs = (frame[counters] != first).any(axis=1).to_numpy()
    if differs.any() and disagreeing == "fail":
        at = int(np.argmax(differs))
        column = next(name for name in counters if frame[name][at] != first[name][at])
        raise InputError(
            f"{log.where(keys['row'][at], column)}: {frame[column][at]}, but an earlier row of "
            f"video {frame['video'][at]} and {frame['day'][at]} has {first[column][at]}; correct "
            "the file, or set --source_set=disagreeing=drop"
        )
    once = frame.assign(differs=differs).groupby(["video", "day"], sort=False, as_index=False)
    days = once.agg(dict.fromkeys(counters, "first") | {"differs": "any"})
    rules = [
        Rule("videos by day and tag", "is the first of its video and day", len(frame), len(days))
    ]
    steps = [
        ("the rows of a video and day agree", ~days["differs"]),
        (f"{' and '.join(counters)} are not empty", (days[counters] >= 0).all(axis=1)),
    ]
    every = [rates.Columns(flags.denominator, flags.numerator), *rates.further(flags).values()]
    for of_rate in () if flags.rate_may_exceed_one else every:
        below, above = (named[column] for column in of_rate)
        steps.append((f"no more {above} than {below}", days[above] <= days[below]))
    kept = np.ones(len(days), bool)
    for rule, holds in steps:
        left = kept & holds.to_numpy()
        rules.append(Rule("videos by day", rule, int(kept.sum()), int(left.sum())))
        kept = left
    days = days[kept]
    if not len(days):
        raise InputError(f"{log.origin()}: no rows are left after the rules of the ledger")
    columns = {
        flags.item_column: pa.array(days["video"], pa.string()),
        flags.period_column: pa.array(days["day"], pa.date32()),
    }
    return (
        pa.table(columns | {name: pa.array(days[of], pa.int64()) for name, of in named.items()}),
        rules,
    )


def _items(log: Table, keys: pd.DataFrame) -> tuple[pa.Table, list[Rule]]:
    """Describes each video by its first day, since later days would leak the future."""
    columns = {name: reading.id_column(log, name).to_pandas() for name in (*IDS, "upload_dt")}
    columns |= {name: pd.Series(floats(log, name, "source_set=daily")) for name in NUMBERS}
    attributes = pd.DataFrame(columns).iloc[keys["row"]].reset_index(drop=True)
    first_row = ~keys["video"].duplicated().to_numpy()
    index = np.cumsum(first_row) - 1  # of the video, per row
    opening = attributes[first_row].reset_index(drop=True)
    before = opening.iloc[index].reset_index(drop=True)
    later = (attributes != before) & ~(attributes.isna() & before.isna())
    changed = len(np.unique(index[later.any(axis=1).to_numpy()]))

    found = {"video_id": pa.array(keys["video"][first_row], pa.string())}
    upload = opening.pop("upload_dt").str.replace(
        r"^(\d{4})(\d{2})(\d{2})$", r"\1-\2-\3", regex=True
    )
    found["upload_dt"] = pa.array(upload, pa.string())
    found |= {name: pa.array(opening[name], from_pandas=True) for name in opening}
    day = keys["day"].to_numpy()
    on_first_day = day == day[first_row][index]
    for name in TAGS:
        value = reading.id_column(log, name).to_pandas().to_numpy()[keys["row"]]
        there = on_first_day & (value != "")
        rows, values = reading.unique(index[there], pa.array(value[there], pa.string()))
        found[name] = reading.lists_of(rows, values, len(opening))
    number = len(opening)
    note = f"{changed} videos have other columns on a later day"
    return pa.table(found), [
        Rule("videos", "taken from the video's first day", number, number, note)
    ]


def _beside(items: pa.Table, side: pa.Table) -> pa.Table:
    """Joins a table's columns to the items', with a row for every video of either."""
    more = side["video_id"].filter(pc.invert(pc.is_in(side["video_id"], items["video_id"])))
    everyone = pa.concat_tables(
        [items, pa.table({"video_id": more})], promote_options="default"
    ).combine_chunks()
    place = pc.index_in(everyone["video_id"], side["video_id"])
    for name in side.column_names[1:]:
        everyone = everyone.append_column(name, side[name].take(place))
    return everyone


def _captions(path: Path, said: TextOptions) -> tuple[pa.Table, list[Rule]]:
    records, pieces = _mended(path, said)
    columns = dict(zip(CAPTION_COLUMNS, zip(*records, strict=True), strict=True))
    number = len(records)
    note = f"{pieces - number} unquoted line breaks were repaired"
    rules = [Rule("captions", "is a whole row", pieces, number, note)]
    side: dict[str, pa.Array] = {}
    for name, values in columns.items():
        known = ["" if value.strip() in UNKNOWN else value.strip() for value in values]
        side[name] = pa.array(known, pa.string())
    side["video_id"] = reading.ids(side["video_id"]).combine_chunks()
    side["topic_tag"] = _bracketed(side["topic_tag"])
    return _once(path, pa.table(side), rules, "captions")


def _mended(path: Path, said: TextOptions) -> tuple[list[list[str]], int]:
    """Reads the rows of the captions, and joins those that an unquoted line break has split."""
    file = table_files.laid_out(path, "captions", table_files.CSV, ("video_id",), said)
    with table_files.readable(path, "captions"):
        found = list(table_files.records(path, file.dialect))
    reader = iter(found)
    _, names = next(reader, (0, []))
    if [name.strip() for name in names] != list(CAPTION_COLUMNS):
        raise InputError(
            f"{path}: its columns must be {', '.join(CAPTION_COLUMNS)}. "
            f"Received: {', '.join(names)}"
        )
    rows: list[list[str]] = []
    pieces, start = 0, 0
    width = len(CAPTION_COLUMNS)
    open_row: list[str] = []
    for line, fields in reader:
        if [name.strip() for name in fields] == list(CAPTION_COLUMNS):
            continue
        pieces += 1
        if open_row:
            fields = [*open_row[:-1], f"{open_row[-1]} {fields[0]}", *fields[1:]]
        else:
            start = line
        if len(fields) > width:
            raise InputError(
                f"{path} line {start}: {len(fields)} fields, but {width} are expected; put quotes "
                "around a value that contains a comma"
            )
        open_row = fields if len(fields) < width else []
        if not open_row:
            rows.append(fields)
    if open_row:
        raise InputError(f"{path} line {start}: {len(open_row)} fields, but {width} are expected")
    if not rows:
        raise InputError(f"{path} has no rows")
    return rows, pieces


def _categories(path: Path, said: TextOptions) -> tuple[pa.Table, list[Rule]]:
    scan = Scan([path], ("video_id", "feat"), "categories", name="categories", said=said)
    table = scan.whole()
    side = pa.table(
        {
            "video_id": reading.id_column(table, "video_id"),
            "feat": _bracketed(table.data["feat"].combine_chunks()),
        }
    )
    return _once(path, side, [scan.rule()], "categories")


def _bracketed(text: pa.Array) -> pa.ListArray:
    """Lists written as "[27, 9]"."""
    inside = pc.replace_substring_regex(pc.utf8_trim_whitespace(text), r"^\[|\]$", "")
    rows, values = reading.pieces(pa.chunked_array([inside]), ",")
    return reading.lists_of(*reading.unique(rows, values), len(text))


def _once(
    path: Path, side: pa.Table, rules: Sequence[Rule], name: str
) -> tuple[pa.Table, list[Rule]]:
    table, rule = reading.one_row_each(Table(side, str(path)), "video_id", name)
    return table.data, [*rules, rule]
