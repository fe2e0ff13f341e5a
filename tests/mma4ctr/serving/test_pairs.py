import json

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmnet.checks import InputError
from mmnet.mma4ctr.serving import pairs

IDS = st.integers(0, 2**63 - 1)


def read(path, rows=pairs.PIECE_ROWS):
    """Pieces of a table of pairs."""
    return list(pairs.pieces(pairs.opened(str(path)), rows))


@given(
    files=st.lists(st.lists(st.tuples(IDS, IDS), max_size=9), min_size=1, max_size=3),
    kind=st.sampled_from(["parquet", "csv", "json"]),
    rows=st.integers(1, 10),
)
@settings(max_examples=40)
def test_pieces_are_the_rows_of_all_files_in_order(tmp_path_factory, files, kind, rows):
    place = tmp_path_factory.mktemp("pairs")
    wanted = [pair for file in files for pair in file]
    for number, file in enumerate(files):
        user, item = (np.array([pair[side] for pair in file], np.int64) for side in (0, 1))
        table = pa.table({"item_id": item, "user_id": user, "more": np.zeros(len(file))})
        path = place / f"{number}.{kind}"
        match kind:
            case "parquet":
                pyarrow.parquet.write_table(table, path, row_group_size=4)
            case "csv":
                pyarrow.csv.write_csv(table, path)
            case "json":
                lines = [json.dumps({"user_id": u, "item_id": i}) for u, i in file]
                path.write_text("\n".join(lines) + "\n")
    if not wanted or (kind == "json" and not all(files)):
        with pytest.raises(InputError, match=r"no rows|no column|empty"):
            read(place, rows)
        return
    found = read(place, rows)
    assert [*zip(*map(np.concatenate, zip(*found, strict=True)), strict=True)] == wanted
    if kind == "parquet":
        assert max(len(piece.user_id) for piece in found) <= rows
        assert pairs.number(pairs.opened(str(place))) == len(wanted)


def test_what_is_wrong_with_pairs_is_told(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("user_id,item_id\n1,2\nx,3\n")
    with pytest.raises(InputError, match=r"pairs.csv line 3, column user_id"):
        read(path)
    path.write_text("user,item_id\n1,2\n")
    with pytest.raises(InputError, match="has no column 'user_id'"):
        read(path)
    path.write_text("user_id,item_id\n")
    with pytest.raises(InputError, match="the pairs table has no rows"):
        read(path)
    with pytest.raises(InputError, match="--pairs not given"):
        read("")


def test_a_wrong_id_is_named_by_the_row_of_its_file_in_any_piece(tmp_path):
    for number, users in enumerate([["1", "2", "3"], ["4", "5", "1.5"]]):
        table = pa.table({"user_id": users, "item_id": [7, 8, 9]})
        pyarrow.parquet.write_table(table, tmp_path / f"{number}.parquet")
    with pytest.raises(InputError, match=r"1\.parquet row 3, column user_id.*Received: '1.5'"):
        read(tmp_path, rows=2)
