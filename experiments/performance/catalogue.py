"""What scoring a catalogue costs, from Parquet to Parquet, and whether a killed job loses items.

    python experiments/performance/catalogue.py [--items=10000000] [--rounds=3] [--directory=DIR]
        [--ways=1,3,4] [--inputs=age,calendar] [--kills] [--output=FILE]

Simulates a catalogue (two taxonomies, six other categories, a release date, text and image vectors
of 64 numbers each, counts of the last six days), trains MMNet of the published size on its first
items, and scores all of them by `python -m mmnet.predict` with two processes, in several ways.
All take turns, round by round, so that a machine whose speed drifts does not favor one; ratios are
formed within a round. `--kills` adds a job that is killed (SIGKILL, with all its processes) twice
on the way and started again.

Seconds are of whole commands, interpreter start, first pass and writing included; CPU seconds are
of all their processes. Peak memory is the largest sum over all processes of what each holds
resident, mapped files counted in each, sampled every .2 s. Where a first pass is computed, the kept
ones are removed before; where it is found, an earlier job on the same tables has made it.
"""

import functools
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import bench

FILE_ITEMS = 500_000
TRAIN_ITEMS, TRAIN_TURNS = 2_000, 6
DAYS, VECTOR = 6, 64
FIRST_DAY, OLDEST = "2024-03-04", 30
"""First day of the training log, and days before it in which items are released."""
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
    "items/s; static parts and first pass found ≥ 1.6 × float32, bfloat16 with them ≥ 2.2 × where "
    "the processor has it; a finished job started again ends within seconds."
)
FLOAT32, AGAIN = "float32", "float32, a finished job again"
COMPUTED = "float32, static parts and first pass computed and kept"
KEPT = ("--runtime=openvino", "--precision=bfloat16")
WAYS: dict[str, tuple[tuple[str, ...], bool, bool]] = {
    "float32, killed twice": ((), False, False),
    FLOAT32: ((), False, False),
    COMPUTED: ((), True, False),
    "float32, static parts found": ((), True, False),
    "float32, static parts and first pass found": ((), True, True),
    AGAIN: ((), False, False),
    "bfloat16, static parts found": (KEPT, True, False),
    "bfloat16, static parts and first pass found": (KEPT, True, True),
}
"""Name -> flags, whether there is `--static_cache`, and whether it keeps its first passes."""
KILLED = next(iter(WAYS))


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
        days = np.datetime64(FIRST_DAY) - stream.integers(0, OLDEST, size).astype("m8[D]")
        columns["released"] = pa.array(days)
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
        pq.write_table(of_turn(counts, TRAIN_TURNS - 1), directory / "counts" / file)
        if not number:
            few = min(size, TRAIN_ITEMS)
            pq.write_table(table.slice(0, few), directory / "train" / "items.parquet")
            kept = counts.filter(pa.array(item < few))
            # So many days that weekdays can be learned, to validate and to test on.
            turns = [of_turn(kept, turn) for turn in range(TRAIN_TURNS)]
            pq.write_table(pa.concat_tables(turns), directory / "train" / "counts.parquet")


def of_turn(counts, turn: int):
    """Counts with dates: the same counts as in all turns, `DAYS` later in each."""
    import numpy as np
    import pyarrow as pa

    days = (counts["period"].to_numpy() + DAYS * turn).astype("m8[D]")
    return counts.set_column(1, "period", pa.array(np.datetime64(FIRST_DAY) + days))


def columns(items: Path) -> list[str]:
    """Flags that say what the columns are."""
    others = [name for name in CATEGORIES if name != "category"]
    return [
        f"--items={items}",
        "--taxonomies=category,tags",
        f"--categoricals={','.join(others)}",
        f"--vectors=text:{items}",
        f"--vectors=image:{items}",
        "--release=released",
    ]


