"""Tests of published tables, recomputed without training from what a results directory keeps.

tests.json has all numbers in full: the same code reproduces every interval, p-value, letter and
verdict to the bit, and a later code applies its own rules to the same numbers. Figures and
report.html are not drawn again.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mmnet.checks import InputError
from mmnet.config import ExperimentConfig
from mmnet.experiments import cells, claims, comparison, plan, results, running, tables
from mmnet.experiments.kept import FILE, Kept
from mmnet.experiments.plan import System, slug
from mmnet.experiments.share_rate_tables import COLUMNS, compared_with_reference, latex

FIXED = ["scenario", "metric", "system", "n_seeds", "value", "sd_over_seeds", "windows"]
"""Columns of a table's CSV that no test decides."""


def run(flags: ExperimentConfig, system: System) -> tuple[Path, list[str]]:
    """Recompute the tests of a results directory, and write what has changed.

    Args:
        flags: flags of the experiment; `reference` and `significance` may be others than before.
        system: the system whose rows are compared.

    Returns:
        The results directory, and the names of the files that were rewritten.

    Raises:
        InputError: a file is missing, damaged or of another table. Then nothing is written.
    """
    directory = running.directory_of(flags, system)
    folder = running.results_of(flags)
    planned = plan.plan(flags, system)
    with contextlib.ExitStack() as held:
        if directory.is_dir():
            held.enter_context(cells.only_one(directory))
        kept = Kept.read(folder / FILE)
        try:
            groups = kept.groups()
            ledger = claims.ledger(kept.evidence(), confidence=1 - flags.significance)
        except (LookupError, ValueError):
            raise InputError(
                f"{folder / FILE} lacks numbers of some systems or claims; run the experiment "
                "without --retest"
            ) from None
        page = _read(folder / "results.md").replace("\r\n", "\n")
        found = {"claims.json": json.dumps(claims.as_json(ledger), indent=1) + "\n"}
        with _same_table(folder / "results.md"):
            page = _with_claims(page, claims.markdown(ledger))
        for table in planned.tables:
            name = slug(table.title)
            parts = comparison.compare(table, groups, flags)
            with _same_table(folder / f"{name}.csv"):
                if not parts:
                    raise _OtherTable(f"{FILE} has none of the systems {', '.join(table.rows)}")
                found[f"{name}.csv"] = _table(_read(folder / f"{name}.csv"), tables.csv(parts))
            found[f"{name}.tex"] = latex(table, planned, parts)
            scores, differences = [], []
            for part in parts:
                rows = [row for row in table.rows if row in set(part.frame["system"])]
                scores.append(tables.scores(rows, planned, part, COLUMNS, {}))
                if len(rows) > 1:
                    text = compared_with_reference(rows, planned, part, flags.significance)
                    differences.append(text)
            with _same_table(folder / "results.md"):
                page = _with_tests(page, table.title, scores, differences)
        found["results.md"] = page
        return folder, results.rewrite(folder, found)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read ({error}); run the experiment without --retest"
        ) from None


class _OtherTable(Exception):
    pass


@contextlib.contextmanager
def _same_table(path: Path) -> Iterator[None]:
    try:
        yield
    except _OtherTable as error:
        raise InputError(
            f"{path} and {FILE} are of different tables ({error}); run the experiment without "
            "--retest"
        ) from None


def _table(before: str, frame: pd.DataFrame) -> str:
    """A table's CSV, whose systems, values and order must be those of before."""
    text = results.as_bytes(frame).decode()
    try:
        old, new = (
            pd.read_csv(io.StringIO(one), dtype=str, na_filter=False) for one in (before, text)
        )
    except ValueError as error:
        raise _OtherTable(str(error)) from None
    missing = [name for name in FIXED if name not in old]
    if missing:
        raise _OtherTable(f"column {missing[0]} is missing")
    if len(old) != len(new):
        raise _OtherTable(f"{len(old)} lines, {len(new)} expected")
    for column in FIXED:
        differ = np.flatnonzero(old[column] != new[column])
        if differ.size:
            was, is_now = old[column][differ[0]], new[column][differ[0]]
            raise _OtherTable(f"line {differ[0] + 2}: {column} is {was!r}, {is_now!r} expected")
    return text


CLAIMS = "Claims of the paper"


def _section(page: str, title: str) -> tuple[int, int]:
    """Start and end of a section of results.md, without its heading."""
    found = re.search(
        rf"^## {re.escape(title)}\n\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE
    )
    if found is None:
        raise _OtherTable(f"no section {title!r}")
    return found.span(1)


def _with_claims(page: str, text: str) -> str:
    start, end = _section(page, CLAIMS)
    return f"{page[:start]}{text}\n{page[end:]}"


def _with_tests(page: str, title: str, scores: Sequence[str], differences: Sequence[str]) -> str:
    """The page with new scores and differences of one table; all else stays."""
    start, end = _section(page, title)
    blocks = page[start:end].split("\n\n")
    of_scores = [n for n, block in enumerate(blocks) if block.startswith("| System | Seeds |")]
    notes = [n for n, block in enumerate(blocks) if block.startswith("Difference from ")]
    if (len(of_scores), len(notes)) != (len(scores), len(differences)):
        raise _OtherTable(f"section {title!r} has other parts")
    for place, text in zip(of_scores, scores, strict=True):
        blocks[place] = _beside(blocks[place], text)
    for place, text in zip(notes, differences, strict=True):
        after = "\n" * (len(blocks[place + 1]) - len(blocks[place + 1].rstrip("\n")))
        blocks[place : place + 2] = text.rstrip("\n").split("\n\n")
        blocks[place + 1] += after
    return page[:start] + "\n\n".join(blocks) + page[end:]


def _beside(before: str, text: str) -> str:
    r"""A Markdown table with the further columns that it had before, such as seconds.

    >>> _beside("| A | C |\n| --- | ---: |\n| 1 | 2 |", "| A |\n| --- |\n| 5 |\n")
    '| A | C |\n| --- | ---: |\n| 5 | 2 |'
    """
    old, new = before.rstrip("\n").split("\n"), text.rstrip("\n").split("\n")
    if len(old) != len(new):
        raise _OtherTable(f"a table of scores has {len(old) - 2} rows, {len(new) - 2} expected")
    more = old[0].count(" | ") - new[0].count(" | ")
    lines = [
        now if more < 1 else " | ".join([now.removesuffix(" |"), *_last(was, more)])
        for was, now in zip(old, new, strict=True)
    ]
    return "\n".join(lines) + before[len(before.rstrip("\n")) :]


def _last(line: str, cells: int) -> list[str]:
    return line.rsplit(" | ", cells)[1:]
