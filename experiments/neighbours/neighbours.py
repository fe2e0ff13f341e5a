"""Does an item's content tell whose rates its own will be like? A granularity of neighbours, tried.

    python experiments/neighbours/neighbours.py --log=FLAGFILE --work=DIR [--k=20]
        [--seeds=0,1,2] [--rows=mmnet_mixed,lightgbm_modes] [--output=DIR] [--plan]
        [FLAG OF mmnet.prepare ...]

The k items whose content vectors are most alike (cosine) form one more granularity: their pooled
rate in each period is a sequence beside those of the taxonomies. In a period p only items released
by p are neighbours, so nothing later is read, and no item is its own.

Everything is measured on training and validation items, in five folds: each of them is predicted by
models that were trained on three others and stopped by the fifth. Items with equal vectors are in
one fold. The test items of the log's split stay closed. The vocabularies, and the mean and scale of
rates, are those of the whole training split, for both systems alike.

Runs that are in DIR are used again. The comparison of every row with and without neighbours is
written to `results/LOG.json` beside this script, and the page of all logs, `results.md`, anew.
"""

import argparse
import contextlib
import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

import mmnet
from mmnet import flags as flag_reading
from mmnet.checks import InputError
from mmnet.config import PrepareConfig, TrainConfig
from mmnet.data import dataset as datasets
from mmnet.data import histories, share_rates, store
from mmnet.data.counts import Panel
from mmnet.data.dataset import Dataset
from mmnet.data.splits import Examples, Split
from mmnet.data.taxonomies import Means
from mmnet.evaluation import comparisons, significance
from mmnet.evaluation.predicting import ScenarioSet
from mmnet.evaluation.report import markdown_table
from mmnet.files import make_directory, read_json, write_atomic
from mmnet.schema import FeatureSpec
from mmnet.tasks.preparing import dataset_of_tables
from mmnet.tasks.starting import train
from mmnet.training.records import git_state, machine

HERE = Path("experiments/neighbours")
FOLDS = 5
DEPTH = 1000
"""Items that are ranked for each item; only those of them are ever its neighbours."""
AT_ONCE = 256
WITHOUT, WITH = "without", "with"
NAME = "neighbours"
SETTINGS = ("training.txt", "rows/{row}.txt")


def content(dataset: Dataset) -> np.ndarray:
    """The items' content vectors, float32 [items, dim]: parts of length one, 0 where absent."""
    parts = []
    for vector in dataset.fitted.spec.vectors:
        part = np.asarray(dataset.tensors[vector.tensor], np.float32)
        length = np.linalg.norm(part, axis=1, keepdims=True)
        parts.append(np.divide(part, length, out=np.zeros_like(part), where=length > 0))
    if not parts:
        raise InputError("neighbours need content vectors; set --text_encoder=hub, or --images")
    return np.concatenate(parts, axis=1)


def ranked(vectors: np.ndarray, depth: int = DEPTH) -> Iterator[tuple[slice, np.ndarray]]:
    """Yields, for a range of items after another, the other items, the most alike first.

    Args:
        vectors: float32 [items, dim].
        depth: how many items to rank.

    Yields:
        Range of items; rows of the others, int64 [items of the range, depth], -1 where there are
        none: an item without content neither has neighbours nor is one.
    """
    present = np.flatnonzero(vectors.any(axis=1))
    depth = max(1, min(depth, len(present) - 1))
    for start in range(0, len(vectors), AT_ONCE):
        rows = np.arange(start, min(start + AT_ONCE, len(vectors)))
        alike = vectors[rows] @ vectors[present].T
        alike[rows[:, None] == present] = -np.inf
        order = np.argsort(-alike, axis=1, kind="stable")[:, :depth]
        found = np.where(np.take_along_axis(alike, order, axis=1) == -np.inf, -1, present[order])
        found[~vectors[rows].any(axis=1)] = -1
        yield slice(start, start + len(rows)), found


def means(panel: Panel, vectors: np.ndarray, k: int, min_clicks: int = 1) -> Means:
    """The pooled rate of each item's neighbours in each period.

    As in Eq. 4 of the paper, where no neighbour was observed the value is that of all other items,
    flagged.

    Args:
        panel: counts of all items.
        vectors: see `content`.
        k: number of neighbours.
        min_clicks: periods of an item with fewer clicks count as not observed.

    Returns:
        Rates in percent and missing flags, float32 [items, periods].
    """
    seen = share_rates.observed(panel, min_clicks)
    above, below = panel.shares * seen, panel.clicks * seen
    rate, missing = np.zeros(above.shape, np.float32), np.ones(above.shape, np.float32)
    for rows, others in ranked(vectors):
        released = np.where(others >= 0, panel.release[others], panel.num_periods)
        for period in range(panel.num_periods):
            chosen = released <= period
            chosen &= np.cumsum(chosen, axis=1) <= k
            sums = [(part[:, period][others] * chosen).sum(axis=1) for part in (above, below)]
            everyone = [part[:, period].sum() - part[rows, period] for part in (above, below)]
            known = sums[1] > 0
            top, bottom = (np.where(known, *both) for both in zip(sums, everyone, strict=True))
            rate[rows, period] = 100 * top / np.maximum(bottom, 1)
            missing[rows, period] = ~known
    return rate, missing


