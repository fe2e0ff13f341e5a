"""Every way to write a table reads as the same table, to the last character."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mmnet import driver
from mmnet.checks import InputError
from mmnet.config import PrepareConfig
from mmnet.data import (
    columns,
    dialects,
    file_kinds,
    parquet,
    quotations,
    table_files,
    table_reading,
)
from mmnet.data.dialects import text_options
from tests import table_writers
from tests.naive_csv import Wrong, expected, header_of, read_one_way
from tests.table_writers import WITH_A_FLAG, WITHOUT_A_FLAG

# ------------------------------------------------------------------- one file, any characters


@pytest.fixture(scope="module")
def new_place(tmp_path_factory):
    """Makes directories that no cache has seen."""
    base, numbers = tmp_path_factory.mktemp("tables"), itertools.count()

    def make():
        place = base / str(next(numbers))
        place.mkdir()
        return place

    return make


pieces = st.sampled_from(["a", "b", ",", ",", '"', '"', "\\", "\n", "\n", "\r\n", "\r", "\0"])
cells = st.sampled_from(
    [*("a", "", "\\", "b ", '"a"', '""', '"a,b"', '"a\nb"', '"a\r\nb"', '"a""b"', r'"a\"b"', 'a"b')]
)
rows = st.lists(cells, min_size=2, max_size=2).map(",".join)
tables_ = st.tuples(
    st.lists(rows, min_size=1, max_size=6),
    st.sampled_from(["\n", "\r\n", "\n\n", "\r"]),
    st.booleans(),
).map(lambda parts: parts[1].join(parts[0]) + parts[1] * parts[2])
noise = st.lists(pieces, max_size=24).map("".join)


def outcome(work):
    """What work returns and nothing, or nothing and what it says is wrong."""
    try:
        return work(), ""
    except (InputError, Wrong) as error:
        return None, str(error)


def whole(path, said=dialects.NOTHING_SAID):
    return table_reading.whole(table_files.opened_file(path, "items", said))


@settings(max_examples=200)
@given(text=st.one_of(tables_, noise), size=st.integers(1, 7))
@example(text='"a\nb",c\n1,2\n', size=1)  # a name may hold a line break
@example(text='a,b\n1,"2"3\n', size=1)
def test_a_file_that_is_read_has_the_fields_of_a_naive_reader(new_place, text, size):
    """A file is read as the only way that fits it, or refused; never in another way."""
    path = new_place() / "table.csv"
    path.write_bytes(text.encode())
    way = expected(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quotations, "BLOCK_BYTES", size)
        patch.setattr(file_kinds, "PIECE_BYTES", size)
        found, error = outcome(lambda: whole(path))
    if error.endswith((": it is empty", ": its header has no names")):
        assert not any(map(str.strip, header_of(text, ",")))
        return
    if isinstance(way, int):
        assert error.startswith(f"{path} line {way}: ")
        return
    records, wrong = outcome(lambda: read_one_way(text, way, lenient=way == "doubled")[0])
    if wrong:
        assert error.startswith(f"{path} line {wrong}: ")
        return
    assert not error
    (_, header), *records = records
    header = [name.strip() for name in header]
    for name in found.column_names:
        place = header.index(name)
        assert found[name].to_pylist() == [fields[place] for _, fields in records]
    assert set(found.column_names) == set(header) - {""}


# --------------------------------------------------------------------- one table, many dialects

LETTERS = st.sampled_from(["a", "7", "0", "é", "猫", '"', "'", "\\", ",", ";", "\t", "|", "~", " "])
BREAKS = st.sampled_from(["\n", "\r\n", "\r", "\n\n", '"\n', "\n,"])
ids = st.text("a70é猫", min_size=1, max_size=4) | st.tuples(LETTERS, st.just("x")).map("".join)
titles = st.none() | st.lists(LETTERS | BREAKS, min_size=1, max_size=6).map("".join)
numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.just(0.1)
tags = st.lists(st.sampled_from(["t", "u v", "007", "é"]), max_size=3)


@st.composite
def typed_tables(draw):
    """Columns of every kind; ids are not trimmed or spelled in another way by any branch of it."""
    ids_ = draw(st.lists(ids.map(lambda one: f"i{one}"), min_size=2, max_size=5, unique=True))
    each = {"min_size": len(ids_), "max_size": len(ids_)}
    return {
        "item_id": ids_,
        "title": draw(st.lists(titles, **each)),
        "views": draw(st.lists(st.integers(0, 2**53 - 1), **each)),
        "weight": draw(st.lists(numbers, **each)),
        "hot": draw(st.lists(st.none() | st.booleans(), **each)),
        "tags": draw(st.lists(tags, **each)),
        "day": ["2024-05-31T00:00"] * len(ids_),
    }


def canonical(table):
    """What is made of a table, whatever it was written in."""
    weights = columns.floats(table, "weight", "numerics")
    rows, values = columns.values_of(table, "tags", "taxonomies")
    return {
        "item_id": columns.texts(table, "item_id", "item_column").to_pylist(),
        "title": columns.texts(table, "title", "texts").to_pylist(),
        "views": columns.integers(table, "views", "denominator", what="views").tolist(),
        "weight": [None if np.isnan(weight) else weight for weight in weights],
        "hot": columns.texts(table, "hot", "categoricals").to_pylist(),
        "tags": list(zip(rows.tolist(), values, strict=True)),
        "day": columns.texts(table, "day", "categoricals").to_pylist(),
    }


def wanted(table):
    """The same by hand."""
    return {
        "item_id": table["item_id"],
        "title": [title or "" for title in table["title"]],
        "views": table["views"],
        "weight": table["weight"],
        "hot": [table_writers.cell(hot) for hot in table["hot"]],
        "tags": [
            (row, tag) for row, tags in enumerate(table["tags"]) for tag in dict.fromkeys(tags)
        ],
        "day": table["day"],
    }


def read(pattern, *settings_):
    return parquet.open_table(
        str(pattern), "items", columns=["item_id"], said=text_options(settings_, "items")
    ).read()


@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(table=typed_tables())
def test_a_table_reads_alike_whatever_it_is_written_in(new_place, table):
    for name, write in WITHOUT_A_FLAG.items():
        path = write(table, new_place())
        found, error = outcome(lambda: canonical(read(path)))  # noqa: B023
        if error:  # two ways to read it: a naive reader finds two as well
            assert "is ambiguous" in error, name
            assert isinstance(expected(*ambiguous(path)), int), name
        else:
            assert found == wanted(table), name
    for name, (write, setting) in WITH_A_FLAG.items():
        assert canonical(read(write(table, new_place()), setting)) == wanted(table), name


def ambiguous(path):
    """Text and separator of the file that can be read in two ways."""
    for file in table_files.opened(str(path), "items", wanted=["item_id"]):
        if file.kind.format == "text" and outcome(file.settled)[1]:
            with dialects.opened(file.path, file.dialect) as stream:
                return stream.read().decode(), file.dialect.separator
    return "", ","


# ---------------------------------------------------------------------- the same dataset, always

PERIODS = 6
NAMES = ["i007", 'i"7', "i;7", "i猫,"]
ITEMS = {
    "item_id": NAMES,
    "title": ["one, two", 'a "b"', "", "three\nlines; here"],
    "weight": [0.1, None, -2.0, 1e-7],
    "hot": [True, False, None, True],
    "tags": [["a", "b c"], [], ["007"], ["b c"]],
    "day": ["2024-05-31"] * len(NAMES),
}
COUNTS = {
    "item_id": [name for name in NAMES for _ in range(PERIODS)],
    "period": [*range(PERIODS)] * len(NAMES),
    "clicks": [60 + row for row in range(PERIODS * len(NAMES))],
    "shares": [row % 7 for row in range(PERIODS * len(NAMES))],
    "day": ["2024-05-31"] * PERIODS * len(NAMES),
}
EVENTS = {
    "item_id": [name for name in NAMES for _ in range(PERIODS * 40)],
    "timestamp": [
        f"2024-05-{1 + number % PERIODS:02}T{number % 24:02}:00:00Z"
        for _ in NAMES
        for number in range(PERIODS * 40)
    ],
    "like": [number % 5 == 0 for number in range(len(NAMES) * PERIODS * 40)],
    "why": [f'"{number}"\\ ' for number in range(len(NAMES) * PERIODS * 40)],
    "day": ["2024-05-31"] * len(NAMES) * PERIODS * 40,
}
FLAGS = [
    "--texts=title",
    "--numerics=weight",
    "--categoricals=hot,day",
    "--taxonomies=tags",
    *("--window=3", "--min_test_rows=1", "--min_target_clicks=1"),
]


def prepared(new_place, *flags):
    """The files of a dataset, but for what names its inputs."""
    place = new_place() / "set"
    assert driver.run(PrepareConfig, "", "prepare", [*FLAGS, *flags, f"--dataset_dir={place}"]) == 0
    files = (path for path in sorted(place.rglob("*")) if path.is_file())
    found = {path.name: path.read_bytes() for path in files}
    about = json.loads(found.pop("dataset.json"))
    found.pop("counts.json", None)
    del found["ledger.md"], about["fingerprint"], about["folder"], about["inputs"], about["ledger"]
    return found | {"about": about}


def of_parquet(new_place, table):
    return WITHOUT_A_FLAG["parquet"](table, new_place())


@pytest.fixture(scope="module")
def of_counts(new_place):
    """The dataset of tables in Parquet."""
    counts, items = (of_parquet(new_place, table) for table in (COUNTS, ITEMS))
    return prepared(new_place, f"--counts={counts}", f"--items={items}")


@pytest.fixture(scope="module")
def of_events(new_place):
    """The dataset of events in Parquet."""
    flags = ["--denominator=events", "--numerator=like == true", "--event_key=why,timestamp"]
    events, items = (of_parquet(new_place, table) for table in (EVENTS, ITEMS))
    return flags, prepared(new_place, *flags, f"--events={events}", f"--items={items}")


@pytest.mark.parametrize("name", [name for name in WITHOUT_A_FLAG if name != "parquet"])
def test_a_dataset_is_the_same_to_the_byte(new_place, of_counts, name):
    write = WITHOUT_A_FLAG[name]
    counts, items = (write(table, new_place()) for table in (COUNTS, ITEMS))
    assert prepared(new_place, f"--counts={counts}", f"--items={items}") == of_counts


@pytest.mark.parametrize(
    "name", ["tabs", "backslashes", "utf-16", "zip", "json lines", "binary", "mixed"]
)
def test_a_dataset_of_events_is_the_same_to_the_byte(new_place, of_events, name):
    flags, wanted_ = of_events
    events = WITHOUT_A_FLAG[name](EVENTS, new_place())
    items = of_parquet(new_place, ITEMS)
    assert prepared(new_place, *flags, f"--events={events}", f"--items={items}") == wanted_
