"""Costs of MMa4CTR at the contests' sizes: preparation, training, scoring.

    python experiments/performance/mma4ctr.py [--scale=1] [--directory=DIR] [--output=FILE]
        [--parts=wechat,tiktok,steps,scoring]

`wechat`: a log of WeChat's layout with 20,000 users, 106,444 feeds and 7.3 million rows is
generated (not counted). `prepare` and `train` (as published, 10 epochs of batch 8192) then run as
processes of their own, with wall and CPU seconds and the most memory that each held. `tiktok`: the
same for TikTok's layout, with 636,281 users, 27 million items and 276 million rows, of which users
of 4,000 rows or more are kept; the feature files have every item of those users and no other, as
all that another item costs is the reading of its line. Beside that, on random tables of the
published size: a training step of this project, of a plain Keras `fit` over rows written out, and
of the same network in PyTorch where that is installed; and pairs scored per second and core with
tables gathered in the model, as trained and with the first layer folded into the tables. Variants
take turns, round by round, and ratios are formed within a round.
"""

import functools
import statistics
import tempfile
import time
from pathlib import Path

import bench

USERS, FEEDS, ROWS = 20_000, 106_444, 7_317_882
BATCH, STEPS, ROUNDS = 8192, 32, 5
PAIRS = 1 << 21
TIKTOK_USERS, TIKTOK_ITEMS, TIKTOK_ROWS = 636_281, 27_342_248, 275_855_531
STRIDE = 1_000_003


def commands(raw: Path, directory: Path, preparing=(), training=()) -> list[str]:
    """Preparation and training of a log: a table, and what was trained on."""
    dataset, run = directory / "dataset", directory / "run"
    prepared = bench.run(
        *("-m", "mmnet.mma4ctr.prepare", f"--source_dir={raw}", f"--dataset_dir={dataset}"),
        *preparing,
        quiet=False,
    )
    trained = bench.run(
        *("-m", "mmnet.mma4ctr.train", f"--dataset_dir={dataset}", f"--run_dir={run}"),
        *("--protocol=p0", "--epochs=10", *training),
        quiet=False,
    )
    from mmnet.training.records import Record

    record = Record.read(run / "record.json")
    stages = ", ".join(f"{name} {seconds:.0f}" for name, seconds in record.stage_seconds.items())
    return [
        "| command | wall s | CPU s | peak GB |",
        "|---|---:|---:|---:|",
        f"| prepare | {prepared.wall:.0f} | {prepared.cpu:.0f} | {prepared.peak:.2f} |",
        f"| train, 10 epochs of batch 8192, evaluation, export | {trained.wall:.0f} | "
        f"{trained.cpu:.0f} | {trained.peak:.2f} |",
        f"| both | {prepared.wall + trained.wall:.0f} | {prepared.cpu + trained.cpu:.0f} | "
        f"{max(prepared.peak, trained.peak):.2f} |",
        "",
        f"Stages of train, wall seconds: {stages}; {record.parameters:,} parameters, "
        f"{record.metrics['in_features']} columns.",
        "",
        *(f"- {rule}: {rows:,} rows" for rule, rows in record.rows_per_rule.items()),
        "",
    ]


def wechat(directory: Path, scale: float) -> list[str]:
    """WeChat's layout."""
    from mmnet.mma4ctr.data import generator

    raw, began = directory / "raw", time.perf_counter()
    users, feeds, rows = (round(number * scale) for number in (USERS, FEEDS, ROWS))
    generator.wechat_files(raw, users=users, feeds=feeds, rows=rows, text_scale=1.0)
    generated = time.perf_counter() - began
    size = sum(path.stat().st_size for path in raw.glob("*.csv")) / 1e9
    return [
        "## A log of WeChat's layout",
        "",
        f"{users:,} users, {feeds:,} feeds, {rows:,} rows, {size:.2f} GB of CSV (written in "
        f"{generated:.0f} s, not counted).",
        "",
        *commands(raw, directory),
    ]


