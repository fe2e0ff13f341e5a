import numpy as np
import pyarrow as pa
import pytest

from mmnet.checks import InputError
from mmnet.config import TableFlags, TaskFlags
from mmnet.data.ids import ItemIds
from mmnet.data.tables import Table
from mmnet.inspection import cells

IDS = ItemIds(pa.chunked_array([["a", "b"]]))


def read(rows, **flags):
    names = ("item_id", "period", "clicks", "shares")
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    table, flags = Table(pa.table(columns), "counts"), TableFlags(**flags)
    survey, _ = cells.surveyed(table, flags, TaskFlags())
    return cells.read(table, IDS, flags, TaskFlags(), survey)


def test_good_rows_become_a_panel_as_in_preparing():
    found = read([("a", 3, 5, 1), ("b", 5, 4, 0), ("a", 4, 0, 0)])
    assert found.panel.clicks.tolist() == [[5, 0, 0], [0, 0, 4]]
    assert found.panel.shares.tolist() == [[1, 0, 0], [0, 0, 0]]
    assert (found.first_seen.tolist(), found.problems) == ([0, 2], [])
    assert found.periods_with_rows.tolist() == [True, True, True]


def test_every_kind_of_mistake_is_named_at_once():
    good = [("a", str(period), "5", "1") for period in range(9)]
    found = read(
        [
            *good,
            ("x", "1", "5", "1"),
            ("b", "soon", "5", "1"),
            ("b", "2", "-5", "1"),
            ("b", "3", "", "1"),
            ("b", "4", "5", "much"),
            ("b", "5", "5", "7"),
            ("a", "6", "5", "1"),
        ]
    )
    said = [one.sentence for one in found.problems]
    assert [one.rows for one in found.problems] == [1, 1, 2, 1]
    for part in ("row 10, column item_id", "row 11, column period", "row 12, column clicks"):
        assert any(part in one for one in said), part
    assert any("row 14, column shares" in one for one in said)
    assert (found.above, found.duplicates.rows, found.duplicates.exact) == (1, 1, 1)
    assert found.above_example.endswith("7 shares of 5 clicks")


def test_counts_of_one_key_are_equal_or_not():
    once = [("a", period, 5, 1) for period in range(4)]
    equal = read([*once, *once]).duplicates
    assert (equal.rows, equal.equal, equal.exact) == (4, 4, 4)
    parts = read([*once, *(("a", period, 2, 1) for period in range(4))]).duplicates
    assert (parts.rows, parts.equal, parts.exact) == (4, 0, 0)


@pytest.mark.parametrize("shard_items", [1, 2])
def test_shards_change_nothing(shard_items):
    draw = np.random.default_rng(0)
    rows = [(name, period, int(draw.integers(1, 9)), 0) for name in "ab" for period in range(6)]
    np.testing.assert_array_equal(
        read(rows, shard_items=shard_items).panel.clicks, read(rows).panel.clicks
    )


def test_the_second_hour_of_one_name_is_no_duplicate():
    # Summer time ended at 2024-10-27 01:00 UTC.
    hours = [f"2024-10-{26 + h // 24:02}T{h % 24:02}:30Z" for h in range(20, 30)]
    found = read([("a", hour, 5, 1) for hour in hours], period="1h", time_zone="Europe/Berlin")
    assert (found.duplicates.rows, found.panel.clicks.max(), found.panel.num_periods) == (0, 10, 9)


def test_a_flag_that_helps_with_periods_is_found():
    days = ["2024-05-01", "2024-05-02"] * 200 + ["1990-01-01"]
    table = Table(pa.table({"period": days}), "counts")
    found, problem = cells.surveyed(table, TableFlags(), TaskFlags())
    assert problem.fix == ("stray_periods", "drop")
    assert found.last - found.first == 1


def test_a_table_of_mistakes_only_is_refused():
    with pytest.raises(InputError, match="every row is wrong, so no rows are left"):
        read([("x", 1, 5, 1)])


@pytest.mark.parametrize("rate_may_exceed_one", [False, True])
def test_mistakes_in_the_counts_of_a_further_rate_are_named(rate_may_exceed_one):
    columns = {"item_id": ["a"] * 4, "period": [1, 2, 3, 4], "clicks": [5] * 4, "shares": [1] * 4}
    columns |= {"views": ["9", "9", "", "9"], "likes": ["1", "10", "2", "11"]}
    flags = TableFlags(
        also_predict=("like",),
        rate=("like=likes/views",),
        rate_may_exceed_one=rate_may_exceed_one,
    )
    table = Table(pa.table(columns), "counts")
    survey, _ = cells.surveyed(table, flags, TaskFlags())
    found = cells.read(table, IDS, flags, TaskFlags(), survey)
    said = [one.sentence for one in found.problems]
    assert any("row 3, column views" in one for one in said)
    above = (
        "counts table row 2, column likes: 10 likes of 9 views: the numerator of "
        "--also_predict=like is above its denominator; correct the counts, or set "
        "--rate_may_exceed_one"
    )
    assert (above in said) is not rate_may_exceed_one
    assert [one.rows for one in found.problems if one.sentence == above] in ([2], [])
    assert found.panel.clicks.sum() == 20  # mistakes in another rate leave the main one as it is
