"""Logs in the publishers' exact layouts whose click probabilities are known.

The probability of a positive is planted:

    P(y = 1 | user, item) = rate · g_user · exp(taste[user, topic of item] + appeal[item]) / norm

with g_user ~ Gamma(r, 1/r) (r = `user_dispersion`; 0 makes all users alike). With `taste_sd` and
`item_sd` at 0 nothing about an item tells anything. What users see follows topics that they prefer,
whatever they click. An item's texts and vectors tell its topic. So a score splits into what a
method learned of users, of items and of taste, and what it was told by a leak.

Ugly cases of the real files are there too: empty texts whose other column is filled, both empty,
ids written as floats, repeated rows, a pair with both labels, users with several devices, users
with few rows, items nobody saw, vectors too short or empty, items that lack a modality.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from mmnet import checks
from mmnet.checks import InputError
from mmnet.data.sources import tiktok, wechat
from mmnet.files import write_atomic

WEIGHTS = {
    "read_comment": 4,
    "like": 3,
    "click_avatar": 2,
    "forward": 1,
    "favorite": 1,
    "comment": 1,
    "follow": 1,
}
"""What WeChat's behaviours weigh in the label, most first; they sum to 13."""

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

LEAST_SCORE = 7
TRUTH = "truth.npz"
ACTIONS = (
    *("userid", "feedid", "date_", "device", "read_comment", "comment", "like", "play", "stay"),
    *("click_avatar", "forward", "follow", "favorite"),
)


