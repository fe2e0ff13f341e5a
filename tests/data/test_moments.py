"""The age of an item at the target, and the target's place in the calendar."""

import datetime
import itertools

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import tensorflow as tf
from hypothesis import given, settings

from mmnet.checks import InputError
from mmnet.config import TableFlags, TaskFlags
from mmnet.data import input_tables, moments, pipeline
from mmnet.data.calendars import Calendar, calendar_of_times
from mmnet.data.counts import NO_PERIOD
from mmnet.data.splits import Examples
from mmnet.data.tables import InMemory, Table
from mmnet.data.windows import Windows
from mmnet.schema import AgeSpec, CycleSpec, FeatureSpec

DAYS = Calendar(kind="time", width=86_400)
PERIODS = 40
FIRST = datetime.date(2024, 2, 1)  # a Thursday


@pytest.mark.parametrize(
    ("period", "cycles"),
    [
        ("1h", ("hour", "weekday")),
        ("90min", ("hour", "weekday")),
        ("1d", ("weekday",)),
        ("3d", ()),
        ("7d", ("month",)),
        ("14d", ("month",)),
        ("1M", ("month",)),
        ("12M", ()),
    ],
)
def test_places_are_those_that_a_calendar_on_the_wall_shows(period, cycles):
    calendar = calendar_of_times(TableFlags(period=period))
    assert moments.cycles_of(calendar) == cycles
    around = calendar.number("2024-02-29", "as_of")
    numbers = np.array([*range(around - 300, around + 300), -5, 0, 7], np.int64)
    shown = pd.DatetimeIndex([calendar.start(number) for number in numbers])
    wall = {"hour": shown.hour, "weekday": shown.day_of_week, "month": shown.month - 1}
    for cycle in cycles:
        found = moments.place(calendar, cycle, numbers)
        np.testing.assert_array_equal(found, wall[cycle])
        # In a graph, the same arithmetic.
        graph = tf.function(lambda periods: moments.place(calendar, cycle, periods))  # noqa: B023
        np.testing.assert_array_equal(graph(tf.constant(numbers)), wall[cycle])


def test_a_cycle_is_read_once_training_has_gone_round_it_twice():
    hours = calendar_of_times(TableFlags(period="1h"))
    assert moments.fit_cycles(hours, np.arange(47))[0] == []
    (hour,), notes = moments.fit_cycles(hours, np.arange(48))
    assert (hour.name, hour.seen) == ("hour", tuple(range(24)))
    assert notes == ["the weekday is left out: training covers 0.2 weeks, not 2"]
    (weekday,), notes = moments.fit_cycles(DAYS, np.array([0, 7, 8, 15]))
    assert (weekday.seen, notes) == ((0, 1), [])  # Mondays and Tuesdays only
    months = calendar_of_times(TableFlags(period="3M"))
    assert moments.fit_cycles(months, np.arange(7))[0] == []
    assert moments.fit_cycles(months, np.arange(8))[0][0].seen == (0, 3, 6, 9)


def test_ids_tell_seen_values_from_unseen_and_untold_ones():
    spec = FeatureSpec(window=1, horizon=1, cycles=(CycleSpec(name="weekday", seen=(0, 1)),))
    target = np.array([0, 1, 2, NO_PERIOD])
    found = moments.tensors(spec, DAYS, target, target)
    assert found["target_weekday"].numpy().tolist() == [2, 3, 1, 0]


@pytest.mark.parametrize("read", [input_tables.open_tables, input_tables.load_tables])
def test_evidence_of_no_taxonomies_is_refused_before_a_table_is_read(read):
    task = TaskFlags(inputs=("age", "taxonomy_evidence"))
    flags = TableFlags(counts="missing.csv", items="missing.csv")
    with pytest.raises(InputError) as caught:
        read(flags, task)
    assert str(caught.value) == (
        "--inputs=taxonomy_evidence is about the means of taxonomies, and --taxonomies is not "
        "given; name their columns there, or remove taxonomy_evidence from --inputs"
    )
    with pytest.raises(InputError, match="missing"):
        read(flags.model_copy(update={"taxonomies": ("creator",)}), task)


