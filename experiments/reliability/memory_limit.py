"""Measures how far drivers go beyond `--memory`, on ten inputs that want more than they may have.

    python experiments/reliability/memory_limit.py [--only=NAME] [--output=FILE]

Each input is read by a driver with a limit. While it runs, the private memory of its processes is
read from /proc every two milliseconds: that is what the limit is about. What they hold with the
pages of libraries and mapped files is in the table as well. After each run the output directory
must hold nothing that was begun, and the scratch directory nothing at all.
"""

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from mmnet.files import write_atomic
from mmnet.memory_limit import descendants, size

ROOT = Path(__file__).resolve().parents[2]
ALLOWED = 1.15
"""Largest ratio of the measured peak to the limit."""

FEW = ["--window=3", "--min_test_rows=1", "--min_target_clicks=1"]
SIMULATED = ["--source=simulated", "--source_set=items=400", "--source_set=periods=24"]
SIMULATED += ["--source_set=clicks=600000", "--taxonomies=category,tags", "--texts=title"]
SIMULATED += ["--release=release", "--min_test_rows=30", "--leave_out_vectors=cover"]
SMALL = ["--set=units=4", "--set=field_width=2", "--epochs=1", "--outputs=all", "--nojit"]


# ------------------------------------------------------------------------------- the inputs


def ids(number):
    """Item ids, as Arrow text."""
    return pa.array(np.char.add("item", np.arange(number).astype(str)))


def small_counts(place, items=50, periods=20):
    """A small counts table, for inputs whose items are large."""
    cells = items * periods
    table = {
        "item_id": ids(items).take(pa.array(np.repeat(np.arange(items), periods))),
        "period": np.tile(np.arange(periods), items),
        "clicks": np.full(cells, 60),
        "shares": np.arange(cells) % 7,
    }
    pq.write_table(pa.table(table), place / "counts.parquet")
    return [f"--counts={place / 'counts.parquet'}", *FEW]


def texts(number, length, seed=0):
    """Random texts of one length."""
    letters = np.random.default_rng(seed).integers(97, 123, number * length, dtype=np.uint8)
    offsets = pa.array(np.arange(number + 1, dtype=np.int32) * length).buffers()[1]
    return pa.StringArray.from_buffers(number, offsets, pa.py_buffer(letters))


def many_counts(place):
    """A counts table of 400,000 items."""
    cells = 8_000_000
    table = {
        "item_id": ids(400_000).take(pa.array(np.repeat(np.arange(400_000), 20))),
        "period": np.tile(np.arange(20), 400_000),
        "clicks": np.full(cells, 60),
        "shares": np.arange(cells) % 7,
    }
    pa.csv.write_csv(pa.table(table), place / "counts.csv")
    pa.csv.write_csv(pa.table({"item_id": ids(400_000)}), place / "items.csv")
    return [f"--counts={place / 'counts.csv'}", f"--items={place / 'items.csv'}", *FEW]


def long_titles(place):
    """An items table of long texts."""
    table = pa.table({"item_id": ids(400_000), "title": texts(400_000, 1500)})
    pa.csv.write_csv(table, place / "items.csv")
    return [*small_counts(place), f"--items={place / 'items.csv'}", "--texts=title"]


def many_events(place):
    """Events in a random order of items."""
    events = 12_000_000
    draw = np.random.default_rng(0)
    table = {
        "item_id": ids(1_500_000).take(pa.array(draw.integers(0, 1_500_000, events))),
        "timestamp": draw.integers(0, 20, events),
        "shares": draw.integers(0, 2, events),
    }
    pq.write_table(pa.table(table), place / "events.parquet")
    pq.write_table(pa.table({"item_id": ids(1_500_000)}), place / "items.parquet")
    flags = ["--denominator=events", "--time_unit=index", *FEW]
    return [
        f"--events={place / 'events.parquet'}",
        f"--items={place / 'items.parquet'}",
        *flags,
    ]


