"""What does not fit is refused before it is taken, with a sentence that names the way out."""

import gzip
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmnet.checks import InputError
from mmnet.config import TableFlags, TaskFlags
from mmnet.data import arrays, budgets, counts, parquet, tables, taxonomies
from mmnet.data.calendars import Calendar
from mmnet.data.counts import Panel
from mmnet.data.sources import simulated
from mmnet.data.tables import Table


def refused(function, *arguments, **more):
    with pytest.raises(InputError) as caught:
        function(*arguments, **more)
    return str(caught.value)


def enough_but_for(megabytes, monkeypatch):
    monkeypatch.setenv(budgets.VARIABLE, f"{megabytes}MB")


OR_MORE = ", or use a machine with more memory (if this limit is wrong, set MMNET_MEMORY=64GB)"

# ------------------------------------------------------------------------ what there is


def test_the_lowest_limit_of_a_process_and_its_groups_counts(tmp_path):
    own = tmp_path / "cgroup"
    own.write_text("0::/jobs/one\n")
    for group, limit in (("", "max"), ("jobs", "2000\n"), ("jobs/one", "3000\n")):
        (tmp_path / group).mkdir(exist_ok=True)
        (tmp_path / group / "memory.max").write_text(limit)
    assert sorted(budgets._control_groups(own, tmp_path)) == [2000, 3000]
    own.write_text("12:cpu,cpuacct:/a\n7:memory:/docker/x\n")
    (tmp_path / "memory/docker/x").mkdir(parents=True)
    (tmp_path / "memory/docker/x/memory.limit_in_bytes").write_text("4096\n")
    assert list(budgets._control_groups(own, tmp_path)) == [4096]
    assert list(budgets._control_groups(tmp_path / "none", tmp_path)) == []


def test_a_stated_limit_counts(monkeypatch):
    assert 1 << 20 < budgets.memory() < 1 << 50
    monkeypatch.setenv(budgets.VARIABLE, "2 GiB")
    assert budgets.memory() == 2 << 30
    monkeypatch.setenv(budgets.VARIABLE, "much")
    assert refused(budgets.memory) == ("MMNET_MEMORY must be a size such as 64GB. Received: 'much'")


# ------------------------------------------------------------------ items, periods, values


def count(periods, items, borders=None):
    columns = {"item_id": ["i0", "i0"], "period": [0, periods - 1], "clicks": [1, 1]}
    found = Table(pa.table(columns | {"shares": [0, 0]}), "counts")
    catalogue = Table(pa.table({"item_id": [f"i{i}" for i in range(items)]}), "items")
    return counts.count(found, catalogue, TableFlags(), TaskFlags(), borders=borders)


def test_items_times_periods_are_estimated(monkeypatch):
    enough_but_for(1000, monkeypatch)
    # 2,000 items in 20,000 periods, of 33 bytes each.
    assert refused(count, 20_000, 2000, [0, 2000]) == (
        "counts table: 20,000 periods of 2,000 items need about 1.23 GB of memory, but only "
        "1000 MB are available; make --period wider, or start later with --first_period, or set "
        "a smaller --shard_items" + OR_MORE
    )
    assert count(20_000, 2000, [0, 1000, 2000]).num_periods == 20_000
    # Shards that are not given are divided: 2 ** 24 cells have 838 items.
    assert count(20_000, 2000).borders.tolist() == [0, 838, 1676, 2000]


def test_an_array_of_all_items_is_estimated(monkeypatch):
    enough_but_for(1, monkeypatch)
    assert refused(arrays.in_memory, "history", (1000, 200, 3), "float32") == (
        "1,000 rows of 'history' need about 2.29 MB of memory, but only 1 MB are available; make "
        "--period wider, or start later with --first_period" + OR_MORE
    )


def test_an_array_in_a_file_counts_against_the_disk(monkeypatch, tmp_path):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage._replace(free=1 << 20))
    enough_but_for(0, monkeypatch)  # memory does not matter
    assert refused(arrays.new_array, tmp_path, "clicks", (1000, 200), "int64") == (
        f"1,000 rows of 'clicks' need 1.53 MB on the disk of {tmp_path.parent}, but only 1 MB are "
        "free; free some space, make --period wider, or start later with --first_period, or choose "
        "another directory"
    )
    assert not list(tmp_path.iterdir())
    assert not arrays.new_array(tmp_path, "clicks", (100, 200), "int64").any()


