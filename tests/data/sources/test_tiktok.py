import collections
import csv
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmnet.checks import InputError
from mmnet.config import TableFlags, TaskFlags
from mmnet.data import counts, sources, table_files
from mmnet.data.columns import values_of
from mmnet.data.sources import tiktok
from mmnet.data.sources.tiktok import COLUMNS

DAY = 86_400


def play(item, **columns):
    day = columns.pop("day", 5)
    return dict.fromkeys(COLUMNS, 1) | {"item_id": item, "time": day * DAY + 3} | columns


PLAYS = [
    play(10, finish=1, like=0),
    play(10, finish=0, like=1),
    play(7, finish=1, like=0, day=4, music_id=-1, item_city=-1, author_id=3),
    play(10, finish=1, like=0),
]


def line(row):
    return "\t".join(str(row[column]) for column in COLUMNS)


def write(directory, plays=PLAYS, *, end="\n", name="final_track1_train.txt"):
    (directory / name).write_bytes(end.join([*map(line, plays), ""]).encode())


def load(directory, *settings, **flags):
    return sources.load(
        TableFlags(source="tiktok", source_dir=str(directory), source_set=settings, **flags)
    )


def rows_of(found):
    return sorted(tuple(row.values()) for row in found.counts.data.to_pylist())


def dropped(found, table):
    return [rule.dropped for rule in found.ledger if rule.table == table]


def sentence(directory, *settings):
    with pytest.raises(InputError) as caught:
        load(directory, *settings)
    return str(caught.value)


def test_counts_plays_and_finishes_by_item_and_day(tmp_path):
    write(tmp_path)
    found = load(tmp_path)
    assert found.counts.data.column_names == ["item_id", "period", "clicks", "shares"]
    assert rows_of(found) == [("10", 5, 3, 2), ("7", 4, 1, 1)]
    liked = [("10", 5, 3, 1), ("7", 4, 1, 0)]
    assert rows_of(load(tmp_path, "behaviour=like")) == liked
    assert rows_of(load(tmp_path, numerator="like")) == liked
    assert rows_of(load(tmp_path, f"bin_seconds={2 * DAY}")) == [("10", 2, 3, 2), ("7", 2, 1, 1)]


def test_minus_one_is_missing_and_an_item_has_its_own_columns(tmp_path):
    write(tmp_path)
    found = load(tmp_path)
    assert found.items.data.to_pylist() == [
        {"item_id": "7", "author_id": "3", "item_city": "", "music_id": "", "duration_time": 1.0},
        {"item_id": "10", "author_id": "1", "item_city": "1", "music_id": "1", "duration_time": 1},
    ]
    values = values_of(found.items, "music_id", "categoricals")
    assert [part.tolist() for part in values] == [[1], ["1"]]
    panel = counts.count(found.counts, found.items, TableFlags(), TaskFlags()).panel()
    assert panel.clicks.tolist() == [[1, 0], [0, 3]]
    assert found.ledger[-1].note == "2 in one period only"


def test_what_rows_of_an_item_disagree_on_is_the_smallest_known_value(tmp_path):
    write(tmp_path, [play(1, author_id=9), play(1, author_id=-1), play(1, author_id=8)])
    found = load(tmp_path)
    assert found.items.data["author_id"].to_pylist() == ["8"]
    assert found.ledger[-2].note == "of 1 that differ, the smallest value is used"


def test_periods_may_follow_the_order_of_the_rows(tmp_path):
    write(tmp_path)
    assert rows_of(load(tmp_path, "rows_per_period=2")) == [
        ("10", 0, 2, 1),
        ("10", 1, 1, 1),
        ("7", 1, 1, 1),
    ]


def test_a_part_of_the_items_keeps_all_rows_of_each(tmp_path):
    write(tmp_path, [play(item, finish=item % 2) for item in range(2000) for _ in range(2)])
    everything = rows_of(load(tmp_path))
    part = rows_of(load(tmp_path, "part_of_items=0.1"))
    assert set(part) < set(everything)
    # Four standard errors of a binomial(2000, 0.1).
    assert abs(len(part) - 200) < 4 * np.sqrt(2000 * 0.1 * 0.9)


@pytest.mark.parametrize("prefix", [b"", b"\xef\xbb\xbf"])
def test_windows_and_bom_change_nothing(tmp_path, prefix):
    write(tmp_path, end="\r\n")
    path = tmp_path / "final_track1_train.txt"
    path.write_bytes(prefix + path.read_bytes())
    assert rows_of(load(tmp_path)) == [("10", 5, 3, 2), ("7", 4, 1, 1)]


