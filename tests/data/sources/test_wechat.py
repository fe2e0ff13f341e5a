import collections
import csv

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmnet.checks import InputError
from mmnet.config import TableFlags, TaskFlags
from mmnet.data import counts, items, sources
from mmnet.data.columns import floats
from mmnet.data.sources.wechat import BEHAVIOURS, EMBEDDING_LENGTH

ACTIONS_HEADER = (
    "userid,feedid,date_,device,read_comment,comment,like,play,stay,click_avatar,forward,"
    "follow,favorite"
)
FEEDS_HEADER = (
    "feedid,authorid,videoplayseconds,description,ocr,asr,bgm_song_id,bgm_singer_id,"
    "manual_keyword_list,machine_keyword_list,manual_tag_list,machine_tag_list,"
    "description_char,ocr_char,asr_char"
)
ACTIONS, FEEDS = csv.reader([ACTIONS_HEADER, FEEDS_HEADER])


def play(feed, day, **behaviour):
    return dict.fromkeys(ACTIONS, 0) | {"userid": 7, "feedid": feed, "date_": day} | behaviour


def feed(number, **columns):
    return dict.fromkeys(FEEDS, "") | {"feedid": number, "authorid": 5} | columns


PLAYS = [
    play(1, 1, forward=1),
    play(1, 1, like=1),
    play(2, 1, forward=1, like=1),
    play(1, 3),
    play("007", 14, favorite=1),
]
CATALOGUE = [
    feed(
        1,
        videoplayseconds=12,
        description="31 4  159 ",
        bgm_song_id="123.0",
        bgm_singer_id="NaN",
        manual_keyword_list="8;9;8",
        manual_tag_list="9;6;222;222",
        machine_tag_list="8 3.8e-07;9 0.75;6 1",
    ),
    feed(2, videoplayseconds="30.0", bgm_song_id="", machine_tag_list="8 0.5;8 0.25"),
]


def text(header, rows, *, end="\n"):
    lines = [",".join(header), *(",".join(str(row[c]) for c in header) for row in rows)]
    return end.join(lines) + end


def write(directory, plays=PLAYS, feeds=CATALOGUE, **how):
    (directory / "user_action.csv").write_text(text(ACTIONS, plays, **how))
    (directory / "feed_info.csv").write_text(text(FEEDS, feeds, **how))


def load(directory, *settings, **flags):
    named = {"item_column": "feedid"} | flags
    return sources.load(
        TableFlags(source="wechat", source_dir=str(directory), source_set=settings, **named)
    )


def rows_of(found):
    return sorted(tuple(row.values()) for row in found.counts.data.to_pylist())


def item(found, name):
    (row,) = (row for row in found.items.data.to_pylist() if row["feedid"] == name)
    return row


def dropped(found, table):
    return [rule.dropped for rule in found.ledger if rule.table == table]


def sentence(directory, *settings, **flags):
    with pytest.raises(InputError) as caught:
        load(directory, *settings, **flags)
    return str(caught.value)


def test_counts_plays_and_forwards_by_feed_and_day(tmp_path):
    write(tmp_path)
    found = load(tmp_path)
    assert found.counts.data.column_names == ["feedid", "period", "clicks", "shares"]
    assert rows_of(found) == [("007", 14, 1, 0), ("1", 1, 2, 1), ("1", 3, 1, 0), ("2", 1, 1, 1)]
    assert [path.name for path in found.inputs] == ["user_action.csv", "feed_info.csv"]


@pytest.mark.parametrize(
    ("settings", "flags"),
    [(("behaviour=like",), {}), ((), {"numerator": "like"})],
)
def test_any_behaviour_may_be_counted(tmp_path, settings, flags):
    write(tmp_path)
    assert rows_of(load(tmp_path, *settings, **flags))[1:3] == [("1", 1, 2, 1), ("1", 3, 1, 0)]
    with pytest.raises(InputError, match=r"^--source_set=behaviour=likes: .* Did you mean like\?"):
        load(tmp_path, "behaviour=likes")


