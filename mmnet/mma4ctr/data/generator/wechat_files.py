"""A log of WeChat's layout."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmnet import checks
from mmnet.data.sources import wechat
from mmnet.mma4ctr.data.generator.plays import plays, stream
from mmnet.mma4ctr.data.generator.truth import TRUTH, Truth
from mmnet.mma4ctr.data.generator.writing import joined, matrix, write_csv
from mmnet.mma4ctr.data.weighted_label import LEAST_SCORE, WEIGHTS

RATES = {
    "read_comment": 1 / 26.87,
    "like": 1 / 37.491,
    "click_avatar": 1 / 125.931,
    "forward": 1 / 237.349,
    "favorite": 1 / 716.507,
    "comment": 1 / 2407.245,
    "follow": 1 / 1356.267,
}
"""Share of plays with each behaviour in the contest's data."""


ACTIONS = (
    *("userid", "feedid", "date_", "device", "read_comment", "comment", "like", "play", "stay"),
    *("click_avatar", "forward", "follow", "favorite"),
)


_FEED_COLUMNS = (
    *("feedid", "authorid", "videoplayseconds", "description", "ocr", "asr", "bgm_song_id"),
    *("bgm_singer_id", "manual_keyword_list", "machine_keyword_list", "manual_tag_list"),
    *("machine_tag_list", "description_char", "ocr_char", "asr_char"),
)


_LENGTHS = {  # the longest, the median, number of words or characters
    "description": (622, 14, 120_000),
    "ocr": (5198, 60, 120_000),
    "asr": (900, 90, 120_000),
    "description_char": (622, 20, 20_000),
    "ocr_char": (5198, 100, 20_000),
    "asr_char": (1401, 150, 20_000),
}


_EMPTY = {
    **{"description": 0.05, "ocr": 0.1, "asr": 0.25, "description_char": 0.04},
    **{"ocr_char": 0.5, "asr_char": 0.2, "music": 0.4, "manual_keyword_list": 0.3},
    **{"machine_keyword_list": 0.2, "manual_tag_list": 0.1, "machine_tag_list": 0.15},
}


