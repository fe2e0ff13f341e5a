"""One network for two rates, or for two horizons, against a network for each of them.

    python experiments/horizons_rates/compare.py --work=DIR [--data=DIR] [--seeds=0,1,2]
        [--rounds=5] [--logs=NAME,...] [--output=experiments/horizons_rates/results.md]

DIR of --data has KuaiRand-Pure (see `mmnet/data/sources/kuairand.py`); without it, only simulated
logs are used. --logs chooses among simulated_rates, simulated_horizons and kuairand_rates. All
networks of a log have the same examples, scales and options. Errors are of the test rows, each
network at its best epoch. Times are of one epoch and its validation: in every round each network in
turn trains an epoch in this process, after a round that compiles, so that whatever else the machine
does hits all of them alike.

The plan is printed first. What a network has predicted or a round has measured is a file in --work,
so that a killed run continues, and other seeds can be added later. Training itself continues from
its last checkpoint. Nothing of the log is written anywhere else.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mmnet import config
from mmnet.data import input_tables, pipeline
from mmnet.data.dataset import Dataset
from mmnet.data.windows import Windows
from mmnet.evaluation.output_sets import Part, parts_of
from mmnet.evaluation.predicting import Predictor
from mmnet.evaluation.report import markdown_table
from mmnet.files import read_json, write_atomic
from mmnet.flags import parse
from mmnet.promotion.paired import Paired
from mmnet.tasks.building import built, model_options
from mmnet.tasks.evaluating import choosing_set, scenario_set
from mmnet.training import losses, share_rates
from mmnet.training.fitting import Trainer
from mmnet.training.records import git_state, machine
from mmnet.training.sessions import Interrupted

SIMULATED = [
    *("--source=simulated", "--source_set=items=1500", "--source_set=periods=30"),
    *("--source_set=clicks=1000000", "--taxonomies=category,tags", "--numerics=duration"),
    *("--release=release", "--min_target_clicks=20", "--epochs=6"),
]
LIKES = ["--source_set=likes=true", "--also_predict=like", "--rate=like=likes/clicks"]
KUAIRAND = [
    *("--source=kuairand", "--item_column=video_id", "--denominator=impressions"),
    *("--numerator=long_view", "--also_predict=like", "--rate=like=is_like/impressions"),
    *("--taxonomies=tag,author_id", "--categoricals=video_type,upload_type,music_type"),
    *("--numerics=video_duration", "--release=upload_dt", "--min_target_clicks=10", "--epochs=6"),
]
LOGS = {
    "simulated_rates": [*SIMULATED, *LIKES],
    "simulated_horizons": [*SIMULATED, "--horizon=1,3"],
    "kuairand_rates": KUAIRAND,
}
TITLES = {
    "simulated_rates": "Simulated, shares and likes",
    "simulated_horizons": "Simulated, horizons 1 and 3",
    "kuairand_rates": "KuaiRand, long views and likes",
}
NETWORK = ["--model=mmnet", "--set=head=mixed", "--half_weight_clicks=50"]
TOGETHER = "together"
SCENARIOS = ("normal", "cold_start", "noisy")
GOAL = 1.3


class Setting:
    """A log, its dataset and the networks that are compared on it.

    Args:
        name: key of `LOGS`.
        data: directory of KuaiRand-Pure; None without it.
        work: directory of all results.

    Attributes:
        name: see above.
        place: directory of its results.
    """

    def __init__(self, name: str, data: Path | None, work: Path):
        self.name = name
        self.place = work / name
        source = [f"--source_dir={data}"] if LOGS[name] is KUAIRAND else []
        self.flags = parse(config.TrainConfig, [*LOGS[name], *source, *NETWORK])
        self._dataset: Dataset | None = None
        self._made: dict[str, tuple[Trainer, Callable[[], Mapping[str, float]]]] = {}

    @property
    def dataset(self) -> Dataset:
        """The dataset with both outputs, made at first use."""
        if self._dataset is None:
            tables = input_tables.load_tables(*input_tables.table_flags(self.flags))
            about, task = input_tables.table_flags(self.flags)
            self._dataset = pipeline.prepare(tables, about, task)
        return self._dataset

    def of(self, system: str) -> Dataset:
        """The dataset of a network: of both outputs, or of one alone."""
        if system == TOGETHER:
            return self.dataset
        outputs = {output.name: output for output in self.dataset.fitted.spec.outputs()}
        return self.dataset.alone(outputs[system])

    @property
    def systems(self) -> list[str]:
        """The network of both outputs, and one per output."""
        return [TOGETHER, *(output.name for output in self.dataset.fitted.spec.outputs())]

    def fit(
        self, system: str, seed: int, *, epochs: int | None = None, run_dir: Path | None = None
    ) -> tuple[keras.Model, "Clock"]:
        """Trains a network from scratch, or from its last checkpoint in `run_dir`."""
        dataset = self.of(system)
        flags = self.flags.model_copy(update={"seed": seed})
        builder, options = model_options(flags)
        model = built(builder, options, dataset, flags)
        windows = Windows(dataset)
        batches, steps = windows.training_batches(
            dataset.examples("train"),
            flags.batch_size,
            seed,
            half_weight_clicks=flags.half_weight_clicks,
            weighting=losses.loss_weighting(flags.loss),
        )
        if system not in self._made:
            spec = dataset.fitted.spec
            trainer = share_rates.trainer(
                model, batches, steps, flags, rate_scale=spec.rate_scale, spec=spec
            )
            predict = Predictor(model, flags.jit)
            validation = choosing_set(dataset, windows, flags)
            self._made[system] = (
                trainer,
                lambda: validation.mse(validation.predictions(predict)),
            )
        else:
            self._made[system][0].start_over(model, seed)
        trainer, validate = self._made[system]
        clock = Clock()
        trainer.fit(
            batches,
            lambda _: validate(),
            run_dir=run_dir,
            resume=True,
            epochs=epochs,
            callbacks=[clock],
        )
        return trainer.model, clock

    # ------------------------------------------------------------------------------- errors

    def error_file(self, system: str, seed: int) -> Path:
        """Where the squared errors of a network are written."""
        return self.place / f"errors-{system}-{seed}.json"

    def measure(self, system: str, seed: int) -> None:
        """Trains a network and writes its squared errors on the test rows of its outputs."""
        model, _ = self.fit(system, seed, run_dir=self.place / f"fit-{system}-{seed}")
        dataset = self.of(system)
        test = scenario_set(dataset, Windows(dataset), "test", self.flags)
        predicted = test.predictions(Predictor(model, self.flags.jit))
        found = {}
        for part in parts_of(test):
            name = part.output.name if system == TOGETHER else system
            found[name] = _errors(part, part.of(predicted))
        write_atomic(self.error_file(system, seed), json.dumps(found) + "\n")

    # -------------------------------------------------------------------------------- times

    def round_file(self, number: int) -> Path:
        """Where the times of a round are written."""
        return self.place / f"round-{number}.json"

    def time_round(self, number: int) -> None:
        """Lets each network in turn train one epoch, and writes what each took."""
        if not self._made or set(self._made) != set(self.systems):
            for system in self.systems:  # compiles
                self.fit(system, 0, epochs=1)
        found = {}
        shift = number % len(self.systems)  # no network always goes first
        for system in [*self.systems[shift:], *self.systems[:shift]]:
            cpu, wall = time.process_time(), time.perf_counter()
            _, clock = self.fit(system, number, epochs=1)
            found[system] = {
                "steps_wall": clock.wall,
                "steps_cpu": clock.cpu,
                "all_wall": time.perf_counter() - wall,
                "all_cpu": time.process_time() - cpu,
            }
        write_atomic(self.round_file(number), json.dumps(found) + "\n")


class Clock(keras.callbacks.Callback):
    """Seconds of the training steps of all epochs, without validation."""

    def __init__(self):
        super().__init__()
        self.wall = self.cpu = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        """Starts both clocks."""
        self._start = time.perf_counter(), time.process_time()

    def on_epoch_end(self, epoch, logs=None):
        """Adds an epoch."""
        self.wall += time.perf_counter() - self._start[0]
        self.cpu += time.process_time() - self._start[1]


def _errors(part: Part, predicted: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Items and squared errors of the test rows of one output."""
    truth = part.examples.truth.astype(np.float64)
    return {
        "items": [str(one) for one in part.examples.keys()["item_id"]],
        "errors": {name: np.square(predicted[name] - truth).tolist() for name in SCENARIOS},
    }