def test_rows_without_item_time_or_label_are_left_out(tmp_path):
    empty = [{**play(1), column: ""} for column in ("item_id", "time", "finish", "music_id")]
    write(tmp_path, [*PLAYS, *empty])
    found = load(tmp_path)
    assert rows_of(found) == [("1", 5, 1, 1), ("10", 5, 3, 2), ("7", 4, 1, 1)]
    assert dropped(found, "plays") == [0, 3, 0]


def side_files(directory):
    titles = [
        {"item_id": 10, "title_features": {"5": 2, "31": 1}},
        {"item_id": 99, "title_features": {"5": 1}},
        {"item_id": 7, "title_features": {}},
        {"item_id": 10, "title_features": {"8": 1}},
    ]
    video = [
        {"item_id": 10, "video_feature_dim_128": [0.5, -1.0]},
        {"item_id": 7, "video_feature_dim_128": []},
        {"item_id": 99, "video_feature_dim_128": [1.0] * 128},
    ]
    audio = [
        {"item_id": 7, "audio_feature_128_dim": list(range(128))},
        {"item_id": 7, "audio_feature_128_dim": [0.0] * 128},
    ]
    for name, rows in (
        ("track1_title.txt", titles),
        ("track1_video_features_part1.txt", video[:1]),
        ("track1_video_features_part2.txt", video[1:]),
        ("track1_audio_features_part1.txt", audio),
    ):
        (directory / name).write_text("\r\n".join(map(json.dumps, rows)) + "\r\n\r\n")


def test_side_files_are_titles_and_vectors(tmp_path):
    write(tmp_path)
    side_files(tmp_path)
    found = load(tmp_path)
    assert found.items.data["title"].to_pylist() == ["", "5 5 31"]
    video, audio = (found.vectors[name].data.to_pylist() for name in ("video", "audio"))
    assert video == [{"item_id": "10", "vector": [0.5, -1.0, *[0.0] * 126]}]
    assert audio == [{"item_id": "7", "vector": list(map(float, range(128)))}]
    assert dropped(found, "video") == [1, 1, 0]
    assert dropped(found, "audio") == [0, 0, 1]
    assert len(found.inputs) == 5
    without = load(tmp_path, "titles=none", "videos=none", "audios=none")
    assert without.vectors == {}
    assert "title" not in without.items.data.column_names


def test_a_kind_of_vectors_that_no_item_has_is_left_out(tmp_path):
    write(tmp_path)
    row = {"item_id": 10, "video_feature_dim_128": []}
    (tmp_path / "track1_video_features_part1.txt").write_text(json.dumps(row) + "\n")
    assert load(tmp_path).vectors == {}


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (
            "final_track1_train.txt",
            line(play(1)).replace("\t", ","),
            "{} line 1: its columns are separated by commas, but tabs are expected",
        ),
        (
            "final_track1_train.txt",
            "\t".join(COLUMNS) + "\n" + line(play(1)),
            "{} line 1: unexpected header line; remove it",
        ),
        (
            "final_track1_train.txt",
            line(play(1)) + "\n" + line(play(1)) + "\t1\n",
            "{} line 2: 13 fields, but 12 are expected (" + ", ".join(COLUMNS) + ")",
        ),
        (
            "final_track1_train.txt",
            line(play(1)) + "\n" + line(play(1, time="soon")) + "\n",
            "{} line 2, column time: must be a whole number. Received: 'soon'",
        ),
        (
            "final_track1_train.txt",
            line(play(1)) + "\n" + line(play(1, finish=2)) + "\n",
            "{} line 2, column finish: a label must be 0 or 1. Received: 2",
        ),
        (
            "track1_title.txt",
            '{"item_id": 10, "title_features": {"5": 20000000, "6": 1}}\n',
            "{} line 1, key title_features: a title of 20,000,001 words, but at most 100,000 are "
            "supported; correct the count of word '5', 20,000,000",
        ),
        (
            "track1_title.txt",
            '{"item_id": 1e400, "title_features": {"5": 1}}\n',
            "{} line 1: must be JSON with item_id and title_features, the count of each word id. "
            'Received: \'{{"item_id": 1e400, "title_features": {{"5": 1}}}}\'',
        ),
        (
            "track1_title.txt",
            "[" * 100_000 + "\n",
            "{} line 1: must be JSON with item_id and title_features, the count of each word id. "
            f"Received: '{'[' * 80}'",
        ),
        (
            "track1_title.txt",
            '{"item_id": 10, "title_features": ["5"]}\n',
            "{} line 1: must be JSON with item_id and title_features, the count of each word id. "
            'Received: \'{{"item_id": 10, "title_features": ["5"]}}\'',
        ),
        (
            "track1_title.txt",
            '{"item_id": 10, "title_features": {"5": 1}}\n{"item_id": 10\n',
            "{} line 2: must be JSON with item_id and title_features, the count of each word id. "
            "Received: '{{\"item_id\": 10'",
        ),
        (
            "track1_video_features_part1.txt",
            '{"item_id": 10, "video_feature_128_dim": [1.0]}\n',
            "{} line 1: has no key 'video_feature_dim_128'. "
            'Received: \'{{"item_id": 10, "video_feature_128_dim": [1.0]}}\'',
        ),
        (
            "track1_video_features_part1.txt",
            '\n{"item_id": 7, "video_feature_dim_128": []}\n'
            + json.dumps({"item_id": 10, "video_feature_dim_128": [1.0] * 129}),
            "{} line 3, key video_feature_dim_128: a vector of 129 numbers, but 128 are expected",
        ),
        (
            "track1_audio_features_part1.txt",
            '{"item_id": 10, "audio_feature_128_dim": [1.0]}\n{"item_id": 7, \n',
            "{} line 2: must be a line of JSON. Received: '{{\"item_id\": 7,'",
        ),
    ],
)
def test_a_wrong_file_is_one_sentence(tmp_path, file, content, message):
    write(tmp_path)
    (tmp_path / file).write_text(content)
    assert sentence(tmp_path) == message.format(tmp_path / file)


