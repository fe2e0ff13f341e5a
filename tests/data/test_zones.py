"""A zone's clock, against Python's own; and the hours that it shows twice."""

import datetime
import zoneinfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmnet.checks import InputError
from mmnet.data import zones
from mmnet.data.zones import SECOND

HOUR = 3600 * SECOND


@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from(
        [
            "Europe/Berlin",
            "America/New_York",
            "Asia/Shanghai",
            "Australia/Lord_Howe",
            "Africa/Casablanca",
            "Pacific/Apia",
            "America/Caracas",
        ]
    ),
    st.integers(0, 4_102_444_799),
)
def test_a_zone_is_ahead_as_its_clock_says(zone, second):
    starts, offsets = zones.offsets_of(zone)
    at = np.searchsorted(starts, second * 1_000_000, side="right") - 1
    local = datetime.datetime.fromtimestamp(second, zoneinfo.ZoneInfo(zone))
    assert offsets[at] == local.utcoffset() // datetime.timedelta(microseconds=1)
    instant = np.array([second * SECOND])
    shown = zones.on_clock(instant, zone)[0] - instant[0]
    assert shown == local.utcoffset() // datetime.timedelta(microseconds=1)
    # Python's fold says the same of each moment, which is a bin of no width.
    assert zones.repeated(instant, zone, 1)[0] == (local.fold == 1)


def test_an_hour_occurs_twice_and_a_day_once():
    # Lord Howe's clock goes back by half an hour: no whole hour occurs twice.
    berlin = np.arange(np.datetime64("2024-10-26T22", "us"), np.datetime64("2024-10-27T03", "us"),
                       np.timedelta64(1, "h")).astype(int)  # fmt: skip
    assert zones.repeated(berlin, "Europe/Berlin", HOUR).tolist() == [0, 0, 0, 1, 0]
    assert not zones.repeated(berlin, "Europe/Berlin", 24 * HOUR).any()
    half = np.array([np.datetime64("2024-04-06T15:00", "us")]).astype(int)
    assert not zones.repeated(half, "Australia/Lord_Howe", HOUR).any()
    assert zones.repeated(half, "Australia/Lord_Howe", HOUR // 2).all()


@pytest.mark.parametrize("name", ["Mars", "", "Europe"])
def test_a_zone_that_is_none_is_refused(name):
    with pytest.raises(InputError, match="--time_zone must be a name such as Asia/Shanghai"):
        zones.check(name)
