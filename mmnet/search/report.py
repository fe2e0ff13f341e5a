"""Files of a search: a page, its numbers, and a flagfile that repeats the result directly."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from mmnet import config
from mmnet.config import TrainConfig
from mmnet.flags import to_flagfile
from mmnet.recipes.durations import shown
from mmnet.schema import SCENARIOS
from mmnet.search.candidates import Entry
from mmnet.search.choosing import Compared
from mmnet.search.halving import Search

PAGE, NUMBERS, FLAGFILE = "recipe.md", "recipe.json", "recipe.txt"


def numbers(
    entries: Sequence[Entry],
    found: Search,
    compared: Mapping[str, Compared],
    *,
    best: str,
    chosen: str,
    left_out: Mapping[str, str],
    remarks: Sequence[str],
) -> dict[str, Any]:
    """The content of recipe.json.

    Args:
        entries: the candidates.
        found: the search.
        compared: candidates that were trained, next to the best one.
        best: the candidate of the lowest mean log MSE.
        chosen: the one that was taken.
        left_out: why other candidates were not tried.
        remarks: further lines for the report.
    """
    rows = []
    for entry in entries:
        row: dict[str, Any] = {
            "candidate": entry.name,
            "title": entry.candidate.title,
            "simplicity": entry.candidate.simplicity,
            "stopped": found.stopped.get(entry.name, ""),
            "flags": lines_of(entry.flags, entry.flags.model_fields_set),
        }
        if outcome := found.outcomes.get(entry.name):
            known = asdict(outcome)
            del known["epoch_seconds"], known["value"]
            row |= known
        if entry.name in compared:
            row |= asdict(compared[entry.name])
        rows.append(row)
    return {
        "chosen": chosen,
        "best": best,
        "budget_seconds": found.budget,
        "spent_seconds": found.spent,
        "rungs": list(found.rungs),
        "candidates": rows,
        "left_out": dict(left_out),
        "remarks": [*remarks, *found.remarks],
    }


def page(told: Mapping[str, Any]) -> str:
    """Format the content of recipe.json as recipe.md."""
    ranked = sorted(told["candidates"], key=lambda row: row.get("value", math.inf))
    lines = [f"# Recipe: {told['chosen']}", "", _sentence(told, ranked), ""]
    lines += [
        "| candidate | " + " | ".join(f"MSE {name}" for name in SCENARIOS) + " | mean log MSE | "
        "difference to the best | epochs (best) | seconds | why it ended |",
        "|---" * (len(SCENARIOS) + 6) + "|",
    ]
    lines += [_row(row) for row in ranked]
    lines += [
        "",
        "MSE is that of the validation rows that choose; ± is one standard error, clustered by "
        "item, and of a difference it is paired by row. Where validation is cut in two, the other "
        "half of the items fits thresholds and intervals. The test split was closed until the "
        "recipe was chosen.",
        "",
        f"Budget {shown(told['budget_seconds'])}, spent {shown(told['spent_seconds'])}; rungs of "
        f"{', '.join(map(str, told['rungs']))} epochs.",
    ]
    if told["remarks"]:
        lines += ["", *(f"- {remark}" for remark in told["remarks"])]
    if told["left_out"]:
        lines += ["", "Not tried:", ""]
        lines += [f"- {name}: {why}" for name, why in told["left_out"].items()]
    return "\n".join(lines) + "\n"


def _sentence(told: Mapping[str, Any], ranked: Sequence[Mapping[str, Any]]) -> str:
    named = {row["candidate"]: row for row in ranked}
    chosen = named[told["chosen"]]
    if told["chosen"] == told["best"]:
        return f"**{chosen['candidate']}** ({chosen['title']}) has the lowest mean log MSE."
    best = f"{told['best']} ({named[told['best']]['title']})"
    return (
        f"**{chosen['candidate']}** ({chosen['title']}) is the simplest candidate within one "
        f"standard error, and 2 %, of the best one, {best}."
    )


def _row(row: Mapping[str, Any]) -> str:
    if "value" not in row:
        return f"| {row['candidate']} |" + " |" * (len(SCENARIOS) + 4) + f" {row['stopped']} |"
    mse = " | ".join(f"{row['scores'][f'{name}_mse']:.4g}" for name in SCENARIOS)
    epochs = f"{row['epochs']} ({row['best_epoch']})" if row["epochs"] else ""
    return (
        f"| {row['candidate']} | {mse} | {row['value']:.4f} ± {row['error']:.4f} | "
        f"{row['difference']:+.4f} ± {row['difference_error']:.4f} | {epochs} | "
        f"{row['seconds']:.0f} | {row['stopped']} |"
    )


def lines(told: Mapping[str, Any]) -> list[str]:
    """Lines printed at the end of a search, the best candidates first."""
    ranked = sorted(told["candidates"], key=lambda row: row.get("value", math.inf))
    found = [
        f"  {row['candidate']:<24} {math.exp(row['value']):10.4g}  "
        f"{100 * np.expm1(row['difference']):+6.1f} %  {row['seconds']:6.0f} s  {row['stopped']}"
        for row in ranked
        if "value" in row
    ]
    return ["  candidate                MSE (geometric mean over scenarios, validation)", *found]


def flagfile(flags: TrainConfig, given: set[str], told: Mapping[str, Any]) -> str:
    """The content of recipe.txt, which repeats the result without a search.

    Args:
        flags: flags of the run.
        given: names of the flags that were given, and of those that were chosen.
        told: the content of recipe.json.
    """
    first = f"# {told['chosen']}, found by --recipe=auto; add --run_dir and where the data are"
    return "\n".join([first, *lines_of(flags, given)]) + "\n"


def lines_of(flags: TrainConfig, names: Collection[str]) -> list[str]:
    """Format the named flags as lines of a flagfile, without paths."""
    unset = set(type(flags).model_fields) - set(names)
    return to_flagfile(flags, leave_out=[*unset, *config.PLACES]).splitlines()
