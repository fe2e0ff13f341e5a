"""WeChat's log (user_action.csv) and its feeds (feed_info.csv), from the contest of 2021.

| modality | what a feed has |
|---|---|
| visual | words read off the pictures (`ocr`, else `ocr_char`) |
| acoustic | characters of the speech (`asr_char`, else `asr`); singer; song |
| textual | words of the description (else its characters); keywords; tags |
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from mmnet.checks import InputError
from mmnet.data.dialects import text_options
from mmnet.data.sources import reading
from mmnet.data.sources.reading import Scan
from mmnet.data.tables import Table
from mmnet.mma4ctr.data import weighted_label
from mmnet.mma4ctr.data.generator.wechat_files import wechat_files
from mmnet.mma4ctr.data.modalities.raw import Catalogue, Raw
from mmnet.mma4ctr.data.pca import Ragged
from mmnet.mma4ctr.data.sources.source import Label, Layout, Source

FEEDS = "feed_info.csv"


_FEED_COLUMNS = (
    *("feedid", "description", "ocr", "asr", "bgm_song_id", "bgm_singer_id"),
    *("machine_keyword_list", "manual_tag_list", "machine_tag_list"),
    *("description_char", "ocr_char", "asr_char"),
)


def catalogue(directory: Path, item_ids: np.ndarray, text_set: Sequence[str] = ()) -> Catalogue:
    """Reads feed_info.csv; every feed has every modality, if only an empty one.

    Feeds that are not in the log count as items too.

    Raises:
        InputError: a missing file or column, a token or id that is no whole number.
    """
    scan = Scan(
        reading.find(directory, FEEDS, "feeds"),
        _FEED_COLUMNS,
        "feeds",
        name="feeds",
        said=text_options(text_set, "items"),
    )
    feeds, once = reading.one_row_each(scan.whole(), "feedid", "feeds")
    ids = reading.whole_numbers(feeds, "feedid", "feeds", what="an id").to_numpy()
    order = np.argsort(ids)
    text = {name: _text(feeds, name) for name in _FEED_COLUMNS if name != "feedid"}
    all_there = np.ones(len(ids), bool)

    def tokens(first: str, other: str) -> Ragged:
        return _ragged(feeds, (first, other), _filled(text[first], text[other]), " ", order)

    tags = pc.replace_substring_regex(text["machine_tag_list"], r"[ \t]+[-+.\deE]*(;|$)", r"\1")
    found = {
        "visual": Raw(all_there, tokens("ocr", "ocr_char")),
        "acoustic": Raw(
            all_there,
            tokens("asr_char", "asr"),
            ids=tuple(_music(feeds, name)[order] for name in ("bgm_singer_id", "bgm_song_id")),
        ),
        "textual": Raw(
            all_there,
            tokens("description", "description_char"),
            lists=(
                _ragged(feeds, ("machine_keyword_list",), text["machine_keyword_list"], ";", order),
                _ragged(
                    feeds,
                    ("machine_tag_list", "manual_tag_list"),
                    _filled(tags, text["manual_tag_list"]),
                    ";",
                    order,
                ),
            ),
        ),
    }
    for name, raw in found.items():
        if raw.tokens is not None and not len(raw.tokens.values):
            raise InputError(f"{scan.paths[0]}: the {name} modality is empty for every feed")
    return Catalogue(ids[order], found, [scan.rule(), once], list(scan.paths))


def _text(feeds: Table, name: str) -> pa.ChunkedArray:
    text = pc.utf8_trim_whitespace(feeds.data[name])
    return pc.if_else(pc.is_in(text, pa.array(reading.MISSING)), "", text)


def _filled(first: pa.ChunkedArray, other: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.if_else(pc.equal(first, ""), other, first)


def _ragged(
    feeds: Table, columns: Sequence[str], text: pa.ChunkedArray, separator: str, order: np.ndarray
) -> Ragged:
    """Whole numbers between separators, feeds in the given order."""
    rows, entries = reading.pieces(text, separator)
    try:
        numbers = entries.cast(pa.int64()).to_numpy()
        if len(numbers) and (numbers.min() < 0 or numbers.max() > np.iinfo(np.int32).max):
            raise pa.ArrowInvalid("out of range")
    except pa.ArrowInvalid:
        read = pd.to_numeric(entries.to_pandas(), errors="coerce").to_numpy()
        right = (read >= 0) & (read <= np.iinfo(np.int32).max) & (read == np.floor(read))
        wrong = int(np.argmin(right))
        name = {" ": "spaces", ";": "semicolons"}[separator]
        raise InputError(
            f"{feeds.where(int(rows[wrong]), ' or '.join(columns))}: must be ids between {name}. "
            f"Received: {entries[wrong].as_py()!r}"
        ) from None
    lengths = np.bincount(rows, minlength=len(order))
    start = np.cumsum(lengths) - lengths
    wanted = lengths[order]
    offsets = np.append(0, np.cumsum(wanted))
    inside = np.arange(offsets[-1]) - np.repeat(offsets[:-1], wanted)
    values = numbers[np.repeat(start[order], wanted) + inside]
    return Ragged(values.astype(np.int32), offsets)


def _music(feeds: Table, column: str) -> np.ndarray:
    """Ids of songs or singers, 0 where there is none; "123.0" is 123."""
    numbers = reading.whole_numbers(feeds, column, "feeds", what="an id", allow_empty=True)
    return pc.fill_null(numbers, 0).to_numpy()


SOURCE = Source(
    layout=Layout("user_action.csv", "userid", "feedid", "date_"),
    labels={"weighted": Label(tuple(weighted_label.WEIGHTS), weighted_label.positive)},
    min_rows=100,
    counts_all_rows=False,
    daily=True,
    catalogue=catalogue,
    generator=wechat_files,
    narrowed=True,
    components_per_file=False,
)
