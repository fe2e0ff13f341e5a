"""Experiments: rows of flags times seeds, each a cell whose result is kept; tables and curves."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmnet.checks import InputError, did_you_mean
from mmnet.files import make_directory, write_atomic
from mmnet.flags import parse, to_flagfile
from mmnet.mma4ctr import config
from mmnet.mma4ctr.config import ExperimentConfig, TrainConfig

METRICS = ("auc", "user_auc", "pr_auc", "log_loss", "log_loss_calibrated")
HEADINGS = ("AUC", "user AUC", "PR-AUC", "LogLoss", "calibrated")
REFERENCES = ("planted probability", "user rate", "item rate", "both rates")
_DECIDES_NOTHING = (*config.PLACES, "seed")


@dataclass(frozen=True)
class Row:
    """One line of the table: a name, and all flags but the seed."""

    name: str
    flags: TrainConfig


@dataclass(frozen=True)
class Cell:
    """One training: its flags with the seed, its dataset, and the file of its result."""

    row: str
    seed: int
    flags: TrainConfig
    dataset_dir: Path
    path: Path

    @property
    def done(self) -> bool:
        """Whether it ran before."""
        return self.path.exists()

    def write(self, result: dict[str, Any]) -> None:
        """Keeps a result."""
        result = {"row": self.row, "seed": self.seed} | result
        write_atomic(self.path, json.dumps(result, indent=1) + "\n")

    def read(self) -> dict[str, Any]:
        """The result; the row is what asks for it now."""
        return json.loads(self.path.read_text(encoding="utf-8")) | {"row": self.row}


def rows(flags: ExperimentConfig) -> list[Row]:
    """Reads `--row=NAME: --flag=value ...` over the flags that all rows share.

    Raises:
        InputError: no row, two of one name, or flags that are none.
    """
    if not flags.row:
        raise InputError(
            "no --row; --experiment=FOLDER reads them from its experiment.txt, or give e.g. "
            "--row='P0: --protocol=p0'"
        )
    own = set(ExperimentConfig.model_fields) - set(TrainConfig.model_fields)
    unset = set(ExperimentConfig.model_fields) - flags.model_fields_set
    text = to_flagfile(flags, leave_out=sorted(own | unset))
    common = [line for line in text.splitlines() if line]
    found = []
    for one in flags.row:
        name, _, arguments = one.partition(":")
        resolved = parse(TrainConfig, [*common, *shlex.split(arguments)])
        if "seed" in resolved.model_fields_set:
            raise InputError(f"--row={one!r}: --seed is each cell's own; give --seeds")
        found.append(Row(name.strip(), resolved))
    names = [row.name for row in found]
    if len(set(names)) < len(names):
        raise InputError("--row: two rows have one name")
    for name in [_named(one)[0] for one in flags.published]:
        if name not in names:
            raise InputError(f"--published={name!r} is no row{did_you_mean(name, names)}")
    if flags.reference and flags.reference not in names:
        wrong = flags.reference
        raise InputError(f"--reference={wrong!r} is no row{did_you_mean(wrong, names)}")
    return found


def cell(row: Row, seed: int, directory: Path) -> Cell:
    """The cell of a row and a seed; a generated log is another one for each seed."""
    flags = row.flags.model_copy(update={"seed": seed})
    if flags.generate and not any(one.startswith("seed=") for one in flags.generate):
        flags = flags.model_copy(update={"generate": (*flags.generate, f"seed={seed}")})
    others = set(TrainConfig.model_fields) - set(config.INTERACTIONS)
    place = directory / "datasets" / _digest(_given(flags, others | set(config.PLACES)))
    if flags.dataset_dir:
        place = Path(flags.dataset_dir)
    decides = _given(flags, set(_DECIDES_NOTHING) - {"source_dir", "dataset_dir", "item_scores"})
    path = directory / f"{_digest(f'{decides} {seed}')}.json"
    return Cell(row.name, seed, flags, place, path)


def _given(flags: TrainConfig, leave_out: set[str]) -> str:
    """What differs from the defaults, so that a new flag makes no new cell."""
    same = {
        name
        for name, field in TrainConfig.model_fields.items()
        if getattr(flags, name) == field.default
    }
    return to_flagfile(flags, leave_out=sorted(leave_out | same))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# ------------------------------------------------------------------------------------ tables


def write(
    flags: ExperimentConfig, rows: Sequence[Row], cells: Sequence[dict[str, Any]], folder: Path
) -> None:
    """Writes results.md, results.csv and the curve."""
    make_directory(folder)
    write_atomic(folder / "results.md", _markdown(flags, rows, cells))
    write_atomic(folder / "results.csv", _csv(cells))
    if flags.figure != "none":
        from mmnet.evaluation.plots import write_figure  # matplotlib, once there is a curve to draw

        write_figure(folder / f"{flags.figure}.png", _curve(flags, rows, cells))


def _named(text: str) -> tuple[str, str]:
    name, _, value = text.partition(":")
    return name.strip(), value.strip()


def _of(cells: Sequence[dict[str, Any]], row: str) -> list[dict[str, Any]]:
    return [cell for cell in cells if cell["row"] == row]


def _shown(values: Sequence[float]) -> str:
    """Mean and sd over seeds.

    >>> _shown([0.5, 0.7]), _shown([0.5])
    ('0.6000 ± 0.1414', '0.5000')
    """
    mean = f"{np.mean(values):.4f}"
    return f"{mean} ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else mean


def _markdown(flags: ExperimentConfig, rows: Sequence[Row], cells: Sequence[dict[str, Any]]) -> str:
    epochs = sorted({int(epoch) for cell in cells for epoch in cell["at_epoch"]})
    references = [name for name in REFERENCES if any(name in c["references"] for c in cells)]
    published = dict(_named(one) for one in flags.published)
    titles = [
        "row",
        "columns",
        "parameters",
        *(["published"] if published else []),
        *(f"AUC, epoch {epoch}" for epoch in epochs),
        *([f"AUC less that of {flags.reference}"] if flags.reference else []),
        *HEADINGS,
        *(f"{name}: AUC" for name in references),
        "test rows",
        "positives",
    ]
    lines = [f"# {flags.title or Path(flags.experiment).name}", ""]
    lines += [
        f"Test rows; mean ± sd over {len(flags.seeds)} seeds, each with row order, weights and (if "
        "generated) a log of its own.",
        "",
        f"| {' | '.join(titles)} |",
        f"|---|{'---:|' * (len(titles) - 1)}",
    ]
    for row in rows:
        mine = _of(cells, row.name)
        shown = [row.name, str(mine[0]["in_features"]), f"{mine[0]['parameters']:,}"]
        shown += [published.get(row.name, "")] if published else []
        for epoch in epochs:
            at = [c["at_epoch"][str(epoch)]["auc"] for c in mine if str(epoch) in c["at_epoch"]]
            shown.append(_shown(at) if at else "")
        shown += [_difference(mine, _of(cells, flags.reference))] if flags.reference else []
        shown += [_shown([c["test"][name] for c in mine]) for name in METRICS]
        for name in references:
            known = [c["references"][name]["auc"] for c in mine if name in c["references"]]
            shown.append(_shown(known) if known else "")
        shown += [f"{np.mean([c['test'][name] for c in mine]):,.0f}" for name in _SIZES]
        lines.append(f"| {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def _difference(mine: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]]) -> str:
    """Of AUC, seed by seed: rows of one seed have the same log, where they generate it alike.

    >>> def cells(row, *areas):
    ...     return [{"row": row, "seed": n, "test": {"auc": a}} for n, a in enumerate(areas)]
    >>> _difference(cells("a", 0.7, 0.9), cells("b", 0.6, 0.7)), _difference([], [])
    ('+0.1500 ± 0.0707', '')
    """
    base = {one["seed"]: one["test"]["auc"] for one in others}
    if mine == others:
        return ""
    found = [one["test"]["auc"] - base[one["seed"]] for one in mine]
    mean = f"{np.mean(found):+.4f}"
    return f"{mean} ± {np.std(found, ddof=1):.4f}" if len(found) > 1 else mean


_SIZES = ("rows", "positives")


def _csv(cells: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    head = ("row", "seed", "protocol", "in_features", "parameters", "epoch")
    writer.writerow([*head, "at", *METRICS, *_SIZES, "training_seconds"])
    for one in cells:
        lines = {"chosen": one["test"], **one["at_epoch"]}
        lines |= one["references"]
        for at, found in lines.items():
            values = [f"{found[name]:.6f}" for name in METRICS]
            seconds = f"{one['training_seconds']:.1f}" if at == "chosen" else ""
            sizes = [found[name] for name in _SIZES]
            writer.writerow([*(one[name] for name in head), at, *values, *sizes, seconds])
    return text.getvalue()


def _curve(flags: ExperimentConfig, rows: Sequence[Row], cells: Sequence[dict[str, Any]]):
    points: dict[str, list[tuple[float, float, float]]] = {}
    for row in rows:
        mine = _of(cells, row.name)
        for epoch in sorted({int(e) for c in mine for e in c["at_epoch"]}):
            values = [c["at_epoch"][str(epoch)]["auc"] for c in mine]
            sd = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
            by_epoch = flags.figure == "epochs"
            setting = epoch if by_epoch else getattr(row.flags, flags.figure)
            series = row.name if by_epoch else f"epoch {epoch}"
            points.setdefault(series, []).append((setting, float(np.mean(values)), sd))
    if not points:
        raise InputError(f"--figure={flags.figure} needs --evaluate_at, the epochs to draw")
    from mmnet.mma4ctr import figures

    return figures.curve(points, flags.figure.replace("_", " "), flags.figure != "epochs")
