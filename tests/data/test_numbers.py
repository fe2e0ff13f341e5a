"""Numbers in text: the one reading that fits a column, or a sentence."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mmnet.checks import InputError
from mmnet.config import TableFlags
from mmnet.data import numbers
from mmnet.data.columns import floats
from mmnet.data.numbers import PLAIN, Marks, recognised
from mmnet.data.tables import Table


def of(values):
    return Table(pa.table({"x": pa.array(values, pa.string())}), "items")


def read(values, *, whole=False, usual=None, **flags):
    marks = recognised(of(values), "x", "numerics", TableFlags(**flags), whole=whole, usual=usual)
    return marks, floats(of(values), "x", "numerics", marks=marks).tolist()


@pytest.mark.parametrize(
    ("values", "marks", "found"),
    [
        (["1090", "12.5"], PLAIN, [1090, 12.5]),
        (["1,090.5", "250"], Marks(".", ","), [1090.5, 250]),
        (["1,090", "1,234,567"], Marks(".", ","), [1090, 1234567]),
        (["1 090", "250"], Marks(".", " "), [1090, 250]),
        (["1\u202f090,5", "1\xa0000"], Marks(",", " "), [1090.5, 1000]),
        (["12,50", "-3"], Marks(",", ""), [12.5, -3]),
        (["1.090", "12,50"], Marks(",", "."), [1090, 12.5]),
        (["1.090", "1.250.000"], Marks(",", "."), [1090, 1250000]),
        (["1.090", "0.5"], PLAIN, [1.09, 0.5]),
        (["1.090", "0.125"], PLAIN, [1.09, 0.125]),  # no group of three begins with a zero
        (["1’090.5"], Marks(".", "'"), [1090.5]),
        (["true", "False", "2"], PLAIN, [1, 0, 2]),
        (["+5", ".5", "5.", "1e3", "inf"], PLAIN, [5, 0.5, 5, 1000, float("inf")]),
    ],
)
def test_a_column_has_the_reading_that_fits_all_of_it(values, marks, found):
    assert read(values) == (marks, found)


@pytest.mark.parametrize(
    ("values", "one", "other"), [(["7", "1,090"], "1090", "1.09"), (["7", "1.090"], "1.09", "1090")]
)
def test_two_readings_that_differ_are_refused_unless_something_decides(values, one, other):
    mark = values[1][1]
    with pytest.raises(InputError) as caught:
        read(values)
    assert str(caught.value).startswith(
        f"items table row 2, column x: {values[1]!r} is ambiguous: it may be {one} or {other}, and "
        f"no value of the column decides which; set --thousands={mark} where "
    )
    assert read(values, whole=True)[1] == [7, 1090]  # a count
    assert read(values, thousands=mark)[1] == [7, 1090]
    assert read(values, decimal=mark)[1] == [7, 1.09]
    assert read(values, usual=Marks(",", "."))[1] == [7, 1.09 if mark == "," else 1090]


def test_counts_that_two_readings_make_whole_are_refused():
    with pytest.raises(InputError, match=r"'1\.000' is ambiguous: it may be 1 or 1000"):
        read(["1.000", "2.000"], whole=True)


@pytest.mark.parametrize("value", ["1.2K", "1,09", "0x10", "1_000", "12%", "None", "1.2.3"])
def test_what_does_not_fit_the_others_is_named_with_its_row(value):
    with pytest.raises(InputError, match=r"row 3, column x: .* must be a number\. Received"):
        read(["1,090.5", "2,000", value])


@pytest.mark.parametrize("value", numbers.EMPTY)
def test_programs_have_many_words_for_nothing(value):
    assert np.isnan(read([value, "1"])[1]).tolist() == [True, False]


@pytest.mark.parametrize(
    "flags", [{"decimal": ";"}, {"thousands": "x"}, {"decimal": ",", "thousands": ","}]
)
def test_flags_that_are_no_marks_are_refused(flags):
    with pytest.raises(InputError, match="--decimal"):
        read(["1"], **flags)


@given(
    st.lists(st.integers(-(10**12), 10**12), min_size=1),
    st.sampled_from([marks for marks in numbers.READINGS if marks.thousands]),
)
def test_whole_numbers_read_back_from_any_marks(values, marks):
    written = [f"{value:,}".replace(",", marks.thousands) for value in values]
    assume(any(text.count(marks.thousands) > 1 for text in written))  # which decides
    assert read(written)[1] == values


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_plain_numbers_are_read_to_the_bit(values):
    written = [repr(value) for value in values]
    assert read(written, decimal=".")[1] == values


def test_pieces_are_decided_together(monkeypatch):
    monkeypatch.setattr(numbers, "PIECE_ROWS", 1)
    assert read(["1,090", "2,000", "12,5"])[1] == [1.09, 2, 12.5]


def test_what_is_not_plain_is_reported(capsys):
    table = of(["", "1,090.5"])
    marks = {"x": recognised(table, "x", "numerics", TableFlags())}
    (rule,) = numbers.reported(table, marks)
    assert (rule.rule, rule.rows_in, rule.rows_out, rule.note) == (
        "numbers of x have a comma between thousands",
        2,
        2,
        "'1,090.5' is read as 1090.5",
    )
    assert capsys.readouterr().err == f"items table: {rule.rule}: {rule.note}\n"
    assert numbers.reported(table, {"x": PLAIN}) == []


@pytest.mark.parametrize("given", [{"thousands": "."}, {"usual": Marks(",", ".")}])
def test_what_a_flag_or_training_decided_has_an_example_too(given):
    assert read(["7", "1.090"], **given)[0].example == "'1.090' is read as 1090"
