import itertools

import numpy as np
import pytest

from mmnet.checks import InputError
from mmnet.mma4ctr.config import InteractionFlags
from mmnet.mma4ctr.data import interactions
from mmnet.mma4ctr.data.weighted_label import WEIGHTS
from tests.mma4ctr.files import feed, play, watch, write_tiktok, write_wechat


def read(directory, **flags):
    return interactions.read(InteractionFlags(source_dir=str(directory), **flags))


def test_a_positive_is_a_weighted_score_of_seven_or_more_in_all_128_combinations(tmp_path):
    names = ("read_comment", "like", "click_avatar", "forward", "favorite", "comment", "follow")
    combinations = list(itertools.product((0, 1), repeat=7))
    plays = [
        play(feed=number, **dict(zip(names, values, strict=True)))
        for number, values in enumerate(combinations)
    ]
    rows, _, _ = read(write_wechat(tmp_path, plays, [feed(1)]))
    # The rule as the paper states it: the weighted mean is at least one half.
    expected = [
        (4 * r + 3 * like + 2 * c + fo + fa + co + fl) / 13 >= 0.5
        for r, like, c, fo, fa, co, fl in combinations
    ]
    assert rows.item_id.tolist() == list(range(128))
    assert rows.label.astype(bool).tolist() == expected
    assert sum(WEIGHTS.values()) == 13


def test_rows_are_in_the_order_of_user_time_item_label_device(tmp_path):
    plays = [play(9, 2, 1), play(7, 5, 2), play(7, 6, 1, read_comment=1, like=1), play(7, 5, 1)]
    rows, rules, paths = read(write_wechat(tmp_path, plays, [feed(1)]))
    assert rows.user_id.tolist() == [7, 7, 7, 9]
    assert rows.item_id.tolist() == [5, 6, 5, 2]
    assert rows.label.tolist() == [0, 1, 0, 0]
    assert rules[0].rows_in == rules[0].rows_out == 4
    assert [path.name for path in paths] == ["user_action.csv"]


def test_a_row_with_a_gap_is_left_out_and_counted(tmp_path):
    plays = [play(), play(like=""), play(feed="")]
    rows, rules, _ = read(write_wechat(tmp_path, plays, [feed(1)]))
    assert (len(rows), rules[0].dropped) == (1, 2)


def test_columns_are_found_by_name(tmp_path):
    write_wechat(tmp_path, [play(3, 4, 5, device=2)], [feed(1)])
    path = tmp_path / "user_action.csv"
    lines = [line.split(",") for line in path.read_text().splitlines()]
    path.write_text("\n".join(",".join(reversed(line)) for line in lines) + "\n")
    rows, _, _ = read(tmp_path)
    assert (rows.user_id[0], rows.item_id[0], rows.time[0], rows.device[0]) == (3, 4, 5, 2)


def test_tiktok_keeps_users_with_enough_raw_rows(tmp_path):
    rows = [watch(5, item, like=1, finish=0, time=item) for item in range(4)]
    rows += [watch(6, item, like=0, finish=1) for item in range(3)]
    write_tiktok(tmp_path, rows)
    found, rules, _ = read(tmp_path, source="tiktok", min_rows=4)
    assert found.user_id.tolist() == [5] * 4
    assert found.label.tolist() == [1] * 4
    assert (rules[1].dropped, rules[1].note) == (3, "1 of 2 users")
    found, _, _ = read(tmp_path, source="tiktok", min_rows=1, label="finish")
    assert found.label.tolist() == [0] * 4 + [1] * 3


def test_what_is_wrong_is_said_with_its_place(tmp_path):
    good = [play(), play(like=1)]
    write_wechat(tmp_path / "two", [*good, play(like=2)], [feed(1)])
    with pytest.raises(InputError, match=r"user_action.csv line 4, column like: .* 0 or 1.*2"):
        read(tmp_path / "two")
    write_wechat(tmp_path / "text", [*good, play("x7")], [feed(1)])
    with pytest.raises(InputError, match=r"line 4, column userid: must be a whole number.*'x7'"):
        read(tmp_path / "text")
    write_wechat(tmp_path / "tabs", good, [feed(1)], separator="\t")
    rows, _, _ = read(tmp_path / "tabs")  # as a spreadsheet may save it again
    assert sorted(rows.label) == [0, 0]
    write_wechat(tmp_path / "none", [], [feed(1)])
    with pytest.raises(InputError, match="has no rows"):
        read(tmp_path / "none")
    with pytest.raises(InputError, match=r"user_action.csv: no such file"):
        read(tmp_path)
    with pytest.raises(InputError, match="needs --source_dir"):
        interactions.read(InteractionFlags())


def test_tiktok_with_commas_or_fields_missing_is_refused(tmp_path):
    write_tiktok(tmp_path, [watch(), watch(6)])
    path = tmp_path / "final_track1_train.txt"
    text = path.read_text()
    path.write_text(text.replace("\t", ","))
    with pytest.raises(InputError, match="separated by commas, but tabs are expected"):
        read(tmp_path, source="tiktok")
    path.write_text(text + "1\t2\t3\n")
    with pytest.raises(InputError, match=r"line 3: 3 fields, but 12 are expected"):
        read(tmp_path, source="tiktok")
    path.write_text(text)
    with pytest.raises(InputError, match="lower --min_rows"):
        read(tmp_path, source="tiktok", min_rows=50)


def test_an_unknown_source_and_a_label_that_it_lacks_are_refused():
    with pytest.raises(InputError, match="--label=finish: --source=wechat has weighted"):
        interactions.label_of(InteractionFlags(label="finish"))
    with pytest.raises(InputError, match=r"must be one of wechat, tiktok.*Did you mean tiktok"):
        interactions.label_of(InteractionFlags(source="tiktak"))


def test_the_same_rows_whatever_the_order_of_the_file(tmp_path):
    draw = np.random.default_rng(0)
    plays = [play(int(u), int(f), int(d)) for u, f, d in draw.integers(1, 9, (60, 3))]
    first, _, _ = read(write_wechat(tmp_path / "a", plays, [feed(1)]))
    draw.shuffle(plays)
    again, _, _ = read(write_wechat(tmp_path / "b", plays, [feed(1)]))
    for name in ("user_id", "item_id", "time", "device", "label"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
