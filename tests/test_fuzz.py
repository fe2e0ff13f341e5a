"""Whatever the tables, the request or the asset: a result or one clear sentence, never a traceback.

Nothing is trained. The quick tests look at some hundred inputs, the slow ones at thousands.
"""

import bz2
import contextlib
import datetime
import decimal
import gzip
import io
import json
import random
import re
import shutil
import tempfile
import zipfile
from pathlib import Path

import hypothesis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from hypothesis import strategies as st

from mmnet import config, driver
from mmnet.checks import InputError
from mmnet.config import TableFlags, TaskFlags
from mmnet.data import columns, events, parquet, table_paths, tables
from mmnet.data.dialects import TextOptions
from mmnet.data.sources.reading import Scan
from mmnet.serving import decision, examples, export, exported, golden, profile
from tests.table_writers import escaped, minimal, whole

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
    for _ in range(draws.choice([0, 0, 1, 2])):
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
    for _ in range(draws.choice([0, 0, 1, 2])):
        disturb_cells(rows, draws)
    if draws.random() < 0.5:
        stem.with_suffix(".csv").write_bytes(as_csv(rows, draws))
        return stem.with_suffix(".csv")
    with contextlib.suppress(pa.ArrowException, UnicodeEncodeError):  # no table of Arrow's at all
        stem.with_suffix(".parquet").write_bytes(as_parquet(rows, draws))
        return stem.with_suffix(".parquet")
    stem.with_suffix(".csv").write_bytes(as_csv(rows, draws))
    return stem.with_suffix(".csv")


def prepare_disturbed(seed, place):
    """Prepares one disturbed pair of tables; returns the exit code and what was said."""
    draws = random.Random(seed)
    place.mkdir()
    arguments = [
        f"--counts={written(counts(draws), draws, place / 'counts')}",
        f"--items={written(items(draws), draws, place / 'items')}",
        "--taxonomies=category",
        "--numerics=duration",
        "--texts=title",
        *(["--release=release"] if draws.random() < 0.5 else []),
        "--min_test_rows=1",
        "--min_target_clicks=1",
        "--window=3",
        f"--dataset_dir={place / 'set'}",
    ]
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        code = driver.run(config.PrepareConfig, "", "prepare", arguments)
    left = sorted(path.name for path in place.iterdir())
    shutil.rmtree(place)
    return code, said.getvalue(), left


def check_prepare(seed, tmp_path):
    code, said, left = prepare_disturbed(seed, tmp_path / str(seed))
    assert code in (driver.OK, driver.WRONG_INPUT), f"seed {seed}: {said}"
    assert not any(name.startswith(".") for name in left), f"seed {seed} left {left}"
    if code == driver.OK:
        assert "set" in left
    else:
        assert "set" not in left
        *ledger, sentence = said.strip("\n").splitlines()
        assert sentence.startswith("error: "), f"seed {seed}: {said}"
        for line in ledger:  # of the rules that had run
            assert re.fullmatch(r"  [\w ]+: .+: [\d,]+ in, [\d,]+ dropped(  \(.*\))?", line), said
    return code


def test_disturbed_tables_end_in_a_dataset_or_a_sentence(tmp_path):
    codes = [check_prepare(seed, tmp_path) for seed in range(150)]
    assert 5 < sum(code == driver.OK for code in codes) < 130  # the tables are not all hopeless


@pytest.mark.slow
def test_two_thousand_disturbed_tables(tmp_path):
    for seed in range(1_000, 3_000):
        check_prepare(seed, tmp_path)


# --------------------------------------------------------------------------------------- files

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
    return str(place) if len(places) > 1 else str(places[0])


def read_whole(pattern, said):
    table = tables.read(pattern, "items", columns=["item_id"], said=said)
    for name in table.names:
        with contextlib.suppress(InputError):
            columns.strings(table, name, "texts")
        columns.values_of(table, name, "taxonomies")


def read_pieces(pattern, said):
    table = parquet.open_table(pattern, "items", said=said)
    for piece in table.pieces(2, {"item_id": "item_column"}):
        columns.floats(piece, "item_id", "numerics")