def train(directory: Path, inputs: str) -> Path:
    """A run directory of the published model, fitted for one short epoch."""
    run = directory / f"run-{inputs.replace(',', '-')}".removesuffix("-")
    if not (run / "export").exists():
        tables = directory / "train"
        bench.run(
            *("-m", "mmnet.train", *columns(tables / "items.parquet")),
            *(f"--counts={tables / 'counts.parquet'}", "--epochs=1", "--batch_size=512"),
            *("--min_target_clicks=20", f"--run_dir={run}", "--patience=1"),
            *([f"--inputs={inputs}"] if inputs else []),
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


class Measured(NamedTuple):
    """What one job took.

    Attributes:
        seconds: wall seconds of its sessions.
        cpu_seconds: CPU seconds of all their processes, as far as these were not killed.
        first_pass_seconds: wall seconds of the first pass of the last session.
        peak_bytes: the most memory of all processes together.
    """

    seconds: float
    cpu_seconds: float
    first_pass_seconds: float
    peak_bytes: int


def score(directory: Path, export: Path, name: str, items: int) -> Measured:
    """Runs one job to its end, and checks its scores."""
    flags, cached, found = WAYS[name]
    output = directory / f"scores-{short(FLOAT32 if name == AGAIN else name)}"
    if name != AGAIN:
        shutil.rmtree(output, ignore_errors=True)
    elif not output.exists():
        raise SystemExit(f"{AGAIN!r} needs the scores of {FLOAT32!r}; run both")
    static = directory / "static"
    if name == COMPUTED:
        shutil.rmtree(static, ignore_errors=True)
    if not found:
        shutil.rmtree(static / "first_passes", ignore_errors=True)
    command = [
        *(sys.executable, "-m", "mmnet.predict", f"--saved_model={export}"),
        *columns(directory / "items"),
        *(f"--counts={directory / 'counts'}", f"--output={output}", "--processes=2", *flags),
        *([f"--static_cache={static}"] if cached else []),
    ]
    blocks, seconds, peak = 0, 0.0, 0
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for part in (*(KILLS if name == KILLED else ()), 1.0):
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
        while process.poll() is None:
            time.sleep(0.2)
            peak = max(peak, resident(process.pid))
            done = len(list(output.glob("part-*.parquet"))) if output.exists() else 0
            if part < 1 and blocks and done >= part * blocks:
                os.killpg(process.pid, signal.SIGKILL)
            if not blocks and (output / "_survey").exists():
                blocks = count_blocks(directory)
        seconds += time.perf_counter() - start
        print(f"  {name}: session ended with {process.returncode}", file=sys.stderr)
    if process.returncode:
        raise SystemExit(f"{name} failed: {command}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    check(output, items)
    # A finished job makes no first pass, and leaves the budget of the one before.
    budget = json.loads((output / "_budget.json").read_text())
    return Measured(seconds, cpu, 0.0 if name == AGAIN else budget["survey_seconds"], peak)


def short(name: str) -> str:
    """The name of a way, as part of a path."""
    return name.replace(", ", "-").replace(" ", "_")


def count_blocks(directory: Path) -> int:
    """How many files the scores will have."""
    from mmnet.data import parquet

    return len(parquet.open_table(str(directory / "items"), "items").blocks(65_536))


def check(output: Path, items: int) -> None:
    """Every item once, and nothing else."""
    import numpy as np
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    scores = pq.read_table(output, columns=["item_id", "predicted_share_rate"])
    assert scores.num_rows == pc.count_distinct(scores["item_id"]).as_py() == items
    assert np.isfinite(scores["predicted_share_rate"].to_numpy()).all()


def main() -> None:
    """Runs all ways in turn, and prints the table."""
    numbers = ", ".join(f"{number}: {name}" for number, name in enumerate(WAYS))
    arguments = bench.options(
        __doc__,
        items=10_000_000,
        rounds=3,
        directory="",
        inputs="age,calendar",
        kills=False,
        ways={"default": "", "help": f"numbers of the ways; default: all that can run ({numbers})"},
    )
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(arguments.directory or scratch)
        if not (directory / "items").exists():
            write_catalogue(directory, arguments.items)
        export = train(directory, arguments.inputs)
        names = [name for name in WAYS if name != KILLED or arguments.kills]
        if arguments.ways:
            chosen = map(int, arguments.ways.split(","))
            names = [list(WAYS)[number] for number in sorted(set(chosen))]
        run = [name for name in names if has_bfloat16() or not name.startswith("bfloat16")]
        variants = {
            name: functools.partial(score, directory, export, name, arguments.items) for name in run
        }
        measured = bench.turns(variants, arguments.rounds)
    lines = table(arguments.items, arguments.inputs, {name: measured.get(name) for name in names})
    bench.publish(lines, arguments.output)


def table(items: int, inputs: str, measured: dict[str, list[Measured] | None]) -> list[str]:
    """What was measured, as lines of Markdown: medians (least to most)."""
    lines = [
        "| way | wall, s | × float32 | CPU, s | of the wall, first pass, s | peak memory, GB |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    float32 = measured.get(FLOAT32)
    for name, found in measured.items():
        if found is None:
            lines.append(f"| {name} | not measured: the processor has no bfloat16 | | | | |")
            continue
        seconds = [one.seconds for one in found]
        times = "—"
        if float32:
            times = bench.spread(bench.ratios([one.seconds for one in float32], seconds))
        lines.append(
            f"| {name} | {bench.spread(seconds, '.0f')} | {times} "
            f"| {bench.spread([one.cpu_seconds for one in found], '.0f')} "
            f"| {bench.spread([one.first_pass_seconds for one in found], '.0f')} "
            f"| {max(one.peak_bytes for one in found) / 1e9:.2f} |"
        )
    reads = f" The model also reads {inputs.replace(',', ' and ')}." if inputs else ""
    about = f"{items:,} items, two processes of one core each; {processor()}.{reads} {GOALS}"
    return ["# A catalogue", "", about, "", *lines]


def has_bfloat16() -> bool:
    """Whether the processor computes in bfloat16."""
    from mmnet.serving import runtimes

    return runtimes.has_bfloat16()


def processor() -> str:
    """What computes."""
    from mmnet.training.records import machine

    with_or_without = "with" if has_bfloat16() else "without"
    return f"{machine()['processor']}, {with_or_without} bfloat16"


if __name__ == "__main__":
    main()
