"""Compares the signature `decide` with `predict` on 10,000 items, for every kind of model.

    python experiments/decisions/parity.py [--items=10000] [--model=NAME ...] [--output=FILE]

A small model of each kind is trained on a simulated log, with a quota as its rule. `predict` scores
the dataset; `decide` reads the raw columns of the same items, as a user's tables have them.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import tensorflow as tf

from mmnet import config, tasks
from mmnet.data import dataset as datasets
from mmnet.data import input_tables
from mmnet.data.splits import Examples
from mmnet.data.windows import Windows
from mmnet.evaluation.report import markdown_table
from mmnet.files import write_atomic
from mmnet.flags import parse
from mmnet.serving import decision, export, exported, golden, reasons

HERE = Path(__file__).parent
NEAR = 1e-5
"""Percentage points from a threshold within which rounding may change a decision."""
BATCH = 512
RULE = "keep=0.3 per category"
COMMON = [
    *("--source=simulated", "--source_set=periods=12", "--taxonomies=category,tags"),
    *("--categoricals=author", "--numerics=duration", "--texts=title", "--release=release"),
    *("--inputs=age", "--window=4", f"--rules={RULE}", "--epochs=1", "--nojit"),
    *("--min_target_clicks=5", "--min_test_rows=100"),
]
NETWORK = ["--set=units=8", "--set=field_width=4"]
MODELS = {
    "mmnet": NETWORK,
    "smoothed_history": ["--model=smoothed_history"],
    "lightgbm": ["--model=lightgbm"],
    "mmnet, ensemble of 2": [*NETWORK, "--ensemble=2"],
    "mmnet, two rates": [
        *(*NETWORK, "--source_set=likes=true", "--also_predict=like", "--rate=like=likes/clicks"),
    ],
}


def raw_columns(dataset, column):
    """Raw columns and keys of all items as of a period, as the tables have them."""
    fitted, panel = dataset.fitted, dataset.panel
    number = len(panel.item_ids)
    pairs = Examples(np.arange(number, dtype=np.int32), np.full(number, column, np.int32))
    rows = golden.rows(dataset, Windows(dataset), pairs, number)
    found = rows.columns | rows.keys
    steps = slice(column - fitted.spec.window + 1, column + 1)
    # Golden rows hide the history of every other item.
    found |= {name: getattr(panel, name)[:, steps] for name in ("clicks", "shares")}
    for rate, counts in panel.rates.items():
        found |= {f"{name}_{rate}": getattr(counts, name)[:, steps] for name in counts._fields}
    table = input_tables.load_tables(fitted.tables).items.data.to_pandas()
    for name in ("category", "tags", "author", "title"):
        found[f"item_{name}"] = table[name].to_numpy(object)
    found["number_duration"] = table["duration"].to_numpy("float32")
    return found


def decided(directory, columns):
    """Outputs of `decide` for all rows."""
    signature = export.load(directory)[0].signatures[exported.DECIDE]
    parts = []
    for start in range(0, len(columns["id"]), BATCH):
        batch = {name: tf.constant(one[start : start + BATCH]) for name, one in columns.items()}
        parts.append({name: one.numpy() for name, one in signature(**batch).items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def predicted(run_dir, period):
    """The table that `predict` writes."""
    output = run_dir / "scores.parquet"
    given = {"saved_model": run_dir / "export", "dataset_dir": run_dir / "dataset"}
    arguments = [f"--{name}={value}" for name, value in given.items()]
    arguments += [f"--output={output}", f"--as_of={period}"]
    arguments += ["--rule=stored", "--explore", "--explain"]
    tasks.predict(parse(config.PredictConfig, arguments))
    return pq.read_table(output)


def compared(title, run_dir):
    """One row of the table, and the rows near a threshold."""
    dataset = datasets.load(run_dir / "dataset")
    column = dataset.panel.clicks.shape[1] - 1
    columns = raw_columns(dataset, column)
    found = decided(run_dir / "export", columns)
    table = predicted(run_dir, dataset.panel.label(column))
    stored = exported.document(run_dir / "export", decision.FILE, decision.Decisions)
    field, by_id = stored.quota("stored", dataset.fitted)
    threshold = by_id[dataset.tensors[field.tensor][:, 0]]

    def far(names):
        return max(float(np.abs(found[name] - table[name].to_numpy()).max()) for name in names)

    score, high = (table[name].to_numpy() for name in (exported.OUTPUT, exported.HIGH))
    distance = np.minimum(np.abs(score - threshold), np.abs(high - threshold))
    wanted = np.array(table["decision"].to_pylist())
    given = np.array([one.decode() for one in found["decision"]])
    near, other = distance <= NEAR, given != wanted
    listed = [
        [
            *(title, columns["id"][row], f"{threshold[row]:.6f}", f"{score[row]:.6f}"),
            *(f"{high[row]:.6f}", wanted[row], given[row]),
        ]
        for row in np.flatnonzero(near | other)
    ]
    counts = [f"{np.mean(wanted == one):.1%}" for one in ("keep", "explore", "drop")]
    line = [title, f"{len(score):,}", f"{far([exported.OUTPUT]):.1e}"]
    line += [f"{far([exported.LOW, exported.HIGH]):.1e}"]
    line += [f"{far(reasons.columns(dataset.fitted.spec)):.1e}", *counts]
    line += [str(int(near.sum())), str(int((other & near).sum())), str(int((other & ~near).sum()))]
    return line, listed


def main():
    """Trains all, compares, and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--model", action="append", choices=MODELS, help="default: all of them")
    parser.add_argument("--output", default=str(HERE / "README.md"))
    flags = parser.parse_args()
    lines, listed = [], []
    with tempfile.TemporaryDirectory() as place:
        for number, title in enumerate(flags.model or MODELS):
            run_dir, own = Path(place, str(number)), MODELS[title]
            size = [f"--source_set=items={flags.items}", f"--source_set=clicks={200 * flags.items}"]
            tasks.train(parse(config.TrainConfig, [*COMMON, *size, *own, f"--run_dir={run_dir}"]))
            line, some = compared(title, run_dir)
            print(*line, flush=True)
            lines.append(line)
            listed += some
            write_atomic(Path(flags.output), text(lines, listed))


def text(lines, listed):
    """The page."""
    differing = sum(int(line[-1]) for line in lines)
    head = ["Model", "Items", "Score", "Interval", "Reasons", "Keep", "Explore", "Drop"]
    head += [f"Within {NEAR:g}", "Of these differ", "Others differ"]
    parts = [
        "# The signature `decide` against `predict`\n",
        f"{differing} decisions of rows that are more than {NEAR:g} percentage points from a "
        "threshold differ. Score, interval and reasons are the largest absolute differences, in "
        "percentage points; both compute in float32 (decisions in float64), with sums in other "
        "orders for batches of other sizes.\n",
        markdown_table(head, lines),
        f"## Rows within {NEAR:g} of a threshold\n",
        "By the score, or by the upper end of the interval.\n"
        if listed
        else "No row is that close.\n",
    ]
    if listed:
        head = ["Model", "Item", "Threshold", "Score", "Upper end", "predict", "decide"]
        parts.append(markdown_table(head, listed))
    command = "python experiments/decisions/parity.py"
    parts.append(f"Written by `{command}`, which rewrites the page after each model.\n")
    return "\n".join(parts)


if __name__ == "__main__":
    main()
