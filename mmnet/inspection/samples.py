"""Some rows of a table in any format, which suffice to classify its columns."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from mmnet.checks import InputError
from mmnet.config import TableFlags
from mmnet.data import dialects, engines, table_files, table_reading
from mmnet.data.columns import id_texts
from mmnet.data.parquet import PIECE_ROWS
from mmnet.data.table_files import TableFile
from mmnet.data.tables import Rows, Table
from mmnet.files import scratch_directory

SAMPLE_ROWS = 200_000
"""Number of rows that decide the kind of a column."""

PLACES = 10
"""Number of positions in a table, or files of a log, that they come from: rows are often sorted."""


def sample(rows: Rows, most: int = SAMPLE_ROWS) -> Table:
    """Returns rows from several places of a table.

    >>> whole = Table(pa.table({"n": range(100)}), "counts")
    >>> sample(whole, most=20).data["n"].to_pylist()[:4]
    [0, 1, 10, 11]
    """
    try:
        return _sample(rows, rows.names, most)
    except InputError:  # invalid text in a column that may not be needed
        names = [one.name for one in rows.schema if not table_reading.is_bytes(one.type)]
        return _sample(rows, names, most)


def _sample(rows: Rows, names: Sequence[str], most: int) -> Table:
    each = max(most // PLACES, 1)
    blocks = rows.blocks(each)
    numbers = list(range(len(blocks)))
    if len(rows) > most:
        numbers = sorted({len(blocks) * place // PLACES for place in range(PLACES)})
        each = most // len(numbers)
    columns = dict.fromkeys(names, "counts")
    pieces: list[pa.Table] = []
    for number in numbers:
        found = rows.pieces(each, columns, [blocks[number]])
        some = found if len(rows) <= most else itertools.islice(found, 1)
        pieces += [piece.data.select(names) for piece in some]
    return Table(pa.concat_tables(pieces), rows.name, rows.files)


def sample_of_events(flags: TableFlags, most: int = SAMPLE_ROWS) -> Table:
    """Returns the first rows of some of the files of `--events`, or of a table of the engine.

    Raises:
        InputError: there are no such events, or they cannot be read.
    """
    if not engines.files_of(flags):
        return _of_engine(flags, most)
    said = dialects.text_options(flags.text_set, "events")
    files = [file.settled() for file in table_files.opened(flags.events, "events", said)]
    places = min(len(files), PLACES)
    chosen = [files[len(files) * place // places] for place in range(places)]
    names = [name for name in chosen[0].names if all(name in file.names for file in chosen)]
    parts = [_head(file, names, most // places) for file in chosen]
    data = pa.concat_tables(
        [part for part in parts if len(part)] or parts[:1], promote_options="permissive"
    )
    if not len(data):
        raise table_files.no_rows(files[0].path, "events")
    return Table(data, "events", tuple(files[:1]))


def _head(file: TableFile, names: Sequence[str], most: int) -> pa.Table:
    found, rows = [], 0
    for batch in table_reading.batches(file, names, rows=most):
        found.append(batch)
        rows += batch.num_rows
        if rows >= most:
            break
    return pa.Table.from_batches(found).slice(0, most) if found else pa.table({})


def _of_engine(flags: TableFlags, most: int) -> Table:
    with (
        scratch_directory(flags.engine_spill or None) as place,
        engines.connected(flags, Path(place)) as engine,
    ):
        far = engines.is_remote(flags.events)
        found = (
            engines.far_away(engine, flags.events)
            if far
            else engines.table_of(engine, flags.events)
        )
        data = engine.run(
            lambda: engine.backend.to_pyarrow(found.data.limit(most)), f"reading {found.origin}"
        )
    return Table(data, "events")


def of_items(rows: Rows, item: str, ids: Sequence[str], columns: Sequence[str]) -> pa.Table:
    """Returns all rows of some items, in the order of the table.

    Args:
        rows: table with a row per item and period.
        item: the column of ids.
        ids: ids of the items.
        columns: columns to read besides the ids.
    """
    wanted = pa.array(ids, pa.string())
    found = []
    for piece in rows.pieces(PIECE_ROWS, dict.fromkeys((item, *columns), "item_column")):
        chosen = pc.is_in(id_texts(piece, item, "item_column").cast(pa.string()), value_set=wanted)
        found.append(piece.data.select([item, *columns]).filter(chosen))
    return pa.concat_tables(found)


def some_ids(table: Table, item: str, most: int) -> list[str]:
    """Returns some ids of a table, spread over all of its rows.

    >>> some_ids(Table(pa.table({"i": ["a", "a", "b", "c"]}), "counts"), "i", 2)
    ['a', 'c']
    """
    ids = pc.unique(id_texts(table, item, "item_column")).to_pylist()
    return list(itertools.islice(ids, 0, None, max(-(-len(ids) // most), 1)))
