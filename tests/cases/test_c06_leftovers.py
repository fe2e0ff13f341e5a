"""What other programs leave in a folder is not data; a table format with a log is refused."""

import shutil
from pathlib import Path

import pytest

from tests.cases import worlds

FLAGS = ("--items=items.csv", worlds.TAXONOMIES, *worlds.COUNTED)


@pytest.fixture
def table():
    worlds.joined(worlds.items()).to_csv("items.csv", index=False)
    return worlds.events()


def test_a_copy_that_jupyter_left_is_skipped_and_counted(drives, table):
    Path("log/.ipynb_checkpoints").mkdir(parents=True)
    for day, part in table.groupby(table["timestamp"].dt.date):
        part.to_csv(f"log/log-{day}.csv", index=False)
    shutil.copy("log/log-2024-03-06.csv", "log/.ipynb_checkpoints/log-2024-03-06-checkpoint.csv")
    worlds.holds(drives.made("--events=log", *FLAGS), worlds.of_events(table))
    assert drives.rule("events files:").endswith(": 15 in, 1 dropped")


def test_the_remains_of_a_failed_attempt_are_skipped_and_counted(drives, table):
    attempt = Path("log/_temporary/0/_temporary/attempt_202403_0001_m_000000_0")
    attempt.mkdir(parents=True)
    table.to_parquet("log/part-00000-c000.snappy.parquet")
    table[:300].to_parquet(attempt / "part-00000-c000.snappy.parquet")
    worlds.holds(drives.made("--events=log", *FLAGS), worlds.of_events(table))
    assert drives.rule("events files:").endswith(": 2 in, 1 dropped")


def delta(table):
    half = len(table) // 2
    Path("log/_delta_log").mkdir(parents=True)
    table[:half].to_parquet("log/part-0-old.parquet")
    table[half:].to_parquet("log/part-1-old.parquet")
    table.to_parquet("log/part-0-compacted.parquet")
    Path("log/_delta_log/00000000000000000000.json").write_text(
        '{"add":{"path":"part-0-old.parquet"}}\n{"add":{"path":"part-1-old.parquet"}}\n'
    )
    Path("log/_delta_log/00000000000000000001.json").write_text(
        '{"remove":{"path":"part-0-old.parquet"}}\n{"remove":{"path":"part-1-old.parquet"}}\n'
        '{"add":{"path":"part-0-compacted.parquet"}}\n'
    )


def hudi(table):
    Path("log/.hoodie").mkdir(parents=True)
    table.to_parquet("log/one.parquet")


def iceberg(table):
    Path("log/metadata").mkdir(parents=True)
    Path("log/data").mkdir()
    Path("log/metadata/v1.metadata.json").write_text("{}")
    table.to_parquet("log/data/one.parquet")


@pytest.mark.parametrize("write", [delta, hudi, iceberg])
def test_a_table_format_with_a_log_is_refused_by_name(drives, table, write):
    write(table)
    said = drives.refused("--events=log", *FLAGS)
    assert said.startswith(f"log is a {write.__name__.title()} table, whose log lists its current")
    assert "(--events)" in said
