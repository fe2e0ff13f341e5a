"""TikTok's log and the features of its items, in lines of JSON; both tracks have one layout.

| modality | what an item has |
|---|---|
| visual, acoustic | 128 numbers each |
| textual | word ids of the title |
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmnet.checks import InputError
from mmnet.console import tracked
from mmnet.data import budgets
from mmnet.data.ledger import Rule
from mmnet.data.sources import reading, tiktok
from mmnet.data.sources.tiktok import TRACK_1, TRACK_2, Files
from mmnet.files import UNREADABLE
from mmnet.mma4ctr.data.generator.tiktok_files import tiktok_files
from mmnet.mma4ctr.data.modalities.raw import Catalogue, Raw
from mmnet.mma4ctr.data.pca import Ragged
from mmnet.mma4ctr.data.sources.source import Label, Layout, Source
from mmnet.schema import LARGEST_ENTRY

TITLE_WORD_BYTES = 16
"""Columns of a word of a title: its number as it is read, and in the titles of all items."""


def catalogue(
    directory: Path,
    item_ids: np.ndarray,
    text_set: Sequence[str] = (),
    *,
    files: Files = TRACK_1,
) -> Catalogue:
    """Reads the JSON lines of video, audio and title features, of the given items only.

    Of several lines of one item the last counts, as published. Vectors are read within
    `schema.LARGEST_ENTRY`, like all content vectors.

    Args:
        directory: directory of the files.
        item_ids: ids of the log, sorted.
        text_set: the user's settings of text files.
        files: names of the files.

    Raises:
        InputError: a missing file, a line of another layout, a vector of more than 128 numbers,
            a modality that no item has; a setting of text files for these files.
    """
    reading.refuse_text_set(text_set, ("items",))
    found, ledger, paths = {}, [], []
    for name, pattern, key in (
        ("visual", files.videos, tiktok.VIDEO_KEY),
        ("acoustic", files.audios, tiktok.AUDIO_KEY),
    ):
        parts = reading.find(directory, pattern, f"{name} features")
        found[name], rules = _vectors(parts, name, key, item_ids)
        ledger += rules
        paths += parts
    titles = reading.find(directory, files.titles, "titles")
    found["textual"], rule = _titles(titles, item_ids)
    ledger.append(rule)
    paths += titles
    for name, raw in found.items():
        if not raw.present.any():
            raise InputError(
                f"{directory}: the files of {name} features have none of the log's items"
            )
    return Catalogue(item_ids, found, ledger, paths)


def _places(item_ids: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which of the wanted are items, and their places."""
    place = np.minimum(np.searchsorted(item_ids, wanted), len(item_ids) - 1)
    mine = item_ids[place] == wanted
    return mine, place[mine]


def _vectors(
    paths: Sequence[Path], name: str, key: str, item_ids: np.ndarray
) -> tuple[Raw, list[Rule]]:
    width = tiktok.VECTOR_LENGTH
    vectors = np.zeros((len(item_ids), width), np.float32)
    part = np.full(len(item_ids), -1, np.int16)
    lines = known = short = 0
    for number, path in enumerate(tracked(paths, f"reading {name} features")):
        for first, block in tiktok.blocks(path):
            data = tiktok.read_json(path, first, block, key)
            lines += len(data)
            if data["item_id"].null_count:
                row = int(np.argmax(data["item_id"].is_null()))
                raise InputError(f"{path} line {_line(first, block, row)}: has no item_id")
            mine, place = _places(item_ids, data["item_id"].to_numpy())
            data = data.filter(pa.array(mine))
            known += len(data)
            if not len(data):
                continue
            lists = data[key].combine_chunks()
            lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
            if (lengths > width).any():
                row = int(np.argmax(lengths > width))
                line = _line(first, block, int(np.flatnonzero(mine)[row]))
                raise InputError(
                    f"{path} line {line}, key {key}: a vector of {lengths[row]} numbers where "
                    f"{width} are expected"
                )
            short += int((lengths < width).sum())
            flat = pc.list_flatten(lists).to_numpy(zero_copy_only=False)
            if not np.isfinite(flat).all():
                row = int(np.argmin(np.isfinite(flat)))
                row = int(np.searchsorted(np.cumsum(lengths), row, side="right"))
                line = _line(first, block, int(np.flatnonzero(mine)[row]))
                raise InputError(f"{path} line {line}, key {key}: must be numbers")
            filled = np.zeros((len(lengths), width), np.float32)
            flat = np.clip(flat, -LARGEST_ENTRY, LARGEST_ENTRY)
            filled[np.arange(width) < lengths[:, None]] = flat
            vectors[place], part[place] = filled, number
    present = part >= 0
    rules = [
        Rule(name, "is of an item of the log", lines, known, f"{short} short ones padded"),
        Rule(name, "is the item's last", known, int(present.sum())),
    ]
    return Raw(present, vectors=vectors, part=part), rules


