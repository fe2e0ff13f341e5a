"""Formats of times in text, declared once for tables in memory and for every engine.

A `Format` is a regular expression and, for each part of a time, its position in the expression's
groups. Both readers, `time_columns` (Arrow) and `event_times` (Ibis), extract the same parts from a
text and pass them to the same arithmetic, `days_of` and `clock_of`, so that they cannot disagree.
Expressions only use what RE2, Java and Python interpret in the same way.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from mmnet.checks import InputError
from mmnet.data.zones import SECOND


class Part(NamedTuple):
    """Position of a part of a time.

    Attributes:
        group: group of the expression.
        start: first character within the group.
        length: number of characters; None: the whole group.
        names: for a part that is a name: the beginning of each name, in lower case, in order.
        first: number of the first name.
    """

    group: str
    start: int = 0
    length: int | None = None
    names: tuple[str, ...] = ()
    first: int = 0


@dataclass(frozen=True)
class Format:
    """A format of times in text.

    Attributes:
        name: name in messages.
        pattern: expression for the whole text, with named groups.
        parts: year, short_year, month, day, yearday, week, weekday, hour, half_hour (on a 12-hour
            clock), half (0: am, 1: pm), minute, second, fraction (of a second) or zone -> its
            position.
    """

    name: str
    pattern: str
    parts: Mapping[str, Part]

    @property
    def groups(self) -> dict[str, int]:
        """Names of the expression's groups -> their numbers."""
        return dict(re.compile(self.pattern).groupindex)

    @property
    def unnamed(self) -> str:
        """The expression with numbered groups only, since Java has no `(?P<name>...)`."""
        return re.sub(r"\?P<\w+>", "", self.pattern)

    @property
    def names(self) -> str:
        """The kind of period in this format: a day (or a time of it), a week, a month or a year."""
        shorter = {"day": "day", "yearday": "day", "weekday": "day", "week": "week"}
        found = [span for part, span in shorter.items() if part in self.parts]
        return found[0] if found else "month" if "month" in self.parts else "year"

    def matches(self, text: str) -> bool:
        """Checks the format of a text, but not whether its month has the day that it names."""
        return re.search(self.pattern, text) is not None


Keep = Callable[[str, Any], Any]

DEFAULTS = {"month": 1, "day": 1, "weekday": 1}
"""Parts that may be absent in a text; they are then 0."""

# ------------------------------------------------------------------- formats known without a flag

_MONTH, _DAY = "(?:0[1-9]|1[0-2])", "(?:0[1-9]|[12][0-9]|3[01])"
_WEEK = "(?:0[1-9]|[1-4][0-9]|5[0-3])"
_HOUR, _SIXTY = "(?:[01][0-9]|2[0-3])", "[0-5][0-9]"
_OFFSET = rf"[+-]{_HOUR}(?::?{_SIXTY})?"
_ZONE = rf"(?: ?(?P<zone>Z|UTC|GMT|{_OFFSET}))?"


def _slices(group: str, **places: int) -> dict[str, Part]:
    """Returns parts of two digits each (a year has four, a fraction of a second up to six)."""
    length = {"year": 4, "fraction": 6}
    return {name: Part(group, at, length.get(name, 2)) for name, at in places.items()}


def _dated(separator: str) -> Format:
    date = separator.join(["[0-9]{4}", _MONTH, _DAY])
    clock = rf"{_HOUR}(?::{_SIXTY}(?::{_SIXTY}(?:[.,][0-9]+)?)?)?"
    return Format(
        separator.join(["YYYY", "MM", "DD"]),
        rf"^(?P<date>{date})(?:[T ](?P<clock>{clock}){_ZONE})?$",
        _slices("date", year=0, month=5, day=8)
        | _slices("clock", hour=0, minute=3, second=6, fraction=9)
        | {"zone": Part("zone")},
    )


