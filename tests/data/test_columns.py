from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from mmnet.checks import InputError
from mmnet.config import TableFlags
from mmnet.data import spelling
from mmnet.data.columns import (
    coded_values,
    floats,
    id_texts,
    integers,
    strings,
    values_of,
    whole_ids,
)
from mmnet.data.numbers import recognised
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
        (["1.0", "", "20.00", "x"], ["1", "", "20", "x"]),
        (["007", "3.10", " b "], ["007", "3.10", "b"]),
        ([True, None], ["true", ""]),
        ([b"a"], ["a"]),
        ([None, None], ["", ""]),
    ],
)
def test_any_single_value_is_an_id(values, found):
    assert id_texts(of(values), "x", "item_column").to_pylist() == found


def test_a_text_is_left_as_it_is_written():
    assert strings(of([" 1.0 ", "True", None]), "x", "texts").tolist() == [" 1.0 ", "True", ""]
    assert strings(of([1.0, None]), "x", "texts").tolist() == ["1", ""]


@pytest.mark.parametrize("value", [7.2e18, "7.2e+18", "7205759406317000192.0", 2.0**53])
def test_an_id_that_lost_its_digits_in_a_float_is_refused(value):
    assert sentence(id_texts, of([None, value]), "x", "item_column").startswith(
        f"items table row 2, column x: {value} is an id that was converted to a floating-point "
        "number, so its last digits are lost; write ids as integers or text"
    )


def test_dictionaries_are_strings():
    assert strings(
        Table(pa.table({"x": pa.array(["a", None]).dictionary_encode()}), "items"), "x", "texts"
    ).tolist() == ["a", ""]


def test_a_list_where_one_value_is_wanted_is_refused():
    assert sentence(strings, of([["a"]]), "x", "texts") == (
        "items table: column 'x' named by --texts has list<item: string> values; "
        "each row must have a single value"
    )


def test_bytes_that_are_no_text_are_refused():
    assert sentence(strings, of([b"\xff"]), "x", "texts") == (
        "items table row 1, column x: not UTF-8 text; write the file again as UTF-8"
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
        ([[True], [False, None]], [0, 1], ["true", "false"]),
        (
            ["['a', 'b;c']", '["a", 1.0]', "[]", "[18+]"],
            [0, 0, 1, 1, 3],
            ["a", "b;c", "a", "1", "[18+]"],
        ),
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


LISTS = [["b", "a"], None, [], ["a", None, "a"]]


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.string()),
        pa.large_list(pa.large_string()),
        pa.list_view(pa.string()),
        pa.large_list_view(pa.string()),
        pa.list_(pa.dictionary(pa.int8(), pa.string())),
    ],
)
def test_a_list_is_a_list_however_it_is_stored(kind):
    rows, values = values_of(of(LISTS, kind), "x", "taxonomies")
    assert (rows.tolist(), values.tolist()) == ([0, 0, 3], ["b", "a", "a"])


def test_a_list_of_one_length_is_a_list():
    pairs = values_of(of([["b", "a"], None], pa.list_(pa.string(), 2)), "x", "taxonomies")
    assert (pairs[0].tolist(), pairs[1].tolist()) == ([0, 0], ["b", "a"])


def test_text_is_cut_at_the_separator_that_is_given():
    pairs = values_of(of(["a;b|c", "b|a"]), "x", "taxonomies", "|")
    assert pairs[1].tolist() == ["a;b", "c", "b", "a"]


@pytest.mark.parametrize("values", [["1,090", "12"], ["1 090", "12"], ["1.090", "12"]])
def test_counts_may_have_marks(values):
    marks = recognised(of(values), "x", "numerator", TableFlags(), whole=True)
    assert integers(of(values), "x", "numerator", what="n", marks=marks).tolist() == [1090, 12]


def test_decimals_are_numbers():
    table = of([Decimal("12.00"), None, Decimal("0.50")])
    np.testing.assert_array_equal(floats(table, "x", "numerics"), [12, np.nan, 0.5])
    assert integers(of([Decimal("12.00")]), "x", "numerator", what="n").tolist() == [12]


def test_ids_may_have_to_be_whole_numbers():
    for values in ([12, 7], [12.0, 7.0], ["12.0", " 7"], [Decimal("12.00"), Decimal(7)]):
        assert whole_ids(of(values), "x", "pairs").tolist() == [12, 7]
    for value in (10**18 + 1, 2**63 - 1):
        assert whole_ids(of([value]), "x", "pairs").tolist() == [value]
    for value in ("a", "", None, -1, "1.5", str(2**63)):
        assert sentence(whole_ids, of([value]), "x", "pairs") == (
            "items table row 1, column x: ids must be whole numbers below 2**63. "
            f"Received: {value!r}"
        )


def naive_pairs(cells):
    """`values_of`, cell by cell."""
    found = []
    for row, cell in enumerate(cells):
        texts = cell if isinstance(cell, list) else (cell or "").split(";")
        here = dict.fromkeys(map(spelling.spelled, texts))
        found += [(row, text) for text in here if text]
    return found


@pytest.mark.parametrize("kind", ["text", "lists", "single"])
def test_values_are_those_of_each_cell(kind):
    draws = np.random.default_rng(3)
    words = np.array(["a", " a", "b ", "TRUE", "12.0", "12", "", "ä"], object)
    drawn = [list(draws.choice(words, draws.integers(0, 30))) for _ in range(200)]
    cells = {
        "text": [None if not some else ";".join(some) for some in drawn],
        "lists": drawn,
        "single": [some[0] if some else None for some in drawn],
    }[kind]
    for few in (cells, [cell if isinstance(cell, str | None) else cell[:3] for cell in cells]):
        rows, codes, texts = coded_values(of(few), "x", "taxonomies")
        assert list(zip(rows.tolist(), texts[codes], strict=True)) == naive_pairs(few)
        assert len(set(texts)) == len(texts)