def read_scan(pattern, said):
    del said
    for table in Scan(table_paths.find(pattern, "log"), ["item_id", "clicks"], "log"):
        table.need("clicks", "log")


def read_scan_of_numbers(pattern, said):
    del said
    names, kinds = ("item_id", "n", "clicks"), {"clicks": pa.int64()}
    log = Scan(table_paths.find(pattern, "log"), ["clicks"], "log", names, types=kinds)
    log.whole()


def read_events(pattern, said):
    flags = TableFlags(
        events=pattern, denominator="events", numerator="clicks", engine_threads=1,
        text_set=[f"{name}={value}" for name, value in vars(said).items() if value],
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        events.count(flags, TaskFlags(), np.array(["a", "7"], object), Path(place, "c.parquet"))


READERS = [read_whole, read_pieces, read_scan, read_scan_of_numbers, read_events]
SAID = [TextOptions()] * 4 + [
    TextOptions(quote="none"),
    TextOptions(quote="doubled"),
    TextOptions(quote="backslash", encoding="latin-1"),
    TextOptions(separator=";", encoding="utf-7"),
]


def check_files(seed, place, readers=READERS):
    """Reads one unusual place in every way; returns how many ended well."""
    draws = random.Random(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        pattern, said = unusual_files(draws, Path(str(seed))), draws.choice(SAID)
        well = 0
        for read in readers:
            try:
                read(pattern, said)
                well += 1
            except InputError as error:
                sentence = str(error)
                right = sentence.isprintable() and 20 < len(sentence) <= 600
                assert right, f"seed {seed}: {read.__name__}: {sentence}"
            except BaseException as error:
                error.add_note(f"seed {seed}: {read.__name__}({pattern!r}, {said})")
                raise
        shutil.rmtree(str(seed))
    return well


def test_unusual_files_are_read_or_refused_in_a_sentence(tmp_path):
    quick = READERS[:-1]  # an engine takes its time
    well = sum(check_files(seed, tmp_path, quick) for seed in range(400))
    well += sum(check_files(seed, tmp_path) for seed in range(400, 430))
    assert 200 < well < 1400


@pytest.mark.slow
def test_ten_thousand_unusual_files(tmp_path):
    for seed in range(10_000, 12_000):
        check_files(seed, tmp_path)


# ------------------------------------------------------------------------------------ requests


@pytest.fixture(scope="module")
def served(run_dir):
    """The signatures of the small run, and golden inputs of each."""
    loaded, fitted = export.load(run_dir / "export")
    batches = golden.read(run_dir / "export" / "1" / golden.FILE)
    return loaded.signatures, {batch.signature: batch.inputs for batch in batches}, fitted


REFUSALS = (tf.errors.InvalidArgumentError, TypeError, ValueError)
"""What TensorFlow Serving answers with 400."""


def check_example(served, data):
    """Sends bytes that may be no tf.Example."""
    signatures, inputs, _ = served
    whole = bytes(inputs["examples"][examples.INPUT][0])
    kind = data.draw(st.sampled_from(["noise", "cut", "flip"]))
    if kind == "noise":
        request = data.draw(st.binary(max_size=60))
    elif kind == "cut":
        request = whole[: data.draw(st.integers(0, len(whole)))]
    else:
        place = data.draw(st.integers(0, len(whole) - 1))
        request = whole[:place] + data.draw(st.binary(min_size=1, max_size=4)) + whole[place + 1 :]
    try:
        found = signatures["examples"](examples=tf.constant([request]))
    except REFUSALS as error:
        hypothesis.note(str(error))
    else:
        score = found[export.OUTPUT].numpy()
        assert np.isnan(score).all() or ((score >= 0) & (score <= 100)).all()


def check_request(served, data, signature):
    """Sends a request that is wrong in one place."""
    signatures, inputs, _ = served
    request = dict(inputs[signature])
    name = data.draw(st.sampled_from(sorted(request)))
    array = request[name]
    kind = data.draw(st.sampled_from(["gone", "shape", "type", "values", "rows", "more"]))
    if kind == "gone":
        del request[name]
    elif kind == "more":
        request["nobody_knows"] = array
    elif kind == "shape":
        request[name] = array[..., None]
    elif kind == "rows":
        request[name] = array[: data.draw(st.integers(0, len(array) - 1))]
    elif kind == "type":
        request[name] = np.zeros(array.shape, data.draw(st.sampled_from(["f8", "i1", "?", "O"])))
        if request[name].dtype == object:
            request[name][...] = "text"
    elif array.dtype == object:
        text = data.draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
        request[name] = np.full(array.shape, text, object)
    else:
        value = data.draw(st.sampled_from([-1, 0, 1, 2**31 - 1, -(2**31)]))
        if array.dtype.kind == "f":
            value = data.draw(st.floats(width=32))
        request[name] = np.full(array.shape, value, array.dtype)
    try:
        found = signatures[signature](**{key: tf.constant(one) for key, one in request.items()})
    except REFUSALS as error:
        hypothesis.note(str(error))
    else:
        assert found[export.OUTPUT].dtype == tf.float32


@hypothesis.settings(max_examples=300)
@hypothesis.given(data=st.data())
def test_no_bytes_break_the_examples_signature(served, data):
    check_example(served, data)


@hypothesis.settings(max_examples=200)
@hypothesis.given(data=st.data())
@pytest.mark.parametrize("signature", ["raw_columns", "serving_default"])
def test_no_request_breaks_a_signature(served, data, signature):
    check_request(served, data, signature)


@pytest.mark.slow
@hypothesis.settings(max_examples=1_000)
@hypothesis.given(data=st.data())
@pytest.mark.parametrize("signature", ["raw_columns", "serving_default", "examples"])
def test_three_thousand_requests(served, data, signature):
    if signature == "examples":
        check_example(served, data)
    else:
        check_request(served, data, signature)


# -------------------------------------------------------------------------------------- assets


def leaves(value, path=()):
    """Every place in a JSON document."""
    yield path
    if isinstance(value, dict | list):
        inside = value.items() if isinstance(value, dict) else enumerate(value[:3])
        for key, one in inside:
            yield from leaves(one, (*path, key))


def test_disturbed_assets_are_refused_in_one_sentence(run_dir, tmp_path):
    draws = random.Random(0)
    said = []
    copy = shutil.copytree(run_dir / "export" / "1", tmp_path / "1")
    readers = {
        exported.AboutShareRates.FILE: lambda: exported.fitted(copy),
        f"assets.extra/{decision.FILE}": lambda: exported.document(
            copy, decision.FILE, decision.Decisions
        ),
        f"assets.extra/{profile.FILE}": lambda: exported.document(
            copy, profile.FILE, profile.Profile
        ),
    }
    for name, read in readers.items():
        text = (copy / name).read_text(encoding="utf-8")
        places = [place for place in leaves(json.loads(text)) if place]
        for _ in range(200):
            document = json.loads(text)
            *path, last = draws.choice(places)
            inside = document
            for key in path:
                inside = inside[key]
            if draws.random() < 0.2 and isinstance(inside, dict):
                del inside[last]
            else:
                inside[last] = draws.choice([None, "x", -1, 1e308, [], {}, [[]], {"a": 1}, True])
            changed = json.dumps(document)
            if draws.random() < 0.2:
                changed = changed[: draws.randrange(len(changed))]
            (copy / name).write_text(changed, encoding="utf-8")
            try:
                read()
            except InputError as error:
                said.append(str(error))
        (copy / name).write_text(text, encoding="utf-8")
        read()
    assert len(said) > 200
    assert not [one for one in said if "\n" in one]


def test_a_broken_model_is_refused_in_one_sentence(run_dir, tmp_path):
    draws = random.Random(0)
    copy = shutil.copytree(run_dir / "export" / "1", tmp_path / "1")
    for name in ("saved_model.pb", "variables/variables.index"):
        content = (copy / name).read_bytes()
        for _ in range(3):
            (copy / name).write_bytes(content[: draws.randrange(1, len(content))])
            with pytest.raises(InputError, match="--verify"):
                export.load(copy)
        (copy / name).write_bytes(content)
    export.load(copy)
