"""Tables and the plot of the nights of `compare_schedules.py`.

    python experiments/nightly/report.py --work=DIR [--output=experiments/nightly]

Writes nights.csv (a row per log, night, schedule and scenario), nights.png and results.md.
"""

import argparse
import csv
import functools
import io
import sys
from pathlib import Path

import numpy as np
from compare_schedules import (
    CHOICES,
    CHOSEN_NIGHTS,
    CLICKS,
    FIRST,
    ITEMS,
    NIGHTS,
    PERIODS,
    SCENARIOS,
    SHIFT,
    WEEK,
)
from matplotlib.figure import Figure

from mmnet.evaluation.report import markdown_table
from mmnet.files import read_json, write_atomic
from mmnet.promotion.paired import Paired

SCHEDULES = {
    "nightly cold": "from scratch every night",
    "nightly warm": "from the night before, 3 epochs",
    "weekly cold": "from scratch every seventh night",
    "never": "once, on the first night",
}


@functools.cache
def read(path: Path) -> dict | None:
    """A night's file; None where the night has not been trained or scored."""
    return read_json(path) if path.exists() else None


def served(work: Path, log: str, schedule: str, night: int) -> dict | None:
    """Predictions of a schedule for the period after a night, and its training if there was one."""
    folder = work / log
    if schedule == "nightly cold" or night == 1:
        return read(folder / f"cold-{night:02d}.json")
    if schedule == "nightly warm":
        return read(folder / f"warm-{night:02d}.json")
    week = 1 + (night - 1) // WEEK * WEEK if schedule == "weekly cold" else 1
    if week == night:
        return read(folder / f"cold-{night:02d}.json")
    return read(folder / f"cold-{week:02d}-on-{night:02d}.json")


def errors(work: Path, log: str, night: int) -> dict[tuple[str, str], np.ndarray] | None:
    """Squared errors to the true rates by schedule and scenario, [rows]; None where one lacks."""
    rows = read(work / log / f"cold-{night:02d}.json")
    found = {name: served(work, log, name, night) for name in SCHEDULES}
    if rows is None or None in found.values():
        return None
    truth = np.array(rows["truth"])
    return {
        (name, scenario): np.square(np.array(one[scenario]) - truth)
        for name, one in found.items()
        for scenario in SCENARIOS
    }


def percent(work: Path, nights: list[int], name: str, scenario: str) -> str:
    """Difference from nightly cold over nights, with its intervals by item and by night."""
    parts, items, of_night = [], [], []
    for night in nights:
        found = errors(work, "plain", night)
        parts.append((found[name, scenario], found["nightly cold", scenario]))
        items += read(work / "plain" / f"cold-{night:02d}.json")["items"]
        of_night += [night] * len(parts[-1][0])
    above, below = (np.concatenate(side) for side in zip(*parts, strict=True))
    by_item, by_night = (
        Paired(below, above, np.array(clusters)).ratio() for clusters in (items, of_night)
    )
    shown = [
        f"{100 * (one.low - 1):+.1f} to {100 * (one.high - 1):+.1f}" for one in (by_item, by_night)
    ]
    return f"{100 * (by_item.value - 1):+.1f} % ({shown[0]}; {shown[1]})"


def trainings(work: Path, name: str, nights: list[int]) -> list[dict]:
    """The trainings of a schedule."""
    own = {
        "nightly cold": [(night, "cold") for night in nights],
        "nightly warm": [(night, "cold" if night == 1 else "warm") for night in nights],
        "weekly cold": [(night, "cold") for night in nights if (night - 1) % WEEK == 0],
        "never": [(1, "cold")],
    }[name]
    return [read(work / "plain" / f"{kind}-{night:02d}.json") for night, kind in own]


