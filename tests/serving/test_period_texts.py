"""Periods in requests are the periods that tables would have of the same text."""

import datetime

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from mmnet.config import TableFlags
from mmnet.data.calendars import Calendar, calendar_of_times
from mmnet.data.counts import NO_PERIOD
from mmnet.serving.period_texts import numbers

CALENDARS = [calendar_of_times(TableFlags(period=one)) for one in ("1h", "1d", "7d", "1M", "3M")]
INTEGERS = Calendar(kind="integer")
moments = st.datetimes(datetime.datetime(1000, 1, 1), datetime.datetime(9999, 12, 31))


@settings(max_examples=40)
@given(st.lists(moments, min_size=1, max_size=20), st.sampled_from(CALENDARS))
def test_times_are_read_as_the_command_line_reads_them(times, calendar):
    texts = [time.replace(microsecond=0).isoformat(" ") for time in times]
    found = numbers(tf.constant(texts), calendar, "x").numpy()
    start = datetime.datetime(1970, 1, 5)
    for number, time in zip(found, times, strict=True):
        if calendar.months:
            assert number == ((time.year - 1970) * 12 + time.month - 1) // calendar.months
        else:
            seconds = (time.replace(microsecond=0) - start) / datetime.timedelta(seconds=1)
            assert number == seconds // calendar.width


@pytest.mark.parametrize("calendar", [*CALENDARS, INTEGERS])
def test_labels_are_read_back(calendar):
    wanted = np.array([0, -3, 700, 12345])
    texts = [f" {calendar.label(number)}" for number in wanted]
    found = numbers(tf.constant([*texts, "", "  "]), calendar, "x").numpy()
    assert found.tolist() == [*wanted, NO_PERIOD, NO_PERIOD]


@pytest.mark.parametrize(
    ("text", "calendar", "rule"),
    [
        ("2024-02-30", CALENDARS[1], "YYYY-MM-DD or YYYY-MM-DD HH:MM:SS"),
        ("2024-13-01", CALENDARS[1], "YYYY-MM-DD or YYYY-MM-DD HH:MM:SS"),
        ("2024-01-01T24:00", CALENDARS[0], "YYYY-MM-DD or YYYY-MM-DD HH:MM:SS"),
        ("1/2/2024", CALENDARS[1], "YYYY-MM-DD or YYYY-MM-DD HH:MM:SS"),
        ("2024-01-01", INTEGERS, "a whole number"),
        ("9" * 30, INTEGERS, "a whole number"),
    ],
)
def test_a_text_that_is_no_period_is_refused(text, calendar, rule):
    read = tf.function(lambda texts: numbers(texts, calendar, "target_period"))
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        read(tf.constant(["", text]))
    assert f"target_period: a period must be {rule}" in str(caught.value)
    assert text in str(caught.value)
