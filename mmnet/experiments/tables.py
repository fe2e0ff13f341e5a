"""Tables of an experiment with any system: scores with letters, and differences with intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from mmnet.evaluation.comparisons import LETTERS
from mmnet.evaluation.report import markdown_table
from mmnet.experiments.comparison import Compared
from mmnet.experiments.plan import Plan
from mmnet.training.records import Record


@dataclass(frozen=True)
class Column:
    """One metric in one scenario, as the tables show it.

    Attributes:
        scenario, metric: which lines of `Compared.frame`.
        title: its heading.
        show: formats a value as text.
        change: format of a difference, with its sign.
        spread: format of the standard deviation over seeds; empty leaves it out.
        compared: whether the table of differences has it.
    """

    scenario: str
    metric: str
    title: str
    show: Callable[[float], str]
    change: str
    spread: str = ""
    compared: bool = True


def commits(records: Iterable[Record]) -> str:
    """The commits of the code that made cells, and how many were made with changes to it."""
    cells = list(records)
    known = sorted({record.git_commit[:10] for record in cells if record.git_commit})
    unclean = sum(record.git_clean is False for record in cells)
    changed = f" ({unclean} cells with uncommitted changes)" if unclean else ""
    return f"commit {', '.join(known) or 'unknown'}{changed}"


def how_compared(pairs: str, clusters: str) -> str:
    """Legend of letters, bold and †, for the heading of a page.

    Args:
        pairs: how two rows are paired.
        clusters: what the variance is clustered by.
    """
    return (
        "Rows of a column that share a letter cannot be told apart at the "
        f"{100 * LETTERS:g} % level (tests of all pairs of the column, {pairs}, adjusted by "
        f"step-down max-T; the variance is clustered by {clusters} and counts the seeds). Bold "
        "marks the best row and those that cannot be told apart from it. That does not prove that "
        "they are equal: see the differences and their intervals below each table. † was trained "
        "once, so that its variance over seeds is not counted. A column says nothing about rows of "
        "another table.\n"
    )


def scores(
    rows: Sequence[str],
    planned: Plan,
    part: Compared,
    columns: Sequence[Column],
    more: Mapping[str, Mapping[str, str]],
) -> str:
    """The values of a table's rows, with standard deviations and letters.

    Args:
        rows: names, in order.
        planned: has their titles.
        part: how they compare.
        columns: what is shown of it.
        more: heading -> row -> text, for further columns.
    """
    several = len(rows) > 1
    lines = []
    for row in rows:
        found = [part.cell(row, column.scenario, column.metric) for column in columns]
        seeds = found[0]["n_seeds"]
        once = "†" if seeds == 1 and planned.rows[row].kind.seeded else ""
        line = [planned.rows[row].title, str(seeds)]
        for column, one in zip(columns, found, strict=True):
            best = several and part.is_best(row, column.scenario, column.metric)
            line.append(_cell(one, column, best, several) + once)
        lines.append([*line, *(texts.get(row, "") for texts in more.values())])
    return markdown_table(["System", "Seeds", *(one.title for one in columns), *more], lines)


def _cell(found: pd.Series, column: Column, best: bool, with_letters: bool) -> str:
    text = column.show(found["value"])
    if best:
        text = f"**{text}**"
    if column.spread and found["sd_over_seeds"] > 0:
        text += f" ± {found['sd_over_seeds']:{column.spread}}"
    return f"{text} {found['letters']}" if with_letters else text


def differences(
    rows: Sequence[str],
    planned: Plan,
    part: Compared,
    columns: Sequence[Column],
    above: str,
    level: float,
) -> str:
    """Differences from the reference with intervals and p-values.

    Args:
        rows: names, in order.
        planned: has their titles.
        part: how they compare.
        columns: what is shown of it.
        above: what a value above 0 means.
        level: p-values up to it are marked.
    """
    shown = [column for column in columns if column.compared]
    lines = []
    for row in rows:
        if row == part.reference:
            continue
        line = [planned.rows[row].title]
        for column in shown:
            found = part.cell(row, column.scenario, column.metric)
            ends = ("difference", "difference_low", "difference_high")
            value, low, high = (f"{found[name]:+{column.change}}" for name in ends)
            mark = " *" if found["p_adjusted"] <= level else ""
            line.append(f"{value} [{low}, {high}] {p_value(found['p_adjusted'])}{mark}")
        lines.append(line)
    note = (
        f"Difference from {planned.rows[part.reference].title} with its 95 % interval and p-value. "
        "The interval is that of one comparison; p is adjusted over the column by step-down max-T, "
        f"and * marks p up to {level:g}. A value above 0 means {above} than the reference.\n"
    )
    return f"{note}\n{markdown_table(['System', *(one.title for one in shown)], lines)}"


def csv(parts: Sequence[Compared]) -> pd.DataFrame:
    """Every number of a table in long form, with the test windows it is about."""
    return pd.concat(
        [part.frame.assign(windows=part.group.about, reference=part.reference) for part in parts],
        ignore_index=True,
    )


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
