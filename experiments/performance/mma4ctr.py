"""What MMa4CTR costs at the contest's size: preparation, training, scoring.

    python experiments/performance/mma4ctr.py [--users=20000] [--directory=DIR] [--output=FILE]
        [--parts=whole,tiktok,steps,scoring]

A log of WeChat's layout with 20,000 users, 106,444 feeds and 7.3 million rows is generated (not
counted). `prepare` and `train` (as published, 10 epochs of batch 8192) then run as processes of
their own, with wall and CPU seconds and the most memory that each held. `tiktok` writes a log of
TikTok's layout with a tenth of its 276 million rows and reads it as `prepare` does: rows per user,
then the rows of users with 4,000 or more. Beside that, on random
tables of the same size: a training step of this project, of a plain Keras `fit` over rows written
out, and of the same network in PyTorch where that is installed; and pairs scored per second and
core with tables gathered in the model, as trained and with the first layer folded into the tables.
Variants take turns, round by round, and ratios are formed within a round.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
USERS, FEEDS, ROWS = 20_000, 106_444, 7_317_882
BATCH, STEPS, ROUNDS = 8192, 32, 5
PAIRS = 1 << 21
TIKTOK_USERS, TIKTOK_ITEMS, TIKTOK_ROWS = 63_628, 2_734_224, 27_585_553
READ = """
import sys
from mmnet.mma4ctr import interactions
from mmnet.mma4ctr.config import InteractionFlags
rows, rules, _ = interactions.read(InteractionFlags(source="tiktok", source_dir=sys.argv[1]))
assert len(rows) == rules[-1].rows_out
"""


def measured(*arguments: str) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and peak GB of a command."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{arguments[1]} ended with exit code {process.returncode}")
    cpu = usage.ru_utime + usage.ru_stime
    return time.perf_counter() - began, cpu, usage.ru_maxrss / 1024**2


def whole(directory: Path, users: int) -> list[str]:
    """Preparation and training at full size."""
    from mmnet.mma4ctr import generator

    part = users / USERS
    raw, dataset, run = directory / "raw", directory / "dataset", directory / "run"
    began = time.perf_counter()
    generator.wechat_files(
        raw,
        users=users,
        feeds=int(FEEDS * part),
        rows=int(ROWS * part),
        text_scale=1.0,
    )
    generated = time.perf_counter() - began
    prepared = measured(
        "-m", "mmnet.mma4ctr.prepare", f"--source_dir={raw}", f"--dataset_dir={dataset}"
    )
    trained = measured(
        "-m",
        "mmnet.mma4ctr.train",
        *(f"--dataset_dir={dataset}", f"--run_dir={run}", "--protocol=p0", "--epochs=10"),
    )
    from mmnet.training.records import Record

    record = Record.read(run / "record.json")
    stages = ", ".join(f"{name} {seconds:.0f}" for name, seconds in record.stage_seconds.items())
    size = sum(path.stat().st_size for path in raw.glob("*.csv")) / 1e9
    total = prepared[0] + trained[0]
    return [
        f"{users:,} users, {int(FEEDS * part):,} feeds, {int(ROWS * part):,} rows, {size:.2f} GB "
        f"of CSV (written in {generated:.0f} s, not counted).",
        "",
        "| command | wall s | CPU s | peak GB |",
        "|---|---:|---:|---:|",
        f"| prepare | {prepared[0]:.0f} | {prepared[1]:.0f} | {prepared[2]:.2f} |",
        f"| train, 10 epochs of batch 8192, evaluation, export | {trained[0]:.0f} | "
        f"{trained[1]:.0f} | {trained[2]:.2f} |",
        f"| both | {total:.0f} | {prepared[1] + trained[1]:.0f} | "
        f"{max(prepared[2], trained[2]):.2f} |",
        "",
        f"Stages of train, wall seconds: {stages}; {record.parameters:,} parameters, "
        f"{record.metrics['in_features']} columns.",
        "",
    ]


def tiktok_log(directory: Path) -> list[str]:
    """Reading a log of TikTok's layout, a tenth of it."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.csv

    from mmnet.data.sources.tiktok import COLUMNS, LOG

    draw = np.random.default_rng(0)
    activity = np.cumsum(np.exp(1.2 * draw.normal(size=TIKTOK_USERS)))
    options = pa.csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
    chunk, path = 1_000_000, directory / LOG
    with path.open("wb") as file:
        for start in range(0, TIKTOK_ROWS, chunk):
            number = min(chunk, TIKTOK_ROWS - start)
            columns = {name: draw.integers(0, 400, number) for name in COLUMNS}
            columns["uid"] = np.searchsorted(activity, draw.random(number) * activity[-1])
            columns["item_id"] = draw.integers(0, TIKTOK_ITEMS, number)
            columns["finish"] = (draw.random(number) < 0.28).astype(np.int64)
            columns["like"] = (draw.random(number) < 0.016).astype(np.int64)
            columns["time"] = 53_000_000_000 + draw.integers(0, 5_000_000, number)
            pa.csv.write_csv(pa.table({name: columns[name] for name in COLUMNS}), file, options)
    wall, cpu, peak = measured("-c", READ, str(directory))
    return [
        f"A log of TikTok's layout: {TIKTOK_ROWS:,} rows, {path.stat().st_size / 1e9:.2f} GB, read "
        f"by DuckDB with 2 GB: {wall:.0f} s wall, {cpu:.0f} s CPU ({TIKTOK_ROWS / cpu / 1e6:.2f} "
        f"million rows per CPU second), {peak:.2f} GB at most.",
        "",
    ]