def _line(first: int, block: Sequence[bytes], row: int) -> int:
    """The line of a block's row; empty lines are no rows."""
    return first + [number for number, line in enumerate(block) if line.strip()][row]


def _titles(paths: Sequence[Path], item_ids: np.ndarray) -> tuple[Raw, Rule]:
    """Word ids of titles, each as often as it was counted; an empty title reads 0."""
    import duckdb

    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    lines = words = 0
    for path in paths:
        with duckdb.connect() as connection:
            connection.execute("set preserve_insertion_order=true")
            relation = connection.read_json(
                str(path),
                columns={"item_id": "BIGINT", "title_features": "MAP(BIGINT, BIGINT)"},
                format="newline_delimited",
            )
            try:
                for batch in relation.to_arrow_reader(1 << 17):
                    lines += batch.num_rows
                    found = _words(batch, item_ids)
                    if found is None:
                        raise _wrong_title(path)
                    parts.append(found)
                    words += len(found[1])
                    what = f"{path}: {words:,} words of titles"
                    budgets.check_memory(TITLE_WORD_BYTES * words, what, "read fewer of the files")
            except duckdb.Error as error:
                raise _wrong_title(path, str(error)) from None
    if not parts:
        raise InputError(f"{paths[0]} has no rows")
    place, flat, length = (np.concatenate(one) for one in zip(*parts, strict=True))
    start = np.cumsum(length) - length
    last = np.full(len(item_ids), -1)
    last[place] = np.arange(len(place))  # of several the last is what stays
    present = last >= 0
    wanted = np.where(present, length[last], 0)
    offsets = np.append(0, np.cumsum(wanted))
    inside = np.arange(offsets[-1]) - np.repeat(offsets[:-1], wanted)
    values = flat[np.repeat(np.where(present, start[last], 0), wanted) + inside]
    rule = Rule("textual", "is an item's last", lines, int(present.sum()))
    return Raw(present, Ragged(values.astype(np.int32), offsets)), rule


def _words(
    batch: pa.RecordBatch, item_ids: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Places of items, words of all, and how many each has; None where the layout is wrong."""
    if batch["item_id"].null_count or batch["title_features"].null_count:
        return None
    mine, place = _places(item_ids, batch["item_id"].to_numpy())
    titles = batch["title_features"].filter(pa.array(mine))
    offsets = titles.offsets.to_numpy()
    words = titles.keys.to_numpy(zero_copy_only=False)[offsets[0] : offsets[-1]]
    counts = titles.items.to_numpy(zero_copy_only=False)[offsets[0] : offsets[-1]]
    bad = len(words) and (words.dtype.kind == "f" or counts.dtype.kind == "f")
    if bad or (len(words) and (min(words.min(), counts.min()) < 0 or words.max() >= 1 << 31)):
        return None
    if len(counts) and counts.max() > tiktok.MOST_WORDS:  # of one word alone, and sums may overflow
        return None
    totals = np.append(0, np.cumsum(counts))
    offsets = offsets - offsets[0]
    length = totals[offsets[1:]] - totals[offsets[:-1]]
    if len(length) and length.max() > tiktok.MOST_WORDS:
        return None
    flat = np.repeat(words, counts)
    empty = np.flatnonzero(length == 0)
    flat = np.insert(flat, totals[offsets[:-1]][empty], 0)
    return place, flat, np.maximum(length, 1)


def _wrong_title(path: Path, reason: str = "") -> InputError:
    """Finds the line at fault by a slow second look."""
    for first, block in tiktok.blocks(path):
        for line, text in enumerate(block, start=first):
            if not text.strip():
                continue
            try:
                entry = json.loads(text)
                pairs = [int(entry["item_id"])]
                pairs += [int(n) for pair in entry["title_features"].items() for n in pair]
                tiktok.check_title(path, line, entry["title_features"])
                right = min(pairs) >= 0
            except InputError as error:
                return error
            except UNREADABLE:
                right = False
            if not right:
                return InputError(
                    f"{path} line {line}: must be JSON with item_id and title_features, how often "
                    f"each word id is there. Received: {tiktok.shown(text)}"
                )
    return InputError(f"{path} is not readable as lines of JSON: {reason.splitlines()[0]}")


def _source(files: Files, min_rows: int) -> Source:
    return Source(
        layout=Layout(files.log, "uid", "item_id", "time", names=tiktok.COLUMNS, delimiter="\t"),
        labels={
            "like": Label(("like",), lambda log: log["like"] == 1),
            "finish": Label(("finish",), lambda log: log["finish"] == 1, planted=False),
        },
        min_rows=min_rows,
        counts_all_rows=True,
        daily=False,
        catalogue=functools.partial(catalogue, files=files),
        generator=tiktok_files,
        generated=(files,),
        narrowed=False,
        components_per_file=True,
    )


SOURCE = _source(TRACK_1, min_rows=4000)
# Track 2 was not published with this method: its users have fewer rows, so the threshold is lower.
SOURCE_2 = _source(TRACK_2, min_rows=100)
