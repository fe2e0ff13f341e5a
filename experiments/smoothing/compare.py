"""Empirical Bayes beside a smoother of two lines, on validation.

    python experiments/smoothing/compare.py LOG=DATASET_DIR [LOG=DATASET_DIR ...] [--output=FILE]

The dataset directories are those of `python -m mmnet.prepare`. The smoother of two lines takes the
last as-of mean of one taxonomy for an item's rate, worth 100 clicks, and corrects it by the clicks
of the window. Only training and validation examples are read.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from mmnet.config import TrainConfig
from mmnet.data import dataset as datasets
from mmnet.data.windows import Windows
from mmnet.evaluation.plots import TITLES
from mmnet.evaluation.report import markdown_table
from mmnet.files import write_atomic
from mmnet.models.options import SmoothedHistoryOptions
from mmnet.models.smoothed_history import SmoothedHistory
from mmnet.schema import SCENARIOS
from mmnet.tasks.evaluating import scenario_set
from mmnet.training.records import git_state

HERE = Path(__file__).parent
WORTH = 100
MEANING = """MSE in percent². ± is the standard error of the mean difference from the better
smoother of two lines, over examples as if they were independent; items have several, so it is too
small. What `--model=smoothed_history` fits on validation, at most the four numbers of the last
column, was fitted on the very rows that are shown here.
"""


def two_lines(inputs, taxonomy):
    """The smoother, percent; its last mean is that of all items where its own is missing."""
    clicks = inputs["clicks"] * (1 - inputs["missing_flag"])
    shares = (clicks * inputs["share_rate"]).sum(axis=1)
    return (WORTH * inputs["taxonomy_rate"][:, -1, taxonomy] + shares) / (
        WORTH + clicks.sum(axis=1)
    )


def rows_of(log, directory):
    """The rows of one log: two lines by taxonomy, and each centre of the prior."""
    dataset = datasets.load(directory)
    spec, windows, flags = dataset.fitted.spec, Windows(dataset), TrainConfig()
    train = scenario_set(dataset, windows, "train", flags).sample("normal")
    validation = scenario_set(dataset, windows, "validation", flags)
    validation = {scenario: validation.sample(scenario) for scenario in SCENARIOS}
    predicted = {
        f"two lines: {name}": [
            two_lines(one.inputs, taxonomy).astype(np.float64) for one in validation.values()
        ]
        for taxonomy, name in enumerate(spec.taxonomies)
    }
    told = {}
    for centre in ("value", "as_of", "fitted"):
        model = SmoothedHistory(spec, SmoothedHistoryOptions(centre=centre))
        told[f"centre={centre}"] = model.fit(train, validation)
        predicted[f"centre={centre}"] = [model.predict(one.inputs) for one in validation.values()]
    squares = {
        name: [
            np.square(found - one.share_rate)
            for found, one in zip(scenarios, validation.values(), strict=True)
        ]
        for name, scenarios in predicted.items()
    }
    errors = {name: np.mean(found, axis=1) for name, found in squares.items()}
    mean_log = {name: float(np.mean(np.log(found))) for name, found in errors.items()}
    best = min((name for name in errors if name not in told), key=mean_log.__getitem__)
    count = len(next(iter(validation.values())))
    for name, found in errors.items():
        shown = []
        for scenario, error in enumerate(found):
            difference = squares[name][scenario] - squares[best][scenario]
            se = np.std(difference) / np.sqrt(count)
            shown.append(
                f"{error:.4g}"
                + (f" ({np.mean(difference):+.3g} ± {se:.2g})" if name in told else "")
            )
        fitted = told.get(name, {})
        numbers = ", ".join(
            f"{key} {fitted[key]:g}"
            for key in ("own_share", "decay", "kappa_scale", "centre_decay")
            if key in fitted
        )
        yield [log, name, f"{count:,}", *shown, f"{mean_log[name]:.4f}", numbers]


def main():
    """Compares on every log, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("logs", nargs="+", metavar="LOG=DATASET_DIR")
    parser.add_argument("--output", default=str(HERE / "results.md"))
    flags = parser.parse_args()
    lines = []
    for log, _, directory in (one.partition("=") for one in flags.logs):
        for row in rows_of(log, directory):
            print(*row, flush=True)
            lines.append(row)
    commit, clean = git_state()
    names = " ".join(f"{one.partition('=')[0]}=…" for one in flags.logs)
    header = ["Log", "System", "n", *TITLES.values(), "Mean log MSE", "Fitted"]
    text = "\n".join(
        [
            "# Empirical Bayes beside a smoother of two lines, validation\n",
            f"`python experiments/smoothing/compare.py {names}`, commit {commit}"
            f"{'' if clean else ' with changes'}, {sys.version.split()[0]}.\n",
            MEANING,
            markdown_table(header, lines),
        ]
    )
    write_atomic(Path(flags.output), text + "\n")


if __name__ == "__main__":
    main()
