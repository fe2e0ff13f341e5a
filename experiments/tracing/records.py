"""The texts that the tables of a results page must have, made from the records beside it.

A results directory of `mmnet.experiment` or `mmnet.mma4ctr.experiment` has cells.csv or
results.csv, a .csv per table and state.json; the evaluation of a single run has systems.json,
outage.json and attention.json.
"""

from __future__ import annotations

import csv
import functools
import itertools
import math
import re
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.tracing.markdown import SCENARIOS, Table
from mmnet.evaluation.html_page import number_text
from mmnet.experiments import paper
from mmnet.experiments.plan import slug
from mmnet.experiments.tables import number, p_value
from mmnet.files import read_json

KEYS = {name: name.replace("-", "_") for name in SCENARIOS}
METRICS = {"mse": "mse", "p@5": "precision_at_5", "p@10": "precision_at_10"}
CLICKS = {
    "auc": "auc",
    "user auc": "user_auc",
    "pr-auc": "pr_auc",
    "logloss": "log_loss",
    "calibrated": "log_loss_calibrated",
    "raw logloss": "log_loss_raw",
}
GIB = 2**30

Line = dict[str, str]


@dataclass(frozen=True)
class Expected:
    """A cell as the records have it.

    Attributes:
        texts: what it may read; several where the record's last digit decides the rounding.
        values: the numbers behind it, in the order of the text.
    """

    texts: frozenset[str]
    values: tuple[float, ...]


Cells = Callable[[str, str], Expected | None]
"""Label of the row, name of the column -> the cell; None: no record has it."""


def near(value: float, digits: int = 6) -> tuple[float, ...]:
    """A value of a record with so many digits, and the ends of what was rounded to it."""
    if not value or not math.isfinite(value):
        return (value,)
    half = 0.5 * 10 ** (math.floor(math.log10(abs(value))) - digits + 1)
    return value, value - half, value + half


def expected(parts: Iterable[tuple[Callable[[float], str], float]], end: str = "") -> Expected:
    """The cell of formatted values, one after the other.

    >>> sorted(expected([("{:.1f}".format, 1.25), (" ± {:.0f}".format, 2)]).texts)
    ['1.2 ± 2', '1.3 ± 2']
    """
    listed = list(parts)
    ways = [dict.fromkeys(show(one) for one in near(value)) for show, value in listed]
    texts = ("".join(way) + end for way in itertools.product(*ways))
    return Expected(frozenset(texts), tuple(value for _, value in listed))


def fixed(text: str, *values: float) -> Expected:
    """A cell that can read in one way only."""
    return Expected(frozenset([text]), values)


def key_of(column: str) -> tuple[str, str] | None:
    """Scenario and metric of a column, as the records name them.

    >>> key_of("cold-start p@5"), key_of("seeds")
    (('cold_start', 'precision_at_5'), None)
    """
    scenario, _, metric = column.partition(" ")
    found = scenario in KEYS and metric in METRICS
    return (KEYS[scenario], METRICS[metric]) if found else None


@functools.cache
def _read_csv(path: Path) -> list[Line]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@functools.cache
def _read_json(path: Path) -> Any:
    return read_json(path) if path.exists() else {}


