"""What turning events into counts costs: this project's road beside SQL and pandas, in one run.

    python experiments/performance/events.py [--clicks=40000000] [--rounds=3] [--output=FILE]

All count the same Parquet file of simulated events by item and UTC day and write the counts as
Parquet, each in a process of its own, in turns, round by round. `mmnet` also checks every event
against its rules and keeps the ledger. `SQL` is the query as one would write it by hand for
DuckDB, `SQL, tuned` the same with days cut by whole numbers instead of by the calendar. The third
also has the sums that rules and ledger are made of: first and last time, and the events that can be
counted, in the same single pass; it is the least that counting with a ledger can cost. All have the
engine settings of `mmnet`. Seconds are those of a whole process, imports included, and beside
them those of the work alone; the peak is the most memory that the process had. The counts of all
must be the same, to the last share.
"""

import functools
import statistics
import sys
import tempfile
import time
from pathlib import Path

import bench

MEMORY, THREADS = "1GB", 2
SQL = """
    copy (
        select item_id, {day} as period, count(*) as clicks, sum(share)::bigint as shares{more}
        from read_parquet('{events}') group by all order by all
    ) to '{output}' (format parquet)
"""
TUNED = "date '1970-01-01' + (epoch_us(timestamp) // 86400000000)::integer"
LEDGER = """,
        min(epoch_us(timestamp)) as first, max(epoch_us(timestamp)) as last,
        count(case when share >= 0 and share < 9007199254740992 then 1 end) as good
"""
QUERIES = {
    "SQL": ("timestamp::date", ""),
    "SQL, tuned": (TUNED, ""),
    "SQL, tuned, with the sums of the ledger": (TUNED, LEDGER),
}
GOALS = "Goals: wall ≤ 1.2 × SQL, tuned, peak ≤ 2 GB, faster than pandas at half its peak or less."


def write_events(path: Path, *, clicks: int, items: int, days: int) -> Path:
    """Simulated events as one Parquet file, and the ids of the items beside it."""
    import pyarrow.parquet

    from mmnet.data.sources import simulated

    simulation = simulated.simulate(items=items, periods=days, clicks=clicks)
    pyarrow.parquet.write_table(simulation.items.select(["item_id"]), path.with_name("items"))
    writer = None
    for batch in simulated.events(simulation):
        writer = writer or pyarrow.parquet.ParquetWriter(path, batch.schema)
        writer.write_batch(batch)
    writer.close()
    return path


def count_by_mmnet(events: str, output: str):
    """The road of mmnet, from the events to the file of counts."""
    import pyarrow.parquet

    from mmnet.config import TableFlags, TaskFlags
    from mmnet.data import events as road

    yield
    flags = TableFlags(
        events=events,
        numerator="share",
        denominator="events",
        engine_memory=MEMORY,
        engine_threads=THREADS,
    )
    ids = pyarrow.parquet.read_table(Path(events).with_name("items"))["item_id"].to_numpy()
    for rule in road.count(flags, TaskFlags(), ids, Path(output)):
        print(f"  {rule.rule}: {rule.rows_in:,} in, {rule.dropped:,} dropped", file=sys.stderr)


def count_by_sql(events: str, output: str, day: str, more: str):
    """One query in DuckDB."""
    import duckdb

    yield
    settings = {"memory_limit": MEMORY, "threads": THREADS, "preserve_insertion_order": False}
    settings["temp_directory"] = str(Path(output).parent / "spill")
    with duckdb.connect(config=settings) as connection:
        connection.execute("set timezone = 'UTC'")
        connection.execute(SQL.format(events=events, output=output, day=day, more=more))


def count_by_pandas(events: str, output: str):
    """A group-by in memory."""
    import pandas as pd

    yield
    frame = pd.read_parquet(events)
    frame["period"] = frame["timestamp"].dt.floor("D")
    groups = frame.groupby(["item_id", "period"])["share"].agg(clicks="size", shares="sum")
    groups.reset_index().to_parquet(output)


