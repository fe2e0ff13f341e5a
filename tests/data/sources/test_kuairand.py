import collections
import csv
import datetime
import random

import pyarrow as pa
import pyarrow.parquet
import pytest

from mmnet.checks import InputError
from mmnet.config import TableFlags, TaskFlags
from mmnet.data import counts, sources
from mmnet.data.columns import values_of
from mmnet.data.sources.kuairand import LABELS

LOG = (
    *("user_id", "video_id", "date", "hourmin", "time_ms"),
    *("is_click", "is_like", "is_follow", "is_comment", "is_forward", "is_hate", "long_view"),
    *("play_time_ms", "duration_ms", "profile_stay_time", "comment_stay_time"),
    *("is_profile_enter", "is_rand", "tab"),
)
VIDEOS = (
    "video_id,author_id,video_type,upload_dt,upload_type,visible_status,video_duration,"
    "server_width,server_height,music_id,music_type,tag\n"
    '0,10,NORMAL,2022-04-24,Web,1,9000.0,720,1280,7,9.0,"12,34"\n'
    "1,11,NORMAL,2022-04-26,Kmovie,1,,720,1280,8,4.0,34\n"
    "2,11,AD,2022-04-01,Web,1,5000.0,720,1280,9,,\n"
)
FLAGS = {
    "source": "kuairand",
    "item_column": "video_id",
    "denominator": "impressions",
    "numerator": "long_view",
    "taxonomies": ("tag",),
    "categoricals": ("music_type",),
    "release": "upload_dt",
}


def impression(video, date, **labels):
    return dict.fromkeys(LOG, 0) | {"video_id": video, "date": date} | labels


ROWS = [
    impression(0, 20220425, is_click=1, long_view=1),
    impression(1, 20220426, is_click=1, is_forward=1),
    impression(0, 20220425, is_click=1),
    impression(0, 20220427, long_view=1),
    impression(0, 20220425),
]


def write(directory, rows, *, name="log_standard_4_25_to_4_27_pure.csv"):
    (directory / "video_features_basic_pure.csv").write_text(VIDEOS)
    if name.endswith(".parquet"):
        pa.parquet.write_table(pa.Table.from_pylist(rows), directory / name)
    else:
        lines = [",".join(LOG), *(",".join(str(row[c]) for c in LOG) for row in rows)]
        (directory / name).write_text("\n".join(lines) + "\n")


def load(directory, **flags):
    return sources.load(TableFlags(source_dir=str(directory), **FLAGS | flags))


def rows_of(found, *columns):
    data = found.counts.data.select(["video_id", "period", *columns]).to_pylist()
    return sorted(tuple(row.values()) for row in data)


def day(number):
    return datetime.date(2022, 4, number)


@pytest.mark.parametrize("name", ["log_pure.csv", "log_pure.parquet"])
def test_counts_impressions_and_feedback_by_video_and_day(tmp_path, name):
    write(tmp_path, ROWS, name=name)
    found = load(tmp_path)
    assert rows_of(found, "impressions", "is_click", "long_view", "is_forward") == [
        ("0", day(25), 3, 2, 1, 0),
        ("0", day(27), 1, 0, 1, 0),
        ("1", day(26), 1, 1, 0, 1),
    ]
    assert set(LABELS) < set(found.counts.data.column_names)


def test_several_logs_are_one(tmp_path):
    write(tmp_path, ROWS[:2], name="log_random_4_22_to_5_08_pure.csv")
    write(tmp_path, ROWS[2:], name="log_standard_4_22_to_5_08_pure.csv")
    found = load(tmp_path)
    assert rows_of(found, "impressions")[0] == ("0", day(25), 3)
    assert [path.name[:6] for path in found.inputs] == ["log_ra", "log_st", "video_"]


def test_tags_are_cut_at_commas_and_types_lose_their_zero(tmp_path):
    write(tmp_path, ROWS)
    items = load(tmp_path).items
    rows, tags = values_of(items, "tag", "taxonomies")
    assert (rows.tolist(), tags.tolist()) == ([0, 0, 1], ["12", "34", "34"])
    assert values_of(items, "music_type", "categoricals")[1].tolist() == ["9", "4"]


def test_makes_a_panel_that_knows_the_upload(tmp_path):
    write(tmp_path, ROWS)
    found = load(tmp_path)
    flags = TableFlags(**FLAGS)
    panel = counts.count(found.counts, found.items, flags, TaskFlags()).panel()
    assert panel.clicks.tolist() == [[3, 0, 1], [0, 1, 0], [0, 0, 0]]
    assert panel.shares.tolist() == [[1, 0, 1], [0, 0, 0], [0, 0, 0]]
    assert panel.release.tolist() == [-1, 1, -24]  # column 0 is 2022-04-25
    assert panel.label(0) == "2022-04-25"


def sentence(directory, **flags):
    with pytest.raises(InputError) as caught:
        load(directory, **flags)
    return str(caught.value)


def test_a_date_that_is_none_is_refused(tmp_path):
    write(tmp_path, [*ROWS, impression(0, "soon")], name="log.csv")
    (tmp_path / "log.csv").rename(tmp_path / "log_pure.csv")
    assert sentence(tmp_path) == (
        f"{tmp_path}/log_pure.csv line 7, column date: a date must be written as 20220425. "
        "Received: 'soon'"
    )


def test_feedback_that_is_no_count_is_refused(tmp_path):
    write(tmp_path, [*ROWS, impression(0, 20220425, is_like="yes")], name="log_pure.csv")
    assert sentence(tmp_path) == (
        f"{tmp_path}/log_pure.csv line 7, column is_like: a kind of feedback must be a whole "
        "number of 0 or more, below 2**53. Received: 'yes'"
    )


