"""The flag for each column of the items table, and the columns that leak the future."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from mmnet.checks import InputError
from mmnet.data import time_columns
from mmnet.data.calendars import Calendar
from mmnet.data.columns import is_list, separator_of, values_of
from mmnet.data.counts import Panel
from mmnet.data.tables import Table
from mmnet.inspection import columns as kinds
from mmnet.inspection import effects, leaks
from mmnet.inspection.cells import as_numbers
from mmnet.inspection.choices import Choices
from mmnet.inspection.columns import Profile, Verdict
from mmnet.inspection.effects import Release
from mmnet.inspection.leaks import Leak, Outcomes

MOST_TAXONOMIES = 4
"""Maximum number of taxonomies to propose, since each adds a sequence of inputs."""

FILLED = 0.01
"""Minimum share of the items that must have a value."""

FOLLOWS = 0.5
"""Minimum correlation with the first clicks for integers that are periods of a release."""


@dataclass(frozen=True)
class Catalogue:
    """The items table under inspection.

    Attributes:
        table: all of its rows.
        profiles: statistics of its columns, from some of the rows.
        item: the column of ids.
    """

    table: Table
    profiles: tuple[Profile, ...]
    item: str


@dataclass(frozen=True)
class Told:
    """Share of the variance of rates that the other items of a column's values explain."""

    column: str
    share: float


@dataclass(frozen=True)
class Columns:
    """Findings about the items' columns.

    Attributes:
        verdicts: column -> its kind.
        leaks: columns that appear to leak the future.
        told: how well categories and lists explain rates, the best first.
        releases: columns of times, compared with the first clicks.
    """

    verdicts: dict[str, Verdict]
    leaks: tuple[Leak, ...]
    told: tuple[Told, ...]
    releases: tuple[Release, ...]


def of_items(
    catalogue: Catalogue,
    panel: Panel,
    first_seen: np.ndarray,
    shards: Sequence[slice],
    choices: Choices,
    first_rows: np.ndarray | None = None,
) -> Columns:
    """Classifies the columns and proposes flags for them.

    Args:
        catalogue: the items table.
        panel: counts of the same items.
        first_seen: int64 [items], column of the first clicks.
        first_rows: the same of the first running total, which the first clicks follow.
        shards: ranges of the items.
        choices: receives the proposed flags.
    """
    wanted = [one for one in catalogue.profiles if one.name != catalogue.item]
    verdicts = {one.name: kinds.item_kind(one) for one in wanted}
    first = first_seen if first_rows is None else first_rows
    releases = _releases(catalogue, wanted, verdicts, panel, first, choices)
    release = _propose_release(releases, verdicts, choices)
    _separator(wanted, verdicts, choices)
    seen = leaks.outcomes(panel, first_seen, shards)
    age = _age(catalogue, release, panel, first_seen, choices)
    found = [
        leak
        for one in wanted
        for leak in _leaks(catalogue.table, one, verdicts[one.name], seen, age, choices)
        if one.name not in [release, *(other.column for other in releases if other.fits)]
    ]
    leaking = {leak.column: leak.reason for leak in found}
    told = _told(catalogue.table, verdicts, leaking, panel, shards, choices)
    _propose_columns(wanted, verdicts, leaking, told, choices)
    return Columns(verdicts, tuple(found), tuple(told), tuple(releases))


# --------------------------------------------------------------------------------------- release


def _releases(
    catalogue: Catalogue,
    wanted: Sequence[Profile],
    verdicts: dict[str, Verdict],
    panel: Panel,
    first_seen: np.ndarray,
    choices: Choices,
) -> list[Release]:
    found = []
    for one in wanted:
        by_name = one.name == choices.given.release
        if verdicts[one.name].kind not in ("time", "number", "category") and not by_name:
            continue
        number = periods_of(catalogue.table, one, panel, choices)
        if number is None:
            continue
        release = effects.release(one.name, number, first_seen, panel.num_periods)
        if not (one.time and one.time.certain) and not by_name:
            there = np.isfinite(number) & (first_seen < panel.num_periods)
            if (
                one.distinct <= 2
                or not release.fits
                or _follows(number, first_seen, there) < FOLLOWS
            ):
                continue
            verdicts[one.name] = Verdict("time", "periods of the log, none after the first clicks")
        found.append(release)
    return found


