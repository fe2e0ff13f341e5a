"""Engines other than DuckDB and Spark, by the example of SQLite: the same counts, or a sentence."""

import sqlite3

import numpy as np
import pandas as pd
import pytest

from mmnet.checks import InputError
from mmnet.config import TableFlags
from mmnet.data import input_tables

EVENTS, DAYS = 3000, 20


@pytest.fixture
def log(tmp_path, monkeypatch):
    """The same events in a Parquet file and in a table of a SQLite database."""
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    seconds = draw.integers(0, DAYS * 86_400, EVENTS)
    events = pd.DataFrame(
        {
            "item_id": draw.integers(0, 50, EVENTS).astype(str),
            "timestamp": pd.Timestamp("2024-01-01") + pd.to_timedelta(seconds, unit="s"),
            "clicks": draw.integers(1, 4, EVENTS),
            "shares": draw.integers(0, 2, EVENTS),
        }
    )
    events.to_parquet("events.parquet")
    with sqlite3.connect("log.db") as database:
        events.to_sql("plays", database, index=False, dtype={"timestamp": "TIMESTAMP"})
    database.close()
    items = [str(item) for item in range(40)]  # events of ten more are left out
    pd.DataFrame({"item_id": items}).to_csv("items.csv", index=False)


def counted(engine, events, **more):
    flags = TableFlags(
        engine=engine, events=events, items="items.csv", unknown_items="drop", **more
    )
    found = input_tables.load_tables(flags)
    rows = pd.concat(piece.data.to_pandas() for piece in found.counts.pieces(EVENTS))
    return rows, found.ledger


def test_sqlite_counts_as_duckdb_does(log):
    rows, ledger = counted("duckdb://", "events.parquet")
    others, other_ledger = counted("sqlite://log.db", "plays")
    assert len(rows) > 500
    pd.testing.assert_frame_equal(rows, others)
    assert ledger == other_ledger


@pytest.mark.parametrize(
    ("engine", "events", "more", "sentence"),
    [
        ("sqlite://log.db", "events", {}, "events"),
        ("sqlite://log.db", "plays", {"time_column": "tiem"}, "no column 'tiem'"),
        ("sqlite://no/log.db", "plays", {}, "--engine=sqlite://... does not answer"),
    ],
)
def test_what_is_not_in_the_database_is_one_sentence(log, engine, events, more, sentence):
    with pytest.raises(InputError, match=sentence) as error:
        counted(engine, events, **more)
    assert "\n" not in str(error.value)
