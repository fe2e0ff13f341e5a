"""Time zones: UTC offsets of a local clock, and its ambiguous hours."""

from __future__ import annotations

import datetime
import functools
import zoneinfo

import numpy as np
import pandas as pd

from mmnet.checks import InputError

SECOND = 1_000_000
"""One second in microseconds, the unit of all times."""

DAY = 86_400 * SECOND
FIRST_YEAR, END_YEAR = 1970, 2100
"""Range of years in which the offsets of a clock are known."""

END = (datetime.date(END_YEAR, 1, 1) - datetime.date(FIRST_YEAR, 1, 1)).days * DAY


def check(time_zone: str) -> None:
    """Raises an error for the name of an unknown time zone.

    Raises:
        InputError: the sentence names `--time_zone`.
    """
    try:
        zoneinfo.ZoneInfo(time_zone)
    except (KeyError, ValueError, OSError):  # unknown; not the name of a zone; a directory of zones
        raise InputError(
            f"--time_zone must be a name such as Asia/Shanghai. Received: {time_zone!r}"
        ) from None


def on_clock(instants: np.ndarray, time_zone: str) -> np.ndarray:
    """Converts instants to the local time of a zone.

    Args:
        instants: int64, microseconds since 1970 in UTC.
        time_zone: name of the zone.

    Returns:
        int64, microseconds since 1970 in local time.

    >>> on_clock(np.array([0]), "Asia/Tokyo") // (3600 * SECOND)
    array([9])
    """
    if time_zone == "UTC":
        return instants
    times = pd.Series(instants.astype("datetime64[us]")).dt.tz_localize("UTC")
    local = times.dt.tz_convert(time_zone).dt.tz_localize(None)
    return local.to_numpy("datetime64[us]").astype(np.int64)


def repeated(instants: np.ndarray, time_zone: str, width: int) -> np.ndarray:
    """Marks instants in a bin that the clock shows for the second time, at the end of summer time.

    Args:
        instants: int64, microseconds since 1970 in UTC.
        time_zone: name of the zone.
        width: length of a bin in microseconds. A bin longer than the repeated time is one bin,
            not two.

    Returns:
        bool, of the same shape.

    >>> hours = np.array([1_729_987_200, 1_729_990_800])  # 2024-10-27, 00:00 and 01:00 UTC
    >>> repeated(hours * SECOND, "Europe/Berlin", 3600 * SECOND)  # both are 02:00 in Berlin
    array([False,  True])
    """
    starts, offsets = (np.array(one) for one in offsets_of(time_zone))
    back = np.concatenate([[0], offsets[:-1] - offsets[1:]])
    latest = np.clip(np.searchsorted(starts, instants, side="right") - 1, 0, None)
    return (back[latest] >= width) & (instants - starts[latest] < back[latest])


@functools.lru_cache(maxsize=8)
def offsets_of(time_zone: str) -> tuple[list[int], list[int]]:
    """Returns the instants at which a zone's UTC offset changes, and the offsets from then on.

    Returns:
        Instants and offsets, in microseconds; the first instant is the start of 1970.

    >>> starts, offsets = offsets_of("Europe/Berlin")
    >>> [offset // 3_600_000_000 for offset in offsets[:3]]  # summer time came back in 1980
    [1, 2, 1]
    """
    zone = zoneinfo.ZoneInfo(time_zone)

    def ahead(second: int) -> int:
        delta = datetime.datetime.fromtimestamp(second, zone).utcoffset()
        return int((delta or datetime.timedelta()).total_seconds())

    starts, offsets = [0], [ahead(0)]
    for day in range(86_400, END // SECOND + 1, 86_400):
        while ahead(day) != offsets[-1]:
            low, high = max(day - 86_400, starts[-1]), day  # the change is in (low, high]
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (low, middle) if ahead(middle) != offsets[-1] else (middle, high)
            starts.append(high)
            offsets.append(ahead(high))
    return [start * SECOND for start in starts], [offset * SECOND for offset in offsets]
