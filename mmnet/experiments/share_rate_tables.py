"""The results page of experiments with share rates: claims, tables, figures; CSV and LaTeX."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mmnet.config import ExperimentConfig
from mmnet.evaluation import item_sums, plots
from mmnet.evaluation.report import markdown_table
from mmnet.experiments import claims, comparison, figures, paper, tables
from mmnet.experiments.comparison import Compared, Group
from mmnet.experiments.kept import FILE, Kept
from mmnet.experiments.plan import Cell, Plan, TablePlan, slug
from mmnet.experiments.tables import Column, number
from mmnet.schema import SCENARIOS
from mmnet.training.records import Record

METRICS = {"mse": "MSE", "precision_at_5": "P@5", "precision_at_10": "P@10"}
GIB = 2**30

COLUMNS = [
    Column(scenario, metric, f"{plots.TITLES[scenario]} {name}", number, ".2f", ".2g")
    if metric == "mse"
    else Column(
        *(scenario, metric, f"{plots.TITLES[scenario]} {name}", "{:.3f}".format, ".3f"),
        compared=metric == "precision_at_5",
    )
    for scenario in SCENARIOS
    for metric, name in METRICS.items()
]

Records = Mapping[Cell, Record]


def files(planned: Plan, records: Records, flags: ExperimentConfig) -> dict[str, Any]:
    """The files of the results directory.

    results.md (claims, tables and figures on one page), cells.csv (a line per cell), claims.json,
    for each table a .csv, a .tex and figures, and for tests by others tests.json, see `kept`, and
    item_sums.parquet, see `evaluation.item_sums`.

    Returns:
        Name -> text, table or figure.
    """
    found: dict[str, Any] = {"cells.csv": cells(records)}
    groups = comparison.groups(planned, list(records), flags)
    page = [heading(records, flags)]
    # The paper has one split; its claims are checked where the first reference was tested.
    group = next(one for one in groups if flags.reference[0] in one.rows)
    by_period = planned.origins_of(flags.reference[0]) > 1
    evidence = claims.Evidence.of(group.scenarios, by_period)
    ledger = claims.ledger(evidence, confidence=1 - flags.significance)
    found["claims.json"] = json.dumps(claims.as_json(ledger), indent=1) + "\n"
    page.append(f"## Claims of the paper\n\n{claims.markdown(ledger)}")
    for table in planned.tables:
        name = slug(table.title)
        parts = comparison.compare(table, groups, flags)
        found[f"{name}.csv"] = tables.csv(parts)
        found[f"{name}.tex"] = latex(table, planned, parts)
        page.append(markdown(table, planned, parts, records, flags.significance))
        for kind, figure in figures.of_table(table, planned, parts, list(records)).items():
            found[f"{name}_{kind}.png"] = figure
            page.append(f"![{table.title}, {kind}]({name}_{kind}.png)\n")
    found["results.md"] = "\n".join(page)
    found[FILE] = Kept.of(groups, evidence).text()
    found["item_sums.parquet"] = _item_sums(groups)
    return found


def _item_sums(groups: Sequence[Group]) -> bytes:
    """Sums by item of every group, as Parquet."""
    most = item_sums.MOST // len(groups)
    found = [
        item_sums.item_sums(group.scenarios, most=most).assign(windows=group.about)
        for group in groups
    ]
    filled = [one for one in found if len(one)] or found[:1]
    return item_sums.as_parquet(pd.concat(filled, ignore_index=True))


def heading(records: Records, flags: ExperimentConfig) -> str:
    """Introduction to all tables: data, protocol, code."""
    seconds = sum(sum(record.stage_seconds.values()) for record in records.values())
    lines = [
        f"# {flags.title or 'Results'}\n",
        f"{len(records)} cells, {seconds / 60:.0f} minutes of training and scoring, "
        f"{tables.commits(records.values())}; [every cell](cells.csv).\n",
        "MSE in percent², mean over seeds ± sd. P@N is the share of the true top N % in the "
        "predicted top N %. " + tables.how_compared("on the same test windows", "item"),
    ]
    return "\n".join(lines)


def markdown(
    table: TablePlan, planned: Plan, parts: Sequence[Compared], records: Records, level: float
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
        found.append(tables.scores(rows, planned, part, COLUMNS, cost))
        if len(rows) > 1:
            found.append(compared_with_reference(rows, planned, part, level))
        found += [_truth(rows, planned, part, records), _paper(rows, planned)]
    return "\n".join(text for text in found if text)


def compared_with_reference(
    rows: Sequence[str], planned: Plan, part: Compared, level: float
) -> str:
    """Differences from the reference, see `tables.differences`."""
    above = "a larger MSE, or a better P@5"
    return tables.differences(rows, planned, part, COLUMNS, above, level)


def _windows(part: Compared) -> str:
    windows = part.group.windows
    return (
        f"{len(windows):,} test windows of {windows['item_id'].nunique():,} items in "
        f"{windows['period'].nunique()} periods"
    )


def _truth(rows: Sequence[str], planned: Plan, part: Compared, records: Records) -> str:
    """Error against the true rate and the irreducible part of the MSE, where they are known."""
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
            for column in COLUMNS:
                text = column.show(part.cell(row, column.scenario, column.metric)["value"])
                best = len(rows) > 1 and part.is_best(row, column.scenario, column.metric)
                line.append(f"\\textbf{{{text}}}" if best else text)
            lines.append(" & ".join(line) + " \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", ""])


def _escaped(text: str) -> str:
    text = text.replace("τ", r"$\tau$")
    return "".join(f"\\{letter}" if letter in "%&_#" else letter for letter in text)


def cells(records: Records) -> pd.DataFrame:
    """A line per cell: its settings, its cost and its metrics."""
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
        for metric in (*METRICS, "mae", "spearman", "mse_to_true_rate", "sampling_noise_mse"):
            line[f"{scenario}_{metric}"] = record.metrics[scenario][metric]
        validation = record.fitted.get("validation", {})
        line[f"validation_{scenario}_mse"] = validation.get(f"{scenario}_mse")
    return line


def costs(records: Records) -> dict[str, dict[str, str]]:
    """Parameters, median seconds and largest peak memory in GiB of each row's cells, as text."""
    found: dict[str, dict[str, str]] = {"Parameters": {}, "Seconds": {}, "GiB": {}}
    for row in {cell.row: None for cell in records}:
        own = [record for cell, record in records.items() if cell.row == row]
        found["Parameters"][row] = f"{own[0].parameters:,}" if own[0].parameters else "–"
        seconds = np.median([sum(one.stage_seconds.values()) for one in own])
        found["Seconds"][row] = f"{seconds:.0f}"
        found["GiB"][row] = f"{max(one.peak_memory_bytes or 0 for one in own) / GIB:.2f}"
    return found
