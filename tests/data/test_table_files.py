"""Files of tables at the edges of their formats, and what is said of those that cannot be read."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmnet.checks import InputError
from mmnet.data import dialects, table_files, tables
from mmnet.data.dialects import Dialect, TextOptions, text_options
from mmnet.data.file_kinds import Kind
from mmnet.data.ledger import Rule
from mmnet.data.sources.reading import Scan
from mmnet.data.table_files import TableFile


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Files have short names in messages."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(content, name="t.csv"):
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return name


def rows(content, **said):
    """The table of a file, as a list of rows."""
    return tables.read(write(content), "items", said=TextOptions(**said)).data.to_pylist()


def sentence(content, **said):
    with pytest.raises(InputError) as caught:
        rows(content, **said)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) <= 600
    return str(caught.value)


# ------------------------------------------------------------------------------------- edges

TWO = [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]


@pytest.mark.parametrize(
    "content",
    [
        "a,b\n1,2\n3,4\n",
        "a,b\n1,2\n3,4",
        "a,b\r1,2\r3,4\r",
        "a,b\r1,2\r3,4",
        "a,b\r\n1,2\r3,4\n",  # each line may end in its own way
        "\n\r\n a , b \n\n1,2\n\r\n3,4\n\n\n",
        'a,b\n"1","2"\n"3",4',
        '"a","b"\r1,2\r3,"4"\r',
    ],
)
def test_lines_end_in_any_way(content):
    assert rows(content) == TWO


@pytest.mark.parametrize(
    ("content", "values"),
    [
        ("a\n1\n\n2", ["1", "2"]),
        ('a\n1\n""\n2\n', ["1", "", "2"]),  # in one column only quotes can say that it is empty
        ("a\n\0\nx\0y\n", ["\0", "x\0y"]),
        ("a\n  x \n \n", ["  x ", " "]),  # spaces are part of a value, not of a name
        ("a\nNA\nnull\n#N/A\n", ["NA", "null", "#N/A"]),
        ("a\n" + "x" * 200_000 + "\n", ["x" * 200_000]),
        ('a\n"' + "x\n" * 100_000 + '"\n', ["x\n" * 100_000]),
    ],
)
def test_one_column_is_a_table(content, values):
    said = {"quote": "doubled"} if "x\n" in content else {}
    assert rows(content, **said) == [{"a": value} for value in values]


def test_two_thousand_columns_and_a_header_of_more_than_a_megabyte():
    names = [f"column {'x' * 600} {number}" for number in range(2000)]
    values = [str(number) for number in range(2000)]
    content = ",".join(names) + "\n" + ",".join(values) + "\n"
    assert len(content) > 1 << 20
    table = tables.read(write(content), "items", columns=names[-1:])
    assert table.data.to_pylist() == [dict(zip(names, values, strict=True))]
    with pytest.raises(InputError) as caught:
        table.need(names[0] + "0", "texts")
    assert "1,980 more" in str(caught.value) or "…" in str(caught.value)
    assert len(str(caught.value)) < 600
    scan = Scan([Path("t.csv")], names[:1], "log")
    assert scan.whole().data.to_pylist() == [{names[0]: "0"}]


def test_many_repeated_names_are_told_quickly():
    names = ["a", "b"] * 20_000 + ["c"]
    table = tables.read(write(",".join(names) + "\n" + ",".join("x" for _ in names)), "items")
    assert table.names == ["c"]
    assert set(table.lacking) == {"a", "b"}


@pytest.mark.parametrize(
    ("content", "said", "wrong"),
    [
        ("", {}, "t.csv is not a readable CSV file (items table): it is empty"),
        ("\n\r\n", {}, "t.csv is not a readable CSV file (items table): it is empty"),
        (
            " , \n1,2\n",
            {},
            "t.csv is not a readable CSV file (items table): its header has no names",
        ),
        ("a,b", {}, "t.csv: the items table has no rows"),
        ("a,b\r\n\r\n", {}, "t.csv: the items table has no rows"),
        (
            'a,b\n1,"2\n3,4\n5\n',
            {},
            "t.csv line 2: a quotation mark is never closed; put quotation marks around the "
            "whole value and double those inside, or set --text_set=quote=none if they are "
            "ordinary characters",
        ),
        (
            'a,b\n1,"2\n3,4\n',
            {"quote": "doubled"},
            "t.csv line 2: a quotation mark is never closed; close it, or set "
            "--text_set=quote=none if quotation marks are ordinary characters",
        ),
        ('a,b\n1,"2\n3,4\n', {"quote": "backslash"}, "t.csv line 2: a quotation mark is never "),
        (
            "a,b\n1,2,3\n",
            {},
            "t.csv line 2: 3 fields, but the header of the items table has 2; put quotes around a "
            "value that contains a comma or a line break",
        ),
        (
            b"a,b\n1,2",
            {"encoding": "utf-16-le"},
            "t.csv is not a readable CSV file (items table): it is not utf-16-le text; set its "
            "encoding, as in --text_set=encoding=gbk",
        ),
        ('{"a": 1}\n{"a"', {}, "t.csv line 2: invalid JSON: Expecting ':' delimiter"),
        (b"PAR1 and no more", {}, "t.csv is not a readable Parquet file (items table): Parquet"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(content, said, wrong):
    assert sentence(content, **said).startswith(wrong)


def test_an_open_quote_swallows_no_rows():
    assert rows('a,b\n1,"2\n3,4\n') == [{"a": "1", "b": '"2'}, {"a": "3", "b": "4"}]


def test_an_open_quote_in_a_publishers_file_is_refused():
    write('id,n\n1,2\n2,"3\n4,5\n')
    with pytest.raises(InputError, match=r"^t.csv line 3: a quotation mark is never closed"):
        Scan([Path("t.csv")], ["id"], "log").whole()


def test_control_characters_of_names_and_cells_reach_no_terminal():
    write("a\x1b[31m,b\n1,2\n", "x\x1b[2J\n.csv")
    with pytest.raises(InputError) as caught:
        tables.read("x\x1b[2J\n.csv", "items").need("c\r", "texts")
    assert str(caught.value) == (
        "x\\x1b[2J\\n.csv has no column 'c\\r' (named by --texts); it has a\\x1b[31m, b"
    )


# ------------------------------------------------------------------------------------ columns


def opened(content, name="t.csv", **how):
    return table_files.opened_file(Path(write(content, name)), "items", **how)


def test_the_types_of_a_recbole_header_are_no_part_of_the_names():
    text = "item_id:token\ttags:token_seq\tyear:float\n7\ta b  c\t1.5\n8\t\t2\n"
    file = opened(text, "t.item")
    assert (file.names, file.lists) == (["item_id", "tags", "year"], ("tags",))
    assert tables.read("t.item", "items").data.to_pylist() == [
        {"item_id": "7", "tags": ["a", "b", "c"], "year": "1.5"},
        {"item_id": "8", "tags": [""], "year": "2"},
    ]
    assert opened("a:token,b:other\n1,2\n").names == ["a:token", "b:other"]


def test_names_are_those_of_the_quoting_that_is_found():
    file = opened('"i\\"d",b\n"\\"1",2\n').settled()
    assert file.names == ['i"d', "b"]
    assert rows('"i\\"d",b\n"\\"1",2\n') == [{'i"d': '"1', "b": "2"}]


def test_a_name_that_is_there_twice_is_missing_where_it_is_needed():
    file = opened("a,b,a,\n1,2,3,4\n")
    assert (file.own, file.repeated, file.names) == (("a", "b", "", ""), {"a"}, ["a", "b"])
    found = table_files.common([file])
    assert found.names == ["b"]
    assert found.lacking == {"a": "t.csv has two columns named 'a'; rename one"}


def test_folders_hide_no_column_of_the_file():
    file = replace(opened("a,b\n1,2\n"), folders={"b": "x", "day": "3"})
    assert file.names == ["a", "b", "day"]


@given(st.lists(st.sets(st.sampled_from("abcd"), min_size=1), min_size=1, max_size=4))
def test_common_columns_are_those_of_all_files(columns):
    files = [
        TableFile(Path(str(number)), "items", Kind("text"), own=tuple(sorted(names)))
        for number, names in enumerate(columns)
    ]
    found = table_files.common(files)
    everywhere = set.intersection(*columns)
    assert set(found.names) == everywhere
    assert found.lacking.keys() == set.union(*columns) - everywhere
    for name, why in found.lacking.items():
        first_without = next(n for n, names in enumerate(columns) if name not in names)
        first_with = next(n for n, names in enumerate(columns) if name in names)
        assert why == f"{first_without} has no column {name!r}, but {first_with} has"


# ------------------------------------------------------------------------------------- places


def test_a_row_is_named_by_its_line_in_any_format():
    text = 'a,b\r\n\r\n1,"x\r\ny"\r\n2,z\r\n'
    assert [opened(text).where(row) for row in (0, 1)] == ["t.csv line 3", "t.csv line 5"]
    assert opened("a\r1\r\r2\r").where(1) == "t.csv line 4"
    assert opened('\n{"a": 1}\n\n{"a": 2}\n').where(1) == "t.csv line 4"
    assert opened('[{"a": 1},\n{"a": 2}]').where(1) == "t.csv object 2"
    pq.write_table(pa.table({"a": [1, 2]}), "t.parquet")
    assert table_files.opened_file(Path("t.parquet"), "items").where(1) == "t.parquet row 2"
    layout = Dialect("\t", names=("a", "b"))
    write("1\t2\n\n3\t4\n")
    assert table_files.laid_out(Path("t.csv"), "log", layout).where(1) == "t.csv line 3"


def test_a_layout_is_that_of_text_files_only():
    write('{"id": 1, "n": 2}\n')
    assert Scan([Path("t.csv")], ["n"], "log").whole().data.to_pylist() == [{"n": "2"}]
    scan = Scan([Path("t.csv")], ["n"], "log", names=("id", "n"), delimiter="\t")
    assert scan.whole().data.to_pylist() == [{"n": "2"}]


def test_the_columns_of_all_rows_of_json_are_found_where_they_are_wanted(monkeypatch):
    monkeypatch.setattr(table_files.json_rows, "SAMPLE_ROWS", 1)
    text = "\n".join(json.dumps({name: 1}) for name in "abc")
    assert opened(text).names == ["a"]
    assert opened(text, "u.csv", wanted=("b",)).names == ["a", "b"]
    assert opened(text).complete().names == ["a", "b", "c"]
    assert opened("a,b\n1,2\n", "v.csv").complete().names == ["a", "b"]


# -------------------------------------------------------------------------------------- ledger


def test_the_ledger_says_what_was_found_of_files():
    def found(pattern, *settings):
        said = text_options(settings, "items")
        return table_files.rules(pattern, table_files.opened(pattern, "items", said))

    def rule(rows_in, rows_out, note):
        words = "is read; what begins with . or _, or has another ending, is not"
        return [Rule("items files", words, rows_in, rows_out, note)]

    write("a\n1\n", "plain.csv")
    assert found("plain.csv") == []
    assert table_files.rules("", []) == []
    write('a;b\n"1\\"";2\n', "odd.csv")
    marks = "separated by semicolons, quotation marks inside values follow a backslash"
    assert found("odd.csv") == rule(1, 1, marks)
    assert found("*.csv") == rule(2, 2, f"{marks}; as usual")
    write("é\n1\n".encode("gbk"), "gbk.csv")
    assert found("gbk.csv", "encoding=gbk") == rule(1, 1, "in gbk")
    Path("d").mkdir()
    write('{"a": 1}', "d/x.jsonl")
    write("", "d/_SUCCESS")
    write("", "d/notes.txt")
    assert found("d") == rule(3, 1, "JSON")
    assert TextOptions() == dialects.NOTHING_SAID
