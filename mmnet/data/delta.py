"""Delta tables: the files that are part of the newest version, and their partition columns.

The package deltalake, of the extra `lakehouse`, reads the log; rows are read as from any other
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
"""Table features that do not change the meaning of the Parquet files."""


def files(directory: Path, name: str) -> dict[Path, dict[str, str]]:
    """Returns the files of a Delta table's newest version, each with its partition columns as text.

    Args:
        directory: directory of the table.
        name: name of the table, for messages.

    Raises:
        InputError: the package is not installed, the log cannot be read, or the table has a feature
            that its Parquet files alone do not reflect, such as deletion vectors.
    """
    if importlib.util.find_spec("deltalake") is None:
        raise InputError(
            f"{directory} is a Delta table, whose log lists its current files; reading the log "
            f"needs the package deltalake: pip install 'mmnet[lakehouse]' (--{name})"
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
            f"{directory} is a Delta table, whose log lists its current files, but the log cannot "
            f"be read: {shown(error)} (--{name})"
        ) from None
    if mapping != "none":
        features.add("columnMapping")
    if features - _HARMLESS:
        raise InputError(
            f"{directory} is a Delta table with {', '.join(sorted(features - _HARMLESS))}, which "
            f"is not supported; rewrite it without, or export it as Parquet (--{name})"
        )
    found = {}
    for row in actions.to_pylist():
        path = directory / urllib.parse.unquote(row["path"])
        if not path.is_file():
            raise InputError(
                f"{directory} is a Delta table whose log lists a file that does not exist: "
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
