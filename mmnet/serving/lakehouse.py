"""Scores in a Delta table (extra `[lakehouse]`): one partition per predicted period.

The rows of a period are replaced in one commit of the table's log, so that a job may run again, and
readers find the old rows of the period or the new ones. Rows of other periods stay. A killed job
leaves files that no commit lists, which `VACUUM` removes.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone

import pyarrow as pa

from mmnet.checks import InputError, shown
from mmnet.data import delta
from mmnet.schema import FeatureSpec
from mmnet.serving.exported import HORIZON

PREFIX = "delta:"
"""Beginning of an `--output` that is a Delta table, new or not."""
_STYLE = re.compile(r"\x1b\[[0-9;]*m")
"""Terminal codes of colours, which the package's errors have."""
PERIOD = "period"
"""Column of the predicted period, by which the table is partitioned."""


def keys(spec: FeatureSpec) -> list[str]:
    """Returns the columns that a table of a model's scores is partitioned by.

    A model with several horizons predicts a period more than once, from ever later counts.

    >>> keys(FeatureSpec(window=6, horizon=1, horizons=(2,)))
    ['period', 'horizon']
    """
    return [PERIOD] if len(spec.outputs()) == 1 else [PERIOD, HORIZON]


def place_of(output: str) -> str:
    """Returns the path or URL of the Delta table that `--output` names; empty if it is none.

    A directory with a Delta log is a Delta table, as where tables are read.

    Raises:
        InputError: the prefix stands alone.

    >>> place_of("delta:warehouse/scores"), place_of("scores.parquet")
    ('warehouse/scores', '')
    """
    if output == PREFIX:
        raise InputError(f"--output={PREFIX} names no table; write --output={PREFIX}DIRECTORY")
    if output.startswith(PREFIX):
        return output.removeprefix(PREFIX)
    return output if os.path.isdir(os.path.join(output, delta.LOG)) else ""


def check(place: str, by: Sequence[str] = (PERIOD,)) -> None:
    """Refuses a table that scores cannot be written to, before anything is scored.

    Args:
        place: path or URL of the table.
        by: columns that it must be partitioned by, see `keys`.

    Raises:
        InputError: the extra is not installed, the place holds something else, or the table is not
            partitioned by these columns.
    """
    if importlib.util.find_spec("deltalake") is None:
        raise InputError(
            f"--output={shown(place)} is a Delta table, which needs the package deltalake: "
            "pip install 'mmnet[lakehouse]'"
        )
    import deltalake
    from deltalake.exceptions import DeltaError

    is_new = not os.path.exists(place) or (os.path.isdir(place) and not os.listdir(place))
    if not is_new and not os.path.isdir(os.path.join(place, delta.LOG)):
        raise InputError(
            f"--output={shown(place)} contains other files and no Delta table; choose another "
            "directory"
        )
    try:
        if not deltalake.DeltaTable.is_deltatable(place):
            return
        partitions = deltalake.DeltaTable(place).metadata().partition_columns
    except (DeltaError, OSError, ValueError) as error:
        raise _unusable(place, error) from None
    if partitions != list(by):
        raise InputError(
            f"--output={shown(place)} must be a Delta table that is partitioned by "
            f"{' and '.join(by)}, so that scores can replace those of their period; choose "
            "another directory. Received: "
            f"partitioned by {', '.join(partitions) or 'nothing'}"
        )


def write(tables: Iterable[pa.Table], place: str, version: str) -> None:
    """Replaces the rows of one period in a Delta table, which is created if needed.

    Args:
        tables: at least one, all with the same columns and rows of one period in all; with a column
            `horizon` of one period for each horizon, which every item has a row of.
        place: path or URL of the table.
        version: version of the export, for the column `model_version`.

    Raises:
        InputError: the table has other columns or cannot be written, or another process has written
            the same period at the same time.
    """
    import deltalake
    from deltalake.exceptions import CommitFailedError, DeltaError

    parts = iter(tables)
    held = [next(parts)]
    while not len(held[-1]) and (part := next(parts, None)) is not None:
        held.append(part)  # a block without any of the items to score
    first = held[-1]
    by = [name for name in (PERIOD, HORIZON) if name in first.column_names]
    now = datetime.now(timezone.utc)

    def batches() -> Iterator[pa.RecordBatch]:
        for part in itertools.chain(held, parts):
            yield from _described(part, version, now).to_batches()

    schema = _described(first.slice(0, 0), version, now).schema
    data = pa.RecordBatchReader.from_batches(schema, batches())
    try:
        if not deltalake.DeltaTable.is_deltatable(place):
            if "://" not in place:
                os.makedirs(place, exist_ok=True)
            deltalake.write_deltalake(place, data, partition_by=by)
            return
        table = deltalake.DeltaTable(place)
        _check_columns(table, schema, place)
        if len(first):
            groups = first.select(by).group_by(by).aggregate([]).to_pylist()
            same = " OR ".join(
                f"({' AND '.join(f'{name} = {_literal(one[name])}' for name in by)})"
                for one in groups
            )
            deltalake.write_deltalake(table, data, mode="overwrite", predicate=same)
    except CommitFailedError:
        raise InputError(
            f"--output={shown(place)}: another process has changed the same period of this Delta "
            "table; run the same command again"
        ) from None
    except (DeltaError, OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise _unusable(place, error) from None


def _described(scores: pa.Table, version: str, now: datetime) -> pa.Table:
    """Adds when and by which version of the model rows were scored."""
    rows = len(scores)
    versions = pa.array([version] * rows, pa.string())
    times = pa.array([now] * rows, pa.timestamp("us", tz="UTC"))
    return scores.append_column("model_version", versions).append_column("scored_at", times)


def _check_columns(table: object, schema: pa.Schema, place: str) -> None:
    there = {field.name for field in table.schema().fields}  # type: ignore[attr-defined]
    if missing := sorted(there - set(schema.names)):
        raise InputError(
            f"--output={shown(place)}: the Delta table has a column {missing[0]!r}, which these "
            "scores do not have; score with the flags of before, or choose another directory"
        )
    if new := sorted(set(schema.names) - there):
        raise InputError(
            f"--output={shown(place)}: the Delta table has no column {new[0]!r}, which these "
            "scores have; score with the flags of before, or choose another directory"
        )


def _literal(period: object) -> str:
    """Returns a period in SQL.

    >>> _literal(7), _literal(datetime(2026, 1, 2, 3))
    ('7', "'2026-01-02 03:00:00'")
    """
    return str(period) if isinstance(period, int) else f"'{period}'"


def _unusable(place: str, error: Exception) -> InputError:
    reason = shown(" ".join(_STYLE.sub("", str(error)).split()))
    return InputError(f"--output={shown(place)}: the Delta table cannot be used: {reason}")
