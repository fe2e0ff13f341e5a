"""What past rates of user and item, content and MMNet's scores are worth for clicks.

    python experiments/mma4ctr/past_rates/past_rates.py --kuairand=DIR --work=DIR [--seeds=0,1,2]

Two logs: KuaiRand-Pure, real clicks of 14 days, validated on two days and tested on the last
three; and generated logs of WeChat's layout, one per seed, whose users differ, prefer topics, and
whose items appeal unlike. Every system is trained on rows of earlier days only, reads what was
known before the row's day (c1), and is calibrated on the validation rows.

MMNet's score of an item on a day of KuaiRand is that of a model that was trained on the days before
it, one model per day from the eighth day on; rows of earlier days have none. The network of the
published method is trained with its own loss; all others with binary cross-entropy.

Runs are kept in --work, and a run that is there is not trained again.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mmnet import config as item_config
from mmnet import tasks as item_tasks
from mmnet.files import write_atomic
from mmnet.flags import parse
from mmnet.mma4ctr import config, tasks
from mmnet.mma4ctr.data import dataset, protocols
from mmnet.mma4ctr.data.user_embedding import Edges, positive_rates
from mmnet.mma4ctr.evaluation import metrics
from mmnet.training.records import Record

HELD_DAYS = ("--validation_days=2", "--test_days=3")
GENERATED = ("users=400", "feeds=2129", "rows=146358", "rate=0.01")
TRAINING = ("--epochs=20", "--patience=3", "--jit=false", "--outputs=predictions", "--protocol=c1")
RATES = ("--past_rates", "--user_features=none", "--loss=bce", "--batch_size=256")
SCORES, SYSTEM = "scores", "past rates and content"
SYSTEMS: dict[str, tuple[str, ...]] = {
    "as published": ("--batch_size=1024",),
    "as published, cross-entropy": ("--loss=bce", "--batch_size=1024"),
    "past rates": (*RATES, "--matrix=none"),
    SYSTEM: (*RATES, "--lightgbm"),
    "past rates, content and the user's means": (*RATES, "--user_features=signed"),
    "past rates, content and MMNet's scores": (*RATES, SCORES, "--lightgbm"),
}
"""Name -> flags; `SCORES` stands for the file of scores, where the log has one."""
REFERENCES = {
    "base_rate": "base rate",
    "user_rate": "rate of the user",
    "item_rate": "rate of the item",
}
REFERENCES |= {
    "both_rates": "logistic regression of both rates",
    "planted_probability": "the truth",
}
TREES = "lightgbm"
FIRST_SCORED, RESAMPLES = 7, 2000
"""First day with scores of MMNet, counted from 0; resamples of users for the intervals."""


def rolling_scores(source: Path, work: Path) -> Path:
    """MMNet's scores of every day from `FIRST_SCORED` on, each by a model of the days before it."""
    output = work / "scores.parquet"
    if output.exists():
        return output
    log = pq.read_table(sorted(source.glob("log_*.parquet"))[0])
    dates = np.unique(log["date"].to_numpy())
    parts = []
    for number in range(FIRST_SCORED, len(dates)):
        place = work / f"mmnet-{dates[number]}"
        raw = place / "raw"
        raw.mkdir(parents=True, exist_ok=True)
        before = log.filter(pc.less(log["date"], int(dates[number])))
        pq.write_table(before, raw / "log_before.parquet")
        for videos in source.glob("video_features_basic_*"):
            (raw / videos.name).write_bytes(videos.read_bytes())
        tables = ["--source=kuairand", f"--source_dir={raw}", "--item_column=video_id"]
        flags = [*tables, "--denominator=impressions", "--numerator=is_click", "--taxonomies=tag"]
        flags += ["--categoricals=author_id,video_type,upload_type,music_type", "--window=3"]
        flags += ["--numerics=video_duration", "--release=upload_dt", "--recipe=mixed"]
        flags += ["--min_target_clicks=5", "--min_test_rows=20", "--epochs=10"]
        flags += [f"--split_ratios={number - 5},1,1", f"--run_dir={place / 'run'}"]
        if not (place / "run" / "export").exists():
            item_tasks.train(parse(item_config.TrainConfig, flags))
        scored = place / "scores.parquet"
        given = [f"--saved_model={place / 'run' / 'export'}", f"--output={scored}", *tables[:2]]
        item_tasks.predict(parse(item_config.PredictConfig, given))
        parts.append(pq.read_table(scored).select(["item_id", "period", "predicted_share_rate"]))
    pq.write_table(pa.concat_tables(parts), output)
    return output


