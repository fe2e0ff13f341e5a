"""Thirty nights on a simulated log: warm, cold, once a week, never. What each costs and gains.

    python experiments/nightly/compare_schedules.py --work=DIR [--only=cold|warm] [--choose]

Every night sees one more period of the log, trains on all targets but those of the last periods,
which validate, and predicts the true rates of the next period. `cold` trains from scratch each
night, `warm` from the weights of the night before; a weekly schedule uses the cold model of the
last seventh night, and `never` that of the first. The log is drawn twice: as it is, and with a
sudden shift, after which longer items are shared more. Up to the shift the nights are the same.

Each night is a file in DIR, so that a killed run continues, and two processes may share the work
(`--only`). `report.py` makes the tables and the plot of them. `--choose` compares epochs and
learning rates of warm nights on the validation rows of another log instead.
"""

import argparse
import dataclasses
import functools
import json
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from mmnet.config import TrainConfig
from mmnet.data import input_tables, pipeline
from mmnet.data.dataset import Fitted
from mmnet.data.sources.simulated import simulate
from mmnet.data.splits import Examples
from mmnet.data.tables import InMemory, Table
from mmnet.data.windows import Windows
from mmnet.files import read_json, write_atomic
from mmnet.flags import parse
from mmnet.serving.parent import Parent
from mmnet.tasks.building import built, model_options
from mmnet.tasks.evaluating import System, scenario_set
from mmnet.tasks.training import Series, fit_network
from mmnet.training import resume, warm_start

ITEMS, PERIODS, CLICKS = 1200, 54, 1_500_000
FIRST = 24
"""Periods of the log on the first night."""
WEEK = 7
NIGHTS, SHIFT = 30, 15
"""Nights, and the first one whose next period has shifted."""
LIFT = 0.5
"""What the shift adds to the logit per standard deviation of the log of an item's duration."""
SCENARIOS = ("normal", "cold_start")
FLAGS = [
    *("--taxonomies=category,tags", "--categoricals=author", "--numerics=duration"),
    *("--release=release", "--min_target_clicks=10", "--min_test_rows=1", "--test_periods=1"),
    *("--set=units=16", "--set=tcn_filters=32,16", "--batch_size=128", "--learning_rate=0.002"),
    "--nojit",
]
CHOICES = {
    "2 epochs at 0.0002": (2, 0.0002),
    "2 epochs at 0.0006": (2, 0.0006),
    "2 epochs at 0.002": (2, 0.002),
    "4 epochs at 0.0006": (4, 0.0006),
}
"""Settings of warm nights that `--choose` compares; a cold night has the rate 0.002."""
CHOSEN_NIGHTS = 6


@dataclasses.dataclass(frozen=True)
class Log:
    """A simulated log: counts and true rates of all periods, and the items with their covers."""

    counts: pa.Table
    items: pa.Table
    cover: pa.Table
    truth: pa.Table

    def until(self, period: int) -> InMemory:
        """The tables as of the end of a period: later rows and items are not there yet."""
        items = self.items.filter(pa.compute.less_equal(self.items["release"], period))
        counts = self.counts.filter(pa.compute.less_equal(self.counts["period"], period))
        known = pa.compute.is_in(self.cover["item_id"], items["item_id"])
        cover = Table(self.cover.filter(known), "cover")
        tables = Table(counts, "counts"), Table(items, "items")
        return InMemory(*tables, vectors={"cover": cover}, truth=self.truth)