def random_parts():
    """Tables and rows of the published size."""
    import numpy as np

    from mmnet.mma4ctr.features import Features, Scaler

    draw = np.random.default_rng(0)
    scaler = Scaler(np.zeros(194, np.float32), np.ones(194, np.float32))
    features = Features(
        draw.random((USERS, 66), np.float32),
        draw.random((FEEDS, 128), np.float32),
        {"train": scaler},
        {},
    )
    number = BATCH * STEPS
    state = draw.integers(0, USERS, number).astype(np.int32)
    item = draw.integers(0, FEEDS, number).astype(np.int32)
    label = (draw.random(number) < 0.01).astype(np.float32)
    return features, state, item, label


def ours(features, state, item, label):
    """The project's step: tables in the model, 32 steps a call, XLA."""
    import keras
    import numpy as np

    from mmnet.mma4ctr import network, training
    from mmnet.mma4ctr.protocols import Protocol

    model = network.Clicks(features, network.network(194))
    rows = {"train": slice(0, len(state))}
    none = np.zeros(0)
    protocol = Protocol(
        *("p0", none, item, state, label.astype(np.int8), none, rows, None, 0),
        *(none, none, none, True),
    )
    batches = training.Batches(protocol, BATCH, 0)
    model.compile(
        keras.optimizers.Adam(1e-3, epsilon=1e-8),
        network.ListwiseCrossEntropy(),
        jit_compile=True,
        steps_per_execution=32,
    )
    return lambda: model.fit(batches(0), verbose=0, shuffle=False)


def plain(features, state, item, label):
    """Keras `fit` on rows written out, as one would write it first."""
    import keras

    from mmnet.mma4ctr import network

    net = network.network(194)
    model = keras.Model(net.input, net.output[0])
    model.compile(keras.optimizers.Adam(1e-3, epsilon=1e-8), network.ListwiseCrossEntropy())
    rows = features.rows(state, item, "train")
    return lambda: model.fit(rows, label, batch_size=BATCH, verbose=0)


def pytorch(features, state, item, label, threads):
    """The same network, loss and optimiser in PyTorch, on rows written out."""
    import torch

    layers = [(194, 128), (128, 32), (32, 4)]
    parts = [part for size in layers for part in (torch.nn.Linear(*size), torch.nn.Tanh())]
    net = torch.nn.Sequential(*parts, torch.nn.Linear(4, 1), torch.nn.Sigmoid())
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    loss = torch.nn.CrossEntropyLoss()
    rows = torch.from_numpy(features.rows(state, item, "train"))
    labels = torch.from_numpy(label)

    def run():
        torch.set_num_threads(threads)
        order = torch.randperm(len(rows))
        for step in range(STEPS):
            chosen = order[step * BATCH : (step + 1) * BATCH]
            optimizer.zero_grad()
            loss(net(rows[chosen]).squeeze(1), labels[chosen]).backward()
            optimizer.step()

    return run


