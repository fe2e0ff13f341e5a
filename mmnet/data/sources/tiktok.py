"""TikTok, ICME 2019 Short Video Understanding Challenge, track 1: plays with finish and like.

Origin and licence: ByteDance's contest at https://www.biendata.xyz/competition/icmechallenge2019,
for academic research only; files for registered teams, no checksums known to us. Track 2 has the
same layout in other file names. A whole log of track 1 has 275,855,531 rows.

| file | layout |
|---|---|
| final_track1_train.txt | tabs, no header, 12 whole numbers: uid, user_city, item_id, author_id, item_city, channel, finish, like, music_id, device, time, duration_time; -1 is missing |
| track1_title.txt (may be absent) | a line of JSON per item: item_id, title_features {"word id": how often} |
| track1_video_features_part*.txt (may be absent) | item_id, video_feature_dim_128: up to 128 numbers |
| track1_audio_features_part*.txt (may be absent) | item_id, audio_feature_128_dim: 128 numbers or none |

`time` counts seconds from a hidden start. It was not described; entrants read it as the time when
the *item* was made, and a sample of 200 rows agrees: two users who saw one item have one time, and
times reach back a year. The ledger says in how many items of the whole log it does. If all, an item
is observed in the period of its release only and has no history: what can be predicted is a new
item's rate, from its content and from the items before it. When a play happened is then unknown.
"""  # noqa: E501

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from mmnet import hashing
from mmnet.checks import InputError, at_least, in_range
from mmnet.config import TableFlags
from mmnet.data.dialects import text_options
from mmnet.data.ledger import Rule
from mmnet.data.sources import reading
from mmnet.data.sources.reading import Scan, Totals, Vectors
from mmnet.data.tables import Rows, Table, Tables
from mmnet.files import UNREADABLE

COLUMNS = (
    *("uid", "user_city", "item_id", "author_id", "item_city", "channel", "finish", "like"),
    *("music_id", "device", "time", "duration_time"),
)
BEHAVIOURS = ("finish", "like")
ATTRIBUTES = ("author_id", "item_city", "music_id", "duration_time")


class Files(NamedTuple):
    """Files of a track: names, or globs of what may be in parts."""

    log: str
    titles: str
    videos: str
    audios: str


def files_of(track: int) -> Files:
    """Names the files of a track.

    >>> files_of(2).log
    'final_track2_train.txt'
    """
    sides = (f"track{track}_title.txt", f"track{track}_video_*.txt", f"track{track}_audio_*.txt")
    return Files(f"final_track{track}_train.txt", *sides)


TRACK_1, TRACK_2 = files_of(1), files_of(2)
VIDEO_KEY, AUDIO_KEY = "video_feature_dim_128", "audio_feature_128_dim"
VECTOR_LENGTH = 128
MOST_WORDS = 100_000
"""Maximum number of words of a title: a line of a few bytes can ask for billions."""

_BLOCK_BYTES = 1 << 24


def tiktok(
    directory: Path | None,
    flags: TableFlags,
    *,
    behaviour: str = "finish",
    log: str = TRACK_1.log,
    bin_seconds: int = 86_400,
    rows_per_period: int = 0,
    part_of_items: float = 1.0,
    titles: str | None = TRACK_1.titles,
    videos: str | None = TRACK_1.videos,
    audios: str | None = TRACK_1.audios,
) -> Tables:
    """Counts plays and finished (or liked) plays per item and period.

    Items have author_id, item_city, music_id, duration_time and, with the side files, `title`
    (word ids between spaces, each as often as it was counted) and the vectors `video` and `audio`.

    Memory grows with items and periods, not with rows; vectors of all 27 million items of track 1
    are 14 GB a kind, so take `part_of_items`, or `videos=none`.

    Args:
        directory: where the publisher's files are.
        flags: `item_column`, `period_column`, `numerator`, `denominator` name the counts' columns;
            `--numerator=like` counts likes.
        behaviour: what is counted where `--numerator` is left at shares.
        log: file or glob of the plays.
        bin_seconds: width of a period.
        rows_per_period: 0, or cut periods by the order of the rows instead of `time`, so many rows
            to each. Whether the file is in the order of plays was not published.
        part_of_items: 0.01 keeps the rows of one item in a hundred, by a hash of the id.
        titles: file or glob of the titles, none to leave them out.
        videos: the same for video features.
        audios: the same for audio features.

    Raises:
        InputError: no directory, a missing file, a row of another layout, an option out of range.
    """
    directory = reading.needed(directory, "tiktok")
    try:
        at_least(1, bin_seconds=bin_seconds)
        at_least(0, rows_per_period=rows_per_period)
        in_range(0, 1, part_of_items=part_of_items)
    except ValueError as error:
        raise InputError(f"--source_set: {error}") from None
    above = reading.chosen(
        "numerator",
        flags.numerator,
        contract="shares",
        option="behaviour",
        default=behaviour,
        columns=BEHAVIOURS,
    )
    reading.refuse_text_set(flags.text_set, ("items", "vectors"))
    plays = Scan(
        reading.find(directory, log, "log"),
        ("item_id", "time", above, *ATTRIBUTES),
        "log",
        names=COLUMNS,
        delimiter="\t",
        types=dict.fromkeys(("item_id", "time", above), pa.int64())
        | dict.fromkeys(ATTRIBUTES, pa.int32()),
        name="plays",
        said=text_options(flags.text_set, "events"),
    )
    totals, ledger = _totals(plays, above, bin_seconds, rows_per_period, part_of_items)
    numbers, items, rules = _items(totals)
    ledger += rules
    counts = pa.table(
        {
            flags.item_column: totals["item"].cast(pa.string()),
            flags.period_column: totals["period"],
            flags.denominator: totals["below"],
            flags.numerator: totals["above"],
        }
    )
    inputs = list(plays.paths)
    vectors: dict[str, Rows] = {}
    if paths := reading.optional(directory, titles, TRACK_1.titles, "titles"):
        items["title"], rule = _titles(paths, numbers)
        ledger.append(rule)
        inputs += paths
    for name, pattern, default, key in (
        ("video", videos, TRACK_1.videos, VIDEO_KEY),
        ("audio", audios, TRACK_1.audios, AUDIO_KEY),
    ):
        if paths := reading.optional(directory, pattern, default, f"{name}s"):
            table, rules = _vectors(paths, name, key, numbers, flags)
            ledger += rules
            inputs += paths
            if len(table):
                vectors[name] = table
    return Tables(
        counts=Table(counts, "counts"),
        items=Table(pa.table({flags.item_column: items.pop("item")} | items), "items"),
        vectors=vectors,
        inputs=tuple(inputs),
        ledger=tuple(ledger),
    )