def work(variant: str, events: str, output: str) -> None:
    """Runs one variant in this process; prints its work's seconds and the process's peak in GB."""
    if variant == "mmnet":
        steps = count_by_mmnet(events, output)
    elif variant == "pandas":
        steps = count_by_pandas(events, output)
    else:
        steps = count_by_sql(events, output, *QUERIES[variant])
    next(steps)
    start = time.perf_counter()
    next(steps, None)
    seconds = time.perf_counter() - start
    # Not `ru_maxrss`: a child begins with that of its parent.
    status = Path("/proc/self/status").read_text()
    peak = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    print(seconds, int(peak) * 1024 / 1e9)


def measured(variant: str, events: Path, output: Path) -> tuple[float, float, float, float]:
    """Wall seconds of a process, of its work, its CPU seconds, and its peak memory in GB."""
    flags = (f"--variant={variant}", f"--file={events}", f"--output={output}")
    done = bench.run(__file__, *flags, cwd=events.parent, quiet=False)
    seconds, peak = map(float, done.output.split()[-2:])
    return done.wall, seconds, done.cpu, peak


def counts_of(path: Path):
    """Counts as a table with one form for all variants."""
    import pyarrow as pa
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    table = table.select(table.column_names[:4]).rename_columns(
        ["item_id", "period", "clicks", "shares"]
    )
    kinds = (pa.string(), pa.date32(), pa.int64(), pa.int64())
    columns = [column.cast(kind) for column, kind in zip(table.columns, kinds, strict=True)]
    table = pa.table(columns, names=table.column_names)
    return table.sort_by([("item_id", "ascending"), ("period", "ascending")]).combine_chunks()


def main():
    """Runs the benchmark and prints its table."""
    sizes = {"clicks": 40_000_000, "items": 35_000, "days": 60}
    options = bench.options(__doc__, **sizes, rounds=3, variant=bench.HIDDEN, file=bench.HIDDEN)
    if options.variant:
        work(options.variant, options.file, options.output)
        return
    variants = ("mmnet", *QUERIES, "pandas")
    with tempfile.TemporaryDirectory() as directory:
        events = Path(directory, "events.parquet")
        write_events(events, **{name: getattr(options, name) for name in sizes})
        outputs = {variant: Path(directory, f"{variant}.parquet") for variant in variants}
        calls = {name: functools.partial(measured, name, events, outputs[name]) for name in outputs}
        rounds = bench.turns(calls, options.rounds)
        found = {name: list(zip(*spent, strict=True)) for name, spent in rounds.items()}
        wanted, *others = map(counts_of, outputs.values())
        for variant, counts in zip(variants[1:], others, strict=True):
            if not counts.equals(wanted):
                raise SystemExit(f"the counts of {variant} are not those of mmnet")
        bytes_read = events.stat().st_size

    import duckdb
    import ibis
    import pandas as pd
    import pyarrow.compute as pc

    lines = [
        "# Events to counts",
        "",
        f"`python experiments/performance/events.py --clicks={options.clicks} "
        f"--rounds={options.rounds}`: {options.clicks:,} simulated events "
        f"({bytes_read / 1e6:.0f} MB of Parquet), {options.items:,} items, {options.days} days, "
        f"{bench.cores()} cores, DuckDB {duckdb.__version__} with {MEMORY} and {THREADS} threads, "
        f"Ibis {ibis.__version__}, pandas {pd.__version__}. Median (least to most).",
        "",
        "| variant | wall s | of these, work s | CPU s | peak GB | its wall / mmnet wall |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for variant, columns in found.items():
        ratios = bench.ratios(columns[0], found["mmnet"][0])
        lines.append(f"| {variant} | {' | '.join(map(bench.spread, [*columns, ratios]))} |")
    wall, *_, peak = (
        {name: statistics.median(columns[i]) for name, columns in found.items()} for i in range(4)
    )
    sums = " and ".join(f"{pc.sum(wanted[name]).as_py():,} {name}" for name in ("clicks", "shares"))
    times = ", ".join(f"{wall['mmnet'] / wall[v]:.2f} × {v}" for v in variants[1:])
    lines += [
        "",
        f"- Every variant wrote the same {wanted.num_rows:,} rows: {sums}.",
        f"- Wall of mmnet: {times}. Peak: {peak['mmnet']:.2f} GB, "
        f"{peak['mmnet'] / peak['pandas']:.2f} × pandas.",
        f"- {GOALS}",
    ]
    bench.publish(lines, options.output)


if __name__ == "__main__":
    main()
