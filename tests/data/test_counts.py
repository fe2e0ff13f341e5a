import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmnet.checks import InputError
from mmnet.config import TableFlags, TaskFlags
from mmnet.data import counts
from mmnet.data.tables import Table

ITEMS = ["a", "b"]


def panel(rows, *, items=None, task=None, **flags):
    """The panel of (item_id, period, clicks, shares) rows."""
    columns = [pa.array(list(values)) for values in zip(*rows, strict=True)]
    table = pa.table(columns, ["item_id", "period", "clicks", "shares"])
    items = pa.table(items or {"item_id": ITEMS})
    found = counts.count(
        Table(table, "counts"), Table(items, "items"), TableFlags(**flags), task or TaskFlags()
    )
    return found.panel(), found.ledger


def refused(*rows, **more):
    with pytest.raises(InputError) as caught:
        panel(rows, **more)
    return str(caught.value)


# ---------------------------------------------------------------------------------- panels


def test_lays_counts_out_by_item_and_period():
    found, _ = panel([("b", 5, 2, 0), ("a", 4, 9, 1), ("b", 3, 4, 1)])
    np.testing.assert_array_equal(found.clicks, [[0, 9, 0], [4, 0, 2]])
    np.testing.assert_array_equal(found.shares, [[0, 1, 0], [1, 0, 0]])
    assert [found.label(column) for column in range(3)] == [3, 4, 5]


@settings(deadline=None, max_examples=30)
@given(st.permutations([("b", 5, 2, 0), ("a", 4, 9, 1), ("b", 3, 4, 1), ("a", 3, 1, 1)]))
def test_the_order_of_the_rows_changes_nothing(rows):
    found, _ = panel(rows)
    np.testing.assert_array_equal(found.clicks, [[1, 9, 0], [4, 0, 2]])
    np.testing.assert_array_equal(found.shares, [[1, 1, 0], [1, 0, 0]])


def test_the_order_of_the_items_only_permutes():
    found, _ = panel([("a", 4, 9, 1), ("b", 3, 4, 1)], items={"item_id": ["b", "c", "a"]})
    np.testing.assert_array_equal(found.clicks, [[4, 0], [0, 0], [0, 9]])
    np.testing.assert_array_equal(found.release, [0, 2, 1])


def test_shards_that_are_divided_change_nothing(monkeypatch):
    rows = [("b", 5, 2, 0), ("c", 4, 9, 1), ("a", 3, 4, 1), ("b", 4, 1, 1), ("c", 4, 9, 1)]
    items = {"item_id": ["a", "b", "c", "d"], "since": [4, None, 5, None]}
    whole, ledger = panel(rows, items=items, release="since", repeats="drop", shard_items=3)
    filled = []
    monkeypatch.setattr(counts, "SHARD_CELLS", 3)  # one item in three periods
    of_shard = counts.Counted._panel
    monkeypatch.setattr(
        counts.Counted,
        "_panel",
        lambda self, *of: filled.append(of_shard(self, *of)) or filled[-1],
    )
    divided, same = panel(rows, items=items, release="since", repeats="drop", shard_items=3)
    assert [part.clicks.shape for part in filled] == [(1, 3)] * 4
    np.testing.assert_array_equal(divided.clicks, whole.clicks)
    np.testing.assert_array_equal(divided.shares, whole.shares)
    np.testing.assert_array_equal(divided.release, whole.release)
    assert same == ledger


def test_an_item_is_released_when_first_clicked_unless_the_table_says_otherwise():
    rows = [("a", 3, 0, 0), ("a", 4, 9, 1), ("b", 3, 4, 1)]
    assert panel(rows)[0].release.tolist() == [1, 0]
    items = {"item_id": ITEMS, "since": [2, None]}
    assert panel(rows, items=items, release="since")[0].release.tolist() == [-1, 0]


def test_counts_before_the_release_are_told_in_the_ledger():
    items = {"item_id": ITEMS, "since": [4, 1]}
    _, ledger = panel([("a", 3, 7, 0), ("a", 4, 9, 1)], items=items, release="since")
    (rule,) = [rule for rule in ledger if rule.rule == "not before the item's release"]
    assert (rule.rows_in, rule.dropped) == (2, 1)


def test_counts_of_unknown_items_are_dropped_and_told_when_asked():
    rows = [("a", 3, 7, 0), ("x", 3, 7, 0), ("y", 9, 7, 0)]
    found, ledger = panel(rows, unknown_items="drop")
    assert found.num_periods == 1
    assert (ledger[0].rows_in, ledger[0].rows_out, ledger[0].dropped) == (3, 1, 2)


def test_counts_of_unknown_items_are_refused_by_default():
    assert refused(("a", 3, 7, 0), ("x", 3, 7, 0)) == (
        "counts table row 2, column item_id: item 'x' is not in the items table (1 such rows); "
        "add it, or set --unknown_items=drop"
    )


def test_a_refusal_knows_the_ledger_of_the_rows_judged_before_it():
    rows = [("a", 3, 7, 0), ("a", 5, 9, 1), ("x", 6, 2, 1), ("a", 7, 2, 3)]
    with pytest.raises(InputError) as caught:
        panel(rows, unknown_items="drop", task=TaskFlags(first_period="4"))
    assert caught.value.ledger == [
        "counts: item is in the items table: 4 in, 1 dropped",
        "counts: not before --first_period: 3 in, 1 dropped",
    ]
    with pytest.raises(InputError) as caught:
        panel(rows)
    assert caught.value.ledger == []  # no rule has let a row pass


