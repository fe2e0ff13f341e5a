"""What scoring a catalogue costs, from Parquet to Parquet, and whether a killed job loses items.

    python experiments/performance/catalogue.py [--items=10000000] [--directory=DIR] [--output=FILE]

Simulates a catalogue (two taxonomies, six other categories, text and image vectors of 64 numbers
each, counts of the last six days), trains MMNet of the published size on its first items, and
scores all of them by `python -m mmnet.predict` in each of the ways below, with two processes of
one core. The first job is killed (SIGKILL, with all its processes) twice on the way and started
again. Rates are items over wall seconds of whole commands, interpreter start, first pass and
writing included; what a killed session had scored but not written is paid for again. Peak memory
is the largest sum over all processes of what each holds resident, mapped files counted in each,
sampled every .2 s. The first pass is that of the last session; one that was killed leaves its own
to the next.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import bench

FILE_ITEMS = 500_000
TRAIN_ITEMS = 20_000
DAYS, VECTOR = 6, 64
CATEGORIES = {
    "category": 40,
    "author": 50_000,
    "country": 60,
    "language": 30,
    "format": 5,
    "quality": 4,
    "source": 12,
}
TAGS = 2000
KILLS = (0.3, 0.7)
"""Shares of the blocks after which the first job is killed."""
GOALS = (
    "Goals: complete and without duplicates after two kills, peak ≤ 8 GB, float32 ≥ 15,000 "
    "items/s; static parts kept ≥ 1.5 × that, bfloat16 ≥ 3 × that where the processor has it."
)


def write_catalogue(directory: Path, items: int) -> None:
    """Items and counts as Parquet directories, and the tables of the first items by themselves."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    for name in ("items", "counts", "train"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    for number, start in enumerate(range(0, items, FILE_ITEMS)):
        stream = np.random.default_rng([7, number])
        size = min(FILE_ITEMS, items - start)
        ids = pa.array([f"item{n:08d}" for n in range(start, start + size)])
        columns = {"item_id": ids}
        effect = np.full(size, -2.5)
        for name, values in CATEGORIES.items():
            drawn = np.minimum(stream.zipf(1.3, size), values) - 1
            effect += 0.3 * np.sin(drawn)
            columns[name] = bench.words(name, values, drawn)
        lengths = stream.integers(1, 4, size)
        tags = np.minimum(stream.zipf(1.3, lengths.sum()), TAGS) - 1
        offsets = pa.array(np.append(0, np.cumsum(lengths)).astype(np.int32))
        columns["tags"] = pa.ListArray.from_arrays(offsets, bench.words("tag", TAGS, tags))
        for name in ("text", "image"):
            numbers = stream.standard_normal((size, VECTOR), np.float32)
            effect += 0.3 * numbers[:, :4].sum(axis=1) / 2
            columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(numbers.ravel()), VECTOR)
        table = pa.table(columns)
        file = f"part-{number:04d}.parquet"
        pq.write_table(table, directory / "items" / file, row_group_size=100_000)
        counts, item = bench.counts(stream, ids, 1 / (1 + np.exp(-effect)), DAYS)
        pq.write_table(counts, directory / "counts" / file)
        if not number:
            few = min(size, TRAIN_ITEMS)
            pq.write_table(table.slice(0, few), directory / "train" / "items.parquet")
            kept = counts.filter(pa.array(item < few))
            # The window and two more periods, to validate and to test on.
            more = [kept]
            for extra in (1, 2):
                again = kept["period"].to_numpy() + DAYS * extra
                more.append(kept.set_column(1, "period", pa.array(again)))
            pq.write_table(pa.concat_tables(more), directory / "train" / "counts.parquet")


def columns(items: Path) -> list[str]:
    """Flags that say what the columns are."""
    others = [name for name in CATEGORIES if name != "category"]
    return [
        f"--items={items}",
        "--taxonomies=category,tags",
        f"--categoricals={','.join(others)}",
        f"--vectors=text:{items}",
        f"--vectors=image:{items}",
    ]


def train(directory: Path) -> Path:
    """A run directory of the published model, fitted for one short epoch."""
    run = directory / "run"
    if not (run / "export").exists():
        tables = directory / "train"
        bench.run(
            *("-m", "mmnet.train", *columns(tables / "items.parquet")),
            *(f"--counts={tables / 'counts.parquet'}", "--epochs=1", "--batch_size=512"),
            *("--min_target_clicks=20", f"--run_dir={run}", "--patience=1"),
        )
    return run / "export"


def resident(pid: int) -> int:
    """Bytes that a process and all below it hold."""
    total = 0
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        total += int(line.split()[1]) * 1024
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += sum(map(resident, map(int, (task / "children").read_text().split())))
    except (OSError, StopIteration):
        pass
    return total


