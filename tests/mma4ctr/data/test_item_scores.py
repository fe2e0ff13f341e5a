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
