"""The first pass over a catalogue: data shared by all blocks, written to a directory.

These are the counts of the window, the sums behind the taxonomies' means, and vectors in separate
tables, aligned with the items.
"""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmnet.checks import InputError
from mmnet.data import counts, items, lifetimes, moments, numbers, tables, taxonomies
from mmnet.data.arrays import new_array
from mmnet.data.counts import Counted, Counts, Panel
from mmnet.data.dataset import Fitted
from mmnet.data.item_tensors import given_vectors
from mmnet.data.ledger import Rule
from mmnet.data.parquet import ParquetTable
from mmnet.data.tables import Tables
from mmnet.files import read_json
from mmnet.serving.items_pass import ItemsPass
from mmnet.serving.known_values import Seen

ABOUT, SEAL = "survey.json", "checksums.json"


def as_of_column(panel: Panel | Counted, as_of: str, flag: str = "as_of") -> int:
    """Returns the panel's column of `--as_of` or another flag; the last one if it is empty.

    Raises:
        InputError: the period is outside the counts.
    """
    if not as_of:
        return panel.num_periods - 1
    column = panel.calendar.number(as_of, flag) - panel.first_period
    if not 0 <= column < panel.num_periods:
        raise InputError(
            f"--{flag}={as_of} is outside the counts, which run from {panel.label(0)} to "
            f"{panel.label(panel.num_periods - 1)}"
        )
    return column


def survey(
    found: Tables,
    fitted: Fitted,
    as_of: str,
    directory: Path,
    *,
    allow_short: bool = False,
    threads: int = 1,
) -> list[Rule]:
    """Reads all counts, and writes the data that all blocks need.

    Args:
        found: the tables.
        fitted: values that the model was fitted with.
        as_of: the last as-of period.
        directory: directory to write into.
        allow_short: see `moments.origins`.
        threads: number of threads; the files are the same for any number.

    Returns:
        The ledger of the counts.

    Raises:
        InputError: the tables break a rule of the input format.
    """
    flags, window = fitted.tables, fitted.spec.window
    borders = [
        part.start
        for block in found.items.blocks(flags.shard_items)
        for part in tables.runs(block.rows, flags.shard_items)
    ]
    counted = counts.count(
        found.counts,
        found.items,
        flags,
        fitted.task,
        calendar=fitted.calendar,
        borders=[*borders, len(found.items)],
        threads=threads,
    )
    last = as_of_column(counted, as_of)
    shape = (len(counted.ids), window)
    rates = {
        rate: Counts(*(new_array(directory, name, shape, "int64") for name in names_of(rate)))
        for rate in ("", *(one.name for one in fitted.spec.rates))
    }
    earlier, first = None, None
    if spec := fitted.spec.lifetime:
        items_only = (len(counted.ids),)
        earlier = Counts(*(new_array(directory, name, items_only, "int64") for name in BEFORE))
        how = {"allow_short": allow_short}
        first = lifetimes.first_column(spec, counted.first_period, fitted.calendar, **how)
    passing = ItemsPass(found.items, fitted, counted, last, rates, directory, earlier, first)
    fitted_taxonomies, values = passing.run(threads)
    for rate, of_rate in fitted_taxonomies.items():
        taxonomies.save(of_rate, directory, rate)
    first_period = counted.first_period + last + 1 - window
    release = counted.release - (last + 1 - window)
    np.save(directory / "release.npy", release, allow_pickle=False)
    np.save(directory / "release_given.npy", counted.release_given, allow_pickle=False)
    panel = Panel(
        item_ids=np.arange(len(release)),  # means only need row numbers, not ids
        **rates[""]._asdict(),
        release=release,
        calendar=fitted.calendar,
        first_period=first_period,
        release_given=counted.release_given,
        rates={rate: arrays for rate, arrays in rates.items() if rate},
    )
    start = counted.first_period
    origins = moments.origins(panel, fitted.spec, start=start, allow_short=allow_short)
    np.save(directory / "origins.npy", origins, allow_pickle=False)

    of_vectors: list[Rule] = []
    for vector in fitted.spec.vectors:
        if vector.of == "given" and not beside(found, vector.name):
            shape = (len(counted.ids), vector.dim)
            out = new_array(directory, vector.tensor, shape, "float32")
            table = given_vectors(found, vector.name)
            items.encode_vectors(table, vector, counted.ids, flags, out, of_vectors)
    write_about(directory, first_period, values)
    marks = numbers.of_numerics(found.items, flags, fitted.marks)
    return [*counted.ledger, *of_vectors, *numbers.reported(found.items, marks)]


