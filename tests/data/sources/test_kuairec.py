import collections
import csv
import datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmnet.checks import InputError
from mmnet.config import TableFlags, TaskFlags
from mmnet.data import counts, items, sources
from mmnet.data.columns import values_of
from mmnet.data.sources import kuairec

DAILY_HEADER = (
    "video_id,date,author_id,video_type,upload_dt,upload_type,visible_status,video_duration,"
    "video_width,video_height,music_id,video_tag_id,video_tag_name,show_cnt,show_user_num,"
    "play_cnt,play_user_num,like_cnt,share_cnt,share_user_num"
)
CAPTIONS_HEADER = (
    "video_id,manual_cover_text,caption,topic_tag,first_level_category_id,"
    "first_level_category_name,second_level_category_id,second_level_category_name,"
    "third_level_category_id,third_level_category_name"
)
DAILY, CAPTIONS = csv.reader([DAILY_HEADER, CAPTIONS_HEADER])
USUAL = {
    "author_id": 5,
    "video_type": "NORMAL",
    "upload_dt": "2020-07-04",
    "upload_type": "Web",
    "visible_status": "public",
    "video_duration": "9000.0",
    "video_width": 720,
    "video_height": 1280,
    "music_id": "77.0",
}


def row(video, date, tag="", name="", **columns):
    keys = {"video_id": video, "date": date, "video_tag_id": tag, "video_tag_name": name}
    counters = {"show_cnt": 40, "play_cnt": 10, "like_cnt": 4, "share_cnt": 1}
    return dict.fromkeys(DAILY, 0) | USUAL | keys | counters | columns


ROWS = [
    row(1, 20200705, 9, "food"),
    row(1, 20200705, 12, "soup, hot"),
    row(2, 20200706, play_cnt=7, share_cnt=0, video_duration="", upload_dt="20200706"),
    row(1, 20200706, 9, "food", play_cnt=8, share_cnt=2),
    row(1, 20200706, 30, "later", play_cnt=8, share_cnt=2),
]


