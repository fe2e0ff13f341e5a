import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmnet.checks import InputError
from mmnet.data import parquet, tables
from mmnet.data.tables import Table

LISTS = pa.list_(pa.int8())


def written(directory, *files, row_group_size=3):
    """Parquet files of some tables."""
    for number, columns in enumerate(files):
        path = directory / f"part-{number}.parquet"
        pq.write_table(pa.table(columns), path, row_group_size=row_group_size)
    return directory


@pytest.mark.parametrize("counted", [(3, 2), (3, 5), (2, 1), (9, 1)])
def test_a_footer_that_counts_other_rows_is_refused(tmp_path, counted):
    found = parquet.open_table(str(written(tmp_path, {"x": [1, 2, 3, 4]})), "counts")
    damaged = dataclasses.replace(found, groups=(counted,))  # 3 and 1 in truth
    with pytest.raises(InputError, match=r"part-0\.parquet .* has another row count than"):
        list(damaged.pieces(2))


def sentence(*arguments):
    with pytest.raises(InputError) as caught:
        list(parquet.open_table(*arguments).pieces(10))
    return str(caught.value)


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=4).filter(sum),
    st.integers(1, 4),
    st.integers(1, 12),
)
def test_pieces_are_the_rows_in_order_and_know_where_they_stand(tmp_path_factory, sizes, group, n):
    directory = tmp_path_factory.mktemp("table")
    ends = np.cumsum([0, *sizes])
    files = [
        {
            "x": pa.array(range(a, b), pa.int64()),
            "t": pa.array([[a]] * (b - a), LISTS),
        }
        for a, b in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)
    ]
    found = parquet.open_table(str(written(directory, *files, row_group_size=group)), "counts")
    pieces = list(found.pieces(n, {"x": "flag"}))
    assert len(found) == sum(sizes)
    assert [value for piece in pieces for value in piece.data["x"].to_pylist()] == list(
        range(sum(sizes))
    )
    assert all(1 <= len(piece) <= n and piece.names == ["x"] for piece in pieces)
    # A block has n rows or more, unless its file ends; the pieces of blocks are those of the whole.
    blocks = found.blocks(n)
    again = [piece for block in blocks for piece in found.pieces(n, None, [block])]
    assert [piece.places.tolist() for piece in again] == [piece.places.tolist() for piece in pieces]
    for piece in pieces:
        row, place = int(piece.data["x"][0].as_py()), piece.where(0, "x")
        file = int(np.searchsorted(ends, row, side="right")) - 1
        assert place == f"{directory}/part-{file}.parquet row {row - ends[file] + 1}, column x"


@given(st.integers(1, 20), st.integers(1, 30))
def test_a_table_in_memory_has_the_same_pieces(rows, n):
    table = Table(pa.table({"x": list(range(rows))}), "counts")
    pieces = list(table.pieces(n))
    assert [value for piece in pieces for value in piece.data["x"].to_pylist()] == list(range(rows))
    assert [block.rows for block in table.blocks(n)] == [*tables.runs(slice(0, rows), n)]
    last = pieces[-1]
    assert last.where(len(last) - 1) == f"counts table row {rows}"


def test_batches_that_end_early_are_joined():
    batches = [pa.record_batch({"x": part}) for part in ([0, 1], [2], [3, 4, 5, 6, 7], [8])]
    found = [piece["x"].to_pylist() for piece in parquet._exactly(iter(batches), 4)]
    assert found == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]


def test_numbers_in_one_file_and_text_in_another_are_text(tmp_path):
    found = parquet.open_table(str(written(tmp_path, {"id": [1, 2]}, {"id": ["a"]})), "items")
    assert found.read().data["id"].to_pylist() == ["1", "2", "a"]


def test_csv_is_read_as_a_whole(tmp_path):
    (tmp_path / "items.csv").write_text("id\n007\n")
    found = parquet.open_table(str(tmp_path / "items.csv"), "items")
    assert isinstance(found, Table)
    assert found.data["id"].to_pylist() == ["007"]