def repeated_text(place):
    """A Parquet file of 200 kB whose rows take more than 1 GB."""
    titles = pa.array(["x" * 20_000]).take(pa.array(np.zeros(60_000, int)))
    table = pa.table({"item_id": ids(60_000), "title": titles})
    pq.write_table(table, place / "items.parquet")
    return [*small_counts(place), f"--items={place / 'items.parquet'}", "--texts=title"]


def long_calendar(place):
    """Two counts that are 15,000 periods apart."""
    pq.write_table(pa.table({"item_id": ids(60_000)}), place / "items.parquet")
    rows = {"item_id": ["item0", "item0"], "period": [0, 15_000], "clicks": [9, 9]}
    pq.write_table(pa.table(rows | {"shares": [1, 1]}), place / "counts.parquet")
    tables = [f"--counts={place / 'counts.parquet'}", f"--items={place / 'items.parquet'}"]
    return [*tables, *FEW, "--stray_periods=keep"]


def many_tags(place):
    """Items with 30 tags each."""
    draw = np.random.default_rng(0)
    number, each = 250_000, 30
    flat = pa.array(np.char.add("tag", np.arange(100_000).astype(str)))
    flat = flat.take(pa.array(draw.integers(0, 100_000, number * each)))
    tags = pa.ListArray.from_arrays(np.arange(number + 1, dtype=np.int32) * each, flat)
    pq.write_table(pa.table({"item_id": ids(number), "tags": tags}), place / "items.parquet")
    items = [f"--items={place / 'items.parquet'}", "--taxonomies=tags"]
    return [*small_counts(place, 2000), *items]


def many_lines(place):
    """Events as JSON lines."""
    with (place / "events.jsonl").open("w") as file:
        for number in range(1_200_000):
            file.write(f'{{"item_id": "item{number}", "timestamp": {number % 20}, "shares": 1}}\n')
    pq.write_table(pa.table({"item_id": ids(1_200_000)}), place / "items.parquet")
    tables = [f"--events={place / 'events.jsonl'}", f"--items={place / 'items.parquet'}"]
    return [*tables, "--denominator=events", "--time_unit=index"]


def training(place):
    """Training with large activations."""
    return [*SIMULATED, *SMALL, "--batch_size=16384", "--set=units=256"]


def catalogue(place):
    """Items to score by two processes with a small network."""
    run = place / "run"
    command("train", *SIMULATED, *SMALL, f"--run_dir={run}")
    table = {"item_id": ids(500_000), "category": texts(500_000, 3), "title": texts(500_000, 400)}
    table |= {"release": np.zeros(500_000, int), "tags": texts(500_000, 4)}
    pq.write_table(pa.table(table), place / "items.parquet")
    tables = [f"--items={place / 'items.parquet'}", f"--saved_model={run / 'export'}"]
    counts, *_ = small_counts(place)
    return [counts, *tables, "--processes=2"]


def clicks(place):
    """A generated log of the second system."""
    log = [f"--source_dir={place / 'log'}", "--min_rows=1"]
    generate = ["--generate=users=2000", "--generate=feeds=60000", "--generate=rows=2500000"]
    return [*log, *generate, "--generate=text_scale=0.05"]


INPUTS = {
    # name: driver, limit, output flag and name, what makes the input and the flags
    "counts of 8 million rows": ("prepare", "350MB", "dataset_dir", many_counts),
    "titles of 600 MB": ("prepare", "500MB", "dataset_dir", long_titles),
    "12 million events of 1.5 million items": ("prepare", "700MB", "dataset_dir", many_events),
    "one text in 60,000 rows": ("prepare", "600MB", "dataset_dir", repeated_text),
    "60,000 items x 15,000 periods": ("prepare", "600MB", "dataset_dir", long_calendar),
    "7.5 million tags": ("prepare", "500MB", "dataset_dir", many_tags),
    "1.2 million lines of JSON": ("inspect", "300MB", "output", many_lines),
    "batches of 16,384 examples": ("train", "1GB", "run_dir", training),
    "a catalogue of 500,000 items": ("predict", "1GB", "output", catalogue),
    "2.5 million clicks": ("mma4ctr.prepare", "400MB", "dataset_dir", clicks),
}


