"""Rows of a publisher's log: the item that a user was shown, and a label for the response.

    userid feedid date_ device read_comment like ...       user item time device label
         7     12     1      2            1    1 ...  ->      7   12    1      2     1
         7     13     1      2            0    1 ...          7   13    1      2     0

Each source defines what counts as positive; see `sources`.

The log is read by an engine of `mmnet.data` in two passes: rows per user, then the rows of users
who have enough. Neither holds the whole log in memory. If the engine finds an error, a slow second
pass locates it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from mmnet.checks import InputError
from mmnet.config import TableFlags
from mmnet.data import engines, event_files
from mmnet.data.dialects import TextOptions, text_options
from mmnet.data.engines import Engine
from mmnet.data.ledger import Rule
from mmnet.data.sources import reading
from mmnet.data.sources.reading import Scan
from mmnet.data.table_files import TableFile
from mmnet.files import scratch_directory
from mmnet.mma4ctr.config import InteractionFlags
from mmnet.mma4ctr.data import sources
from mmnet.mma4ctr.data.sources.source import Label, Layout, Source

if TYPE_CHECKING:
    import ibis.expr.types as ir


@dataclass(frozen=True)
class Interactions:
    """Rows in the order of user, time, item, label, device; integers only.

    Attributes:
        user_id, item_id, time: int64 [rows].
        device: int64 [rows].
        label: int8 [rows], 0 or 1.
        daily: whether times are days, counted from 1, and not seconds.
    """

    user_id: np.ndarray
    item_id: np.ndarray
    time: np.ndarray
    device: np.ndarray
    label: np.ndarray
    daily: bool

    def __len__(self) -> int:
        return len(self.user_id)


def label_of(flags: InteractionFlags) -> str:
    """Return the label that `--label` names, or the source's default.

    Raises:
        InputError: there is no such source, or it has no such label.
    """
    known = sources.named(flags.source).labels
    if flags.label and flags.label not in known:
        raise InputError(
            f"--label={flags.label}: --source={flags.source} has {' and '.join(known)}"
        )
    return flags.label or next(iter(known))


def min_rows_of(flags: InteractionFlags) -> int:
    """Return the minimum number of rows of a user."""
    return sources.named(flags.source).min_rows if flags.min_rows < 0 else flags.min_rows


def read(flags: InteractionFlags) -> tuple[Interactions, list[Rule], list[Path]]:
    """Reads the log that the flags name.

    Returns:
        The rows, the ledger, and the files.

    Raises:
        InputError: a missing file or column, a value of the wrong kind, or no rows remain.
    """
    source = sources.named(flags.source)
    layout, label = source.layout, source.labels[label_of(flags)]
    directory = reading.needed(reading.given(flags.source_dir), flags.source)
    paths = reading.find(directory, layout.pattern, "log")
    needed = (layout.user, layout.item, layout.time, layout.device, *label.columns)
    said = text_options(flags.text_set, "events")
    files = [_opened(path, layout, needed, said) for path in paths]
    with scratch_directory(flags.engine_spill, "mma4ctr-") as scratch:
        engine_flags = TableFlags(
            engine=flags.engine,
            engine_memory=flags.engine_memory,
            engine_threads=flags.engine_threads,
            engine_spill=flags.engine_spill,
            memory=flags.memory,
        )
        with engines.connected(engine_flags, Path(scratch)) as engine:
            try:
                types = dict.fromkeys(needed, pa.int64())
                found = event_files.opened(files)
                copies, _ = event_files.written(found, needed, Path(scratch, "log"), types)
                log, _ = engines.read_parquet(engine, copies)
                return *_rows(engine, log, source, label, flags, paths), paths
            except InputError as error:
                for path in paths:
                    _look_again(path, layout, needed, label.columns, said)
                raise error from None


def _opened(path: Path, layout: Layout, needed: Sequence[str], said: TextOptions) -> TableFile:
    """A file of the log, once its first rows are known to be right."""
    scan = _scan(path, layout, needed, said)
    if not any(len(batch) for batch in itertools.islice(scan, 1)):
        raise InputError(f"{path} has no rows")
    return scan.opened(path)


def _scan(path: Path, layout: Layout, needed: Sequence[str], said: TextOptions) -> Scan:
    return Scan(
        [path],
        needed,
        "log",
        names=layout.names,
        delimiter=layout.delimiter,
        types=dict.fromkeys(needed, pa.int64()),
        name="log",
        said=said,
    )


def _look_again(
    path: Path, layout: Layout, needed: Sequence[str], judged: Sequence[str], said: TextOptions
) -> None:
    """Raise InputError with the place of the first value of the wrong kind."""
    for batch in _scan(path, layout, needed, said):
        for column in judged:
            reading.zero_or_one(batch, column, "log", allow_empty=True)


def _rows(
    engine: Engine,
    log: ir.Table,
    source: Source,
    label: Label,
    flags: InteractionFlags,
    paths: Sequence[Path],
) -> tuple[Interactions, list[Rule]]:
    layout, judged = source.layout, label.columns
    there = log[layout.user].notnull()
    for name in (layout.item, layout.time, layout.device, *judged):
        there = there & log[name].notnull()
    wrong = (log[judged[0]] < 0) | (log[judged[0]] > 1)
    for name in judged[1:]:
        wrong = wrong | (log[name] < 0) | (log[name] > 1)
    per_user = log.group_by(user=log[layout.user]).aggregate(
        rows=log.count(),
        complete=there.cast("int64").sum(),
        wrong=wrong.fill_null(False).cast("int64").sum(),
    )
    users = engine.run(per_user.to_pyarrow, "counting rows per user")
    total, complete = (int(users[name].to_numpy().sum()) for name in ("rows", "complete"))
    if int(users["wrong"].to_numpy().sum()):
        raise InputError(f"{paths[0]}: a label must be 0 or 1")
    rules = [Rule("log", "user, item, time, device and label are there", total, complete)]

    rows = log.filter(there).select(
        user_id=log[layout.user],
        item_id=log[layout.item],
        time=log[layout.time] if source.time is None else source.time(log[layout.time]),
        device=log[layout.device],
        label=label.positive(log).cast("int8"),
    )
    least = min_rows_of(flags) if source.counts_all_rows else 0
    kept = int(users["complete"].to_numpy()[users["rows"].to_numpy() >= least].sum())
    if least:
        many = per_user.filter(per_user["rows"] >= least).select("user")
        rows = rows.semi_join(many, rows["user_id"] == many["user"])
        note = f"{int((users['rows'].to_numpy() >= least).sum())} of {len(users)} users"
        rules.append(Rule("log", f"the user has {least} rows or more", complete, kept, note))
    if not kept:
        raise InputError(
            f"{paths[0]}: no rows remain after the rules of the ledger; lower --min_rows (now "
            f"{least})"
        )
    order = ["user_id", "time", "item_id", "label", "device"]
    found = engine.run(rows.order_by(order).to_pyarrow, "reading the log")
    columns = {name: found[name].to_numpy() for name in found.column_names}
    return Interactions(**columns, daily=source.daily), rules
