"""Items' fields as they were first seen: how a column that is filled in later is caught.

Items columns must be known at release. One that is filled in later, such as a label that editors
set once an item is popular, makes a model truly better on past periods, and useless on new items.
So every night the values of items that were not seen before are kept, and models are compared on
items as they were first seen.

    update(directory, items, flags)  ->  FirstSeen: which values changed since, and `apply`

Kept are 8 bytes per item and column: the number itself of a numeric column, and a keyed hash of any
other value. Where only a hash is kept and the value has changed, the field reads as missing. A
column that appears later is missing for all items that were seen before it.

The directory has one Parquet file per night with new items, and `first_seen.json`, which names the
files that count and is written last: whenever a night is killed, the next one finds all items of
the nights before it. One column is in memory at a time, about 32 bytes per item that was ever seen.
"""

from __future__ import annotations

import dataclasses
import json
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from pydantic import BaseModel, ConfigDict, ValidationError

from mmnet import checks
from mmnet.checks import InputError, shown
from mmnet.config import TableFlags
from mmnet.data import items as item_columns
from mmnet.data import numbers
from mmnet.data.columns import floats, id_texts, separator_of, texts, values_of
from mmnet.data.dataset import Fitted
from mmnet.data.numbers import PLAIN
from mmnet.data.tables import Table
from mmnet.files import only_one, read_json, write_atomic
from mmnet.hashing import mix

FILE = "first_seen.json"
MOST_FILES = 64
"""More files than these are joined into one."""
TOLERATED = 0.001
"""Share of items whose value may differ from first sight: spelling is corrected in any catalogue,
and comparisons use the first value in any case."""
_ITEM = "item"
Kind = Literal["number", "hash"]


