"""The pass over the items: the same files in any number of threads, and the sums of training."""

import functools

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmnet.config import TableFlags, TaskFlags
from mmnet.data import counts, input_tables, pipeline, taxonomies
from mmnet.serving import first_pass

ITEMS, PERIODS, WINDOW = 90, 12, 3


@pytest.fixture(scope="module", params=["items", "clicks"])
def tables(request, tmp_path_factory):
    """Tables in three files of several row groups each, and what is fitted on them."""
    place, draws = tmp_path_factory.mktemp("tables"), np.random.default_rng(0)
    item, period = np.nonzero(draws.random((ITEMS, PERIODS)) < 0.7)
    clicks = draws.integers(1, 90, len(item))
    order = draws.permutation(len(item))
    columns = {
        "item_id": pa.array([f"i{one}" for one in item]).take(order),
        "period": period[order],
        "clicks": clicks[order],
        "shares": (clicks // 3)[order],
    }
    tags = [
        [f"t{tag}" for tag in draws.integers(0, 40, draws.integers(0, 4))] for _ in range(ITEMS)
    ]
    catalogue = {
        "item_id": [f"i{one}" for one in range(ITEMS)],
        "category": [None if one % 7 == 0 else f"c{one % 5}" for one in range(ITEMS)],
        "tags": tags,
    }
    for name, table in {"counts": pa.table(columns), "items": pa.table(catalogue)}.items():
        (place / name).mkdir()
        size = -(-len(table) // 3)
        for part in range(3):
            rows = table.slice(part * size, size)
            pq.write_table(rows, place / name / f"{part}.parquet", row_group_size=size // 2)
    flags = TableFlags(
        counts=str(place / "counts"),
        items=str(place / "items"),
        taxonomies=("category", "tags"),
        shard_items=7,
    )
    weighting = request.param
    task = TaskFlags(
        window=WINDOW, min_target_clicks=1, min_test_rows=1, taxonomy_weighting=weighting
    )
    found = input_tables.load_tables(flags, task)
    return flags, pipeline.prepare(found, flags, task).fitted


def survey(tables, directory, threads):
    flags, fitted = tables
    directory.mkdir()
    found = input_tables.open_tables(flags)
    ledger = first_pass.survey(found, fitted, "", directory, threads=threads)
    return ledger, {path.name: path.read_bytes() for path in directory.iterdir()}


def test_threads_write_what_one_process_does(tables, tmp_path):
    assert survey(tables, tmp_path / "one", 1) == survey(tables, tmp_path / "three", 3)


def fit_apart(tables):
    """The sums as training makes them: column by column."""
    flags, fitted = tables
    found = input_tables.open_tables(flags)
    counted = counts.count(found.counts, found.items, flags, fitted.task, calendar=fitted.calendar)
    panel = counted.panel().columns(PERIODS - WINDOW, PERIODS)
    whole = found.items.read()
    shards = functools.partial(lambda column: [(panel, whole)])
    return taxonomies.fit(fitted.spec.taxonomies, fitted.task, WINDOW, shards, 1), whole


@pytest.mark.parametrize("limit", ["int64", "halves"])
def test_sums_and_members_are_those_of_training(tables, tmp_path, monkeypatch, limit):
    if limit == "halves":  # as if the sums were too large for int64
        monkeypatch.setattr(taxonomies, "fits", lambda largest: largest.shape[1] > WINDOW)
    survey(tables, tmp_path / "survey", 2)
    wanted, whole = fit_apart(tables)
    names, task = tables[1].spec.taxonomies, tables[1].task
    for one, other in zip(
        taxonomies.load(names, task, WINDOW, tmp_path / "survey"), wanted, strict=True
    ):
        assert one.sums.any()
        for name in taxonomies.SUMS:
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        assert one.sums.shape[1] == (2 * WINDOW if limit == "halves" else WINDOW)
        places = np.array([0, 80, 17, 7])
        rows, values = one.of_items.of(places)
        part = whole.keep(np.isin(np.arange(ITEMS), places))  # in the order of the table
        by_item = taxonomies.members(part, other.column, dict(other.numbers))
        order = np.argsort(places)
        for row, place in enumerate(order):
            of_row = by_item[1][by_item[0] == row]
            np.testing.assert_array_equal(values[rows == place], of_row)
