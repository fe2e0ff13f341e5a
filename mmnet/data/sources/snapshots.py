"""Snapshots of cumulative counters, as published by any site with running totals.

A snapshot has the number of stars and forks (or plays and shares) that an item has gathered so far;
the difference of two snapshots one period apart is the number gathered in that period.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from mmnet.checks import InputError, quoted
from mmnet.config import TableFlags, TaskFlags
from mmnet.data import periods, rates, repeats, tables
from mmnet.data.columns import id_texts, integers
from mmnet.data.dialects import text_options
from mmnet.data.ledger import Rule
from mmnet.data.numbers import recognised, reported
from mmnet.data.tables import Table, Tables


def snapshots(
    directory: Path | None,
    flags: TableFlags,
    *,
    snapshots: str = "snapshots.csv",
    items: str = "items.csv",
    time: str = "period",
) -> Tables:
    """Reads snapshots of cumulative counters and an items table.

    A period's counts are its snapshot minus the one exactly one period before. They are left out,
    so that the period is missing, where there is no such snapshot (the item is new, or a snapshot
    was skipped), where a counter fell, and, unless `--rate_may_exceed_one`, where the numerator
    grew by more than the denominator. The counters of further rates are held to the same rules.

    Args:
        directory: where the files are.
        flags: `item_column`, `numerator`, `denominator` name the columns of the snapshots;
            `period` is their distance.
        snapshots: file or glob of the snapshots table.
        items: file or glob of the items table.
        time: column of the snapshots' time.

    Raises:
        InputError: no directory, a missing column, a counter or time that is none, an item with
            two snapshots in one period.
    """
    if directory is None:
        raise InputError("--source=snapshots needs --source_dir, the directory of its files")
    counted = {flags.denominator: "denominator", flags.numerator: "numerator"}
    counted |= dict.fromkeys(rates.columns_of(flags), "rate")
    taken = tables.read(
        str(directory / snapshots),
        "counts",
        columns=[flags.item_column, *counted, time],
        said=text_options(flags.text_set, "counts"),
    )
    wanted = flags.model_copy(update={"period_column": time})
    surveyed = periods.survey(taken, wanted, TaskFlags())
    calendar, ledger = surveyed.calendar, []
    numbers = calendar.read(taken, time, "source_set=time", surveyed.reading).numbers
    numbers = numbers.astype(np.int64)
    if surveyed.stray:
        near = (numbers >= surveyed.first) & (numbers <= surveyed.last)
        numbers_in, numbers = len(numbers), numbers[near]
        ledger.append(Rule("snapshots", periods.STRAY, numbers_in, len(numbers), surveyed.stray))
        taken = taken.keep(near)
    counters = {}
    for number, (column, flag) in enumerate(counted.items()):
        marks = recognised(taken, column, flag, flags, whole=True)
        ledger += reported(taken, {column: marks})
        counters[f"counter {number}"] = integers(taken, column, flag, what="a counter", marks=marks)
    frame = pd.DataFrame(
        {
            "item": id_texts(taken, flags.item_column, "item_column").to_pandas(),
            "number": numbers,
            **counters,
        }
    )
    first = repeats.firsts(pd.factorize(pd.MultiIndex.from_frame(frame[["item", "number"]]))[0])
    again = np.flatnonzero(first < np.arange(len(frame)))
    if len(again):
        pairs = taken.places[first[again]], taken.places[again]
        differs = repeats.differences(taken, *pairs) != ""
        if differs.any() or flags.repeats == "fail":
            row = int(np.argmax(differs))
            period = calendar.label(numbers[again[row]])
            one, other = (int(place[row]) for place in pairs)
            raise repeats.refusal(
                taken,
                one,
                other,
                f"item {quoted(frame['item'][again[row]])} in period {period}",
                "keep one of the snapshots, or make --period narrower",
            )
    if flags.repeats == "drop":
        kept_rows = first == np.arange(len(frame))
        ledger.append(Rule("snapshots", repeats.RULE, len(frame), int(kept_rows.sum())))
        frame = frame[kept_rows]
    frame = frame.sort_values(["item", "number"], kind="stable", ignore_index=True)
    same = frame["item"].eq(frame["item"].shift())
    step = frame["number"].diff()
    grown = frame[[*counters]].diff().set_axis([*counted], axis=1)

    kept = np.ones(len(frame), bool)
    rules = [
        ("the item has a snapshot one period before", same & (step == 1)),
        ("no counter fell", (grown >= 0).all(axis=1)),
    ]
    every = [rates.Columns(flags.denominator, flags.numerator), *rates.further(flags).values()]
    for below, above in () if flags.rate_may_exceed_one else every:
        rules.append((f"no more {above} than {below}", grown[above] <= grown[below]))
    for rule, holds in rules:
        left = kept & holds.to_numpy()
        ledger.append(Rule("snapshots", rule, int(kept.sum()), int(left.sum())))
        kept = left
    labels = {number: calendar.label(number) for number in np.unique(numbers)}
    differences = pa.table(
        {
            flags.item_column: pa.array(frame["item"][kept], pa.string()),
            flags.period_column: pa.array(frame["number"][kept].map(labels)),
            **{name: pa.array(grown[name][kept], pa.int64()) for name in counted},
        }
    )
    catalogue = tables.read(
        str(directory / items),
        "items",
        columns=[flags.item_column],
        said=text_options(flags.text_set, "items"),
    )
    return Tables(
        counts=Table(differences, "counts"),
        items=catalogue,
        inputs=taken.paths + catalogue.paths,
        ledger=tuple(ledger),
    )
