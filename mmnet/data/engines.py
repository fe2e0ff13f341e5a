"""Engines that count events: DuckDB in this process, Spark, or another Ibis backend by URL.

This file hides their differences; `events` defines what is computed.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import importlib.util
import os
import re
import sys
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa
import pyarrow.parquet

from mmnet import memory_limit
from mmnet.checks import InputError, did_you_mean, shown
from mmnet.config import TableFlags
from mmnet.console import Progress
from mmnet.credentials import redacted
from mmnet.data import table_files, table_paths
from mmnet.data.ledger import Rule
from mmnet.flags import expanded

if TYPE_CHECKING:
    import ibis.expr.types as ir

DEFAULT = "duckdb://"

ROWS_WRITTEN = 1 << 17
"""Number of rows in a row group of a Parquet file to write."""

SHOWN_AFTER_SECONDS = 5
"""Seconds after which a query shows its progress."""

INTERRUPTIBLE = ("duckdb", "pyspark")
"""Engines whose queries run in a separate thread, to show progress and to be interrupted."""

Result = TypeVar("Result")


@dataclass
class Engine:
    """A connection to an engine.

    Attributes:
        backend: backend of Ibis.
        name: duckdb, pyspark, ...
        session: Spark session, if any.
        owned: whether closing the connection ends the session.
    """

    backend: Any
    name: str
    session: Any = None
    owned: bool = False

    def run(self, work: Callable[[], Result], what: str) -> Result:
        """Runs a query, with a progress bar if it takes long.

        Raises:
            InputError: the engine cannot read its input, or has too little memory or disk.
        """
        if self.name not in INTERRUPTIBLE:  # others, like SQLite, may need the connection's thread
            with errors_explained(what):
                return work()
        with errors_explained(what), concurrent.futures.ThreadPoolExecutor(1) as pool:
            future = pool.submit(work)
            try:
                concurrent.futures.wait([future], timeout=SHOWN_AFTER_SECONDS)
                if not future.done():
                    self._show(future, what)
                return future.result()
            except KeyboardInterrupt:
                self._interrupt()
                raise

    def _show(self, future: concurrent.futures.Future[Any], what: str) -> None:
        with Progress(shown(what), silence=0) as progress:
            while not future.done():
                percent = self.backend.con.query_progress() if self.name == "duckdb" else -1
                if percent > 0:
                    progress.at(round(percent), 100)
                concurrent.futures.wait([future], timeout=0.2)

    def _interrupt(self) -> None:
        if self.name == "duckdb":
            self.backend.con.interrupt()
        if self.session is not None:
            self.session.sparkContext.cancelAllJobs()

    def computed(self, expression: ir.Table) -> ir.Table:
        """Computes an expression and keeps the result in the engine until the connection closes."""
        import ibis

        if self.backend.supports_temporary_tables and self.session is None:
            # Not `cache`, whose cleanup fails with sqlglot 30.
            return self.backend.create_table(ibis.util.gen_name("cells"), expression, temp=True)
        return expression.cache()

    def write_parquet(self, expression: ir.Table, output: Path) -> None:
        """Writes a result as a Parquet file, or for Spark as a directory of files."""
        if self.session is not None:
            # Spark resolves relative paths from the working directory in which it was started.
            self.backend.to_parquet(expression, output.absolute())
            return
        # Not the engine's own COPY, which would parse the file name as part of the SQL.
        batches = self.backend.to_pyarrow_batches(expression, chunk_size=ROWS_WRITTEN)
        with pa.parquet.ParquetWriter(output, batches.schema) as writer:
            for batch in batches:
                writer.write_batch(batch, row_group_size=ROWS_WRITTEN)

    def micros(self, time: ir.TimestampValue) -> ir.IntegerValue:
        """Returns microseconds since 1970 of a timestamp; one without a zone is read as UTC."""
        import ibis

        if self.name == "duckdb":  # faster than `epoch_seconds`, which does calendar arithmetic
            return _builtin("epoch_us", "int64", time)
        if self.name == "pyspark":
            return _builtin("unix_micros", "int64", time)
        return (time.epoch_seconds() * ibis.literal(1_000_000, "int64")).cast("int64")

    def timestamp(self, text: ir.StringValue) -> ir.TimestampValue:
        """Parses ISO 8601 text into a timestamp without a zone."""
        if self.name == "pyspark":
            return _builtin("to_timestamp_ntz", "timestamp", text)
        return text.cast("timestamp")

    def is_instant(self, table: Events, column: str) -> bool:
        """Checks whether a timestamp column has instants, rather than times of an unknown zone."""
        if self.session is None:
            return table.data[column].type().timezone is not None
        kinds = dict(self.session.table(table.name).dtypes)
        return kinds[column] == "timestamp"

    def close(self) -> None:
        """Closes the connection."""
        if self.owned:
            self.session.stop()
        elif self.session is None:
            with contextlib.suppress(Exception):
                self.backend.disconnect()


@dataclass
class Events:
    """The events table in an engine.

    Attributes:
        data: its expression, with the columns that are needed.
        name: name in the engine.
        origin: name in messages.
        rows: number of rows, if known.
        rules: what was detected about its files, for the ledger.
    """

    data: ir.Table
    name: str
    origin: str
    rows: int | None = None
    rules: tuple[Rule, ...] = ()

    def need(self, column: str, flag: str) -> ir.Value:
        """Returns a column that a flag names.

        Raises:
            InputError: the column does not exist.
        """
        table_files.need_column(self.origin, self.data.columns, column, flag)
        return self.data[column]


def _builtin(name: str, returns: str, argument: ir.Value) -> Any:
    """Calls a built-in function of the engine with one argument."""
    import ibis

    def function(argument): ...

    signature = ((argument.type(),), returns)
    return ibis.udf.scalar.builtin(function, name=name, signature=signature)(argument)


# ----------------------------------------------------------------------------- connecting


@contextlib.contextmanager
def connected(flags: TableFlags, scratch: Path) -> Iterator[Engine]:
    """Connects to the engine that `--engine` names.

    Args:
        flags: the flags of the engine.
        scratch: directory for temporary data, unless `--engine_spill` names one.

    Raises:
        InputError: the engine does not exist, or a package that it needs is not installed; or the
            events are remote, and `--allow_remote` is not set.
    """
    if is_remote(flags.events) and not flags.allow_remote:
        raise InputError(
            f"--events={flags.events} is not on this machine; download it and name the file, or "
            "set --allow_remote so that the engine reads it"
        )
    url = expanded(flags.engine or DEFAULT, "engine")
    if "://" not in url:
        raise InputError(
            f"--engine must be a URL: {DEFAULT}, duckdb://FILE, pyspark:// or that of another Ibis "
            f"backend. Received: {url!r}"
        )
    scheme = url.partition("://")[0]
    spill = Path(flags.engine_spill or scratch)
    try:
        spill.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--engine_spill={spill} cannot be created: {error.strerror}") from None
    connect = {"duckdb": _duckdb, "pyspark": _pyspark}.get(scheme, _other)
    import ibis

    engine = connect(url, flags, spill)
    fuse = ibis.options.sql.fuse_selects
    # Without fusing, each step is computed once; fused, it is repeated for each of its uses.
    ibis.options.sql.fuse_selects = False
    try:
        yield engine
    finally:
        ibis.options.sql.fuse_selects = fuse
        engine.close()


def _parts(url: str) -> tuple[str, dict[str, str]]:
    """Returns what follows `SCHEME://`, and the options after a question mark.

    >>> _parts("duckdb://log.db?threads=2&memory_limit=1GB")
    ('log.db', {'threads': '2', 'memory_limit': '1GB'})
    """
    place, _, query = url.partition("://")[2].partition("?")
    return place, dict(urllib.parse.parse_qsl(query))


_CLOSED = dict.fromkeys(
    ("autoinstall_known_extensions", "autoload_known_extensions", "allow_community_extensions"),
    False,
)
"""Settings with which DuckDB downloads no code."""


def _duckdb(url: str, flags: TableFlags, spill: Path) -> Engine:
    import duckdb
    import ibis

    database, options = _parts(url)
    if database and not Path(database).is_file():
        raise InputError(f"--engine={url}: no DuckDB file {database} exists")
    if is_remote(flags.events) or not flags.events or files_of(flags):
        database = ""  # views and macros of the warehouse must not affect the reading of files
    settings: dict[str, Any] = {
        "memory_limit": _memory(flags),
        "temp_directory": str(spill),
        # The counts are sorted when they are written; keeping the input's order costs memory.
        "preserve_insertion_order": False,
    }
    if flags.engine_threads:
        settings["threads"] = flags.engine_threads
    if not is_remote(flags.events):
        settings |= _CLOSED
    try:
        backend = ibis.duckdb.connect(
            database or ":memory:", read_only=bool(database), **settings | options
        )
        if database and "enable_external_access" not in options:
            # Its views read its own tables and no other file; the spilling goes on.
            backend.raw_sql("SET enable_external_access = false")
        backend.raw_sql("SET lock_configuration = true")
    except duckdb.Error as error:
        raise InputError(
            f"--engine={url} with --engine_memory={settings['memory_limit']}: {_first_line(error)}"
        ) from None
    return Engine(backend, "duckdb")


_SUBSTITUTE = "spark.sql.variable.substitute"
"""Spark's setting that replaces `${name}` in a statement, also in the name of a column, by another
setting or an environment variable."""


def _pyspark(url: str, flags: TableFlags, spill: Path) -> Engine:
    if importlib.util.find_spec("pyspark") is None:
        raise InputError("--engine=pyspark:// needs PySpark and Java 17: pip install mmnet[spark]")
    import ibis
    from pyspark.sql import SparkSession

    _, options = _parts(url)
    settings = {
        "spark.master": f"local[{flags.engine_threads or '*'}]",
        "spark.driver.memory": f"{_mebibytes(_memory(flags))}m",
        "spark.local.dir": str(spill),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }
    session = SparkSession.getActiveSession()
    owned = session is None
    if session is None:
        builder = SparkSession.builder.appName("mmnet")
        if (settings | options)["spark.master"].startswith("local"):
            # Else Python code on its executors would run on whatever the PATH finds first.
            os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        for name, value in (settings | options).items():
            builder = builder.config(name, value)
        try:
            session = builder.getOrCreate()
        except Exception as error:  # of many kinds: no Java, a wrong option, a master far away
            raise InputError(
                f"--engine={url}: Spark does not start: {_first_line(error)}"
            ) from None
        session.sparkContext.setLogLevel("ERROR")
    if _SUBSTITUTE not in options:
        session.conf.set(_SUBSTITUTE, "false")
    return Engine(ibis.pyspark.connect(session), "pyspark", session, owned)


def _mebibytes(memory: str) -> int:
    return max(512, memory_limit.size(memory, "--engine_memory") >> 20)


_LEAST = 64 << 20
"""Bytes that DuckDB needs to spill what it works on."""


def _memory(flags: TableFlags) -> str:
    """The memory of an engine: `--engine_memory`, or what `--memory` leaves for it.

    Raises:
        InputError: the engine may take more than the whole command.
    """
    if not flags.memory:
        return flags.engine_memory
    limit = memory_limit.size(flags.memory, "--memory")
    left = max(_LEAST, limit - memory_limit.private_bytes())
    if flags.engine_memory == TableFlags.model_fields["engine_memory"].default:
        return f"{max(_LEAST, left // 2) >> 20}MiB"
    asked = memory_limit.size(flags.engine_memory, "--engine_memory")
    if asked > limit:
        raise InputError(
            f"--engine_memory={flags.engine_memory} is above --memory={flags.memory}; lower it"
        )
    return f"{min(asked, left) >> 20}MiB"


def _other(url: str, flags: TableFlags, spill: Path) -> Engine:
    import ibis

    scheme = url.partition("://")[0]
    backends = sorted(point.name for point in ibis.util.backend_entry_points())
    if scheme not in backends:
        raise InputError(
            f"--engine={scheme}://... is not a known engine{did_you_mean(scheme, backends)}; use "
            f"{DEFAULT}, pyspark:// or another Ibis backend: {', '.join(backends)}"
        )
    try:
        backend = ibis.connect(url)
    except ImportError as error:
        raise InputError(
            f"--engine={scheme}://... needs a package that is not installed ({error}); "
            f"pip install 'ibis-framework[{scheme}]'"
        ) from None
    except Exception as error:  # each backend has its own
        raise InputError(f"--engine={scheme}://... does not answer: {_first_line(error)}") from None
    return Engine(backend, backend.name)


# --------------------------------------------------------------------------------- reading


def is_remote(events: str) -> bool:
    """Checks whether events are named by a URL, which only an engine can read."""
    return "://" in events


def files_of(flags: TableFlags) -> list[Path]:
    """Returns the files that `--events` names; none if it names a table or a remote URL.

    Raises:
        InputError: no file matches, and the engine has no tables of its own.

    >>> files_of(TableFlags(events="s3://bucket/events.parquet"))
    []
    """
    if is_remote(flags.events):
        return []
    try:
        return table_paths.find(flags.events, "events")
    except InputError:
        if (flags.engine or DEFAULT) == DEFAULT or Path(flags.events).exists():
            raise
        return []


def table_of(engine: Engine, name: str) -> Events:
    """Opens a table of the engine.

    Raises:
        InputError: the engine has no table of this name.
    """
    database, _, table = name.rpartition(".")
    try:
        data = engine.backend.table(table, database=database or None)
    except Exception as error:  # each backend has its own
        known: list[str] = []
        with contextlib.suppress(Exception):
            known = engine.backend.list_tables(database=database or None)
        if table in known:
            fix = ""
            if _is(error, "duckdb", "PermissionException"):
                fix = "; where it may read files, add ?enable_external_access=true to --engine"
            raise InputError(
                f"--events={name}: the engine cannot read it: {_first_line(error)}{fix}"
            ) from None
        raise InputError(
            f"--events={name}: no such file, directory, glob pattern or table of the engine "
            f"(available: {', '.join(sorted(known)) or 'none'}){did_you_mean(table, known)}"
        ) from None
    return Events(data, name, f"table {name}")


def far_away(engine: Engine, events: str) -> Events:
    """Opens remote files with the engine's own reader.

    Raises:
        InputError: the engine cannot read them.
    """
    url = expanded(events, "events")
    with errors_explained(f"reading {events}"):
        if Path(urllib.parse.urlparse(url).path).suffix in (".parquet", ".pq"):
            data, name = read_parquet(engine, [url])
        elif engine.session is not None:
            options = {"header": True, "multiLine": True, "quote": '"', "escape": '"'}
            frame = engine.session.read.csv([url], inferSchema=False, mode="FAILFAST", **options)
            data, name = _view(engine, frame)
        elif engine.name == "duckdb":
            data = engine.backend.read_csv([url], all_varchar=True, hive_partitioning=False)
            name = data.get_name()
        else:
            data = engine.backend.read_csv(url)
            name = data.get_name()
    return Events(data, name, redacted(events))


def read_parquet(engine: Engine, paths: Sequence[Path | str]) -> tuple[ir.Table, str]:
    """Reads Parquet files of the same columns into one expression, and returns its name too.

    File names are taken literally; a folder named day=1 adds no column; and binary columns are read
    as text.
    """
    if engine.session is not None:
        engine.session.conf.set("spark.sql.parquet.binaryAsString", "true")
        # Spark resolves relative paths from the working directory in which it was started.
        whole = [path if "://" in str(path) else Path(path).absolute() for path in paths]
        literal = [re.sub(r"([\\{}\[\]*?])", r"\\\1", str(path)) for path in whole]
        return _view(engine, engine.session.read.parquet(*literal))
    if engine.name == "duckdb":
        literal = [re.sub(r"([\[*?])", r"[\1]", str(path)) for path in paths]
        data = engine.backend.read_parquet(literal, hive_partitioning=False, binary_as_string=True)
    else:
        data = engine.backend.read_parquet([*map(str, paths)] if len(paths) > 1 else str(paths[0]))
    return data, data.get_name()


def _view(engine: Engine, frame: Any) -> tuple[ir.Table, str]:
    name = "mmnet_events"
    frame.createOrReplaceTempView(name)
    return engine.backend.table(name), name


# ---------------------------------------------------------------------------------- errors


@contextlib.contextmanager
def errors_explained(what: str) -> Iterator[None]:
    """Turns an engine's error about its input or its resources into one sentence."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if _is(error, "duckdb", "OutOfMemoryException"):
            raise InputError(
                f"{what}: the engine ran out of memory or disk space; raise "
                f"--engine_memory, or set --engine_spill to a directory with more space "
                f"({_first_line(error)})"
            ) from None
        if (
            _is(error, "duckdb", "Error")
            or _is(error, "pyspark.errors", "PySparkException")
            or _is(error, "py4j.protocol", "Py4JJavaError")
        ):
            raise InputError(f"{what}: the engine reports: {_first_line(error)}") from None
        raise


def _is(error: Exception, module: str, *names: str) -> bool:
    """Checks the class of an error by module and name, without importing the module."""
    loaded = sys.modules.get(module)
    return any(isinstance(error, getattr(loaded, name, ())) for name in names)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).strip().split("\n")]
    # For a mistake in a CSV file, DuckDB reports line, content and cause on three lines.
    return ", ".join(lines[: 3 if "CSV Error" in lines[0] else 1]).rstrip(".")