# ------------------------------------------------------------------------------------- a log


def log(first_clicks, released=None, *, start=0, seed=0):
    """Tables of daily counts from `start` on; each item is clicked from some day on."""
    draws = np.random.default_rng(seed)
    rows = [
        (f"i{item}", FIRST + datetime.timedelta(day), clicks := int(draws.integers(1, 60)), clicks)
        for item, first in enumerate(first_clicks)
        for day in range(max(first, start), PERIODS)
        if day == first or draws.random() < 0.7
    ]
    counts = pd.DataFrame(rows, columns=["item_id", "period", "clicks", "shares"])
    counts["shares"] //= 3
    items = pd.DataFrame({"item_id": [f"i{item}" for item in range(len(first_clicks))]})
    if released is not None:
        items["day"] = [None if d is None else FIRST + datetime.timedelta(d) for d in released]
    return InMemory(
        *(Table(pa.Table.from_pandas(t), n) for t, n in ((counts, "counts"), (items, "items")))
    )


TASK = TaskFlags(window=3, min_target_clicks=1, min_test_rows=1, inputs=("age", "calendar"))
RELEASE = TableFlags(release="day", release_from="catalogue")


def prepared(tables, flags=None, task=TASK):
    return pipeline.prepare(tables, flags or TableFlags(), task)


def read(dataset, items, times):
    """Ages and bounds of examples."""
    ((_, found),) = Windows(dataset).batches(Examples(np.int32(items), np.int32(times)))
    return found["age"].numpy().tolist(), found["age_at_least"].numpy().tolist()


def test_ages_count_from_the_release():
    tables = log([5, 9, 0, 12], released=[2, 9, None, 12])
    dataset = prepared(tables, RELEASE)
    assert dataset.fitted.spec.age == AgeSpec(since="release", hidden=False)
    ages, bounds = read(dataset, [0, 1, 2, 3], [9, 9, 9, 20])  # of the tenth target
    assert (ages, bounds) == ([8, 1, -1, 9], [0, 0, 0, 0])
    (cycle,) = dataset.fitted.spec.cycles
    ((_, found),) = Windows(dataset).batches(Examples(np.int32([0, 0]), np.int32([3, 4])))
    assert (found["target_weekday"].numpy() - 2).tolist() == [0, 1]  # Monday, 2024-02-05
    assert cycle.seen == tuple(range(7))


def test_ages_count_from_the_first_click_as_of_t():
    dataset = prepared(log([5, 0, 12]))
    age = dataset.fitted.spec.age
    assert age == AgeSpec(since="first_click", hidden=True, log_start=dataset.panel.first_period)
    ages, bounds = read(dataset, [0, 0, 0, 1, 2], [4, 5, 9, 9, 9])
    # Nobody knew the first item as of day 4; the second may be older than the log.
    assert ages == [-1, 1, 5, 10, -1]
    assert bounds == [0, 0, 0, 1, 0]


@pytest.mark.parametrize(
    ("release_from", "released", "hidden"),
    [
        ("auto", [5, 9, 0], True),
        ("auto", [4, 8, 0], False),
        ("auto", [None, None, None], False),
        ("catalogue", [5, 9, 0], False),
        ("log", [4, 8, 0], True),
    ],
)
def test_a_release_that_is_the_first_click_is_history(release_from, released, hidden):
    flags = TableFlags(release="day", release_from=release_from)
    dataset = prepared(log([5, 9, 0], released), flags)
    assert dataset.fitted.spec.age == AgeSpec(since="release", hidden=hidden)
    (line,) = (rule.note for rule in dataset.ledger if rule.rule == "age at the target")
    assert ("--release_from=catalogue" in line) == (release_from == "auto" and hidden)


def test_without_the_flag_nothing_is_read():
    dataset = prepared(log([5, 0]), task=TASK.model_copy(update={"inputs": ()}))
    assert dataset.fitted.spec.age is None
    assert not {"age", "target_weekday"} & set(dataset.fitted.spec.tensors())
    assert "age" not in dataset.fitted.spec.model_dump_json()