def write(directory, rows=ROWS, *, end="\n"):
    with (directory / "item_daily_features.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, DAILY, lineterminator=end)
        writer.writeheader()
        writer.writerows(rows)


def load(directory, *settings, **flags):
    named = {"item_column": "video_id"} | flags
    return sources.load(
        TableFlags(source="kuairec", source_dir=str(directory), source_set=settings, **named)
    )


def day(number):
    return datetime.date(2020, 7, number)


def rows_of(found):
    return sorted(tuple(row.values()) for row in found.counts.data.to_pylist())


def item(found, name):
    (row,) = (row for row in found.items.data.to_pylist() if row["video_id"] == name)
    return row


def dropped(found, table):
    return [rule.dropped for rule in found.ledger if rule.table == table]


def sentence(directory, *settings, **flags):
    with pytest.raises(InputError) as caught:
        load(directory, *settings, **flags)
    return str(caught.value)


def test_repeated_counters_are_taken_once(tmp_path):
    write(tmp_path)
    found = load(tmp_path)
    assert found.counts.data.column_names == ["video_id", "period", "clicks", "shares"]
    assert rows_of(found) == [("1", day(5), 10, 1), ("1", day(6), 8, 2), ("2", day(6), 7, 0)]
    assert dropped(found, "videos by day and tag") == [0, 2]


@pytest.mark.parametrize(
    ("settings", "flags"),
    [
        (("behaviour=like_cnt", "base=show_cnt"), {}),
        ((), {"numerator": "like_cnt", "denominator": "show_cnt"}),
    ],
)
def test_any_two_counters_make_a_rate(tmp_path, settings, flags):
    write(tmp_path)
    assert rows_of(load(tmp_path, *settings, **flags))[0] == ("1", day(5), 40, 4)
    assert sentence(tmp_path, "behaviour=shares_cnt") == (
        "--source_set=behaviour=shares_cnt: no such column to count; available: show_cnt, "
        "play_cnt, like_cnt, share_cnt. Did you mean share_cnt?"
    )


def test_counters_of_further_rates_are_counted_in_the_same_way(tmp_path):
    write(tmp_path)
    further = {"also_predict": ("like",), "rate": ("like=like_cnt/show_cnt",)}
    found = load(tmp_path, **further)
    assert found.counts.data.column_names[2:] == ["clicks", "shares", "show_cnt", "like_cnt"]
    assert rows_of(found)[0] == ("1", day(5), 10, 1, 40, 4)
    write(tmp_path, [*ROWS, row(3, 20200705, like_cnt=41), row(4, 20200705, like_cnt="")])
    assert [rows[0] for rows in rows_of(load(tmp_path, **further))] == ["1", "1", "2"]
    assert dropped(load(tmp_path, **further), "videos by day") == [0, 1, 0, 1]
    assert sentence(tmp_path, **further | {"rate": ("like=likes_cnt/show_cnt",)}) == (
        "--rate: no such column to count: 'likes_cnt'; available: show_cnt, play_cnt, like_cnt, "
        "share_cnt. Did you mean like_cnt?"
    )


def test_counters_that_disagree_are_refused_or_left_out(tmp_path):
    write(tmp_path, [*ROWS, row(2, 20200706, play_cnt=7, share_cnt=3)])
    assert sentence(tmp_path) == (
        f"{tmp_path}/item_daily_features.csv line 7, column share_cnt: 3, but an earlier row of "
        "video 2 and 2020-07-06 has 0; correct the file, or set --source_set=disagreeing=drop"
    )
    found = load(tmp_path, "disagreeing=drop")
    assert [found[0] for found in rows_of(found)] == ["1", "1"]
    assert dropped(found, "videos by day") == [1, 0, 0]
    # Another counter may disagree as it likes.
    write(tmp_path, [*ROWS, row(2, 20200706, play_cnt=7, share_cnt=0, like_cnt=99)])
    assert len(rows_of(load(tmp_path))) == 3


def test_empty_counters_and_more_shares_than_plays_are_left_out(tmp_path):
    more = [row(3, 20200705, play_cnt=""), row(4, 20200705, play_cnt=1, share_cnt=2)]
    write(tmp_path, [*ROWS, *more])
    found = load(tmp_path)
    assert len(rows_of(found)) == 3
    assert dropped(found, "videos by day") == [0, 1, 1]
    assert item(found, "4")["author_id"] == "5"
    assert rows_of(load(tmp_path, rate_may_exceed_one=True))[-1] == ("4", day(5), 1, 2)


def test_items_are_as_on_their_first_day(tmp_path):
    later = row(1, 20200707, 9, "food", visible_status="private", music_id=78)
    write(tmp_path, [later, *ROWS])
    found = load(tmp_path)
    assert item(found, "1") == {
        "video_id": "1",
        "upload_dt": "2020-07-04",
        "author_id": "5",
        "video_type": "NORMAL",
        "upload_type": "Web",
        "visible_status": "public",
        "music_id": "77",
        "video_duration": 9000.0,
        "video_width": 720.0,
        "video_height": 1280.0,
        "video_tag_id": ["9", "12"],
        "video_tag_name": ["food", "soup, hot"],
    }
    assert item(found, "2")["upload_dt"] == "2020-07-06"
    assert item(found, "2")["video_duration"] is None
    assert found.ledger[-1].note == "1 videos have other columns on a later day"


CAPTION_ROWS = (
    "1,UNKNOWN,one ,[],8,faces,673,selfies,-124,UNKNOWN\n"
    '2,cover,two\rmore ,"[a,b]",-124,UNKNOWN,-124,UNKNOWN,-124,UNKNOWN\n'
    '3,UNKNOWN,"quoted\nbreak",[c],28,people,223,social,1,other\n'
    "004,UNKNOWN,\n,[],8,faces,-124,UNKNOWN,-124,UNKNOWN\n"
)


def test_captions_are_mended_and_cleaned(tmp_path):
    write(tmp_path)
    (tmp_path / "kuairec_caption_category.csv").write_text(
        CAPTIONS_HEADER + "\n" + CAPTION_ROWS, newline=""
    )
    found = load(tmp_path)
    columns = ("manual_cover_text", "caption", "topic_tag", *kuairec.LEVELS[:4])
    assert [tuple(item(found, name)[c] for c in columns) for name in ("1", "2", "3", "004")] == [
        ("", "one", [], "8", "faces", "673", "selfies"),
        ("cover", "two more", ["a", "b"], "", "", "", ""),
        ("", "quoted\nbreak", ["c"], "28", "people", "223", "social"),
        ("", "", [], "8", "faces", "", ""),
    ]
    rule = next(rule for rule in found.ledger if rule.table == "captions")
    assert (rule.rows_in, rule.rows_out) == (6, 4)
    assert rule.note == "2 unquoted line breaks were repaired"


def test_a_video_of_any_file_is_an_item(tmp_path):
    write(tmp_path)
    (tmp_path / "kuairec_caption_category.csv").write_text(CAPTIONS_HEADER + "\n" + CAPTION_ROWS)
    (tmp_path / "item_categories.csv").write_text('video_id,feat\n1,"[27, 9]"\n8,[8]\n')
    found = load(tmp_path)
    assert found.items.data["video_id"].to_pylist() == ["1", "2", "3", "004", "8"]
    assert item(found, "1")["feat"] == ["27", "9"]
    assert item(found, "2")["feat"] is None
    assert item(found, "8")["caption"] is None
    flags = TableFlags(
        item_column="video_id",
        taxonomies=("first_level_category_id", "video_tag_name", "feat"),
        numerics=("video_duration",),
        texts=("caption",),
        release="upload_dt",
    )
    panel = counts.count(found.counts, found.items, flags, TaskFlags()).panel()
    assert panel.clicks.tolist() == [[10, 8], [0, 7], [0, 0], [0, 0], [0, 0]]
    assert panel.release.tolist() == [-1, 1, 2, 2, 2]
    assert items.texts_of(found.items, "caption").tolist()[0] == "one"
    rows, values = values_of(found.items, "video_tag_name", "taxonomies")
    assert (rows.tolist(), values.tolist()) == ([0, 0], ["food", "soup, hot"])
    names = ["item_daily_features.csv", "kuairec_caption_category.csv", "item_categories.csv"]
    assert [path.name for path in found.inputs] == names
    assert "feat" not in load(tmp_path, "categories=none").items.data.column_names


def test_windows_bom_and_repeated_headers_change_nothing(tmp_path):
    write(tmp_path)
    plain = rows_of(load(tmp_path))
    write(tmp_path, [ROWS[0], dict(zip(DAILY, DAILY, strict=True)), *ROWS[1:]], end="\r\n")
    path = tmp_path / "item_daily_features.csv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    found = load(tmp_path)
    assert rows_of(found) == plain
    assert found.ledger[0].dropped == 1


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (
            "item_daily_features.csv",
            "video_id,date\n1,20200705\n",
            "{} has no column 'upload_dt' (named by --source_set=daily); it has video_id, date",
        ),
        (
            "item_daily_features.csv",
            DAILY_HEADER + "\n1,20200705\n",
            "{} line 2: 2 fields, but the header of the daily table has 20; put quotes around a "
            "value that contains a comma or a line break",
        ),
        (
            "kuairec_caption_category.csv",
            "video_id,caption\n",
            f"{{}}: its columns must be {', '.join(CAPTIONS)}. Received: video_id, caption",
        ),
        (
            "kuairec_caption_category.csv",
            CAPTIONS_HEADER + "\n1,UNKNOWN,one, two,[],8,faces,673,selfies,-124,UNKNOWN\n",
            "{} line 2: 11 fields, but 10 are expected; put quotes around a value that contains a "
            "comma",
        ),
        (
            "kuairec_caption_category.csv",
            CAPTIONS_HEADER + "\n1,UNKNOWN,one\n",
            "{} line 2: 3 fields, but 10 are expected",
        ),
        (
            "item_categories.csv",
            "video_id,feats\n1,[8]\n",
            "{} has no column 'feat' (named by --source_set=categories); it has video_id, feats. "
            "Did you mean feats?",
        ),
    ],
)
def test_a_wrong_file_is_one_sentence(tmp_path, file, content, message):
    write(tmp_path)
    (tmp_path / file).write_text(content)
    assert sentence(tmp_path) == message.format(tmp_path / file)


