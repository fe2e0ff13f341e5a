"""Results of experiments as they are kept: results.csv, a line per row, seed and epoch."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from scipy import special

from mmnet.checks import InputError
from mmnet.flags import PACKAGE

ROWS = PACKAGE / "mma4ctr" / "experiments" / "rows"
CHOSEN = "chosen"
TEXTS = ("row", "at", "protocol")
NUMBERS = ("seed", "in_features", "parameters", "auc", "log_loss", "training_seconds")
"""Columns that are read, besides any others that hold numbers."""

BySeed = Mapping[int, float]


@dataclass(frozen=True)
class Change:
    """Mean over seeds of a value or of a difference, with its sampling error.

    Attributes:
        value: mean over seeds.
        variance: of the mean; NaN of one seed.
        freedom: degrees of freedom of the variance, number of seeds - 1.
    """

    value: float
    variance: float
    freedom: int

    @classmethod
    def of(cls, by_seed: BySeed) -> Change | None:
        """Take the mean over seeds; None of no seed.

        >>> Change.of({0: 1.0, 1: 3.0})
        Change(value=2.0, variance=1.0, freedom=1)
        """
        values = np.array([*by_seed.values()])
        if not values.size:
            return None
        variance = values.var(ddof=1) / values.size if values.size > 1 else math.nan
        return cls(float(values.mean()), float(variance), values.size - 1)

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Interval of the t distribution; (-inf, inf) of one seed, which decides nothing.

        >>> low, high = Change(2.0, 1.0, 4).interval()
        >>> round(low, 3), round(high, 3)
        (-0.776, 4.776)
        """
        if self.freedom < 1:
            return -math.inf, math.inf
        half = float(special.stdtrit(self.freedom, (1 + confidence) / 2)) * self.variance**0.5
        return self.value - half, self.value + half


def difference(one: BySeed, other: BySeed) -> dict[int, float]:
    """Subtract results of the same seed; seeds that only one of the two has are left out.

    >>> difference({0: 0.5, 1: 0.75}, {1: 0.25, 2: 0.5})
    {1: 0.5}
    """
    return {seed: value - other[seed] for seed, value in one.items() if seed in other}


@dataclass(frozen=True)
class Results:
    """The results of one experiment.

    Attributes:
        lines: row and epoch -> seed -> metric -> value.
        earlier: True if the runner of before wrote it, which kept no state.json. The definitions of
            the baselines changed after that.
    """

    lines: dict[tuple[str, str], dict[int, dict[str, float]]]
    earlier: bool

    def by_seed(self, row: str, at: str | int = CHOSEN, metric: str = "auc") -> dict[int, float]:
        """Return a metric of a row by seed, empty where the results have none.

        Args:
            row: the name of its flagfile. Earlier results have its title instead; both are found.
            at: an epoch, or `CHOSEN`, or a reference such as "base rate".
            metric: a column of results.csv.
        """
        named = self.lines.get((row, str(at))) or self.lines.get((title(row), str(at)), {})
        return {seed: found[metric] for seed, found in sorted(named.items()) if metric in found}


@cache
def title(row: str) -> str:
    """Return the title of a packaged row, the first comment of its flagfile up to a colon.

    >>> title("learning_rate_1e-3"), title("bpr")
    ('1e-3', 'BPR')
    """
    first = (ROWS / f"{row}.txt").read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").partition(":")[0].strip()


def read(folder: Path) -> Results | None:
    """Read `results/results.csv` of an experiment's folder; None where it has not been run.

    Raises:
        InputError: a column is missing, a number is not finite, or a line is there twice.
    """
    path = folder / "results" / "results.csv"
    if not path.exists():
        return None
    found: dict[tuple[str, str], dict[int, dict[str, float]]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        for name in (*TEXTS, *NUMBERS):
            if name not in (reader.fieldnames or ()):
                raise InputError(f"{path} has no column {name!r}; run the experiment again")
        for line in reader:
            row, at, _ = (line.pop(name) for name in TEXTS)
            where = f"{path}, line {reader.line_num}"
            numbers = {name: _number(text, name, where) for name, text in line.items() if text}
            seeds = found.setdefault((row, at), {})
            seed = int(numbers.get("seed", -1))
            if seed in seeds:
                raise InputError(
                    f"{where}: row {row!r} has a second line of seed {seed} at {at!r}; remove one "
                    "of the two"
                )
            seeds[seed] = numbers
    return Results(found, earlier=not path.with_name("state.json").exists())


def _number(text: str, name: str, where: str) -> float:
    try:
        found = float(text)
    except (TypeError, ValueError):  # more cells than columns are a list
        found = math.nan
    if not math.isfinite(found):
        raise InputError(
            f"{where}: {name} must be a finite number. Received: {text!r}; run the experiment again"
        )
    return found
