"""Makes the old artefacts that `test_compat.py` loads: a dataset, runs and an export per system.

Run it once for every commit whose formats are to stay readable, with that commit's own code:

    git clone . ../old && git -C ../old checkout a63bf34
    PYTHONPATH=$PWD/../old python tests/compat/make.py tests/compat/a63bf34

`--small` trains smaller networks, since weights cannot be compressed, and leaves the interrupted
run of clicks out: both systems have one trainer. All since a63bf34 were made with it.

It uses nothing but `python -m` entry points, flags and files, so that it runs with any commit. The
artefacts are made in a temporary directory that is gone afterwards: they are also the test that a
directory may be moved.

One archive per system holds everything: a SavedModel is mostly repetition, and the weights are
there three times, as the best ones, in the export and in the checkpoint.

    mmnet/tables/       counts.csv, items.csv, cover.parquet
    mmnet/dataset/      python -m mmnet.prepare
    mmnet/run/          python -m mmnet.train on that dataset: finished, evaluated, exported
    mmnet/interrupted/  the same run, stopped within its last epoch
    mmnet/plain/, straight/   with --small, the dataset and the whole run that the interrupted one
                        belongs to: without columns that have values, and so with few weights
    mmnet/scores.parquet, explained.parquet    python -m mmnet.predict of the dataset and the tables
    mma4ctr/dataset/    python -m mmnet.mma4ctr.prepare, with generated files in raw/
    mma4ctr/run/        python -m mmnet.mma4ctr.train on that dataset
    mma4ctr/interrupted/  the same run without its last epoch
    mma4ctr/pairs.csv, scores.parquet          python -m mmnet.mma4ctr.predict
    nights/tables/      counts of three nights; items, of which some are new on each
    nights/models/      two nights of python -m mmnet.nightly; the second one's model is refitted
    nights/scores.parquet                      of the champion, written by the second night

A commit without `mmnet.nightly` has no nights.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet

PLACE = pathlib.Path(tempfile.gettempdir(), "mmnet-compat")
ITEMS, PERIODS = 48, 14

MMNET = [
    *("--taxonomies=category,tags", "--categoricals=author", "--numerics=duration"),
    *("--texts=title", "--release=release", "--window=4", "--split_ratios=3,1,1"),
    *("--min_test_rows=10", "--text_vocabulary=20"),
]
MMNET_RUN = [
    *("--set=units=4", "--set=field_width=2", "--epochs=2", "--batch_size=8", "--seed=5"),
    *("--nojit", "--deterministic", "--steps_per_execution=1", "--checkpoint_seconds=0"),
    *("--rules=recall=0.9,keep=0.5",),
]
SMALL = ["--model=gru"]
PLAIN = ["--numerics=duration", "--texts=title", "--release=release", "--window=4"]
PLAIN += ["--min_test_rows=10", "--text_vocabulary=20"]
NIGHTS_RUN = [
    *("--taxonomies=category,tags", "--categoricals=author", "--numerics=duration"),
    *("--texts=title", "--release=release", "--window=4", "--min_test_rows=10"),
    *("--model=smoothed_history", "--compare_periods=2", "--allow_drift", "--seed=5"),
    *("--promote=not_worse=0.9", "--outage_budget=9", "--rules=keep=0.5", "--rule=keep=0.5"),
]
CLICKS = [
    *("--generate=users=24", "--generate=feeds=40", "--generate=rows=1200", "--min_rows=5"),
    *("--generate=rate=0.15", "--generate=text_scale=0.002", "--generate=topics=4"),
]
CLICKS_RUN = [
    *("--epochs=2", "--batch_size=128", "--seed=5", "--jit=false", "--deterministic"),
    *("--protocol=c1", "--pca_widths=3,3,3", "--user_length=3"),
]


def run(module: str, *flags: str) -> None:
    """`python -m module flags`, in the directory that everything is made in."""
    subprocess.run([sys.executable, "-m", module, *flags], cwd=PLACE, check=True)


def write_tables(directory: pathlib.Path, items: int = ITEMS, periods: int = PERIODS) -> None:
    """Counts and items with every kind of column, and one table of vectors."""
    directory.mkdir(parents=True)
    draw = np.random.default_rng(15)
    ids = [f"i{n:02}" for n in range(items)]
    words = np.array(["red", "blue", "dance", "cook", "goal", "the"])
    with open(directory / "items.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["item_id", "category", "tags", "author", "duration", "title", "release"])
        for n, name in enumerate(ids):
            tags = ";".join(f"t{t}" for t in sorted(set(draw.integers(0, 4, n % 3))))
            title = " ".join(draw.choice(words, n % 4))
            rows.writerow([name, f"c{n % 3}", tags, f"a{n % 7}", 10 + n, title, n % 5])
    with open(directory / "counts.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["item_id", "period", "clicks", "shares"])
        for n, name in enumerate(ids):
            for period in range(n % 5, periods):
                clicks = int(draw.integers(0, 120))
                if clicks > 15:  # or the period is missing
                    shares = int(draw.binomial(clicks, 0.05 + 0.04 * (n % 3)))
                    rows.writerow([name, period, clicks, shares])
    vectors = draw.normal(size=(items, 4)).astype("float32").round(2)
    column = pa.array(list(vectors), pa.list_(pa.float32()))
    pa.parquet.write_table(pa.table({"item_id": ids, "cover": column}), directory / "cover.parquet")


def mmnet(small: bool) -> None:
    """The share rate system."""
    training = [*MMNET_RUN, *(SMALL if small else [])]
    write_tables(PLACE / "mmnet" / "tables")
    where = ["--counts=mmnet/tables/counts.csv", "--items=mmnet/tables/items.csv"]
    where += ["--vectors=cover:mmnet/tables/cover.parquet"]
    run("mmnet.prepare", *where, *MMNET, "--dataset_dir=mmnet/dataset")
    run("mmnet.train", "--dataset_dir=mmnet/dataset", "--run_dir=mmnet/run", *training)
    resumed = "--dataset_dir=mmnet/dataset"
    if small:
        resumed = "--dataset_dir=mmnet/plain"
        run("mmnet.prepare", *where[:2], *PLAIN, "--split_ratios=3,1,1", resumed)
        run("mmnet.train", resumed, "--run_dir=mmnet/straight", *training)
    kill_in_the_last_epoch(PLACE / "mmnet/interrupted", resumed, *training)
    model = "--saved_model=mmnet/run/export"
    dataset = ["--dataset_dir=mmnet/dataset", "--output=mmnet/scores.parquet"]
    run("mmnet.predict", model, *dataset)
    explained = ["--explain", "--rule=stored", "--output=mmnet/explained.parquet"]
    run("mmnet.predict", model, *where, *explained)


def mma4ctr(small: bool) -> None:
    """The click system."""
    run("mmnet.mma4ctr.prepare", *CLICKS, "--dataset_dir=mma4ctr/dataset")
    run(
        *("mmnet.mma4ctr.train", "--dataset_dir=mma4ctr/dataset", "--run_dir=mma4ctr/run"),
        *CLICKS_RUN,
    )
    if not small:
        without_its_last_epoch(PLACE / "mma4ctr/run", PLACE / "mma4ctr/interrupted")
    rows = pa.parquet.read_table(PLACE / "mma4ctr/run/evaluation/predictions.parquet")
    pairs = sorted(set(zip(rows["user_id"].to_pylist(), rows["item_id"].to_pylist(), strict=True)))
    pairs = [*pairs[:30], (999_999, pairs[0][1])]  # one user is not in the export
    lines = ["user_id,item_id", *(f"{user},{item}" for user, item in pairs)]
    (PLACE / "mma4ctr/pairs.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    run(
        *("mmnet.mma4ctr.predict", "--saved_model=mma4ctr/run/export"),
        *("--pairs=mma4ctr/pairs.csv", "--output=mma4ctr/scores.parquet"),
    )


def nights() -> None:
    """Two nights, and the tables of a third one."""
    directory = PLACE / "nights"
    for night in range(3):
        # Every night has one more period, and two items that were not seen before.
        tables = directory / "tables" / str(night + 1)
        write_tables(tables, ITEMS + 2 * night, PERIODS + night)
        (tables / "cover.parquet").unlink()
    for night, more in enumerate(([], ["--refit", "--output=nights/scores.parquet"]), start=1):
        where = f"nights/tables/{night}"
        tables = [f"--counts={where}/counts.csv", f"--items={where}/items.csv"]
        run("mmnet.nightly", "--models=nights/models", *tables, *NIGHTS_RUN, *more)


def kill_in_the_last_epoch(run_dir: pathlib.Path, *flags: str) -> None:
    """Trains, and stops the process between two steps of the second epoch."""
    command = [sys.executable, "-m", "mmnet.train", f"--run_dir={run_dir}", *flags]
    process = subprocess.Popen(command, cwd=PLACE)
    seen: set[pathlib.Path] = set()
    while process.poll() is None and len(seen) < 3:  # the end of the first epoch, and more
        seen.update(run_dir.glob("checkpoints/epoch_000001_*.npz"))
        time.sleep(0.002)
    process.send_signal(signal.SIGTERM)
    if process.wait() != 130:
        raise RuntimeError(f"{run_dir} ended before it could be stopped; give it more steps")


def without_its_last_epoch(finished: pathlib.Path, left: pathlib.Path) -> None:
    """Copies what a kill in the last epoch leaves of a run that resumes at ends of epochs only."""
    shutil.copytree(finished, left, ignore=shutil.ignore_patterns("evaluation", "export"))
    for name in ("record.json", "weights.npz"):
        (left / name).unlink()
    *_, last = sorted((left / "checkpoints").glob("epoch_*.npz"))
    last.unlink()


def packed(path: pathlib.Path) -> bool:
    """Whether a file goes into the archive: one that a test reads."""
    parts = path.relative_to(PLACE).parts
    shown = path.suffix in (".png", ".html") or "logs" in path.parts
    # A finished run has no use for its checkpoints, an interrupted one for the newest.
    newest = max(path.parent.glob("epoch_*.npz"), default=path)
    kept = parts[1] == "interrupted" and path == newest
    if parts[1] == "straight" and path.name not in ("record.json", "best.npz"):
        return False
    return path.is_file() and not shown and (kept or not path.name.startswith("epoch_"))


def pack(system: str, directory: pathlib.Path) -> None:
    """Writes one archive, the same bytes for the same files."""
    target = directory / f"{system}.tar.xz"
    with tarfile.open(target, "w:xz", preset=9) as archive:
        for path in filter(packed, sorted((PLACE / system).rglob("*"))):
            member = tarfile.TarInfo(str(path.relative_to(PLACE)))
            member.size = path.stat().st_size
            with path.open("rb") as file:
                archive.addfile(member, file)
    print(f"{target}: {target.stat().st_size:,} bytes")


def main() -> None:
    """Makes everything anew and packs it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--small", action="store_true")
    given = parser.parse_args()
    directory = given.directory.resolve()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    directory.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir()
    mmnet(given.small)
    mma4ctr(given.small)
    if importlib.util.find_spec("mmnet.nightly"):
        nights()
    for system in sorted(path.name for path in PLACE.iterdir()):
        pack(system, directory)
    shutil.rmtree(PLACE)


if __name__ == "__main__":
    main()