def _follows(number: np.ndarray, first_seen: np.ndarray, there: np.ndarray) -> float:
    with np.errstate(invalid="ignore"):
        if there.sum() < 2 or not number[there].std() or not first_seen[there].std():
            return 0.0
        return float(np.corrcoef(number[there], first_seen[there])[0, 1])


def periods_of(items: Table, one: Profile, panel: Panel, choices: Choices) -> np.ndarray | None:
    """Returns the panel's column of each value of a column of times, float64 [items].

    Args:
        items: table with the column.
        one: the column.
        panel: panel of the log.
        choices: formats of times.

    Returns:
        NaN where there is no time; None if the column has no times of the log's kind.
    """
    calendar: Calendar = panel.calendar
    if calendar.kind == "integer":
        if not (one.numeric and one.whole):
            return None
        return as_numbers(items.data[one.name]) - panel.first_period
    if one.time is None or one.time.index:
        return None
    flags = choices.tables.model_copy(update=dict(one.time.flags))
    try:
        reading = time_columns.reading_of(items, one.name, "release", flags)
    except InputError:
        return None
    found = time_columns.read(items.data[one.name], reading, calendar.time_zone)
    number = calendar.bins(found.local) - panel.first_period
    return np.where(found.good, number, np.nan)


def _propose_release(
    releases: Sequence[Release], verdicts: dict[str, Verdict], choices: Choices
) -> str:
    if choices.is_given("release"):
        return choices.given.release
    usable = [one for one in releases if one.fits]
    for one in releases:
        if not one.fits:
            after = f"after the first clicks of {1 - one.not_after:.0%} of the items"
            why = (
                after
                if one.known >= effects.MOST
                else f"known for {one.known:.0%} of the items only"
            )
            choices.leave_out(
                "items", one.column, f"{verdicts[one.column].reason}; not a release: {why}"
            )
    fresh = [one for one in usable if not one.is_history]
    for one in usable:
        if one.is_history:
            choices.leave_out(
                "items",
                one.column,
                f"equals the first period with clicks of {one.equal:.0%} of the items, so it is "
                "history rather than a release known in advance; the first period is used instead",
            )
    if not fresh:
        return ""
    best = max(fresh, key=lambda one: (round(one.known, 2), one.not_after, one.equal))
    reason = (
        f"known for {best.known:.0%} of the items, and not after the first clicks of "
        f"{best.not_after:.0%}"
    )
    choices.propose("release", best.column, reason)
    for one in fresh:
        if one.column != best.column:
            choices.leave_out("items", one.column, "another time that could be the release")
    return best.column


def _age(
    catalogue: Catalogue, release: str, panel: Panel, first_seen: np.ndarray, choices: Choices
) -> np.ndarray:
    """Returns how new each item is, by its release or first clicks; float64 [items]."""
    found = first_seen.astype(float)
    one = next((one for one in catalogue.profiles if one.name == release), None)
    number = periods_of(catalogue.table, one, panel, choices) if one else None
    return found if number is None else np.where(np.isfinite(number), number, found)


# ---------------------------------------------------------------------------------------- leaks


def _leaks(
    items: Table,
    one: Profile,
    verdict: Verdict,
    seen: Outcomes,
    age: np.ndarray,
    choices: Choices,
) -> list[Leak]:
    tables = choices.tables
    names = tables.numerator, tables.denominator
    empty = is_empty(items, one.name)
    found = leaks.empty_for_newest(one.name, empty, age)
    if found or verdict.kind in ("time", "text", "image", "vector") or one.nested:
        return found
    if one.numeric:
        return leaks.of_number(one.name, as_numbers(items.data[one.name]), seen, names)
    if verdict.kind in ("category", "list"):
        codes = pd.factorize(items.data[one.name].to_pandas().astype(str))[0]
        return leaks.of_groups(one.name, np.where(empty, -1, codes), seen, names)
    return []


def is_empty(items: Table, column: str) -> np.ndarray:
    """Marks rows of a column without a value, bool [items]."""
    data = items.data[column]
    if not is_list(data.type):
        return ~time_columns.filled(data)
    length = pc.fill_null(pc.list_value_length(data), 0)
    return length.to_numpy() == 0


