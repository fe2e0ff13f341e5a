"""Whatever the tables, the request or the asset: a result or one clear sentence, never a traceback.

Nothing is trained. The quick tests look at some hundred inputs, the slow ones at thousands.
"""

import contextlib
import datetime
import decimal
import io
import json
import random
import re
import shutil

import hypothesis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from hypothesis import strategies as st

from mmnet import config, driver
from mmnet.checks import InputError
from mmnet.serving import decision, examples, export, exported, golden, profile

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
            assert re.fullmatch(r"  \w+: .+: [\d,]+ in, [\d,]+ dropped(  \(.*\))?", line), said
    return code


def test_disturbed_tables_end_in_a_dataset_or_a_sentence(tmp_path):
    codes = [check_prepare(seed, tmp_path) for seed in range(150)]
    assert 5 < sum(code == driver.OK for code in codes) < 130  # the tables are not all hopeless


@pytest.mark.slow
def test_two_thousand_disturbed_tables(tmp_path):
    for seed in range(1_000, 3_000):
        check_prepare(seed, tmp_path)


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
