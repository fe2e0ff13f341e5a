"""Other engines, by the example of SQLite; and engines read nothing that was not named."""

import importlib.util
import shutil
import sqlite3

import duckdb
import numpy as np
import pandas as pd
import pytest

from mmnet.checks import InputError
from mmnet.config import TableFlags
from mmnet.data import engines, input_tables

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
        **{"engine": engine, "events": events, "items": "items.csv", "unknown_items": "drop"} | more
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


# ------------------------------------------------------------------------ closed by default


@pytest.fixture
def warehouse(log, tmp_path):
    """A DuckDB file from elsewhere that tries to read a file of this machine."""
    (tmp_path / "private.txt").write_text("a private line")
    private = f"(SELECT content FROM read_text('{tmp_path}/private.txt'))"
    with duckdb.connect("logs.db") as con:
        con.execute(f"CREATE VIEW leak AS SELECT {private} AS item_id, 3 AS timestamp, 1 AS shares")
        con.execute("CREATE TABLE plays AS FROM 'events.parquet'")
        con.execute(f"CREATE MACRO epoch_us(at) AS length({private})")
    return "duckdb://logs.db"


def test_a_view_of_a_warehouse_reads_no_file(warehouse):
    said = "--events=leak: the engine cannot read it: .* add .enable_external_access=true to --eng"
    with pytest.raises(InputError, match=said):
        counted(warehouse, "leak", denominator="events", time_unit="index")
    opened = f"{warehouse}?enable_external_access=true"
    with pytest.raises(InputError, match="item 'a private line' is not in the items table"):
        counted(opened, "leak", denominator="events", time_unit="index", unknown_items="fail")


def test_files_are_read_without_what_a_warehouse_defines(warehouse):
    rows, _ = counted(warehouse, "events.parquet")
    others, _ = counted("duckdb://", "events.parquet")
    pd.testing.assert_frame_equal(rows, others)


def test_duckdb_loads_no_extension_and_its_settings_are_locked(warehouse, tmp_path):
    for engine, events in (("duckdb://", "events.parquet"), (warehouse, "plays")):
        flags = TableFlags(engine=engine, events=events)
        with engines.connected(flags, tmp_path / "spill") as opened:
            settings = dict(opened.backend.con.sql(SETTINGS).fetchall())
            assert (settings.pop("enable_external_access") == "false") == (engine == warehouse)
            assert set(settings.values()) == {"false"}
            with pytest.raises(duckdb.Error, match="the configuration has been locked"):
                opened.backend.con.sql("SET autoload_known_extensions = true")


SETTINGS = """
SELECT name, value FROM duckdb_settings() WHERE name IN ('enable_external_access',
'autoinstall_known_extensions', 'autoload_known_extensions', 'allow_community_extensions')
"""


@pytest.mark.parametrize("url", ["https://h/log.csv", "s3://b/log.parquet", "file:///log.csv"])
@pytest.mark.parametrize("engine", ["duckdb://", "pyspark://", "sqlite://log.db"])
def test_events_far_away_need_a_flag(tmp_path, engine, url):
    flags = TableFlags(engine=engine, events=url)
    with (
        pytest.raises(InputError, match=f"--events={url} is not on this machine"),
        engines.connected(flags, tmp_path / "spill"),
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_with_the_flag_the_engine_reads_a_url(log, tmp_path):
    rows, _ = counted("duckdb://", f"file://{tmp_path}/events.parquet", allow_remote=True)
    others, _ = counted("duckdb://", "events.parquet")
    pd.testing.assert_frame_equal(rows, others)


def needs_spark(test):
    """Marks a test that starts a JVM."""
    missing = importlib.util.find_spec("pyspark") is None or shutil.which("java") is None
    skip = pytest.mark.skipif(missing, reason="needs PySpark (the extra spark) and Java 17")
    return pytest.mark.slow(skip(test))


HEADERS = {
    "i` STRING, `j": "item_id",
    "t`; DROP VIEW mmnet_events; --": "timestamp",
    'c"; DROP TABLE plays; --\u202e': "clicks",
    ".s'\\": "shares",
}
"""Column names that would be a statement, a type, a path or a variable in an engine's SQL."""
VARIABLE = "${spark.app.name}"
UNUSED = ["a\nb`c", VARIABLE, "*", "`", "x INT", "a.b", "\x1b[2J"]


@needs_spark
@pytest.mark.parametrize("kind", ["csv", "parquet", "csv by Spark", "parquet by Spark"])
def test_hostile_headers_are_names_and_nothing_else_in_spark(log, tmp_path, kind):
    found = pd.read_parquet("events.parquet")
    wanted, rules = counted("duckdb://", "events.parquet")
    renamed = found.rename(columns={name: hostile for hostile, name in HEADERS.items()})
    for name in UNUSED:
        renamed[name] = name
    form, _, far = kind.partition(" ")
    path = tmp_path / f"hostile.{form}"
    renamed.to_csv(path, index=False) if form == "csv" else renamed.to_parquet(path)
    item, time, clicks, shares = HEADERS
    pd.DataFrame({item: [str(n) for n in range(40)]}).to_csv("items.csv", index=False)
    rows, ledger = counted(
        "pyspark://?spark.sql.shuffle.partitions=2",
        f"file://{path}" if far else path.name,
        allow_remote=bool(far),
        item_column=item,
        time_column=time,
        denominator='"' + clicks.replace('"', '""') + '"',
        numerator=f'"{shares}"',
        engine_threads=2,
    )
    assert [rule.rows_out for rule in ledger] == [rule.rows_out for rule in rules]
    assert rows.to_numpy().tolist() == wanted.to_numpy().tolist()
    assert len(rows) > 500


@needs_spark
def test_spark_neither_replaces_variables_in_names_nor_reads_them_as_empty(log, tmp_path):
    renamed = pd.read_parquet("events.parquet").rename(columns={"shares": VARIABLE})
    renamed.to_parquet("hostile.parquet")
    spark = {"engine": "pyspark://?spark.sql.shuffle.partitions=2", "engine_threads": 2}
    with pytest.raises(InputError, match=r"column '\$\{spark\.app\.name\}': Spark cannot read"):
        counted(events="hostile.parquet", numerator=f'"{VARIABLE}"', **spark)
    with engines.connected(TableFlags(events="hostile.parquet", **spark), tmp_path) as opened:
        found = opened.session.sql(f"SELECT '{VARIABLE}' AS `{VARIABLE}`")
        assert found.columns == [found.first()[0]] == [VARIABLE]
