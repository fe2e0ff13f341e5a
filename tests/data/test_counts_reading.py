"""Counts of several rates; `test_counts.py` has the rules of one."""

import numpy as np
import pyarrow as pa
import pytest

from mmnet.checks import InputError
from mmnet.config import TableFlags, TaskFlags
from mmnet.data import counts, share_rates
from mmnet.data.tables import Table

ITEMS = ["a", "b"]
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
