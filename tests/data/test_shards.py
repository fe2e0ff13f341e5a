"""One road: however many shards the items are cut into, the same dataset, byte by byte."""

import pyarrow.parquet as pq
import pytest

from mmnet import config, tasks
from mmnet.config import PrepareConfig, TableFlags
from mmnet.data import input_tables
from mmnet.flags import build, parse

ITEMS = 5000
SIMULATED = (
    "--source=simulated",
    f"--source_set=items={ITEMS}",
    "--source_set=periods=14",
    "--source_set=clicks=400000",
)
COLUMNS = (
    "--taxonomies=category,tags",
    "--categoricals=author",
    "--numerics=duration",
    "--texts=title",
    "--release=release",
    "--window=4",
    "--min_target_clicks=20",
)


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """The simulated log as Parquet files, its rows in another order than the items."""
    directory = tmp_path_factory.mktemp("tables")
    found = input_tables.load_tables(build(TableFlags, given(*SIMULATED)))
    pq.write_table(found.items.data, directory / "items.parquet")
    pq.write_table(
        found.vectors["cover"].data[::-1], directory / "cover.parquet", row_group_size=999
    )
    counts = found.counts.data.sort_by([("shares", "descending"), ("period", "ascending")])
    (directory / "counts").mkdir()
    for part in range(3):
        rows = counts.slice(part * 15_000, 15_000 if part < 2 else None)
        pq.write_table(rows, directory / "counts" / f"{part}.parquet", row_group_size=4000)
    return directory


def given(*flags):
    parsed = parse(PrepareConfig, [*flags, *COLUMNS])
    return {name: getattr(parsed, name) for name in config.TABLES}


def prepared(directory, *flags):
    arguments = [*COLUMNS, *flags, f"--dataset_dir={directory}"]
    tasks.prepare(parse(PrepareConfig, arguments))
    files = [path for path in directory.rglob("*") if path.is_file()]
    return {path.name: path.read_bytes() for path in files}


@pytest.mark.parametrize("means", ["leave_one_out", "paper"])
def test_the_number_of_shards_changes_no_byte(tables, tmp_path, means):
    flags = [
        f"--counts={tables / 'counts'}",
        f"--items={tables / 'items.parquet'}",
        f"--vectors=cover:{tables / 'cover.parquet'}",
        f"--taxonomy_mean={means}",
    ]
    one = prepared(tmp_path / "one", *flags, f"--shard_items={ITEMS}")
    many = prepared(tmp_path / "many", *flags, "--shard_items=613")
    assert {"history.npy", "clicks.npy", "tensor-vector_cover.npy", "dataset.json"} <= set(one)
    assert one == many


def test_tables_in_files_and_in_memory_make_the_same_arrays(tables, tmp_path):
    memory = prepared(tmp_path / "memory", *SIMULATED, "--shard_items=2000")
    files = prepared(
        tmp_path / "files",
        f"--counts={tables / 'counts'}",
        f"--items={tables / 'items.parquet'}",
        f"--vectors=cover:{tables / 'cover.parquet'}",
        "--shard_items=700",
    )
    arrays = {name for name in files if name.endswith(".npy")}
    assert len(arrays) > 12
    assert {name: memory[name] for name in arrays} == {name: files[name] for name in arrays}
