"""Every way to write a table reads as the same table, to the last character."""

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mmnet.checks import InputError
from mmnet.data import columns, dialects, file_kinds, parquet, table_files, table_reading
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


@settings(max_examples=250)
@given(text=st.one_of(tables_, noise), size=st.integers(1, 7))
@example(text='"a\nb",c\n1,2\n', size=1)  # a name may hold a line break
@example(text='a,b\n1,"2"3\n', size=1)
def test_a_file_that_is_read_has_the_fields_of_a_naive_reader(new_place, text, size):
    """A file is read as the only way that fits it, or refused; never in another way."""
    path = new_place() / "table.csv"
    path.write_bytes(text.encode())
    way = expected(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dialects, "BLOCK_BYTES", size)
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
            assert "can be read in two ways" in error, name
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
