"""What an item looks, sounds and reads like: raw modalities from files, tables from raw ones.

| modality | WeChat | TikTok |
|---|---|---|
| visual | words read off the pictures (`ocr`, else `ocr_char`) | 128 numbers |
| acoustic | characters of the speech (`asr_char`, else `asr`); singer; song | 128 numbers |
| textual | words of the description (else its characters); keywords; tags | word ids of the title |

Token ids are read as numbers, position by position, padded with zeros to the longest, and reduced
by principal components: as published, and no better than it sounds (see BUILD_NOTES.md).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from rich.progress import track

from mmnet.checks import InputError
from mmnet.data.sources import reading, tiktok
from mmnet.data.sources.reading import Scan
from mmnet.data.tables import Rule, Table
from mmnet.mma4ctr import pca
from mmnet.mma4ctr.config import MODALITIES
from mmnet.mma4ctr.pca import Ragged

FEEDS = "feed_info.csv"
_FEED_COLUMNS = (
    *("feedid", "description", "ocr", "asr", "bgm_song_id", "bgm_singer_id"),
    *("machine_keyword_list", "manual_tag_list", "machine_tag_list"),
    *("description_char", "ocr_char", "asr_char"),
)
SHOWN_FROM_BYTES = 500_000_000
"""Feature files of so many bytes in all take long enough to show how far reading is."""

ACOUSTIC_WIDTH = 10
"""TikTok's published number of acoustic components; the variance rule would keep 2."""


@dataclass(frozen=True)
class Raw:
    """One modality of all items as its files have it.

    Attributes:
        present: bool [items].
        tokens: sequences that principal components are taken of.
        vectors: float32 [items, 128], instead of tokens.
        part: number of the file that a vector came from, int16 [items].
        ids: whole numbers with an untrained random vector each, int64 [items].
        lists: sequences that are padded and taken as they are.
    """

    present: np.ndarray
    tokens: Ragged | None = None
    vectors: np.ndarray | None = None
    part: np.ndarray | None = None
    ids: tuple[np.ndarray, ...] = ()
    lists: tuple[Ragged, ...] = ()

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything by name, to be stored."""
        found = {"present": self.present}
        if self.tokens is not None:
            found |= {"tokens": self.tokens.values, "tokens_offsets": self.tokens.offsets}
        if self.vectors is not None and self.part is not None:
            found |= {"vectors": self.vectors, "part": self.part}
        for number, ids in enumerate(self.ids):
            found[f"ids{number}"] = ids
        for number, one in enumerate(self.lists):
            found |= {f"list{number}": one.values, f"list{number}_offsets": one.offsets}
        return found

    @classmethod
    def of(cls, arrays: dict[str, np.ndarray]) -> Raw:
        """The modality of stored arrays."""

        def ragged(name: str) -> Ragged | None:
            return Ragged(arrays[name], arrays[f"{name}_offsets"]) if name in arrays else None

        lists = (ragged(f"list{number}") for number in range(len(arrays)))
        return cls(
            arrays["present"],
            ragged("tokens"),
            arrays.get("vectors"),
            arrays.get("part"),
            tuple(arrays[f"ids{n}"] for n in range(len(arrays)) if f"ids{n}" in arrays),
            tuple(one for one in lists if one is not None),
        )


@dataclass(frozen=True)
class Catalogue:
    """Items and their raw modalities.

    Attributes:
        item_ids: int64, sorted.
        modalities: by name.
        ledger: what the rules did.
        paths: files read.
    """

    item_ids: np.ndarray
    modalities: dict[str, Raw]
    ledger: list[Rule] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)


# ------------------------------------------------------------------------------------ WeChat


def wechat(directory: Path) -> Catalogue:
    """Reads feed_info.csv; every feed has every modality, if only an empty one.

    Raises:
        InputError: a missing file or column, a token or id that is no whole number.
    """
    scan = Scan(
        reading.find(directory, FEEDS, "feeds"),
        _FEED_COLUMNS,
        "feeds",
        line_breaks=True,
        name="feeds",
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
            raise InputError(f"{scan.paths[0]}: no feed has anything {name}; a modality is empty")
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


# ------------------------------------------------------------------------------------ TikTok


def tiktok_features(directory: Path, item_ids: np.ndarray) -> Catalogue:
    """Reads the JSON lines of video, audio and title features, of the given items only.

    Of several lines of one item the last counts, as published.

    Args:
        directory: where the files are.
        item_ids: of the log, sorted.

    Raises:
        InputError: a missing file, a line of another layout, a vector of more than 128 numbers,
            a modality that no item has.
    """
    found, ledger, paths = {}, [], []
    for name, pattern, key in (
        ("visual", tiktok.VIDEOS, tiktok.VIDEO_KEY),
        ("acoustic", tiktok.AUDIOS, tiktok.AUDIO_KEY),
    ):
        files = reading.find(directory, pattern, f"{name} features")
        found[name], rules = _vectors(files, name, key, item_ids)
        ledger += rules
        paths += files
    files = reading.find(directory, tiktok.TITLES, "titles")
    found["textual"], rule = _titles(files, item_ids)
    ledger.append(rule)
    paths += files
    for name, raw in found.items():
        if not raw.present.any():
            raise InputError(f"{directory}: no item of the log is in the files of {name} features")
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
    shown = track(paths, f"reading {name} features", disable=_size(paths) < SHOWN_FROM_BYTES)
    for number, path in enumerate(shown):
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
            filled[np.arange(width) < lengths[:, None]] = flat
            vectors[place], part[place] = filled, number
    present = part >= 0
    rules = [
        Rule(name, "is of an item of the log", lines, known, f"{short} short ones padded"),
        Rule(name, "is the item's last", known, int(present.sum())),
    ]
    return Raw(present, vectors=vectors, part=part), rules


def _size(paths: Sequence[Path]) -> int:
    return sum(path.stat().st_size for path in paths)


def _line(first: int, block: Sequence[bytes], row: int) -> int:
    """The line of a block's row; empty lines are no rows."""
    return first + [number for number, line in enumerate(block) if line.strip()][row]


