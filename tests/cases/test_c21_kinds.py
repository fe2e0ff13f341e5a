"""What a file is, its first bytes say: names and endings decide nothing."""

import bz2
import gzip
import io
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pytest

from tests.cases import worlds

ITEMS = ("--items=items.csv", worlds.TAXONOMIES)


def zipped(text, path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(Path(path).stem, text)


def zstd(text, path):
    with pa.CompressedOutputStream(path, "zstd") as file:
        file.write(text)


PACKED = {
    "{}.csv.zip": zipped,
    "{}.zip": zipped,
    "{}.csv.gz": lambda text, path: Path(path).write_bytes(gzip.compress(text)),
    "{}.csv.bz2": lambda text, path: Path(path).write_bytes(bz2.compress(text)),
    "{}.csv.zst": zstd,
    "{}": lambda text, path: Path(path).write_bytes(text),
    "{}.CSV": lambda text, path: Path(path).write_bytes(text),
    "{}.parquet": lambda text, path: Path(path).write_bytes(text),
    "{}.txt": lambda text, path: Path(path).write_bytes(gzip.compress(text)),
}
WRITTEN = {
    "{}.jsonl": {"orient": "records", "lines": True, "date_format": "iso"},
    "{}.json": {"orient": "records", "date_format": "iso"},
}


def write(table, name, pattern):
    path = pattern.format(name)
    if pattern in PACKED:
        PACKED[pattern](table.to_csv(index=False).encode(), path)
    elif pattern in WRITTEN:
        table.to_json(path, **WRITTEN[pattern])
    elif pattern == "{}.PARQUET":
        table.to_parquet(path)
    else:
        table.to_csv(path)  # pandas' own index is a nameless first column
    return f"--{name}={path}"


KINDS = [*PACKED, *WRITTEN, "{}.PARQUET", "{}_index.csv"]


@pytest.fixture(autouse=True)
def usual_items(drives):
    worlds.joined(worlds.items()).to_csv("items.csv", index=False)


RENAMED = ["{}.zip", "{}.CSV", "{}.parquet", "{}.txt"]  # the same bytes as another's


@pytest.mark.parametrize("pattern", [kind for kind in KINDS if kind not in RENAMED])
def test_events_of_any_kind(drives, pattern):
    table = worlds.events()
    made = drives.made(write(table, "events", pattern), *ITEMS, *worlds.COUNTED)
    worlds.holds(made, worlds.of_events(table))


@pytest.mark.parametrize("pattern", KINDS)
def test_counts_of_any_kind(drives, pattern):
    table = worlds.counts()
    worlds.holds(drives.made(write(table, "counts", pattern), *ITEMS), worlds.of_counts(table))


@pytest.mark.parametrize("pattern", [*WRITTEN, "{}.zip", "{}.PARQUET", "{}_index.csv"])
def test_items_of_any_kind(drives, pattern):
    flags = [write(worlds.counts(), "counts", "{}.csv.gz"), *worlds.FIELDS]
    usual = drives.made(*flags, "--items=items.csv")
    table = worlds.items() if pattern in WRITTEN else worlds.joined(worlds.items())
    worlds.same(drives.made(*flags, write(table, "items", pattern)), usual)


def feather(table):
    file = io.BytesIO()
    pa.feather.write_feather(pa.Table.from_pandas(table), file)
    return file.getvalue()


def xlsx(table):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as inside:
        inside.writestr("[Content_Types].xml", "<Types/>")
        inside.writestr("xl/workbook.xml", "<workbook/>")
    return file.getvalue()


def damaged(table):
    return b"PK\x03\x04" + bytes(range(256)) * 40


@pytest.mark.parametrize(
    ("content", "word"), [(feather, "Feather"), (xlsx, "Excel"), (damaged, "zip")]
)
@pytest.mark.parametrize("name", ["counts", "events", "items"])
def test_other_kinds_are_refused_by_name(drives, content, word, name):
    tables = {"counts": worlds.counts(), "items": worlds.items(), "events": worlds.events()}
    place = f"{name}.csv" if name != "items" else "other.csv"
    Path(place).write_bytes(content(tables[name]))
    if name == "items":
        flags = [write(worlds.counts(), "counts", "{}.csv.gz"), "--items=other.csv"]
    else:
        flags = [f"--{name}={place}", "--items=items.csv"]
    flags += worlds.COUNTED if name == "events" else ()
    said = drives.refused(*flags, worlds.TAXONOMIES)
    assert said.startswith(place)
    assert word in said