class _About(BaseModel):
    """`first_seen.json`.

    Attributes:
        salt: 16 characters, key of all hashes.
        files: names of the Parquet files that count, oldest first.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    salt: str
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Change:
    """Rows of one column whose value differs from first sight.

    Attributes:
        rows: bool [items].
        first: float64 [items], the first values; None where only hashes are kept.
    """

    rows: np.ndarray
    first: np.ndarray | None = None


@dataclass(frozen=True)
class FirstSeen:
    """Changes of an items table since its items were first seen.

    Attributes:
        new: number of items that were not seen before.
    """

    new: int
    _changes: Mapping[str, _Change]

    @property
    def changed(self) -> dict[str, float]:
        """Share of items whose value differs from first sight, by column with any."""
        shares = {name: float(one.rows.mean()) for name, one in self._changes.items()}
        return {name: share for name, share in shares.items() if share}

    def apply(self, items: Table, accepted: Iterable[str] = ()) -> Table:
        """Returns the items table with the values of first sight.

        Args:
            items: the table that `update` has read.
            accepted: columns to leave as they are.
        """
        data = items.data
        for name, change in self._changes.items():
            if name in set(accepted) or not change.rows.any():
                continue  # an unchanged column keeps its type, and so every bit that is read of it
            place = data.column_names.index(name)
            if change.first is None:
                column = pc.if_else(
                    pa.array(change.rows),
                    pa.scalar(None, data[name].type),
                    data[name].combine_chunks(),
                )
            else:
                column = pa.array(change.first, pa.float64(), from_pandas=True)
            data = data.set_column(place, name, column)
        return dataclasses.replace(items, data=data)


def update(directory: str | Path, items: Table, flags: TableFlags) -> FirstSeen:
    """Keeps the values of items that were not seen before, and compares all others.

    Calling it again with the same table changes nothing.

    Args:
        directory: where they are kept, created if needed.
        items: the items table.
        flags: flags that name its columns.

    Raises:
        InputError: the directory is damaged or in use, or a value of the table is invalid.
    """
    directory = Path(directory)
    with only_one(directory, f"another process is updating {directory}; wait until it has ended"):
        about = _read(directory)
        ids = _hashed(id_texts(items, flags.item_column, "item_column"), about.salt)
        known = _Known(directory, about)
        place = known.places(ids)
        new = np.flatnonzero(place < 0)
        new = new[np.unique(ids[new], return_index=True)[1]]  # of repeated rows the first counts
        kept: dict[str, np.ndarray] = {_ITEM: ids[new]}
        changes = {}
        for name, kind, values in _values(items, flags, about.salt):
            stored = f"{kind}:{name}"
            kept[stored] = values[new]
            first = known.column(stored)[place]
            seen = place >= 0
            differs = seen & (first != values)
            if kind == "number":
                differs &= ~(np.isnan(first) & np.isnan(values))
            was = np.where(seen, first, values) if kind == "number" else None
            changes[name] = _Change(differs, was)
        if len(new):
            about = _add(directory, about, kept)
        _clear(directory, about)
        return FirstSeen(len(new), changes)


def refusals(
    champion: Fitted, challenger: Fitted, changed: Mapping[str, float], accepted: Iterable[str]
) -> tuple[str, ...]:
    """Returns a sentence for each field that refuses a challenger.

    Args:
        champion: values that the model that serves was fitted with.
        challenger: those of the other model.
        changed: see `FirstSeen.changed`.
        accepted: fields to accept, `--accept_field`.

    Raises:
        InputError: the challenger does not read a field that is accepted.
    """
    before, now = fields_of(champion), fields_of(challenger)
    check_accepted(challenger, accepted := tuple(accepted))
    found = []
    for name in now:
        if name in accepted:
            continue
        advice = f"if it is known when an item is released, give --accept_field={shown(name)}"
        if changed.get(name, 0) > TOLERATED:
            found.append(
                f"field {shown(name)}: {changed[name]:.1%} of the items have another value than "
                f"when they were first seen, as a field that is filled in later has; {advice}"
            )
        elif name not in before:
            found.append(f"field {shown(name)}: the champion does not read it; {advice}")
    return tuple(found)


def check_accepted(challenger: Fitted, accepted: Iterable[str]) -> None:
    """Makes sure that a challenger reads the fields that are to be accepted.

    Raises:
        InputError: it does not read one of them.
    """
    known = fields_of(challenger)
    for name in accepted:
        if name not in known:
            raise InputError(
                f"--accept_field={name}: the challenger does not read such a field, only "
                f"{shown(', '.join(known) or 'none')}{checks.did_you_mean(name, known)}"
            )


def fields_of(fitted: Fitted) -> tuple[str, ...]:
    """Returns the columns of the items table and the vectors that a model reads."""
    tables = fitted.tables
    columns = [name for name, flag in item_columns.columns(tables).items() if flag != "item_column"]
    columns += [vector.name for vector in fitted.spec.vectors if vector.of == "given"]
    return tuple(dict.fromkeys(columns))


# ------------------------------------------------------------------------------------- values


def _values(items: Table, flags: TableFlags, salt: str) -> Iterator[tuple[str, Kind, np.ndarray]]:
    """Yields each column's name, kind and values: float64 or uint64 [items], NaN or 0 if empty."""
    marks = numbers.of_numerics(items, flags)
    for name, flag in item_columns.columns(flags).items():
        if flag == "item_column":
            continue
        if flag == "numerics":
            values = floats(items, name, flag, marks=marks.get(name, PLAIN))
            yield name, "number", values
        elif flag in ("taxonomies", "categoricals"):
            rows, values = values_of(items, name, flag, separator_of(flags))
            hashes = mix(_hashed_values(values, salt))
            found = np.zeros(len(items), np.uint64)
            np.add.at(found, rows, hashes)  # in any order, since tags may be sorted anew
            yield name, "hash", found
        else:
            text = texts(items, name, flag)
            found = _hashed(text, salt)
            found[pc.equal(text, "").to_numpy()] = 0
            yield name, "hash", found


def _hashed(values: pa.ChunkedArray, salt: str) -> np.ndarray:
    return _hashed_values(values.to_numpy().astype(object), salt)


def _hashed_values(values: np.ndarray, salt: str) -> np.ndarray:
    return pd.util.hash_array(np.asarray(values, object), hash_key=salt).astype(np.uint64)