# ----------------------------------------------------------------------------- measurements


def held(processes):
    """What some processes hold, in bytes: for themselves, and with mapped files and libraries."""
    own = resident = 0
    for process in processes:
        with contextlib.suppress(OSError, ValueError):
            _, pages, shared, *_ = map(int, Path(f"/proc/{process}/statm").read_text().split())
            own += (pages - shared) * os.sysconf("SC_PAGE_SIZE")
            resident += pages * os.sysconf("SC_PAGE_SIZE")
    return own, resident


def command(driver, *arguments, scratch=None):
    """Runs a driver; gives its exit code, the last line of stderr, and the two peaks in bytes."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    if scratch:
        environment["TMPDIR"] = str(scratch)
    with tempfile.TemporaryFile() as errors:
        started = subprocess.Popen(
            [sys.executable, "-m", f"mmnet.{driver}", *arguments],
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env=environment,
        )
        peak = resident = 0
        while started.poll() is None:
            # The process that watches shares its memory with the one that works.
            working = descendants(started.pid)
            for _ in range(20):
                own, all_in_all = held(working)
                peak, resident = max(peak, own), max(resident, all_in_all)
                time.sleep(0.002)
        errors.seek(0)
        lines = errors.read().decode(errors="replace").strip().splitlines()
    return started.returncode, (lines or [""])[-1], peak, resident


def left_over(*places):
    """Hidden files below some directories, which were begun and not ended."""
    found = [path for place in places if place.exists() for path in place.rglob("*")]
    return [path.name for path in found if path.name.startswith(".") or "mmnet-" in path.name]


def measured(name):
    """Runs one input; returns its row of the table and its ratio of peak to limit."""
    driver, limit, flag, make = INPUTS[name]
    with tempfile.TemporaryDirectory(prefix="memory-limit-") as directory:
        place = Path(directory)
        scratch = place / "scratch"
        scratch.mkdir()
        arguments = make(place)
        output = place / "made" / ("out" if flag != "output" else "scores.parquet")
        output.parent.mkdir()
        start = time.monotonic()
        code, last, peak, resident = command(
            driver, *arguments, f"--{flag}={output}", f"--memory={limit}", scratch=scratch
        )
        seconds = time.monotonic() - start
        left = left_over(output.parent, scratch)
        shutil.rmtree(place / "run", ignore_errors=True)
    how = "done" if code == 0 else "estimated" if "about" in last else "ended"
    if "Traceback" in last or code not in (0, 1):
        how = f"FAILED: {last}"
    ratio = peak / size(limit, "limit")
    megabytes = f"{peak / 2**20:,.0f} | {ratio:.2f} | {resident / 2**20:,.0f}"
    line = f"| {name} | {driver} | {limit} | {how} | {code} | {megabytes} | {seconds:.0f} |"
    print(line, last, left, sep="\n    ", flush=True)
    return f"{line} {', '.join(left) or 'nothing'} |", ratio


def main():
    """Measures all inputs, or those chosen, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="")
    parser.add_argument("--output", default="")
    chosen = parser.parse_args()
    rows = [measured(name) for name in INPUTS if chosen.only in name]
    worst = max(ratio for _, ratio in rows)
    text = (
        "# Memory limits\n\n"
        f"`python experiments/reliability/memory_limit.py`\n\n"
        f"{len(rows)} inputs that want more memory than `--memory` allows. The largest peak is "
        f"{worst:.2f} times the limit; {ALLOWED} are allowed.\n\n"
        "| input | driver | limit | how it went | exit code | peak (MB) | peak / limit | "
        "peak with mapped files and libraries (MB) | seconds | left over |\n"
        "| --- | --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | --- |\n"
        + "".join(f"{row}\n" for row, _ in rows)
    )
    if chosen.output:
        write_atomic(chosen.output, text)
    sys.exit(worst > ALLOWED)


if __name__ == "__main__":
    main()