def with_granularity(dataset: Dataset, found: Means) -> Dataset:
    """The dataset with one more sequence beside those of its taxonomies."""
    spec = dataset.fitted.spec
    if NAME in spec.taxonomies:
        raise InputError(f"a taxonomy is called {NAME}; rename that column")
    names = (*spec.taxonomies, NAME)
    wider = FeatureSpec.model_validate(spec.model_dump() | {"taxonomies": names})
    old, first = dataset.history, histories.TAXONOMIES
    history = np.zeros(histories.shape(len(old), dataset.panel.num_periods, wider), np.float32)
    number = len(spec.taxonomies)
    history[..., : first + number] = old[..., : first + number]
    history[..., first + number + 1 : -1] = old[..., first + number :]
    history[..., -1] = 1
    seen = history[:, spec.window - 1 :]
    seen[..., first + number], seen[..., -1] = found
    fitted = dataset.fitted.model_copy(update={"spec": wider})
    return dataclasses.replace(dataset, fitted=fitted, history=history)


def folds(vectors: np.ndarray, count: int = FOLDS) -> np.ndarray:
    """The fold of each item, int64 [items]; items with equal content are in one.

    Args:
        vectors: see `content`.
        count: number of folds.
    """
    _, group = np.unique(vectors, axis=0, return_inverse=True)
    group = group.reshape(-1).astype(np.int64)
    empty = ~vectors.any(axis=1)
    group[empty] = group.max() + 1 + np.arange(empty.sum())
    draw = np.random.default_rng(0).permutation(group.max() + 1)
    return draw[group] % count


def of_fold(dataset: Dataset, of_items: np.ndarray, number: int) -> Dataset:
    """The dataset whose test is one fold, and whose validation is the next one.

    Args:
        dataset: split by item. Its own test examples are in none of the parts.
        of_items: see `folds`.
        number: the fold to test.
    """
    parts = [dataset.examples(name) for name in ("train", "validation")]
    items, times = (
        np.concatenate([getattr(one, name) for one in parts]) for name in ("items", "times")
    )
    order = np.lexsort((times, items))
    every = Examples(items[order], times[order])
    task = dataset.fitted.task
    clicks = dataset.panel.clicks[every.items, every.times + dataset.fitted.spec.horizon]
    enough = clicks >= task.min_target_clicks
    fold = of_items[every.items]
    tested, stopped = fold == number, fold == (number + 1) % (of_items.max() + 1)
    split = Split(
        train=every.taken(~tested & ~stopped),
        validation=every.taken(stopped & enough),
        test=every.taken(tested & enough),
    )
    return dataclasses.replace(dataset, split=split)


@contextlib.contextmanager
def without_values() -> Iterator[None]:
    """Lets reports group errors by a granularity that has no values, as no table has a column."""
    own = ScenarioSet.values

    def values(self: ScenarioSet, name: str) -> np.ndarray:
        return np.full(len(self.examples), "", object) if name == NAME else own(self, name)

    ScenarioSet.values = values  # type: ignore[method-assign]
    try:
        yield
    finally:
        ScenarioSet.values = own  # type: ignore[method-assign]


def predictions(
    work: Path, row: str, system: str, seed: int, parts: Sequence[Path]
) -> pd.DataFrame:
    """Trains one model per fold, and returns the predictions of all folds."""
    found = []
    for number, part in enumerate(parts):
        run_dir = work / "runs" / f"{row}-{part.name}-{seed}"
        if not (run_dir / "evaluation" / "metrics.json").exists():
            given = [f"--flagfile=experiments/{name.format(row=row)}" for name in SETTINGS]
            given += [f"--dataset_dir={part}", f"--seed={seed}", "--outputs=predictions"]
            if (run_dir / "flags.txt").exists():
                given = ["--resume"]
            with without_values():
                train(flag_reading.parse(TrainConfig, [f"--run_dir={run_dir}", *given]))
        found.append(mmnet.Run.open(run_dir).predictions)
        print(f"{row} {system}, seed {seed}, fold {number + 1} of {FOLDS}", flush=True)
    return pd.concat(found, ignore_index=True)


