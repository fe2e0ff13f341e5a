"""The results page of experiments with clicks, a line per cell, and the curve."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mmnet.checks import InputError
from mmnet.evaluation import classification
from mmnet.evaluation.classification import Scored, mean_influence
from mmnet.experiments import comparison, tables
from mmnet.experiments.comparison import Compared, Group
from mmnet.experiments.plan import Cell, Plan, TablePlan, slug
from mmnet.experiments.tables import Column
from mmnet.mma4ctr.config import ExperimentConfig, published
from mmnet.mma4ctr.evaluation import figures, metrics
from mmnet.mma4ctr.evaluation.report import Report
from mmnet.training.records import Record

METRICS = {
    "auc": "AUC",
    "user_auc": "user AUC",
    "pr_auc": "PR-AUC",
    "log_loss": "LogLoss",
    "log_loss_calibrated": "calibrated",
}
COLUMNS = [
    Column("test", metric, title, "{:.4f}".format, ".4f", ".4f")
    for metric, title in METRICS.items()
]
REFERENCES = ("planted probability", "user rate", "item rate", "both rates", "item popularity")
CHOSEN = "chosen"
"""Marks the line of the epoch that `--select` chose, among the lines of a cell."""
SIZES = {"rows": "test rows", "positives": "positives"}

Records = Mapping[Cell, Record]


def _user_auc_influence(rows: Scored) -> np.ndarray:
    """The whole influence of a user on the user's first row."""
    _, first = np.unique(rows.user, return_index=True)
    found = np.zeros(len(rows.user))
    aucs = metrics.aucs_by_user(rows.label, rows.probability, rows.user)
    found[first] = mean_influence(aucs)
    return found


INFLUENCES: dict[str, Callable[[Scored], np.ndarray]] = {
    "auc": classification.auc_influence,
    "user_auc": _user_auc_influence,
    "pr_auc": classification.average_precision_influence,
    "log_loss": lambda rows: mean_influence(metrics.log_losses(rows.label, rows.probability)),
    # The calibration, which validation rows decide, is taken as it is.
    "log_loss_calibrated": lambda rows: mean_influence(
        metrics.log_losses(rows.label, rows.calibrated)
    ),
}


def files(planned: Plan, records: Records, flags: ExperimentConfig) -> dict[str, Any]:
    """The files of the results directory: results.md, results.csv, a .csv per table, the curve.

    Returns:
        Name -> text, table or figure.
    """
    group = compared_rows(planned, records)
    columns = [column for column in COLUMNS if (column.scenario, column.metric) in group.measures]
    page = [_heading(planned, records, flags)]
    found: dict[str, Any] = {"results.csv": cells(records)}
    for table in planned.tables:
        (part,) = comparison.compare(table, [group], flags)
        found[f"{slug(table.title)}.csv"] = tables.csv([part])
        page.append(_markdown(table, planned, part, columns, records, flags))
    found["results.md"] = "\n".join(page)
    if flags.figure != "none":
        found[f"{flags.figure}.png"] = _curve(planned, records, flags)
    return found


def compared_rows(planned: Plan, records: Records) -> Group:
    """All rows with their sampling error; metrics that a row's test rows do not define left out."""
    runs = {row: [_scored(cell) for cell, _ in _of(records, row)] for row in planned.rows}
    values = {
        metric: {
            row: [_report(record).test[metric] for _, record in _of(records, row)]
            for row in planned.rows
        }
        for metric in INFLUENCES
    }
    defined = {
        metric: influence
        for metric, influence in INFLUENCES.items()
        if np.isfinite(np.concatenate(list(values[metric].values()))).all()
    }
    lower = frozenset({"log_loss", "log_loss_calibrated"})
    try:
        return Group("test", classification.measures(runs, values, defined, lower))
    except ValueError as error:
        raise InputError(f"the rows cannot be compared: {error}") from None


def _scored(cell: Cell) -> Scored:
    names = ["label", "probability", "calibrated_probability", "user_id"]
    frame = pd.read_parquet(cell.directory / "evaluation" / "predictions.parquet", columns=names)
    flags = cell.flags
    log = f"{flags.source} {flags.source_dir or flags.generate or flags.dataset_dir}"
    label, probability, calibrated, user = (frame[name].to_numpy() for name in names)
    return Scored(label, probability, calibrated, user, log)


def _of(records: Records, row: str) -> list[tuple[Cell, Record]]:
    return [(cell, record) for cell, record in records.items() if cell.row == row]


def _report(record: Record) -> Report:
    return Report.model_validate(record.metrics)


def _heading(planned: Plan, records: Records, flags: ExperimentConfig) -> str:
    how = tables.how_compared("by user and by seed", "user")
    return (
        f"# {flags.title or Path(flags.experiment).name or 'Results'}\n\n"
        f"Test rows, mean ± sd over up to {len(planned.seeds)} seeds, each with its own row order, "
        f"weights and (if generated) log; {tables.commits(records.values())}; "
        f"[every cell](results.csv). {how}"
    )


