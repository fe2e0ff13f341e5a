"""The findings as Markdown, and the flagfile with the reason of every flag as a comment."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from mmnet.checks import in_markdown, printable
from mmnet.config import PrepareConfig
from mmnet.flags import to_flagfile
from mmnet.inspection.looking import Look
from mmnet.inspection.quality import Quality

WIDTH = 100
"""Maximum line length of a flagfile's comments."""

ORDER = (
    *("source", "source_dir", "source_set", "counts", "events", "items", "item_column"),
    *("period_column", "time_column", "time_format", "time_unit", "time_zone", "period"),
    *("first_period", "numerator", "denominator"),
    *("taxonomies", "categoricals", "numerics", "texts", "images", "list_separator", "release"),
)
"""First flags of the flagfile, in this order."""


def text(found: Look) -> str:
    """Returns the report as Markdown."""
    parts = [
        "# Tables",
        *_problems(found),
        *_leaks(found),
        *_quality(found),
        *_columns(found),
        *_splits(found),
    ]
    return "\n".join(parts) + "\n"


def flagfile(found: Look) -> str:
    """Returns the flagfile: given flags, proposed ones with their reasons, and unused columns."""
    choices = found.choices
    given = [name for name in choices.given.model_fields_set if name != "output"]
    if "source" in choices.proposed:  # it has its own tables
        given = [name for name in given if name not in ("counts", "items")]
    names = [*given, *(name for name in choices.proposed if name not in given)]
    lines = ["# Proposed by python -m mmnet.inspect; flags without a comment were given."]
    config = PrepareConfig(**dict(choices.tables) | dict(choices.task))
    for name in sorted(names, key=_place):
        if name in choices.proposed:
            lines += _comment(choices.proposed[name].reason)
        others = [other for other in PrepareConfig.model_fields if other != name]
        lines += to_flagfile(config, leave_out=others).splitlines()
    if choices.unused:
        lines.append("# Columns that no flag names:")
        for one in choices.unused:
            lines += _comment(f"  {one.table}, {one.column}: {one.reason}")
    return "\n".join(lines) + "\n"


def _place(name: str) -> tuple[int, str]:
    return (ORDER.index(name) if name in ORDER else len(ORDER)), name


def _comment(reason: str) -> list[str]:
    indent = "    " if reason.startswith("  ") else ""
    return textwrap.wrap(
        printable(reason),
        WIDTH,
        initial_indent="# " + indent[:2],
        subsequent_indent="# " + indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _listed(title: str, lines: Sequence[str]) -> list[str]:
    return ["", f"## {title}", "", *(f"- {printable(line)}" for line in lines)] if lines else []


def _problems(found: Look) -> list[str]:
    lines = []
    for one in found.problems:
        rows = (
            f" ({one.rows:,} rows)" if one.rows and f"{one.rows:,} rows" not in one.sentence else ""
        )
        given = one.fix and found.choices.is_given(one.fix[0])
        fix = f"; the flagfile has --{one.fix[0]}={one.fix[1]}" if one.fix and not given else ""
        lines.append(f"{one.sentence}{rows}{fix}")
    return _listed("Errors that training would report", lines) or [
        "",
        "Training would accept the tables without errors.",
    ]


def _leaks(found: Look) -> list[str]:
    if found.columns is None:
        return []
    lines = [f"{one.column} {one.reason}" for one in found.columns.leaks]
    return _listed("Columns that look like leaks", lines)


def _quality(found: Look) -> list[str]:
    one = found.quality
    notes = _listed("Notes", [*map(str, found.ledger), *found.notes])
    if one is None:
        return notes
    flags = found.choices.tables
    what = f"{flags.numerator} per 100 {flags.denominator}"
    low, median, high = one.quantiles
    lines = [
        f"items: {one.items:,}, of which {one.observed_items:,} have {flags.denominator}",
        f"periods: {one.periods:,}, of which {one.empty_periods:,} are empty",
        f"coverage: {one.coverage:.1%} of the periods from an item's first one on have "
        f"{flags.denominator} ({one.cells:,} cells)",
        f"rate: {one.rate:.4g} {what}; above 0 in {one.positive:.1%} of the cells",
        f"evidence: {median:,.0f} {flags.denominator} in the median cell (10 %: {low:,.0f}, "
        f"90 %: {high:,.0f})",
        f"sampling noise: {_percent(one.noise)} of the variance of the cells' rates",
    ]
    return [*notes, *_listed("Counts", lines), *_evidence(one, flags.denominator)]


def _evidence(one: Quality, denominator: str) -> list[str]:
    lines = ["", f"| {denominator} of a cell | cells | sampling noise |", "|---|---:|---:|"]
    borders = [*(part.least for part in one.evidence[1:]), None]
    for part, end in zip(one.evidence, borders, strict=True):
        span = f"{part.least:,} to {end - 1:,}" if end else f"{part.least:,} or more"
        lines.append(f"| {span} | {part.cells:,} | {_percent(part.noise)} |")
    return lines


def _percent(share: float) -> str:
    return "unknown" if share != share else f"{share:.0%}"


def _columns(found: Look) -> list[str]:
    if found.columns is None:
        return []
    lines = [
        "",
        "## Columns of the items table",
        "",
        "| column | filled | kind |",
        "|---|---:|---|",
    ]
    for one in found.profiles:
        verdict = found.columns.verdicts.get(one.name)
        about = f"{verdict.kind}: {verdict.reason}" if verdict else "ids"
        cells = (in_markdown(part) for part in (one.name, about))
        name, about = cells
        lines.append(f"| {name} | {one.filled:.1%} | {about} |")
    return lines


def _splits(found: Look) -> list[str]:
    if not found.splits:
        return []
    parts = _joined(f"{number:,} {name}" for name, number in found.splits.items())
    flags = found.choices.task
    horizon = _joined(map(str, flags.horizon))
    return [
        "",
        f"Examples: {parts} (window {flags.window}, horizon {horizon}; targets of validation "
        f"and test have {flags.min_target_clicks} {found.choices.tables.denominator} or more).",
    ]


def _joined(parts: Iterable[str]) -> str:
    return ", ".join(parts)
