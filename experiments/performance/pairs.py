"""Memory and speed of scoring pairs, over their number.

    python experiments/performance/pairs.py [--sizes=1000000,10000000,100000000] [--users=100000]
        [--items=1000000] [--output=FILE]

An export of the published network with random weights, for `--users` and `--items`, scores tables
of random pairs with `python -m mmnet.mma4ctr.predict --memory=4GB`: Parquet, and CSV up to ten
million pairs. Every process is new. The page has its most resident memory, and wall and CPU
seconds.
"""

import platform
import tempfile
from pathlib import Path

import bench

CSV_PAIRS = 10_000_000
CHUNK = 1 << 20


def export(directory: Path, users: int, items: int) -> None:
    """Exports a network of the published width for so many users and items."""
    import numpy as np

    from mmnet.mma4ctr.data.features import Features, Scaler
    from mmnet.mma4ctr.evaluation.metrics import Platt
    from mmnet.mma4ctr.models.network import Clicks, network
    from mmnet.mma4ctr.serving import scoring

    draw = np.random.default_rng(0)
    states, contents = (draw.random((number, 100), np.float32) for number in (users, items))
    scale = Scaler(np.zeros(200, np.float32), np.ones(200, np.float32))
    model = Clicks(
        Features(states, contents, {"train": scale}, {}), network(200, arch="readme", seed=0)
    )
    places = np.arange(min(users, items, 64))
    wanted = model({"state": places, "item": places}).numpy()
    folded = scoring.Folded(
        *(model, np.arange(users), 7 * np.arange(users), 3 * np.arange(items)),
        *(np.ones(users, bool), np.ones(items, bool), Platt(1.0, 0.0)),
    )
    scoring.export(folded, directory, (7 * places, 3 * places, wanted), {"flags": {}})


def write(path: Path, size: int, users: int, items: int) -> None:
    """Writes a table of random pairs, a tenth of whose users are unknown."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    draw = np.random.default_rng(1)
    schema = pa.schema([("user_id", pa.int64()), ("item_id", pa.int64())])
    open_ = pa.parquet.ParquetWriter if path.suffix == ".parquet" else pa.csv.CSVWriter
    with open_(path, schema) as writer:
        for start in range(0, size, CHUNK):
            number = min(CHUNK, size - start)
            user = 7 * draw.integers(0, users + users // 9, number)
            item = 3 * draw.integers(0, items, number)
            writer.write_table(pa.table([user, item], schema=schema))


def scored(saved_model: Path, path: Path) -> bench.Run:
    """Scores a table in a process of its own."""
    output = path.with_name("scores.parquet")
    found = bench.run(
        *("-m", "mmnet.mma4ctr.predict", f"--saved_model={saved_model}", f"--pairs={path}"),
        *(f"--output={output}", "--memory=4GB"),
    )
    output.unlink()
    return found


def main() -> None:
    """Scores tables of all sizes, and writes the page."""
    options = bench.options(
        __doc__,
        output="",
        sizes="1000000,10000000,100000000",
        users=100_000,
        items=1_000_000,
        export=bench.HIDDEN,
    )
    if options.export:
        export(Path(options.export), options.users, options.items)
        return
    lines = [
        "# Scoring pairs\n",
        f"`python experiments/performance/pairs.py --sizes={options.sizes} --users={options.users} "
        f"--items={options.items}`: {bench.cores()} cores, {platform.machine()}, "
        f"{bench.versions('TensorFlow', 'pyarrow')}.\n",
        f"An export for {options.users:,} users and {options.items:,} items; every row is a new "
        "process with `--memory=4GB`.\n",
        "| pairs | table | wall s | CPU s | pairs/s | peak GiB |",
        "|---:|---|---:|---:|---:|---:|",
    ]
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        saved_model = directory / "export"
        # By a process of its own: a process starts with the peak of the one that it comes from.
        bench.run(
            *(__file__, f"--users={options.users}", f"--items={options.items}"),
            f"--export={saved_model}",
        )
        for size in map(int, options.sizes.split(",")):
            for kind in ("parquet", "csv") if size <= CSV_PAIRS else ("parquet",):
                path = directory / f"pairs.{kind}"
                write(path, size, options.users, options.items)
                run = scored(saved_model, path)
                path.unlink()
                name = {"parquet": "Parquet", "csv": "CSV"}[kind]
                lines.append(
                    f"| {size:,} | {name} | {run.wall:.0f} | {run.cpu:.0f} | "
                    f"{size / run.wall:,.0f} | {run.peak:.2f} |"
                )
                print(lines[-1], flush=True)
    bench.publish(lines, options.output)


if __name__ == "__main__":
    main()