class Directory:
    """The records of one results directory.

    Args:
        path: the directory of the page.
    """

    def __init__(self, path: Path):
        self.path = path

    @functools.cached_property
    def cells(self) -> dict[str, list[Line]]:
        """Row -> its lines of cells.csv, or of results.csv of the second system; else empty."""
        found: dict[str, list[Line]] = {}
        for name in ("cells.csv", "results.csv"):
            for line in self._csv(name) if not found else ():
                if "row" in line:
                    found.setdefault(line["row"], []).append(line)
        return found

    def _csv(self, name: str) -> list[Line]:
        return _read_csv(self.path / name)

    def json(self, name: str) -> Any:
        """The content of a file of JSON; empty without the file."""
        return _read_json(self.path / name)

    def values(self, row: str, column: str, at: str = "") -> tuple[float, ...]:
        """Values of a row, one per cell that has one, at an epoch of the second system."""
        lines = [line for line in self.cells[row] if not at or line["at"] == at]
        return tuple(float(line[column]) for line in lines if line.get(column))

    def inverse_mse(self, row: str, scenario: str) -> float:
        """Mean of 1 / MSE over the cells of a row."""
        return statistics.fmean(1 / one for one in self.values(row, f"{scenario}_mse"))

    @functools.cached_property
    def titles(self) -> dict[str, str]:
        """Name of a row -> its title in the tables."""
        made = self.json("state.json").get("made_from") or {}
        if "rows" in made:
            return {name: title for name, (title, _) in made["rows"].items()}
        own, package = self.path.parent, Path(paper.__file__).parents[1]
        found = {}
        for folder in (*package.glob("**/rows"), own / "rows"):
            for path in sorted(folder.glob("*.txt")):
                first = path.read_text(encoding="utf-8").partition("\n")[0]
                found[path.stem] = first.removeprefix("# ").partition(":")[0]
        return found

    @functools.cached_property
    def _names(self) -> dict[str, str]:
        return {title: name for name, title in self.titles.items() if name in self.cells}

    def name(self, title: str) -> str:
        """Name of the row that has this title and has cells."""
        return self._names.get(title, title)

    def compared(self, table: Table) -> dict[tuple[str, str, str], Line]:
        """The .csv of a table: title of the row, scenario and metric -> line."""
        lines = self._csv(f"{slug(table.headings.get(2, ''))}.csv")
        part = table.headings.get(3, "")
        if len({line["windows"] for line in lines}) > 1:
            lines = [line for line in lines if part.startswith(f"{line['windows']}, ")]
        return {
            (
                self.titles.get(line["system"], line["system"]),
                line["scenario"],
                line["metric"],
            ): line
            for line in lines
        }

    def of_table(self, table: Table) -> Cells | None:
        """The cells of a table of the page; None where no record has any."""
        first = next(iter(self.cells.values()), [{}])[0]
        if not first:
            return _single(self, table)
        kinds = {"normal_mse": _share_rates, "auc": _clicks}
        return next((kind(self, table) for column, kind in kinds.items() if column in first), None)


# ------------------------------------------------------------------------------- single runs


def _single(directory: Directory, table: Table) -> Cells | None:
    """The cells of table.md that are in the files beside it."""
    if table.columns[0] == "system" and directory.json("systems.json"):
        return functools.partial(_metrics, directory.json("systems.json"))
    if table.columns[0] == "removed" and directory.json("outage.json"):
        return functools.partial(_metrics, directory.json("outage.json"))
    if table.columns[0] == "scenario" and directory.json("attention.json"):
        return functools.partial(_weight, directory.json("attention.json"))
    return None


def _metrics(systems: dict[str, Any], row: str, column: str) -> Expected | None:
    if row not in systems:
        return None
    if column == "n":
        return fixed(f"{systems[row]['normal']['n']:,}", systems[row]["normal"]["n"])
    if (key := key_of(column)) is None:
        return None
    found, metric = systems[row][key[0]], key[1]
    show = functools.partial(number_text, fixed=metric != "mse")
    texts, values = {show(found[metric])}, [found[metric]]
    ends = [found.get(f"{metric}_{end}") for end in ("low", "high")]
    if None not in ends:
        texts.add(f"[{show(ends[0])}, {show(ends[1])}]")
        values += ends
    return Expected(frozenset(texts), tuple(values))


def _weight(weights: dict[str, Any], row: str, column: str) -> Expected | None:
    found = weights.get(KEYS.get(row.lower(), ""), {}).get("fusion", {}).get(column)
    return None if found is None else fixed(number_text(found, fixed=True), found)


# ------------------------------------------------------------------------------- share rates


def _share_rates(directory: Directory, table: Table) -> Cells | None:
    if table.about.startswith("The paper's own cells"):
        return functools.partial(_published, directory)
    if table.columns[:3] == ["row", "seeds", "error to the true rate"]:
        return functools.partial(_recovered, directory)
    lines = directory.compared(table)
    if not lines:
        return None
    if table.about.startswith("Difference from "):
        return functools.partial(_difference, lines)
    if any(column.endswith(" noise") for column in table.columns):
        noise = noise_of(directory, table)
        return functools.partial(_truth, directory, noise)
    return functools.partial(_score, directory, lines)


