import numpy as np
import pyarrow as pa
import pyarrow.parquet

from mmnet.config import TableFlags
from mmnet.data import parquet
from mmnet.data.tables import Table
from mmnet.inspection import samples


def test_a_sample_has_rows_from_all_over_a_table_in_files(tmp_path):
    for part in range(4):
        rows = pa.table({"n": np.arange(1000 * part, 1000 * (part + 1))})
        pa.parquet.write_table(rows, tmp_path / f"{part}.parquet", row_group_size=100)
    found = samples.sample(parquet.open_table(str(tmp_path), "counts"), most=200)
    values = found.data["n"].to_numpy()
    assert len(values) <= 200
    assert set(values // 1000) == {0, 1, 2, 3}


def test_a_small_table_is_read_whole():
    assert len(samples.sample(Table(pa.table({"n": range(5)}), "items"))) == 5


def test_events_of_text_are_read_at_their_heads(tmp_path):
    for day in range(3):
        lines = "".join(f"v{row},{day}\n" for row in range(50))
        (tmp_path / f"{day}.csv").write_text(f"item_id,day\n{lines}")
    found = samples.sample_of_events(TableFlags(events=str(tmp_path)), most=30)
    assert found.data["day"].to_pylist() == ["0"] * 10 + ["1"] * 10 + ["2"] * 10


def test_all_rows_of_some_items():
    rows = Table(pa.table({"id": [1, 2, 1, 3], "n": [5, 6, 7, 8]}), "counts")
    assert samples.of_items(rows, "id", ["1", "3"], ["n"])["n"].to_pylist() == [5, 7, 8]
    assert samples.some_ids(rows, "id", 2) == ["1", "3"]
