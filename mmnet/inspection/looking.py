"""The whole inspection of tables, from files to findings."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from mmnet.checks import InputError
from mmnet.config import InspectConfig, TableFlags
from mmnet.data import items as item_columns
from mmnet.data import (
    kept_counts,
    numbers,
    parquet,
    periods,
    separators,
    sources,
    tables,
    time_columns,
)
from mmnet.data.columns import floats, id_texts, separator_of, values_of
from mmnet.data.counts import Panel
from mmnet.data.counts import columns as columns_of_counts
from mmnet.data.dialects import text_options
from mmnet.data.ids import ItemIds, item_ids
from mmnet.data.ledger import Rule
from mmnet.data.tables import Rows, Table
from mmnet.inspection import cells, columns, layout, proposal, quality, samples
from mmnet.inspection.cells import Cells, Duplicates, Problem
from mmnet.inspection.choices import Choices
from mmnet.inspection.columns import Profile
from mmnet.inspection.layout import Layout
from mmnet.inspection.proposal import Catalogue, Columns
from mmnet.inspection.quality import Quality

FIXES = ("unknown_items", "stray_periods", "repeats", "bad_events")
"""Flags that drop wrong rows and keep the rest, if an error message names them."""

MOST_FIXES = 6

PART_OF_NONE = 0.05
"""Share of the rows whose numerator exceeds its denominator, from which it is not a subset rather
than a mistake in some rows."""


@dataclass
class Look:
    """All findings of an inspection.

    Attributes:
        choices: the flags, given and proposed, and the columns that no flag names.
        problems: errors that training would report, and the flags that help.
        layout: layout of the log; None if it was not found.
        quality: quality of the counts; None if they could not be read.
        cells: all rows of the counts.
        columns: columns of the items table.
        splits: examples of each split.
        notes: further remarks.
        ledger: rows dropped on the way to counts.
        profiles: statistics of the columns of the items table.
        kept: keeps the files of counted events until this object is deleted.
    """

    choices: Choices
    problems: list[Problem] = field(default_factory=list)
    layout: Layout | None = None
    quality: Quality | None = None
    cells: Cells | None = None
    columns: Columns | None = None
    splits: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    ledger: tuple[Rule, ...] = ()
    profiles: tuple[Profile, ...] = ()
    kept: Any = None


def look(flags: InspectConfig) -> Look:
    """Inspects the tables that the flags name.

    Raises:
        InputError: no flagfile can be proposed: the tables cannot be opened, or their columns of
            ids, times and counts cannot be found.
    """
    found = Look(Choices(flags))
    if flags.source:
        return _of_source(found)
    catalogue, log, rows = _opened(flags, found)
    own = tuple(columns.profiles(samples.sample(catalogue), flags))
    found.profiles = own
    found.layout = layout.of_log(log, rows, catalogue, columns.profiles(log, flags), found.choices)
    _look(found, catalogue, rows)
    return found


def _of_source(found: Look) -> Look:
    """Inspects the tables of a source, which names its columns of ids and periods itself."""
    given = found.choices.given
    loaded = sources.load(found.choices.tables)
    catalogue, log = loaded.items.read(), samples.sample(loaded.counts)
    found.profiles = tuple(columns.profiles(samples.sample(catalogue), given))
    found.layout = layout.of_log(
        log, loaded.counts, catalogue, columns.profiles(log, given), found.choices
    )
    found.ledger = loaded.ledger
    _look(found, catalogue, loaded.counts)
    return found


def _opened(flags: InspectConfig, found: Look) -> tuple[Table, Table, Rows | None]:
    """Returns the items, some rows of the log, and all rows of the counts."""
    missing = [] if flags.counts or flags.events else ["--counts or --events"]
    missing += [] if flags.items else ["--items"]
    if missing:
        raise InputError(f"{' and '.join(missing)} not given; name the tables, or set --source")
    if flags.counts and flags.events:
        raise InputError("--counts and --events cannot both be given; remove one of them")
    wrong: list[Problem] = []

    def opened(name: str) -> Rows:
        said = text_options(flags.text_set, name)
        return parquet.open_table(getattr(flags, name), name, said=said)

    rows = cells.collected(wrong, lambda: opened("counts")) if flags.counts else None
    log = None
    if flags.events:
        log = cells.collected(wrong, lambda: samples.sample_of_events(flags))
    said = text_options(flags.text_set, "items")
    items = cells.collected(wrong, lambda: tables.read(flags.items, "items", said=said))
    if wrong:
        raise InputError("; ".join(problem.sentence for problem in wrong))
    if log is None:
        assert rows is not None  # one of the two was given
        log = samples.sample(rows)
    return items, log, rows


def _look(found: Look, catalogue: Table, rows: Rows | None) -> None:
    """Reads all rows with the flags proposed so far, and proposes the others."""
    choices = found.choices
    ids = _ids(found, catalogue)
    counts = _counts(found, rows, ids)
    if counts is None:
        return
    flags = choices.tables
    for named in columns_of_counts(flags).items():
        needed = functools.partial(tables.need_columns, counts, dict([named]))
        cells.collected(found.problems, needed)
    if found.problems and not set(columns_of_counts(flags)) <= set(counts.names):
        return
    try:
        survey, problem = cells.surveyed(counts, flags, choices.task)
        if problem:
            _add(found, problem)
        read = cells.read(counts, ids, choices.tables, choices.task, survey)
    except InputError as error:
        found.problems.append(Problem(str(error)))
        return
    for problem in read.problems:
        _add(found, problem)
    found.cells = read
    _duplicates(found, read.duplicates)
    _above(found, read)
    panel, seen = _span(found, read)
    shards = [
        slice(start, min(start + flags.shard_items, len(ids)))
        for start in range(0, len(ids), flags.shard_items)
    ]
    found.quality = quality.of_panel(panel, seen, shards)
    assert found.layout is not None
    table = Catalogue(catalogue, found.profiles, found.layout.item)
    first_rows = None
    if "source" in choices.proposed and rows is not None:
        first_rows = _first_rows(rows, ids, found.layout, panel, choices)
    found.columns = proposal.of_items(table, panel, seen, shards, choices, first_rows)
    found.notes += [
        f"{one.column} equals the first period with {choices.tables.denominator} of "
        f"{one.equal:.0%} of the items: it is history rather than a release, and is left out"
        for one in found.columns.releases
        if one.fits and one.is_history and choices.tables.release != one.column
    ]
    _check_features(found, catalogue)
    _splits(found, dataclasses.replace(panel, release=seen), shards)


def _ids(found: Look, catalogue: Table) -> ItemIds:
    flags = found.choices.tables
    try:
        return item_ids(catalogue, flags)
    except InputError as error:
        text = str(error)
        fix = ("repeats", "drop") if "--repeats=drop" in text else None
        _add(found, Problem(text, fix=fix))
        who = id_texts(catalogue, flags.item_column, "item_column")
        return ItemIds(pa.chunked_array([who.combine_chunks()], who.type))


def _counts(found: Look, rows: Rows | None, ids: ItemIds) -> Rows | None:
    """Returns the counts as they are, from running totals or from events, and records errors."""
    choices = found.choices
    if rows is not None and "source" not in choices.proposed:
        return rows
    for _ in range(MOST_FIXES):
        flags = choices.tables
        try:
            if choices.given.events:
                counted = kept_counts.load(flags, choices.task, ids.part(slice(0, len(ids))))
                found.ledger = counted.ledger
                found.kept = counted  # keeps the temporary directory of the counts
                return counted.table
            places = {"counts": "", "items": ""}
            loaded = sources.load(flags.model_copy(update=places))
            found.ledger = loaded.ledger
            return loaded.counts
        except InputError as error:
            problem = Problem(str(error), fix=_advised(str(error), choices))
            _add(found, problem)
            if problem.fix is None:
                return None
    return None


_KEPT: list[Any] = []
"""Keeps the scratch directory of counted events until the program ends."""


def _advised(text: str, choices: Choices) -> tuple[str, str] | None:
    for name in FIXES:
        if f"--{name}=drop" in text and not choices.is_given(name):
            return name, "drop"
    return None


def _add(found: Look, problem: Problem) -> None:
    """Records a problem, and proposes the flag that helps."""
    choices = found.choices
    found.problems.append(problem)
    if problem.fix and not choices.is_given(problem.fix[0]):
        rows = f" ({problem.rows:,} rows)" if problem.rows else ""
        choices.propose(*problem.fix, f"{problem.sentence}{rows}")


def _duplicates(found: Look, twice: Duplicates) -> None:
    if not twice.rows:
        return
    flags = found.choices.tables
    equal = twice.equal / twice.rows
    if twice.exact == twice.compared:
        text = f"{twice.rows:,} rows are exact duplicates of an earlier row"
        problem = Problem(f"{twice.example}: {text}", twice.rows, ("repeats", "drop"))
    elif equal >= 0.95:
        differing = f", where {twice.differing} differs" if twice.differing else ""
        problem = Problem(
            f"{twice.example}: duplicate keys with equal counts: {twice.rows:,} rows have the item "
            f"and period of an earlier row, and {equal:.0%} of them the same {flags.denominator} "
            f"and {flags.numerator}{differing}; the counts were repeated, so keep one row of each "
            "item and period and never add them up",
            twice.rows,
        )
    else:
        problem = Problem(
            f"{twice.example}: duplicate keys: {twice.rows:,} rows have the item and period of an "
            f"earlier row, and {1 - equal:.0%} of them have other counts; add them up if they are "
            "parts of one count, or keep the right one",
            twice.rows,
        )
    if flags.repeats == "fail" or problem.fix is None:
        _add(found, problem)


def _above(found: Look, read: Cells) -> None:
    choices = found.choices
    if not read.above or choices.tables.rate_may_exceed_one:
        return
    share = read.above / max(read.rows, 1)
    flags = choices.tables
    sentence = (
        f"{read.above_example}: the numerator is above its denominator in {read.above:,} of "
        f"{read.rows:,} rows; correct them, or set --rate_may_exceed_one if {flags.numerator} are "
        f"not a subset of {flags.denominator}"
    )
    fix = ("rate_may_exceed_one", "true") if share >= PART_OF_NONE else None
    found.problems.append(Problem(sentence, read.above, fix))
    if fix:
        choices.propose("rate_may_exceed_one", True, f"{read.above:,} rows have a rate above 100 %")


def _span(found: Look, read: Cells) -> tuple[Panel, np.ndarray]:
    """Cuts the panel at a long gap before and at an incomplete last period."""
    choices, panel = found.choices, read.panel
    start, stop = 0, panel.num_periods
    if not choices.is_given("first_period"):
        start = quality.start_after_gap(read.periods_with_rows, choices.task.window)
    if start:
        label = panel.label(start)
        gap = int((~read.periods_with_rows[:start])[::-1].argmin())
        before = int(read.periods_with_rows[:start].sum())
        reason = f"the {gap} periods before it have no rows; {before} earlier ones are left out"
        choices.propose("first_period", str(label), reason)
    amounts = np.array([panel.clicks_in(column) for column in range(stop)])
    events = choices.given.events
    if not choices.tables.use_partial and not events and periods.too_few(amounts):
        stop -= 1
        found.notes.append(
            f"the last period, {panel.label(stop)}, has {amounts[stop]:,} "
            f"{choices.tables.denominator}, {periods.FEWER}: it is left out as incomplete"
        )
    if (start, stop) == (0, panel.num_periods):
        return panel, read.first_seen
    clicks, shares = panel.clicks[:, start:stop], panel.shares[:, start:stop]
    seen = np.where((clicks > 0).any(axis=1), (clicks > 0).argmax(axis=1), stop - start)
    cut = dataclasses.replace(
        panel, clicks=clicks, shares=shares, release=seen, first_period=panel.first_period + start
    )
    return cut, seen


def _first_rows(
    rows: Rows, ids: ItemIds, log: Layout, panel: Panel, choices: Choices
) -> np.ndarray:
    """Returns the panel's column of each item's first running total, int64 [items]."""
    flags = choices.tables.model_copy(update={"period_column": log.time})
    first = np.full(len(ids), panel.num_periods)
    reading = time_columns.reading_of(rows, log.time, "period_column", flags)
    for piece in rows.pieces(
        parquet.PIECE_ROWS, {log.item: "item_column", log.time: "period_column"}
    ):
        items = ids.rows(id_texts(piece, log.item, "item_column"))
        number = panel.calendar.read(piece, log.time, "period_column", reading).numbers
        known = items >= 0
        np.minimum.at(first, items[known], number[known].astype(np.int64) - panel.first_period)
    return first


def _check_features(found: Look, catalogue: Table) -> None:
    """Reads every column that a flag names as preparing would, and records every error."""
    flags, wrong = found.choices.tables, list[Problem]()
    named = item_columns.columns(flags) | ({flags.release: "release"} if flags.release else {})
    for column, flag in named.items():
        step = {
            "numerics": lambda column=column: _numbers(catalogue, column, flags),
            "texts": lambda column=column: item_columns.texts_of(catalogue, column),
            "taxonomies": lambda column=column: _values(catalogue, column, "taxonomies", flags),
            "categoricals": lambda column=column: _values(catalogue, column, "categoricals", flags),
        }.get(flag, lambda column=column, flag=flag: catalogue.need(column, flag))
        cells.collected(wrong, step)
    found.problems += wrong


def _numbers(catalogue: Table, column: str, flags: TableFlags) -> None:
    marks = numbers.recognised(catalogue, column, "numerics", flags)
    floats(catalogue, column, "numerics", marks=marks)


def _values(catalogue: Table, column: str, flag: str, flags: TableFlags) -> None:
    if not flags.list_separator:
        separators.check(catalogue, column, flag)
    values_of(catalogue, column, flag, separator_of(flags))


def _splits(found: Look, panel: Panel, shards: list[slice]) -> None:
    choices = found.choices
    if not choices.is_given("min_target_clicks"):
        least, reason = quality.least_clicks(panel, choices.task, shards)
        if least != choices.task.min_target_clicks:
            choices.propose("min_target_clicks", least, reason)
    try:
        found.splits = quality.examples(panel, choices.task, shards)
    except InputError as error:
        found.problems.append(Problem(str(error)))
        return
    test = found.splits["test"]
    if test < choices.task.min_test_rows and not choices.is_given("min_test_rows"):
        reason = f"there are {test:,} test examples, so few that differences may be chance"
        choices.propose("min_test_rows", test, reason)