# ------------------------------------------------------------------------------------ report


def error_rows(setting: Setting, seeds: list[int]) -> list[list[str]]:
    """A row per output and scenario: errors alone, together, and their ratio."""
    rows = []
    both = [read_json(setting.error_file(TOGETHER, seed)) for seed in seeds]
    for output in setting.systems[1:]:
        alone = [read_json(setting.error_file(output, seed))[output] for seed in seeds]
        together = [one[output] for one in both]
        for scenario in SCENARIOS:
            own, shared = (
                np.array([one["errors"][scenario] for one in found]) for found in (alone, together)
            )
            pair = Paired(own.mean(axis=0), shared.mean(axis=0), np.array(alone[0]["items"]))
            ratio = pair.ratio()
            rows.append(
                [
                    f"{output}, {scenario.replace('_', '-')}",
                    _spread(own.mean(axis=1)),
                    _spread(shared.mean(axis=1)),
                    f"{100 * (ratio.value - 1):+.1f} % ({100 * (ratio.low - 1):+.1f} to "
                    f"{100 * (ratio.high - 1):+.1f})",
                    f"{own.shape[1]:,}",
                ]
            )
    return rows


def _spread(of_seeds: np.ndarray) -> str:
    sd = f" (sd {np.std(of_seeds, ddof=1):.3f})" if len(of_seeds) > 1 else ""
    return f"{of_seeds.mean():.3f}{sd}"