def test_a_date_or_id_that_is_none_is_refused(tmp_path):
    write(tmp_path, [*ROWS, row(1, "5.7.2020")])
    assert sentence(tmp_path) == (
        f"{tmp_path}/item_daily_features.csv line 7, column date: a date must be written as "
        "20220425. Received: '5.7.2020'"
    )
    write(tmp_path, [*ROWS, row("", 20200705)])
    assert sentence(tmp_path) == (
        f"{tmp_path}/item_daily_features.csv line 7, column video_id: a video id is empty"
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(
    cells=st.dictionaries(
        st.tuples(st.integers(1, 3), st.integers(20200705, 20200707)),
        st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(1, 3)),
        min_size=1,
    ),
    seed=st.randoms(use_true_random=False),
)
def test_counts_are_those_of_a_loop_over_the_rows(tmp_path, cells, seed):
    written = [
        row(video, date, tag, play_cnt=plays, share_cnt=shares)
        for (video, date), (plays, shares, tags) in cells.items()
        for tag in range(tags)
    ]
    seed.shuffle(written)
    write(tmp_path, [*written, row(9, 20200705)])
    wanted = collections.OrderedDict()
    with (tmp_path / "item_daily_features.csv").open(newline="") as file:
        for line in csv.DictReader(file):
            date = datetime.datetime.strptime(line["date"], "%Y%m%d").date()
            wanted[line["video_id"], date] = int(line["play_cnt"]), int(line["share_cnt"])
    found = load(tmp_path, rate_may_exceed_one=True)
    assert rows_of(found) == sorted((*key, *cell) for key, cell in wanted.items())


def test_the_real_captions_and_categories(real_log, tmp_path):
    directory = real_log("kuairec_meta")
    write(tmp_path)
    for name in ("kuairec_caption_category.csv", "item_categories.csv"):
        (tmp_path / name).symlink_to(directory / name)
    found = load(tmp_path)
    data = found.items.data
    assert len(data) == 10_728
    assert "4 unquoted line breaks were repaired" in [rule.note for rule in found.ledger]
    assert item(found, "1613")["caption"].endswith("你绕明白了吗？~")
    assert item(found, "1613")["topic_tag"] == ["井柏然", "宋威龙", "张公案"]
    names = {
        level: {name for name in data[f"{level}_level_category_id"].to_pylist() if name}
        for level in ("first", "second", "third")
    }
    # One less each than the file has, where -124 is among them.
    assert {level: len(found) for level, found in names.items()} == {
        "first": 38,
        "second": 137,
        "third": 219,
    }
    assert sum(caption == "" for caption in data["caption"].to_pylist()) == 1356