def tiktok(directory: Path, scale: float) -> list[str]:
    """TikTok's layout."""
    raw, began = directory / "raw", time.perf_counter()
    raw.mkdir()
    kept = tiktok_log(raw, scale)
    log = sum(path.stat().st_size for path in raw.iterdir()) / 1e9
    tiktok_features(raw, kept)
    whole = sum(path.stat().st_size for path in raw.iterdir()) / 1e9
    users, items, rows = (
        round(number * scale) for number in (TIKTOK_USERS, TIKTOK_ITEMS, TIKTOK_ROWS)
    )
    return [
        "## A log of TikTok's layout",
        "",
        f"{users:,} users, {items:,} items, {rows:,} rows, {log:.1f} GB; features of "
        f"{len(kept):,} items, {whole - log:.1f} GB of lines of JSON (written in "
        f"{time.perf_counter() - began:.0f} s, not counted). DuckDB has 2 GB.",
        "",
        *commands(raw, directory, ["--source=tiktok"], ["--pca_widths=71,10,22"]),
    ]


def tiktok_log(directory: Path, scale: float):
    """Writes the log; returns the items of users with 4,000 rows or more, int64, sorted."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.csv

    from mmnet.data.sources.tiktok import COLUMNS, TRACK_1
    from mmnet.mma4ctr.data.sources import SOURCES

    users, items, rows = (
        round(number * scale) for number in (TIKTOK_USERS, TIKTOK_ITEMS, TIKTOK_ROWS)
    )
    draw = np.random.default_rng(0)
    # So unlike in activity that about 1,700 users of the whole have 4,000 rows or more.
    activity = np.exp(0.96 * draw.normal(size=users))
    per_user = draw.multinomial(rows, activity / activity.sum())
    likely = per_user >= SOURCES["tiktok"].min_rows
    ends = np.cumsum(per_user)
    options = pa.csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
    shown = np.zeros(items, bool)
    chunk = 1_000_000
    with (directory / TRACK_1.log).open("wb") as file:
        for start in range(0, rows, chunk):
            number = min(chunk, rows - start)
            # A stride that shares no factor with the rows visits every row once, users mixed.
            place = (np.arange(start, start + number) * STRIDE) % rows
            user = np.searchsorted(ends, place, side="right")
            columns = {name: draw.integers(0, 400, number) for name in COLUMNS}
            columns["uid"] = user
            # Popularity falls as 1 / (1000 + rank): kept users meet about 3 million items.
            rank = 1000 * ((items / 1000 + 1) ** draw.random(number) - 1)
            columns["item_id"] = np.minimum(rank, items - 1).astype(np.int64)
            columns["finish"] = (draw.random(number) < 0.28).astype(np.int64)
            columns["like"] = (draw.random(number) < 0.016).astype(np.int64)
            columns["time"] = 53_000_000_000 + draw.integers(0, 5_000_000, number)
            shown[columns["item_id"][likely[user]]] = True
            pa.csv.write_csv(pa.table({name: columns[name] for name in COLUMNS}), file, options)
    return np.flatnonzero(shown)


def tiktok_features(directory: Path, item_ids) -> None:
    """Writes 11 files of visual, 4 of acoustic features and the titles, of these items."""
    import numpy as np

    from mmnet.data.sources import tiktok as layout

    draw = np.random.default_rng(1)
    vectors = [str([round(float(x), 6) for x in one]) for one in draw.normal(size=(512, 128))]
    titles = []
    for number in range(512):
        words = draw.choice(100_000, 1 + number % 30, replace=False)
        titles.append("{" + ", ".join(f'"{word}": 1' for word in words) + "}")
    for pattern, key, parts, values in (
        (layout.TRACK_1.videos, layout.VIDEO_KEY, 11, vectors),
        (layout.TRACK_1.audios, layout.AUDIO_KEY, 4, vectors),
        (layout.TRACK_1.titles, "title_features", 1, titles),
    ):
        for part, chosen in enumerate(np.array_split(item_ids, parts), start=1):
            which = draw.integers(0, len(values), len(chosen))
            with (directory / pattern.replace("*", f"features_part{part}")).open("w") as file:
                file.writelines(
                    f'{{"item_id": {item}, "{key}": {values[value]}}}\n'
                    for item, value in zip(chosen.tolist(), which.tolist(), strict=True)
                )


def random_parts():
    """Tables and rows of the published size."""
    import numpy as np

    from mmnet.mma4ctr.data.features import Features, Scaler

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

    from mmnet.mma4ctr.data.protocols import Protocol
    from mmnet.mma4ctr.models import network
    from mmnet.mma4ctr.training import fitting

    model = network.Clicks(features, network.network(194, arch="readme", seed=0))
    rows = {"train": slice(0, len(state))}
    none = np.zeros(0)
    protocol = Protocol(
        *("p0", none, item, state, label.astype(np.int8), none, rows, None, 0),
        *(none, none, none, True),
    )
    batches = fitting.Batches(protocol, BATCH, 0)
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

    from mmnet.mma4ctr.models import network

    net = network.network(194, arch="readme", seed=0)
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
        variants["PyTorch"] = pytorch(*parts, bench.cores())
        variants["PyTorch, one thread"] = pytorch(*parts, 1)
    except ImportError:
        print("PyTorch is not installed; its row is left out")
    for run in variants.values():
        run()
    walls, cpus = bench.race(variants, ROUNDS)
    lines = [
        f"Training step, batch {BATCH}, 194 columns, 29,225 parameters; medians of {ROUNDS} rounds "
        f"of {STEPS} steps, ratios within a round.",
        "",
        "| variant | wall ms a step | CPU ms a step | rows/s | times as fast as plain Keras fit |",
        "|---|---:|---:|---:|---:|",
    ]
    for name in variants:
        wall, cpu = (statistics.median(spent[name]) / STEPS for spent in (walls, cpus))
        times = bench.spread(bench.ratios(walls["plain Keras fit"], walls[name]))
        lines.append(
            f"| {name} | {1000 * wall:.2f} | {1000 * cpu:.2f} | {BATCH / wall:,.0f} | {times} |"
        )
    return [*lines, ""]


def scoring() -> list[str]:
    """Pairs per second on one core."""
    import numpy as np
    import tensorflow as tf

    from mmnet.mma4ctr.evaluation.metrics import Platt
    from mmnet.mma4ctr.models import network
    from mmnet.mma4ctr.serving.scoring import Folded

    features, *_ = random_parts()
    model = network.Clicks(features, network.network(194, arch="readme", seed=0))
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
        "tables gathered in the model": functools.partial(gathered, user, item),
        "first layer folded into the tables": functools.partial(
            batched(folded.places, 8192), user, item
        ),
        "the SavedModel's signature: ids looked up, folded": functools.partial(
            batched(folded.pairs, 8192), user_id, item_id
        ),
    }
    for run in variants.values():
        run()
    walls, cpus = bench.race(variants, ROUNDS)
    return [
        f"Scoring, {PAIRS:,} random pairs of {USERS:,} users and {FEEDS:,} items, batches of 8192, "
        f"one thread; medians of {ROUNDS} rounds (least to most).",
        "",
        "| variant | pairs/s | pairs per CPU second |",
        "|---|---:|---:|",
        *(
            f"| {name} | {bench.spread([PAIRS / wall for wall in walls[name]], ',.0f')} | "
            f"{PAIRS / statistics.median(cpus[name]):,.0f} |"
            for name in variants
        ),
        "",
    ]


def main() -> None:
    """Runs what was asked for, each part in a process of its own."""
    arguments = bench.options(
        __doc__,
        scale={"default": 1.0, "help": "share of the contests' sizes"},
        directory="",
        parts="wechat,tiktok,steps,scoring",
        part=bench.HIDDEN,
        output="experiments/performance/mma4ctr.md",
    )
    if arguments.part:
        import tensorflow as tf

        if arguments.part == "scoring":
            tf.config.threading.set_intra_op_parallelism_threads(1)
            tf.config.threading.set_inter_op_parallelism_threads(1)
        print("\n".join({"steps": steps, "scoring": scoring}[arguments.part]()))
        return
    from mmnet.training.records import machine

    about = f"{machine()['processor']}, {machine()['cores']} cores"
    lines = ["# Costs of MMa4CTR", ""]
    lines += [f"`python experiments/performance/mma4ctr.py`, on {about}.", ""]
    for part in arguments.parts.split(","):
        if part in ("wechat", "tiktok"):
            with tempfile.TemporaryDirectory(dir=arguments.directory or None) as place:
                lines += {"wechat": wechat, "tiktok": tiktok}[part](Path(place), arguments.scale)
        else:
            lines += [*bench.run(__file__, f"--part={part}").output.splitlines(), ""]
    bench.publish(lines, arguments.output)


if __name__ == "__main__":
    main()
