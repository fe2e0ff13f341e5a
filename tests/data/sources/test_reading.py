import gzip
import itertools

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmnet.checks import InputError
from mmnet.config import TableFlags
from mmnet.data import table_files
from mmnet.data.sources import reading
from mmnet.data.sources.reading import Scan, Totals, Vectors
from mmnet.data.tables import Table


def scan(path, text, *, columns=("id", "n"), **how):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Scan([path], columns, "log", **how)


def rows(found):
    return [tuple(row.values()) for batch in found for row in batch.data.to_pylist()]


def sentence(found):
    with pytest.raises(InputError) as caught:
        list(found)
    return str(caught.value)


RAGGED = (
    " but the header of the log table has 2; put quotes around a value that contains a comma or a "
    "line break"
)
HEADERLESS = {"names": ("id", "n", "other"), "delimiter": "\t", "types": {"n": pa.int64()}}


@pytest.mark.parametrize(
    "text",
    [
        "id,other,n\n007,x,1\n8,,2\n",
        "\ufeffid,other,n\n007,x,1\n8,,2\n",  # byte order mark
        "id,other,n\r\n007,x,1\r\n8,,2\r\n",  # Windows
        "id,other,n\n007,x,1\nid,other,n\n8,,2",  # two files joined, no line break at the end
        "id , other , n\n007,x,1\n\n8,,2\n",
        'id,other,n\n"007",x,1\n8,"",2\n',
    ],
    ids=["plain", "bom", "windows", "repeated header", "spaces and an empty line", "quotes"],
)
def test_reads_what_publishers_write(tmp_path, text):
    found = scan(tmp_path / "log.csv", text)
    assert rows(found) == [("007", "1"), ("8", "2")]
    assert (found.rows, found.repeated_headers) == (2, text.count("other") - 1)
    assert found.rule().dropped == found.repeated_headers


def test_reads_several_files_compressed_and_parquet(tmp_path):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"id,n\n1,2\n"))
    pa.parquet.write_table(pa.table({"n": [4], "id": [3]}), tmp_path / "b.parquet")
    found = Scan(sorted(tmp_path.iterdir()), ("id", "n"), "log")
    assert rows(found) == [("1", "2"), (3, 4)]


def test_keeps_quoted_line_breaks_where_a_file_has_them(tmp_path):
    found = scan(tmp_path / "log.csv", 'id,n\n1,"a\nb"\n2,"c\r\nd"\n3,e\n')
    table = found.whole()
    assert table.data["n"].to_pylist() == ["a\nb", "c\r\nd", "e"]
    assert table.where(2).endswith("log.csv line 6")


def test_names_rows_of_joined_files_by_file_and_line(tmp_path):
    (tmp_path / "a.csv").write_text("id,n\n1,1\nid,n\n2,2\n")
    (tmp_path / "b.csv").write_text("id,n\n3,3\n")
    table = Scan([tmp_path / "a.csv", tmp_path / "b.csv"], ("id", "n"), "log").whole()
    assert [table.where(row).rpartition("/")[2] for row in range(3)] == [
        "a.csv line 2",
        "a.csv line 4",
        "b.csv line 2",
    ]


def test_a_file_without_a_header_names_its_lines_too(tmp_path):
    found = scan(tmp_path / "log.txt", "a\t1\tx\nb\t2\ty\n", **HEADERLESS)
    (batch,) = found
    assert [batch.where(row).rpartition(" ")[2] for row in range(2)] == ["1", "2"]


