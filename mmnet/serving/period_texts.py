"""Periods in requests: text in the format of the tables, parsed inside the exported graph."""

from __future__ import annotations

import tensorflow as tf

from mmnet.data.calendars import Calendar
from mmnet.data.counts import NO_PERIOD
from mmnet.data.time_texts import first_of_month
from mmnet.data.zones import DAY, SECOND

TARGET = "target_period"
"""Raw input: the predicted period."""
RELEASE, FIRST_CLICK = "release_period", "first_click_period"
"""Raw inputs: the origin of the age."""
NAMES = (TARGET, RELEASE, FIRST_CLICK)
"""Optional raw inputs of a request."""

_WHOLE = r"[+-]?\d{1,15}"
_TIME = r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d)(?::(\d\d)(?::(\d\d))?)?)?"
RULE = {
    "integer": "a whole number",
    "time": "YYYY-MM-DD or YYYY-MM-DD HH:MM:SS, on the clock of the log's time zone",
}


def numbers(texts: tf.Tensor, calendar: Calendar, name: str) -> tf.Tensor:
    """Parses periods into numbers, int64, in the shape of the texts; `NO_PERIOD` if empty.

    Args:
        texts: string, any shape.
        calendar: division of time into periods.
        name: name of the input, for messages.

    Raises:
        tf.errors.InvalidArgumentError: during execution, if a text is not a period.

    >>> days = Calendar(kind="time", width=86_400)
    >>> texts = tf.constant(["2024-02-29", "2024-02-29T23:59"])
    >>> [days.label(number) for number in numbers(texts, days, "target_period").numpy()]
    ['2024-02-29', '2024-02-29']
    """
    texts = tf.strings.strip(texts)
    told = texts != ""
    pattern = _WHOLE if calendar.kind == "integer" else _TIME
    good = tf.strings.regex_full_match(texts, pattern)
    if calendar.kind == "integer":
        found = _number(tf.where(good, texts, "0"))
    else:
        year, month, day, *clock = (
            _number(tf.where(good, tf.strings.regex_replace(texts, pattern, rf"0\{group}"), "0"))
            for group in range(1, 7)
        )
        first = first_of_month(12 * year + month - 1)
        good &= (month >= 1) & (month <= 12)
        good &= (day >= 1) & (day <= first_of_month(12 * year + month) - first)
        hour, minute, second = clock
        good &= (hour < 24) & (minute < 60) & (second < 60)
        seconds = (hour * 60 + minute) * 60 + second
        found = calendar.bins((first + day - 1) * DAY + seconds * SECOND)
    wrong = tf.boolean_mask(texts, told & ~good)
    message = f"{name}: a period must be {RULE[calendar.kind]}, or empty where it is not known"
    with tf.control_dependencies([tf.debugging.Assert(tf.size(wrong) == 0, [message, wrong])]):
        return tf.where(told, found, NO_PERIOD)


def _number(texts: tf.Tensor) -> tf.Tensor:
    return tf.strings.to_number(texts, tf.int64)