@functools.cache
def log_of(seed: int, shifted: bool) -> Log:
    """Draws the log; the shifted one has other shares from the shift on, and the same clicks."""
    drawn = simulate(regime="content", items=ITEMS, periods=PERIODS, clicks=CLICKS, seed=seed)
    log = Log(drawn.counts, drawn.items, drawn.vectors["cover"], drawn.truth)
    if not shifted:
        return log
    long = np.log(log.items["duration"].to_numpy())
    lift = LIFT * (long - long.mean()) / long.std()
    row_of = {item: row for row, item in enumerate(log.items["item_id"].to_pylist())}

    def after(table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        """Which rows have shifted, and what is added to their logits."""
        rows = [row_of[item] for item in table["item_id"].to_pylist()]
        late = table["period"].to_numpy() >= FIRST + SHIFT - 1
        return late, np.where(late, lift[rows], 0.0)

    _, more = after(log.truth)
    rate = log.truth["true_share_rate"].to_numpy() / 100
    rate = 1 / (1 + (1 - rate) / rate * np.exp(-more))
    place = log.truth.column_names.index("true_share_rate")
    truth = log.truth.set_column(place, "true_share_rate", pa.array(100 * rate))
    keys = zip(truth["item_id"].to_pylist(), truth["period"].to_pylist(), strict=True)
    rates = dict(zip(keys, rate.tolist(), strict=True))
    late, _ = after(log.counts)
    keys = zip(log.counts["item_id"].to_pylist(), log.counts["period"].to_pylist(), strict=True)
    of_cells = np.array([rates[key] for key in keys])
    again = np.random.default_rng([seed, SHIFT]).binomial(log.counts["clicks"].to_numpy(), of_cells)
    shares = np.where(late, again, log.counts["shares"].to_numpy())
    place = log.counts.column_names.index("shares")
    counts = log.counts.set_column(place, "shares", pa.array(shares))
    return dataclasses.replace(log, counts=counts, truth=truth)


class Kept(Parent):
    """The model of a night, whose weights are kept as `.npz` instead of as an export."""

    @functools.cached_property
    def arrays(self) -> list[np.ndarray]:
        """Its weights in the order of `keras.Model.variables`."""
        with np.load(self.directory) as file:
            return [file[str(number)] for number in range(len(file.files))]


def train_night(log: Log, night: int, place: Path, earlier: Path | None, *more: str) -> None:
    """Trains one night's model, and writes its weights, values and errors to PLACE.*.

    Args:
        log: the log.
        night: counted from 1.
        place: path without its suffix.
        earlier: the same of the model to start from; None trains from scratch.
        more: flags of the training.
    """
    validation = 2
    train = FIRST + night - 1 - 1 - validation
    split = f"--split_ratios={train},{validation},1"
    flags = parse(TrainConfig, [*FLAGS, split, *more])
    start = time.process_time()
    parent = None
    if earlier:
        values = Fitted.model_validate(read_json(f"{earlier}.fitted.json"))
        parent = Kept(Path(f"{earlier}.npz"), values, {}, {}, None, earlier.name)
    tables = input_tables.table_flags(flags)
    dataset = pipeline.prepare(
        log.until(FIRST + night - 1), *tables, earlier=parent.fitted if parent else None
    )
    windows = Windows(dataset)
    prepared = time.process_time()
    builder, options = model_options(flags)
    model = built(builder, options, dataset, flags)
    if parent:
        warm_start.start(model, parent.arrays, dataset.fitted, parent.fitted)
    series = Series()
    system = series.system(model, dataset, flags)
    fitted = fit_network(series, system, dataset, windows, flags, None, earlier=parent)
    trained = time.process_time()
    test = scenario_set(dataset, windows, "test", flags)
    predicted = test.predictions(system.predict)
    examples = dataset.examples("test")
    truth = dataset.true_share_rate[examples.items, examples.times + flags.main_horizon]
    arrays = {str(n): resume.to_array(one) for n, one in enumerate(model.variables)}
    values = json.dumps(dataset.fitted.model_dump(mode="json"))
    found = {
        "night": night,
        "epochs": fitted.epochs,
        "best_epoch": fitted.best_epoch,
        "steps": fitted.steps,
        "validation": fitted.metrics,
        "cpu_prepare": prepared - start,
        "cpu_train": trained - prepared,
        "parameters": int(sum(np.prod(one.shape) for one in model.trainable_variables)),
        "items": dataset.panel.item_ids[examples.items].tolist(),
        "truth": truth.tolist(),
        **{name: predicted[name].astype(float).tolist() for name in SCENARIOS},
    }
    write_atomic(Path(f"{place}.npz"), lambda path: np.savez(path, **arrays))
    write_atomic(Path(f"{place}.fitted.json"), values)
    write_atomic(Path(f"{place}.json"), json.dumps(found) + "\n")  # last: the night is done
    print(
        f"{place}: {fitted.epochs} epochs, best {fitted.best_epoch}, "
        f"{found['cpu_train']:.1f} s of CPU"
    )


def score_older(log: Log, place: Path, model_of: Path, nights: list[int]) -> None:
    """Scores the rows of later nights by the model of an earlier one.

    Args:
        log: the log.
        place: folder of the nights.
        model_of: path of the earlier night's files, without their suffixes.
        nights: those to score; each has been trained itself, and has the rows.
    """
    fitted = Fitted.model_validate(read_json(f"{model_of}.fitted.json"))
    flags = parse(TrainConfig, FLAGS)
    system = None
    for night in nights:
        found = place / f"{model_of.name}-on-{night:02d}.json"
        rows = read_json(place / f"cold-{night:02d}.json")
        if found.exists():
            continue
        dataset = pipeline.transform(log.until(FIRST + night - 1), fitted)
        if system is None:
            builder, options = model_options(flags)
            model = built(builder, options, dataset, flags)
            with np.load(f"{model_of}.npz") as file:
                for number, variable in enumerate(model.variables):
                    variable.assign(file[str(number)])
            system = System.of(model, dataset, flags)
        row_of = {item: row for row, item in enumerate(dataset.panel.item_ids)}
        items = np.array([row_of[item] for item in rows["items"]], np.int32)
        examples = Examples(items, np.full(len(items), FIRST + night - 2, np.int32))
        scored = scenario_set(dataset, Windows(dataset), "test", flags, examples)
        predicted = scored.predictions(system.predict)
        values = {name: predicted[name].astype(float).tolist() for name in SCENARIOS}
        write_atomic(found, json.dumps(values) + "\n")
        print(f"{found}: scored")


def older(work: Path) -> None:
    """Scores what the weekly schedule and the one that never trains again would have served."""
    for shifted in (False, True):
        place = work / ("shifted" if shifted else "plain")
        trained = [
            night for night in range(1, NIGHTS + 1) if (place / f"cold-{night:02d}.json").exists()
        ]
        for week in range(1, NIGHTS + 1, WEEK):
            nights = trained if week == 1 else [one for one in trained if week < one < week + WEEK]
            nights = [one for one in nights if one != week]
            own = place if (place / f"cold-{week:02d}.json").exists() else work / "plain"
            if nights and (own / f"cold-{week:02d}.json").exists():
                score_older(log_of(0, shifted), place, own / f"cold-{week:02d}", nights)


def plan(work: Path, only: str) -> list[tuple[bool, int, Path, Path | None]]:
    """What is to be trained, in order: (shifted, night, place, what it starts from)."""
    found = []
    for shifted in (False, True):
        for night in range(SHIFT if shifted else 1, NIGHTS + 1):
            folder = work / ("shifted" if shifted else "plain")
            if only != "warm" or night == 1:
                found.append((shifted, night, folder / f"cold-{night:02d}", None))
            if only != "cold" and night > 1:
                # The nights before the shift are those of the plain log.
                before = work / "plain" if night <= SHIFT else folder
                kind = "cold" if night == 2 else "warm"
                earlier = before / f"{kind}-{night - 1:02d}"
                found.append((shifted, night, folder / f"warm-{night:02d}", earlier))
    return found


def choose(work: Path) -> None:
    """Compares settings of warm nights on the validation rows of another log."""
    log, names = log_of(1, False), list(CHOICES)
    print(f"plan: {1 + len(names) * (CHOSEN_NIGHTS - 1)} trainings")
    first = work / "choose" / "cold-01"
    if not Path(f"{first}.json").exists():
        train_night(log, 1, first, None)
    for number, name in enumerate(names):
        epochs, rate = CHOICES[name]
        earlier = first
        for night in range(2, CHOSEN_NIGHTS + 1):
            place = work / "choose" / f"{number}-{night:02d}"
            flags = [f"--warm_epochs={epochs}", f"--learning_rate={rate}"]
            if not Path(f"{place}.json").exists():
                train_night(log, night, place, earlier, *flags)
            earlier = place


def main() -> int:
    """Trains what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="directory of the nights")
    parser.add_argument("--only", choices=("cold", "warm"), default="", help="one half of the work")
    parser.add_argument("--older", action="store_true", help="score nights by earlier models")
    parser.add_argument("--choose", action="store_true", help="choose the settings of warm nights")
    given = parser.parse_args()
    if given.choose:
        choose(given.work)
        return 0
    if given.older:
        older(given.work)
        return 0
    todo = plan(given.work, given.only)
    left = [one for one in todo if not Path(f"{one[2]}.json").exists()]
    print(f"plan: {len(todo)} trainings, of which {len(todo) - len(left)} are done")
    for shifted, night, place, earlier in left:
        train_night(log_of(0, shifted), night, place, earlier)
    return 0


if __name__ == "__main__":
    sys.exit(main())