def _titles(paths: Sequence[Path], item_ids: np.ndarray) -> tuple[Raw, Rule]:
    """Word ids of titles, each as often as it was counted; an empty title reads 0."""
    import duckdb

    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    lines = 0
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
    totals = np.append(0, np.cumsum(counts))
    offsets = offsets - offsets[0]
    length = totals[offsets[1:]] - totals[offsets[:-1]]
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
                right = min(pairs) >= 0
            except (ValueError, KeyError, TypeError, AttributeError):
                right = False
            if not right:
                return InputError(
                    f"{path} line {line}: must be JSON with item_id and title_features, how often "
                    f"each word id is there. Received: {tiktok.shown(text)}"
                )
    return InputError(f"{path} is not readable as lines of JSON: {reason.splitlines()[0]}")


# ------------------------------------------------------------------------------------ tables


@dataclass(frozen=True)
class Reduction:
    """How raw modalities become tables.

    Attributes:
        variance: share that principal components keep.
        widths: numbers of components instead, by modality; those left out keep to the variance.
        per_part: vectors of each file get components of their own, as published; the tables of
            two files are then in different bases.
        rounded: components' scores to 4 decimals, as published.
        music: whether the random vectors of singer and song are part of the table.
    """

    variance: float = 0.9
    widths: dict[str, int] = field(default_factory=dict)
    per_part: bool = False
    rounded: bool = False
    music: bool = True

    def keep(self, modality: str) -> float | int:
        """What `pca.Moments.pca` takes."""
        return self.widths.get(modality, self.variance)


def table(name: str, raw: Raw, fit: np.ndarray, how: Reduction) -> np.ndarray:
    """One modality of all items as numbers, float32 [items, width]; absent items are zero.

    Args:
        name: of the modality.
        raw: its files' content.
        fit: bool [items], those that statistics are fitted to.
        how: see `Reduction`.

    Raises:
        InputError: no item to fit to.
    """
    there = np.flatnonzero(raw.present)
    chosen = np.flatnonzero(raw.present & fit)
    if not len(chosen):
        raise InputError(f"no item of the training rows has a {name} modality; nothing to fit")
    if raw.tokens is not None:
        fitted = pca.fit_ragged(raw.tokens, chosen, how.keep(name))
        scores = pca.transform_ragged(fitted, raw.tokens, there)
    else:
        scores = _reduced_vectors(name, raw, chosen, there, how)
    parts = [_rounded(scores, how.rounded)]
    if how.music:
        parts += [_random_vectors(ids, number) for number, ids in enumerate(raw.ids)]
    for one in raw.lists:
        width = max(int(one.lengths[chosen].max(initial=0)), 1)
        parts.append(one.dense(np.arange(len(one)), width))
    found = np.concatenate(parts, axis=1).astype(np.float32)
    found[~raw.present] = 0
    return found


def _reduced_vectors(
    name: str, raw: Raw, chosen: np.ndarray, there: np.ndarray, how: Reduction
) -> np.ndarray:
    assert raw.vectors is not None
    assert raw.part is not None
    keep = how.keep(name)
    if name == "acoustic" and name not in how.widths:
        keep = ACOUSTIC_WIDTH
    if not how.per_part:
        return pca.transform_dense(pca.fit_dense(raw.vectors, chosen, keep), raw.vectors, there)
    scores = None
    for part in np.unique(raw.part[there]):
        mine = there[raw.part[there] == part]
        fitting = chosen[raw.part[chosen] == part]
        fitted = pca.fit_dense(raw.vectors, fitting if len(fitting) else mine, keep)
        found = pca.transform_dense(fitted, raw.vectors, mine)
        if scores is None:
            scores = found
            keep = found.shape[1]  # what the first file's variance asks for holds for all
        else:
            scores[mine] = found[mine]
    assert scores is not None
    return scores


def _rounded(values: np.ndarray, rounded: bool) -> np.ndarray:
    return values.round(4) if rounded else values


def _random_vectors(ids: np.ndarray, number: int) -> np.ndarray:
    """Standard normal vectors, one per distinct id; never trained. float64 [items, width].

    The width is min(64, the fourth root of the number of distinct ids).
    """
    distinct, place = np.unique(ids, return_inverse=True)
    width = music_width(len(distinct))
    draw = np.random.default_rng([2024, number])
    return draw.standard_normal((len(distinct), width))[place]


def music_width(distinct: int) -> int:
    """Width of the random vectors of so many distinct ids.

    >>> music_width(14_641), music_width(20_735), music_width(20_736)
    (11, 11, 12)
    """
    width = round(distinct**0.25)
    width -= width**4 > distinct
    return min(64, max(width, 1))


def tables(raws: dict[str, Raw], fit: np.ndarray, how: Reduction) -> dict[str, np.ndarray]:
    """`table` of all three modalities."""
    return {name: table(name, raws[name], fit, how) for name in MODALITIES}
