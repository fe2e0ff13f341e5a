import gzip

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from mmnet.checks import InputError
from mmnet.data import json_rows, tables


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Files have short names in messages."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(text, *, file="counts.csv"):
    with open(file, "wb") as out:
        out.write(text if isinstance(text, bytes) else text.encode())
    return tables.read(file, "counts")


def columns(table):
    return table.data.to_pydict()


def sentence(function, *arguments, **named):
    with pytest.raises(InputError) as caught:
        function(*arguments, **named)
    return str(caught.value)


# ------------------------------------------------------------------------------------ files


def test_ids_keep_their_zeros():
    assert columns(read("item_id,clicks\n007,3\n7,4\n")) == {
        "item_id": ["007", "7"],
        "clicks": ["3", "4"],
    }


def test_a_byte_order_mark_and_windows_line_ends_are_read():
    table = read(b"\xef\xbb\xbfitem_id,clicks\r\na,3\r\n")
    assert columns(table) == {"item_id": ["a"], "clicks": ["3"]}


def test_a_quoted_line_break_stays_in_its_value():
    table = read('item_id,title\na,"two\nlines"\nb,"a ""quote"", a comma"\n')
    assert columns(table)["title"] == ["two\nlines", 'a "quote", a comma']


def test_the_word_NA_is_a_word():
    table = read("item_id,title\nNA,null\n")
    assert columns(table) == {"item_id": ["NA"], "title": ["null"]}


def test_compressed_csv_is_read():
    table = read(gzip.compress(b"item_id,clicks\na,3\n"), file="counts.csv.gz")
    assert columns(table)["clicks"] == ["3"]
    assert table.where(0) == "counts.csv.gz line 2"


def test_a_directory_is_read_in_the_order_of_its_files(here):
    (here / "counts").mkdir()
    read("item_id,clicks\nb,2\nc,3\n", file="counts/part-1.csv")
    read("item_id,clicks\na,1\n", file="counts/part-0.csv")
    # What Spark writes beside its parts.
    (here / "counts/_SUCCESS").touch()
    (here / "counts/.part-0.csv.crc").write_bytes(b"crc")
    (here / "counts/notes.txt").write_text("no table")
    table = tables.read("counts", "counts")
    assert columns(table)["item_id"] == ["a", "b", "c"]
    assert [table.where(row, "clicks") for row in (0, 2)] == [
        "counts/part-0.csv line 2, column clicks",
        "counts/part-1.csv line 3, column clicks",
    ]
    assert tables.read("counts/part-*.csv", "counts").data.num_rows == 3


def test_a_column_may_look_like_numbers_in_one_file_only(here):
    (here / "items").mkdir()
    read("item_id,tag\na,1\n", file="items/0.csv")
    read("item_id,tag\nb,x\n", file="items/1.csv")
    assert columns(tables.read("items", "items"))["tag"] == ["1", "x"]


def test_a_line_is_counted_as_an_editor_counts_it():
    table = read('item_id,title\na,"two\nlines"\n\nb,one\n')
    # Line 1 header, 2 and 3 item a, 4 empty, 5 item b.
    assert [table.where(row) for row in (0, 1)] == ["counts.csv line 2", "counts.csv line 5"]


def test_a_row_of_a_parquet_file_is_named_by_its_number():
    pa.parquet.write_table(pa.table({"item_id": ["a", "b"]}), "counts.parquet")
    table = tables.read("counts.parquet", "counts")
    assert table.where(1, "item_id") == "counts.parquet row 2, column item_id"


