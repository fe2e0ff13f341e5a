"""MMNet's scores of items, as a filter before this system and as a column inside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from mmnet.checks import InputError
from mmnet.data import repeats, table_files, tables
from mmnet.data.columns import floats, texts, whole_ids
from mmnet.data.dialects import text_options
from mmnet.data.ledger import Rule
from mmnet.schema import LARGEST_RATE
from mmnet.serving.exported import OUTPUT

COLUMNS = ("item_id", OUTPUT)
DECISION, DROP = "decision", "drop"
"""Column that `mmnet.predict` writes with a rule."""


@dataclass(frozen=True)
class ItemScores:
    """Scores of a dataset's items.

    Attributes:
        columns: predicted share rate in percent, within `schema.LARGEST_RATE`, or the mean where
            an item has none, and whether it has one; float32 [items, 2].
        kept: items that the filter lets through, bool [items]; all where nothing was decided.
    """

    columns: np.ndarray
    kept: np.ndarray


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


def read(pattern: str, item_ids: np.ndarray, text_set: Sequence[str] = ()) -> ItemScores:
    """Read the output of `python -m mmnet.predict`.

    Args:
        pattern: the file.
        item_ids: ids of the dataset, sorted.
        text_set: the user's settings of text files.

    Raises:
        InputError: no such file or column, an item twice, no item of the dataset in it.
    """
    said = text_options(text_set, "item_scores")
    scores = tables.read(pattern, "item_scores", columns=COLUMNS, said=said)
    ids = whole_ids(scores, "item_id", "item_scores")
    if len(np.unique(ids)) < len(ids):
        first = repeats.firsts(ids)
        row = int(np.argmax(first < np.arange(len(ids))))
        raise InputError(
            f"{scores.where(row, 'item_id')}: duplicate item {ids[row]}; score one period only, "
            "with one row per item"
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
    columns = np.zeros((len(item_ids), 2), np.float32)
    columns[:, 0] = rate[mine].mean()
    columns[place[mine], 0], columns[place[mine], 1] = rate[mine], 1
    kept = np.ones(len(item_ids), bool)
    if DECISION in scores.data.column_names:
        dropped = np.asarray(pc.equal(texts(scores, DECISION, "item_scores"), DROP))
        kept[place[mine]] = ~dropped[mine]
    return ItemScores(columns, kept)
