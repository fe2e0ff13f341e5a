"""One table, written in every way that is read without a flag, and in some that need one.

A table is a dict of columns: texts, integers, floats, booleans and lists of texts, None where
empty. A writer gets it and the path of a new directory, and returns what a flag would name.
"""

import bz2
import gzip
import json
import re
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq

LISTS = ";"
"""Separates the values of a list in a text file."""


def cell(value):
    """A value as text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return LISTS.join(value) if isinstance(value, list) else str(value)


def minimal(text, separator):
    """Quoted where it must be."""
    return whole(text) if re.search(rf'[{re.escape(separator)}"\r\n]', text) else text


def whole(text, separator=","):
    """Quoted, with marks doubled."""
    return '"' + text.replace('"', '""') + '"'


def escaped(text, separator=","):
    """Quoted, with a backslash before each mark, and backslashes before one doubled."""
    return '"' + re.sub(r'(\\*)("|$(?![\s\S]))', _escape, text) + '"'


def _escape(found):
    return found[1] * 2 + ('\\"' if found[2] else "")


def text_of(table, separator=",", quoted=minimal, end="\n"):
    """The table as the text of a file."""
    rows = [list(table), *map(list, zip(*table.values(), strict=True))]
    lines = (separator.join(quoted(cell(value), separator) for value in row) for row in rows)
    return "".join(line + end for line in lines)


def text(name="table.csv", encoding="utf-8", pack=bytes, **how):
    def write(table, place):
        (place / name).write_bytes(pack(text_of(table, **how).encode(encoding)))
        return place / name

    return write


def zstd(content):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


def zipped(table, place):
    with zipfile.ZipFile(place / "table.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("folder/table.csv", text_of(table))
    return place / "table.zip"


def objects(table):
    """Rows as JSON, what is empty left out of every other row."""
    rows = [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
    for row in rows[1::2]:
        for name in [name for name, value in row.items() if value is None]:
            del row[name]
    return [json.dumps(row, ensure_ascii=len(row) % 2 == 0) for row in rows]


def json_lines(table, place):
    (place / "table.log").write_text("\n\n".join(objects(table)), encoding="utf-8")
    return place / "table.log"


def json_array(table, place):
    (place / "table.json.gz").write_bytes(
        gzip.compress(("\n[" + ",\n ".join(objects(table)) + "]\n").encode())
    )
    return place / "table.json.gz"


def arrow(table, kind=None):
    """The table in Arrow, its texts of one type."""
    found = pa.table(table)
    for number, name in enumerate(found.column_names):
        column = found[name]
        if kind and pa.types.is_string(column.type):
            column = column.dictionary_encode() if kind == "dictionary" else column.cast(kind)
        if pa.types.is_null(column.type):
            column = column.cast(pa.string())
        found = found.set_column(number, name, column)
    return found


def parquet(kind=None, name="table.parquet"):
    def write(table, place):
        pq.write_table(arrow(table, kind), place / name, row_group_size=2)
        return place / name

    return write


def directory(table, place):
    """Two files: columns in another order, and one more of them; and what is no data."""
    half = len(next(iter(table.values()))) // 2
    first = {name: column[:half] for name, column in table.items()}
    second = {name: column[half:] for name, column in reversed(table.items())}
    second["extra"] = ["x"] * len(next(iter(second.values())))
    for number, (part, separator) in enumerate([(first, ","), (second, ";")]):
        content = text_of(part, separator)
        (place / f"part-{number}.csv").write_text(content, encoding="utf-8", newline="")
    (place / "_SUCCESS").touch()
    (place / ".part-0.csv.crc").write_bytes(b"crc")
    return place


def mixed_formats(table, place):
    """A Parquet file and one of JSON lines."""
    half = len(next(iter(table.values()))) // 2
    parquet(name="0.parquet")({name: column[:half] for name, column in table.items()}, place)
    rest = {name: column[half:] for name, column in table.items()}
    (place / "1.jsonl").write_text("\n".join(objects(rest)), encoding="utf-8")
    return place


def folder(table, place):
    """A column in the name of a folder; `day` has one value in all rows."""
    inner = place / f"day={table['day'][0].replace(':', '%3A')}"
    inner.mkdir()
    rest = {name: column for name, column in table.items() if name != "day"}
    (inner / "part-0.csv").write_text(text_of(rest), encoding="utf-8", newline="")
    return place


WITHOUT_A_FLAG = {
    "commas": text(),
    "tabs": text("table.csv", separator="\t"),
    "semicolons": text("table.tsv", separator=";"),
    "bars": text("part-0", separator="|"),
    "all quoted": text(quoted=whole),
    "backslashes": text(quoted=escaped),
    "byte-order mark": text(encoding="utf-8-sig"),
    "utf-16": text("table.txt", encoding="utf-16"),
    "windows": text(end="\r\n"),
    "macintosh": text(end="\r"),
    "gzip": text("table.csv.gz", pack=gzip.compress),
    "bz2": text("table.csv", pack=bz2.compress),
    "zstd": text("table.zst", pack=zstd),
    "zip": zipped,
    "json lines": json_lines,
    "json array": json_array,
    "parquet": parquet(),
    "large_string": parquet(pa.large_string(), "table"),
    "dictionary": parquet("dictionary", "table.csv"),
    "binary": parquet(pa.binary(), "part-0"),
    "directory": directory,
    "mixed": mixed_formats,
    "folder": folder,
}

WITH_A_FLAG = {
    "gb18030": (text(encoding="gb18030"), "encoding=gb18030"),
    "utf-16 without a mark": (text(encoding="utf-16-le"), "encoding=utf-16-le"),
    "tildes": (text(separator="~"), "separator=~"),
    "marks that enclose": (text(quoted=whole), "quote=doubled"),
    "marks after backslashes": (text(quoted=escaped), "quote=backslash"),
}