def test_kept_rows_keep_their_places():
    table = read("item_id,clicks\na,1\nb,2\nc,3\n")
    kept = table.keep(np.array([False, True, True])).keep(np.array([False, True]))
    assert columns(kept)["item_id"] == ["c"]
    assert kept.where(0) == "counts.csv line 4"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "item_id,clicks\na,1\nb\n",
            "counts.csv line 3: 1 fields, but the header of the counts table has 2; put quotes "
            "around a value that contains a comma or a line break",
        ),
        (
            'item_id,title\na,"two\nlines"\nb,no, quotes\n',
            "counts.csv line 4: 3 fields, but the header of the counts table has 2; put quotes "
            "around a value that contains a comma or a line break",
        ),
        ("", "counts.csv is not a readable CSV file (counts table): it is empty"),
        ("item_id,clicks\n", "counts.csv: the counts table has no rows"),
    ],
)
def test_a_csv_file_that_cannot_be_read_is_refused(text, said):
    assert sentence(read, text) == said


def test_a_column_that_is_there_twice_is_refused_where_it_is_needed():
    table = read("item_id,item_id,clicks,\na,b,3,\n")
    assert columns(table) == {"clicks": ["3"]}
    assert sentence(table.need, "item_id", "item_column") == (
        "counts.csv has two columns named 'item_id'; rename one (named by --item_column)"
    )


def test_text_of_another_encoding_is_refused_where_it_is_needed():
    table = read("item_id,title\na,b\nb,café\n".encode("latin-1"))
    assert table.need("item_id", "item_column").to_pylist() == ["a", "b"]
    assert sentence(table.need, "title", "texts") == (
        "counts.csv line 3, column title: not UTF-8 text; set its encoding, such as "
        "--text_set=encoding=gbk or latin-1"
    )


def test_the_first_bytes_decide_what_a_file_is():
    assert columns(read("item_id,clicks\na,1\n", file="counts.parquet"))["item_id"] == ["a"]


def test_columns_that_not_all_files_have_are_refused_where_they_are_needed():
    read("item_id,clicks\na,1\n", file="0.csv")
    read("views,item_id\n2,b\n", file="1.csv")
    table = tables.read("*.csv", "counts")
    assert columns(table) == {"item_id": ["a", "b"]}
    assert sentence(table.need, "clicks", "denominator") == (
        "1.csv has no column 'clicks', but 0.csv has (named by --denominator)"
    )


def test_a_key_that_one_json_file_lacks_is_refused_where_it_is_needed():
    read('{"item_id": "a", "clicks": 1}\n{"item_id": "b"}\n', file="0.jsonl")
    assert columns(tables.read("0.jsonl", "counts"))["clicks"] == ["1", ""]
    read('{"item_id": "c"}\n', file="1.jsonl")
    table = tables.read("*.jsonl", "counts")
    assert columns(table) == {"item_id": ["a", "b", "c"]}
    assert sentence(table.need, "clicks", "denominator") == (
        "1.jsonl has no column 'clicks', but 0.jsonl has (named by --denominator)"
    )


def test_a_key_that_comes_late_is_a_column(monkeypatch):
    monkeypatch.setattr(json_rows, "SAMPLE_ROWS", 1)
    late = '{"item_id": "a"}\n{"item_id": "b", "clicks": 1}\n'
    assert columns(read(late, file="0.jsonl"))["clicks"] == ["", "1"]
    read('{"item_id": "c", "clicks": 2}\n', file="1.jsonl")
    assert columns(tables.read("*.jsonl", "counts"))["clicks"] == ["", "1", "2"]


def test_a_place_without_a_table_is_refused(here):
    (here / "empty").mkdir()
    assert sentence(tables.read, "none.csv", "items") == (
        "none.csv: no such file, directory or glob pattern (--items)"
    )
    assert sentence(tables.read, "empty", "items") == (
        "empty: no file of a table in this directory (--items)"
    )


def test_a_missing_column_names_the_nearest():
    table = read("item_id,click,shares\na,1,0\n")
    assert sentence(table.need, "clicks", "denominator") == (
        "counts.csv has no column 'clicks' (named by --denominator); it has item_id, click, shares"
        ". Did you mean click?"
    )


def test_a_header_of_another_encoding_shows_what_it_is_read_as():
    table = read("item_id,catégorie\na,b\n".encode("latin-1"))
    assert "it has item_id, cat\ufffdgorie" in sentence(table.need, "catégorie", "taxonomies")