def test_what_cannot_be_one_table_is_refused(tmp_path):
    (tmp_path / "a").mkdir()
    written(tmp_path / "a", {"x": [1]}, {"y": [1]})
    found = parquet.open_table(str(tmp_path / "a"), "items")
    with pytest.raises(
        InputError, match=r"part-1.parquet has no column 'x', but .*part-0.parquet has"
    ):
        next(found.pieces(1, {"x": "numerics"}))
    (tmp_path / "b").mkdir()
    written(tmp_path / "b", {"x": pa.array([], pa.int64())})
    assert sentence(str(tmp_path / "b"), "items").endswith("the items table has no rows")
    (tmp_path / "c.parquet").write_bytes(b"PAR1")
    assert "is not a readable Parquet file (items table)" in sentence(
        str(tmp_path / "c.parquet"), "items"
    )


def test_a_file_that_is_cut_off_is_refused(tmp_path):
    path = written(tmp_path, {"x": np.random.default_rng(0).random(10_000)}) / "part-0.parquet"
    content = bytearray(path.read_bytes())
    content[1000:3000] = bytes(2000)
    path.write_bytes(content)
    assert f"{path} is not a readable Parquet file (counts table)" in sentence(str(path), "counts")


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), "dictionary", pa.binary()])
def test_text_that_is_no_text_is_refused_with_its_row(tmp_path, kind):
    raw = pa.array(
        [b"a", b"caf\xe9", b"b"], pa.large_binary() if kind == pa.large_string() else None
    )
    column = raw if kind == pa.binary() else raw.view(pa.string() if kind == "dictionary" else kind)
    column = column.dictionary_encode() if kind == "dictionary" else column
    pq.write_table(pa.table({"id": [1, 2, 3], "t": column}), tmp_path / "t.parquet")
    wrong = "t.parquet row 2, column t: not UTF-8 text; write the file again"
    opened = parquet.open_table(str(tmp_path / "t.parquet"), "items")
    with pytest.raises(InputError, match=wrong):
        opened.read()
    assert next(opened.pieces(3, {"id": "item_column"})).data["id"].to_pylist() == [1, 2, 3]
    whole = tables.read(str(tmp_path / "t.parquet"), "items")
    with pytest.raises(InputError, match=wrong):
        whole.need("t", "texts")


BROKEN = pa.array([b"a", b"b", b"caf\xe9"], pa.binary()).view(pa.string())
ENDS = pa.array([0, 1, 3], pa.int32())
NESTED = {
    "list": pa.ListArray.from_arrays(ENDS, BROKEN),
    "large list": pa.LargeListArray.from_arrays(ENDS.cast(pa.int64()), BROKEN),
    "list of bytes": pa.ListArray.from_arrays(ENDS, BROKEN.view(pa.binary())),
    "list of lists": pa.ListArray.from_arrays(ENDS, pa.ListArray.from_arrays([0, 1, 2, 3], BROKEN)),
    "map": pa.MapArray.from_arrays(ENDS, ["x", "y", "z"], BROKEN),
    "struct": pa.StructArray.from_arrays([BROKEN], ["inside"])[1:],
}


@pytest.mark.parametrize("kind", NESTED)
def test_text_inside_of_values_is_checked_too(tmp_path, kind):
    path = str(tmp_path / "t.parquet")
    pq.write_table(pa.table({"id": [1, 2], "t": NESTED[kind]}), path)
    wrong = "t.parquet row 2, column t: not UTF-8 text; write the file again"
    opened, whole = parquet.open_table(path, "items"), tables.read(path, "items")
    with pytest.raises(InputError, match=wrong):
        opened.read()
    with pytest.raises(InputError, match=wrong):
        whole.need("t", "texts")
    first = whole.rows(slice(0, 1))
    assert len(first.need("t", "texts")) == 1  # nothing is wrong with that row


@pytest.mark.parametrize(
    "inner", [pa.binary(), pa.large_binary(), pa.dictionary(pa.int8(), pa.binary())]
)
def test_lists_of_bytes_are_lists_of_text(tmp_path, inner):
    path = str(tmp_path / "t.parquet")
    lists = pa.ListArray.from_arrays(ENDS, pa.array([b"a", "é".encode(), b"b"]).cast(inner))
    pq.write_table(pa.table({"t": lists}), path)
    for table in (parquet.open_table(path, "items").read(), tables.read(path, "items")):
        assert table.need("t", "texts").to_pylist() == [["a"], ["é", "b"]]
