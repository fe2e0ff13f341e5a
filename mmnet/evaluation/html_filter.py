"""The section of `report.html` on what the filter keeps and loses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmnet.evaluation import plots
from mmnet.evaluation.html_page import (
    Block,
    Cell,
    Row,
    Table,
    Text,
    count,
    number,
    number_text,
    percent,
    percent_text,
)
from mmnet.evaluation.html_sections import Evaluated, ends_of, signed


def filtered(found: Evaluated) -> list[Block]:
    """Show the rules, every threshold, and pools of equal size; nothing without a filter."""
    if not found.decision:
        return []
    top = found.decision["top_percent"]
    blocks: list[Block] = [
        Text(
            "A filter keeps the rows whose predicted rate reaches a threshold, which was chosen on "
            f"validation rows. The top {top:g} % are the test rows with the highest true rates; "
            "the oracle is the best filter there could be, which knows those rates and keeps as "
            "many rows. In brackets: 95 % intervals, items resampled."
        )
    ]
    rules = found.decision["rules"]
    if any(rules.values()):
        blocks += [
            _kept_table(rules),
            _rates_table("The filter rules in rates", rules, "rule", top),
        ]
    sweep = {scenario: rows for scenario, rows in found.decision["sweep"].items() if rows}
    caption = "Every threshold: how much is kept, and what that holds"
    blocks += [
        *found.plots(
            {
                "decision.png": "Left: part of the true top that is kept. Middle: mean true rate "
                "of what is kept. Right: pools of equal size, chosen by the model and by simple "
                "rules."
            }
        ),
        _rates_table(caption, sweep, "kept_share", top, folded=True),
        _pools_table(found),
    ]
    return blocks


def _kept_table(rules: Mapping[str, Sequence[Mapping[str, Any]]]) -> Table:
    rows: list[Row] = [
        [
            f"{plots.TITLES[scenario]}, {rule['rule']}",
            number(rule["threshold"]),
            count(rule["kept_rows"]),
            count(rule["lost_rows"]),
            count(rule["kept_items"]),
            count(rule["lost_items"]),
            number(rule["pool_rate"]),
            number(rule["lost_rate"]),
        ]
        for scenario, found in rules.items()
        for rule in found
    ]
    header = ["Rule", "Threshold", "Kept", "Lost", "Kept", "Lost", "Kept", "Lost"]
    groups = [("", 2), ("Test rows", 2), ("Items", 2), ("Mean true rate, %", 2)]
    return Table(
        "The filter rules in items; an item is lost if none of its rows is kept",
        header,
        rows,
        groups,
    )


def _rates_table(
    caption: str,
    tables: Mapping[str, Sequence[Mapping[str, Any]]],
    label: str,
    top: float,
    folded: bool = False,
) -> Table:
    def shown(row: Mapping[str, Any], name: str, fixed: bool = False) -> Cell:
        value = row[name]
        ends = ends_of(row[f"{name}_low"], row[f"{name}_high"], fixed)
        return number(value, text=f"{number_text(value, fixed)} {ends}".rstrip())

    rows: list[Row] = [
        [
            f"{plots.TITLES[scenario]}, {row[label]}"
            if label == "rule"
            else plots.TITLES[scenario],
            number(row["threshold"]),
            percent(row["kept_share"]),
            shown(row, "recall", fixed=True),
            shown(row, "pool_rate"),
            number(row["oracle_rate"]),
            shown(row, "regret"),
        ]
        for scenario, found in tables.items()
        for row in found
    ]
    header = [
        "Rule" if label == "rule" else "Scenario",
        "Threshold",
        "Rows kept",
        f"Part of the top {top:g} % kept",
        "Mean rate of the kept, %",
        "Oracle, %",
        "Regret, %",
    ]
    return Table(caption, header, rows, folded=folded)


def _pools_table(found: Evaluated) -> Table:
    replay = found.decision["replay"]
    rows: list[Row] = []
    for place, first in enumerate(replay["normal"]):
        row: Row = [
            f"{percent_text(first['pool_share'], 0)} by {first['rule']}",
        ]
        for pools in replay.values():
            pool = pools[place]
            row.append(number(pool["pool_rate"]))
            gain = ends_of(pool["gain_low"], pool["gain_high"]) if pool["gain_low"] else ""
            text = f"{signed(pool['gain'], False)} {gain}" if gain else "–"
            row.append(number(pool["gain"], text=text))
        rows.append(row)
    groups = [("", 1), *((plots.TITLES[scenario], 2) for scenario in replay)]
    header = ["Pool", *(title for _ in replay for title in ("Mean rate, %", "Gain of the model"))]
    caption = "Pools of equal size, chosen in every period by the model and by simple baselines"
    return Table(caption, header, rows, groups, folded=True)