def test_missing_files_and_columns_are_named(tmp_path):
    assert sentence(tmp_path) == (
        f"{tmp_path}/log_*: no such file (--source_set=logs); the directory has no files"
    )
    (tmp_path / "log_pure.csv").write_text("video_id,date\n0,20220425\n")
    assert sentence(tmp_path).startswith(
        f"{tmp_path}/log_pure.csv has no column 'is_click' (named by --source_set=logs); it has "
    )
    with pytest.raises(InputError) as caught:
        sources.load(TableFlags(**FLAGS))
    assert str(caught.value) == (
        "--source=kuairand needs --source_dir, the directory of the publisher's files"
    )


def test_finished_plays_are_counted_where_the_duration_is_known(tmp_path):
    timed = [(9, 10), (10, 10), (11, 10), (5, 0), (0, 0)]
    write(
        tmp_path,
        [
            impression(0, 20220425, play_time_ms=played, duration_ms=length)
            for played, length in timed
        ],
    )
    found = load(tmp_path)
    assert rows_of(found, "impressions", "timed", "finish") == [("0", day(25), 5, 3, 2)]
    assert found.ledger[-1].note == "1 counts rows; 2 impressions of unknown duration"


DAY_MS = 86_400_000


def test_seconds_are_of_what_was_played_up_to_the_duration(tmp_path):
    timed = [(4000, 10_000), (10_000, 10_000), (25_000, 10_000), (5000, 0), (1600, 3400)]
    timed += [(1000, DAY_MS + 1), (90_000, DAY_MS), (2**62, 2**62), (2**62, 2**62)]
    rows = [
        impression(0, 20220425, play_time_ms=played, duration_ms=length) for played, length in timed
    ]
    rows += [impression(0, 20220425, play_time_ms=None, duration_ms=9000)]
    rows += [impression(1, 20220425, play_time_ms=499, duration_ms=499)] * 2
    rows += [impression(1, 20220426, play_time_ms=0, duration_ms=499)]
    write(tmp_path, rows, name="log_pure.parquet")
    found = load(tmp_path)
    # 4 + 10 + 10 + 1.6 + 90 of 10 + 10 + 10 + 3.4 + a day; 0.998 of 0.998; nothing of 0.499.
    assert rows_of(found, "played_seconds", "full_seconds") == [
        ("0", day(25), 116, 86_433),
        ("1", day(25), 1, 1),
        ("1", day(26), 0, 0),
    ]
    assert found.ledger[-1].note == (
        "3 counts rows; 2 impressions of unknown duration, 3 of more than a day, which are in no "
        "sum of seconds"
    )
    flags = TableFlags(**FLAGS | {"denominator": "full_seconds", "numerator": "played_seconds"})
    panel = counts.count(found.counts, found.items, flags, TaskFlags()).panel()
    assert panel.clicks.tolist() == [[86_433, 0], [1, 0], [0, 0]]
    assert panel.shares.tolist() == [[116, 0], [1, 0], [0, 0]]


def test_joined_files_lose_their_second_header(tmp_path):
    write(tmp_path, ROWS)
    (log,) = tmp_path.glob("log_*")
    header = ",".join(LOG)
    log.write_text(log.read_text() + header + "\n" + ",".join("0" * len(LOG)) + "\n")
    assert sentence(tmp_path) == (
        f"{log} line 8, column date: a date must be written as 20220425. Received: '0'"
    )
    log.write_text(log.read_text().rpartition("0,0,0")[0].rpartition(header)[0] + header + "\n")
    found = load(tmp_path)
    assert rows_of(found, "impressions")[0] == ("0", day(25), 3)
    assert found.ledger[0].dropped == 1


@pytest.mark.parametrize("seed", range(3))
def test_counts_are_those_of_a_loop_over_the_rows(tmp_path, seed):
    rng = random.Random(seed)
    rows = [
        impression(
            rng.randrange(3),
            20220425 + rng.randrange(3),
            **{label: rng.randrange(2) for label in LABELS},
            play_time_ms=1000 * rng.randrange(3),
            duration_ms=1000 * rng.randrange(3),
        )
        for _ in range(60)
    ]
    write(tmp_path, rows)
    wanted = collections.defaultdict(collections.Counter)
    (log,) = tmp_path.glob("log_*")
    with log.open(newline="") as file:
        for row in csv.DictReader(file):
            counter = wanted[row["video_id"], datetime.datetime.strptime(row["date"], "%Y%m%d")]
            counter.update({label: int(row[label]) for label in LABELS})
            length = int(row["duration_ms"])
            finish = length > 0 and int(row["play_time_ms"]) >= length
            counter.update(impressions=1, timed=length > 0, finish=finish)
            played = min(length, int(row["play_time_ms"])) // 1000
            counter.update(played_seconds=played, full_seconds=length // 1000)
    names = ("impressions", *LABELS, "timed", "finish", "played_seconds", "full_seconds")
    assert rows_of(load(tmp_path), *names) == sorted(
        (video, at.date(), *(counter[name] for name in names))
        for (video, at), counter in wanted.items()
    )


def test_the_real_log(real_log):
    found = load(real_log("kuairand"))
    counts = found.counts.data
    # As pandas counts them in the whole file.
    assert (len(counts), len(found.items)) == (44_716, 7_583)
    wanted = {"impressions": 228_329, "is_click": 100_900, "is_like": 3_915, "long_view": 70_963}
    wanted |= {"timed": 224_761, "finish": 31_307}
    wanted |= {"played_seconds": 4_667_423, "full_seconds": 24_531_553}
    assert {name: sum(counts[name].to_pylist()) for name in wanted} == wanted