def _totals(
    plays: Scan, above: str, width: int, rows_per_period: int, part_of_items: float
) -> tuple[pa.Table, list[Rule]]:
    """Counts plays per item (a number) and period, with the extremes of the item's columns."""
    extremes = {f"{how}_{name}": how for name in ATTRIBUTES for how in ("min", "max")}
    totals = Totals(["item", "period"], {"below": "sum", "above": "sum"} | extremes)
    taken = complete = 0
    for batch in plays:
        first = plays.rows - len(batch)
        item = reading.whole_numbers(batch, "item_id", "log", what="an id", allow_empty=True)
        time = reading.whole_numbers(batch, "time", "log", what="a time", allow_empty=True)
        if rows_per_period:
            order = np.arange(first, plays.rows) // rows_per_period
            period = pc.if_else(pc.is_valid(time), pa.array(order), None)
        else:
            period = pc.divide(time, width)
        columns = {
            "item": item,
            "period": period,
            "below": reading.ones(len(batch)),
            "above": reading.zero_or_one(batch, above, "log", allow_empty=True),
        }
        for name in ATTRIBUTES:
            values = batch.data[name]
            known = pc.if_else(pc.less(values, 0), None, values)
            columns |= {f"min_{name}": known, f"max_{name}": known}
        rows = pa.table(columns)
        if part_of_items < 1:
            draw = hashing.uniform(pc.fill_null(item, -1).to_numpy())
            rows = rows.filter(pa.array(draw < part_of_items))
        taken += len(rows)
        rows = rows.filter(pc.is_valid(pc.add(pc.add(rows["item"], rows["period"]), rows["above"])))
        complete += len(rows)
        totals.add(rows)
    counts = totals.table()
    if not len(counts):
        raise InputError(f"{plays.paths[0]}: no plays are left after the rules of the ledger")
    rules = [
        Rule("plays", f"the item is in the part of {part_of_items:g}", plays.rows, taken),
        Rule("plays", f"item, time and {above} are not empty", taken, complete),
        Rule(
            "plays", "counted by item and period", complete, complete, f"{len(counts)} counts rows"
        ),
    ]
    return counts, rules


def _items(totals: pa.Table) -> tuple[np.ndarray, dict[str, pa.ChunkedArray], list[Rule]]:
    """Ids as numbers, sorted; columns of the items table; and how far an item's rows agree."""
    how = {column: column[:3] for column in totals.column_names if column[:4] in ("min_", "max_")}
    periods = totals.append_column("periods", reading.ones(len(totals)))
    items = Totals(["item"], how | {"periods": "sum"})
    items.add(periods.select(["item", *how, "periods"]))
    found = items.table()
    columns: dict[str, pa.ChunkedArray] = {"item": found["item"].cast(pa.string())}
    agree = np.ones(len(found), bool)
    for name in ATTRIBUTES:
        low, high = found[f"min_{name}"], found[f"max_{name}"]
        agree &= pc.fill_null(pc.equal(low, high), True).to_numpy()
        columns[name] = low.cast(pa.float64()) if name == "duration_time" else reading.ids(low)
    once = int((found["periods"].to_numpy() == 1).sum())
    differ = f"of {int((~agree).sum())} that differ, the smallest value is used"
    rules = [
        Rule(
            "items", "rows agree on author, city, music, duration", len(found), len(found), differ
        ),
        Rule("items", "is in the log", len(found), len(found), f"{once} in one period only"),
    ]
    return found["item"].to_numpy(), columns, rules