def test_every_ugly_way_of_writing_ids_texts_and_lists_is_read(tmp_path):
    write(tmp_path)
    found = load(tmp_path)
    assert item(found, "1") == {
        "feedid": "1",
        "authorid": "5",
        "bgm_song_id": "123",
        "bgm_singer_id": "",
        "videoplayseconds": 12.0,
        "description": "31 4 159",
        **dict.fromkeys(("ocr", "asr", "description_char", "ocr_char", "asr_char"), ""),
        "manual_keyword_list": ["8", "9"],
        "machine_keyword_list": [],
        "manual_tag_list": ["9", "6", "222"],
        "machine_tag_list": ["8", "9", "6"],
    }
    assert item(found, "2")["machine_tag_list"] == ["8"]
    assert dropped(found, "manual_tag_list") == [1]


def test_unlikely_machine_tags_can_be_left_out(tmp_path):
    write(tmp_path)
    found = load(tmp_path, "tag_probability=0.5")
    assert item(found, "1")["machine_tag_list"] == ["9", "6"]
    assert item(found, "2")["machine_tag_list"] == ["8"]
    assert dropped(found, "tags") == [2]


def test_a_feed_without_a_row_is_an_item_with_empty_columns(tmp_path):
    write(tmp_path)
    found = load(tmp_path)
    assert set(item(found, "007").values()) == {"007", None}
    assert found.ledger[-1].note == "1 feeds that were played have no row in feed_info.csv"
    flags = TableFlags(
        item_column="feedid",
        taxonomies=("manual_tag_list", "machine_tag_list"),
        categoricals=("authorid", "bgm_song_id"),
        numerics=("videoplayseconds",),
        texts=("description",),
    )
    panel = counts.count(found.counts, found.items, flags, TaskFlags()).panel()
    assert panel.item_ids.tolist() == ["1", "2", "007"]
    specs, _ = items.fit_fields(found.items, panel.release >= 0, flags)
    assert [spec.max_values for spec in specs] == [3, 3, 1, 1]
    assert floats(found.items, "videoplayseconds", "numerics")[:2].tolist() == [12, 30]
    assert items.texts_of(found.items, "description").tolist() == ["31 4 159", "", ""]


def test_windows_bom_and_repeated_headers_change_nothing(tmp_path):
    write(tmp_path)
    plain = rows_of(load(tmp_path))
    write(tmp_path, [*PLAYS[:2], dict(zip(ACTIONS, ACTIONS, strict=True)), *PLAYS[2:]], end="\r\n")
    path = tmp_path / "user_action.csv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    found = load(tmp_path)
    assert rows_of(found) == plain
    assert found.ledger[0].dropped == 1


def test_quoted_line_breaks_in_texts_are_white_space(tmp_path):
    write(tmp_path, feeds=[feed(1, ocr='"1 2\n3"'), feed(2)])
    assert item(load(tmp_path), "1")["ocr"] == "1 2 3"


def test_rows_with_an_empty_feed_day_or_label_are_left_out(tmp_path):
    write(tmp_path, [*PLAYS, play("", 1), play(1, ""), play(1, 1, forward="")])
    found = load(tmp_path)
    assert rows_of(found)[1] == ("1", 1, 2, 1)
    assert dropped(found, "plays") == [0, 3, 0]


def test_embeddings_are_vectors(tmp_path):
    write(tmp_path)
    long = " ".join(["0.5"] * EMBEDDING_LENGTH) + " "
    (tmp_path / "feed_embeddings.csv").write_text(
        f"feedid,feed_embedding\n1,{long}\n2,1e-3 -2\n9,\n1,{long}\n"
    )
    found = load(tmp_path)
    table = found.vectors["feed_embedding"]
    assert table.data["feedid"].to_pylist() == ["1", "2"]
    assert table.data["vector"].type == pa.list_(pa.float32())
    assert table.data["vector"][1].as_py()[:3] == pytest.approx([1e-3, -2, 0])
    assert [rule.dropped for rule in found.ledger[-2:]] == [1, 1]
    assert items.fit_vector("feed_embedding", table).dim == EMBEDDING_LENGTH
    assert found.inputs[-1].name == "feed_embeddings.csv"
    assert load(tmp_path, "embeddings=none").vectors == {}


