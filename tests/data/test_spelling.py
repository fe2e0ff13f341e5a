"""One rule of spelling, written for Arrow, for Python and for the engines: they agree."""

import decimal

import ibis
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mmnet.data import spelling

SPACES = ["", " ", "\t", "\xa0", "\u3000", "\x1c"]
WORDS = ["a", "TRUE", "false", "False", "falſe", "12", "007", "3.10", "12.0", "-0.0", "-12.000"]
WORDS += ["7.2e+18", "1e16", "1.5E18", "9007199254740992.0", "9007199254740991.0", "1.0.0", ".0"]
TEXT = st.builds("".join, st.tuples(*map(st.sampled_from, (SPACES, WORDS, SPACES)))) | st.text(
    st.characters(codec="utf-8", exclude_characters="\0"), max_size=6
)


def by_engine(backend, data, function):
    table = ibis.memtable(pa.table({"x": data, "n": range(len(data))}))
    found = backend.to_pyarrow(table.select("n", y=function(table.x)).order_by("n"))
    return found["y"].to_pylist()


@pytest.fixture(scope="module", params=["duckdb", "sqlite"])
def backend(request):
    return getattr(ibis, request.param).connect()


@settings(max_examples=30)
@given(values=st.lists(TEXT | st.none(), min_size=1, max_size=40))
@example(values=[before + word + after for word in WORDS for before in SPACES for after in SPACES])
def test_arrow_python_and_engines_spell_text_alike(backend, values):
    data = pa.array(values, pa.string())
    found = spelling.texts(data).to_pylist()
    assert found == [spelling.spelled(value) for value in values]
    assert by_engine(backend, data, spelling.in_ibis) == found
    lost = by_engine(backend, data, spelling.lost_in_ibis)
    assert [bool(one) for one in lost] == spelling.lost_digits(data).tolist()
    # Spelling again changes nothing.
    assert spelling.texts(spelling.texts(data)).to_pylist() == found


@pytest.mark.parametrize(
    "data",
    [
        pa.array([1.0, None, float("nan"), float("inf"), -0.0, 2.0**52, 7.0]),
        pa.array([True, None, False]),
        pa.array([1, None, 2**60]),
        pa.array([1, 2], pa.uint8()),
        pa.array([1.0, None], pa.float32()),
    ],
)
def test_engines_spell_every_type_as_arrow_does(backend, data):
    assert by_engine(backend, data, spelling.in_ibis) == spelling.texts(data).to_pylist()


@given(st.lists(st.floats() | st.none(), min_size=1))
def test_a_float_column_has_the_texts_that_a_csv_file_of_it_has(values):
    data = pa.array(values, pa.float64())
    found = spelling.texts(data).to_pylist()
    assert found == [spelling.spelled(value) for value in values]
    finite = [v if v is not None and np.isfinite(v) else None for v in values]
    written = ["" if value is None else repr(value) for value in finite]
    assert spelling.texts(pa.array(written)).to_pylist() == found


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["true", "12", "0.1", ""], pa.string()),
        (["true", "12", "0.1", None], pa.large_string()),
        (["True ", "12.0", " 0.1", None], pa.string_view()),
        (["TRUE", "12.00", "0.1", None], pa.dictionary(pa.int8(), pa.large_string())),
    ],
)
def test_a_value_has_one_text_in_every_kind_of_text(values, kind):
    assert spelling.texts(pa.array(values, kind)).to_pylist() == ["true", "12", "0.1", ""]


@pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64()])
def test_floats_are_as_short_as_they_read_back(kind):
    data = pa.array(np.array([0.1, 2.0, 1.5, 1e-5], kind.to_pandas_dtype()))
    assert spelling.texts(data).to_pylist() == ["0.1", "2", "1.5", "1e-05"]


def test_decimals_are_whole_where_nothing_is_behind_the_point():
    values = [decimal.Decimal("12.00"), decimal.Decimal("0.10"), None]
    assert spelling.texts(pa.array(values)).to_pylist() == ["12", "0.10", ""]
    assert [spelling.spelled(value) for value in values] == ["12", "0.10", ""]


@given(st.lists(st.text(max_size=5) | st.integers() | st.booleans() | st.none(), max_size=5))
def test_a_list_that_python_wrote_reads_back(values):
    found = spelling.literal(repr(values))
    assert found == values or any(isinstance(v, str) and not v.isprintable() for v in values)


@pytest.mark.parametrize("text", ["[[1]]", "[a]", "[1", "['a''b']", '["\\ud800"]', "[-----1]", "a"])
def test_what_is_no_plain_list_is_text(text):
    assert spelling.literal(text) is None
