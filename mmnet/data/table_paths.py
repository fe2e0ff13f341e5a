"""The files of a table, found by the path or pattern of a flag."""

from __future__ import annotations

import glob as globbing
import itertools
import os
import urllib.parse
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from mmnet.checks import InputError, shown
from mmnet.data import delta

EMPTY_FOLDER = "__HIVE_DEFAULT_PARTITION__"
"""The text that Hive and Spark write for an empty value in the name of a folder."""

_ENDINGS = {
    *(".parquet", ".pq", ".csv", ".tsv", ".psv", ".tab"),
    *(".json", ".jsonl", ".ndjson", ".inter", ".item", ".user"),
}
_PACKED_ENDINGS = {".gz", ".bz2", ".zst", ".lz4", ".zip", ".snappy"}
_LOGS = {delta.LOG: "Delta", ".hoodie": "Hudi"}


class Found(NamedTuple):
    """The files of a table.

    Attributes:
        paths: paths of the files, sorted.
        skipped: other files and folders of a directory.
        folders: KEY=VALUE folders between the directory and each file.
    """

    paths: list[Path]
    skipped: list[Path]
    folders: dict[Path, dict[str, str]]


def find(pattern: str, name: str) -> list[Path]:
    """Returns the files that a table's flag names, sorted.

    Args:
        pattern: the file, directory or glob pattern.
        name: name of the table, for messages.

    Raises:
        InputError: as `found`.
    """
    return found(pattern, name).paths


def found(pattern: str, name: str) -> Found:
    """Finds the files that a table's flag names.

    A name that exists is used literally, whatever characters it has; any other name is a glob
    pattern. All files below a directory are data, except those whose names begin with a dot or an
    underscore, those with endings that no table has, and special files; for a glob pattern, such
    files are data only if the pattern matches them explicitly. Links to directories are followed.

    Args:
        pattern: the file, directory or glob pattern.
        name: name of the table, for messages.

    Raises:
        InputError: there are no files, a directory cannot be listed, or a directory is a table
            format with its own log.
    """
    path = Path(pattern)
    if os.path.isdir(path / delta.LOG):
        return _in_delta(path, name)
    if os.path.isdir(path):
        refuse_table_formats(path, name)
        return _in_directory(path, path, name)
    if os.path.isfile(path):
        return Found([path], [], {path: {}})
    matches = _matches(pattern)
    base = _fixed_part(pattern)
    asked = set(path.parts)
    left = {one for one in matches if _is_left(one.relative_to(base), asked)}
    matches = [one for one in matches if one not in left]
    for folder in sorted({one.parent for one in matches}):
        refuse_table_formats(folder, name)
    inside = [_in_directory(one, base, name) for one in matches if one.is_dir()]
    files = {one for one in matches if one.is_file()}.union(*(one.paths for one in inside))
    if not files:
        raise InputError(f"{shown(pattern)}: no such file, directory or glob pattern (--{name})")
    skipped = left.union(*(one.skipped for one in inside)) - files
    return Found(sorted(files), sorted(skipped), {file: _folders(base, file) for file in files})


def _matches(pattern: str) -> list[Path]:
    try:
        return [Path(one) for one in globbing.glob(pattern, recursive=True)]
    except (ValueError, RecursionError):  # a NUL character, or folders nested too deeply
        return []


def _fixed_part(pattern: str) -> Path:
    """Returns the folders of a glob pattern before the first one with a wildcard.

    >>> _fixed_part("logs/day=*/part-*.csv").as_posix()
    'logs'
    """
    folders = Path(pattern).parts[:-1]
    return Path(*itertools.takewhile(lambda part: not globbing.has_magic(part), folders))


def _is_left(path: Path, asked: Collection[str]) -> bool:
    """Checks by its path whether a program left a file behind, unless it was asked for."""
    return any(part[0] in "._" and part not in asked for part in path.parts)