def score(directory: Path, export: Path, name: str, flags: list[str], kills: tuple[float, ...]):
    """Runs one job to its end; returns its seconds, peak bytes, and what the command printed."""
    output = directory / f"scores-{name}"
    command = [
        *(sys.executable, "-m", "mmnet.predict", f"--saved_model={export}"),
        *columns(directory / "items"),
        *(f"--counts={directory / 'counts'}", f"--output={output}", "--processes=2", *flags),
    ]
    blocks, told, seconds, peak = 0, "", 0.0, 0
    for part in (*kills, 1.0):
        start = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        while process.poll() is None:
            time.sleep(0.2)
            peak = max(peak, resident(process.pid))
            done = len(list(output.glob("part-*.parquet"))) if output.exists() else 0
            if part < 1 and blocks and done >= part * blocks:
                os.killpg(process.pid, signal.SIGKILL)
            if not blocks and (output / "_survey").exists():
                blocks = count_blocks(directory)
        seconds += time.perf_counter() - start
        told = process.communicate()[0]
        print(f"  {name}: session ended with {process.returncode}", file=sys.stderr)
    if process.returncode:
        raise SystemExit(f"{name} failed: {command}")
    return seconds, peak, told


def count_blocks(directory: Path) -> int:
    """How many files the scores will have."""
    from mmnet.data import parquet

    return len(parquet.open_table(str(directory / "items"), "items").blocks(65_536))


def check(directory: Path, name: str, items: int) -> None:
    """Every item once, and nothing else."""
    import numpy as np
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    scores = pq.read_table(
        directory / f"scores-{name}", columns=["item_id", "predicted_share_rate"]
    )
    assert scores.num_rows == pc.count_distinct(scores["item_id"]).as_py() == items
    assert np.isfinite(scores["predicted_share_rate"].to_numpy()).all()


def main() -> None:
    """Runs every way in turn and prints the table after each."""
    arguments = bench.options(
        __doc__,
        items=10_000_000,
        directory="",
        ways={"default": "", "help": "their numbers, or none: only the table"},
    )
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(arguments.directory or scratch)
        if not (directory / "items").exists():
            write_catalogue(directory, arguments.items)
        export = train(directory)
        cache = f"--static_cache={directory / 'static'}"
        ways = {
            "float32, killed twice": ([], KILLS),
            "float32": ([], ()),
            "float32, static parts computed and kept": ([cache], ()),
            "float32, static parts found": ([cache], ()),
            "fastest runtime": (["--runtime=fastest"], ()),
            "fastest runtime, static parts found": (["--runtime=fastest", cache], ()),
            "bfloat16": (["--runtime=openvino", "--precision=bfloat16"], ()),
            "bfloat16, static parts found": (
                ["--runtime=openvino", "--precision=bfloat16", cache],
                (),
            ),
        }
        chosen = range(len(ways))
        if arguments.ways:
            chosen = [int(n) for n in arguments.ways.split(",") if n.isdigit()]
        measured = directory / "measured.json"  # of ways that were run before, too
        known = json.loads(measured.read_text()) if measured.exists() else {}
        for number in chosen:
            name, (flags, kills) = list(ways.items())[number]
            short = name.replace(", ", "-").replace(" ", "_")
            seconds, peak, told = score(directory, export, short, flags, kills)
            check(directory, short, arguments.items)
            budget = json.loads((directory / f"scores-{short}" / "_budget.json").read_text())
            known[name] = {
                "items": arguments.items,
                "seconds": seconds,
                "first_pass_seconds": budget["survey_seconds"],
                "peak_bytes": peak,
            }
            measured.write_text(json.dumps(known, indent=1))
            print(told, flush=True)
    lines = table({name: known[name] for name in ways if name in known})
    bench.publish(lines, arguments.output)


def table(known: dict[str, dict]) -> list[str]:
    """What was measured, as lines of Markdown."""
    lines = [
        "| way | wall, s | of it first pass, s | items/s | × float32 | peak memory, GB |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    first = known.get("float32")
    for name, one in known.items():
        rate = one["items"] / one["seconds"]
        times = rate * first["seconds"] / first["items"] if first else float("nan")
        lines.append(
            f"| {name} | {one['seconds']:.0f} | {one['first_pass_seconds']:.0f} | {rate:,.0f} "
            f"| {times:.2f} | {one['peak_bytes'] / 1e9:.2f} |"
        )
    items = {one["items"] for one in known.values()}
    about = f"{min(items):,} items, two processes of one core each; {processor()}. {GOALS}"
    return ["# A catalogue", "", about, "", *lines]


def processor() -> str:
    """What computes."""
    from mmnet.serving.runtimes import has_bfloat16
    from mmnet.training.records import machine

    with_or_without = "with" if has_bfloat16() else "without"
    return f"{machine()['processor']}, {with_or_without} bfloat16"


if __name__ == "__main__":
    main()