def test_an_unpacked_file_is_asked_for_and_options_are_checked(tmp_path):
    (tmp_path / "final_track1_train.txt.tgz").touch()
    assert sentence(tmp_path) == (
        f"{tmp_path}/final_track1_train.txt: no such file (--source_set=log); unpack "
        "final_track1_train.txt.tgz first"
    )
    assert sentence(tmp_path, "part_of_items=2") == (
        "--source_set: `part_of_items` must be in [0, 1]. Received: part_of_items=2.0"
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(
    rows=st.lists(
        st.tuples(st.integers(1, 4), st.integers(1, 3), *[st.sampled_from([0, 1])] * 2),
        min_size=1,
        max_size=30,
    )
)
def test_counts_are_those_of_a_loop_over_the_rows(tmp_path, rows):
    write(tmp_path, [play(i, day=d, finish=f, like=k) for i, d, f, k in rows])
    for label in ("finish", "like"):
        wanted = collections.defaultdict(lambda: [0, 0])
        with (tmp_path / "final_track1_train.txt").open(newline="") as file:
            for row in csv.DictReader(file, COLUMNS, delimiter="\t"):
                cell = wanted[row["item_id"], int(row["time"]) // DAY]
                cell[0] += 1
                cell[1] += int(row[label])
        found = load(tmp_path, f"behaviour={label}")
        assert rows_of(found) == sorted((*key, *cell) for key, cell in wanted.items())


def test_the_real_sample(real_log):
    found = load(real_log("icme2019_sample"), "log=track1_sample.txt")
    assert len(found.items) == len(found.counts) == 199
    # One item stands there twice, shown to two users, with one time: it is the item's own.
    assert found.ledger[-1].note == "199 in one period only"
    assert sum(found.counts.data["clicks"].to_pylist()) == 200
    assert sum(found.counts.data["shares"].to_pylist()) == 76  # .38 finished
    periods = found.counts.data["period"].to_pylist()
    assert max(periods) - min(periods) == 354  # days


def test_batches_change_nothing(tmp_path, monkeypatch):
    write(tmp_path, [play(item % 7, day=item % 3 + 1, finish=item % 2) for item in range(1, 90)])
    side_files(tmp_path)
    once = load(tmp_path, "rows_per_period=10")
    monkeypatch.setattr(table_files, "BLOCK_BYTES", 128)
    monkeypatch.setattr(tiktok, "_BLOCK_BYTES", 128)
    again = load(tmp_path, "rows_per_period=10")
    assert rows_of(again) == rows_of(once)
    assert again.items.data.equals(once.items.data)
    assert again.ledger == once.ledger