def wechat_files(
    directory: Path,
    *,
    users: int = 400,
    feeds: int = 2129,
    rows: int = 146_358,
    rate: float = 0.002563,
    user_dispersion: float = 0.3,
    taste_sd: float = 0.8,
    item_sd: float = 0.5,
    exposure_sd: float = 0.7,
    topics: int = 12,
    activity_sd: float = 1.0,
    text_scale: float = 0.16,
    texts_tell: bool = True,
    embeddings: bool = False,
    ugly: bool = True,
    seed: int = 0,
) -> Truth:
    """Write user_action.csv, feed_info.csv and the truth behind them, TRUTH.

    The defaults are 1/50 of the contest's size. Sequences are up to `text_scale` times as long as
    the contest's (5198 words of OCR, 1401 of ASR, 622 of description).

    Args:
        directory: made if need be.
        users: number of users, of which about a fifth have fewer than 100 rows.
        feeds: number of feeds; every eleventh is in no play.
        rows: number of plays, before repeated ones are added.
        rate: share of positives.
        user_dispersion: r; 0 = all users alike, 0.1 = very unlike.
        taste_sd: sd of a user's taste for a topic, on the log scale.
        item_sd: sd of an item's appeal, on the log scale.
        exposure_sd: how unlike the topics are that users see.
        topics: number of topics.
        activity_sd: sd of the log of a user's number of rows.
        text_scale: factor of the lengths of texts.
        texts_tell: whether an item's texts depend on its topic.
        embeddings: whether to write feed_embeddings.csv too, which the method never reads.
        ugly: whether to include the irregularities of the real files.
        seed: repeats the same files.

    Raises:
        ValueError: an option is out of range.
    """
    checks.in_range(0.001, 1, text_scale=text_scale)
    truth, shown = plays(
        users=users,
        items=feeds,
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
    draw = stream(seed, "actions")
    number = len(shown.user)
    day = draw.integers(1, 15, number)
    # Rows of one user are in time order; users come in no order.
    order = np.lexsort((draw.random(number), day, draw.permutation(users)[shown.user]))
    behaviours = _behaviours(draw, shown.positive)
    play = draw.integers(0, 60_000, number)
    columns = {
        "userid": truth.user_ids[shown.user],
        "feedid": truth.item_ids[shown.item],
        "date_": day,
        "device": shown.device,
        "play": play,
        "stay": play + draw.integers(0, 5_000, number),
        **behaviours,
    }
    actions = pa.table({name: columns[name][order] for name in ACTIONS})
    write_csv(directory / "user_action.csv", actions)
    write_csv(directory / "feed_info.csv", _feeds(truth, topics, text_scale, texts_tell, seed))
    if embeddings:
        values = stream(seed, "embeddings").normal(size=(feeds, wechat.EMBEDDING_LENGTH))
        text = joined(matrix(values.astype(np.float32).round(4)), " ")
        table = pa.table({"feedid": truth.item_ids, "feed_embedding": text})
        write_csv(directory / wechat.EMBEDDINGS, table)
    truth.write(directory / TRUTH)
    return truth


def _behaviours(draw: np.random.Generator, positive: np.ndarray) -> dict[str, np.ndarray]:
    """Seven behaviours whose weighted sum is LEAST_SCORE or more exactly where it should be."""
    names = list(WEIGHTS)
    patterns = (np.arange(128)[:, None] >> np.arange(7)) & 1  # [128, 7]
    rates = np.array([RATES[name] for name in names])
    chance = np.prod(np.where(patterns, rates, 1 - rates), axis=1)
    high = patterns @ np.array([WEIGHTS[name] for name in names]) >= LEAST_SCORE
    chosen = np.empty(len(positive), np.int64)
    for value in (False, True):
        rows = np.flatnonzero(positive == value)
        weights = chance * (high == value)
        ends = np.cumsum(weights / weights.sum())
        chosen[rows] = np.searchsorted(ends, draw.random(len(rows)) * ends[-1], side="right")
    return {name: patterns[chosen, place] for place, name in enumerate(names)}


def _feeds(truth: Truth, topics: int, scale: float, tell: bool, seed: int) -> pa.Table:
    """feed_info.csv; missing values are part of its layout, not only of the ugly cases."""
    number = len(truth.item_ids)
    draw = stream(seed, "feeds")
    topic = truth.topic if tell else draw.integers(0, topics, number)
    text = partial(_text, topic=topic, topics=topics, scale=scale)
    empty = {name: draw.random(number) < part for name, part in _EMPTY.items()}
    columns = {"feedid": pa.array(truth.item_ids)}
    columns["authorid"] = pa.array(draw.integers(0, max(number // 6, 1), number))
    columns["videoplayseconds"] = pa.array(draw.integers(5, 61, number))
    for name, (longest, median, words) in _LENGTHS.items():
        columns[name] = text(stream(seed, name), empty[name], longest, median, words)
    song = draw.zipf(1.3, number) % 25_000
    singer = draw.zipf(1.3, number) % 17_000
    for name, ids in (("bgm_song_id", song), ("bgm_singer_id", singer)):
        written = pc.binary_join_element_wise(pa.array(ids).cast(pa.string()), ".0", "")
        columns[name] = pc.if_else(pa.array(empty["music"]), "", written)
    for name in wechat.LISTS:
        columns[name] = _list(stream(seed, name), name, empty[name], topic)
    return pa.table({name: columns[name] for name in _FEED_COLUMNS})


def _text(draw, empty, longest, median, words, *, topic, topics, scale) -> pa.Array:
    """Token ids between spaces; a topic has a band of ids of its own, used half of the time."""
    longest, median = max(int(longest * scale), 4), max(median * scale, 2)
    lengths = np.exp(np.log(median) + 1.1 * draw.normal(size=len(topic)))
    lengths = np.clip(lengths, 1, longest).astype(np.int64)
    lengths[draw.integers(0, len(topic))] = longest
    lengths[empty] = 0
    offsets = np.append(0, np.cumsum(lengths))
    owner = np.repeat(topic, lengths)
    band = words // topics
    common = (words * draw.random(offsets[-1]) ** 3).astype(np.int64)
    own = owner * band + draw.integers(0, band, offsets[-1])
    tokens = np.where(draw.random(offsets[-1]) < 0.5, own, common) + 1
    lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(tokens))
    return joined(lists, " ")


def _list(draw, name: str, empty: np.ndarray, topic: np.ndarray) -> pa.Array:
    """Entries between semicolons; those of machine_tag_list have a probability."""
    most = 14 if "tag" in name else 16
    lengths = np.minimum(1 + draw.poisson(3, len(topic)), most)
    lengths[draw.integers(0, len(topic))] = most
    lengths[empty] = 0
    offsets = np.append(0, np.cumsum(lengths))
    ids = np.repeat(topic, lengths) * 30 + draw.integers(0, 40, offsets[-1])
    entries = pa.array(ids).cast(pa.string())
    if name == "machine_tag_list":
        chances = pa.array(draw.random(offsets[-1]).astype(np.float32)).cast(pa.string())
        entries = pc.binary_join_element_wise(entries, chances, " ")
    lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), entries)
    return pc.binary_join(lists, ";")
