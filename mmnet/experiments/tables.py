"""Tables of an experiment: Markdown for the page, CSV for further work, LaTeX for a paper."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mmnet.config import ExperimentConfig
from mmnet.evaluation import plots
from mmnet.evaluation.report import markdown_table
from mmnet.experiments import paper
from mmnet.experiments.comparison import Compared
from mmnet.experiments.plan import Cell, Plan, TablePlan
from mmnet.schema import SCENARIOS
from mmnet.training.records import Record

METRICS = {"mse": "MSE", "precision_at_5": "P@5", "precision_at_10": "P@10"}
GIB = 2**30


def heading(records: Mapping[Cell, Record], flags: ExperimentConfig) -> str:
    """What all tables share: data, protocol, code."""
    known = {record.git_commit for record in records.values()} - {None}
    commits = sorted(commit[:10] for commit in known if commit) or ["unknown"]
    unclean = sum(record.git_clean is False for record in records.values())
    seconds = sum(sum(record.stage_seconds.values()) for record in records.values())
    lines = [
        f"# {flags.title or 'Results'}\n",
        f"{len(records)} cells, {seconds / 60:.0f} minutes of training and scoring, commit "
        f"{', '.join(commits)}"
        + (f" ({unclean} cells with uncommitted changes)" if unclean else "")
        + "; [every cell](cells.csv).\n",
        "MSE in percent², mean over seeds ± sd. P@N is the share of the true top N % in the "
        "predicted top N %. Rows of a column that share a letter do not differ at "
        f"{flags.significance:g} (pairwise tests on the same test windows, Holm-corrected; the "
        "variance is clustered by item and counts the seeds); those that do not differ from the "
        "best are in bold. † was trained once, so that its luck is not counted. A column says "
        "nothing about rows of another table.\n",
    ]
    return "\n".join(lines)


def markdown(
    table: TablePlan, planned: Plan, parts: Sequence[Compared], records: Mapping[Cell, Record]
) -> str:
    """One table: the scores, the differences from the reference, the truth, the paper's cells."""
    found = [f"## {table.title}\n"]
    cost = costs(records)
    for part in parts:
        if len(parts) > 1:
            found.append(f"### {part.group.about}, {_windows(part)}\n")
        else:
            found.append(f"{part.group.about.capitalize()}, {_windows(part)}.\n")
        rows = [name for name in table.rows if name in set(part.frame["system"])]
        found.append(_scores(rows, planned, part, cost))
        if len(rows) > 1:
            found += [_differences(rows, planned, part)]
        found += [_truth(rows, planned, part, records), _paper(rows, planned)]
    return "\n".join(text for text in found if text)


def _windows(part: Compared) -> str:
    windows = part.group.windows
    return (
        f"{len(windows):,} test windows of {windows['item_id'].nunique():,} items in "
        f"{windows['period'].nunique()} periods"
    )


def _scores(
    rows: Sequence[str], planned: Plan, part: Compared, cost: Mapping[str, Mapping[str, float]]
) -> str:
    header = ["System", "Seeds"]
    header += [f"{plots.TITLES[s]} {name}" for s in SCENARIOS for name in METRICS.values()]
    header += ["Parameters", "Seconds", "GiB"]
    lines = []
    for row in rows:
        line = [planned.rows[row].title, ""]
        for scenario in SCENARIOS:
            for metric in METRICS:
                found = part.cell(row, scenario, metric)
                line[1] = str(found["n_seeds"])
                best = len(rows) > 1 and part.is_best(row, scenario, metric)
                once = found["n_seeds"] == 1 and planned.rows[row].seeded
                line.append(_cell(found, metric, best, len(rows) > 1) + ("†" if once else ""))
        own = cost[row]
        line.append(f"{own['parameters']:,.0f}" if own["parameters"] else "–")
        lines.append([*line, f"{own['seconds']:.0f}", f"{own['memory'] / GIB:.2f}"])
    return markdown_table(header, lines)


def _cell(found: pd.Series, metric: str, best: bool, with_letters: bool) -> str:
    text = number(found["value"]) if metric == "mse" else f"{found['value']:.3f}"
    if best:
        text = f"**{text}**"
    if metric == "mse" and found["sd_over_seeds"] > 0:
        text += f" ± {found['sd_over_seeds']:.2g}"
    return f"{text} {found['letters']}" if with_letters else text


def _differences(rows: Sequence[str], planned: Plan, part: Compared) -> str:
    title = planned.rows[part.reference].title
    lines = []
    for row in rows:
        if row == part.reference:
            continue
        line = [planned.rows[row].title]
        for scenario in SCENARIOS:
            for metric in ("mse", "precision_at_5"):
                found = part.cell(row, scenario, metric)
                digits = ".2f" if metric == "mse" else ".3f"
                low, high = found["difference_low"], found["difference_high"]
                line.append(
                    f"{found['difference']:+{digits}} [{low:+{digits}}, {high:+{digits}}] "
                    f"{p_value(found['p_holm'])}"
                )
        lines.append(line)
    header = ["System"]
    header += [f"{plots.TITLES[s]} {name}" for s in SCENARIOS for name in ("MSE", "P@5")]
    note = (
        f"Difference from {title} with its 95 % interval and p (Holm over the column): above 0 "
        "means a larger MSE, or a better P@5, than its.\n"
    )
    return f"{note}\n{markdown_table(header, lines)}"