# ------------------------------------------------------------------------------------- features


def _separator(wanted: Sequence[Profile], verdicts: dict[str, Verdict], choices: Choices) -> None:
    """Proposes one separator for all columns, and leaves out lists with another one."""
    lists = [one for one in wanted if verdicts[one.name].kind == "list"]
    used = [one.separator for one in lists if one.separator not in ("list", "")]
    if not used or choices.is_given("list_separator"):
        return
    common = pd.Series(used).mode()[0]
    if common != ";":
        flag = {"\t": "tab", " ": "space"}.get(common, common)
        which = ", ".join(one.name for one in lists if one.separator == common)
        choices.propose("list_separator", flag, f"between the values of {which}")
    for one in lists:
        if one.separator not in ("list", common):
            reason = (
                f"lists separated by {one.separator!r}, while other columns use {common!r}; "
                "all columns need the same --list_separator"
            )
            verdicts[one.name] = Verdict("useless", reason)


def _told(
    items: Table,
    verdicts: dict[str, Verdict],
    leaking: dict[str, str],
    panel: Panel,
    shards: Sequence[slice],
    choices: Choices,
) -> list[Told]:
    """Computes how well each category and list explains rates, in the training periods."""
    ratios = np.array(choices.task.split_ratios)
    stop = max(int(panel.num_periods * ratios[0] / ratios.sum()), 1)
    clicks, shares = (
        np.concatenate([array[part, :stop].sum(axis=1) for part in shards])
        for array in (panel.clicks, panel.shares)
    )
    found = []
    for name, verdict in verdicts.items():
        if verdict.kind not in ("category", "list") or name in leaking:
            continue
        try:
            rows, values = values_of(items, name, "taxonomies", separator_of(choices.tables))
        except InputError:
            continue
        codes = pd.factorize(values)[0]
        found.append(Told(name, effects.told(rows, codes, clicks, shares)))
    return sorted(found, key=lambda one: -np.nan_to_num(one.share, nan=-1))


def _propose_columns(
    wanted: Sequence[Profile],
    verdicts: dict[str, Verdict],
    leaking: dict[str, str],
    told: Sequence[Told],
    choices: Choices,
) -> None:
    given = choices.given
    named = {
        *given.taxonomies,
        *given.categoricals,
        *given.numerics,
        *given.texts,
        *given.images,
        given.release,
        *(choice.values[0] for name, choice in choices.proposed.items() if name == "release"),
    }
    share = {one.column: one.share for one in told}
    chosen: dict[str, list[str]] = {
        "taxonomies": [],
        "categoricals": [],
        "numerics": [],
        "texts": [],
    }
    telling = [one.column for one in told if one.share >= effects.TELLS]
    taxonomies = telling[:MOST_TAXONOMIES]
    for one in wanted:
        verdict = verdicts[one.name]
        if one.name in named:
            continue
        if one.name in leaking:
            choices.leave_out("items", one.name, f"looks like a leak: {leaking[one.name]}")
        elif one.filled < FILLED:
            choices.leave_out("items", one.name, f"has a value for {one.filled:.1%} of the items")
        elif verdict.kind in ("category", "list"):
            flag = "taxonomies" if one.name in taxonomies else "categoricals"
            chosen[flag].append(one.name)
        elif verdict.kind in ("number", "text"):
            chosen[f"{verdict.kind}s".replace("numbers", "numerics")].append(one.name)
        elif verdict.kind == "image":
            reason = f"{verdict.reason}; --images={one.name} needs --image_encoder and --image_root"
            choices.leave_out("items", one.name, reason)
        else:
            choices.leave_out("items", one.name, verdict.reason)
    for flag, columns in chosen.items():
        if columns and not choices.is_given(flag):
            choices.propose(
                flag, tuple(columns), "; ".join(_why(c, verdicts, share) for c in columns)
            )
        elif columns:
            for column in columns:
                choices.leave_out("items", column, f"{verdicts[column].reason}; --{flag} is given")


def _why(column: str, verdicts: dict[str, Verdict], share: dict[str, float]) -> str:
    tells = share.get(column, float("nan"))
    about = f"{column}: {verdicts[column].reason}"
    if column not in share or np.isnan(tells):
        return about
    return f"{about}, other items of a value explain {max(tells, 0):.0%}"
