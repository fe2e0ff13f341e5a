import pyarrow as pa
import pyarrow.parquet

from mmnet.config import InspectConfig
from mmnet.tasks.inspecting import inspect
from tests.inspection.generated import clean


def test_the_flagfile_is_written_or_printed(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, columns in zip(("counts", "items"), clean(7)[:2], strict=True):
        pa.parquet.write_table(pa.table(columns), f"{name}.parquet")
    tables = {"counts": "counts.parquet", "items": "items.parquet"}
    inspect(InspectConfig(**tables, output="flags.txt"))
    told = capsys.readouterr().out
    assert told.endswith("flagfile: flags.txt\n")
    written = (tmp_path / "flags.txt").read_text("utf-8")
    assert "--item_column=item_id" in written
    inspect(InspectConfig(**tables))
    assert capsys.readouterr().out.endswith(written)
