"""The files of a results directory, made from finished cells."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd
from matplotlib.figure import Figure

import mmnet
from mmnet.config import ExperimentConfig
from mmnet.experiments import claims, comparison, figures, tables
from mmnet.experiments.plan import Cell, Plan, slug
from mmnet.files import write_atomic
from mmnet.training.records import Record

Content: TypeAlias = str | Figure | pd.DataFrame
Records = Mapping[Cell, Record]


def write(planned: Plan, cells: Sequence[Cell], flags: ExperimentConfig, directory: Path) -> int:
    """Writes the tables, figures and claims of finished cells; a file is touched if it changes.

    results.md (claims, tables and figures on one page), cells.csv (a line per cell), claims.json,
    and for each table a .csv, a .tex and figures. state.json says what they were made from.

    Returns:
        How many files were written anew.
    """
    records = {cell: Record.read(cell.directory / "record.json") for cell in cells}
    state = _state(planned, records, flags)
    stored = directory / "state.json"
    before = _read_state(stored)
    if before.get("made_from") == state and all((directory / n).exists() for n in before["files"]):
        return 0
    found = {name: _bytes(content) for name, content in _files(planned, records, flags).items()}
    # Made from nothing until all files are the new ones; killed, the next run knows the old ones.
    _write_state(stored, None, {*before.get("files", ()), *found})
    changed = 0
    for name, content in found.items():
        path = directory / name
        if not path.exists() or path.read_bytes() != content:
            write_atomic(path, content)
            changed += 1
    for name in set(before.get("files", ())) - set(found):
        (directory / name).unlink(missing_ok=True)
    _write_state(stored, state, found)
    return changed


def _write_state(path: Path, made_from: dict[str, Any] | None, files: Iterable[str]) -> None:
    now = {"made_from": made_from, "files": sorted(files)}
    write_atomic(path, json.dumps(now, indent=1, sort_keys=True) + "\n")


def _read_state(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _files(planned: Plan, records: Records, flags: ExperimentConfig) -> dict[str, Content]:
    found: dict[str, Content] = {"cells.csv": tables.cells(records)}
    groups = comparison.groups(planned, list(records), flags)
    page = [tables.heading(records, flags)]
    # The paper has one split; its claims are checked where the first reference was tested.
    group = next(one for one in groups if flags.reference[0] in one.rows)
    ledger = claims.ledger(
        group.scenarios,
        confidence=1 - flags.significance,
        by_period=planned.origins_of(flags.reference[0]) > 1,
    )
    found["claims.json"] = json.dumps(claims.as_json(ledger), indent=1) + "\n"
    page.append(f"## What the paper claims\n\n{claims.markdown(ledger)}")
    for table in planned.tables:
        name = slug(table.title)
        parts = comparison.compare(table, groups, flags)
        found[f"{name}.csv"] = tables.csv(parts)
        found[f"{name}.tex"] = tables.latex(table, planned, parts)
        page.append(tables.markdown(table, planned, parts, records))
        for kind, figure in figures.of_table(table, planned, parts, list(records)).items():
            found[f"{name}_{kind}.png"] = figure
            page.append(f"![{table.title}, {kind}]({name}_{kind}.png)\n")
    found["results.md"] = "\n".join(page)
    return found


def _state(planned: Plan, records: Records, flags: ExperimentConfig) -> dict[str, Any]:
    """All that the files are made from: cells, settings, and the code that makes them."""
    package = Path(mmnet.__file__).parent
    sources = [*sorted((package / "experiments").glob("*.py"))]
    sources += sorted((package / "evaluation").glob("*.py"))
    code = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    return {
        "cells": {
            cell.directory.name: hashlib.sha256(record.model_dump_json().encode()).hexdigest()[:12]
            for cell, record in records.items()
        },
        "rows": {name: [row.title, row.note] for name, row in planned.rows.items()},
        "tables": [[table.title, *table.rows] for table in planned.tables],
        "title": flags.title,
        "reference": list(flags.reference),
        "significance": flags.significance,
        "replicates": flags.replicates,
        "code": code,
    }


def _bytes(content: Content) -> bytes:
    if isinstance(content, Figure):
        buffer = io.BytesIO()
        # The software's version would change the bytes, and says nothing about the plot.
        content.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
        return buffer.getvalue()
    if isinstance(content, pd.DataFrame):
        return content.to_csv(index=False, lineterminator="\n", float_format="%.6g").encode()
    return content.encode()
