"""The funnel: MMNet filters a catalogue, its scores enter MMa4CTR, and what each step is worth.

    python experiments/mma4ctr/funnel/funnel.py [--seeds=5] [--work=DIR]

A log of WeChat's layout is generated whose clicks are known to depend on the user, on the item and
on the user's taste for the item's topic. MMNet sees days 1 to 7 and predicts every feed's rate of
read comments; the better half is kept. MMa4CTR is trained on days 8 to 12 (days 1 to 7 are history
only), tuned on day 13 and tested on day 14, strictly past in time, on the kept half with and
without MMNet's score as a column, and on the whole catalogue. Nothing of day 8 or later is in a
score, and nothing of a row's own day in a feature.

Lift is the rate of positives among the chosen tenth of day 14's rows over that among all of them.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from mmnet.files import write_atomic
from mmnet.mma4ctr.data import generator
from mmnet.mma4ctr.evaluation import metrics

LAST_DAY_SEEN, CHOSEN, KEPT = 7, 0.1, 0.5
LOG = {"users": 600, "feeds": 1500, "rows": 300_000, "rate": 0.03, "item_sd": 0.8}


def call(module: str, *flags: str) -> None:
    """Runs a driver; its output only where it fails."""
    ran = subprocess.run(
        [sys.executable, "-m", module, *flags], capture_output=True, text=True, check=False
    )
    if ran.returncode:
        raise SystemExit(f"{module}: {ran.stderr.strip()}")


def one_seed(seed: int, work: Path) -> dict[str, dict[str, float]]:
    """What each system chooses of day 14, by row of the table."""
    raw, before, scores = work / "raw", work / "before", work / "scores.parquet"
    generator.wechat_files(raw, **LOG, user_dispersion=2.0, seed=seed)
    before.mkdir()
    actions = pyarrow.csv.read_csv(raw / "user_action.csv")
    seen = actions.filter(pc.less_equal(actions["date_"], LAST_DAY_SEEN))
    pyarrow.csv.write_csv(seen, before / "user_action.csv")
    (before / "feed_info.csv").symlink_to(raw / "feed_info.csv")
    call(
        "mmnet.train",
        *("--source=wechat", f"--source_dir={before}", "--numerator=read_comment"),
        *("--taxonomies=machine_tag_list", "--categoricals=authorid", "--window=3"),
        *("--min_target_clicks=10", "--min_test_rows=20", "--half_weight_clicks=50"),
        *("--set=smoothed_history=true", "--schedule=cosine", "--epochs=10"),
        *(f"--seed={seed}", f"--run_dir={work / 'mmnet'}", "--split_ratios=5,1,1"),
    )
    call(
        "mmnet.predict",
        *(f"--saved_model={work / 'mmnet' / 'export'}", "--source=wechat"),
        *(f"--source_dir={before}", f"--output={scores}"),
    )
    table = pyarrow.parquet.read_table(scores)
    rate = table["predicted_share_rate"].to_numpy()
    decided = np.where(rate >= np.quantile(rate, 1 - KEPT), "keep", "drop")
    filtered = work / "filtered.parquet"
    pyarrow.parquet.write_table(table.append_column("decision", pa.array(decided)), filtered)

    found = {}
    common = (f"--source_dir={raw}", f"--dataset_dir={work / 'dataset'}", "--min_rows=50")
    common += ("--protocol=c1", f"--first_time={LAST_DAY_SEEN + 1}", f"--seed={seed}")
    common += ("--epochs=30", "--batch_size=2048")
    systems = {
        "MMa4CTR": (),
        "MMNet's score inside MMa4CTR": (f"--item_scores={scores}",),
        "MMNet's filter, then MMa4CTR": (f"--item_scores={filtered}", "--score_column=false"),
        "MMNet's filter, then MMa4CTR with its score": (f"--item_scores={filtered}",),
    }
    for number, (name, flags) in enumerate(systems.items()):
        run = work / f"run{number}"
        call("mmnet.mma4ctr.train", *common, *flags, f"--run_dir={run}")
        found[name] = pyarrow.parquet.read_table(run / "evaluation" / "predictions.parquet")
    everything = found["MMa4CTR"]
    item = everything["item_id"].to_numpy()
    by_item = dict(zip(table["item_id"].to_pylist(), rate, strict=True))
    score = np.array([by_item[str(one)] for one in item])
    truth = generator.Truth.read(raw / generator.TRUTH)
    planted = truth.probability(everything["user_id"].to_numpy(), item)
    label = everything["label"].to_numpy()
    rows = {
        "nothing": (np.random.default_rng(seed).random(len(label)), label),
        "MMNet's score alone": (score, label),
        **{name: (t["probability"].to_numpy(), t["label"].to_numpy()) for name, t in found.items()},
        "planted probability": (planted, label),
    }
    budget = int(CHOSEN * len(label))
    chance = label.mean()
    return {
        name: {
            "AUC": metrics.auc(labels, values),
            "rows": len(labels),
            # Of the same number of rows, whatever the filter left to choose from.
            "lift": labels[np.argsort(-values, kind="stable")[:budget]].mean() / chance,
            "rate of positives, percent": 100 * labels.mean(),
        }
        for name, (values, labels) in rows.items()
    }


def main() -> None:
    """Runs the seeds and writes results.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--work", default="")
    parser.add_argument("--output", default="experiments/mma4ctr/funnel/results.md")
    arguments = parser.parse_args()
    seeds = []
    for seed in range(arguments.seeds):
        with tempfile.TemporaryDirectory(dir=arguments.work or None) as place:
            seeds.append(one_seed(seed, Path(place)))
            print(seed, {name: round(row["lift"], 2) for name, row in seeds[-1].items()})
    columns = ("AUC", "lift", "rate of positives, percent", "rows")
    lines = ["# The funnel", "", __doc__.split("\n\n")[2].replace("\n", " "), ""]
    lines += [
        f"{arguments.seeds} seeds, each a log of its own; mean ± sd. AUC is over the rows that the "
        "system was left with, so it compares only among those of the same filter.",
        "",
        "| chosen by | AUC | lift of the best tenth | positives of all left, % | rows left |",
        "|---|---:|---:|---:|---:|",
    ]
    for name in seeds[0]:
        shown = []
        for column in columns:
            values = [one[name][column] for one in seeds]
            digits = 0 if column == "rows" else 3
            sd = f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 and digits else ""
            shown.append(f"{np.mean(values):,.{digits}f}{sd}")
        lines.append(f"| {name} | {' | '.join(shown)} |")
    text = "\n".join(lines) + "\n\n" + __doc__.split("\n\n")[3].strip().replace("\n", " ") + "\n"
    write_atomic(arguments.output, text)
    print(text)


if __name__ == "__main__":
    main()
