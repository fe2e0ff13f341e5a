import datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmnet.checks import InputError
from mmnet.config import TableFlags, TaskFlags
from mmnet.data import counts
from mmnet.data.calendars import Calendar, calendar_of
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


def numbers(values, *, period="1d", time_zone="UTC", kind=None):
    """Period numbers of a period column."""
    table = Table(pa.table({"period": pa.array(values, kind)}), "counts")
    calendar = calendar_of(table, TableFlags(period=period, time_zone=time_zone))
    return calendar, calendar.numbers(table, "period", "period_column").tolist()


def labels(values, **how):
    calendar, found = numbers(values, **how)
    return [calendar.label(int(number)) for number in found]


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
    assert wrong.startswith("counts table: no row of the")
    assert "is left after the rules above" in wrong


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
        "give clicks in a smaller unit, or shares in a larger one"
    )


def test_epoch_seconds_are_too_many_periods():
    assert refused(("a", 1_700_000_000, 1, 0), ("a", 1_700_086_400, 1, 0)) == (
        "counts table: periods run from 1700000000 to 1700086400, 86401 of them; dates must be "
        "written as 2024-05-31, and --period may be wider"
    )


# -------------------------------------------------------------------------------- calendars


def test_whole_numbers_are_periods_of_their_own():
    calendar, found = numbers([3, -1, 7])
    assert (calendar.kind, found) == ("integer", [3, -1, 7])
    assert numbers(["3", " 4 "])[1] == [3, 4]
    assert numbers([3.0, 4.0])[1] == [3, 4]


def test_a_date_is_a_day():
    assert labels(["2024-02-28", "2024-02-29", "2024-03-01"]) == [
        "2024-02-28",
        "2024-02-29",
        "2024-03-01",
    ]
    _, found = numbers([datetime.date(2024, 2, 28), datetime.date(2024, 3, 1)])
    assert found[1] - found[0] == 2


def test_seven_day_bins_start_on_mondays_whatever_the_data():
    # 2024-05-29 is a Wednesday, 2024-06-02 a Sunday, 2024-06-03 a Monday.
    assert labels(["2024-05-29", "2024-06-02", "2024-06-03"], period="7d") == [
        "2024-05-27",
        "2024-05-27",
        "2024-06-03",
    ]


def test_hours_are_labelled_with_their_start():
    found = labels(["2024-05-29T03:59:59", "2024-05-29 04:00", "2024-05-29"], period="1h")
    assert found == ["2024-05-29T03:00:00", "2024-05-29T04:00:00", "2024-05-29"]


def test_a_time_without_a_zone_is_on_the_clock_of_the_zone():
    assert labels(["2024-05-29T23:30:00"], time_zone="Asia/Shanghai") == ["2024-05-29"]


def test_a_time_with_a_zone_is_converted():
    # Half past midnight in Shanghai, eight hours ahead, is the day before in UTC.
    assert labels(["2024-05-29T00:30:00+08:00"]) == ["2024-05-28"]
    assert labels(["2024-05-28T16:30:00Z"], time_zone="Asia/Shanghai") == ["2024-05-29"]


def test_zones_may_be_mixed_in_one_column():
    # A local clock writes two offsets a year; a date stays the date it is.
    found = labels(
        [
            "2024-01-05T23:30:00-05:00",
            "2024-07-05T23:30:00-04:00",
            "2024-07-06T03:30:00Z",
            "2024-07-05",
        ],
        time_zone="America/New_York",
    )
    assert found == ["2024-01-05", "2024-07-05", "2024-07-05", "2024-07-05"]


def test_days_follow_daylight_saving_of_a_named_zone():
    # New York, 2024-11-03: clocks go back, and the day has 25 hours, 04:00 to 05:00 UTC.
    times = [
        "2024-11-03T03:59:59Z",
        "2024-11-03T04:00:00Z",
        "2024-11-04T04:59:59Z",
        "2024-11-04T05:00:00Z",
    ]
    found = labels(times, time_zone="America/New_York")
    assert found == ["2024-11-02", "2024-11-03", "2024-11-03", "2024-11-04"]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_timestamps_of_any_unit_are_read(unit):
    values = np.array(["2024-05-29T23:59:59", "2024-05-30"], f"datetime64[{unit}]")
    assert labels(values) == ["2024-05-29", "2024-05-30"]
    zoned = pa.array(values).cast(pa.timestamp(unit, "UTC"))
    assert labels(zoned, kind=zoned.type, time_zone="Asia/Tokyo") == ["2024-05-30", "2024-05-30"]


def test_the_border_of_a_bin_is_exact_to_the_nanosecond():
    before = np.array(["2024-05-29T23:59:59.999999999"], "datetime64[ns]")
    assert labels(before) == ["2024-05-29"]


@settings(deadline=None, max_examples=50)
@given(st.integers(-30_000, 80_000), st.sampled_from(["1h", "1d", "7d"]))
def test_a_label_reads_back_to_its_number(number, period):
    seconds = {"1h": 3600, "1d": 86_400, "7d": 604_800}[period]
    calendar = Calendar(kind="time", width=seconds)
    assert calendar.number(calendar.label(number), "as_of") == number


WHOLE = "column period: a period must be a whole number. Received:"
DATE = "column period: a period must be a date or time (ISO 8601). Received:"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["2024-05-29", "soon"], f"row 2, {DATE} 'soon'"),
        (["2024-05-29", ""], f"row 2, {DATE} ''"),
        (["2024-02-30"], f"row 1, {DATE} '2024-02-30'"),
        (["1", "2", "x"], f"row 3, {WHOLE} 'x'"),
        ([1.0, 2.5], f"row 2, {WHOLE} 2.5"),
        ([1.0, None], f"row 2, {WHOLE} None"),
        ([1.0, float("nan")], f"row 2, {WHOLE} nan"),
        ([1.0, float("inf")], f"row 2, {WHOLE} inf"),
        (
            [20240531, 20240601],
            "row 1, column period: 20240531 is a date written as a number, and numbers count "
            "periods; write it as 2024-05-31",
        ),
        (
            ["20240531", "20240601"],
            "row 1, column period: 20240531 is a date written as a number, and numbers count "
            "periods; write it as 2024-05-31",
        ),
    ],
)  # fmt: skip
def test_a_value_that_is_no_period_is_refused(values, said):
    with pytest.raises(InputError) as caught:
        numbers(values)
    assert str(caught.value) == f"counts table {said}"


@pytest.mark.parametrize("period", ["", "7", "-1d", "nat", "1500ms", "month"])
def test_a_width_that_is_none_is_refused(period):
    with pytest.raises(InputError) as caught:
        numbers(["2024-05-29"], period=period)
    wanted = "--period must be a width such as 1h, 1d or 7d."
    assert str(caught.value) == f"{wanted} Received: {period!r}"


def test_a_zone_that_is_none_is_refused():
    with pytest.raises(InputError) as caught:
        numbers(["2024-05-29"], time_zone="Asia/Shangai")
    wanted = "--time_zone must be a name such as Asia/Shanghai."
    assert str(caught.value) == f"{wanted} Received: 'Asia/Shangai'"


def test_a_period_of_the_command_line_that_is_none_is_refused():
    with pytest.raises(InputError) as caught:
        Calendar(kind="integer").number("2024-05-29", "as_of")
    assert str(caught.value) == "--as_of: a period must be a whole number. Received: '2024-05-29'"