def time_rows(setting: Setting, rounds: int) -> list[list[str]]:
    """Rows of times of one network against that of the main output alone, over the rounds."""
    measured = [read_json(setting.round_file(number)) for number in range(rounds)]
    main = setting.systems[1]
    rows = []
    for what, title in {"steps": "training steps", "all": "steps and validation"}.items():
        for clock in ("cpu", "wall"):
            key = f"{what}_{clock}"
            ratios = np.array([one[TOGETHER][key] / one[main][key] for one in measured])
            each = np.array(
                [
                    one[TOGETHER][key] / sum(one[name][key] for name in setting.systems[1:])
                    for one in measured
                ]
            )
            rows.append(
                [
                    f"{TITLES[setting.name]}: {title}, {clock}",
                    f"{np.mean([one[main][key] for one in measured]):.2f}",
                    f"{np.mean([one[TOGETHER][key] for one in measured]):.2f}",
                    f"{np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})",
                    f"{np.median(each):.2f}",
                ]
            )
    return rows


def report(settings: list[Setting], seeds: list[int], rounds: int) -> str:
    """The results as Markdown."""
    commit, clean = git_state()
    asked = f"--seeds={','.join(map(str, seeds))} --rounds={rounds}"
    asked += f" --logs={','.join(setting.name for setting in settings)}"
    parts = []
    header = ["Output and scenario", "MSE alone", "MSE together", "Change (95 %)", "Test rows"]
    for setting in settings:
        parts.append(
            f"\n### {TITLES[setting.name]}\n\n{markdown_table(header, error_rows(setting, seeds))}"
        )
    times = [row for setting in settings for row in time_rows(setting, rounds)]
    columns = ["Log, what, clock", "Alone, s", "Together, s", "Ratio", "Against both alone"]
    return f"""# Two rates or horizons by one network

`python experiments/horizons_rates/compare.py --data=DIR --work=DIR {asked}`,
commit {commit}{"" if clean else " with changes"},
{machine()["processor"]}, {machine()["cores"]} cores.
MMNet with the mixed head, {len(seeds)} seed{"s" if len(seeds) > 1 else ""}.

## Time

Seconds of one epoch. The ratio is that of one network for both outputs to one for the main
output alone, the median of {rounds} rounds (lowest to highest); the goal is at most {GOAL}. The
last column compares it with the two single networks together.

{markdown_table(columns, times)}
## Errors

Each output by a network of its own, and by the network of both. The change is that of the MSE,
with an interval by item; errors are averaged over seeds first, so it does not contain the variance
between seeds, which is in the parentheses after the errors.
{"".join(parts)}"""


def main() -> int:
    """Runs what is missing, and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="directory of KuaiRand-Pure")
    parser.add_argument("--work", type=Path, required=True, help="directory of results")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--logs", default=",".join(LOGS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("results.md"))
    given = parser.parse_args()
    if given.rounds < 1 or (given.data and not given.data.is_dir()):
        parser.error("--rounds must be at least 1, and --data a directory")
    seeds = [int(one) for one in given.seeds.split(",")]
    names = given.logs.split(",")
    if unknown := set(names) - set(LOGS):
        parser.error(f"--logs must be among {', '.join(LOGS)}. Received: {', '.join(unknown)}")
    names = [name for name in names if given.data or LOGS[name] is not KUAIRAND]
    settings = [Setting(name, given.data, given.work.resolve()) for name in names]
    print(
        f"plan: {len(settings)} logs, each with {3 * len(seeds)} trainings and {given.rounds} "
        "rounds of times; about a minute of CPU per training"
    )
    try:
        run_missing(settings, seeds, given.rounds)
    except Interrupted:
        sys.exit("stopped; the same command continues")
    page = report(settings, seeds, given.rounds)
    write_atomic(given.output, page)
    print(page)
    return 0


def run_missing(settings: list[Setting], seeds: list[int], rounds: int) -> None:
    """Trains and times what has no file yet."""
    for setting in settings:
        for seed in seeds:
            for system in setting.systems:
                if not setting.error_file(system, seed).exists():
                    setting.measure(system, seed)
                    print(f"{setting.name}: {system}, seed {seed}: measured", flush=True)
        for number in range(rounds):
            if not setting.round_file(number).exists():
                setting.time_round(number)
                print(f"{setting.name}: round {number}: timed", flush=True)


if __name__ == "__main__":
    sys.exit(main())