def _score(directory: Directory, lines: dict, row: str, column: str) -> Expected | None:
    name = directory.name(row)
    if (row, "normal", "mse") not in lines or name not in directory.cells:
        return None
    if key := key_of(column):
        line = lines[(row, *key)]
        end = f" {line['letters']}" if len({title for title, *_ in lines}) > 1 else ""
        if key[1] != "mse":
            return expected([("{:.3f}".format, float(line["value"]))], end)
        return expected(_spread(number, " ± {:.2g}", line), end)
    if column == "seeds":
        seeds = lines[row, "normal", "mse"]["n_seeds"]
        return fixed(seeds, int(seeds))
    if column == "parameters":
        counts = directory.values(name, "parameters")
        return fixed(f"{counts[0]:,.0f}", counts[0]) if counts else fixed("–")
    if column == "seconds":
        return expected([("{:.0f}".format, statistics.median(directory.values(name, column)))])
    if column == "gib":
        most = max(directory.values(name, "peak_memory_bytes"), default=0)
        return expected([("{:.2f}".format, most / GIB)])
    return None


def _spread(show: Callable[[float], str], spread: str, line: Line) -> list:
    parts = [(show, float(line["value"]))]
    if line["sd_over_seeds"] and float(line["sd_over_seeds"]) > 0:
        parts.append((spread.format, float(line["sd_over_seeds"])))
    return parts


def _change(line: Line, show: str) -> Expected:
    """A difference with its interval and p-value."""
    names = ("difference", "difference_low", "difference_high")
    value, low, high = (float(line[name]) for name in names)
    parts = [(show.format, value), (f" [{show}".format, low), (f", {show}]".format, high)]
    p = float(line.get("p_adjusted") or line["p_holm"])
    return expected([*parts, (lambda one: f" {p_value(one)}", p)])


def _difference(lines: dict, row: str, column: str) -> Expected | None:
    key = key_of(column)
    if key is None or (row, *key) not in lines:
        return None
    return _change(lines[(row, *key)], "{:+.2f}" if key[1] == "mse" else "{:+.3f}")


def noise_of(directory: Directory, table: Table) -> tuple[float, float]:
    """Bounds of the sampling noise that all shares of a table agree with, percent².

    The noise is a property of the test rows, the same for every system and scenario. Records of
    before do not have it, but a share is noise over MSE, so that every share bounds it.

    Returns:
        The largest lower and the smallest upper bound; none agrees where they are out of order.
    """
    low, high = 0.0, math.inf
    for cells in table.rows:
        name = directory.name(cells[0])
        for column, text in zip(table.columns[1:], cells[1:], strict=True):
            scenario, _, kind = column.partition(" ")
            match = re.fullmatch(r"(\d+)%", text)
            if kind == "noise" and match and name in directory.cells:
                inverse = directory.inverse_mse(name, KEYS[scenario])
                low = max(low, (int(match[1]) - 0.5) / 100 / inverse)
                high = min(high, (int(match[1]) + 0.5) / 100 / inverse)
    return low, high


def _truth(
    directory: Directory, noise: tuple[float, float], row: str, column: str
) -> Expected | None:
    scenario, _, kind = column.partition(" ")
    name = directory.name(row)
    if name not in directory.cells or scenario not in KEYS:
        return None
    if kind == "to truth":
        found = directory.values(name, f"{KEYS[scenario]}_mse_to_true_rate")
        return expected([(number, statistics.fmean(found))])
    if kind != "noise":
        return None
    if known := directory.values(name, f"{KEYS[scenario]}_sampling_noise_mse"):
        mses = directory.values(name, f"{KEYS[scenario]}_mse")
        share = statistics.fmean(one / mse for one, mse in zip(known, mses, strict=True))
        return expected([("{:.0%}".format, share)])
    agree = noise[0] <= noise[1]
    return None if agree else fixed("a share of one sampling noise for all rows and scenarios")


def _recovered(directory: Directory, row: str, column: str) -> Expected | None:
    if row not in directory.cells:
        return None
    found = directory.values(row, "cold_start_mse_to_true_rate")
    if column == "seeds":
        return fixed(str(len(found)), len(found))
    return _mean(found, ".2f") if column == "error to the true rate" else None