def panel_of(tables):
    return pipeline.counts.count(tables.counts, tables.items, TableFlags(), TASK).panel()


def of_first_clicks(panel, horizon=1):
    """A spec whose ages count from first clicks in a log that begins as a panel does."""
    age = AgeSpec(since="first_click", hidden=True, log_start=panel.first_period)
    return FeatureSpec(window=3, horizon=horizon, age=age)


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(0, PERIODS - 2))
def test_what_happens_after_t_changes_no_age(seed, t):
    draws = np.random.default_rng(seed)
    first = draws.integers(0, PERIODS, 6)
    first[0] = t + 1  # between t and the target, where an age could show
    later = np.where(first > t, draws.integers(t + 1, PERIODS, 6), first)
    later[0] = PERIODS - 1
    both = []
    for clicks in (first, later):
        panel = panel_of(log([*clicks.tolist(), 0], seed=seed))  # an item fixes the log's start
        spec = of_first_clicks(panel, horizon=3)
        origins = moments.origins(panel, spec, start=panel.first_period)
        found = moments.tensors(spec, DAYS, origins, np.full(7, panel.first_period + t + 3))
        both.append([tensor.numpy().tolist() for tensor in found.values()])
    assert both[0] == both[1]
    assert both[0][0][0] == -1


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(1, PERIODS - 5))
def test_cutting_off_the_past_never_makes_an_item_look_newer(seed, cut):
    first = [*np.random.default_rng(seed).integers(0, PERIODS, 6).tolist(), 0]
    whole, late = (panel_of(log(first, start=start, seed=seed)) for start in (0, cut))
    assert late.first_period > whole.first_period
    # A model of the whole log refuses the late one, or reads no age.
    spec = of_first_clicks(whole)
    with pytest.raises(InputError, match="set --allow_short_history"):
        moments.origins(late, spec, start=late.first_period)
    unknown = moments.origins(late, spec, start=late.first_period, allow_short=True)
    assert (unknown == NO_PERIOD).all()
    # To a model of the late log no item is newer for counts that reach further back.
    spec, target = of_first_clicks(late), np.full(7, late.first_period + late.num_periods)
    shown, known = (
        moments.tensors(spec, DAYS, moments.origins(panel, spec, start=panel.first_period), target)[
            "age"
        ].numpy()
        for panel in (late, whole)
    )
    assert (known >= shown).all()


def test_counts_that_begin_too_late_are_refused_with_both_dates():
    spec = prepared(log([5, 0])).fitted.spec
    panel = prepared(log([5, 3])).panel
    with pytest.raises(InputError) as caught:
        moments.origins(panel, spec, start=panel.first_period)
    assert str(caught.value) == (
        "the counts begin with 2024-02-04, but the model counts the age of an item from its first "
        "click since 2024-02-01; provide counts since then, or, to predict without ages, set "
        "--allow_short_history"
    )
    # Counts that reach further back show older items, which are as old as training could see.
    panel.first_period = spec.age.log_start - 3
    found = moments.tensors(
        spec,
        DAYS,
        moments.origins(panel, spec, start=panel.first_period),
        np.full(2, spec.age.log_start + 20),
    )
    assert found["age_at_least"].numpy().tolist() == [1.0, 1.0]


def test_ages_stay_finite_numbers_within_their_limits():
    spec = FeatureSpec(window=1, horizon=1, age=AgeSpec(since="release", hidden=False))
    extremes = [NO_PERIOD, NO_PERIOD + 1, -(2**40), -1, 0, 1, 2**40, 2**63 - 1]
    pairs = np.array([*itertools.product(extremes, extremes)])
    age = moments.tensors(spec, DAYS, pairs[:, 0], pairs[:, 1])["age"].numpy()
    assert ((age >= -1) & (age <= 2**20)).all()
    assert ((age == -1) == (pairs == NO_PERIOD).any(axis=1)).all()