@pytest.mark.parametrize(
    ("megabytes", "said"),
    [
        (  # 20,000 pairs in 1,000 periods, of 48 bytes each
            100,
            "the means of 20,000 values that an item has of taxonomy 'tags', in 1,000 periods, "
            "need about 916 MB of memory, but only 100 MB are available; make --period wider, or "
            "start later with --first_period, or leave it out of --taxonomies",
        ),
        (  # the sums of 20,000 values, of 16 bytes each
            100,
            "the sums of 20,000 values of taxonomy 'tags' in 1,000 periods need about 305 MB of "
            "memory, but only 100 MB are available; make --period wider, or start later with "
            "--first_period, or leave it out of --taxonomies",
        ),
    ],
)
def test_values_times_periods_are_estimated(megabytes, said, monkeypatch):
    clicks = np.ones((1, 1000), np.int64)
    release = np.zeros(1, np.int64)
    one = Panel(np.arange(1), clicks, clicks, release, Calendar(kind="integer"), 0)
    items = Table(pa.table({"tags": [list(map(str, range(20_000)))]}), "items")
    enough_but_for(megabytes, monkeypatch)
    if "sums" in said:  # many shards of few pairs each pass the first check
        monkeypatch.setattr(taxonomies, "PAIR_BYTES", 0)
    task = TaskFlags()
    found = refused(taxonomies.fit, ["tags"], task, 1000, lambda _: [(one, items)], 1)
    assert found == said + OR_MORE


def test_a_simulated_log_is_estimated(monkeypatch):
    enough_but_for(1, monkeypatch)
    said = refused(simulated.simulated, None, TableFlags(), items=10**12, periods=10)
    assert said.startswith("--source_set: 1,000,000,000,000 items in 10 periods need about 146 TB")


# ------------------------------------------------------------------------------- files


def test_a_compressed_file_is_refused_as_it_grows(monkeypatch, tmp_path):
    path = tmp_path / "items.csv.gz"
    with gzip.open(path, "wb") as file:
        file.write(b"item_id,n\n" + b"aaaa,1\n" * 1_000_000)
    assert len(tables.read(str(path), "items")) == 1_000_000
    enough_but_for(2, monkeypatch)
    said = refused(tables.read, str(path), "items")
    assert said.startswith(
        f"{path}: its rows, {budgets.shown(path.stat().st_size)} in the file, need about "
    )
    assert said.endswith(
        "but only 2 MB are available; convert the table to Parquet, which is read in chunks for "
        "counts, items and vectors" + OR_MORE
    )


def test_a_parquet_file_is_refused_by_its_footer(monkeypatch, tmp_path):
    path = tmp_path / "items.parquet"
    columns = {"item_id": ["a"] * 1_000_000, "n": [1] * 1_000_000, "yes": [True] * 1_000_000}
    pa.parquet.write_table(pa.table(columns), path)
    assert len(tables.read(str(path), "items")) == 1_000_000
    enough_but_for(10, monkeypatch)
    # 4 + 1 bytes of text, 8 and 1 bytes a row.
    assert refused(tables.read, str(path), "items").startswith(
        f"{path}: its 1,000,000 rows, {budgets.shown(path.stat().st_size)} in the file, need about "
        "13.4 MB of memory, but only 10 MB are available; read fewer rows"
    )


LISTS = pa.list_(pa.string())
words = st.none() | st.text("ab", max_size=9)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(words, st.lists(words, max_size=3)), min_size=1, max_size=30),
    st.integers(1, 12),
    st.booleans(),
    st.integers(1, 300),
)
def test_repeated_texts_are_estimated_as_often_as_they_are_there(rows, group, packed, limit):
    texts, lists = zip(*rows, strict=True)
    table = pa.table({"t.x": pa.array(texts, pa.string()), "l": pa.array(lists, LISTS)})
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "items.parquet")
        pa.parquet.write_table(table, path, row_group_size=group, use_dictionary=packed)
        footer = pa.parquet.read_metadata(path)
        parts = [(number, 1.0) for number in range(footer.num_row_groups)]
        found = budgets._text_bytes(path, footer, parts, ["t.x", "l"], limit)
        every = sum(len(one or "") for text, many in rows for one in (text, *many))
        # What surely fits is not looked at.
        assert found == (every if packed else 0) or (found == 0 and every <= limit)


@pytest.mark.parametrize("kind", [pa.string(), LISTS, pa.map_(pa.string(), pa.string())])
def test_a_column_that_repeats_a_long_text_is_refused_before_it_is_read(
    kind, monkeypatch, tmp_path
):
    one = {"string": "x" * 10_000, "list": ["x" * 10_000]}
    value = one.get(str(kind).partition("<")[0], [("k", "x" * 10_000)])
    path = tmp_path / "items.parquet"
    many = pa.array([value] * 5000, kind)
    pa.parquet.write_table(pa.table({"item_id": range(5000), "t": many}), path)
    assert path.stat().st_size < 100_000
    enough_but_for(10, monkeypatch)
    assert " need about 47." in refused(tables.read, str(path), "items")
    opened = parquet.open_table(str(path), "items")
    assert " need about 47." in refused(opened.read)
    said = refused(list, opened.pieces(5000, {"t": "texts"}))
    assert said.startswith(f"{path}: 5,000 rows of t need about 47.7 MB of memory, but only")
    assert len(next(opened.pieces(500, {"t": "texts"}))) == 500  # in small pieces it fits
