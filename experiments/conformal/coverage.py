"""Coverage of the prediction intervals in simulated worlds, by ordinary runs.

    python experiments/conformal/coverage.py [--worlds=5] [--output=FILE]

Every world is a simulated log with another seed. Intervals are calibrated on validation, by
scenario and clicks seen, and looked at on test. With `--split=by_item` the two are exchangeable,
which is all that the guarantee asks for; with the split by time, test lies later, as in
production. The quick model is fitted in every world, the network in the first.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from mmnet.evaluation.plots import TITLES
from mmnet.evaluation.report import markdown_table
from mmnet.files import write_atomic
from mmnet.training.records import git_state

HERE = Path(__file__).parent
ALLOWED = 0.02
SPLITS = {"by_item": "by item", "chronological": "by time"}


def run(flags, directory):
    """Trains in a process of its own; returns the decision report."""
    command = [sys.executable, "-m", "mmnet.train", *flags, f"--run_dir={directory}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE.parents[1])
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads((directory / "evaluation" / "decision.json").read_text(encoding="utf-8"))


MEANING = """Split-conformal intervals have their level on average if calibration and test rows are
exchangeable, as in a split by item. ± is the standard error over a sample of test items, because
the rows of an item miss together. The sample of calibration items adds an error of the same size,
and items of one author or topic are not independent either, so worlds differ by more than ±, most
of all in cold-start. In a split by time there is no guarantee: intervals that are calibrated on one
span hold in the next one only if the two are alike.
"""


def _shown(row):
    error = row["standard_error"]
    return f"{row['coverage']:.1%}" + ("" if error is None else f" ± {100 * error:.1f}")


def main():
    """Runs all, and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worlds", type=int, default=5)
    parser.add_argument("--output", default=str(HERE / "coverage.md"))
    flags = parser.parse_args()
    quick = [f"--flagfile={HERE / 'flags.txt'}", "--model=smoothed_history"]
    network = [f"--flagfile={HERE / 'mmnet.txt'}"]
    cells = [("smoothed_history", quick, world) for world in range(flags.worlds)]
    cells.append(("mmnet", network, 0))
    lines, groups, rules = [], [], []
    worst, off = dict.fromkeys(SPLITS, 0.0), dict.fromkeys(SPLITS, 0.0)
    commit, clean = git_state()
    with tempfile.TemporaryDirectory() as directory:
        for split, told in SPLITS.items():
            worlds: list[list[float]] = []
            for model, own, world in cells:
                place = Path(directory) / f"{split}-{model}-{world}"
                found = run([*own, f"--split={split}", f"--source_set=seed={world}"], place)
                level = found["level"]
                whole = {r["scenario"]: r for r in found["coverage"] if r["clicks"] == "all"}
                covered = [whole[scenario]["coverage"] for scenario in TITLES]
                worst[split] = max([worst[split], *(abs(one - level) for one in covered)])
                worlds += [covered] if model == "smoothed_history" else []
                lines.append(
                    [told, model, str(world), f"{whole['normal']['n']:,}"]
                    + [f"{whole['normal']['items']:,}"]
                    + [_shown(whole[scenario]) for scenario in TITLES]
                )
                print(*lines[-1], flush=True)
                if split == "chronological" and model == "mmnet":
                    groups = [
                        [
                            TITLES[row["scenario"]],
                            row["clicks"],
                            f"{row['n']:,}",
                            _shown(row),
                            f"{row['mean_width']:.3g}",
                        ]
                        for row in found["coverage"]
                    ]
                    rules = [
                        [
                            TITLES[scenario],
                            row["rule"],
                            f"{row['kept_share']:.1%}",
                            f"{row['recall']:.3f} [{row['recall_low']:.3f}, "
                            f"{row['recall_high']:.3f}]",
                            f"{row['regret']:.3g}",
                        ]
                        for scenario, table in found["rules"].items()
                        for row in table
                    ]
            mean, sd = np.mean(worlds, axis=0), np.std(worlds, axis=0, ddof=1)
            off[split] = float(np.max(np.abs(mean - level)))
            lines.append(
                [told, "smoothed_history", "mean (sd)", "", ""]
                + [
                    f"**{one:.1%}** ({100 * spread:.1f})"
                    for one, spread in zip(mean, sd, strict=True)
                ]
            )
    verdicts = [
        f"Split {told}: the mean over worlds is {100 * off[split]:.1f} points off {level:.0%} at "
        f"most ({'within' if off[split] <= ALLOWED else 'NOT within'} {100 * ALLOWED:g}), a single "
        f"world {100 * worst[split]:.1f}"
        for split, told in SPLITS.items()
    ]
    text = "\n".join(
        [
            "# Coverage of prediction intervals, simulated data\n",
            f"`python experiments/conformal/coverage.py --worlds={flags.worlds}`, "
            f"flags [flags.txt](flags.txt) and [mmnet.txt](mmnet.txt), commit {commit}"
            f"{'' if clean else ' with changes'}. {'. '.join(verdicts)}.\n",
            MEANING,
            markdown_table(
                ["Split", "Model", "World", "n", "Items", *TITLES.values()],
                lines,
            ),
            "## The network in world 0, split by time, by clicks seen in the window\n",
            markdown_table(["Scenario", "Clicks seen", "n", "Coverage", "Mean width (%)"], groups),
            "## Its rule, solved on validation, on test\n",
            markdown_table(["Scenario", "Rule", "Kept", "Recall of the top 5 %", "Regret"], rules),
        ]
    )
    write_atomic(flags.output, text)
    print(*verdicts, sep="\n")


if __name__ == "__main__":
    main()
