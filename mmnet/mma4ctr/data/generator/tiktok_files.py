"""A log of TikTok's layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmnet import checks
from mmnet.data.sources import tiktok
from mmnet.data.sources.tiktok import TRACK_1, Files
from mmnet.mma4ctr.data.generator.plays import plays, stream
from mmnet.mma4ctr.data.generator.truth import TRUTH, Truth
from mmnet.mma4ctr.data.generator.writing import joined, write_csv, write_lines


def tiktok_files(
    directory: Path,
    files: Files = TRACK_1,
    *,
    users: int = 336,
    items: int = 60_922,
    rows: int = 172_457,
    rate: float = 0.01606,
    finish_rate: float = 0.2831,
    user_dispersion: float = 0.5,
    taste_sd: float = 0.5,
    item_sd: float = 0.5,
    exposure_sd: float = 0.7,
    topics: int = 12,
    activity_sd: float = 0.25,
    video_parts: int = 11,
    audio_parts: int = 4,
    ugly: bool = True,
    seed: int = 0,
) -> Truth:
    """Write a track's log, the features' JSON lines and the truth behind them.

    The defaults are 1/50 of the rows and items that the method keeps, and a fifth of its users.

    Args:
        directory: made if need be.
        files: names of the files; those of features end in `features_part<number>.txt`.
        users: number of users.
        items: number of items.
        rows: number of plays, before repeated ones are added.
        rate: share of plays that are liked.
        finish_rate: share of plays that are finished; users differ in it as in likes.
        user_dispersion: see `wechat_files`, also for all arguments that are not named here.
        taste_sd: sd of a user's taste for a topic, on the log scale.
        item_sd: sd of an item's appeal, on the log scale.
        exposure_sd: how unlike the topics are that users see.
        topics: number of topics.
        activity_sd: sd of the log of a user's number of rows.
        video_parts: number of files.
        audio_parts: number of files.
        ugly: whether to include the irregularities of the real files.
        seed: repeats the same files.

    Raises:
        ValueError: an option is out of range.
    """
    checks.in_range(0, 1, finish_rate=finish_rate)
    checks.at_least(1, video_parts=video_parts)
    checks.at_least(1, audio_parts=audio_parts)
    truth, shown = plays(
        users=users,
        items=items,
        rows=rows,
        rate=rate,
        user_dispersion=user_dispersion,
        taste_sd=taste_sd,
        item_sd=item_sd,
        exposure_sd=exposure_sd,
        topics=topics,
        activity_sd=activity_sd,
        ugly=ugly,
        seed=seed,
    )
    draw = stream(seed, "plays")
    number = len(shown.user)
    finishing = finish_rate * truth.user_factor / truth.user_factor.mean()
    finish = draw.random(number) < np.clip(finishing, 0, 0.95)[shown.user]
    author = draw.integers(0, max(items // 20, 1), items)
    music = np.where(draw.random(items) < 0.3, -1, draw.integers(0, 500, items))
    columns = {
        "uid": truth.user_ids[shown.user],
        "user_city": draw.integers(-1, 300, users)[shown.user],
        "item_id": truth.item_ids[shown.item],
        "author_id": author[shown.item],
        "item_city": draw.integers(-1, 300, items)[shown.item],
        "channel": draw.integers(0, 4, number),
        "finish": finish.astype(np.int64),
        "like": shown.positive.astype(np.int64),
        "music_id": music[shown.item],
        "device": shown.device + 100 * draw.integers(1, 400, users)[shown.user],
        "time": 53_000_000_000 + draw.integers(0, 86_400 * 60, number),
        "duration_time": draw.integers(5, 60, items)[shown.item],
    }
    order = draw.permutation(number)
    log = pa.table({name: columns[name][order] for name in tiktok.COLUMNS})
    write_csv(directory / files.log, log, delimiter="\t", header=False)

    centre = stream(seed, "centres").normal(size=(2, topics, tiktok.VECTOR_LENGTH))
    parts = (
        ("video", files.videos, tiktok.VIDEO_KEY, video_parts, 0.95, 1.0),
        ("audio", files.audios, tiktok.AUDIO_KEY, audio_parts, 0.9, 0.3),
    )
    for kind, (name, pattern, key, number, coverage, width) in enumerate(parts):
        draw = stream(seed, name)
        noise = width * draw.normal(size=(items, tiktok.VECTOR_LENGTH))
        vectors = (centre[kind, truth.topic] + noise).astype(np.float32).round(4)
        there = draw.random(items) < (coverage if ugly else 1)
        lengths = np.full(items, tiktok.VECTOR_LENGTH)
        if ugly:
            lengths[draw.random(items) < 0.01] = 100
            lengths[draw.random(items) < 0.01] = 0
        file_of = draw.integers(0, number, items)
        for part in range(number):
            chosen = np.flatnonzero(there & (file_of == part))
            again = chosen[:2] if ugly else chosen[:0]  # an item that comes a second time
            _write_vectors(
                directory / pattern.replace("*", f"features_part{part + 1}"),
                truth.item_ids,
                np.concatenate([chosen, again]),
                vectors,
                lengths,
                key,
            )
    _write_titles(directory / files.titles, truth, topics, ugly, seed)
    truth.write(directory / TRUTH)
    return truth


def _write_vectors(path, item_ids, chosen, vectors, lengths, key) -> None:
    wanted = lengths[chosen]
    inside = np.arange(vectors.shape[1]) < wanted[:, None]
    offsets = np.append(0, np.cumsum(wanted)).astype(np.int32)
    lists = pa.ListArray.from_arrays(pa.array(offsets), pa.array(vectors[chosen][inside]))
    ids = pa.array(item_ids[chosen]).cast(pa.string())
    lines = pc.binary_join_element_wise(
        '{"item_id": ', ids, f', "{key}": [', joined(lists, ", "), "]}\n", ""
    )
    write_lines(path, lines)


def _write_titles(path: Path, truth: Truth, topics: int, ugly: bool, seed: int) -> None:
    draw = stream(seed, "titles")
    number = len(truth.item_ids)
    chosen = np.flatnonzero(draw.random(number) < (0.97 if ugly else 1))
    lengths = draw.integers(1, 12, len(chosen))
    if ugly:
        lengths[draw.random(len(chosen)) < 0.02] = 0  # an empty title: {}
    offsets = np.append(0, np.cumsum(lengths)).astype(np.int32)
    first = np.repeat(offsets[:-1], lengths)
    start = np.repeat(truth.topic[chosen] * 2000, lengths)
    # Steps of 1 to 160 on from the topic's band: word ids of one title differ, as keys must.
    steps = np.cumsum(draw.integers(1, 160, offsets[-1]))
    words = pa.array(start + steps - np.append(0, steps)[first]).cast(pa.string())
    counts = pa.array(1 + (draw.random(offsets[-1]) < 0.1)).cast(pa.string())
    entries = pc.binary_join_element_wise('"', words, '": ', counts, "")
    lists = pa.ListArray.from_arrays(pa.array(offsets), entries)
    lines = pc.binary_join_element_wise(
        '{"item_id": ',
        pa.array(truth.item_ids[chosen]).cast(pa.string()),
        ', "title_features": {',
        pc.binary_join(lists, ", "),
        "}}\n",
        "",
    )
    write_lines(path, lines)
