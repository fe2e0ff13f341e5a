"""Delta tables: only the newest version counts, whatever old files lie there."""

import datetime
import importlib.util
import json

import pyarrow as pa
import pytest

from mmnet.checks import InputError
from mmnet.data import table_paths, tables

deltalake = pytest.importorskip("deltalake")

TABLE = pa.table(
    {
        "item_id": ["a", "b", "c d%"],
        "clicks": [1, 2, 3],
        "day": [datetime.date(2024, 5, 1), None, datetime.date(2024, 5, 2)],
        "place": ["x y", "z/=é", None],
    }
)


def refused(place):
    with pytest.raises(InputError) as caught:
        table_paths.find(str(place), "counts")
    return str(caught.value)


@pytest.mark.parametrize("by", [[], ["day"], ["day", "place"]])
def test_only_the_newest_version_is_read_with_its_partition_columns(tmp_path, by):
    place = tmp_path / "table"
    deltalake.write_deltalake(place, TABLE.slice(0, 2), partition_by=by)
    deltalake.write_deltalake(place, TABLE, mode="overwrite", partition_by=by)
    deltalake.DeltaTable(place).delete("item_id = 'b'")
    found = tables.read(str(place), "counts").data.sort_by("item_id")
    assert found["item_id"].to_pylist() == ["a", "c d%"]
    assert found["clicks"].to_pylist() == [1, 3]
    days = [str(one) for one in found["day"].to_pylist()]
    assert days == ["2024-05-01", "2024-05-02"]
    assert [one or "" for one in found["place"].to_pylist()] == ["x y", ""]
    skipped = table_paths.found(str(place), "counts").skipped
    assert {path.suffix for path in skipped} == {".parquet"}


def test_a_log_that_cannot_be_followed_is_refused(tmp_path, monkeypatch):
    place = tmp_path / "table"
    (place / "_delta_log").mkdir(parents=True)
    log = place / "_delta_log" / "00000000000000000000.json"
    log.write_text('{"add":{"path":"part-0.parquet"}}\n')
    assert " is a Delta table, whose log lists its current files, but the log cannot be read: " in (
        refused(place)
    )
    deltalake.write_deltalake(tmp_path / "set", TABLE)
    for path in (tmp_path / "set").glob("*.parquet"):
        path.unlink()
    assert "lists a file that does not exist: " in refused(tmp_path / "set")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install 'mmnet[lakehouse]' (--counts)" in refused(place)


def test_features_that_the_files_do_not_show_are_refused(tmp_path):
    place = tmp_path / "table"
    deltalake.write_deltalake(place, TABLE)
    features = ["columnMapping", "deletionVectors"]
    protocol = {"minReaderVersion": 3, "minWriterVersion": 7}
    protocol |= {"readerFeatures": features, "writerFeatures": features}
    next_log = place / "_delta_log" / "00000000000000000001.json"
    next_log.write_text(json.dumps({"protocol": protocol}) + "\n")
    assert "is a Delta table with columnMapping, deletionVectors, which" in refused(place)


def test_a_table_within_another_directory_is_not_mixed_with_it(tmp_path):
    deltalake.write_deltalake(tmp_path / "all" / "table", TABLE)
    said = refused(tmp_path / "all")
    assert said.endswith("does not read here; name its own directory alone, or export the table "
                         "as plain Parquet (--counts)")  # fmt: skip
