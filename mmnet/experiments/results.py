"""The files of a results directory, made from finished cells."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd
from matplotlib.figure import Figure

import mmnet
from mmnet.checks import in_spreadsheet
from mmnet.evaluation import html_page, html_report
from mmnet.evaluation.html_page import Page, Section, Table
from mmnet.experiments.plan import Cell, ExperimentFlags, Plan
from mmnet.files import read_json, write_atomic
from mmnet.training.records import Record

Content: TypeAlias = str | bytes | Figure | pd.DataFrame
Records = Mapping[Cell, Record]


def write(
    planned: Plan,
    cells: Sequence[Cell],
    flags: ExperimentFlags,
    directory: Path,
    files: Callable[[Plan, Records, ExperimentFlags], Mapping[str, Content]],
) -> int:
    """Write the files made from finished cells; a file is written only if it changes.

    Args:
        planned: the experiment.
        cells: all of its cells.
        flags: its settings.
        directory: directory of the files; its state.json records their sources.
        files: makes them: name -> content, see `plan.System`.

    Returns:
        Number of files that were rewritten.
    """
    records = {cell: Record.read(cell.directory / "record.json") for cell in cells}
    state = _state(planned, records, flags)
    stored = directory / "state.json"
    before = _read_state(stored)
    if before.get("made_from") == state and all((directory / n).exists() for n in before["files"]):
        return 0
    made = dict(files(planned, records, flags))
    made[html_page.FILE] = html_page.render(_page(made, planned, records, flags))
    found = {name: as_bytes(content) for name, content in made.items()}
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


def rewrite(directory: Path, files: Mapping[str, Content]) -> list[str]:
    """Write files of a finished results directory that have changed, and no others.

    If there was a change, the next run of the experiment writes all files again from its cells.

    Returns:
        Names of the files that were rewritten.
    """
    new = {name: as_bytes(content) for name, content in files.items()}
    changed = [
        name
        for name, content in new.items()
        if not (directory / name).exists() or (directory / name).read_bytes() != content
    ]
    stored = directory / "state.json"
    if changed and stored.exists():
        _write_state(stored, None, _read_state(stored).get("files", ()))
    for name in changed:
        write_atomic(directory / name, new[name])
    return changed


def _page(
    made: Mapping[str, Content], planned: Plan, records: Records, flags: ExperimentFlags
) -> Page:
    """Make the page of results.md and its figures for readers of `report.html`."""
    figures = {name: one for name, one in made.items() if isinstance(one, Figure)}
    sections = html_page.of_markdown(str(made["results.md"]), figures)
    rows = Table(
        "Systems of the experiment, and their differences",
        ["Row", "System", "Note", "Runs"],
        [
            [name, row.title, row.note, html_page.count(sum(c.row == name for c in records))]
            for name, row in planned.rows.items()
        ],
    )
    origin = {"versions", "machine", "git_commit", "git_clean", "inputs"}
    provenance = [
        Section("Provenance", html_report.provenance(one.model_dump(mode="json", include=origin)))
        for one in list(records.values())[:1]
    ]
    title = flags.title or Path(flags.experiment).name or "Results"
    subtitle = (
        f"{len(planned.rows):,} systems, {len(records):,} runs, compared on the same test rows"
    )
    sections += [Section("Systems", [rows]), *provenance]
    return Page(f"Experiment: {title}", subtitle, sections=sections)


def _write_state(path: Path, made_from: dict[str, Any] | None, files: Iterable[str]) -> None:
    now = {"made_from": made_from, "files": sorted(files)}
    write_atomic(path, json.dumps(now, indent=1, sort_keys=True) + "\n")


def _read_state(path: Path) -> dict[str, Any]:
    try:
        found = read_json(path)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


PAGE_FLAGS = {"title", "reference", "significance", "replicates", "published", "figure"}
"""Flags that change the files, but no cell."""


def _state(planned: Plan, records: Records, flags: ExperimentFlags) -> dict[str, Any]:
    """All that the files are made from: cells, settings, and the code that makes them."""
    package = Path(mmnet.__file__).parent
    rooms = ("experiments", "evaluation", "mma4ctr/experiments")
    sources = [path for room in rooms for path in sorted((package / room).glob("*.py"))]
    code = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    return {
        "cells": {
            cell.directory.name: hashlib.sha256(record.model_dump_json().encode()).hexdigest()[:12]
            for cell, record in records.items()
        },
        "rows": {name: [row.title, row.note] for name, row in planned.rows.items()},
        "tables": [[table.title, *table.rows] for table in planned.tables],
        "settings": flags.model_dump(mode="json", include=PAGE_FLAGS),
        "code": code,
    }


def as_bytes(content: Content) -> bytes:
    """A file of the results directory, as it is written."""
    if isinstance(content, Figure):
        buffer = io.BytesIO()
        # The software's version would change the bytes, and says nothing about the plot.
        content.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
        return buffer.getvalue()
    if isinstance(content, pd.DataFrame):
        content = content.map(lambda cell: in_spreadsheet(cell) if isinstance(cell, str) else cell)
        return content.to_csv(index=False, lineterminator="\n", float_format="%.6g").encode()
    return content if isinstance(content, bytes) else content.encode()