def steps() -> list[str]:
    """Training steps side by side."""
    parts = random_parts()
    variants = {"mmnet": ours(*parts), "plain Keras fit": plain(*parts)}
    try:
        cores = len(os.sched_getaffinity(0))
        variants["PyTorch"] = pytorch(*parts, cores)
        variants["PyTorch, one thread"] = pytorch(*parts, 1)
    except ImportError:
        print("PyTorch is not installed; its row is left out")
    for run in variants.values():
        run()
    walls = {name: [] for name in variants}
    cpus = {name: [] for name in variants}
    for _ in range(ROUNDS):
        for name, run in variants.items():
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            walls[name].append((time.perf_counter() - wall) / STEPS * 1000)
            cpus[name].append((time.process_time() - cpu) / STEPS * 1000)
    lines = [
        f"Training step, batch {BATCH}, 194 columns, 29,225 parameters; medians of {ROUNDS} rounds "
        f"of {STEPS} steps, ratios within a round.",
        "",
        "| variant | wall ms a step | CPU ms a step | rows/s | times as fast as plain Keras fit |",
        "|---|---:|---:|---:|---:|",
    ]
    for name in variants:
        wall, cpu = (sorted(one[name])[ROUNDS // 2] for one in (walls, cpus))
        ratios = sorted(
            base / mine for base, mine in zip(walls["plain Keras fit"], walls[name], strict=True)
        )
        lines.append(
            f"| {name} | {wall:.2f} | {cpu:.2f} | {BATCH / wall * 1000:,.0f} | "
            f"{ratios[ROUNDS // 2]:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) |"
        )
    return [*lines, ""]


def scoring() -> list[str]:
    """Pairs per second on one core."""
    import numpy as np
    import tensorflow as tf

    from mmnet.mma4ctr import network
    from mmnet.mma4ctr.metrics import Platt
    from mmnet.mma4ctr.scoring import Folded

    features, *_ = random_parts()
    model = network.Clicks(features, network.network(194))
    everyone, everything = np.ones(USERS, bool), np.ones(FEEDS, bool)
    ids = np.arange(USERS), np.arange(FEEDS)
    folded = Folded(model, ids[0], *ids, everyone, everything, Platt(1.0, 0.0))
    draw = np.random.default_rng(1)
    user = tf.constant(draw.integers(0, USERS, PAIRS).astype(np.int32))
    item = tf.constant(draw.integers(0, FEEDS, PAIRS).astype(np.int32))
    user_id, item_id = tf.cast(user, tf.int64), tf.cast(item, tf.int64)

    def batched(function, batch):
        compiled = tf.function(function)

        def run(first, second):
            for start in range(0, PAIRS, batch):
                compiled(first[start : start + batch], second[start : start + batch])

        return run

    gathered = batched(lambda s, i: model({"state": s, "item": i}), 8192)
    variants = {
        "tables gathered in the model": (gathered, user, item),
        "first layer folded into the tables": (batched(folded.places, 8192), user, item),
        "the SavedModel's signature: ids looked up, folded": (
            batched(folded.pairs, 8192),
            user_id,
            item_id,
        ),
    }
    for run, *inputs in variants.values():
        run(*inputs)
    rates = {name: [] for name in variants}
    cores = {name: [] for name in variants}
    for _ in range(ROUNDS):
        for name, (run, *inputs) in variants.items():
            wall, cpu = time.perf_counter(), time.process_time()
            run(*inputs)
            rates[name].append(PAIRS / (time.perf_counter() - wall))
            cores[name].append(PAIRS / (time.process_time() - cpu))
    lines = [
        f"Scoring, {PAIRS:,} random pairs of {USERS:,} users and {FEEDS:,} items, batches of 8192, "
        f"one thread; medians of {ROUNDS} rounds (least to most).",
        "",
        "| variant | pairs/s | pairs per CPU second |",
        "|---|---:|---:|",
    ]
    for name in variants:
        wall, cpu = sorted(rates[name]), sorted(cores[name])
        lines.append(
            f"| {name} | {wall[ROUNDS // 2]:,.0f} ({wall[0]:,.0f} to {wall[-1]:,.0f}) | "
            f"{cpu[ROUNDS // 2]:,.0f} |"
        )
    return [*lines, ""]


def main() -> None:
    """Runs what was asked for, each part in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=USERS)
    parser.add_argument("--directory", default="")
    parser.add_argument("--parts", default="whole,tiktok,steps,scoring")
    parser.add_argument("--output", default="experiments/performance/mma4ctr.md")
    parser.add_argument("--part", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        import tensorflow as tf

        if arguments.part == "scoring":
            tf.config.threading.set_intra_op_parallelism_threads(1)
            tf.config.threading.set_inter_op_parallelism_threads(1)
        print("\n".join({"steps": steps, "scoring": scoring}[arguments.part]()))
        return
    from mmnet.files import write_atomic
    from mmnet.training.records import machine

    lines = ["# What MMa4CTR costs", ""]
    lines += [f"`python experiments/performance/mma4ctr.py`, on {machine()['processor']}, "]
    lines[-1] += f"{machine()['cores']} cores."
    lines.append("")
    for part in arguments.parts.split(","):
        if part in ("whole", "tiktok"):
            with tempfile.TemporaryDirectory(dir=arguments.directory or None) as place:
                lines += (
                    whole(Path(place), arguments.users)
                    if part == "whole"
                    else tiktok_log(Path(place))
                )
        else:
            command = [sys.executable, __file__, f"--part={part}"]
            lines += subprocess.run(
                command, check=True, capture_output=True, text=True
            ).stdout.splitlines()
            lines.append("")
    text = "\n".join(lines).rstrip() + "\n"
    write_atomic(arguments.output, text)
    print(text)


if __name__ == "__main__":
    main()
