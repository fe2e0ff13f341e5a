"""Tables of counts and items, most of them disturbed in a place or two, as CSV and Parquet."""

import contextlib
import datetime
import decimal
import io

import pyarrow as pa
import pyarrow.parquet as pq

ITEMS, PERIODS = 12, 14
CELLS = [
    *("", " ", "nan", "inf", "-inf", "-1", "0", "1e400", "1.5", "9" * 30, "0x10", "1_000", "１２"),
    *(
        "\x00",
        '"',
        "'",
        "\\",
        "\t",
        "a;b;;c",
        ";" * 50,
        "[1, 2]",
        "{}",
        "=1+1",
        "\ufeff",
        "猫" * 500,
    ),
    *("2024-02-30", "2024-01-01", "1700000000", "None", "true", "i0", "i999", "../../etc/passwd"),
]


def counts(draws):
    rows = [
        [
            f"i{item}",
            str(period),
            str(clicks := draws.randint(1, 80)),
            str(draws.randint(0, clicks)),
        ]
        for item in range(ITEMS)
        for period in range(PERIODS)
    ]
    return [["item_id", "period", "clicks", "shares"], *rows]


def items(draws):
    rows = [
        [f"i{item}", f"c{item % 3}", str(item / 2), f"title {item % 5}", "0"]
        for item in range(ITEMS)
    ]
    return [["item_id", "category", "duration", "title", "release"], *rows]


def disturb_cells(rows, draws):
    """One change of a table that is still a table."""
    kind = draws.choice(["cell", "cell", "cell", "column", "row", "name", "twice", "swap", "short"])
    row, column = draws.randrange(len(rows)), draws.randrange(len(rows[0]))
    if kind == "cell":
        rows[row][column % len(rows[row])] = draws.choice(CELLS)
    elif kind == "column":
        value = draws.choice(CELLS)
        for one in rows[1:]:
            one[column % len(one)] = value
    elif kind == "row":
        rows.append([draws.choice(CELLS) for _ in rows[0]])
    elif kind == "name":
        rows[0][column % len(rows[0])] = draws.choice([*CELLS, "clicks", "item_id"])
    elif kind == "twice":
        rows.append(list(rows[row]))
    elif kind == "swap":
        draws.shuffle(rows)
    elif rows[row]:
        del rows[row][-1]


def as_csv(rows, draws):
    """The table's bytes, some of them no CSV any more."""
    separator = draws.choice([*"," * 20, ";", "\t"])
    content = "\n".join(separator.join(row) for row in rows).encode()
    kind = draws.choice(["whole"] * 12 + ["cut", "flip", "noise", "empty", "latin", "cr"])
    place = draws.randrange(max(1, len(content)))
    if kind == "cut":
        return content[:place]
    if kind == "flip":
        return content[:place] + bytes([draws.randrange(256)]) + content[place + 1 :]
    if kind == "noise":
        return content[:place] + draws.randbytes(20) + content[place:]
    if kind == "empty":
        return draws.choice([b"", b"\n", b"\x00", rows[0][0].encode() if rows[0] else b""])
    if kind == "latin":
        return (
            "\n".join(",".join(row) for row in rows).replace("c1", "é").encode("latin-1", "replace")
        )
    if kind == "cr":
        return content.replace(b"\n", b"\r")
    return content


def odd_column(draws, length):
    """A column of a type that is seldom right."""
    moment = datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc)
    value, kind = draws.choice(
        [
            (None, pa.null()),
            (b"\xff", pa.binary()),
            (2**63, pa.uint64()),
            (-(2**62), pa.int64()),
            (True, pa.bool_()),
            (decimal.Decimal("1.5"), pa.decimal128(10, 2)),
            (moment, pa.timestamp("ns", "Europe/Rome")),
            (moment.date(), pa.date32()),
            (datetime.time(1), pa.time64("us")),
            (datetime.timedelta(1), pa.duration("s")),
            ([1.0, None], pa.list_(pa.float32())),
            ([["a"]], pa.list_(pa.list_(pa.string()))),
            ({"a": 1}, pa.struct([("a", pa.int8())])),
            ([("a", 1)], pa.map_(pa.string(), pa.int8())),
            (float("nan"), pa.float16()),
            ("a", pa.dictionary(pa.int8(), pa.string())),
            ("猫", pa.large_string()),
        ]
    )
    if pa.types.is_dictionary(kind):
        return pa.array([value] * length).dictionary_encode()
    return pa.array([value] * length, kind)


def as_parquet(rows, draws):
    width = min(len(row) for row in rows)
    table = {}
    for number, name in enumerate(rows[0][:width]):
        column = [row[number] for row in rows[1:]]
        if name in ("period", "clicks", "shares", "duration", "release"):
            with contextlib.suppress(ValueError):
                column = [float(value) if value else None for value in column]
        table[name] = pa.array(column)
    table = pa.table(table)
    for _ in range(draws.choice([0, 0, 0, 1, 1, 2])):
        place = draws.randrange(table.num_columns)
        column = odd_column(draws, table.num_rows)
        table = table.set_column(place, table.column_names[place], column)
    file = io.BytesIO()
    pq.write_table(table, file)
    content = bytearray(file.getvalue())
    kind = draws.choice(["whole"] * 6 + ["cut", "flip", "flip"])
    place = draws.randrange(len(content))
    if kind == "cut":
        return bytes(content[:place])
    if kind == "flip":
        content[place] ^= 1 << draws.randrange(8)
    return bytes(content)


def written(rows, draws, stem):
    """Writes a table, disturbed or not, beside `stem`.

    Returns:
        The path, and how many rows it has; None where that takes a parser to know.
    """
    for _ in range(draws.choice([0, 0, 0, 1, 1, 2])):
        disturb_cells(rows, draws)
    if draws.random() < 0.5:
        with contextlib.suppress(pa.ArrowException, UnicodeEncodeError):  # no table of Arrow's
            content = as_parquet(rows, draws)
            stem.with_suffix(".parquet").write_bytes(content)
            return stem.with_suffix(".parquet"), None
    content = as_csv(rows, draws)
    stem.with_suffix(".csv").write_bytes(content)
    whole = content == "\n".join(",".join(row) for row in rows).encode()
    plain = whole and not any('"' in cell for row in rows for cell in row)
    return stem.with_suffix(".csv"), len(rows) - 1 if plain else None
