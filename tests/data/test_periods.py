"""A calendar is refused where a log's own periods say that it is wrong, and only there."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmnet.checks import InputError
from mmnet.config import TableFlags, TaskFlags
from mmnet.data import counts, periods
from mmnet.data.tables import Table

ITEMS = Table(pa.table({"item_id": ["a", "b"]}), "items")


def panel(times, *, clicks=60, items=("a", "b"), first_period="", **flags):
    """The panel of counts of two items at the same times, and the ledger's notes by rule."""
    clicks = np.broadcast_to(clicks, len(times))
    columns = {
        "item_id": [name for name in items for _ in times],
        "period": pa.array([*times] * len(items)),
        "clicks": [*clicks.tolist()] * len(items),
        "shares": [0] * len(times) * len(items),
    }
    table = Table(pa.table(columns), "counts")
    task = TaskFlags(first_period=first_period)
    found = counts.count(table, ITEMS, TableFlags(**flags), task)
    return found.panel(), {rule.rule: rule.note for rule in found.ledger if rule.note}


def refused(times, **more):
    with pytest.raises(InputError) as caught:
        panel(times, **more)
    return str(caught.value).removeprefix("counts table, column period: ")


def dates(start, number, freq, form="%Y-%m-%d"):
    return pd.date_range(start, periods=number, freq=freq).strftime(form).tolist()


# --------------------------------------------------------------------------------- the width

WEEKS = dates("2024-03-04", 24, "W-MON")
BERLIN_WEEKS = [
    time.isoformat()
    for time in pd.date_range("2024-03-04", periods=52, freq="W-MON", tz="Europe/Berlin")
]
MONTHS = dates("2022-01-01", 24, "MS")


@pytest.mark.parametrize(
    ("times", "given", "found"),
    [
        (WEEKS, "1d", "7d"),
        (WEEKS[::2], "7d", "14d"),
        (MONTHS, "1d", "1M"),
        (MONTHS, "7d", "1M"),
        (MONTHS, "30d", "1M"),
        (dates("2020-01-01", 12, "QS"), "1M", "3M"),
        (MONTHS[::12] + dates("2024-01-01", 6, "YS"), "1d", "12M"),
        (dates("2022-01-31", 24, "ME"), "1d", "1M"),
        (dates("2022-01-01", 24, "28D"), "1d", "28d"),
        (dates("2024-03-04", 24, "D"), "1h", "1d"),
        (dates("2024-03-04", 48, "6h", "%Y-%m-%dT%H:%M"), "1h", "6h"),
        (dates("2024-03-04", 48, "15min", "%Y-%m-%d %H:%M"), "1min", "15min"),
        # Weeks on the clock of Berlin, whose midnights are not all 168 hours apart.
        (BERLIN_WEEKS, "1d", "7d"),
        # One row that is off the grid changes nothing.
        ([*WEEKS, "2024-05-01"], "1d", "7d"),
    ],
)  # fmt: skip
def test_periods_shorter_than_the_steps_are_refused(times, given, found):
    assert refused(times, period=given) == (
        f"periods are {found} apart, but --period={given}; set --period={found}"
    )


@pytest.mark.parametrize(
    ("times", "period"),
    [
        (WEEKS, "7d"),
        (MONTHS, "1M"),
        (dates("2024-03-04", 60, "D"), "1d"),
        (dates("2024-03-04", 60, "B"), "1d"),
        (dates("2024-03-04", 3, "W-MON"), "1d"),  # so few that it may be chance
        (["2024-03-04"], "1d"),
        (WEEKS[:12] + dates("2024-06-01", 40, "D"), "1d"),
    ],
)
def test_periods_as_long_as_the_steps_are_read(times, period):
    found, _ = panel(times, period=period)
    assert (found.clicks > 0).any(axis=0).sum() == len(set(times))


def test_numbers_of_periods_must_count_them():
    assert refused([*range(0, 84, 7)]) == (
        "period numbers are 7 apart (0, 7, 14, ...), so all periods in between would be "
        "empty; number them consecutively, or set --time_unit=index if they are empty"
    )
    assert panel([*range(0, 84, 7)], time_unit="index")[0].num_periods == 78
    assert panel([0, 7, 14])[0].num_periods == 15


@settings(max_examples=60)
@given(st.sets(st.integers(0, 400), min_size=3, max_size=60), st.integers(2, 40))
def test_a_sparse_log_is_not_taken_for_a_coarse_one(days, step):
    # Some day is followed by its neighbour: then no longer step can be that of the log.
    days |= {500, 501} | {600 + number for number in range(len(days))}
    panel([f"{np.datetime64('2024-01-01') + day}" for day in sorted(days)], stray_periods="keep")
    # The same gaps on a coarser grid are steps of that grid.
    coarse = sorted(day * step for day in range(30))
    assert f"--period={step}d" in refused(
        [f"{np.datetime64('2020-01-01') + day}" for day in coarse]
    )