_COMPACT = Format(
    "YYYYMMDDTHHMMSS",
    rf"^(?P<date>[0-9]{{4}}{_MONTH}{_DAY})"
    rf"T(?P<clock>{_HOUR}(?:{_SIXTY}(?:{_SIXTY}(?:[.,][0-9]+)?)?)?){_ZONE}$",
    _slices("date", year=0, month=4, day=6)
    | _slices("clock", hour=0, minute=2, second=4, fraction=7)
    | {"zone": Part("zone")},
)
_MONTHLY = Format("YYYY-MM", rf"^(?P<date>[0-9]{{4}}-{_MONTH})$", _slices("date", year=0, month=5))
_WEEKLY = Format("YYYY-Www", rf"^(?P<date>[0-9]{{4}}-W{_WEEK})$", _slices("date", year=0, week=6))
_DAY_OF_WEEK = Format(
    "YYYY-Www-D",
    rf"^(?P<date>[0-9]{{4}}-W{_WEEK}-[1-7])$",
    _slices("date", year=0, week=6) | {"weekday": Part("date", 9, 1)},
)

BUILT_IN = (_dated("-"), _dated("/"), _COMPACT, _MONTHLY, _WEEKLY, _DAY_OF_WEEK)
"""ISO 8601, and its dates with slashes; none of these formats is ambiguous."""

# ---------------------------------------------------------------------------------- --time_format

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH_NAMES = (
    "January|February|March|April|May|June|July|August|September|October|November|December"
)
_DAY_NAMES = "Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday"


class _Code(NamedTuple):
    """The expression of a strptime code, its part, and the position in its own group."""

    pattern: str
    part: str = ""
    between_digits: str = ""  # other codes next to it: as wide as it can be
    place: Part = Part("")


_NAMED = Part("", 0, 3, _MONTHS, 1)
_CODES = {
    "Y": _Code("[0-9]{4}", "year", "[0-9]{4}"),
    "y": _Code("[0-9]{2}", "short_year", "[0-9]{2}"),
    "m": _Code("(?:1[0-2]|0?[1-9])", "month", _MONTH),
    "d": _Code("(?:3[01]|[12][0-9]|0?[1-9])", "day", _DAY),
    "j": _Code(
        "(?:36[0-6]|3[0-5][0-9]|[12][0-9]{2}|0?[1-9][0-9]|0?0?[1-9])",
        "yearday",
        "(?:36[0-6]|3[0-5][0-9]|[12][0-9]{2}|0[1-9][0-9]|00[1-9])",
    ),
    "b": _Code("(?:" + "|".join(_MONTHS) + ")", "month", place=_NAMED),
    "B": _Code(f"(?:{_MONTH_NAMES})", "month", place=_NAMED),
    "G": _Code("[0-9]{4}", "year", "[0-9]{4}"),
    "V": _Code("(?:5[0-3]|[1-4][0-9]|0?[1-9])", "week", _WEEK),
    "u": _Code("[1-7]", "weekday", "[1-7]"),
    "a": _Code("(?:" + "|".join(name[:3] for name in _DAY_NAMES.split("|")) + ")"),
    "A": _Code(f"(?:{_DAY_NAMES})"),
    "H": _Code("(?:2[0-3]|1[0-9]|0?[0-9])", "hour", _HOUR),
    "I": _Code("(?:1[0-2]|0?[1-9])", "half_hour", "(?:1[0-2]|0[1-9])"),
    "p": _Code("[ap]m", "half", place=Part("", 0, 1, ("a", "p"))),
    "M": _Code("(?:[1-5][0-9]|0?[0-9])", "minute", _SIXTY),
    "S": _Code("(?:[1-5][0-9]|0?[0-9])", "second", _SIXTY),
    "f": _Code("[0-9]+", "fraction", "[0-9]+", Part("", 0, 6)),
    "z": _Code(f"(?:Z|{_OFFSET})", "zone"),
    "Z": _Code("(?:Z|UTC|GMT)", "zone"),
}


