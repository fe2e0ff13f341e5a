"""Files that are seldom right: any bytes, dialect, encoding, kind of file and kind of column."""

import bz2
import contextlib
import gzip
import io
import json
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq

from tests.fuzz.tables import odd_column
from tests.table_writers import escaped, minimal, whole

NAMES = ["t.csv", "part-0", "t.parquet", "t.jsonl", "[1].csv", "a'b\"c.csv", "n\nl.csv", "*", "%41"]
PARTS = [
    *(
        "item_id",
        "timestamp",
        "clicks",
        "a",
        "b",
        "1",
        "1.5",
        "2024-01-01",
        "",
        " ",
        "true",
        "null",
    ),
    *(",", ",", ";", "\t", "|", "\n", "\n", "\r\n", "\r", '"', '"', '""', "\\", '\\"', "'"),
    *(
        "{",
        "}",
        "[",
        "]",
        ":",
        '{"a": 1}',
        '[{"item_id": "a"}]',
        "\\ud800",
        "\x00",
        "\x1b[2J",
        "\ufeff",
    ),
    *("é", "猫" * 100, "x" * 5000, "item_id:token", "=", "\u2028", "\x85", "\x00", "\x1b[2J"),
]
GOOD = {"item_id": ["a", "7"], "clicks": ["0", "1"], "timestamp": ["2024-01-01", "2024-01-02"]}
HEADERS = [
    "item_id,timestamp,clicks\n",
    "item_id;timestamp;clicks\r\n",
    '"item_id","timestamp"\n',
    "",
]
ENCODINGS = ["utf-8"] * 6 + ["utf-8-sig", "utf-16", "utf-16-le", "latin-1", "gbk", "utf-7"]


def unusual_text(draws):
    """Bytes of a text file that is seldom right."""
    lines = draws.choice(["cells", "noise", "json"])
    if lines == "cells":
        separator = draws.choice(",;\t|")
        written = draws.choice([minimal, minimal, whole, escaped, lambda text, _: text])
        width = draws.choice([2, 3, 3])
        names = ["item_id", "clicks", "timestamp"][:width]
        odd = draws.choice([0, 0.1, 0.7])
        rows = [
            [draws.choice(PARTS if draws.random() < odd else GOOD[name]) for name in names]
            for _ in range(draws.randrange(1, 6))
        ]
        rows = [names, *rows]
        if draws.random() < 0.1:
            draws.choice(rows).pop()
        rows = [[written(cell, separator) for cell in row] for row in rows]
        text = draws.choice(["\n", "\r\n", "\r"]).join(separator.join(row) for row in rows)
    elif lines == "json":
        objects = [
            {name: draws.choice(good) for name, good in GOOD.items()}
            | {draws.choice(PARTS): draws.choice([*PARTS, 1, None, True, [1], ["a"], {"b": 1}])}
            for _ in range(draws.randrange(1, 5))
        ]
        text = draws.choice(["\n", "\n", "\n\n", ""]).join(map(json.dumps, objects))
        text = draws.choice([text, text, json.dumps(objects)])
    else:
        text = draws.choice(HEADERS) + "".join(draws.choices(PARTS, k=draws.randrange(30)))
    return text.encode(draws.choice(ENCODINGS), "replace")


def unusual_table(draws):
    """A table with columns of types that are seldom right, as Parquet."""
    length = draws.choice([0, 1, 5, 5])
    more = ["item_id", "timestamp", "clicks", "ITEM_ID", "", "a.b", "猫", "n\nl"]
    names = [*GOOD, *draws.choices(more, k=2)][: draws.randrange(2, 6)]
    odd = draws.choice([0, 0.1, 0.7])
    columns = [
        odd_column(draws, length)
        if draws.random() < odd
        else pa.array([draws.choice(GOOD.get(name, ["b", None])) for _ in range(length)])
        for name in names
    ]
    table = pa.Table.from_arrays(columns, names=names)
    file = io.BytesIO()
    pq.write_table(table, file, row_group_size=2)
    return file.getvalue()


def damaged(content, draws):
    kind = draws.choice(["whole"] * 16 + ["cut", "flip", "noise", "twice", "front"])
    place = draws.randrange(max(1, len(content)))
    if kind == "cut":
        return content[:place]
    if kind == "flip" and content:
        return content[:place] + bytes([draws.randrange(256)]) + content[place + 1 :]
    if kind == "noise":
        return content[:place] + draws.randbytes(8) + content[place:]
    if kind == "front":
        magic = [
            b"PAR1",
            b"\x1f\x8b",
            b"BZh",
            b"\x28\xb5\x2f\xfd",
            b"PK\x03\x04",
            b"\xff\xfe",
            b"ORC",
        ]
        return draws.choice(magic) + content
    return content + content if kind == "twice" else content


def packed(content, draws):
    packers = ["gzip", "bz2", "zip", "lz4", "zstd"]
    kind = (
        draws.choice(packers) if draws.random() < (0.05 if content[:4] == b"PAR1" else 0.3) else ""
    )
    if kind == "gzip":
        return gzip.compress(content)
    if kind == "bz2":
        return bz2.compress(content)
    if kind in ("lz4", "zstd"):
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, kind) as stream:
            stream.write(content)
        return sink.getvalue().to_pybytes()
    if kind == "zip":
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", draws.choice([0, 8, 12, 14])) as archive:
            for number in range(draws.choice([0, 1, 1, 1, 2])):
                archive.writestr(f"{number}.csv", content)
        return file.getvalue()
    return content


def unusual_files(draws, place):
    """Writes a file or a directory of them; returns what a flag would name."""
    place.mkdir()
    if draws.random() < 0.3:
        inner = place / draws.choice(
            ["d", "day=1", "item_id=x", "clicks=\udcff", "[d]", "_d", "a\nb"]
        )
        inner.mkdir()
        places = [inner / name for name in draws.sample(NAMES, 2)]
    else:
        places = [place / draws.choice(NAMES)]
    for path in places:
        make = draws.choice([unusual_text, unusual_text, unusual_table])
        content = b""
        with contextlib.suppress(pa.ArrowException, UnicodeEncodeError):  # no table of Arrow's
            content = make(draws)
        path.write_bytes(damaged(packed(damaged(content, draws), draws), draws))
    whole = len(places) > 1 or "\n" in places[0].name  # which no flag may have
    return str(place if whole else places[0])
