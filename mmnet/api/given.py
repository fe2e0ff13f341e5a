"""Conversion of a caller's tables, lists and dictionaries to the flags of a driver."""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from mmnet.checks import InputError, did_you_mean, printable
from mmnet.console import console
from mmnet.files import scratch_directory
from mmnet.flags import Flags, build
from mmnet.memory_limit import limited

if TYPE_CHECKING:
    import pandas as pd

GivenPeriod: TypeAlias = "str | int | datetime.date"
"""A period as the tables write it: text, a whole number, a date, or a time such as a Timestamp."""

GivenTable: TypeAlias = "str | os.PathLike[str] | pd.DataFrame | pa.Table"
"""A table: a file, directory or glob of CSV, JSON lines or Parquet, or one that is in memory."""

TABLES = ("counts", "events", "items", "only_items", "pairs", "item_scores")
"""Options that are tables."""

Config = TypeVar("Config", bound=Flags)


@contextlib.contextmanager
def flags_of(config: type[Config], options: Mapping[str, Any]) -> Iterator[Config]:
    """Convert a caller's options to flags.

    Tables in memory are written to a temporary directory while the context lasts, so that they
    are read, checked and refused exactly like files.

    Args:
        config: all flags of a driver.
        options: by the names of the flags. A list or a tuple is a flag of several values; of
            `set`, `source_set` and the like also a dictionary, and of `vectors` one of names and
            tables. None leaves a flag at its default.

    Raises:
        InputError: an unknown option, a value that does not fit, or a table that cannot be one.
    """
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if name not in config.model_fields:
            raise InputError(
                f"there is no option {name!r}{did_you_mean(name, config.model_fields)}"
            )
    with scratch_directory(given.get("engine_spill", "")) as scratch:
        values = {name: _value(config, name, value, Path(scratch)) for name, value in given.items()}
        found = build(config, config.beneath(values))
        found.check()
        with limited(getattr(found, "memory", "")):
            yield found


def in_memory(options: Mapping[str, Any]) -> bool:
    """Return whether one of the tables is in memory."""
    vectors = options.get("vectors")
    tables = [*(vectors.values() if isinstance(vectors, Mapping) else ())]
    tables += [options.get(name) for name in TABLES]
    return any(one is not None and not isinstance(one, str | os.PathLike) for one in tables)


@contextlib.contextmanager
def silent(verbose: bool) -> Iterator[None]:
    """Suppress the output of drivers unless `verbose`."""
    before = console.quiet
    console.quiet = before or not verbose
    try:
        yield
    finally:
        console.quiet = before


def _value(config: type[Flags], name: str, value: Any, scratch: Path) -> Any:
    metadata = config.model_fields[name].metadata
    if name in TABLES:
        return placed(value, name, scratch)
    if name == "vectors" and isinstance(value, Mapping):
        return tuple(f"{of}:{placed(one, of, scratch)}" for of, one in value.items())
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if config.model_fields[name].annotation is str:
        return _text(value)
    if "repeatable" in metadata or "comma-separated" in metadata:
        if isinstance(value, Mapping):
            return tuple(f"{key}={_written(one)}" for key, one in value.items())
        return (value,) if isinstance(value, str | int | float | np.integer) else tuple(value)
    return value


def _text(value: Any) -> Any:
    """Returns a period, as tables in memory have them, as a flag spells it.

    >>> _text(datetime.date(2024, 5, 31)), _text(20), _text(np.datetime64("2024-05-31"))
    ('2024-05-31', '20', '2024-05-31')
    """
    if isinstance(value, datetime.date):  # of which pandas' Timestamp is one
        return value.isoformat()
    is_number = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return str(value) if is_number or isinstance(value, np.datetime64) else value


def _written(value: Any) -> str:
    """A value as it stands behind an equals sign.

    >>> _written(True), _written(None), _written((8, 4)), _written("max")
    ('true', 'none', '8,4', 'max')
    """
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def placed(table: Any, name: str, directory: Path) -> str:
    """Returns where a table is; one that is in memory is written to `directory` first.

    Raises:
        InputError: it is not a table, or has values that Parquet cannot hold.
    """
    if isinstance(table, str | os.PathLike):
        return os.fspath(table)
    data = _arrow(table, name)
    path = directory / f"{name}.parquet"
    try:
        pa.parquet.write_table(data, path)
    except pa.ArrowException as error:
        raise InputError(f"{name} table: it has no form in Parquet: {_first(error)}") from None
    return str(path)


def write_csv(table: Any, path: Path) -> None:
    """Writes a table in memory as CSV, as publishers of logs do.

    Raises:
        InputError: it is not a table in memory, or has values that CSV cannot hold.
    """
    if isinstance(table, str | os.PathLike):
        raise InputError(
            f"{path.stem} must be a pandas DataFrame or an Arrow table; files are read by "
            "from_source, with source_dir"
        )
    try:
        pa.csv.write_csv(_arrow(table, path.stem), path)
    except pa.ArrowException as error:
        raise InputError(f"{path.stem} table cannot be written as CSV: {_first(error)}") from None


def _arrow(table: Any, name: str) -> pa.Table:
    if isinstance(table, pa.Table):
        return table
    import pandas as pd

    if not isinstance(table, pd.DataFrame):
        raise InputError(
            f"{name} must be a path, a pandas DataFrame or an Arrow table. "
            f"Received: {type(table).__name__}"
        )
    if any(level is not None for level in table.index.names):
        table = table.reset_index()  # an index with a name is a column
    if repeated := [str(one) for one in table.columns[table.columns.duplicated()]]:
        raise InputError(f"{name} table has two columns called {repeated[0]!r}; rename one")
    columns = {}
    for label in table.columns:
        column = table[label]
        if isinstance(column.dtype, pd.PeriodDtype):
            column = column.dt.start_time
        try:
            columns[str(label)] = pa.Array.from_pandas(column)
        except (pa.ArrowException, TypeError) as error:
            raise InputError(
                f"{name} table, column {str(label)!r}: its values have no type in common: "
                f"{_first(error)}"
            ) from None
    return pa.table(columns)


def _first(error: Exception) -> str:
    return printable(str(error).partition("\n")[0])
