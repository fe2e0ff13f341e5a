"""Rows of JSON read as rows of text do."""

import json

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmnet.checks import InputError
from mmnet.data import json_rows

PLAIN = ("", "utf-8")


def table(path, columns=None, **how):
    columns = columns or json_rows.names(path, *PLAIN, every=True)
    return pa.Table.from_batches(json_rows.batches(path, *PLAIN, columns, **how))


def sentence(path, **how):
    with pytest.raises(InputError) as caught:
        table(path, **how)
    return str(caught.value).removeprefix(str(path))


singles = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just("1.50")
)
objects = st.dictionaries(st.sampled_from(["a", "b", "é\n", ""]), singles, max_size=4)


def spelled(value):
    """A value as a text file would have it."""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)


@settings(max_examples=60)
@given(rows=st.lists(objects, min_size=1, max_size=5), ascii_=st.booleans(), blank=st.booleans())
def test_lines_and_an_array_read_alike(new_file, rows, ascii_, blank):
    written = [json.dumps(row, ensure_ascii=ascii_) for row in rows]
    lines = ("\r\n\n" if blank else "\n").join(written)
    array = " \n["[not blank :] + " ,\n ".join(written) + "]\n"
    columns = list(dict.fromkeys(name for row in rows for name in row))
    wanted = [{name: spelled(row.get(name)) for name in columns} for row in rows]
    for path in (new_file(lines), new_file(array)):
        assert json_rows.names(path, *PLAIN, every=True) == columns
        if columns:
            assert table(path).to_pylist() == wanted


def test_numbers_come_as_they_are_written(new_file):
    text = '{"n": 1.50, "m": 100000000000000000000, "x": 1E5, "z": -0, "w": NaN}'
    assert table(new_file(text)).to_pylist() == [
        {"n": "1.50", "m": "1" + "0" * 20, "x": "1E5", "z": "-0", "w": "NaN"}
    ]


def test_lists_stay_lists_where_that_is_asked_for(new_file):
    path = new_file('{"t": ["a", 1, true]}\n{"t": null}\n{"t": []}\n{}\n')
    assert table(path, lists=True)["t"].to_pylist() == [["a", "1", "true"], None, [], None]
    assert table(path)["t"].to_pylist() == ['["a", "1", true]', "", "[]", ""]
    wrong = sentence(new_file('{"t": ["a"]}\n\n{"t": "b"}\n'), lists=True)
    assert wrong == (
        " line 3, column t: a single value, where other rows have lists. Received: 'b'"
    )


def test_batches_are_cut_between_rows(new_file, monkeypatch):
    monkeypatch.setattr(json_rows, "BATCH_ROWS", 2)
    path = new_file("".join(f'{{"n": {number}}}\n' for number in range(5)))
    found = [batch.to_pydict()["n"] for batch in json_rows.batches(path, *PLAIN, ["n"])]
    assert found == [["0", "1"], ["2", "3"], ["4"]]


def test_columns_are_those_of_the_first_rows_and_those_asked_for(new_file, monkeypatch):
    monkeypatch.setattr(json_rows, "SAMPLE_ROWS", 1)
    path = new_file('{"a": 1}\n{"b": 1}\n{"c": 1}\n{"d": 1}\n')
    assert json_rows.names(path, *PLAIN) == ["a"]
    assert json_rows.names(path, *PLAIN, wanted=["c"]) == ["a", "b", "c"]
    assert json_rows.names(path, *PLAIN, wanted=["x"]) == ["a", "b", "c", "d"]


def test_a_row_is_named_by_its_line_or_its_number_in_an_array(new_file):
    lines, array = new_file('\n{"a": 1}\n\n{"a": 2}\n'), new_file('[{"a": 1},\n{"a": 2}]')
    assert json_rows.place(lines, *PLAIN, 1) == "line 4"
    assert json_rows.place(array, *PLAIN, 1) == "object 2"


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ('{"a": 1}\n{"a": }\n', " line 2: invalid JSON: Expecting value (column 7)"),
        ('{\n "a": 1\n}\n', " line 1: invalid JSON: Expecting property name"),
        ('{"a": 1}\n[{"a": 2}]\n', " line 2: each row must be a JSON object"),
        ('\n[{"a": 1},\n {"a": 2},\n 3]', " object 3: each row must be a JSON object"),
        ('\n\n[{"a": 1},\n {"a"]', " line 4: invalid JSON: Expecting ':' delimiter"),
        ('[{"a": 1}', " line 1: invalid JSON: Expecting ',' delimiter (column 10)"),
        ('{"a": ' + "[" * 100_000 + "\n", " line 1: invalid JSON: nested too deeply"),
        ('{"a": "\\ud800"}', " line 1: invalid JSON: it has half of a surrogate pair"),
        ('{"\\udfff": 1}', " line 1: invalid JSON: it has half of a surrogate pair"),
        ('{"a": 1, "a": 2}', " line 1: invalid JSON: duplicate key 'a'"),
    ],
)
def test_what_is_not_a_row_is_refused_with_its_place(new_file, text, wrong):
    assert sentence(new_file(text)).startswith(wrong)
