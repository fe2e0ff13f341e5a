"""Disturbs a working directory or a command line in one place, as users and disks do."""

import csv
import io
import os
import shutil
import typing
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq

from tests.fuzz.assets import disturbed as disturbed_json
from tests.fuzz.files import ENCODINGS, damaged, packed
from tests.fuzz.tables import disturb_cells, odd_column
from tests.table_writers import minimal, whole

# --------------------------------------------------------------------------------- files


def disturb_file(path, draws):
    """Changes one file, or puts something else in its place.

    Returns:
        What was done, for the report.
    """
    kinds = ["bytes", "bytes", "packed", "place", "place"]
    own = {".csv": "table", ".parquet": "columns", ".json": "document", ".txt": "lines"}
    kinds += 4 * ([own[path.suffix]] if path.suffix in own else [])
    kind = draws.choice(kinds)
    if kind == "place":
        return _other_place(path, draws)
    content = path.read_bytes()
    try:
        changed = CHANGES[kind](content, draws)
    except (ValueError, IndexError, pa.ArrowException):  # an empty file, or disturbed before
        kind, changed = "emptied", b""
    path.write_bytes(changed)
    return kind


def _bytes(content, draws):
    if not content or draws.random() < 0.2:
        return b""
    changed = content
    while changed == content:
        changed = damaged(content, draws)
    return changed


def _table(content, draws):
    rows = list(csv.reader(io.StringIO(content.decode(), newline=None)))
    for _ in range(draws.choice([0, 1, 1, 2])):
        disturb_cells(rows, draws)
    width = range(len(rows[0]))
    if draws.random() < 0.2:
        gone = draws.choice(width)
        rows = [[cell for place, cell in enumerate(row) if place != gone] for row in rows]
    elif draws.random() < 0.2:
        rows = [
            [*row, cell] for row, cell in zip(rows, ["new", *rows[0] * len(rows)], strict=False)
        ]
    separator = draws.choice([*"," * 5, *";\t| :"])
    write = draws.choice([minimal, minimal, whole])
    lines = (separator.join(write(cell, separator) for cell in row) for row in rows)
    text = draws.choice(["\n", "\n", "\r\n", "\r"]).join(lines)
    return text.encode(draws.choice([*["utf-8"] * 6, *ENCODINGS]), "replace")


def _columns(content, draws):
    table = pq.read_table(io.BytesIO(content))
    place = draws.randrange(table.num_columns)
    name = table.column_names[place]
    kind = draws.choice(["odd", "odd", "gone", "name", "rows", "twice", "null"])
    if kind == "odd":
        table = table.set_column(place, name, odd_column(draws, len(table)))
    elif kind == "gone":
        table = table.remove_column(place)
    elif kind == "name":
        names = list(table.column_names)
        names[place] = draws.choice([*names, "", "猫", "n\nl", name.upper()])
        table = table.rename_columns(names)
    elif kind == "rows":
        table = table.slice(draws.randrange(len(table)), draws.choice([0, 1, 10]))
    elif kind == "twice":
        table = pa.concat_tables([table, table])
    else:
        table = table.set_column(place, name, pa.nulls(len(table), table.column(place).type))
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


def _document(content, draws):
    return disturbed_json(content.decode(), draws).encode()


def _lines(content, draws):
    lines = content.decode().splitlines()
    place = draws.randrange(len(lines))
    name = lines[place].partition("=")[0]
    lines[place] = draws.choice(
        ["", f"{name}={draws.choice(ODD)}", f"{name}={draws.choice(ODD)}", lines[place] * 2]
    )
    return "\n".join(lines).encode(errors="surrogateescape")


CHANGES = {
    "bytes": _bytes,
    "packed": packed,
    "table": _table,
    "columns": _columns,
    "document": _document,
    "lines": _lines,
}


def _other_place(path, draws):
    """Something that is not the file that was there."""
    kinds = ["gone", "directory", "loop", "dangling", "closed", "null", "sideways", "renamed"]
    kind = draws.choice(kinds)
    if kind == "closed":
        path.chmod(0)
        return kind
    aside = path.with_name(f"{path.name}.aside")
    path.rename(aside)
    if kind == "directory":
        path.mkdir()
    elif kind == "sideways":  # a link to the file is as good
        path.symlink_to(aside.name)
    elif kind in ("loop", "dangling", "null"):
        path.symlink_to({"loop": path.name, "dangling": "nowhere", "null": "/dev/null"}[kind])
    if kind not in ("sideways", "renamed"):
        aside.unlink()
    return kind


