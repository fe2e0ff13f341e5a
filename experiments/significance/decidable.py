"""Effects that a log can decide: a simulation for the claims that stay open on it.

    python experiments/significance/decidable.py [--experiments=DIR,...] [--output=FILE]

reads `results/tests.json` of experiments, and takes every part of a claim that is open there. With
its variances (test rows, and seeds of each system) taken as the truth, experiments of more seeds or
rows are simulated: the estimate is normal, and each variance is estimated from its degrees of
freedom. The interval is that of the claims. The page states the smallest ratio of two MSEs that is
decided in four of five such experiments, and how often the ratio that was found would be.
"""

import argparse
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mmnet.checks import InputError
from mmnet.evaluation import plots
from mmnet.evaluation.report import markdown_table
from mmnet.evaluation.significance import half_width
from mmnet.experiments import claims
from mmnet.experiments.claims import Contrast, Evidence
from mmnet.experiments.kept import Kept
from mmnet.files import write_atomic

CONFIDENCE = 0.99
DRAWS = 20_000
POWER = 0.8
DESIGNS = ((20, 1), (40, 1), (40, 4))
"""Seeds of each system, and multiples of the test rows."""
_PART = re.compile(r"(?P<scenario>[^:]+): MSE (?P<above>\w+) / (?P<below>\w+) = ")
_SCENARIOS = {title: name for name, title in plots.TITLES.items()}


def open_parts(evidence: Evidence) -> Iterator[tuple[str, Contrast]]:
    """Yields a name and the contrast of every open part that compares two systems."""
    for claim in claims.ledger(evidence, confidence=CONFIDENCE):
        for part in claim.parts:
            found = _PART.match(part.text)
            if part.verdict != claims.OPEN or not found:
                continue
            scenario = _SCENARIOS[found["scenario"]]
            terms = [(1, found["above"], scenario), (-1, found["below"], scenario)]
            name = f"{claim.name}, {found['scenario'].lower()}: {found['above']} / {found['below']}"
            yield name, evidence.contrast(terms)


def grown(contrast: Contrast, seeds: int, rows: float) -> tuple[np.ndarray, np.ndarray]:
    """Variances and degrees of freedom with other numbers of seeds and of test rows.

    Args:
        contrast: a contrast.
        seeds: seeds of each system; never fewer than it has.
        rows: multiple of its test rows.
    """
    variances, freedoms = np.array(contrast.variances), np.array(contrast.freedoms)
    before = freedoms[1:] + 1
    after = np.maximum(seeds, before)
    times = np.r_[rows, after / before]
    return variances / times, np.r_[freedoms[0] * rows, after - 1]


class Simulated:
    """Experiments in which the true value is 0; a true value is added to their estimates.

    Args:
        variances: true variances of the parts.
        freedoms: degrees of freedom of their estimates.
        draws: number of experiments.
    """

    def __init__(self, variances: np.ndarray, freedoms: np.ndarray, draws: int = DRAWS):
        draw = np.random.default_rng(0)
        estimated = variances * draw.chisquare(freedoms, (draws, len(freedoms))) / freedoms
        self._noise = draw.normal(0, math.sqrt(variances.sum()), draws)
        self._half = half_width(estimated, freedoms, 1 - CONFIDENCE)

    def decided(self, value: float) -> float:
        """Returns how often the interval is wholly on the side of the true value."""
        size = abs(value)
        return float(np.mean(size + self._noise > self._half))

    def smallest(self, power: float = POWER) -> float:
        """Returns the smallest value that is decided with this probability, to .001."""
        low, high = 0.0, 1.0
        while self.decided(high) < power:
            low, high = high, 2 * high
        while high - low > 0.001:
            middle = (low + high) / 2
            low, high = (low, middle) if self.decided(middle) >= power else (middle, high)
        return high


HEAD = """\
# Differences that these logs can decide

Written by `python experiments/significance/decidable.py`. For every part of a claim of the paper
that is open: the ratio of two MSEs that was found, with its 99 % interval, and the smallest true
ratio that {power:.0%} of experiments with this many seeds and test rows would decide (a ratio below
1 likewise, as its inverse). "Found decides" is the share of experiments with 40 seeds and the same
test rows that would decide if the ratio that was found were the true one.

"""


def section(title: str, evidence: Evidence) -> str:
    """The table of one experiment."""
    rows = []
    for name, contrast in open_parts(evidence):
        own = contrast.estimate(CONFIDENCE)
        found = [f"{math.exp(x):.3g}" for x in (own.value, own.low, own.high)]
        seeds = sorted({int(one) + 1 for one in contrast.freedoms[1:]})
        now = Simulated(np.array(contrast.variances), np.array(contrast.freedoms))
        others = {design: Simulated(*grown(contrast, *design)) for design in DESIGNS}
        smallest = [f"{math.exp(one.smallest()):.3g}" for one in (now, *others.values())]
        ours = f"{others[40, 1].decided(contrast.value):.0%}"
        shown = f"{found[0]} [{found[1]}, {found[2]}]"
        rows.append([name, " and ".join(map(str, seeds)), shown, *smallest, ours])
    header = ["Part", "Seeds", "Found", "Decided now"]
    header += [
        f"{seeds} seeds" + (f", {rows} × rows" if rows > 1 else "") for seeds, rows in DESIGNS
    ]
    return f"## {title}\n\n{markdown_table([*header, 'Found decides'], rows)}"


def main() -> int:
    """Simulates, and writes the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = "experiments/published_github,experiments/published_kuairand"
    parser.add_argument("--experiments", default=default)
    output = Path("experiments/significance/decidable.md")
    parser.add_argument("--output", type=Path, default=output)
    flags = parser.parse_args()
    parts = []
    try:
        for place in map(Path, flags.experiments.split(",")):
            evidence = Kept.read(place / "results" / "tests.json").evidence()
            lines = (place / "results" / "results.md").read_text(encoding="utf-8").splitlines()
            parts.append(section(lines[0].removeprefix("# "), evidence))
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    write_atomic(flags.output, HEAD.format(power=POWER) + "\n".join(parts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
