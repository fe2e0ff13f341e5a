"""Weighted means are of all items that were decided on; the last decision counts."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from mmnet.checks import InputError
from mmnet.config import TableFlags
from mmnet.data.calendars import Calendar
from mmnet.data.tables import Table
from mmnet.promotion import propensities
from mmnet.promotion.paired import Paired

DAYS = Calendar(kind="integer")
NAMES = propensities.Columns("item_id", "period", "decision", "propensity")


def table(**columns):
    return Table(pa.table(columns), "decisions")


def logged(rows):
    return pd.DataFrame(rows, columns=["item_id", "period", "decision", "propensity"])


def test_a_weighted_mean_is_unbiased_where_the_unweighted_one_is_not():
    """The filter keeps what scores high, and the model's error is larger where it scores low."""
    draws = np.random.default_rng(0)
    unweighted, weighted = [], []
    for _ in range(60):
        score = draws.uniform(size=1000)
        propensity = np.where(score > 0.6, 1.0, 0.2)
        champion = draws.chisquare(1, 1000) * (2 - score)
        challenger = draws.chisquare(1, 1000) * (1.2 + 0.2 * score)
        seen = draws.uniform(size=1000) < propensity
        item = np.flatnonzero(seen)
        table = logged(
            [(str(i), 5, "keep" if propensity[i] == 1 else "explore", propensity[i]) for i in item]
        )
        weight, _ = propensities.weigh(
            item.astype(str).astype(object), np.full(len(item), 5), table, clip=20
        )
        plain = Paired(champion[seen], challenger[seen], item)
        whole = Paired(champion[seen], challenger[seen], item, weight)
        unweighted.append(plain.difference().value)
        weighted.append(whole.difference().value)
    # E[1.2 + 0.2 u] - E[2 - u] = 1.3 - 1.5 over all items. Among those that are seen the share of
    # kept ones is 0.4 of 0.52, E[u] is 0.4 * 0.8 / 0.52 + 0.12 * 0.3 / 0.52 = 0.685, and so the
    # challenger seems to be 1.2 * 0.685 - 0.8 = 0.022 worse.
    error = np.std(weighted) / np.sqrt(60)
    assert np.mean(weighted) == pytest.approx(-0.2, abs=3 * error)
    error = np.std(unweighted) / np.sqrt(60)
    assert np.mean(unweighted) == pytest.approx(0.022, abs=3 * error)


def test_the_last_decision_counts_and_later_ones_do_not():
    rows = logged([("a", 3, "explore", 0.5), ("a", 5, "explore", 0.25), ("b", 9, "explore", 0.1)])
    item = np.array(["a", "a", "a", "b"], object)
    weight, about = propensities.weigh(item, np.array([3, 4, 5, 8]), rows, clip=20)
    assert weight.tolist() == [2, 2, 4, 1]
    assert about.decided == 0.75
    assert (about.let_through, about.explored) == (0, 0.5)


def test_clipping_and_what_the_log_cannot_explain_are_reported():
    rows = logged([("a", 3, "explore", 0.01), ("b", 3, "drop", 0.0), ("c", 3, "keep", 1.0)])
    item = np.array(["a", "b", "c", "d"], object)
    weight, about = propensities.weigh(item, np.full(4, 3), rows, clip=10)
    assert weight.tolist() == [10, 0, 1, 1]
    assert (about.largest, about.clip, about.clipped, about.dropped) == (100, 10, 0.25, 0.25)
    assert about.let_through == about.explored == 0.25
    # (10 + 1 + 1)² / (100 + 1 + 1)
    assert about.effective_rows == pytest.approx(144 / 102)
    assert about.to_json()["rows"] == 4


def test_rows_that_only_dropped_items_have_are_refused():
    with pytest.raises(InputError, match="no test row was let through"):
        propensities.weigh(
            np.array(["b"], object), np.array([3]), logged([("b", 3, "drop", 0.0)]), 20
        )
    with pytest.raises(InputError, match=r"--clip=0.5 must be 1 or more"):
        propensities.weigh(np.array(["b"], object), np.array([3]), logged([]), clip=0.5)


def test_a_table_is_read_like_any_other(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("id,day,what,p\n7,3,keep,1\n8.0,4,explore,0.5\n")
    names = propensities.Columns("id", "day", "what", "p")
    found = propensities.read(str(path), TableFlags(), DAYS, names)
    assert found.to_numpy().tolist() == [["7", 3, "keep", 1.0], ["8", 4, "explore", 0.5]]
    with pytest.raises(InputError, match=r"'item_id'.*--decisions"):
        propensities.read(str(path), TableFlags(), DAYS, NAMES)


RIGHT = {"item_id": ["a", "b"], "period": [1, 1], "decision": ["keep"] * 2, "propensity": [1, 1]}


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"propensity": [1, 1.5]}, "row 2, column propensity: a propensity is .* Received: 1.5"),
        ({"propensity": [1, None]}, "row 2, column propensity: a propensity is a probability"),
        ({"decision": ["keep", "hold"]}, "row 2, column decision: a decision is one of keep"),
        ({"item_id": ["a", "a"]}, "row 2: a second decision on item a for the same period"),
        ({"period": [1, 1.5]}, "row 2, column period: a period must be a whole number"),
    ],
)
def test_a_wrong_value_is_refused_with_its_row(wrong, sentence):
    with pytest.raises(InputError, match=sentence):
        propensities.of_table(table(**RIGHT | wrong), DAYS, NAMES)
