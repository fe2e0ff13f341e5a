"""Counts of an item before the window, against loops over the log."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from mmnet.checks import InputError
from mmnet.config import TableFlags
from mmnet.data import lifetimes
from mmnet.data.splits import Examples
from mmnet.data.windows import Windows
from mmnet.schema import LifetimeSpec
from tests.data.test_moments import DAYS, PERIODS, TASK, log, prepared

LIFETIME = TASK.model_copy(update={"inputs": ("lifetime",)})


def read(dataset, items, times):
    """Tensors of examples, in the order of the arguments."""
    ((_, found),) = Windows(dataset).batches(Examples(np.int32(items), np.int32(times)))
    return found["earlier_rate"].numpy(), found["earlier_clicks"].numpy()


def looped(panel, item, t, *, first=0):
    """Rate and clicks by one loop over the columns."""
    clicks = shares = 0
    for column in range(first, t + 1 - TASK.window):
        if panel.release_given is None or not panel.release_given[item]:
            released = first
        else:
            released = panel.release[item]
        if column >= released:
            clicks += int(panel.clicks[item, column])
            shares += int(panel.shares[item, column])
    return (np.float32(100.0 * shares / clicks) if clicks else 0.0), clicks


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1))
def test_sums_are_those_of_a_loop(seed):
    draws = np.random.default_rng(seed)
    first = [*draws.integers(0, PERIODS - 1, 5).tolist(), 0]
    released = [None if draws.random() < 0.5 else int(draws.integers(0, PERIODS)) for _ in first]
    flags = TableFlags(release="day", release_from="catalogue")
    dataset = prepared(log(first, released, seed=seed), flags, LIFETIME)
    items, times = (one.ravel() for one in np.mgrid[0 : len(first), 0 : PERIODS - 1])
    rates, clicks = read(dataset, items, times)
    wanted = [looped(dataset.panel, *one) for one in zip(items, times, strict=True)]
    assert list(zip(rates.tolist(), clicks.tolist(), strict=True)) == wanted


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1), st.integers(0, PERIODS - 2))
def test_neither_the_window_nor_what_follows_changes_anything(seed, t):
    first = [3, 0, 7]
    dataset = prepared(log(first, seed=seed), task=LIFETIME)
    before = read(dataset, range(3), [t] * 3)
    start = max(0, t + 1 - TASK.window)
    dataset.panel.clicks[:, start:] += 1000
    dataset.panel.shares[:, start:] += 7
    np.testing.assert_array_equal(read(dataset, range(3), [t] * 3), before)


def test_without_the_flag_nothing_is_read():
    dataset = prepared(log([5, 0]))
    assert "earlier_clicks" not in dataset.fitted.spec.tensors()
    assert "lifetime" not in dataset.fitted.spec.model_dump_json()


def test_counts_that_begin_too_late_are_refused_or_unknown():
    start = DAYS.number("2024-02-01", "as_of")
    lifetime = LifetimeSpec(log_start=start)
    assert lifetimes.first_column(lifetime, start, DAYS) == 0
    # What lies before the training log is not read, so that a score does not depend on it.
    assert lifetimes.first_column(lifetime, start - 4, DAYS) == 4
    with pytest.raises(InputError) as caught:
        lifetimes.first_column(lifetime, start + 3, DAYS)
    assert str(caught.value) == (
        "the counts begin with 2024-02-04, but the model reads an item's counts since 2024-02-01; "
        "provide counts since then, or, to predict without those before the window, set "
        "--allow_short_history"
    )
    assert lifetimes.first_column(lifetime, start + 3, DAYS, allow_short=True) is None


def test_values_stay_within_their_limits():
    clicks = np.array([-(2**63), -5, -1, 0, 1, 2**53 - 1])
    rate, evidence = lifetimes.tensors(clicks, np.minimum(np.maximum(clicks, 0), 2**53)).values()
    assert rate.numpy().tolist() == [0, 0, 0, 0, 100, 100]
    assert evidence.numpy().tolist() == [-1, -1, -1, 0, 1, 2.0**53]