def main() -> int:
    """Writes the three files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="directory of the nights")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    given = parser.parse_args()
    work = given.work
    nights = {
        log: [night for night in range(1, NIGHTS + 1) if errors(work, log, night)]
        for log in ("plain", "shifted")
    }
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["log", "night", "schedule", "scenario", "rows", "mse"])
    curves = {}
    for log, of_log in nights.items():
        for night in of_log:
            for (name, scenario), one in errors(work, log, night).items():
                curves[log, name, scenario, night] = one.mean()
                writer.writerow([log, night, name, scenario, len(one), f"{one.mean():.4f}"])
    write_atomic(given.output / "nights.csv", table.getvalue())

    figure = Figure(figsize=(10, 6), layout="constrained")
    panels = figure.subplots(2, 2, sharex="col", sharey="row")
    for row, scenario in enumerate(SCENARIOS):
        for panel, log in zip(panels[row], nights, strict=True):
            for name in SCHEDULES:
                line = [curves[log, name, scenario, night] for night in nights[log]]
                panel.plot(nights[log], line, label=name)
            panel.set_title(f"{log} log, {scenario.replace('_', '-')}")
        panels[row][0].set_ylabel("MSE to the true rate, percent²")
    for panel in panels[1]:
        panel.set_xlabel("night")
    panels[0][0].legend()
    write_atomic(given.output / "nights.png", lambda path: figure.savefig(path, format="png"))

    plain, lines = nights["plain"], []
    for name, what in SCHEDULES.items():
        done = trainings(work, name, plain)
        lines.append(
            [
                f"{name}: {what}",
                *(
                    f"{np.mean([curves['plain', name, one, night] for night in plain]):.2f}"
                    for one in SCENARIOS
                ),
                *(
                    percent(work, plain, name, one) if name != "nightly cold" else ""
                    for one in SCENARIOS
                ),
                f"{len(done)}",
                f"{sum(one['steps'] for one in done):,}",
                f"{sum(one['cpu_train'] for one in done):.0f}",
                f"{sum(one['cpu_train'] + one['cpu_prepare'] for one in done):.0f}",
            ]
        )
    header = ["Schedule", "MSE normal", "MSE cold-start"]
    header += ["Normal, from nightly cold", "Cold-start, from nightly cold"]
    header += ["Trainings", "Steps", "CPU s of training", "with preparation"]
    shifted = []
    for night in nights["shifted"]:
        shifted.append(
            [
                str(night),
                *(
                    f"{curves['shifted', name, scenario, night]:.2f}"
                    for scenario in SCENARIOS
                    for name in SCHEDULES
                ),
            ]
        )
    chosen = []
    for number, name in enumerate(CHOICES):
        done = [
            read(work / "choose" / f"{number}-{night:02d}.json")
            for night in range(2, CHOSEN_NIGHTS + 1)
        ]
        if None not in done:
            logs = [
                np.log([one["validation"][f"{s}_mse"] for s in ("normal", "cold_start", "noisy")])
                for one in done
            ]
            chosen.append([name, f"{np.mean(logs):.3f}", f"{sum(one['steps'] for one in done):,}"])
    done = [
        one for name in ("nightly cold", "nightly warm") for one in trainings(work, name, plain)
    ]
    steps, seconds = (np.array([one[key] for one in done]) for key in ("steps", "cpu_train"))
    per_step, fixed = np.polyfit(steps, seconds, 1)
    columns = [f"{name}, {one.replace('_', '-')}" for one in SCENARIOS for name in SCHEDULES]
    text = f"""# Schedules of retraining

`python experiments/nightly/compare_schedules.py --work=DIR`, then with `--older`, and
`python experiments/nightly/report.py --work=DIR`. A simulated log (`content` regime, {ITEMS:,}
items, {PERIODS} periods, {CLICKS:,} clicks, seed 0); {FIRST} periods on the first night, one more
each night. Errors are to the true rates of the items with 10 clicks or more in the next period,
which no model has seen. One seed: the intervals (95 %) are clustered by item and by night, and do
not cover another log.

## As the log is

{len(plain)} nights, {plain[0]} to {plain[-1]}. Differences have two intervals: by item; by night.

{markdown_table(header, lines)}
By least squares over these trainings, one costs {fixed:.1f} s of CPU whatever its length (building
and tracing the network and its validation), and {1000 * per_step:.1f} ms per step.

## After a sudden shift

The training data of night {SHIFT} have not shifted yet; the period after it has. MSE in percent².

{markdown_table(["Night", *columns], shifted)}
## Epochs and rate of a warm night

Mean log MSE on the validation rows of nights 2 to {CHOSEN_NIGHTS} of another log (seed 1), by
`compare_schedules.py --choose`. A cold night has a rate of 0.002.

{markdown_table(["Setting", "Mean log MSE", "Steps"], chosen)}
![Error of each schedule by night](nights.png)
"""
    write_atomic(given.output / "results.md", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
