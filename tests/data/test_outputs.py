import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmnet.checks import InputError
from mmnet.data.outputs import write_tables


def test_tables_are_written_one_after_another_once_the_file_can_be(tmp_path):
    path = tmp_path / "new" / "scores.parquet"

    def parts():
        assert path.parent.is_dir()
        yield pa.table({"item_id": ["a"], "score": [1.5]})
        yield pa.table({"item_id": ["b", "c"], "score": [2.5, 3.5]})

    assert write_tables(parts(), path, "output") == path
    assert pq.read_table(path).to_pydict() == {"item_id": ["a", "b", "c"], "score": [1.5, 2.5, 3.5]}
    assert [one.name for one in path.parent.iterdir()] == ["scores.parquet"]


def test_a_place_that_cannot_be_written_is_refused_before_a_table_is_made(tmp_path):
    asked = []
    tables = map(asked.append, [pa.table({"a": [1]})])
    path = tmp_path / f"{240 * 'a'}.parquet"  # too long a name once it waits for the rename
    with pytest.raises(InputError, match=r"^--output=.*: File name too long$"):
        write_tables(tables, path, "output")
    assert not asked


def test_a_file_that_cannot_be_written_is_named_with_its_flag(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"^--ranking_features=.*file/a.parquet: Not a directory$"):
        write_tables([pa.table({"a": [1]})], tmp_path / "file" / "a.parquet", "ranking_features")