def test_files_that_were_saved_again_with_other_separators_are_read(tmp_path):
    write(tmp_path)
    usual = rows_of(load(tmp_path))
    for separator in ";\t":
        saved = text(ACTIONS, PLAYS).replace(",", separator)
        (tmp_path / "user_action.csv").write_text(saved)
        assert rows_of(load(tmp_path)) == usual


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (
            "user_action.csv",
            "userid,feedid,date_\n1,2,3\n",
            "{} has no column 'forward' (named by --source_set=actions); it has userid, feedid, "
            "date_",
        ),
        (
            "user_action.csv",
            text(ACTIONS, [*PLAYS, play(1, "Monday")]),
            "{} line 7, column date_: a day must be a whole number of 0 or more, below 2**53. "
            "Received: 'Monday'",
        ),
        (
            "user_action.csv",
            text(ACTIONS, [*PLAYS, play(1, 1, forward=2)]),
            "{} line 7, column forward: a label must be 0 or 1. Received: '2'",
        ),
        (
            "user_action.csv",
            text(ACTIONS, []),
            "{}: the actions table has no rows",
        ),
        (
            "feed_info.csv",
            text(FEEDS, [feed(1, machine_tag_list="8 0.5;9 often")]),
            "{} line 2, column machine_tag_list: an entry must be a tag and its probability. "
            "Received: '9 often'",
        ),
        (
            "feed_info.csv",
            text(FEEDS, [feed(1), feed(2), feed(1, ocr="3")]),
            "{} line 4, column feedid: duplicate feedid '1', with other values than in "
            "its first row; keep one of the two rows",
        ),
        (
            "feed_embeddings.csv",
            "feedid,feed_embedding\n1,0.5 half\n",
            "{} line 2, column feed_embedding: must be numbers separated by spaces. "
            "Received: 'half'",
        ),
        (
            "feed_embeddings.csv",
            "feedid,feed_embedding\n1,1\n2," + "1 " * 513 + "\n",
            "{} line 3, column feed_embedding: a vector of 513 numbers, but 512 are expected",
        ),
    ],
)
def test_a_wrong_file_is_one_sentence(tmp_path, file, content, message):
    write(tmp_path)
    (tmp_path / file).write_text(content)
    assert sentence(tmp_path) == message.format(tmp_path / file)


def test_a_feed_that_stands_twice_alike_counts_once(tmp_path):
    write(tmp_path, feeds=[*CATALOGUE, CATALOGUE[0]])
    found = load(tmp_path)
    assert found.items.data["feedid"].to_pylist() == ["1", "2", "007"]
    assert dropped(found, "feeds") == [0, 1, 0]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from(["1", "02", "3.0", ""]),
            st.sampled_from(["1", "2", " 14", ""]),
            st.sampled_from(["0", "1", ""]),
        ),
        min_size=1,
        max_size=30,
    ),
    behaviour=st.sampled_from(BEHAVIOURS),
)
def test_counts_are_those_of_a_loop_over_the_rows(tmp_path, rows, behaviour):
    write(tmp_path, [play("1", "1"), *(play(f, d, **{behaviour: b}) for f, d, b in rows)])
    wanted = collections.defaultdict(lambda: [0, 0])
    with (tmp_path / "user_action.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["feedid"] and row["date_"].strip() and row[behaviour]:
                cell = wanted[row["feedid"].removesuffix(".0"), int(row["date_"])]
                cell[0] += 1
                cell[1] += int(row[behaviour])
    found = load(tmp_path, f"behaviour={behaviour}")
    assert rows_of(found) == sorted((*key, *cell) for key, cell in wanted.items())