@pytest.mark.parametrize(
    ("text", "how", "message"),
    [
        (
            "id,m\n1,2\n",
            {},
            "{} has no column 'n' (named by --source_set=log); it has id, m",
        ),
        ("", {}, "{} has no column 'id' (named by --source_set=log); it has nothing in it"),
        ("id\tm\n1\t2\n", {}, "{}: its columns are separated by tabs, but commas are expected"),
        ("id,n\n1,2\n1,2,3\n", {}, "{} line 3: 3 fields," + RAGGED),
        ("id,n\n1,2\n1\n", {}, "{} line 3: 1 fields," + RAGGED),
        ("id,n", {}, "{}: the log table has no rows"),
        (
            "id,n,n\n1,2,3\n",
            {},
            "{} has two columns named 'n'; rename one (named by --source_set=log)",
        ),
        (
            b"id,n\n\xff,2\n",
            {},
            "{} line 2, column id: not UTF-8 text; set its encoding, such as "
            "--text_set=encoding=gbk or latin-1",
        ),
        (
            "1,2,3\n",
            HEADERLESS,
            "{} line 1: its columns are separated by commas, but tabs are expected",
        ),
        (
            "id\tn\tother\n1\t2\t3\n",
            HEADERLESS,
            "{} line 1: unexpected header line; remove it",
        ),
        ("1\t2\n", HEADERLESS, "{} line 1: 2 fields, but 3 are expected (id, n, other)"),
        ("a\t2\t3\na\t2\n", HEADERLESS, "{} line 2: 2 fields, but 3 are expected (id, n, other)"),
        (
            "a\t2\t3\nb\ttwo\t3\n",
            HEADERLESS,
            "{} line 2, column n: must be a whole number. Received: 'two'",
        ),
        ("", HEADERLESS, "{}: the log table has no rows"),
    ],
)
def test_says_what_came_and_what_was_expected(tmp_path, text, how, message):
    threads = pa.cpu_count()
    for number in (threads, 1):  # Arrow's own words depend on it
        pa.set_cpu_count(number)
        try:
            found = scan(tmp_path / "log.csv", text, **how)
            assert sentence(found) == message.format(tmp_path / "log.csv")
        finally:
            pa.set_cpu_count(threads)


@pytest.mark.parametrize("how", [{}, HEADERLESS])
def test_a_damaged_file_is_named(tmp_path, how):
    path = tmp_path / "log.csv.gz"
    assert sentence(scan(path, b"\x1f\x8b, and then no gzip", **how)).startswith(
        f"{path} is not a readable CSV file (log table): zlib inflate failed"
    )


def test_an_open_quote_in_the_header_is_shown_in_part(tmp_path):
    path = tmp_path / "log.csv"
    wrong = sentence(scan(path, b'"id,n\n' + 40_000 * b"1,2\n"))
    assert wrong.startswith(
        f"{path} has no column 'id' (named by --source_set=log); it has id,n\\n1"
    )
    assert len(wrong) < len(str(path)) + 200


def test_the_first_bytes_decide_what_a_file_is(tmp_path):
    found = scan(tmp_path / "log.parquet", "id,n\n7,1\n").whole()
    assert found.data.to_pydict() == {"id": ["7"], "n": ["1"]}


def test_a_missing_file_is_answered_with_what_there_is(tmp_path):
    def missing():
        with pytest.raises(InputError) as caught:
            reading.find(tmp_path, "user_action.csv", "actions")
        return str(caught.value)

    start = f"{tmp_path}/user_action.csv: no such file (--source_set=actions); "
    assert missing() == start + "the directory has no files"
    (tmp_path / "user_actions.csv").touch()
    hint = "the directory has user_actions.csv. Did you mean user_actions.csv?"
    assert missing() == start + hint
    (tmp_path / "user_action.csv.zip").touch()
    assert missing() == start + "unpack user_action.csv.zip first"


def test_an_optional_file_may_be_absent_under_its_usual_name_only(tmp_path):
    assert reading.optional(tmp_path, "side.csv", "side.csv", "side") == []
    assert reading.optional(tmp_path, None, "side.csv", "side") == []
    with pytest.raises(InputError, match=r"sied.csv: no such file \(--source_set=side\)"):
        reading.optional(tmp_path, "sied.csv", "side.csv", "side")


def test_whole_numbers_are_read_however_they_are_written():
    table = Table(pa.table({"n": ["3", " 4 ", "5.0", ""], "label": ["1", "0", "2", ""]}), "log")

    def read(batch, column="n", **how):
        return reading.whole_numbers(batch, column, "log", what="a count", **how)

    assert read(table, allow_empty=True).to_pylist() == [3, 4, 5, None]
    with pytest.raises(InputError, match=r"^log table row 4, column n: a count must not be empty$"):
        read(table)
    wrong = Table(pa.table({"n": ["3", "", "-1"]}), "log")
    with pytest.raises(InputError, match=r"^log table row 3, column n: a count must be a whole"):
        read(wrong, allow_empty=True)
    with pytest.raises(InputError, match=r"row 3, column label: a label must be 0 or 1\. Received"):
        reading.zero_or_one(table, "label", "log", allow_empty=True)


