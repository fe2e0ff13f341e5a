"""Where the files of a table are, by the name that a flag gives."""

from __future__ import annotations

import glob as globbing
import os
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mmnet.checks import InputError, shown

EMPTY_FOLDER = "__HIVE_DEFAULT_PARTITION__"
"""What Hive and Spark write for an empty value in the name of a folder."""

_ENDINGS = {
    *(".parquet", ".pq", ".csv", ".tsv", ".psv", ".tab"),
    *(".json", ".jsonl", ".ndjson", ".inter", ".item", ".user"),
}
_PACKED_ENDINGS = {".gz", ".bz2", ".zst", ".lz4", ".zip", ".snappy"}
_LOGS = {"_delta_log": "Delta", ".hoodie": "Hudi"}


class Found(NamedTuple):
    """The files of a table.

    Attributes:
        paths: sorted.
        skipped: what a directory holds besides them.
        folders: KEY=VALUE folders on the way to each file, below the directory.
    """

    paths: list[Path]
    skipped: list[Path]
    folders: dict[Path, dict[str, str]]


def find(pattern: str, name: str) -> list[Path]:
    """Lists the files that a table's flag names, sorted; see `found`."""
    return found(pattern, name).paths


def found(pattern: str, name: str) -> Found:
    """Finds the files that a table's flag names.

    A name that is there is taken as it is, whatever it looks like; only another one is a glob.
    Of a directory, all that lies below is data, but what begins with a dot or an underscore, and
    what has an ending of no table.

    Raises:
        InputError: there are none, or the directory is a table with a log of its own.
    """
    path = Path(pattern)
    if path.is_dir():
        return _in_directory(path, name)
    paths = [path] if path.is_file() else sorted(map(Path, globbing.glob(pattern, recursive=True)))
    inside = [_in_directory(one, name) for one in paths if one.is_dir()]
    files = [one for one in paths if one.is_file()]
    if not files and not inside:
        raise InputError(
            f"{shown(pattern, quotes=False)}: no such file, directory or glob (--{name})"
        )
    return Found(
        sorted([*files, *(file for one in inside for file in one.paths)]),
        [file for one in inside for file in one.skipped],
        {file: keys for one in inside for file, keys in one.folders.items()},
    )


def _in_directory(directory: Path, name: str) -> Found:
    _refuse_table_formats(directory, name)
    files: list[Path] = []
    skipped: list[Path] = []
    for place, folders, inside in os.walk(directory):
        skipped += [Path(place, one) for one in folders if one[0] in "._"]
        folders[:] = sorted(one for one in folders if one[0] not in "._")
        for one in sorted(inside):
            is_data = one[0] not in "._" and ending(Path(one)) in {*_ENDINGS, ""}
            (files if is_data else skipped).append(Path(place, one))
    if not files:
        raise InputError(f"{directory}: no file of a table in this directory (--{name})")
    return Found(
        sorted(files), sorted(skipped), {file: _folders(directory, file) for file in files}
    )


def ending(path: Path) -> str:
    """The ending of a file's name, in small letters and without that of a packer.

    >>> ending(Path("COUNTS.CSV.gz")), ending(Path("part-00000"))
    ('.csv', '')
    """
    suffixes = [one.lower() for one in path.suffixes]
    while suffixes and suffixes[-1] in _PACKED_ENDINGS:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _folders(directory: Path, file: Path) -> dict[str, str]:
    """Columns that the folders of a file name: day=2024-05-31 is one."""
    parts = [part.partition("=") for part in file.relative_to(directory).parent.parts]
    values = {key: urllib.parse.unquote(value) for key, sign, value in parts if sign and key}
    return {key: "" if value == EMPTY_FOLDER else value for key, value in values.items()}


def _refuse_table_formats(directory: Path, name: str) -> None:
    kind = next((kind for log, kind in _LOGS.items() if (directory / log).is_dir()), "")
    if (directory / "metadata").is_dir() and any((directory / "metadata").glob("*.metadata.json")):
        kind = "Iceberg"
    if kind:
        raise InputError(
            f"{directory} is a {kind} table: its log says which of its files count, and is not "
            f"read; export the table as Parquet, or count it with --engine (--{name})"
        )


def short_names(paths: Sequence[Path]) -> list[str]:
    """Names of files below their common directory, for a record.

    >>> short_names([Path("/log/a/1.csv"), Path("/log/b/1.csv")])
    ['a/1.csv', 'b/1.csv']
    """
    paths = [path.resolve() for path in paths]
    common = os.path.commonpath([path.parent for path in paths]) if paths else ""
    return [str(path.relative_to(common)) for path in paths]
