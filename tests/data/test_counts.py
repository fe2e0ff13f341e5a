import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmnet.checks import InputError
from mmnet.config import TableFlags, TaskFlags
from mmnet.data import counts, share_rates
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


# ------------------------------------------------------------------------- further rates

LIKES = {"also_predict": ("like",), "rate": ("like=likes/views",)}


def two_rates(rows, *, items=None, borders=None, **flags):
    """The counts of (item_id, period, clicks, shares, views, likes) rows."""
    names = ["item_id", "period", "clicks", "shares", "views", "likes"]
    columns = [pa.array(list(values)) for values in zip(*rows, strict=True)]
    return counts.count(
        Table(pa.table(columns, names), "counts"),
        Table(pa.table(items or {"item_id": ITEMS}), "items"),
        TableFlags(**LIKES | flags),
        TaskFlags(),
        borders=borders,
    )


@pytest.mark.parametrize("borders", [None, [0, 1, 2]])
def test_a_further_rate_has_a_panel_of_its_own(borders):
    rows = [("b", 5, 2, 0, 7, 3), ("a", 4, 9, 1, 8, 0), ("b", 3, 0, 0, 4, 1)]
    found = two_rates(rows, borders=borders).panel()
    np.testing.assert_array_equal(found.clicks, [[0, 9, 0], [0, 0, 2]])
    np.testing.assert_array_equal(found.rates["like"].clicks, [[0, 8, 0], [4, 0, 7]])
    np.testing.assert_array_equal(found.rates["like"].shares, [[0, 0, 0], [1, 0, 3]])
    like = found.of_rate("like")
    assert (like.clicks is found.rates["like"].clicks, like.rates) == (True, {})
    # An item's release that is not given is the main rate's first click, and hides no view.
    assert found.release.tolist() == [1, 2]
    assert share_rates.observed(like, 1).tolist() == [[False, True, False], [True, False, True]]


def test_a_panel_is_cut_with_all_its_rates():
    found = two_rates([("b", 5, 2, 0, 7, 3), ("a", 4, 9, 1, 8, 0)]).panel()
    assert found.part(slice(1, 2)).rates["like"].clicks.tolist() == [[0, 7]]
    assert found.columns(-1, 1).rates["like"].clicks.tolist() == [[0, 8], [0, 0]]
    assert found.of_rate("").rates == {}


def test_rates_may_share_columns():
    rows = [("a", 4, 9, 1, 8, 2)]
    found = two_rates(rows, rate=("like=likes/clicks",)).panel()
    assert found.rates["like"].clicks.tolist() == found.clicks.tolist()


def test_views_before_a_given_release_are_told_of_their_rate():
    items = {"item_id": ITEMS, "since": [4, 1]}
    rows = [("a", 3, 0, 0, 5, 1), ("a", 4, 9, 1, 8, 0)]
    ledger = two_rates(rows, items=items, release="since").ledger
    dropped = {rule.table: rule.dropped for rule in ledger if "release" in rule.rule}
    assert dropped == {"counts": 0, "counts, like": 1}


def test_exact_repeats_are_left_out_of_every_rate():
    items = {"item_id": ITEMS, "since": [4, 1]}
    rows = [("a", 3, 0, 0, 5, 1), ("a", 3, 0, 0, 5, 1), ("a", 4, 9, 1, 8, 0)]
    found = two_rates(rows, items=items, release="since", repeats="drop")
    assert found.panel().rates["like"].clicks[0].tolist() == [5, 8]
    lines = [(rule.table, rule.rows_in, rule.dropped) for rule in found.ledger[1:]]
    assert lines == [("counts", 3, 1), ("counts", 2, 0), ("counts, like", 2, 1)]


@pytest.mark.parametrize(
    ("row", "flags", "said"),
    [
        (
            ("a", 3, 9, 1, 5, 6),
            {},
            "counts table row 1, column likes: 6 likes of 5 views; likes must not exceed views. If "
            "they are not a subset, set --rate_may_exceed_one",
        ),
        (("a", 3, 9, 1, -5, 0), {}, "counts table row 1, column views: "),
        (("a", 3, 9, 1, None, 0), {}, "counts table row 1, column views: "),
        (
            ("a", 3, 9, 1, 1, 1 << 40),
            {"rate_may_exceed_one": True},
            "counts table: rates add up to more than 274,877,906,944 percent in one period; use a "
            "smaller unit for views, or a larger one for likes",
        ),
    ],
)
def test_a_wrong_count_of_a_further_rate_is_one_sentence(row, flags, said):
    with pytest.raises(InputError) as caught:
        two_rates([row], **flags)
    assert str(caught.value).startswith(said)


def test_empty_counts_of_a_further_rate_are_zero_when_asked():
    found = two_rates([("a", 3, 9, 1, None, None)], empty_counts="zero").panel()
    assert found.rates["like"].clicks.tolist() == [[0], [0]]


def test_a_rate_without_also_predict_is_not_read():
    names = counts.columns(TableFlags(rate=("like=likes/views",)))
    assert list(names) == ["item_id", "period", "clicks", "shares"]
    assert counts.columns(TableFlags(**LIKES))["likes"] == "rate"
