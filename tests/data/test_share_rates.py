import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from mmnet.data.calendars import Calendar
from mmnet.data.counts import Panel
from mmnet.data.share_rates import FIXED_POINT, fixed_point, observed, share_rate, share_rates

CLICKS = np.array([[4, 0, 2, 1], [0, 0, 0, 8]])
SHARES = np.array([[1, 0, 2, 0], [0, 0, 0, 2]])
RELEASE = np.array([0, 3])


def panel(clicks=CLICKS, shares=SHARES, release=RELEASE):
    clicks, shares, release = np.asarray(clicks), np.asarray(shares), np.asarray(release)
    return Panel(np.arange(len(clicks)), clicks, shares, release, Calendar(kind="integer"), 0)


def test_a_share_rate_is_percent_and_zero_where_missing():
    rate, missing = share_rates(panel(), 1)
    # 100 * 1/4, no clicks, 100 * 2/2, 100 * 0/1; then 100 * 2/8.
    np.testing.assert_array_equal(rate, [[25, 0, 100, 0], [0, 0, 0, 25]])
    np.testing.assert_array_equal(missing, [[0, 1, 0, 0], [1, 1, 1, 0]])
    assert rate.dtype == missing.dtype == np.float32


def test_fewer_clicks_than_the_least_are_missing():
    rate, missing = share_rates(panel(), 3)
    np.testing.assert_array_equal(rate, [[25, 0, 0, 0], [0, 0, 0, 25]])
    np.testing.assert_array_equal(missing, [[0, 1, 1, 1], [1, 1, 1, 0]])


def test_a_period_before_the_release_is_missing():
    seen = observed(panel(release=[2, -5]), 1)
    np.testing.assert_array_equal(seen, [[0, 0, 1, 1], [0, 0, 0, 1]])


@settings(deadline=None)
@given(st.integers(1, 10**12).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))))
def test_fixed_point_is_the_same_rate(pair):
    clicks, shares = pair
    fixed = fixed_point(panel([[clicks]], [[shares]], [0]), np.array([[True]]))
    # Half of the unit, and one rounding of float64 of at most 100 * 2**24.
    assert abs(int(fixed[0, 0]) / FIXED_POINT - 100 * shares / clicks) <= 0.51 / FIXED_POINT


def test_fixed_point_of_a_large_count_does_not_overflow():
    # 100 * 2**24 * 6e9 is more than int64 holds: milliseconds played, in percent of the full play.
    played = panel([[12_000_000_000]], [[6_000_000_000]], [0])
    assert fixed_point(played, np.array([[True]]))[0, 0] == 50 * FIXED_POINT


@given(st.lists(st.tuples(st.integers(1, 10**12), st.integers(0, 10**12)), min_size=1))
def test_numpy_and_tensorflow_make_the_same_bits(pairs):
    clicks, shares = np.array(pairs).T
    tensors = (tf.constant(array, tf.float64) for array in (shares, clicks))
    np.testing.assert_array_equal(share_rate(shares, clicks), share_rate(*tensors).numpy())