@functools.lru_cache(maxsize=256)
def read_format(text: str) -> Format:
    """Parses a value of `--time_format`, with the codes of strptime.

    Raises:
        InputError: a code is unknown, a part occurs twice, or the parts do not make up a date.

    >>> read_format("%d.%m.%Y").matches("4.3.2024"), read_format("%Y%m%d").matches("2024034")
    (True, False)
    """
    pieces = re.findall(r"%.?|\s+|[^%\s]+", text, re.DOTALL)
    pattern, parts, codes = "", {}, []
    for at, piece in enumerate(pieces):
        code = _CODES.get(piece[1:]) if piece[0] == "%" else None
        if code is None:
            if piece[0] == "%" and piece != "%%":
                known = ", ".join(f"%{name}" for name in _CODES)
                raise InputError(
                    f"--time_format={text}: {piece} is not a known code; the codes are {known}"
                )
            pattern += r"\s+" if piece.isspace() else re.escape(piece.replace("%%", "%"))
            continue
        codes.append(piece[1:])
        beside = [*pieces[max(at - 1, 0) : at], *pieces[at + 1 : at + 2]]
        touches = any(_CODES.get(other[1:], _Code("")).between_digits for other in beside)
        own = code.between_digits if touches and code.between_digits else code.pattern
        if code.part in parts:
            raise InputError(f"--time_format={text}: the {code.part} is given twice")
        if code.part:
            parts[code.part] = code.place._replace(group=code.part)
            own = f"(?P<{code.part}>{own})"
        pattern += own
    _check_parts(text, parts, codes)
    return Format(text, f"(?i)^{pattern}$", parts)


def _check_parts(text: str, parts: Mapping[str, Part], codes: list[str]) -> None:
    """Raises an error for a format that does not determine the date, or does so twice."""
    years = len({"year", "short_year"} & parts.keys())
    kinds = [{"month", "day"}, {"yearday"}, {"week", "weekday"}]
    if years != 1 or sum(bool(kind & parts.keys()) for kind in kinds) > 1:
        problem = "it must have one year, with a month and day, a day of the year or an ISO week"
    elif "day" in parts and "month" not in parts:
        problem = "a day (%d) needs a month (%m, %b or %B)"
    elif {"week", "weekday"} & parts.keys() and not {"G", "V"} <= set(codes):
        problem = "an ISO week needs both %G and %V"
    elif "G" in codes and "week" not in parts:
        problem = "%G is the year of an ISO week and needs %V; the year of a date is %Y"
    elif ("half_hour" in parts) != ("half" in parts) or {"hour", "half_hour"} <= parts.keys():
        problem = "%I and %p belong together, and exclude %H"
    else:
        return
    raise InputError(f"--time_format={text}: {problem}")


# ------------------------------------------------------------------------------------- arithmetic


