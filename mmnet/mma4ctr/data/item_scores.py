"""MMNet's scores of items, as a filter before this system and as a column inside it.

Scores of one period are a column of the item. Scores of several periods, as `mmnet.predict` writes
them for rankers, are a column of the item and the day: a row reads the score of its own day, which
was known before that day.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmnet.checks import InputError
from mmnet.data import repeats, table_files, tables
from mmnet.data.columns import floats, id_texts, texts, whole_ids
from mmnet.data.dialects import text_options
from mmnet.data.ledger import Rule
from mmnet.data.tables import Table
from mmnet.schema import LARGEST_RATE
from mmnet.serving.exported import OUTPUT

COLUMNS = ("item_id", OUTPUT)
DECISION, DROP = "decision", "drop"
"""Column that `mmnet.predict` writes with a rule."""
PERIOD, IN_TRAINING = "period", "in_training"
"""Columns of the scored period, and of whether the model was trained on it."""


class Days(NamedTuple):
    """Days of a log; the one after its end counts too.

    Attributes:
        first: first day.
        number: number of days.
    """

    first: int
    number: int


@dataclass(frozen=True)
class ItemScores:
    """Scores of a dataset's items.

    Attributes:
        columns: predicted share rate in percent, within `schema.LARGEST_RATE`, or the mean where
            an item has none, and whether it has one; float32 [items, 2].
        kept: items that the filter lets through, bool [items]; all where nothing was decided.
        by_day: the same of each day, float32 [items · days, 2], the days of an item together; an
            item without a score has the mean of the day, or 0 where the day has none. None for
            scores of one period.
    """

    columns: np.ndarray
    kept: np.ndarray
    by_day: np.ndarray | None = None


def check(pattern: str, text_set: Sequence[str] = ()) -> None:
    """Refuse scores whose files are missing or lack a column, before any other work.

    Args:
        pattern: the file.
        text_set: the user's settings of text files.

    Raises:
        InputError: a file is missing or lacks a column.
    """
    said = text_options(text_set, "item_scores")
    tables.check_header(pattern, "item_scores", dict.fromkeys(COLUMNS, "item_scores"), said)


def found_out(pattern: str, text_set: Sequence[str] = ()) -> list[Rule]:
    """Detected format of the files of scores; see `table_files.rules`."""
    said = text_options(text_set, "item_scores")
    return table_files.found_out(pattern, "item_scores", said, COLUMNS)


def read(
    pattern: str,
    item_ids: np.ndarray,
    text_set: Sequence[str] = (),
    days: Days | None = None,
) -> ItemScores:
    """Read the output of `python -m mmnet.predict`.

    Args:
        pattern: the file.
        item_ids: ids of the dataset, sorted.
        text_set: the user's settings of text files.
        days: days of the log, where rows may read the scores of their own day.

    Raises:
        InputError: no such file or column, an item twice in a period, no item of the dataset in
            it; or several periods where rows have no days.
    """
    said = text_options(text_set, "item_scores")
    scores = tables.read(pattern, "item_scores", columns=COLUMNS, said=said)
    ids = whole_ids(scores, "item_id", "item_scores")
    periods = _periods(scores)
    by_day = periods is not None and len(np.unique(periods)) > 1
    if by_day and days is None:
        raise InputError(
            f"{scores.origin()}: has scores of several periods, and rows of one day read those of "
            "their day only with --protocol=c1 and a log by days; score one period only"
        )
    keys = [ids, periods] if by_day and periods is not None else [ids]
    _, codes = np.unique(np.stack(keys, axis=1), axis=0, return_inverse=True)
    if len(np.unique(codes)) < len(ids):
        first = repeats.firsts(codes.ravel())
        row = int(np.argmax(first < np.arange(len(ids))))
        where = scores.where(row, "item_id")
        if by_day:
            raise InputError(f"{where}: duplicate item {ids[row]} in one period; remove a row")
        raise InputError(
            f"{where}: duplicate item {ids[row]}; score one period only, with one row per item"
        )
    rate = floats(scores, OUTPUT, "item_scores", rule="a score must be a number")
    place = np.minimum(np.searchsorted(item_ids, ids), len(item_ids) - 1)
    mine = (item_ids[place] == ids) & np.isfinite(rate)
    if not mine.any():
        raise InputError(
            f"{scores.origin()}: none of its item_ids occur in the dataset; score the items of "
            "this dataset"
        )
    rate = np.clip(rate, -LARGEST_RATE, LARGEST_RATE)
    kept = np.ones(len(item_ids), bool)
    if by_day and days is not None and periods is not None:
        return ItemScores(
            _filled(len(item_ids), place[mine], rate[mine]),
            kept,
            _of_days(scores, days, len(item_ids), periods, place, rate, mine),
        )
    if DECISION in scores.data.column_names:
        dropped = np.asarray(pc.equal(texts(scores, DECISION, "item_scores"), DROP))
        kept[place[mine]] = ~dropped[mine]
    return ItemScores(_filled(len(item_ids), place[mine], rate[mine]), kept)


def _of_days(
    scores: Table,
    days: Days,
    items: int,
    periods: np.ndarray,
    place: np.ndarray,
    rate: np.ndarray,
    mine: np.ndarray,
) -> np.ndarray:
    if DECISION in scores.data.column_names:
        raise InputError(
            f"{scores.origin()}: has scores of several periods and decisions, and a decision is "
            "about an item in one period; remove the column, or score one period only"
        )
    moment = periods - days.first
    mine = mine & (moment >= 0) & (moment <= days.number)
    if IN_TRAINING in scores.data.column_names:
        trained = id_texts(scores, IN_TRAINING, "item_scores")  # of True, TRUE and true alike
        mine = mine & ~np.asarray(pc.equal(trained, "true"))
    if not mine.any():
        raise InputError(
            f"{scores.origin()}: no score is of a day of the log that its model was not trained "
            "on; score each day with a model of earlier days"
        )
    found = np.zeros((items, days.number + 1, 2), np.float32)
    for day in np.unique(moment[mine]):  # no row may depend on scores of other days
        of_day = mine & (moment == day)
        found[:, day] = _filled(items, place[of_day], rate[of_day])
    return found.reshape(-1, 2)


def _filled(number: int, place: np.ndarray, rate: np.ndarray) -> np.ndarray:
    """Scores and whether there is one; what has none has the mean. float32 [number, 2]."""
    columns = np.zeros((number, 2), np.float32)
    columns[:, 0] = rate.mean()
    columns[place, 0], columns[place, 1] = rate, 1
    return columns


def _periods(scores: Table) -> np.ndarray | None:
    """Days of the scored periods, int64 [rows]; None without the column, or where it has others.

    A period is a whole number, as in logs that count their days, or a date.
    """
    if PERIOD not in scores.data.column_names:
        return None
    found = id_texts(scores, PERIOD, "item_scores")
    for kind in (pa.int64(), pa.date32()):
        try:
            days = found.cast(kind)
            return np.asarray(days if kind == pa.int64() else days.cast(pa.int32()), np.int64)
        except pa.ArrowInvalid:
            continue
    return None
