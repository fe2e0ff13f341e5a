"""Files of events, as an engine can read them: where they are, or written again as Parquet.

Engines differ in how they read text, which names of files are patterns, and which names of columns
they distinguish. So an engine reads Parquet files whose columns it cannot mistake where they are.
Of all other files, the columns that are needed are read as those of every table are
(`table_reading`) and written as Parquet into the engine's scratch directory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from mmnet.checks import InputError
from mmnet.config import TableFlags
from mmnet.data import dialects, engines, expressions, table_files, table_reading
from mmnet.data.engines import Engine, Events
from mmnet.data.table_files import TableFile

ROWS = 1 << 17
"""Rows of a row group that is written, as DuckDB has them."""


@dataclass(frozen=True)
class EventFiles:
    """Files of events that were opened.

    Attributes:
        files: in order.
        schemas: columns of each; of text files, all are text.
        schema: columns that all of them have.
        lacking: other column -> a sentence that names the file without it.
        rows: of Parquet files, by their footers; None where one is of another format.
    """

    files: tuple[TableFile, ...]
    schemas: tuple[pa.Schema, ...]
    schema: pa.Schema
    lacking: Mapping[str, str]
    rows: int | None = None

    @property
    def origin(self) -> str:
        """Names them in a message."""
        first = self.files[0].path
        return str(first) if len(self.files) == 1 else str(first.parent)

    def need(self, column: str, flag: str) -> None:
        """Refuses files without a column that a flag names.

        Args:
            column: of all files.
            flag: which names it.

        Raises:
            InputError: it is not there, or not in all of them.
        """
        if column in self.lacking:
            raise InputError(f"{self.lacking[column]} (named by --{flag})")
        table_files.need_column(self.origin, self.schema.names, column, flag)


def opened(files: Sequence[TableFile]) -> EventFiles:
    """The columns that files have in common; of Parquet files, no row is read.

    Raises:
        InputError: a file cannot be read, or its text can be read in two ways.
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
    """Whether an engine can read the files where they are without mistaking a column.

    Args:
        events: the files.
        columns: those that are needed.
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
    """Writes some columns of the files as Parquet, one file for each.

    Args:
        events: the files.
        columns: those to write.
        place: a directory, made if need be.
        types: of columns of text files that hold whole numbers only; the others are text.

    Returns:
        The files, and how many rows they have.

    Raises:
        InputError: a file cannot be read, none has a row, or two columns differ in case only.
    """
    for column in columns:
        twin = next((o for o in columns if o != column and o.casefold() == column.casefold()), "")
        if twin:
            raise InputError(
                f"{events.origin}: columns {column!r} and {twin!r} differ in case only, which "
                "engines do not tell apart; rename one"
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
    """Rows of text, null where empty."""
    columns = {
        name: pc.if_else(pc.equal(values, ""), None, values)
        if pa.types.is_string(values.type)
        else values
        for name, values in zip(batch.schema.names, batch.columns, strict=True)
    }
    return pa.table(columns)


# ------------------------------------------------------------------------- for an engine


def events_of(engine: Engine, flags: TableFlags, place: Path) -> Events:
    """The events table as an expression of the engine, of the columns that are needed.

    Args:
        engine: who counts.
        flags: where events are, and what is counted of them.
        place: a directory for files that the engine does not read where they are.

    Raises:
        InputError: there is no such table, it cannot be read, or a column is not there.
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
        # The first rows of JSON need not have every column.
        found = opened([file.complete() for file in files])
        columns = _columns(found, flags)
    if as_they_are(found, columns):
        paths, rows = [file.path for file in found.files], found.rows
    else:
        paths, rows = written(found, columns, place)
    with engines.errors_explained(f"reading {found.origin}"):
        data, name = engines.read_parquet(engine, paths)
    rules = table_files.rules(flags.events, found.files)
    return Events(data.select(*columns), name, found.origin, rows, tuple(rules))


def _columns(found: EventFiles, flags: TableFlags) -> list[str]:
    """The columns of events that are needed, in the order of the files.

    Where events are put in an order, that is all of them: the order of equal ones may not decide.

    Raises:
        InputError: one is not there.
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