def days_of(part: Mapping[str, Any], keep: Keep = lambda _, value: value) -> tuple[Any, Any]:
    """Returns the day that parts name, and whether it exists in the calendar.

    It uses only operators that NumPy and Ibis share, on numbers that are never negative.

    Args:
        part: name -> whole numbers, of any of the names of a `Format`'s date.
        keep: called with the name and value of a step; its result replaces the value.

    Returns:
        Days since 1970-01-01, and truth values.

    >>> days_of({"year": 1970, "month": 3, "day": 1}), days_of({"year": 2023, "yearday": 366})
    ((59, True), (19723, False))
    """
    part = DEFAULTS | dict(part)
    if "short_year" in part:  # as in POSIX, 69 to 99 belong to the 20th century
        year = part["short_year"] + 1900 + (168 - part["short_year"]) // 100 * 100
    else:
        year = part["year"]

    def first_of(name: str, months: Any) -> Any:
        years = keep(f"{name} years", (months - 2) // 12)  # used four times
        return keep(name, first_of_month(months, years))

    if "week" in part:
        monday, later = (_monday(first_of(f"{n} new year", 12 * (year + n))) for n in (0, 1))
        days, exists = monday + 7 * part["week"] + part["weekday"] - 8, 7 * part["week"]
        exists = exists <= later - monday
    elif "yearday" in part:
        first, later = (first_of(f"{n} new year", 12 * (year + n)) for n in (0, 1))
        days, exists = first + part["yearday"] - 1, part["yearday"] <= later - first
    else:
        months = keep("months", 12 * year + part["month"] - 1)
        first, later = (first_of(f"{n} first", months + n) for n in (0, 1))
        days, exists = first + part["day"] - 1, part["day"] <= later - first
    return days, exists & (year >= 1)


def clock_of(part: Mapping[str, Any]) -> Any:
    """Returns microseconds from midnight to the time of day that parts name."""
    hour = part.get("hour", 0)
    if "half_hour" in part:
        hour = part["half_hour"] % 12 + 12 * part["half"]
    seconds = (hour * 60 + part.get("minute", 0)) * 60 + part.get("second", 0)
    return seconds * SECOND + part.get("fraction", 0)


def first_of_month(months: Any, years: Any = None) -> Any:
    """Returns days from 1970-01-01 to the first day of a month.

    Args:
        months: since the start of year 0, 2 or more.
        years: from the March of year 0 to that month, if already known.

    >>> first_of_month(12 * 1970), first_of_month(12 * 2000 + 2)
    (0, 11017)
    """
    years = (months - 2) // 12 if years is None else years
    march = months - 2 - 12 * years  # in years from March on, the leap day is the last day
    return 365 * years + years // 4 - years // 100 + years // 400 + (153 * march + 2) // 5 - 719468


def month_of(days: Any) -> Any:
    """Returns months from the start of year 0 to the month of a day.

    Args:
        days: since 1970-01-01, from year 1 on.

    >>> month_of(0) - 12 * 1970, month_of(11016) - 12 * 2000
    (0, 1)
    """
    days = days + 719468  # since 0000-03-01
    century4 = days // 146097
    inside = days - century4 * 146097
    years = (inside - inside // 1460 + inside // 36524 - inside // 146096) // 365
    yearday = inside - (365 * years + years // 4 - years // 100)
    return 12 * (years + 400 * century4) + (5 * yearday + 2) // 153 + 2


def _monday(new_year: Any) -> Any:
    """Returns the Monday of ISO week 1, the week with January 4, from a year's first day."""
    fourth = new_year + 3
    return fourth - (fourth + 3 + 719460) % 7  # day 0 is a Thursday; 719,460 is a multiple of 7


# ------------------------------------------------------------------------------------ suggestions

NUMBER_CODES = ("%Y%m%d", "%Y%m", "%G%V", "%y%m%d", "%Y%m%d%H", "%Y%m%d%H%M", "%Y%m%d%H%M%S")
"""Formats of dates that are also whole numbers."""

_COMMON = (
    *NUMBER_CODES,
    *(
        f"{date}{clock}"
        for date in (
            *("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%d/%m/%y", "%m/%d/%y"),
            *("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y-%j", "%d %b %Y", "%d %B %Y", "%d-%b-%Y"),
            *("%b %d, %Y", "%B %d, %Y"),
        )
        for clock in ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
    ),
    *("%a %b %d %H:%M:%S %z %Y", "%a %b %d %H:%M:%S %Y", "%a %b %d %H:%M:%S %Z %Y"),
    *("%a, %d %b %Y %H:%M:%S %Z", "%a, %d %b %Y %H:%M:%S %z", "%d/%b/%Y:%H:%M:%S %z"),
)


def suggestion(texts: Iterable[str]) -> str:
    """Returns advice about texts in unknown formats: the values of `--time_format` that fit.

    >>> suggestion(["3/4/2024"])
    '; set --time_format=%d/%m/%Y or --time_format=%m/%d/%Y'
    >>> suggestion(["soon"])
    ''
    """
    texts = list(texts)
    if not texts or any(one.matches(text) for one in BUILT_IN for text in texts):
        return ""
    found = [name for name in _COMMON if all(map(read_format(name).matches, texts))]
    flags = [
        f"--time_format='{name}'" if " " in name else f"--time_format={name}" for name in found
    ]
    return f"; set {' or '.join(flags)}" if found else ""