def _truth(
    rows: Sequence[str], planned: Plan, part: Compared, records: Mapping[Cell, Record]
) -> str:
    """Error to the true rate and the part of the MSE that no model can remove, where known."""
    known = [record.metrics["normal"] for cell, record in records.items() if cell.row in rows]
    noise = [one["sampling_noise_mse"] for one in known]
    if any(value is None for value in noise):
        return ""
    planted = all(one["mse_to_true_rate"] is not None for one in known)
    lines = []
    for row in rows:
        line = [planned.rows[row].title]
        for scenario in SCENARIOS:
            found = [r.metrics[scenario] for cell, r in records.items() if cell.row == row]
            if planted:
                line.append(number(np.mean([one["mse_to_true_rate"] for one in found])))
            share = np.mean([one["sampling_noise_mse"] / one["mse"] for one in found])
            line.append(f"{share:.0%}")
        lines.append(line)
    kinds = ("to truth", "noise") if planted else ("noise",)
    header = ["System", *(f"{plots.TITLES[s]} {kind}" for s in SCENARIOS for kind in kinds)]
    note = (
        "MSE to the planted true rate, and the share" if planted else "The share"
    ) + " of the MSE that is the binomial noise of the targets, which no forecast can avoid.\n"
    return f"{note}\n{markdown_table(header, lines)}"


def _paper(rows: Sequence[str], planned: Plan) -> str:
    known = [row for row in rows if row in paper.SCORES]
    if len(known) < 2:
        return ""
    lines = [
        [planned.rows[row].title, *(f"{v:.3f}" for cells in paper.SCORES[row] for v in cells)]
        for row in known
    ]
    header = ["System", *(f"{plots.TITLES[s]} {m}" for s in SCENARIOS for m in METRICS.values())]
    return f"The paper's own cells, on its private log:\n\n{markdown_table(header, lines)}"


def latex(table: TablePlan, planned: Plan, parts: Sequence[Compared]) -> str:
    """The scores as a LaTeX tabular with booktabs rules; rows that tie with the best in bold."""
    columns = " ".join(f"& {name}" for _ in SCENARIOS for name in METRICS.values())
    groups = " ".join(f"& \\multicolumn{{3}}{{c}}{{{plots.TITLES[s]}}}" for s in SCENARIOS)
    lines = ["\\begin{tabular}{l" + "rrr" * len(SCENARIOS) + "}", "\\toprule"]
    lines += [f"{groups} \\\\", f"System {columns} \\\\"]
    for part in parts:
        lines.append("\\midrule")
        rows = [name for name in table.rows if name in set(part.frame["system"])]
        for row in rows:
            line = [_escaped(planned.rows[row].title)]
            for scenario in SCENARIOS:
                for metric in METRICS:
                    found = part.cell(row, scenario, metric)
                    value = found["value"]
                    text = number(value) if metric == "mse" else f"{value:.3f}"
                    best = len(rows) > 1 and part.is_best(row, scenario, metric)
                    line.append(f"\\textbf{{{text}}}" if best else text)
            lines.append(" & ".join(line) + " \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", ""])


def _escaped(text: str) -> str:
    text = text.replace("τ", r"$\tau$")
    return "".join(f"\\{letter}" if letter in "%&_#" else letter for letter in text)


def csv(parts: Sequence[Compared]) -> pd.DataFrame:
    """Every number of a table in long form, with the test windows it is about."""
    return pd.concat(
        [part.frame.assign(windows=part.group.about, reference=part.reference) for part in parts],
        ignore_index=True,
    )


def cells(records: Mapping[Cell, Record]) -> pd.DataFrame:
    """A line per cell: what it was, what it cost, what came of it."""
    return pd.DataFrame([_line(cell, record) for cell, record in records.items()])


def _line(cell: Cell, record: Record) -> dict[str, Any]:
    line: dict[str, Any] = {
        "row": cell.row,
        "seed": cell.seed,
        "origin": cell.origin,
        "cell": cell.directory.name.rpartition("-")[2],
        "commit": record.git_commit,
        "clean": record.git_clean,
        "parameters": record.parameters,
        "best_epoch": record.fitted.get("best_epoch"),
        "missing_share": record.missing_share,
        "seconds": sum(record.stage_seconds.values()),
        "peak_memory_bytes": record.peak_memory_bytes,
    }
    for scenario in SCENARIOS:
        for metric in (*METRICS, "mae", "spearman", "mse_to_true_rate"):
            line[f"{scenario}_{metric}"] = record.metrics[scenario][metric]
        validation = record.fitted.get("validation", {})
        line[f"validation_{scenario}_mse"] = validation.get(f"{scenario}_mse")
    return line


def costs(records: Mapping[Cell, Record]) -> dict[str, dict[str, float]]:
    """Row -> parameters, median seconds and largest peak memory of its cells."""
    found = {}
    for row in {cell.row: None for cell in records}:
        own = [record for cell, record in records.items() if cell.row == row]
        found[row] = {
            "parameters": float(own[0].parameters or 0),
            "seconds": float(np.median([sum(one.stage_seconds.values()) for one in own])),
            "memory": float(max(one.peak_memory_bytes or 0 for one in own)),
        }
    return found


def number(value: float) -> str:
    """Four significant digits, no exponent.

    >>> number(131.553), number(7.6612), number(0.14912)
    ('131.6', '7.661', '0.1491')
    """
    if not math.isfinite(value):
        return "–"
    digits = 3 - math.floor(math.log10(abs(value))) if value else 3
    return f"{value:.{max(0, digits)}f}"


def p_value(p: float) -> str:
    """`p = .012`, or `p < .001`.

    >>> p_value(0.0123), p_value(1e-9), p_value(1.0)
    ('p = .012', 'p < .001', 'p = 1')
    """
    if p >= 0.9995:
        return "p = 1"
    return "p < .001" if p < 0.001 else f"p = {p:.3f}".replace("0.", ".")
