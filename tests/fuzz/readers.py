"""Unusual files through every reader: a table, or one clear sentence."""

import contextlib
import os
import random
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa

from mmnet.checks import InputError
from mmnet.config import TableFlags, TaskFlags
from mmnet.data import columns, events, parquet, table_paths, tables
from mmnet.data.dialects import TextOptions
from mmnet.data.sources.reading import Scan
from tests.fuzz.files import unusual_files
from tests.fuzz.outcomes import Outcome, check_sentence


def read_whole(pattern, said):
    table = tables.read(pattern, "items", columns=["item_id"], said=said)
    for name in table.names:
        with contextlib.suppress(InputError):
            columns.strings(table, name, "texts")
        columns.values_of(table, name, "taxonomies")


def read_pieces(pattern, said):
    table = parquet.open_table(pattern, "items", said=said)
    for piece in table.pieces(2, {"item_id": "item_column"}):
        columns.floats(piece, "item_id", "numerics")


def read_scan(pattern, said):
    del said
    for table in Scan(table_paths.find(pattern, "log"), ["item_id", "clicks"], "log"):
        table.need("clicks", "log")


def read_scan_of_numbers(pattern, said):
    del said
    names, kinds = ("item_id", "n", "clicks"), {"clicks": pa.int64()}
    log = Scan(table_paths.find(pattern, "log"), ["clicks"], "log", names, types=kinds)
    log.whole()


def read_events(pattern, said):
    flags = TableFlags(
        events=pattern, denominator="events", numerator="clicks", engine_threads=1,
        text_set=[f"{name}={value}" for name, value in vars(said).items() if value],
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        events.count(flags, TaskFlags(), np.array(["a", "7"], object), Path(place, "c.parquet"))


READERS = [read_whole, read_pieces, read_scan, read_scan_of_numbers, read_events]
SAID = [TextOptions()] * 4 + [
    TextOptions(quote="none"),
    TextOptions(quote="doubled"),
    TextOptions(quote="backslash", encoding="latin-1"),
    TextOptions(separator=";", encoding="utf-7"),
]

QUICK = READERS[:-1]
"""Without an engine, which takes its time."""


def check(seed, place, ready=None, readers=READERS):
    """Reads one unusual place in every way."""
    del ready
    draws, well, refused = random.Random(seed), 0, 0
    before = os.getcwd()
    place.mkdir()
    os.chdir(place)
    try:
        pattern, said = unusual_files(draws, Path("in")), draws.choice(SAID)
        for read in readers:
            try:
                read(pattern, said)
                well += 1
            except InputError as error:
                check_sentence(str(error))
                refused += 1
            except BaseException as error:
                error.add_note(f"{read.__name__}({pattern!r}, {said})")
                raise
    finally:
        os.chdir(before)
        shutil.rmtree(place)
    return Outcome(well, refused)