@dataclass(frozen=True)
class Truth:
    """What generated a log.

    Attributes:
        user_ids, item_ids: sorted.
        user_factor: g, [users].
        taste: [users, topics].
        topic, appeal: [items].
        scale: rate / norm.
    """

    user_ids: np.ndarray
    item_ids: np.ndarray
    user_factor: np.ndarray
    taste: np.ndarray
    topic: np.ndarray
    appeal: np.ndarray
    scale: float

    def probability(self, user_ids: np.ndarray, item_ids: np.ndarray) -> np.ndarray:
        """P(y = 1) of pairs, float64 [pairs]."""
        user = np.searchsorted(self.user_ids, user_ids)
        item = np.searchsorted(self.item_ids, item_ids)
        return self.of_codes(user, item)

    def of_codes(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        """The same of places in `user_ids` and `item_ids`."""
        logarithm = self.taste[user, self.topic[item]] + self.appeal[item]
        return np.minimum(self.scale * self.user_factor[user] * np.exp(logarithm), 0.95)

    def write(self, path: Path) -> None:
        """Writes it beside the files."""
        write_atomic(path, lambda beside: np.savez(beside, **self.__dict__))

    @classmethod
    def read(cls, path: Path) -> Truth:
        """Reads it back."""
        with np.load(path, allow_pickle=False) as stored:
            return cls(**{name: stored[name] for name in stored.files})


@dataclass(frozen=True)
class _Plays:
    user: np.ndarray  # place in truth.user_ids, [rows]
    item: np.ndarray
    positive: np.ndarray
    device: np.ndarray


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
    """Writes user_action.csv, feed_info.csv and what generated them, TRUTH.

    The defaults are 1/50 of the contest's size. Sequences are up to `text_scale` times as long as
    the contest's (5198 words of OCR, 1401 of ASR, 622 of description).

    Args:
        directory: made if need be.
        users: number of users, of which about a fifth have fewer than 100 rows.
        feeds: number of feeds; every eleventh is in no play.
        rows: number of plays, before repeated ones are added.
        rate: share of positives.
        user_dispersion: r; 0 = all users alike, 0.1 = very unlike.
        taste_sd: of a user's taste for a topic, on the log scale.
        item_sd: of an item's appeal, on the log scale.
        exposure_sd: how unlike the topics are that users see.
        topics: number of topics.
        activity_sd: of the log of a user's number of rows.
        text_scale: of the lengths of texts.
        texts_tell: whether an item's texts depend on its topic.
        embeddings: whether to write feed_embeddings.csv too, which the method never reads.
        ugly: whether the ugly cases are there.
        seed: repeats the same files.

    Raises:
        ValueError: an option is out of range.
    """
    _check(users, feeds, rows, rate, user_dispersion, topics, text_scale)
    directory.mkdir(parents=True, exist_ok=True)
    truth, plays = _plays(
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
    draw = _stream(seed, "actions")
    number = len(plays.user)
    day = draw.integers(1, 15, number)
    # Rows of one user are in time order; users come in no order.
    order = np.lexsort((draw.random(number), day, draw.permutation(users)[plays.user]))
    behaviours = _behaviours(draw, plays.positive)
    play = draw.integers(0, 60_000, number)
    columns = {
        "userid": truth.user_ids[plays.user],
        "feedid": truth.item_ids[plays.item],
        "date_": day,
        "device": plays.device,
        "play": play,
        "stay": play + draw.integers(0, 5_000, number),
        **behaviours,
    }
    actions = pa.table({name: columns[name][order] for name in ACTIONS})
    _write_csv(directory / "user_action.csv", actions)
    _write_csv(directory / "feed_info.csv", _feeds(truth, topics, text_scale, texts_tell, seed))
    if embeddings:
        values = _stream(seed, "embeddings").normal(size=(feeds, wechat.EMBEDDING_LENGTH))
        text = _joined(_matrix(values.astype(np.float32).round(4)), " ")
        table = pa.table({"feedid": truth.item_ids, "feed_embedding": text})
        _write_csv(directory / wechat.EMBEDDINGS, table)
    truth.write(directory / TRUTH)
    return truth


def tiktok_files(
    directory: Path,
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
    """Writes final_track1_train.txt, the features' JSON lines and what generated them.

    The defaults are 1/50 of the rows and items that the method keeps, and a fifth of its users.

    Args:
        directory: made if need be.
        users: number of users.
        items: number of items.
        rows: number of plays, before repeated ones are added.
        rate: share of plays that are liked.
        finish_rate: share of plays that are finished; users differ in it as in likes.
        user_dispersion: see `wechat_files`, as for what is not named here.
        taste_sd: of a user's taste for a topic, on the log scale.
        item_sd: of an item's appeal, on the log scale.
        exposure_sd: how unlike the topics are that users see.
        topics: number of topics.
        activity_sd: of the log of a user's number of rows.
        video_parts: number of files.
        audio_parts: number of files.
        ugly: whether the ugly cases are there.
        seed: repeats the same files.

    Raises:
        ValueError: an option is out of range.
    """
    _check(users, items, rows, rate, user_dispersion, topics, 1)
    checks.in_range(0, 1, finish_rate=finish_rate)
    checks.at_least(1, video_parts=video_parts)
    checks.at_least(1, audio_parts=audio_parts)
    directory.mkdir(parents=True, exist_ok=True)
    truth, plays = _plays(
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
    draw = _stream(seed, "plays")
    number = len(plays.user)
    finishing = finish_rate * truth.user_factor / truth.user_factor.mean()
    finish = draw.random(number) < np.clip(finishing, 0, 0.95)[plays.user]
    author = draw.integers(0, max(items // 20, 1), items)
    music = np.where(draw.random(items) < 0.3, -1, draw.integers(0, 500, items))
    columns = {
        "uid": truth.user_ids[plays.user],
        "user_city": draw.integers(-1, 300, users)[plays.user],
        "item_id": truth.item_ids[plays.item],
        "author_id": author[plays.item],
        "item_city": draw.integers(-1, 300, items)[plays.item],
        "channel": draw.integers(0, 4, number),
        "finish": finish.astype(np.int64),
        "like": plays.positive.astype(np.int64),
        "music_id": music[plays.item],
        "device": plays.device + 100 * draw.integers(1, 400, users)[plays.user],
        "time": 53_000_000_000 + draw.integers(0, 86_400 * 60, number),
        "duration_time": draw.integers(5, 60, items)[plays.item],
    }
    order = draw.permutation(number)
    log = pa.table({name: columns[name][order] for name in tiktok.COLUMNS})
    _write_csv(directory / tiktok.LOG, log, delimiter="\t", header=False)

    centre = _stream(seed, "centres").normal(size=(2, topics, tiktok.VECTOR_LENGTH))
    parts = (
        ("video", tiktok.VIDEO_KEY, video_parts, 0.95, 1.0),
        ("audio", tiktok.AUDIO_KEY, audio_parts, 0.9, 0.3),
    )
    for kind, (name, key, files, coverage, width) in enumerate(parts):
        draw = _stream(seed, name)
        noise = width * draw.normal(size=(items, tiktok.VECTOR_LENGTH))
        vectors = (centre[kind, truth.topic] + noise).astype(np.float32).round(4)
        there = draw.random(items) < (coverage if ugly else 1)
        lengths = np.full(items, tiktok.VECTOR_LENGTH)
        if ugly:
            lengths[draw.random(items) < 0.01] = 100
            lengths[draw.random(items) < 0.01] = 0
        file_of = draw.integers(0, files, items)
        for part in range(files):
            chosen = np.flatnonzero(there & (file_of == part))
            again = chosen[:2] if ugly else chosen[:0]  # an item that comes a second time
            _write_vectors(
                directory / f"track1_{name}_features_part{part + 1}.txt",
                truth.item_ids,
                np.concatenate([chosen, again]),
                vectors,
                lengths,
                key,
            )
    _write_titles(directory / tiktok.TITLES, truth, topics, ugly, seed)
    truth.write(directory / TRUTH)
    return truth


GENERATORS: dict[str, Callable[..., Truth]] = {"wechat": wechat_files, "tiktok": tiktok_files}


def _check(users, items, rows, rate, user_dispersion, topics, text_scale) -> None:
    checks.at_least(2, users=users)
    checks.at_least(2, items=items)
    checks.at_least(1, rows=rows)
    checks.in_range(0, 1, rate=rate)
    checks.at_least(0, user_dispersion=user_dispersion)
    checks.at_least(1, topics=topics)
    checks.in_range(0.001, 1, text_scale=text_scale)


def _stream(seed: int, name: str) -> np.random.Generator:
    """A stream of its own per kind of draw: one more of one kind moves no other."""
    return np.random.default_rng([seed, *name.encode()])


# ------------------------------------------------------------------------------------ plays


def _plays(
    *,
    users,
    items,
    rows,
    rate,
    user_dispersion,
    taste_sd,
    item_sd,
    exposure_sd,
    topics,
    activity_sd,
    ugly,
    seed,
) -> tuple[Truth, _Plays]:
    draw = _stream(seed, "truth")
    factor = np.ones(users)
    if user_dispersion:
        factor = draw.gamma(user_dispersion, 1 / user_dispersion, users)
    ids = _stream(seed, "ids")
    drawn: dict[str, Any] = {
        "user_ids": np.sort(ids.choice(20 * users, users, replace=False)),
        "item_ids": np.sort(ids.choice(4 * items, items, replace=False)),
        "user_factor": factor,
        "taste": taste_sd * draw.normal(size=(users, topics)),
        "topic": draw.integers(0, topics, items),
        "appeal": item_sd * draw.normal(size=items),
    }
    activity = np.exp(activity_sd * draw.normal(size=users))
    per_user = draw.multinomial(rows, activity / activity.sum())
    user = np.repeat(np.arange(users), np.minimum(per_user, items // 2))
    liked = np.exp(exposure_sd * draw.normal(size=(users, topics)))
    item = _exposures(draw, user, drawn["topic"], liked)
    for _ in range(5):  # what a user has seen is hardly ever shown again
        again = _repeated(user * items + item)
        item[again] = _exposures(draw, user[again], drawn["topic"], liked)
    rows = len(user)

    relative = factor[user] * np.exp(drawn["taste"][user, drawn["topic"][item]])
    mean = float(np.mean(relative * np.exp(drawn["appeal"][item])))
    truth = Truth(**drawn, scale=rate / mean)
    positive = draw.random(rows) < truth.of_codes(user, item)

    extra = _stream(seed, "ugly")
    own_device = extra.integers(1, 3, users)
    device = own_device[user]
    if ugly:
        other = extra.random(rows) < 0.02
        device = np.where(other, 3 - device, device)
        again = extra.integers(0, rows, max(rows // 200, 1))  # repeated rows
        both = extra.integers(0, rows, max(rows // 2000, 1))  # a pair that is there anew
        fresh = extra.random(len(both)) < truth.of_codes(user[both], item[both])
        user, item = (np.concatenate([x, x[again], x[both]]) for x in (user, item))
        device = np.concatenate([device, device[again], device[both]])
        positive = np.concatenate([positive, positive[again], fresh])
    return truth, _Plays(user, item, positive, device)


def _repeated(key: np.ndarray) -> np.ndarray:
    """Places of all but the first of equal keys."""
    order = np.argsort(key, kind="stable")
    return order[1:][key[order[1:]] == key[order[:-1]]]


def _exposures(draw, user, topic, liked) -> np.ndarray:
    """What is shown: a topic that the user prefers, and a popular item of it."""
    topics = liked.shape[1]
    seen = np.arange(len(topic)) % 11 != 10  # every eleventh item is never shown
    amount = np.bincount(topic[seen], minlength=topics)
    liked = np.cumsum(liked * (amount > 0), axis=1)
    liked /= liked[:, -1:]
    chosen = np.empty(len(user), np.int32)
    for start in range(0, len(user), 1 << 20):
        part = slice(start, start + (1 << 20))
        chosen[part] = (draw.random(len(user[part]))[:, None] > liked[user[part]]).sum(axis=1)
    # Popularity is an item's own: the same in every call.
    rank = np.random.default_rng(len(topic)).permutation(len(topic))
    weight = (1.0 + rank) ** -0.5 * seen
    item = np.empty(len(user), np.int64)
    for number in range(topics):
        rows, mine = np.flatnonzero(chosen == number), np.flatnonzero((topic == number) & seen)
        if len(rows):
            ends = np.cumsum(weight[mine])
            at = np.searchsorted(ends, draw.random(len(rows)) * ends[-1], side="right")
            item[rows] = mine[np.minimum(at, len(mine) - 1)]
    return item


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


# ------------------------------------------------------------------------------------ texts


def _feeds(truth: Truth, topics: int, scale: float, tell: bool, seed: int) -> pa.Table:
    """feed_info.csv; missing values are part of its layout, not only of the ugly cases."""
    number = len(truth.item_ids)
    draw = _stream(seed, "feeds")
    topic = truth.topic if tell else draw.integers(0, topics, number)
    text = partial(_text, topic=topic, topics=topics, scale=scale)
    empty = {name: draw.random(number) < part for name, part in _EMPTY.items()}
    columns = {"feedid": pa.array(truth.item_ids)}
    columns["authorid"] = pa.array(draw.integers(0, max(number // 6, 1), number))
    columns["videoplayseconds"] = pa.array(draw.integers(5, 61, number))
    for name, (longest, median, words) in _LENGTHS.items():
        columns[name] = text(_stream(seed, name), empty[name], longest, median, words)
    song = draw.zipf(1.3, number) % 25_000
    singer = draw.zipf(1.3, number) % 17_000
    for name, ids in (("bgm_song_id", song), ("bgm_singer_id", singer)):
        written = pc.binary_join_element_wise(pa.array(ids).cast(pa.string()), ".0", "")
        columns[name] = pc.if_else(pa.array(empty["music"]), "", written)
    for name in wechat.LISTS:
        columns[name] = _list(_stream(seed, name), name, empty[name], topic)
    return pa.table({name: columns[name] for name in _FEED_COLUMNS})


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
    return _joined(lists, " ")


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


def _joined(lists: pa.ListArray, separator: str) -> pa.Array:
    words = lists.values.cast(pa.string())
    return pc.binary_join(pa.ListArray.from_arrays(lists.offsets, words), separator)


def _matrix(values: np.ndarray) -> pa.ListArray:
    offsets = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.ravel()))


# ------------------------------------------------------------------------------------ files


def _write_csv(path: Path, table: pa.Table, *, delimiter: str = ",", header: bool = True) -> None:
    options = pa.csv.WriteOptions(
        include_header=header, delimiter=delimiter, quoting_style="none", quoting_header="none"
    )
    write_atomic(path, lambda beside: pa.csv.write_csv(table, beside, options))


def _write_lines(path: Path, lines: pa.StringArray) -> None:
    """Writes lines that end in a line break each: the array's own bytes, one after another."""
    _, offsets, data = lines.buffers()
    last = np.frombuffer(offsets, np.int32)[len(lines)]
    write_atomic(path, data.to_pybytes()[:last])


def _write_vectors(path, item_ids, chosen, vectors, lengths, key) -> None:
    wanted = lengths[chosen]
    inside = np.arange(vectors.shape[1]) < wanted[:, None]
    offsets = np.append(0, np.cumsum(wanted)).astype(np.int32)
    lists = pa.ListArray.from_arrays(pa.array(offsets), pa.array(vectors[chosen][inside]))
    ids = pa.array(item_ids[chosen]).cast(pa.string())
    lines = pc.binary_join_element_wise(
        '{"item_id": ', ids, f', "{key}": [', _joined(lists, ", "), "]}\n", ""
    )
    _write_lines(path, lines)


def _write_titles(path: Path, truth: Truth, topics: int, ugly: bool, seed: int) -> None:
    draw = _stream(seed, "titles")
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
    _write_lines(path, lines)


def generate(source: str, directory: Path, options: dict[str, Any]) -> Truth:
    """Writes the files of one layout; see `wechat_files` and `tiktok_files`.

    Raises:
        InputError: an option is out of range.
    """
    try:
        return GENERATORS[source](directory, **options)
    except ValueError as error:
        raise InputError(f"--generate: {error}") from None