def runs(data: Path, work: Path, seed: int, scores: Path | None, more: tuple[str, ...]):
    """Trains every system on a log; returns name -> predictions and best validation AUC."""
    train = tasks.trainer()[1]
    found = {}
    for name, flags in SYSTEMS.items():
        if SCORES in flags and scores is None:
            continue
        own = [f"--item_scores={scores}" if flag == SCORES else flag for flag in flags]
        run = work / f"{name.replace(' ', '_')}-{seed}"
        if not (run / "record.json").exists():
            given = [f"--dataset_dir={data}", f"--run_dir={run}", f"--seed={seed}"]
            train(parse(config.TrainConfig, [*TRAINING, *more, *own, *given]))
        best = max(epoch["auc"] for epoch in Record.read(run / "record.json").fitted["history"])
        found[name] = pq.read_table(run / "evaluation" / "predictions.parquet"), best
    return found


def seen_before(data: dataset.Dataset, more: tuple[str, ...]) -> np.ndarray:
    """Rows of the item before the day of each test row."""
    flags = parse(config.TrainConfig, [*more, "--protocol=c1"])
    found = protocols.build(data, flags, np.ones(len(data.item_ids), bool), 0)
    by_item = Edges(found.edges.item, found.edges.user, found.edges.label, found.edges.bin)
    _, rows = positive_rates(by_item, users=len(data.item_ids), bins=found.bins)
    return rows[found.item_moment[found.parts["test"]]]


def scored(tables: dict, new: np.ndarray) -> tuple[dict, np.ndarray, np.ndarray]:
    """Row of the page -> (probabilities, validation AUC) of one seed; labels; users."""
    first = next(iter(tables.values()))[0]
    label, user = first["label"].to_numpy(), first["user_id"].to_numpy()
    found = {}
    for column, name in REFERENCES.items():
        if column in first.column_names:
            found[name] = first[column].to_numpy(), float("nan")
    for name, (table, best) in tables.items():
        found[f"network: {name}"] = table["calibrated_probability"].to_numpy(), best
        if TREES in table.column_names:
            found[f"LightGBM: {name}"] = table[TREES].to_numpy(), float("nan")
    assert len(new) == len(label)
    return found, label, user


def difference(losses: np.ndarray, user: np.ndarray, draw: np.random.Generator) -> str:
    """Mean of a row's difference of LogLoss and its 95 % interval, users resampled."""
    _, place = np.unique(user, return_inverse=True)
    total, size = np.bincount(place, losses), np.bincount(place)
    drawn = draw.integers(0, len(size), (RESAMPLES, len(size)))
    means = total[drawn].sum(axis=1) / size[drawn].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return f"{losses.mean():+.4f} [{low:+.4f}, {high:+.4f}]"


