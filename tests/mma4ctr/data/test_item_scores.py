import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from mmnet.checks import InputError
from mmnet.mma4ctr.data import item_scores

ITEMS = np.array([3, 5, 8])


def scores(tmp_path, **columns):
    path = tmp_path / "scores.parquet"
    pyarrow.parquet.write_table(pa.table(columns), path)
    return str(path)


def test_scores_become_columns_and_what_has_none_the_mean(tmp_path):
    path = scores(tmp_path, item_id=["8", "3", "99"], predicted_share_rate=[4.0, 2.0, 70.0])
    found = item_scores.read(path, ITEMS)
    np.testing.assert_array_equal(found.columns, [[2, 1], [3, 0], [4, 1]])
    assert found.kept.all()


def test_what_was_decided_to_drop_is_dropped(tmp_path):
    path = scores(
        tmp_path,
        item_id=["3", "5", "8"],
        predicted_share_rate=[1.0, 2.0, 3.0],
        decision=["drop", "explore", "keep"],
    )
    assert item_scores.read(path, ITEMS).kept.tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"item_id": ["3"]}, "no column 'predicted_share_rate'"),
        (
            {"item_id": ["3", "a"], "predicted_share_rate": [1.0, 1.0]},
            "ids must be whole numbers.*'a'",
        ),
        (
            {"item_id": ["3", "3"], "predicted_share_rate": [1.0, 1.0]},
            "row 2, .* duplicate item 3",
        ),
        ({"item_id": ["4"], "predicted_share_rate": [1.0]}, "none of its item_ids occur"),
    ],
)
def test_what_is_wrong_is_told(columns, sentence, tmp_path):
    path = scores(tmp_path, **columns)
    with pytest.raises(InputError, match=sentence):
        item_scores.read(path, ITEMS)


DAYS = item_scores.Days(first=19_118, number=3)  # 2022-05-06 to 05-08
SEVERAL = {
    "item_id": ["3", "3", "5", "99", "3", "5", "5"],
    "period": [
        *("2022-05-06", "2022-05-07", "2022-05-07", "2022-05-07"),
        *("2022-05-09", "2022-05-10", "2022-05-06"),
    ],
    "predicted_share_rate": [1.0, 2.0, 4.0, 9.0, 6.0, 8.0, float("nan")],
}


def test_scores_of_several_days_are_columns_of_the_item_and_the_day(tmp_path):
    found = item_scores.read(scores(tmp_path, **SEVERAL), ITEMS, days=DAYS)
    wanted = np.zeros((3, 4, 2))  # of the third day there are no scores
    wanted[:, [0, 1, 3], 0] = [1, 3, 6]  # the mean of a day, for items without a score
    wanted[0, [0, 1, 3]], wanted[1, 1] = [(1, 1), (2, 1), (6, 1)], (4, 1)
    np.testing.assert_array_equal(found.by_day.reshape(3, 4, 2), wanted)
    assert found.kept.all()
    numbered = SEVERAL | {"period": [1, 2, 2, 2, 4, 5, 1]}
    again = item_scores.read(scores(tmp_path, **numbered), ITEMS, days=item_scores.Days(1, 3))
    np.testing.assert_array_equal(again.by_day, found.by_day)


@pytest.mark.parametrize("kind", [bool, str])
def test_scores_that_a_model_had_learned_are_not_read(tmp_path, kind):
    trained = [kind(n in (0, 4)) for n in range(7)]
    path = scores(tmp_path, **SEVERAL, in_training=trained)
    found = item_scores.read(path, ITEMS, days=DAYS).by_day.reshape(3, 4, 2)
    assert np.argwhere(found[..., 1]).tolist() == [[0, 1], [1, 1]]
    path = scores(tmp_path, **SEVERAL, in_training=[kind(True)] * 7)
    with pytest.raises(InputError, match="no score is of a day of the log that its model"):
        item_scores.read(path, ITEMS, days=DAYS)


def test_several_days_ask_for_rows_with_days_and_for_no_decision(tmp_path):
    path = scores(tmp_path, **SEVERAL)
    with pytest.raises(InputError, match=r"several periods, .*; score one period only"):
        item_scores.read(path, ITEMS)
    twice = SEVERAL | {"item_id": ["3", "3", "3", "99", "3", "5", "5"]}
    with pytest.raises(InputError, match=r"row 3, .* duplicate item 3 in one period"):
        item_scores.read(scores(tmp_path, **twice), ITEMS, days=DAYS)
    path = scores(tmp_path, **SEVERAL, decision=["keep"] * 7)
    with pytest.raises(InputError, match="several periods and decisions"):
        item_scores.read(path, ITEMS, days=DAYS)
    one = {name: values[:1] for name, values in SEVERAL.items()}
    assert item_scores.read(scores(tmp_path, **one), ITEMS, days=DAYS).by_day is None
