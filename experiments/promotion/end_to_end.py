"""Real challengers against a real champion: who is promoted, and who is not.

    python experiments/promotion/end_to_end.py [--worlds=40] [--output=FILE]

Every world is a simulated log with another seed. Champion and challengers are LightGBM models,
which are trained in seconds; all of them stop on validation and are compared on the last three
periods, on 2,000 test items, by the code that compares exports. Challengers learn from labels
that are shuffled among some of the training rows, or from half of the items. A challenger whose
true MSE is 10 % lower is made with the simulator's true rates: a model's predictions are moved
towards them until its expected MSE is 0.9 times the champion's.
"""

import argparse
import dataclasses
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from mmnet.config import PrepareConfig, TrainConfig
from mmnet.data import input_tables, pipeline
from mmnet.data.windows import Windows
from mmnet.evaluation.report import markdown_table
from mmnet.evaluation.scenarios import SCENARIOS
from mmnet.files import write_atomic
from mmnet.flags import parse
from mmnet.models.estimator import Sample
from mmnet.promotion import deciding
from mmnet.promotion.comparing import Comparison
from mmnet.tasks.building import built, model_options
from mmnet.tasks.evaluating import scenario_set
from mmnet.training.records import git_state

HERE = Path(__file__).parent
FLAGS = f"--flagfile={HERE / 'flags.txt'}"
MODEL = (
    *("--model=lightgbm", "--set=num_trees=60", "--set=learning_rate=0.1"),
    *("--set=num_leaves=15", "--set=min_data_in_leaf=50"),
)
ITEMS, LOWER = 2000, 0.9
SHUFFLED = (0.05, 0.2, 1.0)
TRUE = "true MSE 10 % lower, "


def prepared(world):
    """The dataset of a world."""
    given = parse(PrepareConfig, [FLAGS, f"--source_set=seed={world}"])
    tables, task = input_tables.table_flags(given)
    return pipeline.prepare(input_tables.load_tables(tables, task), tables, task)


def shuffled(sample, share, draws):
    """The same inputs, with the labels of a share of the rows in another order."""
    rows = np.flatnonzero(draws.uniform(size=len(sample)) < share)
    places = np.arange(len(sample))
    places[rows] = draws.permutation(rows)
    labels = ("share_rate", "clicks", "weight")
    return dataclasses.replace(sample, **{name: getattr(sample, name)[places] for name in labels})


def part(sample, rows):
    """Some rows of a sample."""
    inputs = {name: array[rows] for name, array in sample.inputs.items()}
    return Sample(inputs, sample.share_rate[rows], sample.clicks[rows], sample.weight[rows])


def moved(predicted, true, observed, wanted):
    """Predictions in each scenario, moved towards the true rates until the MSE is `wanted`."""
    found = {}
    for scenario, rates in predicted.items():
        noise = np.mean((observed - true) ** 2)
        error = np.mean((rates - true) ** 2)
        left = np.sqrt(max(0.0, wanted[scenario] - noise) / error)
        found[scenario] = true + left * (rates - true)
    return found


