"""Every published number of the second paper next to ours, and its claims, checked.

    python experiments/mma4ctr/ledger.py [--records=FOLDER] [--output=FOLDER]

Reads the results of the experiments in a folder (results/results.csv of each) and writes ledger.md
and claims.json. It trains nothing; an experiment without results is "not run yet".
"""

import argparse
import json
import sys
from pathlib import Path

from mmnet.checks import InputError
from mmnet.experiments.claims import as_json, markdown
from mmnet.files import write_atomic
from mmnet.mma4ctr.experiments import claims, ledger

HERE = Path(__file__).parent


def main():
    """Read, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=Path, default=HERE)
    parser.add_argument("--output", type=Path, default=HERE)
    flags = parser.parse_args()
    found = ledger.Repository(flags.records)
    try:
        checked = claims.ledger(found)
        page = ledger.markdown(found, markdown(checked))
    except InputError as error:
        sys.exit(f"error: {error}")
    write_atomic(flags.output / "ledger.md", page)
    write_atomic(flags.output / "claims.json", json.dumps(as_json(checked), indent=1) + "\n")


if __name__ == "__main__":
    main()