def _in_delta(directory: Path, name: str) -> Found:
    files = delta.files(directory, name)
    if not files:
        raise InputError(f"{directory}: the newest version of this Delta table has no rows")
    old = (path for path in directory.rglob("*.parquet") if delta.LOG not in path.parts)
    return Found(sorted(files), sorted(set(old) - files.keys()), files)


def _in_directory(directory: Path, base: Path, name: str) -> Found:
    def not_listed(error: OSError) -> None:
        raise InputError(
            f"{error.filename}: the directory cannot be listed: {error.strerror} (--{name})"
        )

    files: list[Path] = []
    skipped: list[Path] = []
    seen = {str(one) for one in Path(os.path.realpath(directory)).parents}
    for place, folders, inside in os.walk(directory, onerror=not_listed, followlinks=True):
        if os.path.realpath(place) in seen:  # a link to what was read already, or a cycle
            folders.clear()
            skipped.append(Path(place))
            continue
        seen.add(os.path.realpath(place))
        refuse_table_formats(Path(place), name)
        skipped += [Path(place, one) for one in folders if one[0] in "._"]
        folders[:] = sorted(one for one in folders if one[0] not in "._")
        for one in sorted(inside):
            path = Path(place, one)
            is_data = one[0] not in "._" and ending(path) in {*_ENDINGS, ""}
            (files if is_data and not _is_special(path) else skipped).append(path)
    if not files:
        endings = sorted({path.suffix for path in skipped if path.suffix})
        listed = f"; it has files that end in {', '.join(endings[:5])}" if endings else ""
        raise InputError(f"{directory}: no file of a table in this directory{listed} (--{name})")
    return Found(sorted(files), sorted(skipped), {file: _folders(base, file) for file in files})


def _is_special(path: Path) -> bool:
    """Checks whether reading could block forever, as for a pipe; broken links fail later."""
    return path.exists() and not path.is_file()


def ending(path: Path) -> str:
    """Returns the ending of a file's name, in lower case and without a compression suffix.

    >>> ending(Path("COUNTS.CSV.gz")), ending(Path("part-00000"))
    ('.csv', '')
    """
    suffixes = [one.lower() for one in path.suffixes]
    while suffixes and suffixes[-1] in _PACKED_ENDINGS:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _folders(base: Path, file: Path) -> dict[str, str]:
    """Returns the columns defined by the folders between a base and a file, like day=2024-05-31."""
    parts = [part.partition("=") for part in file.relative_to(base).parent.parts]
    texts = {_text(key): _text(value) for key, sign, value in parts if sign and key}
    return {key: "" if value == EMPTY_FOLDER else value for key, value in texts.items()}


def _text(name: str) -> str:
    """Decodes part of a folder's name; bytes that are not UTF-8 are replaced."""
    return urllib.parse.unquote_to_bytes(os.fsencode(name)).decode("utf-8", "replace")


def refuse_table_formats(directory: Path, name: str) -> None:
    """Raises an error for a directory in a table format whose log lists its current files.

    Args:
        directory: the directory to read, or the one of a file to read.
        name: name of the table, for messages.

    Raises:
        InputError: it is a Delta, Hudi or Iceberg table.
    """
    if "=" in directory.name:
        refuse_table_formats(directory.parent, name)
    kind = next((kind for log, kind in _LOGS.items() if (directory / log).is_dir()), "")
    if (directory / "metadata").is_dir() and any((directory / "metadata").glob("*.metadata.json")):
        kind = "Iceberg"
    if kind:
        way_out = " here; name its own directory alone, or" if kind == "Delta" else ";"
        raise InputError(
            f"{directory} is a {kind} table, whose log lists its current files, which mmnet does "
            f"not read{way_out} export the table as plain Parquet (--{name})"
        )


def short_names(paths: Sequence[Path]) -> list[str]:
    """Returns the names of files relative to their common directory, for a record.

    >>> short_names([Path("/log/a/1.csv"), Path("/log/b/1.csv")])
    ['a/1.csv', 'b/1.csv']
    """
    paths = [path.resolve() for path in paths]
    common = os.path.commonpath([path.parent for path in paths]) if paths else ""
    return [str(path.relative_to(common)) for path in paths]