def disturb_directory(path, draws):
    """Changes a directory itself."""
    kind = draws.choice(["gone", "file", "loop", "closed", "empty", "more"])
    if kind == "closed":
        path.chmod(0)
    elif kind == "more":
        name = draws.choice([".hidden", "more.csv", "1", "_SUCCESS", "猫\n", "9" * 30])
        place = path / name
        make = place.mkdir if draws.random() < 0.5 else partial(place.write_bytes, b"a,b\n1,2\n")
        if not place.exists():  # an export has a version 1
            make()
    else:
        shutil.rmtree(path)
        if kind == "file":
            path.write_text("a file\n")
        elif kind == "loop":
            path.symlink_to(path.name)
        elif kind == "empty":
            path.mkdir()
    return kind


# --------------------------------------------------------------------------------- flags

ODD = [
    *("", " ", "-1", "0", "1", "2", "0.5", "1.5", "1e400", "nan", "inf", "-inf", "1_0", "１２"),
    *("9" * 30, str(2**31), str(2**63), "x", "猫", "a\nb", "\x1b[2J", "\udcff", "x" * 300, "true"),
    *(",", "a,b", "a,a", "1,1", "8,1,1", "0,0,0", "nan,1,1", "=", "a=b", "none", ":", "a:b"),
    *("item_id", "category", "clicks", "shares", "title", "period", "events", "shared", "stored"),
    *("counts.csv", "items.csv", "events.csv", "run", "dataset", "pairs.csv", "source", "nowhere"),
    *("run/export", "items.csv/below", "*.csv", "[", "/dev/null", "./counts.csv", "2024-03-20"),
    *("1d", "7d", "1M", "0d", "Europe/Rome", "%Y", "snapshots", "ha", "cover:items.csv"),
]
LONG = {"epochs", "trials", "origins", "processes", "jobs", "engine_threads", "replicates"}
"""Flags whose large numbers only take long."""
SMALL = ["0", "1", "-1", "x", "", "1.5"]


def disturb_flags(flags, draws, config):
    """One flag that is gone, odd, new or given twice; returns the flags and what was done."""
    flags, kind = list(flags), draws.choice(["gone", "odd", "odd", "new", "new", "twice", "word"])
    if kind in ("gone", "odd", "twice") and flags:
        place = draws.randrange(len(flags))
        name = flags[place].lstrip("-").partition("=")[0]
        if kind == "gone":
            return [*flags[:place], *flags[place + 1 :]], f"--{name} gone"
    elif kind == "word":
        word = draws.choice(["word", "-", "--", "--=", "---x", "-h=", "--no", "--flagfile=nowhere"])
        return [*flags, word], f"more: {word}"
    else:
        name, place = draws.choice(sorted(config.model_fields)), len(flags)
    value = _value(name, draws, config)
    changed = f"--{name}={value}"
    if kind == "twice":
        place = len(flags)
    flags[place : place + 1] = [changed]
    return flags, f"{kind}: {changed!r}"


def _value(name, draws, config):
    if name in LONG:
        return draws.choice(SMALL)
    field = config.model_fields.get(name)
    choices = typing.get_args(field.annotation) if field else ()
    if typing.get_origin(field and field.annotation) is typing.Literal and draws.random() < 0.7:
        return draws.choice(choices)
    if field and field.annotation is bool and draws.random() < 0.7:
        return draws.choice(["true", "false"])
    return draws.choice(ODD)


# --------------------------------------------------------------------------------- outputs


def disturb_output(path, draws):
    """Puts something where the output is to go."""
    kind = draws.choice(["file", "directory", "full", "loop", "dangling", "closed", "below"])
    if path.exists() or path.is_symlink():
        return "was there"
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "file":
        path.write_text("another's\n")
    elif kind in ("directory", "full", "closed"):
        path.mkdir()
        if kind == "full":
            (path / "note.txt").write_text("another's\n")
        elif kind == "closed":
            path.chmod(0o500)
    elif kind in ("loop", "dangling"):
        path.symlink_to({"loop": path.name, "dangling": "nowhere/at/all"}[kind])
    return kind


def files_below(place, names):
    """Regular files of a working directory, without links, below the names."""
    found = []
    for name in names:
        for path in [place / name, *sorted((place / name).rglob("*"))]:
            if path.is_file() and not path.is_symlink() and os.access(path, os.R_OK):
                found.append(path)
    return found