def test_items_of_which_none_is_known_are_not_recommended_to_be_dropped():
    assert refused(("x", 3, 7, 0), ("y", 3, 7, 0)) == (
        "counts table row 1, column item_id: item 'x' is not in the items table (2 such rows); nor "
        "is any other; does --item_column=item_id name the ids of both tables?"
    )


@pytest.mark.parametrize("empty", [None, float("nan")])
def test_an_empty_count_is_zero_when_asked(empty):
    rows = [("a", 3, 7, empty), ("a", 4, empty, empty), ("b", 4, 9, 2)]
    assert "row 1, column shares: shares must be a whole number of 0 or more" in refused(*rows[:1])
    found, _ = panel(rows, empty_counts="zero")
    np.testing.assert_array_equal(found.clicks, [[7, 0], [0, 9]])
    np.testing.assert_array_equal(found.shares, [[0, 0], [0, 2]])
    wrong = refused(("a", 3, 7, "x"), ("a", 4, 7, ""), empty_counts="zero")
    assert wrong.endswith("Received: 'x'")


def test_periods_before_the_first_one_asked_for_are_dropped_and_told():
    rows = [("a", 3, 7, 0), ("a", 5, 9, 1), ("a", 6, 2, 1)]
    found, ledger = panel(rows, task=TaskFlags(first_period="5"))
    np.testing.assert_array_equal(found.clicks, [[9, 2], [0, 0]])
    assert (ledger[1].rows_in, ledger[1].rows_out) == (3, 2)


def test_a_first_period_after_all_leaves_nothing():
    wrong = refused(("a", 3, 7, 0), task=TaskFlags(first_period="5"))
    assert wrong.startswith("counts table: no rows are left after the rules above")


def test_a_place_is_named_after_rows_were_dropped():
    rows = [("x", 3, 1, 0), ("a", 1, 1, 0), ("a", 5, 2, 3)]
    task = TaskFlags(first_period="4")
    assert refused(*rows, unknown_items="drop", task=task).startswith(
        "counts table row 3, column shares: 3 shares of 2 clicks;"
    )


def test_more_shares_than_clicks_are_a_rate_above_one_only_when_asked():
    found, _ = panel([("a", 3, 2, 6)], rate_may_exceed_one=True)
    assert found.shares[0, 0] == 6


def test_rates_that_add_up_beyond_fixed_point_are_refused():
    # 1e13 / 1 is 1e15 percent, above 2**38.
    assert refused(("a", 3, 1, 10**13), rate_may_exceed_one=True) == (
        "counts table: rates add up to more than 274,877,906,944 percent in one period; "
        "use a smaller unit for clicks, or a larger one for shares"
    )


def test_periods_that_span_more_than_a_panel_holds_are_refused():
    assert refused(("a", 0, 1, 0), ("a", 86_400, 1, 0)) == (
        "counts table: periods run from 0 to 86400, which are 86401; write dates as "
        "2024-05-31, or use a wider --period"
    )


# -------------------------------------------------------------------- the end of summer time

BERLIN = {"time_zone": "Europe/Berlin", "period": "1h"}


def test_both_hours_of_one_name_are_added_up():
    # 00:00 and 01:00 UTC are both 02:00 in Berlin on 2024-10-27.
    rows = [("a", "2024-10-27T00:00Z", 5, 1), ("a", "2024-10-27T01:00Z", 7, 2)]
    found, ledger = panel([*rows, ("b", "2024-10-27T02:00Z", 3, 0)], **BERLIN)
    np.testing.assert_array_equal(found.clicks, [[12, 0], [0, 3]])
    np.testing.assert_array_equal(found.shares, [[3, 0], [0, 0]])
    assert found.label(0) == "2024-10-27T02:00:00"
    (rule,) = [rule for rule in ledger if "summer time" in rule.rule]
    assert (rule.rows_in, rule.dropped, rule.note) == (3, 0, "1 rows were of the second one")


@pytest.mark.parametrize(
    ("times", "how", "words"),
    [
        # The same instant.
        (["2024-10-27T01:00Z"] * 2, BERLIN, "exact duplicate of row 1 (item 'a' in period"),
        # On a clock that does not say which.
        (["2024-10-27T02:00"] * 2, BERLIN, "exact duplicate of row 1 (item 'a' in period"),
        (
            ["2024-10-27T00:00Z", "2024-10-27T01:00Z"],
            BERLIN | {"period": "1d"},
            "duplicate row for item 'a' in period 2024-10-27",
        ),
        (
            ["2024-10-26T00:00Z", "2024-10-26T00:30Z"],
            BERLIN,
            "duplicate row for item 'a' in period 2024-10-26T02:00:00",
        ),
    ],
)
def test_two_rows_of_one_hour_are_refused(times, how, words):
    rows = [("a", time, 5, 1) for time in times]
    assert refused(*rows, **how).startswith(f"counts table row 2: {words}")
