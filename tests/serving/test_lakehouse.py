"""Scores in a Delta table: a partition per period, replaced in one commit."""

import datetime
import importlib.util
import threading

import pyarrow as pa
import pyarrow.parquet
import pytest

from mmnet import driver
from mmnet.checks import InputError
from mmnet.config import PredictConfig
from mmnet.data import table_paths
from mmnet.serving import lakehouse

deltalake = pytest.importorskip("deltalake")

DAY, NEXT = datetime.date(2026, 1, 2), datetime.date(2026, 1, 3)


def scores(period, *rates, **more):
    ids = [f"i{n}" for n in range(len(rates))]
    columns = {"item_id": ids, "period": [period] * len(rates), "rate": list(rates)}
    return pa.table(columns | {name: [value] * len(rates) for name, value in more.items()})


def read(place):
    """Pairs of period and rate, and the whole table."""
    table = pa.table(deltalake.DeltaTable(place).to_pyarrow_table())
    pairs = zip(table["period"].to_pylist(), table["rate"].to_pylist(), strict=True)
    return sorted(pairs), table


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (DAY, NEXT),
        (3, 4),
        (datetime.datetime(2026, 1, 2, 3), datetime.datetime(2026, 1, 2, 4)),
    ],
    ids=["days", "numbers", "hours"],
)
def test_a_period_is_replaced_and_the_others_stay(tmp_path, one, other):
    place = str(tmp_path / "new" / "scores")
    lakehouse.write([scores(one, 1.0), scores(one, 2.0)], place, "1")
    lakehouse.write([scores(other, 3.0)], place, "1")
    lakehouse.write([scores(one, 4.0)], place, "2")
    pairs, table = read(place)
    assert pairs == [(one, 4.0), (other, 3.0)]
    versions = dict(zip(table["rate"].to_pylist(), table["model_version"].to_pylist(), strict=True))
    assert versions == {4.0: "2", 3.0: "1"}
    assert table.schema.field("scored_at").type == pa.timestamp("us", tz="UTC")
    assert deltalake.DeltaTable(place).version() == 2
    assert lakehouse.place_of(place) == place  # from now on also without the prefix
    assert len(table_paths.find(place, "items")) == 2  # the files of the newest version, for us too


def test_a_write_that_fails_leaves_the_rows_of_before(tmp_path):
    place = str(tmp_path)
    lakehouse.write([scores(DAY, 1.0)], place, "1")

    def parts():
        yield scores(DAY, 2.0)
        raise InputError("the tables break a rule")

    with pytest.raises(InputError):
        lakehouse.write(parts(), place, "1")
    assert read(place)[0] == [(DAY, 1.0)]


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (scores(DAY, 1.0, decision="keep"), "has no column 'decision', which these scores have"),
        (scores(DAY, 1.0).drop(["rate"]), "has a column 'rate', which these scores do not have"),
    ],
    ids=["more columns", "fewer columns"],
)
def test_other_columns_are_refused(tmp_path, table, told):
    lakehouse.write([scores(DAY, 1.0)], str(tmp_path), "1")
    with pytest.raises(InputError, match=told):
        lakehouse.write([table], str(tmp_path), "1")
    assert read(str(tmp_path))[0] == [(DAY, 1.0)]


def test_of_two_writers_of_a_period_one_is_refused(tmp_path):
    place = str(tmp_path)
    lakehouse.write([scores(DAY, 1.0)], place, "1")
    there = read(place)[1]

    def parts():
        yield scores(DAY, 2.0)
        # Another writer commits after this one has read the log; in a thread, since this generator
        # runs in one of the package's own.
        replaced = {"mode": "overwrite", "predicate": "period = '2026-01-02'"}
        other = threading.Thread(
            target=deltalake.write_deltalake, args=(place, there), kwargs=replaced
        )
        other.start()
        other.join()

    with pytest.raises(InputError, match="another process has changed the same period of this"):
        lakehouse.write(parts(), place, "1")
    assert read(place)[0] == [(DAY, 1.0)]


def test_what_is_no_table_of_scores_is_refused_before_anything_is_scored(tmp_path, monkeypatch):
    other = tmp_path / "other"
    deltalake.write_deltalake(str(other), scores(DAY, 1.0))
    full = tmp_path / "full"
    full.mkdir()
    (full / "notes.txt").touch()
    for place, told in (
        (str(full), "contains other files and no Delta table"),
        (str(full / "notes.txt"), "contains other files and no Delta table"),
        (str(other), "must be a Delta table that is partitioned by period"),
    ):
        with pytest.raises(InputError, match=told):
            lakehouse.check(place)
    with pytest.raises(InputError, match="names no table; write --output=delta:DIRECTORY"):
        lakehouse.place_of("delta:")
    lakehouse.check(str(tmp_path / "new"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'mmnet\[lakehouse\]'"):
        lakehouse.check(str(tmp_path / "new"))


def test_predict_writes_what_it_writes_to_a_file(run_dir, tmp_path, capsys):
    asked = [f"--saved_model={run_dir}/export", f"--dataset_dir={run_dir}/dataset"]
    place, file = tmp_path / "warehouse", tmp_path / "scores.parquet"
    for output in (f"delta:{place}", str(file)):
        flags = [*asked, f"--output={output}", "--rule=stored"]
        assert driver.run(PredictConfig, None, "predict", flags) == driver.OK
    found = pa.table(deltalake.DeltaTable(str(place)).to_pyarrow_table())
    wanted = pyarrow.parquet.read_table(file)
    by_item = [("item_id", "ascending")]
    assert found.select(wanted.column_names).sort_by(by_item) == wanted.sort_by(by_item)
    assert set(found["model_version"].to_pylist()) == {"1"}
    assert deltalake.DeltaTable(str(place)).metadata().partition_columns == ["period"]


def horizons(*rows):
    """Scores of one item: (horizon, period, rate) each."""
    horizon, period, rate = zip(*rows, strict=True)
    columns = {"item_id": ["i0"] * len(rows), "period": period, "horizon": horizon, "rate": rate}
    return pa.table(columns)


def test_a_horizon_of_a_period_is_replaced_and_its_other_horizons_stay(tmp_path):
    place = str(tmp_path / "scores")
    lakehouse.write([horizons((1, 7, 1.0), (2, 8, 2.0))], place, "1")
    lakehouse.write([horizons((1, 8, 3.0), (2, 9, 4.0))], place, "1")  # a period later
    lakehouse.write([horizons((1, 8, 5.0), (2, 9, 6.0))], place, "1")  # and once again
    pairs, _ = read(place)
    assert pairs == [(7, 1.0), (8, 2.0), (8, 5.0), (9, 6.0)]
    lakehouse.check(place, ["period", "horizon"])
    with pytest.raises(
        InputError, match=r"partitioned by period, so .*: partitioned by period, hor"
    ):
        lakehouse.check(place)


def test_a_first_block_without_any_item_loses_no_other(tmp_path):
    place = str(tmp_path / "scores")
    lakehouse.write([scores(3, 1.0)], place, "1")
    lakehouse.write([scores(3, 1.0).slice(0, 0), scores(3, 2.0)], place, "1")
    assert read(place)[0] == [(3, 2.0)]
