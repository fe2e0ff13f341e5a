"""Delta tables: the files that the table's log says count, and the columns that only it has.

The package deltalake, of the extra `lakehouse`, reads the log; rows are read as of any other
Parquet file.
"""

from __future__ import annotations

import importlib.util
import urllib.parse
from pathlib import Path

import pyarrow as pa

from mmnet.checks import InputError, shown

LOG = "_delta_log"
_HARMLESS = {"timestampNtz", "v2Checkpoint", "vacuumProtocolCheck"}
"""Features of a table that leave its Parquet files what they say."""


def files(directory: Path, name: str) -> dict[Path, dict[str, str]]:
    """The files of a Delta table's newest version, each with its partition columns as text.

    Args:
        directory: of the table.
        name: of the table, for messages.

    Raises:
        InputError: the package is not installed, the log cannot be read, or the table has a feature
            that its Parquet files alone do not show, such as deletion vectors.
    """
    if importlib.util.find_spec("deltalake") is None:
        raise InputError(
            f"{directory} is a Delta table: its log decides which of its files count, and reading "
            f"it needs the package deltalake: pip install mmnet[lakehouse] (--{name})"
        )
    import deltalake
    from deltalake.exceptions import DeltaError

    try:
        table = deltalake.DeltaTable(str(directory))
        features = set(table.protocol().reader_features or ())
        mapping = table.metadata().configuration.get("delta.columnMapping.mode", "none")
        actions = pa.table(table.get_add_actions(flatten=True))
    except (DeltaError, OSError, ValueError) as error:
        raise InputError(
            f"{directory} is a Delta table: its log decides which of its files count, and cannot "
            f"be read: {shown(error)} (--{name})"
        ) from None
    if mapping != "none":
        features.add("columnMapping")
    if features - _HARMLESS:
        raise InputError(
            f"{directory} is a Delta table with {', '.join(sorted(features - _HARMLESS))}, which "
            f"is not read; write it again without, or export it as Parquet (--{name})"
        )
    found = {}
    for row in actions.to_pylist():
        path = directory / urllib.parse.unquote(row["path"])
        if not path.is_file():
            raise InputError(
                f"{directory} is a Delta table whose log names a file that is not there: "
                f"{shown(path)} (--{name})"
            )
        found[path] = {
            key.removeprefix("partition."): "" if value is None else _text(value)
            for key, value in row.items()
            if key.startswith("partition.")
        }
    return found


def _text(value: object) -> str:
    return pa.scalar(value).cast(pa.string()).as_py()
