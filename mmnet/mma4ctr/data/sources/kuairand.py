"""KuaiRand's log of impressions (log_*) and its videos (video_features_basic_*).

`mmnet.data.sources.kuairand` has the columns, and where to download them. The log has no pictures,
sounds or words; what a video has of each modality is what the publisher says about it:

| modality | what a video has |
|---|---|
| visual | its type, how it was made, its duration, width and height |
| acoustic | the type of its music; the piece of music |
| textual | its tags |
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmnet.data import budgets
from mmnet.data.dialects import text_options
from mmnet.data.sources import reading
from mmnet.data.sources.reading import Scan
from mmnet.data.tables import Table
from mmnet.mma4ctr.data.modalities.raw import Catalogue, Raw
from mmnet.mma4ctr.data.sources.source import Label, Layout, Source

VIDEOS = "video_features_basic_*"
MOST_VALUES = 128
"""Columns of a category: its most frequent values have one each, and all others none."""
DAY_MS = 24 * 60 * 60 * 1000
CHINA_MS = 8 * 60 * 60 * 1000
"""The publisher's days are those of China; its times are of UTC."""

_SIZES = ("video_duration", "server_width", "server_height")
_COLUMNS = (
    *("video_id", "video_type", "upload_type", *_SIZES),
    *("music_id", "music_type", "tag"),
)


def catalogue(directory: Path, item_ids: np.ndarray, text_set: Sequence[str] = ()) -> Catalogue:
    """Reads the videos; each has every modality, if only an empty one.

    Videos that are not in the log count as items too.

    Raises:
        InputError: a missing file or column, or a number that is none.
    """
    scan = Scan(
        reading.find(directory, VIDEOS, "videos"),
        _COLUMNS,
        "videos",
        name="videos",
        said=text_options(text_set, "items"),
    )
    videos, once = reading.one_row_each(scan.whole(), "video_id", "videos")
    ids = reading.whole_numbers(videos, "video_id", "videos", what="an id").to_numpy()
    order = np.argsort(ids)
    sizes = np.stack([_size(videos, name) for name in _SIZES], axis=1)
    music = reading.whole_numbers(videos, "music_id", "videos", what="an id", allow_empty=True)
    visual = [sizes, *(_indicators(videos, name) for name in ("video_type", "upload_type"))]

    def raw(columns: np.ndarray, ids: tuple[np.ndarray, ...] = ()) -> Raw:
        one_part = np.zeros(len(columns), np.int16)
        return Raw(np.ones(len(columns), bool), vectors=columns[order], part=one_part, ids=ids)

    found = {
        "visual": raw(np.concatenate(visual, axis=1)),
        "acoustic": raw(
            _indicators(videos, "music_type"), (pc.fill_null(music, 0).to_numpy()[order],)
        ),
        "textual": raw(_indicators(videos, "tag", ",")),
    }
    return Catalogue(ids[order], found, [scan.rule(), once], list(scan.paths))


def _size(videos: Table, column: str) -> np.ndarray:
    """Logarithms of a size plus one, 0 where the size is missing; float32 [videos]."""
    sizes = reading.whole_numbers(videos, column, "videos", what="a size", allow_empty=True)
    return np.log1p(pc.fill_null(sizes, 0).to_numpy().astype(np.float64)).astype(np.float32)


def _indicators(videos: Table, column: str, separator: str = "") -> np.ndarray:
    """A column per frequent value, 1 where a video has it; float32 [videos, columns].

    There is one column at least, for a table without any value.
    """
    text = pc.utf8_trim_whitespace(videos.data[column].cast(pa.string()))
    text = pc.fill_null(pc.if_else(pc.is_in(text, pa.array(reading.MISSING)), "", text), "")
    if separator:
        rows, values = reading.pieces(text, separator)
    else:
        rows, values = np.arange(len(text)), text.combine_chunks()
    filled = pc.not_equal(values, "")
    encoded = values.filter(filled).dictionary_encode()
    rows, code = rows[np.asarray(filled)], np.asarray(encoded.indices)
    names = encoded.dictionary.to_numpy(zero_copy_only=False).astype(str)
    number = np.bincount(code, minlength=len(names))
    frequent = np.lexsort((names, -number))[:MOST_VALUES]  # in a tie, the first of the alphabet
    place = np.full(len(names), -1)
    place[frequent[np.argsort(names[frequent])]] = np.arange(len(frequent))
    columns = max(len(frequent), 1)
    what = f"{columns} columns of {column} for {len(text):,} videos"
    budgets.check_memory(4 * columns * len(text), what, "use KuaiRand-Pure")
    found = np.zeros((len(text), columns), np.float32)
    kept = place[code] >= 0
    found[rows[kept], place[code][kept]] = 1
    return found


def _days(time_ms: Any) -> Any:
    """Days since 1970 in China, of an Ibis column of milliseconds of UTC."""
    return ((time_ms + CHINA_MS) / DAY_MS).floor().cast("int64")


SOURCE = Source(
    layout=Layout("log_*", "user_id", "video_id", "time_ms", device="tab"),
    labels={
        "click": Label(("is_click",), lambda log: log["is_click"] == 1, planted=False),
        "long_view": Label(("long_view",), lambda log: log["long_view"] == 1, planted=False),
        "like": Label(("is_like",), lambda log: log["is_like"] == 1, planted=False),
    },
    min_rows=0,
    counts_all_rows=False,
    daily=True,
    catalogue=catalogue,
    generator=None,
    narrowed=True,
    components_per_file=False,
    time=_days,
)
