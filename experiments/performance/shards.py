"""What preparing and training take in memory when arrays of items and periods are large.

    python experiments/performance/shards.py [--items=1000000] [--days=60] [--output=FILE]

The same tables are prepared twice by `python -m mmnet.prepare`, with all items in one shard and
with the default, in turns; every file of the two datasets must be the same. Then the model is
trained on one of them. Two figures of memory are sampled every .1 s: what the process has for
itself, and what it holds resident, which includes pages of mapped files that the system takes back
when it needs them.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import bench

FILE_ITEMS = 100_000
CATEGORIES, TAGS = 40, 2000
COLUMNS = ("--taxonomies=category,tags", "--min_target_clicks=150", "--min_train_clicks=150")
TRAIN = ("--epochs=1", "--batch_size=1024", "--outputs=validation", "--patience=1")


def write_tables(directory: Path, items: int, days: int) -> None:
    """Items and counts as Parquet; half of the periods of an item have clicks."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    (directory / "counts").mkdir()
    parts = []
    for number, start in enumerate(range(0, items, FILE_ITEMS)):
        stream = np.random.default_rng([11, number])
        size = min(FILE_ITEMS, items - start)
        ids = pa.array([f"item{n:08d}" for n in range(start, start + size)])
        category = np.minimum(stream.zipf(1.3, size), CATEGORIES) - 1
        tag = np.minimum(stream.zipf(1.3, size), TAGS) - 1
        columns = {
            "item_id": ids,
            "category": bench.words("category", CATEGORIES, category),
            "tags": bench.words("tag", TAGS, tag),
        }
        parts.append(pa.table(columns))
        counts, _ = bench.counts(stream, ids, 1 / (1 + np.exp(3 - np.sin(category))), days)
        pq.write_table(counts, directory / "counts" / f"part-{number:04d}.parquet")
    pq.write_table(pa.concat_tables(parts), directory / "items.parquet")


def run(command: list[str]) -> tuple[float, float, float]:
    """Seconds of a command, and the peaks of its own and of its resident memory in GB."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    own = resident = 0
    while process.poll() is None:
        try:
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        except OSError:
            break
        held = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Rss")}
        own = max(own, int(held.get("RssAnon", 0)))
        resident = max(resident, sum(map(int, held.values())))
        time.sleep(0.1)
    if process.wait():
        raise SystemExit(f"failed: {' '.join(command)}")
    return time.perf_counter() - start, own / 1e6, resident / 1e6


def hashes(directory: Path) -> dict[str, str]:
    """SHA-256 of every file of a dataset."""
    from mmnet.hashing import sha256

    return {path.name: sha256(path) for path in sorted(directory.iterdir())}


def main() -> None:
    """Prepares twice, compares, trains, and prints the table."""
    arguments = bench.options(__doc__, items=1_000_000, days=60)
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        write_tables(directory, arguments.items, arguments.days)
        lines = [
            "| what | wall, s | own memory, GB | with mapped files, GB |",
            "|---|---:|---:|---:|",
        ]
        found = {}
        for name, shard in (("one shard", arguments.items), ("shards of 65,536", 65_536)):
            place = directory / str(shard)
            command = [
                *(sys.executable, "-m", "mmnet.prepare", *COLUMNS, f"--shard_items={shard}"),
                *(f"--counts={directory / 'counts'}", f"--items={directory / 'items.parquet'}"),
                f"--dataset_dir={place}",
            ]
            seconds, own, resident = run(command)
            found[name] = hashes(place)
            lines.append(f"| prepare, {name} | {seconds:.0f} | {own:.2f} | {resident:.2f} |")
        one, many = found.values()
        assert one == many, "the datasets differ"
        size = sum(path.stat().st_size for path in place.iterdir()) / 1e9
        command = [
            *(sys.executable, "-m", "mmnet.train", *TRAIN, f"--dataset_dir={place}"),
            f"--run_dir={directory / 'run'}",
        ]
        seconds, own, resident = run(command)
        lines.append(f"| train | {seconds:.0f} | {own:.2f} | {resident:.2f} |")
        lines += ["", f"The dataset has {size:.2f} GB; all {len(one)} files are the same."]
    bench.publish(lines, arguments.output)


if __name__ == "__main__":
    main()