def blocks(path: Path) -> Iterator[tuple[int, list[bytes]]]:
    """Yields lines of a file in chunks, with the number of the first; skips empty lines."""
    with pa.input_stream(str(path)) as file:
        lines, number = io.BufferedReader(file, _BLOCK_BYTES), 1
        while block := lines.readlines(_BLOCK_BYTES):
            if number == 1:
                block[0] = block[0].removeprefix(b"\xef\xbb\xbf")
            yield number, block
            number += len(block)


def _titles(paths: list[Path], numbers: np.ndarray) -> tuple[pa.Array, Rule]:
    """Titles of the items, by line: pyarrow would make a column of every word id."""
    titles = np.full(len(numbers), None, object)
    lines = 0
    for path in paths:
        for first, block in blocks(path):
            for line, text in enumerate(block, start=first):
                if not text.strip():
                    continue
                lines += 1
                try:
                    entry = json.loads(text)
                    item, words = int(entry["item_id"]), entry["title_features"]
                    check_title(path, line, words)
                    title = " ".join(word for word in words for _ in range(words[word]))
                except InputError:
                    raise
                except UNREADABLE:
                    raise InputError(
                        f"{path} line {line}: must be JSON with item_id and title_features, the "
                        f"count of each word id. Received: {shown(text)}"
                    ) from None
                place = np.searchsorted(numbers, item)
                if place < len(numbers) and numbers[place] == item and titles[place] is None:
                    titles[place] = title
    known = int(sum(title is not None for title in titles))
    return pa.array(titles, pa.string()), Rule("title", "is an item's first", lines, known)


def check_title(path: Path, line: int, words: Mapping[str, int]) -> None:
    """Raises an error for a title that would expand to far more words than a title has.

    Raises:
        InputError: the sentence names the line and the word.
        TypeError: a count is not a number.
    """
    if (total := sum(words.values())) > MOST_WORDS:
        word = max(words, key=lambda word: words[word])
        raise InputError(
            f"{path} line {line}, key title_features: a title of {total:,} words, but at most "
            f"{MOST_WORDS:,} are supported; correct the count of word {word[:40]!r}, "
            f"{words[word]:,}"
        )


def _vectors(
    paths: list[Path], name: str, key: str, numbers: np.ndarray, flags: TableFlags
) -> tuple[Table, list[Rule]]:
    vectors = Vectors(name, VECTOR_LENGTH)
    lines = known = 0
    for path in paths:
        for first, block in blocks(path):
            data = read_json(path, first, block, key)
            places = np.flatnonzero([bool(line.strip()) for line in block]) + first
            mine = np.isin(data["item_id"].to_numpy(zero_copy_only=False), numbers)
            lines, known = lines + len(data), known + int(mine.sum())
            data = data.filter(pa.array(mine))
            if not len(data):
                continue

            def where(row: int, path: Path = path, places: np.ndarray = places[mine]) -> str:
                return f"{path} line {places[row]}, key {key}"

            vectors.add(reading.ids(data["item_id"]), data[key].combine_chunks(), where)
    table, rules = vectors.table(flags)
    return table, [Rule(name, "is of an item of the log", lines, known), *rules]


def read_json(path: Path, first: int, block: list[bytes], key: str) -> pa.Table:
    """Ids and lists of numbers of a block of lines.

    Raises:
        InputError: a line that is no JSON, or no line that has the key.
    """
    wanted = pa.schema({"item_id": pa.int64(), key: pa.list_(pa.float32())})
    text = b"".join(block)
    try:
        data = pa.json.read_json(
            io.BytesIO(text),
            read_options=pa.json.ReadOptions(block_size=len(text) + 1),
            parse_options=pa.json.ParseOptions(
                explicit_schema=wanted, unexpected_field_behavior="ignore"
            ),
        )
    except pa.ArrowInvalid as error:
        for number, line in enumerate(block, start=first):
            try:
                json.loads(line.strip() or "null")
            except (ValueError, RecursionError):
                raise InputError(
                    f"{path} line {number}: must be a line of JSON. Received: {shown(line)}"
                ) from None
        reason = str(error).split("\n")[0].rstrip(".")
        raise InputError(f"{path}: must have item_id and {key} in every line: {reason}") from None
    for name in ("item_id", key):
        if len(data) and data[name].null_count == len(data):
            raise InputError(
                f"{path} line {first}: has no key {name!r}. Received: {shown(block[0])}"
            )
    return data


def shown(line: bytes) -> str:
    """The beginning of a line, for a message."""
    return repr(line[:80].decode(errors="replace").strip())