def _markdown(
    table: TablePlan,
    planned: Plan,
    part: Compared,
    columns: Sequence[Column],
    records: Records,
    flags: ExperimentConfig,
) -> str:
    more = _more(table.rows, part, records, flags)
    found = [f"## {table.title}\n", tables.scores(table.rows, planned, part, columns, more)]
    if len(table.rows) > 1:
        above = "a larger AUC, or a larger loss"
        level = flags.significance
        found.append(tables.differences(table.rows, planned, part, columns, above, level))
    return "\n".join(found)


def _more(
    rows: Sequence[str], part: Compared, records: Records, flags: ExperimentConfig
) -> dict[str, dict[str, str]]:
    """What the table has besides metrics: heading -> row -> text."""
    frame = cells(records)
    aucs = frame.groupby(["row", "at"])["auc"].agg(list)
    at = {str(at): f"AUC, epoch {at}" for at in sorted(map(int, _epochs(frame)["at"].unique()))}
    at |= {name: f"{name}: AUC" for name in REFERENCES if name in set(frame["at"])}
    found: dict[str, dict[str, str]] = {"AUC, 95 % interval": {}, "columns": {}, "parameters": {}}
    if flags.published:
        found["published"] = published(flags)
    for name, title in at.items():
        found[title] = {row: _mean(aucs.get((row, name), [])) for row in rows}
    if metrics.RAW in frame:
        raw = frame[frame["at"] == CHOSEN].groupby("row")[metrics.RAW].agg(list)
        found["raw LogLoss"] = {row: _mean(raw[row]) for row in rows if not np.isnan(raw[row][0])}
    for row in rows:
        auc, (first, *_) = part.cell(row, "test", "auc"), (_report(r) for _, r in _of(records, row))
        found["AUC, 95 % interval"][row] = f"[{auc['low']:.4f}, {auc['high']:.4f}]"
        found["columns"][row] = str(first.in_features)
        found["parameters"][row] = f"{first.parameters:,}"
    chosen = frame[frame["at"] == CHOSEN].groupby("row")
    for name, title in SIZES.items():
        found[title] = {row: f"{mean:,.0f}" for row, mean in chosen[name].mean().items()}
    return found


def _epochs(frame: pd.DataFrame) -> pd.DataFrame:
    """The lines of `cells` that are of an epoch of `--evaluate_at`."""
    return frame[frame["at"].str.isdecimal()]


def _mean(values: Sequence[float]) -> str:
    """Mean and sd over seeds.

    >>> _mean([0.5, 0.7]), _mean([0.5]), _mean([])
    ('0.6000 ± 0.1414', '0.5000', '')
    """
    if len(values) > 1:
        return f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}"
    return "".join(f"{value:.4f}" for value in values)


def cells(records: Records) -> pd.DataFrame:
    """A line per cell and epoch tested, and per reference."""
    return pd.DataFrame(line for cell, record in records.items() for line in _lines(cell, record))


def _lines(cell: Cell, record: Record) -> Iterable[dict[str, Any]]:
    report = _report(record)
    head = {"row": cell.row, "seed": cell.seed}
    head |= report.model_dump(include={"protocol", "in_features", "parameters", "epoch"})
    seconds = {CHOSEN: record.fitted["training_seconds"]}
    for at, found in {CHOSEN: report.test, **report.at_epoch, **report.references}.items():
        yield head | {
            "at": at,
            **{name: found[name] for name in (*METRICS, *SIZES)},
            # Only runs of the protocol recbole have it.
            **{name: found[name] for name in (metrics.RAW,) if name in found},
            "training_seconds": seconds.get(at),
        }


def _curve(planned: Plan, records: Records, flags: ExperimentConfig) -> Figure:
    """Test AUC over epochs or a setting of the rows, mean and sd over seeds.

    Raises:
        InputError: no epochs were tested.
    """
    frame = _epochs(cells(records))
    if frame.empty:
        raise InputError(f"--figure={flags.figure} needs --evaluate_at, the epochs to draw")
    points: dict[str, list[tuple[float, float, float]]] = {}
    by_epoch = flags.figure == "epochs"
    for (name, epoch), aucs in frame.groupby(["row", "at"], sort=False)["auc"]:
        row = planned.rows[name]
        setting = int(epoch) if by_epoch else getattr(row.flags, flags.figure)
        series = row.title if by_epoch else f"epoch {epoch}"
        points.setdefault(series, []).append((setting, aucs.mean(), np.nan_to_num(aucs.std())))
    return figures.curve(points, flags.figure.replace("_", " "), not by_epoch)
