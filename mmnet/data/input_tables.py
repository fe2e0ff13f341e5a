"""Input tables by their flags, and the fingerprint of everything that a dataset depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

import mmnet
from mmnet import config
from mmnet.checks import InputError, did_you_mean, quoted, shown
from mmnet.config import TableFlags, TaskFlags
from mmnet.data import (
    counts,
    engines,
    items,
    kept_counts,
    moments,
    parquet,
    rates,
    sources,
    table_files,
    table_paths,
    table_reading,
    tables,
)
from mmnet.data.content import Encoders
from mmnet.data.dataset import FORMAT, Fitted
from mmnet.data.dialects import text_options
from mmnet.data.earlier import digest
from mmnet.data.ids import item_ids, without_repeats
from mmnet.data.ledger import Rule
from mmnet.data.tables import InMemory, Rows, Table, Tables
from mmnet.flags import as_before
from mmnet.hashing import sha256

PLACES = (
    *("counts", "events", "items", "source_dir"),
    *("text_handle", "text_preprocessor", "image_weights", "image_root", "encoder_cache"),
)
"""Table flags of file locations; fitted values do not depend on them."""


def table_flags(flags: config.TrainConfig | config.PrepareConfig) -> tuple[TableFlags, TaskFlags]:
    """Returns the table flags and the task flags of a driver."""
    given = flags.model_dump()
    return (
        TableFlags(**{name: given[name] for name in config.TABLES}),
        TaskFlags(**{name: given[name] for name in config.TASK}),
    )


def without_places(flags: TableFlags) -> TableFlags:
    """Returns the flags without those of file locations and of the engine."""
    places = (*PLACES, *config.ENGINE, "vectors")
    return flags.model_copy(update={name: TableFlags.model_fields[name].default for name in places})


def load_tables(
    flags: TableFlags,
    task: TaskFlags | None = None,
    directory: Path | None = None,
    *,
    grouped_by: Sequence[str] = (),
) -> InMemory:
    """Reads the tables of `--counts` or `--events`, `--items` and `--vectors`, or of `--source`.

    Args:
        flags: the flags that name the tables.
        task: its first period limits the events that are counted.
        directory: a dataset directory, which may have the counts of unchanged events.
        grouped_by: further columns of the items table, or vectors; see `groups`.

    Raises:
        InputError: tables are missing or contradictory, or cannot be read.
    """
    return open_tables(flags, task, directory, grouped_by=grouped_by).in_memory()


def open_tables(
    flags: TableFlags,
    task: TaskFlags | None = None,
    directory: Path | None = None,
    *,
    grouped_by: Sequence[str] = (),
) -> Tables:
    """Opens the same tables, with items in Parquet files to be read in chunks.

    Raises:
        InputError: as `load_tables`.
    """
    if task:
        moments.check_inputs(flags, task)
    if flags.source and (flags.counts or flags.events or flags.items):
        raise InputError("--source has its own tables; remove --counts and --items")
    if flags.counts and flags.events:
        raise InputError("--counts and --events cannot both be given; remove one of them")
    if flags.source:
        found = sources.load(flags)
        _leave_out(found.vectors, flags.leave_out_vectors)
        _check_rates_of_source(found.counts, flags)
        tables.need_columns(found.counts, counts.columns(flags))
        tables.need_columns(found.items, _items_columns(flags, grouped_by, found.vectors))
    elif flags.counts and flags.items:
        said = text_options(flags.text_set, "counts")
        tables.check_header(flags.counts, "counts", counts.columns(flags), said)
        _check_items(flags, grouped_by)
        rows = parquet.open_table(flags.counts, "counts", columns=counts.columns(flags), said=said)
        catalogue = _items(flags, grouped_by)
        found = Tables(
            rows,
            catalogue.rows,
            inputs=rows.paths + catalogue.paths,
            ledger=(*table_files.rules(flags.counts, rows.files), *catalogue.ledger),
        )
    elif flags.events and flags.items:
        _check_items(flags, grouped_by)
        engines.files_of(flags)  # raises errors about the events before the items are read
        found = _count_events(flags, _items(flags, grouped_by), task or TaskFlags(), directory)
    else:
        given = "events" if flags.events else "counts"
        missing = [f"--{name}" for name in (given, "items") if not getattr(flags, name)]
        raise InputError(f"{' and '.join(missing)} not given; name the tables, or set --source")
    _add_vectors(found, flags)
    return found


def open_catalogue(flags: TableFlags) -> Tables:
    """Opens items and vectors like `open_tables`, without counts.

    Raises:
        InputError: as `load_tables`.
    """
    if flags.source:
        return open_tables(flags)
    catalogue = _items(flags)
    found = Tables(Table(pa.table({}), "counts"), catalogue.rows, inputs=catalogue.paths)
    _add_vectors(found, flags)
    return found


def fingerprint(
    found: InMemory,
    flags: TableFlags,
    task: TaskFlags,
    encoders: Encoders,
    earlier: Fitted | None = None,
) -> tuple[str, dict[str, str]]:
    """Returns a hash of all that a dataset depends on, and the SHA-256 of each input file by name.

    Names are relative to the files' common directory, so that records do not depend on it. Images
    are represented by sizes and modification times, since there may be a million of them.
    """
    hashes = [sha256(path) for path in found.inputs]
    left_out = {*PLACES, *config.ENGINE, "vectors", *as_before(flags)}
    about = {
        "format": FORMAT,
        "rules": table_reading.RULES,
        "version": mmnet.__version__,
        "tables": flags.model_dump(mode="json", exclude=left_out),
        "vectors": [setting.partition(":")[0] for setting in flags.vectors],
        "task": task.model_dump(mode="json", exclude=as_before(task)),
        "inputs": [*found.digests.values(), *hashes],
        "encoders": encoders.fingerprints(),
        "images": encoders.files(found.items),
    }
    if earlier is not None:  # left out otherwise: fingerprints stay as they were before it
        about["earlier"] = digest(earlier)
    text = json.dumps(about, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest(), found.digests | dict(
        zip(table_paths.short_names(found.inputs), hashes, strict=True)
    )


def _check_rates_of_source(counted: Rows, flags: TableFlags) -> None:
    """Raises an error if the counts of a source do not have the columns of a further rate."""
    for name, columns in rates.further(flags).items():
        for column in columns:
            if column not in counted.names:
                keys = {flags.item_column, flags.period_column}
                there = ", ".join(shown(one) for one in counted.names if one not in keys)
                raise InputError(
                    f"--also_predict={name}: --source={flags.source} does not count "
                    f"{quoted(column)}, only {there}; use one of these in --rate, or count the "
                    "source's files yourself, for --counts"
                )


def _items_columns(
    flags: TableFlags, grouped_by: Sequence[str] = (), vectors: Collection[str] | None = None
) -> dict[str, str]:
    """Returns the columns of the items table that a dataset uses -> the flag that names each."""
    if vectors is None:
        vectors = [setting.partition(":")[0] for setting in flags.vectors]
    grouping = {name: "split_group" for name in grouped_by if name not in vectors}
    release = {flags.release: "release"} if flags.release else {}
    return grouping | items.columns(flags) | release


class _Catalogue(NamedTuple):
    """The items table, its files, and what was detected in it and dropped from it."""

    rows: Rows
    paths: tuple[Path, ...]
    ledger: tuple[Rule, ...] = ()


def _items(flags: TableFlags, grouped_by: Sequence[str] = ()) -> _Catalogue:
    said = text_options(flags.text_set, "items")
    wanted = _items_columns(flags, grouped_by)
    rows = parquet.open_table(flags.items, "items", columns=wanted, said=said)
    ledger = table_files.rules(flags.items, rows.files)
    kept = rows
    if flags.repeats != "fail":
        kept, rule = without_repeats(rows, flags)
        ledger.append(rule)
    return _Catalogue(kept, rows.paths, tuple(ledger))


def _check_items(flags: TableFlags, grouped_by: Sequence[str]) -> None:
    said = text_options(flags.text_set, "items")
    tables.check_header(flags.items, "items", _items_columns(flags, grouped_by), said)


def _add_vectors(found: Tables, flags: TableFlags) -> None:
    for setting in flags.vectors:
        name, sign, path = setting.partition(":")
        if not sign or not name:
            raise InputError(f"--vectors must be NAME:FILE. Received: {setting!r}")
        if name in found.vectors:
            raise InputError(f"--vectors names {name!r} twice; give one table per modality")
        said = text_options(flags.text_set, "vectors")
        found.vectors[name] = parquet.open_table(
            path, "vectors", columns=[flags.item_column], said=said
        )
        found.inputs += found.vectors[name].paths
        found.ledger += tuple(table_files.rules(path, found.vectors[name].files))


def _count_events(
    flags: TableFlags, catalogue: _Catalogue, task: TaskFlags, directory: Path | None
) -> Tables:
    ids = item_ids(catalogue.rows, flags)
    counted = kept_counts.load(flags, task, ids.part(slice(0, len(ids))), directory)
    return Tables(
        counted.table,
        catalogue.rows,
        inputs=catalogue.paths,
        ledger=(*catalogue.ledger, *counted.ledger),
        digests=counted.digests,
        kept=counted.kept,
        scratch=counted.scratch,
    )


def _leave_out(vectors: dict[str, Rows], names: Sequence[str]) -> None:
    for name in names:
        if name not in vectors:
            raise InputError(
                f"--leave_out_vectors={name}: no such vectors; the source has "
                f"{', '.join(vectors) or 'none'}{did_you_mean(name, vectors)}"
            )
        del vectors[name]
