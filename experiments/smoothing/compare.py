"""Empirical Bayes compared with a two-line smoother, on validation.

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
from mmnet.models.estimator import Sample
from mmnet.models.options import SmoothedHistoryOptions
from mmnet.models.smoothed_history import SmoothedHistory
from mmnet.schema import SCENARIOS
from mmnet.tasks.evaluating import scenario_set
from mmnet.training.records import git_state

HERE = Path(__file__).parent
WORTH = 100
MEANING = """MSE in percent². Brackets hold the mean difference from the better two-line smoother,
± its standard error over a sample of items. What `--model=smoothed_history` fits on validation
was fitted on one half of the items and scored on the other, in turn; the last column has the
numbers of both halves. Two of the logs are [few.txt](few.txt) and [many.txt](many.txt), the others
those of `experiments/simulated_history`, `simulated_content`, `kuairand` and `github_ranking`.
"""


def two_lines(inputs, taxonomy):
    """The smoother, percent; its last mean is that of all items where its own is missing."""
    clicks = inputs["clicks"] * (1 - inputs["missing_flag"])
    shares = (clicks * inputs["share_rate"]).sum(axis=1)
    return (WORTH * inputs["taxonomy_rate"][:, -1, taxonomy] + shares) / (
        WORTH + clicks.sum(axis=1)
    )


def part(sample, rows):
    """Some examples of a sample."""
    inputs = {name: array[rows] for name, array in sample.inputs.items()}
    return Sample(inputs, sample.share_rate[rows], sample.clicks[rows], sample.weight[rows])


def in_turn(spec, centre, train, validation, half):
    """Predictions of every validation example by what the other half of the items chose."""
    predicted = {scenario: np.zeros(len(half)) for scenario in validation}
    told = []
    for own in (half, ~half):
        model = SmoothedHistory(spec, SmoothedHistoryOptions(centre=centre))
        told.append(model.fit(train, {name: part(one, ~own) for name, one in validation.items()}))
        for scenario, one in validation.items():
            predicted[scenario][own] = model.predict(part(one, own).inputs)
    return list(predicted.values()), told


def standard_error(difference, items):
    """Of a mean over examples, of which those of an item were drawn together."""
    _, numbers = np.unique(items, return_inverse=True)
    sums = np.bincount(numbers, difference - difference.mean())
    return np.sqrt(np.sum(np.square(sums))) / len(difference)


def rows_of(log, directory):
    """The rows of one log: two lines by taxonomy, and each centre of the prior."""
    dataset = datasets.load(directory)
    spec, windows, flags = dataset.fitted.spec, Windows(dataset), TrainConfig()
    train = scenario_set(dataset, windows, "train", flags).sample("normal")
    examples = scenario_set(dataset, windows, "validation", flags)
    validation = {scenario: examples.sample(scenario) for scenario in SCENARIOS}
    items = examples.examples.items
    half = examples.hashes % 2 == 0
    predicted = {
        f"two lines: {name}": [two_lines(one.inputs, number) for one in validation.values()]
        for number, name in enumerate(spec.taxonomies)
    }
    told: dict[str, list] = {name: [] for name in predicted}
    for centre in ("value", "as_of", "fitted"):
        name = f"centre={centre}"
        predicted[name], told[name] = in_turn(spec, centre, train, validation, half)
    squares = {
        name: np.square(np.stack(found) - [one.share_rate for one in validation.values()])
        for name, found in predicted.items()
    }
    mean_log = {name: np.mean(np.log(found.mean(axis=1))) for name, found in squares.items()}
    best = min((name for name in squares if not told[name]), key=mean_log.__getitem__)
    for name, found in squares.items():
        shown = [f"{error:.4g}" for error in found.mean(axis=1)]
        if told[name]:
            differences = found - squares[best]
            shown = [
                f"{error} ({one.mean():+.3g} ± {standard_error(one, items):.2g})"
                for error, one in zip(shown, differences, strict=True)
            ]
        numbers = [
            f"{key} {' / '.join(f'{one[key]:g}' if key in one else '–' for one in told[name])}"
            for key in ("own_share", "centre_decay", "decay", "kappa_scale")
            if any(key in one for one in told[name])
        ]
        yield [log, name, f"{len(items):,}", *shown, f"{mean_log[name]:.4f}", ", ".join(numbers)]


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
            "# Empirical Bayes compared with a two-line smoother, validation\n",
            f"`python experiments/smoothing/compare.py {names}`, commit {commit}"
            f"{'' if clean else ' with changes'}, Python {sys.version.split()[0]}.\n",
            MEANING,
            markdown_table(header, lines),
        ]
    )
    write_atomic(Path(flags.output), text + "\n")


if __name__ == "__main__":
    main()