def test_a_column_to_count_is_the_named_one_or_the_default():
    def chosen(name, default="forward"):
        return reading.chosen(
            "numerator",
            name,
            contract="shares",
            option="behaviour",
            default=default,
            columns=("forward", "like"),
        )

    assert chosen("shares") == "forward"
    assert chosen("like") == "like"
    with pytest.raises(InputError, match=r"^--numerator=lke: no such .* Did you mean like\?$"):
        chosen("lke")
    with pytest.raises(InputError, match=r"^--source_set=behaviour=likes: no such column"):
        chosen("shares", "likes")


def test_a_second_row_of_a_key_must_say_the_same():
    table = Table(pa.table({"id": ["a", "b", "a"], "tags": [["x"], [], ["x"]]}), "items")
    kept, rule = reading.one_row_each(table, "id", "items")
    assert kept.data["id"].to_pylist() == ["a", "b"]
    assert rule.dropped == 1
    other = Table(pa.table({"id": ["a", "b", "a"], "tags": [["x"], [], ["y"]]}), "items")
    with pytest.raises(
        InputError, match=r"^items table row 3, column id: duplicate id 'a', with other"
    ):
        reading.one_row_each(other, "id", "items")


@given(
    rows=st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(1, 3), st.none() | st.integers(-9, 9)),
        min_size=1,
        max_size=40,
    ),
    cuts=st.lists(st.integers(0, 40), max_size=4),
    at_once=st.integers(1, 10),
)
def test_totals_are_those_of_all_rows_at_once(rows, cuts, at_once):
    frame = pd.DataFrame(rows, columns=["item", "period", "value"]).astype({"value": "Int64"})
    totals = Totals(["item", "period"], {"value": "sum", "low": "min"}, at_once=at_once)
    edges = sorted({0, len(frame), *(min(cut, len(frame)) for cut in cuts)})
    for start, end in itertools.pairwise(edges):
        part = pa.Table.from_pandas(
            frame[start:end].assign(low=frame["value"]), preserve_index=False
        )
        totals.add(part.set_column(2, "value", part["value"].cast(pa.int64())))
    grouped = frame.groupby(["item", "period"], as_index=False)["value"]
    wanted = grouped.agg(value=lambda v: v.sum(min_count=1), low="min")
    found = totals.table().to_pandas().astype({"value": "Int64", "low": "Int64"})
    pd.testing.assert_frame_equal(found, wanted.astype({"value": "Int64", "low": "Int64"}))


def test_vectors_are_filled_up_and_the_first_of_an_item_counts():
    vectors = Vectors("video", 3)
    lists = pa.array([[1.0, 2.0], [], [3.0, 4.0, 5.0], [9.0, 9.0, 9.0]], pa.list_(pa.float32()))
    vectors.add(pa.chunked_array([["a", "b", "c", "a"]]), lists, str)
    table, ledger = vectors.table(TableFlags())
    assert table.data.to_pydict() == {
        "item_id": ["a", "c"],
        "vector": [[1.0, 2.0, 0.0], [3.0, 4.0, 5.0]],
    }
    assert [rule.dropped for rule in ledger] == [1, 1]
    assert ledger[0].note == "1 shorter ones were padded with zeros"
    with pytest.raises(InputError, match=r"^row 0: a vector of 4 numbers, but 3 are expected$"):
        vectors.add(pa.chunked_array([["d"]]), pa.array([[0.0] * 4]), lambda row: f"row {row}")


def test_no_vectors_make_an_empty_table():
    table, _ = Vectors("video", 3).table(TableFlags())
    assert len(table) == 0


def test_padding_keeps_every_number():
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 5, 50)
    rows = [rng.normal(size=n).astype("float32").tolist() for n in lengths]
    wanted = [row + [0.0] * (4 - len(row)) if row else [] for row in rows]
    assert reading.padded(pa.array(rows, pa.list_(pa.float32())), lengths, 4).to_pylist() == wanted


def test_rows_are_the_same_in_any_number_of_batches(tmp_path, monkeypatch):
    text = "id,other,n\n" + "".join(f"{row},x,{row}\nid,other,n\n" for row in range(100))
    whole = scan(tmp_path / "log.csv", text).whole()
    monkeypatch.setattr(table_files, "BLOCK_BYTES", 64)
    batches = list(scan(tmp_path / "log.csv", text))
    assert len(batches) > 10
    assert rows(batches) == rows([whole])
    places = [batch.where(row) for batch in batches for row in range(len(batch))]
    assert places == [whole.where(row) for row in range(len(whole))]
    assert places[-1] == f"{tmp_path}/log.csv line 200"