# ------------------------------------------------------------------------------------ storage


def _read(directory: Path) -> _About:
    path = directory / FILE
    if not path.exists():
        return _About(salt=secrets.token_hex(8))
    try:
        return _About.model_validate(read_json(path))
    except (OSError, ValueError, ValidationError):
        raise InputError(
            f"{path} is damaged; delete {directory}, and tonight's values count as first seen"
        ) from None


class _Known:
    """The values of items that were seen before.

    Args:
        directory: where they are kept.
        about: its description.
    """

    def __init__(self, directory: Path, about: _About):
        self._files = [directory / name for name in about.files]
        self._ids = self._joined(_ITEM, np.uint64(0))
        self._order = np.argsort(self._ids, kind="stable")

    def places(self, ids: np.ndarray) -> np.ndarray:
        """Returns the place of each id among all that were seen, int64; -1 where it was not."""
        if not len(self._ids):
            return np.full(len(ids), -1)
        found = np.searchsorted(self._ids, ids, sorter=self._order)
        place = self._order[np.minimum(found, len(self._ids) - 1)]
        return np.where(self._ids[place] == ids, place, -1)

    def column(self, stored: str) -> np.ndarray:
        """Returns a column's values of all items that were seen, and one for "not seen"."""
        empty = np.float64(np.nan) if stored.startswith("number:") else np.uint64(0)
        return np.append(self._joined(stored, empty), empty)

    def _joined(self, stored: str, empty: np.generic) -> np.ndarray:
        parts = []
        for path in self._files:
            try:
                file = pa.parquet.ParquetFile(path)
                if stored in file.schema_arrow.names:
                    parts.append(file.read([stored])[stored].to_numpy())
                else:
                    parts.append(np.full(file.metadata.num_rows, empty))
            except (OSError, pa.ArrowInvalid):
                raise InputError(
                    f"{path} is missing or damaged; restore it, or delete {path.parent}, and "
                    "tonight's values count as first seen"
                ) from None
        return np.concatenate(parts) if parts else np.zeros(0, empty.dtype)


def _add(directory: Path, about: _About, kept: Mapping[str, np.ndarray]) -> _About:
    """Writes the values of new items, then the description that names their file."""
    number = 1 + max((int(Path(name).stem) for name in about.files), default=-1)
    files = [*about.files, _written(directory, number, [pa.table(dict(kept))])]
    if len(files) > MOST_FILES:
        merged = (pa.parquet.read_table(directory / name) for name in files)
        files = [_written(directory, number + 1, merged, _all_columns(directory, files))]
    about = about.model_copy(update={"files": tuple(files)})
    write_atomic(directory / FILE, json.dumps(about.model_dump(mode="json")) + "\n")
    return about


def _all_columns(directory: Path, files: Iterable[str]) -> pa.Schema:
    schemas = (pa.parquet.read_schema(directory / name) for name in files)
    return pa.unify_schemas([schema.remove_metadata() for schema in schemas])


def _written(
    directory: Path, number: int, parts: Iterable[pa.Table], schema: pa.Schema | None = None
) -> str:
    """Writes one file of values, and returns its name; a column that a part lacks is empty."""

    def complete(part: pa.Table) -> pa.Table:
        if schema is None:
            return part
        columns = {}
        for one in schema:
            empty = np.nan if pa.types.is_floating(one.type) else 0
            lacking = np.full(len(part), empty, one.type.to_pandas_dtype())
            columns[one.name] = part[one.name] if one.name in part.column_names else lacking
        return pa.table(columns, schema)

    def write(path: Path) -> None:
        rest = map(complete, parts)
        first = next(rest)
        with pa.parquet.ParquetWriter(path, first.schema) as writer:
            writer.write_table(first)
            for part in rest:
                writer.write_table(part)

    name = f"{number:07d}.parquet"
    write_atomic(directory / name, write)
    return name


def _clear(directory: Path, about: _About) -> None:
    """Removes files that no longer count, or that a killed night has left."""
    for path in directory.glob("[0-9]*.parquet"):
        if path.name not in about.files:
            path.unlink()