def table(seeds: list[tuple[dict, np.ndarray, np.ndarray, np.ndarray]]) -> list[str]:
    """Lines of one log's table; each of `seeds` is what `scored` returns, and rows of new items."""
    lines = [
        "| system | LogLoss | minus that of the network with past rates and content | AUC | "
        "within users | new items: LogLoss | new items: AUC | validation AUC |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    draw = np.random.default_rng(0)
    for name in seeds[0][0]:
        losses, users, columns = [], [], []
        for found, label, user, new in seeds:
            probability, best = found[name]
            one = metrics.log_losses(label, probability)
            losses.append(one - metrics.log_losses(label, found[f"network: {SYSTEM}"][0]))
            users.append(user)
            within, _ = metrics.user_auc(label, probability, user)
            fresh = metrics.auc(label[new], probability[new])
            columns.append(
                (one.mean(), metrics.auc(label, probability), within, one[new].mean(), fresh, best)
            )
        one_log = all(np.array_equal(user, users[0]) for user in users)
        if one_log:  # the same rows in every seed
            rows, of = np.mean(losses, axis=0), users[0]
        else:
            rows = np.concatenate(losses)
            of = np.concatenate([user + n * 10**12 for n, user in enumerate(users)])
        versus = "" if name == f"network: {SYSTEM}" else difference(rows, of, draw)
        loss, auc, within, fresh, fresh_auc, best = (
            "" if np.isnan(values).all() else f"{np.nanmean(values):.4f}"
            for values in np.array(columns).T
        )
        cells = [name, loss, versus, auc, within, fresh, fresh_auc, best]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def sizes(seeds: list[tuple[dict, np.ndarray, np.ndarray, np.ndarray]]) -> str:
    """A sentence about the test rows."""
    _, label, user, new = seeds[0]
    _, both = metrics.user_auc(label, label, user)
    return (
        f"Test rows{'' if len({len(one[1]) for one in seeds}) == 1 else ' of the first seed'}: "
        f"{len(label):,}, of which {int(label.sum()):,} are positive and {int(new.sum()):,} are of "
        f"new items, which no row had shown before that day; {both:,} users have both kinds of "
        "rows."
    )


def main() -> None:
    """Trains what is missing, and writes results.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kuairand", required=True, help="directory of the publisher's files")
    parser.add_argument("--work", required=True, help="directory of runs, which are kept")
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--output", default=str(Path(__file__).with_name("results.md")))
    arguments = parser.parse_args()
    work, seeds = Path(arguments.work), [int(one) for one in arguments.seeds.split(",")]
    work.mkdir(parents=True, exist_ok=True)
    scores = rolling_scores(Path(arguments.kuairand), work)

    real = []
    place = work / "kuairand"
    given = ["--source=kuairand", f"--source_dir={arguments.kuairand}"]
    tasks.prepare(parse(config.PrepareConfig, [*given, f"--dataset_dir={place / 'dataset'}"]))
    data = dataset.load(place / "dataset")
    new = seen_before(data, HELD_DAYS) == 0
    for seed in seeds:
        found = runs(place / "dataset", place, seed, scores, HELD_DAYS)
        real.append((*scored(found, new), new))

    made = []
    for seed in seeds:
        place = work / f"generated-{seed}"
        options = [f"--generate={option}" for option in (*GENERATED, f"seed={seed}")]
        options += ["--min_rows=20", f"--dataset_dir={place / 'dataset'}"]
        tasks.prepare(parse(config.PrepareConfig, options))
        fresh = seen_before(dataset.load(place / "dataset"), ()) == 0
        found = runs(place / "dataset", place, seed, None, ())
        made.append((*scored(found, fresh), fresh))

    paragraphs = __doc__.split("\n\n")
    lines = [
        "# Past rates, content and MMNet's scores for clicks",
        "",
        "`python experiments/mma4ctr/past_rates/past_rates.py --kuairand=DIR --work=DIR "
        f"--seeds={arguments.seeds}`",
        "",
        *(paragraph.replace("\n", " ") + "\n" for paragraph in paragraphs[2:4]),
        "LogLoss is after calibration. Differences are means over rows and seeds with 95 % "
        "intervals, users resampled; seeds are averaged first where they share a log. The "
        "validation AUC chooses an epoch of a network.",
        "",
        "## KuaiRand-Pure",
        "",
        "The test rows of KuaiRand were open while this was developed: sixteen networks and eight "
        "sets of trees of one seed printed their test errors next to those of validation. "
        "Validation chose how past rates are scaled, the batch size, and that the user's means "
        "are left out, but the test is not untouched, and the differences below are to be read "
        "with that in mind.",
        "",
        sizes(real),
        "",
        *table(real),
        "",
        "## Generated logs of WeChat's layout",
        "",
        sizes(made),
        "",
        *table(made),
    ]
    write_atomic(arguments.output, "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
