"""Files of events, as an engine can read them: in place, or rewritten as Parquet.

Engines differ in how they read text, which file names are patterns, and whether column names are
case-sensitive. An engine therefore reads Parquet files in place if it cannot confuse their columns.
From all other files, the columns that are needed are read like those of any table
(`table_reading`) and written as Parquet to the engine's scratch directory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from mmnet.checks import InputError, quoted
from mmnet.config import TableFlags
from mmnet.data import dialects, engines, expressions, table_files, table_reading
from mmnet.data.engines import Engine, Events
from mmnet.data.table_files import TableFile

ROWS = 1 << 17
"""Number of rows in a row group to write, as in DuckDB."""


@dataclass(frozen=True)
class EventFiles:
    """Opened files of events.

    Attributes:
        files: the files in order.
        schemas: columns of each file; those of text files are text.
        schema: columns that all files have.
        lacking: other column -> a sentence that names the file without it.
        rows: number of rows by the footers of Parquet files; None if a file has another format.
    """

    files: tuple[TableFile, ...]
    schemas: tuple[pa.Schema, ...]
    schema: pa.Schema
    lacking: Mapping[str, str]
    rows: int | None = None

    @property
    def origin(self) -> str:
        """Name of the files in messages."""
        first = self.files[0].path
        return str(first) if len(self.files) == 1 else str(first.parent)

    def need(self, column: str, flag: str) -> None:
        """Raises an error if a column that a flag names does not exist.

        Args:
            column: name of the column.
            flag: flag that names it.

        Raises:
            InputError: the column does not exist, or not in all files.
        """
        if column in self.lacking:
            raise InputError(f"{self.lacking[column]} (named by --{flag})")
        table_files.need_column(self.origin, self.schema.names, column, flag)


def opened(files: Sequence[TableFile]) -> EventFiles:
    """Opens files and finds the columns that they share, without reading rows of Parquet files.

    Raises:
        InputError: a file cannot be read, or its text format is ambiguous.
    """
    files = [file.settled() for file in files]
    schemas, rows = [], 0
    for file in files:
        if file.is_parquet:
            schema, groups = table_reading.parquet_groups(file)
            rows += sum(groups)
        else:
            schema = pa.schema([pa.field(name, pa.string()) for name in file.names])
        schemas.append(schema)
    schema, lacking = table_reading.common_schema(files, schemas)
    known = all(file.is_parquet for file in files)
    return EventFiles(tuple(files), tuple(schemas), schema, lacking, rows if known else None)


def as_they_are(events: EventFiles, columns: Sequence[str]) -> bool:
    """Checks whether an engine can read the files in place without confusing columns.

    Args:
        events: the files.
        columns: names of the columns that are needed.
    """
    names = {name for file in events.files for name in file.own}
    return (
        all(file.is_parquet and not file.repeated for file in events.files)
        and all(set(columns) <= set(file.own) for file in events.files)
        and len({name.casefold() for name in names}) == len(names)
        and all(
            schema.field(name).type == events.schemas[0].field(name).type
            for schema in events.schemas
            for name in columns
        )
    )


def written(
    events: EventFiles,
    columns: Sequence[str],
    place: Path,
    types: Mapping[str, pa.DataType] | None = None,
) -> tuple[list[Path], int]:
    """Writes columns of the files as Parquet, one file for each.

    Args:
        events: the files.
        columns: names of the columns to write.
        place: output directory, created if needed.
        types: types of the columns of text files that have whole numbers only; others are text.

    Returns:
        The files, and their number of rows.

    Raises:
        InputError: a file cannot be read, there are no rows, or two columns differ only in case.
    """
    for column in columns:
        twin = next((o for o in columns if o != column and o.casefold() == column.casefold()), "")
        if twin:
            raise InputError(
                f"{events.origin}: columns {column!r} and {twin!r} differ only in upper and lower "
                "case, which engines cannot distinguish; rename one"
            )
    types = types or {}
    fields = [pa.field(name, types.get(name, events.schema.field(name).type)) for name in columns]
    schema = pa.schema(fields)
    place.mkdir(parents=True, exist_ok=True)
    paths, rows = [], 0
    for number, file in enumerate(events.files):
        path = place / f"part-{number:05}.parquet"
        with pa.parquet.ParquetWriter(path, schema, compression="lz4") as writer:
            for batch in table_reading.batches(file, columns, types=types):
                data = pa.Table.from_batches([batch]) if file.is_parquet else _filled(batch)
                data = table_reading.in_schema(data, schema, file)
                writer.write_table(data, row_group_size=ROWS)
                rows += len(data)
        paths.append(path)
    if not rows:
        raise table_files.no_rows(events.files[0].path, events.files[0].name)
    return paths, rows


def _filled(batch: pa.RecordBatch) -> pa.Table:
    """Returns rows of text, null where empty."""
    columns = {
        name: pc.if_else(pc.equal(values, ""), None, values)
        if pa.types.is_string(values.type)
        else values
        for name, values in zip(batch.schema.names, batch.columns, strict=True)
    }
    return pa.table(columns)


# ------------------------------------------------------------------------- for an engine


def events_of(engine: Engine, flags: TableFlags, place: Path) -> Events:
    """Opens the events table in the engine, with the columns that are needed.

    Args:
        engine: engine that counts.
        flags: the files of events, and what to count.
        place: directory for files that the engine does not read in place.

    Raises:
        InputError: the table or a column does not exist, or it cannot be read.
    """
    if engines.is_remote(flags.events):
        return engines.far_away(engine, flags.events)
    if not engines.files_of(flags):
        return engines.table_of(engine, flags.events)
    said = dialects.text_options(flags.text_set, "events")
    wanted = [flags.item_column, flags.time_column]
    files = table_files.opened(flags.events, "events", said, wanted)
    found = opened(files)
    try:
        columns = _columns(found, flags)
    except InputError:
        if not any(file.kind.format == "json" for file in files):
            raise
        # The first rows of a JSON file may lack some columns.
        found = opened([file.complete() for file in files])
        columns = _columns(found, flags)
    replaced = next((name for name in columns if "${" in name), "")
    if replaced and engine.session is not None:  # Hadoop replaces ${name} in what is to be read
        raise InputError(
            f"{found.origin}: column {quoted(replaced)}: Spark cannot read a column whose name "
            "contains ${; rename it, or count with --engine=duckdb://"
        )
    if as_they_are(found, columns):
        paths, rows = [file.path for file in found.files], found.rows
    else:
        paths, rows = written(found, columns, place)
    with engines.errors_explained(f"reading {found.origin}"):
        data, name = engines.read_parquet(engine, paths)
    rules = table_files.rules(flags.events, found.files)
    return Events(data.select(*columns), name, found.origin, rows, tuple(rules))


def _columns(found: EventFiles, flags: TableFlags) -> list[str]:
    """Returns the columns of events that are needed, in the order of the files.

    If events are sorted, all columns are needed as tie-breakers, so that the result is unique.

    Raises:
        InputError: one does not exist.
    """
    names = found.schema.names
    needed = {flags.item_column: "item_column", flags.time_column: "time_column"}
    if flags.max_delay and flags.ingestion_column:
        needed[flags.ingestion_column] = "ingestion_column"
    needed |= dict.fromkeys(flags.event_key, "event_key")
    if flags.max_events_per_user_item_period and flags.user_column:
        needed[flags.user_column] = "user_column"
    for column, flag in needed.items():
        found.need(column, flag)
    counted = set()
    for rate in expressions.rates(flags, [*names, *found.lacking], found.origin):
        for one in (rate.numerator, rate.denominator):
            counted |= set(one.columns)
            for column in one.columns:
                found.need(column, one.flag)
    if flags.event_key or flags.max_events_per_user_item_period:
        folded = [name.casefold() for name in names]
        counted |= {name for name in names if folded.count(name.casefold()) == 1}
    return [name for name in names if name in needed or name in counted]