def _published(directory: Directory, row: str, column: str) -> Expected | None:
    name, key = directory.name(row), key_of(column)
    if name not in paper.SCORES or key is None:
        return None
    scores = paper.SCORES[name][list(KEYS.values()).index(key[0])]
    value = scores[list(METRICS.values()).index(key[1])]
    return fixed(f"{value:.3f}", value)


# ------------------------------------------------------------------------------------ clicks


def _clicks(directory: Directory, table: Table) -> Cells | None:
    lines = directory.compared(table)
    if table.about.startswith("Difference from ") and lines:
        return functools.partial(_clicks_difference, lines)
    return functools.partial(_clicks_score, directory, lines)


def _clicks_difference(lines: dict, row: str, column: str) -> Expected | None:
    line = lines.get((row, "test", CLICKS.get(column)))
    return _change(line, "{:+.4f}") if line else None


def _mean(values: Sequence[float], show: str = ".4f") -> Expected:
    """Mean ± sd over seeds."""
    if not values:
        return fixed("")
    mean = statistics.fmean(values)
    parts = [(f"{{:{show}}}".format, mean)]
    if len(values) > 1:
        squares = math.fsum((one - mean) ** 2 for one in values)
        spread = math.sqrt(squares / (len(values) - 1))
        parts.append((f" ± {{:{show.removeprefix('+')}}}".format, spread))
    return expected(parts)


def _clicks_score(directory: Directory, lines: dict, row: str, column: str) -> Expected | None:
    name = directory.name(row)
    if name not in directory.cells:
        return None
    line = lines.get((row, "test", CLICKS.get(column)))
    if line:
        end = f" {line['letters']}" if len({title for title, *_ in lines}) > 1 else ""
        return expected(_spread("{:.4f}".format, " ± {:.4f}", line), end)
    if column == "auc, 95 % interval" and lines:
        low, high = (float(lines[row, "test", "auc"][end]) for end in ("low", "high"))
        return expected([("[{:.4f}".format, low), (", {:.4f}]".format, high)])
    if column in CLICKS:
        return _mean(directory.values(name, CLICKS[column], "chosen"))
    if match := re.fullmatch(r"auc, epoch (\d+)|(.+): auc", column):
        return _mean(directory.values(name, "auc", match[1] or match[2]))
    if column.startswith("auc less that of "):
        return _change_by_seed(directory, name, column.removeprefix("auc less that of "))
    chosen = next(one for one in directory.cells[name] if one["at"] == "chosen")
    if column == "columns":
        return fixed(chosen["in_features"], int(chosen["in_features"]))
    if column == "parameters":
        return fixed(f"{int(chosen[column]):,}", int(chosen[column]))
    if column == "seeds":
        seeds = len(directory.values(name, "seed", "chosen"))
        return fixed(str(seeds), seeds)
    if column in ("test rows", "positives"):
        of = "rows" if column == "test rows" else column
        counts = directory.values(name, of, "chosen")
        return expected([("{:,.0f}".format, statistics.fmean(counts))])
    return _published_auc(directory, row, name) if column == "published" else None


def _change_by_seed(directory: Directory, name: str, other: str) -> Expected | None:
    """Mean difference of AUC from another row, seed by seed."""
    (reference,) = (
        one for one in directory.cells if directory.titles.get(one, one).lower() == other
    )
    if reference == name:
        return fixed("")
    own, others = (
        {
            line["seed"]: float(line["auc"])
            for line in directory.cells[row]
            if line["at"] == "chosen"
        }
        for row in (name, reference)
    )
    return _mean([own[seed] - others[seed] for seed in own if seed in others], "+.4f")


def _published_auc(directory: Directory, row: str, name: str) -> Expected:
    """The cell of `--published=row: numbers` in the experiment's flags."""
    text = (directory.path.parent / "experiment.txt").read_text(encoding="utf-8")
    found = dict(re.findall(r"^--published=([^:\n]+): *(.+)$", text, re.MULTILINE))
    names = [row, name, *(one for one, title in directory.titles.items() if title == row)]
    shown = next((found[one] for one in names if one in found), "")
    return fixed(shown, *(float(one) for one in shown.split()))
