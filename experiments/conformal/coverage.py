"""Coverage of the prediction intervals on simulated data, from an ordinary run.

    python -m mmnet.train --flagfile=experiments/conformal/flags.txt --run_dir=runs/conformal
    python experiments/conformal/coverage.py --run_dir=runs/conformal [--output=FILE]

Intervals are calibrated on validation, scenario by scenario; coverage is that of the test span.
"""

import argparse
import json
from pathlib import Path

from mmnet.evaluation.plots import TITLES
from mmnet.evaluation.report import markdown_table
from mmnet.files import write_atomic
from mmnet.training.records import Record

ALLOWED = 0.02


def main():
    """Reads the run's report and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run_dir", required=True)
    parser.add_argument("--output", default=str(Path(__file__).with_suffix(".md")))
    flags = parser.parse_args()
    run_dir = Path(flags.run_dir)
    record = Record.read(run_dir / "record.json")
    found = json.loads((run_dir / "evaluation" / "decision.json").read_text(encoding="utf-8"))
    level, rows = found["level"], found["coverage"]
    whole = [row for row in rows if row["clicks"] == "all"]
    missed = [TITLES[r["scenario"]] for r in whole if abs(r["coverage"] - level) > ALLOWED]
    verdict = (
        f"Within {100 * ALLOWED:g} points of {level:.0%} in every scenario."
        if not missed
        else f"More than {100 * ALLOWED:g} points off {level:.0%} in: {', '.join(missed)}."
    )
    rules = [
        [
            TITLES[scenario],
            row["rule"],
            f"{row['kept_share']:.1%}",
            f"{row['recall']:.3f} [{row['recall_low']:.3f}, {row['recall_high']:.3f}]",
            f"{row['regret']:.3g}",
        ]
        for scenario, table in found["rules"].items()
        for row in table
    ]
    text = "\n".join(
        [
            "# Coverage of prediction intervals, simulated data\n",
            f"Flags: [flags.txt](flags.txt); commit {record.git_commit}"
            f"{'' if record.git_clean else ' with changes'}; training took "
            f"{record.stage_seconds['train']:.0f} s. {verdict}\n",
            markdown_table(
                ["Scenario", "Clicks seen", "n", "Coverage", "Mean width (%)"],
                [
                    [
                        TITLES[row["scenario"]],
                        row["clicks"],
                        f"{row['n']:,}",
                        f"{row['coverage']:.1%}",
                        f"{row['mean_width']:.3g}",
                    ]
                    for row in rows
                ],
            ),
            "## Rules solved on validation, on test\n",
            markdown_table(["Scenario", "Rule", "Kept", "Recall of the top 5 %", "Regret"], rules),
        ]
    )
    write_atomic(flags.output, text)
    print(verdict)


if __name__ == "__main__":
    main()
