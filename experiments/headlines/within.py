"""Errors within randomised tests: which of an article's headlines is clicked more.

    python experiments/headlines/within.py --cells=DIR --items=FILE

reads the predictions of all cells of this experiment, and FILE, the items table of `tables.py`, and
writes `within.md`. Readers were assigned to the variants of a test at random, so a difference
between two of them is due to headline, lede and picture. Over all variants most of the variance is
between articles; within a test it is between ways to sell the same one.
"""

import argparse
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from mmnet.checks import InputError
from mmnet.evaluation.report import markdown_table
from mmnet.files import write_atomic

HERE = Path("experiments/headlines")
REPLICATES = 1000
NAMES = {
    "all": "MSE, all variants",
    "within": "MSE within tests",
    "explained": "Explained within tests",
    "pairs": "Pairs in the right order",
}
_CELL = re.compile(r"(?P<row>.+)-\d+-0-[0-9a-f]{12}")


def deviations(values: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Values less their mean within each test.

    >>> deviations(np.array([1.0, 3.0, 7.0]), np.array([0, 0, 1]))
    array([-1.,  1.,  0.])
    """
    return values - (np.bincount(test, values) / np.bincount(test))[test]


def pairs(test: np.ndarray, text: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of variants of one test with different texts.

    Args:
        test: number of the test, int [variants].
        text: anything, [variants].

    Returns:
        Rows of the first and of the second of each pair, int [pairs].

    >>> pairs(np.array([4, 4, 4, 5]), np.array(["a", "b", "a", "b"]))
    (array([0, 1]), array([1, 2]))
    """
    frame = pd.DataFrame({"test": test, "row": np.arange(len(test))})
    both = frame.merge(frame, on="test", suffixes=("", "_2"))
    first, second = both["row"].to_numpy(), both["row_2"].to_numpy()
    chosen = (first < second) & (text[first] != text[second])
    return first[chosen], second[chosen]


def measures(
    truth: np.ndarray, predicted: np.ndarray, test: np.ndarray, text: np.ndarray
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Sums of every measure by test: numerator and denominator, float64 [tests].

    Args:
        truth: rates in percent, [variants].
        predicted: predictions, [variants].
        test: number of the test, from 0 on, [variants].
        text: texts of the variants. Pairs of equal texts are left out, and a pair with equal
            predictions counts one half.
    """
    tests = test.max() + 1
    several = np.bincount(test)[test] > 1
    left = deviations(truth, test) - deviations(predicted, test)
    first, second = pairs(test, text)
    sides = np.sign(truth[first] - truth[second]) * np.sign(predicted[first] - predicted[second])
    found = {
        "all": ((truth - predicted) ** 2, np.ones(len(truth)), test),
        "within": (left**2 * several, several, test),
        "explained": (left**2 * several, deviations(truth, test) ** 2 * several, test),
        "pairs": ((1 + sides) / 2, np.ones(len(first)), test[first]),
    }
    return {
        name: (np.bincount(of, above, tests), np.bincount(of, below, tests))
        for name, (above, below, of) in found.items()
    }


def value(name: str, above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """A measure from its sums."""
    ratio = above / below
    return 1 - ratio if name == "explained" else ratio


def with_interval(
    name: str, runs: list[tuple[np.ndarray, np.ndarray]]
) -> tuple[float, float, float]:
    """The mean of a measure over seeds, and its 95 % bootstrap interval over tests."""
    draw = np.random.default_rng(0)
    tests = len(runs[0][0])
    weights = draw.multinomial(tests, np.full(tests, 1 / tests), REPLICATES)
    resampled = np.mean([value(name, weights @ a, weights @ b) for a, b in runs], axis=0)
    low, high = np.quantile(resampled, (0.025, 0.975))
    return float(np.mean([value(name, a.sum(), b.sum()) for a, b in runs])), low, high


def table(frames: Mapping[str, list[pd.DataFrame]], texts: pd.Series) -> str:
    """The measures of rows that were tested on the same variants.

    Args:
        frames: row -> predictions of each seed, of one scenario.
        texts: texts by item id.
    """
    rows = []
    for row, runs in frames.items():
        of_runs: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
        for run in runs:
            ids = run["item_id"].astype(str)
            test = pd.factorize(ids.str.rpartition("/")[0])[0]
            truth, predicted = run["share_rate"], run["predicted_share_rate"]
            arrays = truth.to_numpy(float), predicted.to_numpy(float)
            for name, sums in measures(*arrays, test, texts[ids].to_numpy()).items():
                of_runs.setdefault(name, []).append(sums)
        cells = []
        for name in NAMES:
            mean, low, high = with_interval(name, of_runs[name])
            cells.append(f"{mean:.3f} [{low:.3f}, {high:.3f}]")
        rows.append([row, str(len(runs)), *cells])
    return markdown_table(["Row", "Seeds", *NAMES.values()], rows)


def about(run: pd.DataFrame) -> str:
    """How many variants and tests there are, and what sampling alone explains."""
    rate, readers = run["share_rate"].to_numpy(float), run["clicks"].to_numpy(float)
    test = pd.factorize(run["item_id"].astype(str).str.rpartition("/")[0])[0]
    size = np.bincount(test)[test]
    noise = rate * (100 - rate) / readers
    several = size > 1
    inside = float((noise * (1 - 1 / size))[several].mean())
    variance = float((deviations(rate, test) ** 2)[several].mean())
    return (
        f"{len(run):,} variants of {test.max() + 1:,} tests. Sampling noise is {noise.mean():.3f} "
        f"of the variance {rate.var():.3f} of all rates, and {inside:.3f} of the variance "
        f"{variance:.3f} within tests."
    )


HEAD = """\
# Within randomised tests

Written by `python experiments/headlines/within.py --cells=DIR --items=FILE`. Rates are clicks per
100 readers, MSE in percent². "Explained" is 1 - MSE over the variance, both within tests. A pair is
two variants of one test with different texts; equal predictions count one half. Means over seeds,
with 95 % intervals of {replicates:,} bootstrap samples of tests; they do not contain the variance
between seeds.
"""


def main() -> int:
    """Reads the cells, and writes the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("--cells", "--items"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--output", type=Path, default=HERE / "within.md")
    flags = parser.parse_args()
    items = pd.read_parquet(flags.items).set_index("item_id")
    frames: dict[str, list[pd.DataFrame]] = {}
    for path in sorted(flags.cells.glob("*/evaluation/predictions.parquet")):
        if cell := _CELL.fullmatch(path.parts[-3]):
            run = pd.read_parquet(path)
            run = run[run["scenario"] == "normal"].reset_index(drop=True)
            frames.setdefault(cell["row"], []).append(run)
    if not frames:
        raise InputError(f"--cells={flags.cells} has no predictions; train the experiment first")
    rows = [path.stem for path in sorted((HERE / "rows").glob("*.txt")) if path.stem in frames]
    parts = [HEAD.format(replicates=REPLICATES)]
    for title, ending in (("Split by time", False), ("Split by test", True)):
        chosen = {one: frames[one] for one in rows if one.endswith("_by_test") == ending}
        if chosen:
            first = next(iter(chosen.values()))[0]
            shown = table(chosen, items["headline"] + "\n" + items["lede"])
            parts.append(f"## {title}\n\n{about(first)}\n\n{shown}")
    write_atomic(flags.output, "\n".join(parts))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except InputError as error:
        sys.exit(f"error: {error}")