def main() -> int:
    """Prepares, trains what is missing, and writes the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--log", type=Path, required=True, help="flagfile of the log, by item")
    parser.add_argument("--work", type=Path, required=True, help="directory of runs and results")
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--rows", default="mmnet_mixed,lightgbm_modes")
    parser.add_argument("--output", type=Path, default=HERE, help="directory of the results")
    parser.add_argument("--plan", action="store_true", help="print the plan and stop")
    given, more = parser.parse_known_args()
    seeds, rows = [int(one) for one in given.seeds.split(",")], given.rows.split(",")
    cells = [(row, system, seed) for row in rows for system in (WITHOUT, WITH) for seed in seeds]
    print(f"{len(cells)} cells of {FOLDS} trainings: {', '.join(rows)}; seeds {given.seeds}")
    if given.plan:
        return 0
    try:
        prepared = flag_reading.parse(PrepareConfig, [f"--flagfile={given.log}", *more])
        dataset = dataset_of_tables(prepared, given.work / "whole")
        found = compared(dataset, given.work, cells, given.k)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    commit, clean = git_state()
    about = {
        "log": given.log.stem,
        "k": given.k,
        "seeds": seeds,
        "commit": f"{commit}{'' if clean else ' with changes'}",
        "processor": machine()["processor"],
    }
    results = given.output / "results"
    make_directory(results)
    write_atomic(results / f"{given.log.stem}.json", json.dumps(about | found, indent=1) + "\n")
    write_atomic(given.output / "results.md", page(results))
    return 0


def compared(
    dataset: Dataset, work: Path, cells: Sequence[tuple[str, str, int]], k: int
) -> dict[str, object]:
    """Runs all cells and compares them, a line per row, scenario and metric."""
    vectors = content(dataset)
    of_items = folds(vectors)
    granularity = means(dataset.panel, vectors, k, dataset.fitted.task.min_clicks)
    both = {WITHOUT: dataset, WITH: with_granularity(dataset, granularity)}
    places: dict[str, list[Path]] = {}
    for system, one in both.items():
        for number in range(FOLDS):
            place = work / (f"{system}-{k}-{number}" if system == WITH else f"{system}-{number}")
            if not (place / store.ABOUT).exists():
                datasets.save(of_fold(one, of_items, number), place)
            places.setdefault(system, []).append(place)
    lines = []
    for row in dict.fromkeys(name for name, _, _ in cells):
        frames = [
            (system, predictions(work, row, system, seed, places[system]))
            for name, system, seed in cells
            if name == row
        ]
        aligned = significance.align(frames)
        measures = significance.measure(aligned, replicates=500)
        frame = comparisons.compare(measures, WITHOUT)
        lines += [line | {"row": row} for line in frame.to_dict("records")]
        items = len(np.unique(aligned["cold_start"].item))
    return {"items": items, "lines": lines}


TITLES = {
    "github": "Github-Ranking, descriptions",
    "youtube": "Trending videos, titles",
    "posters": "Films, titles and posters",
}
SCENARIOS = {"cold_start": "cold-start", "normal": "normal", "noisy": "noisy"}
ENOUGH = 0.95
"""The factor on the cold-start MSE for which the granularity would become part of the networks."""
HEAD = """\
# A granularity of neighbours

The {k} items with the most alike content vectors give one more sequence: their pooled rate in each
period, of those released by then. MSE in percent² of items that no training saw, with and without
it, in five folds of the training and validation items; the test items stayed closed. Differences
have 95 % intervals{of}.

The rule that was set before: it is kept if it lowers the cold-start MSE of the network by 5 % on
two logs, with intervals that exclude 0. {verdict}

"""


def page(results: Path) -> str:
    """The results of all logs as Markdown.

    Args:
        results: directory of their JSON files.
    """
    found = [
        read_json(results / f"{log}.json") for log in TITLES if (results / f"{log}.json").exists()
    ]
    parts, helped = [], []
    for log in found:
        frame = pd.DataFrame(log["lines"])
        frame = frame[frame["metric"] == "mse"]
        rows = []
        for row in dict.fromkeys(frame["row"]):
            for scenario, name in SCENARIOS.items():
                of = frame[(frame["row"] == row) & (frame["scenario"] == scenario)]
                before, after = (of[of["system"] == one].iloc[0] for one in (WITHOUT, WITH))
                ratio = after["value"] / before["value"]
                helps = ratio <= ENOUGH and after["difference_high"] < 0
                if scenario == "cold_start" and helps and row != "lightgbm_modes":
                    helped.append(TITLES[log["log"]])
                shown = "{difference:+.3g} [{difference_low:+.3g}, {difference_high:+.3g}]"
                cells = [f"{one['value']:.4g}" for one in (before, after)]
                seeds = str(int(after["n_seeds"]))
                rows.append(
                    [row, seeds, name, *cells, f"{ratio:.3f}", shown.format(**after.to_dict())]
                )
        header = ["Row", "Seeds", "Scenario", "MSE without", "MSE with", "Ratio", "Difference"]
        parts.append(
            f"## {TITLES[log['log']]}\n\n{log['items']:,} items; commit {log['commit']}, "
            f"{log['processor']}.\n\n{markdown_table(header, rows)}"
        )
    kept = "It does so" if len(set(helped)) > 1 else "It does not"
    verdict = f"{kept}: it holds on {', '.join(dict.fromkeys(helped)) or 'none of these logs'}."
    once = max(len(one["seeds"]) for one in found) == 1
    of = " by item; with one seed, training varies between the folds only" if once else ""
    return HEAD.format(k=found[0]["k"], verdict=verdict, of=of) + "\n".join(parts)


if __name__ == "__main__":
    sys.exit(main())