def world_of(world, draws):
    """One world: challenger -> its comparison with the champion on 2,000 test items."""
    dataset = prepared(world)
    flags = parse(TrainConfig, [FLAGS, *MODEL])
    windows = Windows(dataset)
    train, validation, test = (
        scenario_set(dataset, windows, split, flags) for split in ("train", "validation", "test")
    )
    samples = {scenario: validation.sample(scenario) for scenario in SCENARIOS}
    inputs = {scenario: test.sample(scenario).inputs for scenario in SCENARIOS}

    def trained(sample, seed):
        builder, options = model_options(flags.model_copy(update={"seed": seed}))
        estimator = built(builder, options, dataset, flags)
        estimator.fit(sample, samples)
        return {scenario: estimator.predict(shown) for scenario, shown in inputs.items()}

    sample = train.sample("normal")
    items = np.unique(test.examples.items)
    chosen = np.isin(test.examples.items, draws.choice(items, min(ITEMS, len(items)), False))
    true = dataset.true_share_rate[test.examples.items, test.target_column]
    champion = trained(sample, 0)
    challengers = {
        f"labels of {share:.0%} of the rows shuffled": trained(shuffled(sample, share, draws), 1)
        for share in SHUFFLED
    }
    kept = draws.uniform(size=len(dataset.panel.item_ids)) < 0.5
    half = trained(part(sample, kept[train.examples.items]), 1)
    challengers["half of the items"] = half
    noise = np.mean((test.truth - true) ** 2)
    wanted = {s: LOWER * (noise + np.mean((champion[s] - true) ** 2)) for s in SCENARIOS}
    for name, start in (("from the champion", champion), ("from half of the items", half)):
        challengers[TRUE + name] = moved(start, true, test.truth, wanted)
    rows = test.keys()
    rows["share_rate"], rows["weight"] = test.truth.astype(np.float64), 1.0
    for scenario in SCENARIOS:
        rows[f"champion_{scenario}"] = champion[scenario]
    found = {}
    for name, predicted in challengers.items():
        own = rows.assign(**{f"challenger_{s}": predicted[s] for s in SCENARIOS})[chosen]
        found[name] = Comparison("champion", name, (), own.reset_index(drop=True))
    return found


def judged(world):
    """One world: challenger -> ratio of MSEs, test items, promoted at .05 and at .05 / 30."""
    rule, found = deciding.parse("better"), {}
    for name, comparison in world_of(world, np.random.default_rng(world)).items():
        paired = comparison.paired("normal")
        decided = [
            deciding.decide(comparison, rule, alpha=0.05, nights=nights).promote
            for nights in (1, 30)
        ]
        found[name] = paired.ratio().value, paired.num_items, decided
    print(world, flush=True)
    return found


def main():
    """Runs all worlds, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worlds", type=int, default=40)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--output", default=str(HERE / "end_to_end.md"))
    flags = parser.parse_args()
    ratios, promoted, items = {}, {}, []
    # A forked process would share TensorFlow's threads.
    with ProcessPoolExecutor(flags.jobs, multiprocessing.get_context("spawn")) as pool:
        for found in pool.map(judged, range(flags.worlds)):
            for name, (ratio, number, decided) in found.items():
                items.append(number)
                ratios.setdefault(name, []).append(ratio)
                promoted.setdefault(name, []).append(decided)
    lines, right = [], []
    for name, found in promoted.items():
        once, thirty = np.sum(found, axis=0)
        needed = int(np.ceil(0.8 * flags.worlds)) if name.startswith(TRUE) else 0
        allowed = int(0.05 * flags.worlds)
        right.append(thirty >= needed if needed else thirty <= allowed)
        lines.append(
            [
                name,
                f"{np.mean(ratios[name]):.3f} ({np.std(ratios[name], ddof=1):.3f})",
                f"{once} of {flags.worlds}",
                f"**{thirty} of {flags.worlds}**",
                f"at least {needed}" if needed else f"at most {allowed}",
            ]
        )
    commit, clean = git_state()
    text = "\n".join(
        [
            "# Promotion of real challengers, simulated log\n",
            f"`python experiments/promotion/end_to_end.py --worlds={flags.worlds}`, flags "
            f"[flags.txt](flags.txt), commit {commit}{'' if clean else ' with changes'}, "
            f"rule `better`, alpha .05 for 30 nights: {sum(right)} of {len(right)} requirements "
            "hold.\n",
            f"Test items of a comparison: {min(items):,} to {max(items):,}. The ratio of MSEs is "
            "the challenger's to the champion's in the normal scenario, mean and standard "
            "deviation over worlds.\n",
            markdown_table(
                [
                    *("Challenger", "Ratio (sd)", "Promoted, .05 for one night"),
                    *("Promoted, .05 for 30 nights", "Required"),
                ],
                lines,
            ),
        ]
    )
    write_atomic(flags.output, text)


if __name__ == "__main__":
    main()
