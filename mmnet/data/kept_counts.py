"""Cache of counted events in a dataset directory, valid as long as the events do not change."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import mmnet
from mmnet.checks import InputError, quoted
from mmnet.config import ENGINE, TableFlags, TaskFlags
from mmnet.credentials import redacted
from mmnet.data import engines, events, parquet, rates, table_paths, table_reading
from mmnet.data.ledger import Rule
from mmnet.data.parquet import PIECE_ROWS
from mmnet.data.tables import Rows
from mmnet.files import read_json, scratch_directory, write_atomic, write_directory
from mmnet.flags import as_before
from mmnet.hashing import sha256
from mmnet.table_flags import EventFlags, TimeFlags

COUNTS_FILE, ABOUT_FILE = "counts.parquet", "counts.json"
"""The files of cached counts in a dataset directory."""

FORMAT = 1


@dataclass(frozen=True)
class KeptCounts:
    """Events that have been counted.

    Attributes:
        table: the counts table.
        ledger: what each rule dropped.
        digests: input -> SHA-256.
        kept: files to move into the dataset directory.
        scratch: temporary directory of these files; removed with this object.
    """

    table: Rows
    ledger: tuple[Rule, ...]
    digests: dict[str, str]
    kept: tuple[Path, ...]
    scratch: Any = None


def load(
    flags: TableFlags, task: TaskFlags, item_ids: np.ndarray, directory: Path | None = None
) -> KeptCounts:
    """Counts the events of `--events`, unless a dataset directory already has their counts.

    Args:
        flags: the files of events, and what to count.
        task: the first period.
        item_ids: ids of the items table.
        directory: the dataset directory, which may have the counts of the same events.

    Raises:
        InputError: the events do not match the flags.
    """
    files = engines.files_of(flags)
    names = [f"events/{name}" for name in table_paths.short_names(files)]
    digests = dict(zip(names, map(sha256, files), strict=True))
    key = _key(flags, task, item_ids, list(digests.values())) if files else ""
    if directory and key:
        with contextlib.suppress(InputError, OSError, ValueError, KeyError, TypeError):
            return _kept(directory, key, flags, digests)
    scratch = _scratch(flags, directory)
    place = Path(scratch.name)
    try:
        ledger = events.count(flags, task, item_ids, place / COUNTS_FILE, scratch=place / "spill")
        table = _read(place / COUNTS_FILE, flags)
    except BaseException:
        scratch.cleanup()  # now, since an empty run directory may be removed afterwards
        raise
    about = {"key": key, "ledger": [dataclasses.asdict(rule) for rule in ledger]}
    (place / ABOUT_FILE).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    if not files:  # tables of a warehouse and remote files cannot be hashed, so hash the counts
        digests = {f"events/{redacted(flags.events)}": _content_sha256(table)}
    kept = (place / COUNTS_FILE, place / ABOUT_FILE)
    return KeptCounts(table, tuple(ledger), digests, kept, scratch)


def keep(kept: Sequence[Path], directory: Path) -> None:
    """Saves counts in a dataset directory for later datasets, unless they are already there.

    Args:
        kept: the files of `KeptCounts.kept`; none if nothing was counted.
        directory: the dataset directory. Older counts in it are replaced.
    """
    if kept and kept[0].parent != directory:
        (directory / ABOUT_FILE).unlink(missing_ok=True)  # until both files are new
        for path in kept:
            place = directory / path.name
            shutil.rmtree(place, ignore_errors=True)  # a directory; a file is replaced below
            if path.is_dir():  # Spark writes a directory of files
                place.unlink(missing_ok=True)
                write_directory(place, functools.partial(shutil.copytree, path, dirs_exist_ok=True))
            else:
                write_atomic(place, functools.partial(shutil.copyfile, path))


def _key(flags: TableFlags, task: TaskFlags, item_ids: np.ndarray, hashes: list[str]) -> str:
    """Returns a hash of all that the counts depend on."""
    names = {*EventFlags.model_fields, "item_column", "period_column", "numerator", "denominator"}
    names |= {*TimeFlags.model_fields, "unknown_items", "rate_may_exceed_one"}
    names |= {"empty_counts", "text_set"}
    names -= {"events", *ENGINE, *as_before(flags)}
    about = {
        "format": FORMAT,
        "rules": table_reading.RULES,
        "version": mmnet.__version__,
        "flags": flags.model_dump(
            mode="json", include=names - {"events", *ENGINE, *as_before(flags)}
        ),
        "first_period": task.first_period,
        "items": hashlib.sha256("\n".join(item_ids).encode()).hexdigest(),
        "events": hashes,
    }
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _kept(directory: Path, key: str, flags: TableFlags, digests: dict[str, str]) -> KeptCounts:
    """Loads the counts of a dataset directory.

    Raises:
        InputError, OSError, ValueError, KeyError, TypeError: there are none for this key, or they
            are damaged.
    """
    about = read_json(directory / ABOUT_FILE)
    if about["key"] != key:
        raise ValueError("these counts belong to other events")
    ledger = tuple(Rule(**rule) for rule in about["ledger"])
    table = _read(directory / COUNTS_FILE, flags)
    return KeptCounts(table, ledger, digests, (directory / COUNTS_FILE, directory / ABOUT_FILE))


def _scratch(flags: TableFlags, directory: Path | None) -> tempfile.TemporaryDirectory[str]:
    """Creates a temporary directory on the same disk as the dataset."""
    place = flags.engine_spill
    if not place and directory:
        place = str(next(path for path in directory.resolve().parents if path.is_dir()))
    return scratch_directory(place, ".events-")


def _read(path: Path, flags: TableFlags) -> Rows:
    """Opens the counts table, with specific messages for problems that only sums reveal.

    It is read once completely, to detect damage.

    Raises:
        InputError: a numerator exceeds its denominator.
    """
    found = parquet.open_table(str(path), "counts")
    columns = [(flags.denominator, flags.numerator), *rates.further(flags).values()]
    for piece in found.pieces(PIECE_ROWS):
        for below, above in () if flags.rate_may_exceed_one else columns:
            wrong = pc.greater(piece.data[above], piece.data[below])
            if pc.any(wrong).as_py():
                row = piece.data.filter(wrong).slice(0, 1).to_pylist()[0]
                item = quoted(row[flags.item_column])
                raise InputError(
                    f"{flags.events}: item {item} has {row[above]:,} of {above!r} but "
                    f"{row[below]:,} of {below!r} in period {row[flags.period_column]}; if the "
                    "numerator is not a subset of the denominator, set --rate_may_exceed_one"
                )
    return found


def _content_sha256(table: Rows) -> str:
    """Returns a hash of a table's content, which does not depend on the file format."""
    data = table.read().data
    data = data.replace_schema_metadata(None).combine_chunks()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, data.schema) as stream:
        stream.write_table(data)
    return hashlib.sha256(sink.getvalue()).hexdigest()
