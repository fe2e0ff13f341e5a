"""The driver of the look at tables: its flagfile runs as it is, and a refusal names it."""

import pyarrow as pa
import pyarrow.parquet
import pytest

from mmnet import config, driver
from tests.inspection.generated import clean


@pytest.fixture
def tables(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    counts, items, _, _ = clean(7)
    for name, columns in (("counts", counts), ("items", items)):
        pa.parquet.write_table(pa.table(columns), f"{name}.parquet")
    return counts


def run(task, *arguments):
    return driver.run(
        getattr(config, f"{task.capitalize()}Config"),
        None,
        task,
        ["--counts=counts.parquet", "--items=items.parquet", *arguments],
    )


def test_its_flagfile_prepares_a_dataset_unedited(tables, capsys):
    assert run("inspect", "--output=flags.txt") == 0
    assert run("prepare", "--flagfile=flags.txt", "--dataset_dir=d") == 0
    assert "dataset: d" in capsys.readouterr().out


def test_it_reports_what_is_wrong_and_preparing_names_it(tables, capsys):
    tables["shares"][3] = tables["clicks"][3] + 1
    pa.parquet.write_table(pa.table(tables), "counts.parquet")
    assert run("inspect") == 0
    assert "the numerator is above its denominator in 1 of" in capsys.readouterr().out
    assert run("prepare", "--dataset_dir=d") == 1
    *_, before, error = capsys.readouterr().err.splitlines()
    assert (before.strip(), error.startswith("error: ")) == (driver.INSPECT, True)
    # A missing column is named by the refusal itself.
    assert run("prepare", "--dataset_dir=d", "--texts=titel") == 1
    assert driver.INSPECT not in capsys.readouterr().err
