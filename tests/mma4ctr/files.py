"""Publishers' files, written by hand for tests."""

import csv
import io
import json

import numpy as np

from mmnet.data.sources import tiktok
from mmnet.mma4ctr.data.generator import ACTIONS
from mmnet.mma4ctr.data.sources import wechat

FEEDS = (
    *("feedid", "authorid", "videoplayseconds", "description", "ocr", "asr", "bgm_song_id"),
    *("bgm_singer_id", "manual_keyword_list", "machine_keyword_list", "manual_tag_list"),
    *("machine_tag_list", "description_char", "ocr_char", "asr_char"),
)


def play(user=7, feed=1, day=1, **others):
    return dict.fromkeys(ACTIONS, 0) | {"userid": user, "feedid": feed, "date_": day} | others


def feed(number, **columns):
    texts = {"ocr": "1 2", "asr_char": "3", "description": "4 5 6"}
    return dict.fromkeys(FEEDS, "") | texts | {"feedid": number} | columns


def write_wechat(directory, plays, feeds, separator=","):
    directory.mkdir(parents=True, exist_ok=True)
    for name, columns, rows in (
        ("user_action.csv", ACTIONS, plays),
        ("feed_info.csv", FEEDS, feeds),
    ):
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, delimiter=separator, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        (directory / name).write_text(text.getvalue(), encoding="utf-8")
    return directory


def catalogue_of_feeds(directory, feeds):
    """What is read of feeds, in a log with one row."""
    return wechat.catalogue(write_wechat(directory, [play()], feeds), np.array([1]))


def entries(data):
    """The rows of a `Ragged` as lists."""
    return [data.values[a:b].tolist() for a, b in zip(data.offsets, data.offsets[1:], strict=False)]


def watch(user=5, item=1, **others):
    return dict.fromkeys(tiktok.COLUMNS, 0) | {"uid": user, "item_id": item} | others


def write_tiktok(directory, rows, *, videos=(), audios=(), titles=()):
    """Features are lists of files of (item, vector), and (item, {word: count}) of titles."""
    directory.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(str(row[name]) for name in tiktok.COLUMNS) for row in rows]
    (directory / tiktok.TRACK_1.log).write_text("\n".join(lines) + "\n")
    for name, key, parts in (
        ("video", tiktok.VIDEO_KEY, videos),
        ("audio", tiktok.AUDIO_KEY, audios),
    ):
        for number, part in enumerate(parts, start=1):
            text = "".join(json.dumps({"item_id": i, key: v}) + "\n" for i, v in part)
            (directory / f"track1_{name}_features_part{number}.txt").write_text(text)
    if titles:
        text = "".join(json.dumps({"item_id": i, "title_features": t}) + "\n" for i, t in titles)
        (directory / tiktok.TRACK_1.titles).write_text(text)
    return directory