# ----------------------------------------------------------------------------- stray periods

DAYS = dates("2024-03-04", 60, "D")


def strays(*days, **flags):
    """Counts of 60 days, 120 rows, and of one row on each of some other days."""
    columns = {
        "item_id": ["a"] * 60 + ["b"] * 60 + ["a"] * len(days),
        "period": [*DAYS, *DAYS, *days],
    }
    columns |= {"clicks": [60] * len(columns["period"]), "shares": [1] * len(columns["period"])}
    table = Table(pa.table(columns), "counts")
    task = TaskFlags(first_period=flags.pop("first_period", ""))
    return counts.count(table, ITEMS, TableFlags(**flags), task)


@pytest.mark.parametrize("day", ["1970-01-01", "2099-12-31", "2023-12-01"])
def test_a_stray_period_is_named_and_left_out_when_asked(day):
    with pytest.raises(InputError) as caught:
        strays(day)
    assert str(caught.value) == (
        "counts table, column period: 1 of 121 rows are in periods far away from all others, "
        f"2024-03-04 to 2024-05-02: {day} (1); correct them, or set --stray_periods=drop (or keep, "
        "if they are correct)"
    )
    found = strays(day, stray_periods="drop")
    assert (found.num_periods, found.panel().clicks.sum()) == (60, 120 * 60)
    rule = found.ledger[1]
    assert (rule.rows_in, rule.dropped, rule.note) == (121, 1, f"{day} (1)")


def test_a_stray_period_is_kept_when_asked_or_before_the_first_one():
    assert strays("2023-12-01", stray_periods="keep").num_periods == 154
    found = strays("1970-01-01", first_period="2024-03-04")
    assert found.num_periods == 60
    assert found.label(0) == "2024-03-04"


def test_two_ends_may_stray_but_not_more_than_one_row_in_a_hundred():
    numbers = np.array([-20_000, 0, 1, 2, 27_000])
    assert periods.bulk_of(numbers, np.array([1, 90, 80, 70, 1])) == slice(1, 4)
    assert periods.bulk_of(numbers, np.array([4, 90, 80, 70, 4])) == slice(0, 5)


@pytest.mark.parametrize(
    ("numbers", "rows"),
    [
        ([0, 1, 2, 12], [100, 100, 100, 1]),  # near
        ([0, 50, 99, 180], [100, 100, 100, 1]),  # not as far away as the others are long
        ([0, 1, 2, 90], [100, 100, 100, 50]),  # not few
        ([5], [1]),
    ],
)
def test_what_is_near_or_many_is_not_stray(numbers, rows):
    assert periods.bulk_of(np.array(numbers), np.array(rows)) == slice(0, len(numbers))


# --------------------------------------------------------------------------- the last period


def test_a_last_period_with_few_clicks_is_named_and_left_out():
    clicks = [60] * 9 + [19]
    found, notes = panel(DAYS[:10], clicks=clicks)
    assert found.num_periods == 9
    assert found.release.tolist() == [0, 0]
    assert notes["in a complete period"] == (
        "2024-03-13 has 38 clicks, less than a third of any of the 7 periods before; "
        "--use_partial keeps it"
    )
    assert panel(DAYS[:10], clicks=clicks, use_partial=True)[0].num_periods == 10


def test_an_item_that_was_first_seen_in_it_was_never_seen():
    columns = {
        "item_id": ["a"] * 9 + ["b"],
        "period": DAYS[:9] + DAYS[9:10],
        "clicks": [60] * 9 + [5],
        "shares": [0] * 10,
    }
    found = counts.count(Table(pa.table(columns), "counts"), ITEMS, TableFlags(), TaskFlags())
    assert found.release.tolist() == [0, 9]  # 9 is after the last column
    assert found.panel().clicks.sum() == 9 * 60
    assert [rule.dropped for rule in found.ledger] == [0, 1, 0]


@pytest.mark.parametrize(
    "clicks",
    [
        [60] * 9 + [20],  # a third
        [60] * 6 + [19],  # too little to compare with
        [20] * 9 + [1],  # so few that chance may do it
        [60] * 5 + [0] + [60] * 3 + [19],  # an empty period is not rare here
    ],
)
def test_a_last_period_like_those_before_stays(clicks):
    found, notes = panel(DAYS[: len(clicks)], clicks=np.array(clicks) // 2)
    assert found.num_periods == len(clicks)
    assert "in a complete period" not in notes


def test_a_log_that_ends_early_is_recognised_by_its_clock():
    full = [0.01, 0.02, 0.0, 0.01, 0.02, 0.03, 0.01]
    assert periods.too_early([*full, 0.2])
    assert not periods.too_early([*full, 0.08])
    assert not periods.too_early([*full[:-1], 0.5, 0.9])  # one before ended early as well
    assert not periods.too_early([1.0] * 8)  # dates only
    assert not periods.too_early([0.0] * 6 + [0.9])  # too few to compare with