BEFORE = ("clicks-before", "shares-before")
"""Names of the files with each item's counts before the window."""


def names_of(rate: str) -> tuple[str, str]:
    """Returns the names of the files with the counts of a rate.

    >>> names_of(""), names_of("like")
    (('clicks', 'shares'), ('clicks-like', 'shares-like'))
    """
    ending = f"-{rate}" if rate else ""
    return f"clicks{ending}", f"shares{ending}"


def write_about(directory: Path, first_period: int, values: Sequence[Seen]) -> None:
    """Writes the file that `about` reads.

    Args:
        directory: directory of the survey.
        first_period: the calendar number of the window's first period.
        values: values of the items' fields, and how many of them are unknown.
    """
    known = [dataclasses.asdict(one) for one in values]
    text = json.dumps({"first_period": first_period, "values": known}) + "\n"
    (directory / ABOUT).write_text(text, encoding="utf-8")


def about(directory: Path) -> dict[str, Any]:
    """Reads the facts about a first pass: the first period, and the runtime once chosen.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        found = read_json(directory / ABOUT)
        if isinstance(found, dict) and isinstance(found["first_period"], int):
            return found
    except (OSError, ValueError, KeyError):
        pass
    raise InputError(f"{directory / ABOUT} is missing or damaged; delete {directory}")


def seal(directory: Path) -> None:
    """Writes a checksum of every array of a survey, for `is_intact`."""
    sums = {path.name: checksum(path) for path in directory.iterdir() if path.name != ABOUT}
    (directory / SEAL).write_text(json.dumps(sums) + "\n", encoding="utf-8")


def is_intact(directory: Path) -> bool:
    """Checks whether a survey of an earlier session is unchanged."""
    try:
        about(directory)
        sums = read_json(directory / SEAL)
        return sums == {
            path.name: checksum(path)
            for path in directory.iterdir()
            if path.name not in (ABOUT, SEAL)
        }
    except (OSError, ValueError):  # InputError is one too
        return False


def checksum(path: Path) -> int:
    """Returns the CRC-32 of a file: three times as fast as SHA-256, and enough for accidents."""
    found = 0
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            found = zlib.crc32(part, found)
    return found


def values(directory: Path) -> list[Seen]:
    """Reads how many values of the items' fields are unknown, from a survey."""
    return [Seen(**one) for one in about(directory).get("values", [])]


def first_period(directory: Path) -> int:
    """Reads the calendar number of the window's first period, from a survey."""
    return about(directory)["first_period"]


def period_of(fitted: Fitted, directory: Path) -> int | str:
    """Returns the period that a survey's scores are for, as users write it; several in one text."""
    spec, last = fitted.spec, first_period(directory) + fitted.spec.window - 1
    found = [fitted.calendar.label(last + horizon) for horizon in (spec.horizon, *spec.horizons)]
    return found[0] if len(found) == 1 else ", ".join(map(str, found))


def beside(found: Tables, name: str) -> bool:
    """Checks whether vectors are a column of the items table itself."""
    table = given_vectors(found, name)
    return (
        isinstance(table, ParquetTable)
        and isinstance(found.items, ParquetTable)
        and table.paths == found.items.paths  # files also have the name of their table
    )
