import numpy as np
import pyarrow as pa
import pytest

from mmnet.checks import InputError
from mmnet.data.columns import floats, integers, strings, values_of
from mmnet.data.tables import Table


def of(values, kind=None):
    return Table(pa.table({"x": pa.array(values, kind)}), "items")


def sentence(function, *arguments, **named):
    with pytest.raises(InputError) as caught:
        function(*arguments, **named)
    return str(caught.value)


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (["a", None, ""], ["a", "", ""]),
        ([1, None], ["1", ""]),
        ([1.0, None, float("nan")], ["1", "", ""]),  # whole numbers that passed through pandas
        ([1.5, 2.0], ["1.5", "2"]),
        (["1.0", "", "20.0"], ["1", "", "20"]),
        (["1.0", "x"], ["1.0", "x"]),
        (["007"], ["007"]),
        ([True, None], ["true", ""]),
        ([b"a"], ["a"]),
        ([None, None], ["", ""]),
    ],
)
def test_any_single_value_is_a_string(values, found):
    assert strings(of(values), "x", "texts").tolist() == found


def test_dictionaries_are_strings():
    assert strings(
        Table(pa.table({"x": pa.array(["a", None]).dictionary_encode()}), "items"), "x", "texts"
    ).tolist() == ["a", ""]


def test_a_list_where_one_value_is_wanted_is_refused():
    assert sentence(strings, of([["a"]]), "x", "texts") == (
        "items table: column 'x' named by --texts holds list<item: string> values; "
        "one value per row is wanted"
    )


def test_bytes_that_are_no_text_are_refused():
    assert sentence(strings, of([b"\xff"]), "x", "texts") == (
        "items table row 1, column x: not UTF-8 text; write the file again"
    )


@pytest.mark.parametrize(
    ("values", "rows", "found"),
    [
        (["a;b", "", None, " b ; ;b"], [0, 0, 3], ["a", "b", "b"]),
        ([["a", "b"], [], None, ["b", None, "b"]], [0, 0, 3], ["a", "b", "b"]),
        ([3, None, 12], [0, 2], ["3", "12"]),
        ([3.0, None, 12.0], [0, 2], ["3", "12"]),
        ([[1, 2], [2]], [0, 0, 1], ["1", "2", "2"]),
        ([[1.0, 2.0], [None]], [0, 0], ["1", "2"]),
        ([[1.5], [2.0]], [0, 1], ["1.5", "2"]),
        ([None, None], [], []),
    ],
)
def test_several_values_are_pairs_of_row_and_value(values, rows, found):
    pairs = values_of(of(values), "x", "taxonomies")
    assert (pairs[0].tolist(), pairs[1].tolist()) == (rows, found)


@pytest.mark.parametrize("values", [[3, 0], [3.0, 0.0], ["3", " 0 "], [True, False]])
def test_counts_are_whole_numbers(values):
    found = integers(of(values), "x", "numerator", what="shares")
    assert found.dtype == np.int64
    assert found.tolist() == [int(float(value)) for value in values]


@pytest.mark.parametrize(
    "value", [-1, 0.5, float("nan"), float("inf"), None, "two", "", 2**53, 2**63, 1e30]
)
def test_a_value_that_is_no_count_is_refused(value):
    table = of([value], pa.uint64() if value == 2**63 else None)
    assert sentence(integers, table, "x", "numerator", what="shares") == (
        "items table row 1, column x: shares must be a whole number of 0 or more, below 2**53. "
        f"Received: {value!r}"
    )


def test_numbers_are_nan_where_empty():
    for values in ([1.5, None], ["1.5", ""], ["1.5", None]):
        np.testing.assert_array_equal(floats(of(values), "x", "numerics"), [1.5, np.nan])
    assert sentence(floats, of(["1.5", "long"]), "x", "numerics") == (
        "items table row 2, column x: a numeric column's value must be a number. Received: 'long'"
    )
