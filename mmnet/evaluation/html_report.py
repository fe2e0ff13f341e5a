"""The page `report.html` of one evaluation of share rates, for readers who do not read code.

It computes next to nothing: the evaluation hands over the metrics, tables and figures that it has
written to its other files, so that every number in the page is a number of those.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from mmnet.evaluation import plots
from mmnet.evaluation.html_filter import filtered
from mmnet.evaluation.html_page import (
    Block,
    Page,
    Section,
    Text,
    Tile,
    facts,
    number_text,
    percent_text,
)
from mmnet.evaluation.html_sections import (
    RULES,
    SCENARIO_TEXTS,
    Evaluated,
    calibration,
    comparison,
    errors,
    other_outputs,
    outage,
    signed,
)
from mmnet.evaluation.other_outputs import TITLE

__all__ = ["Evaluated", "page", "provenance"]

SPLITS = {"train": "Training", "validation": "Validation", "test": "Test"}
FEWEST = 30
"""Rows of a group whose error the model card may name."""


def page(found: Evaluated) -> Page:
    """The page of one evaluation."""
    normal = found.rows[found.rows["scenario"] == "normal"]
    periods = normal["period"]
    subtitle = (
        f"Predicts {found.rate}; tested on {len(normal):,} predictions for "
        f"{normal['item_id'].nunique():,} items in {_span(periods)}"
    )
    sections = [
        Section("What was predicted", _task(found, normal)),
        Section("Compared with simple baselines", comparison(found)),
        *([Section(TITLE, other_outputs(found))] if found.further[1] else []),
        Section("What the filter keeps and loses", filtered(found)),
        Section("Calibration", calibration(found)),
        Section("Errors by kind of item", errors(found)),
        Section("When an input is missing", outage(found)),
        Section("Model card", _card(found, normal)),
        Section("Provenance", provenance(found.record)),
        Section("Terms", _terms()),
    ]
    summary = [*_summary(found), *(f"{one[0].upper()}{one[1:]}." for one in found.remarks)]
    return Page(f"Report: {found.system}", subtitle, summary, _tiles(found), sections)


def _span(periods: pd.Series) -> str:
    first, last = periods.min(), periods.max()
    if isinstance(first, pd.Timestamp):
        # Whole days are shown as days.
        cut = slice(10) if (periods == periods.dt.normalize()).all() else slice(None)
        first, last = str(first)[cut], str(last)[cut]
    return f"period {first}" if first == last else f"periods {first} to {last}"


def _in_words(name: str) -> str:
    return f"“{RULES[name]}”" if name in RULES else name


# ------------------------------------------------------------------------------- the summary


def _summary(found: Evaluated) -> Iterator[str]:
    for scenario, words in {
        "normal": "With the history that each item has",
        "cold_start": "For items without any history",
    }.items():
        value, best = found.own[scenario]["mse"], found.best_rule(scenario, "mse")
        if best is None:
            continue
        change = _change(value, best[1])
        proof = _proof(found, scenario, best[0])
        yield (
            f"{words}, the mean squared error is {number_text(value)} percent²: {change} the best "
            f"simple baseline, {_in_words(best[0])} ({number_text(best[1])}){proof}."
        )
    for rule in found.decision.get("rules", {}).get("normal", ())[:1]:
        rates = found.rows.loc[found.rows["scenario"] == "normal", "share_rate"]
        yield (
            f"The filter “{rule['rule']}” keeps {percent_text(rule['kept_share'])} of the test "
            f"rows, {_held(found, rule)}. Their mean rate is {_rate(rule['pool_rate'])}, compared "
            f"with {_rate(rates.mean())} of all rows."
        )
    if (noise := found.own["normal"]["sampling_noise_mse"]) is not None:
        yield (
            f"Chance in the test rates alone causes a mean squared error of about "
            f"{number_text(noise)}; no forecast can be expected to be better than that."
        )


def _change(value: float, other: float) -> str:
    if not other or number_text(value) == number_text(other):
        return "the same as"
    share = value / other - 1
    return f"{percent_text(abs(share), 0)} {'below' if share < 0 else 'above'}"


def _proof(found: Evaluated, scenario: str, rule: str) -> str:
    difference = found.intervals.get(scenario, {}).get("mse", {}).get("difference", {}).get(rule)
    if difference is None:
        return ""
    if difference["low"] <= 0 <= difference["high"]:
        return ", a difference that may be chance"
    return ", a difference that chance in the test items does not explain"


def _rate(value: float | None) -> str:
    return "–" if value is None else f"{number_text(value)} %"


def _tiles(found: Evaluated) -> list[Tile]:
    tiles = []
    for scenario, metric, label in (
        ("normal", "mse", "MSE with history"),
        ("cold_start", "mse", "MSE without history"),
        ("normal", "precision_at_5", "True top 5 % found (P@5)"),
    ):
        value, best = found.own[scenario][metric], found.best_rule(scenario, metric)
        note = ""
        if best is not None:
            shown = percent_text(best[1]) if metric != "mse" else number_text(best[1])
            note = f"best simple baseline: {shown}"
        text = percent_text(value) if metric != "mse" else number_text(value)
        tiles.append(Tile(label, text, note))
    for rule in found.decision.get("rules", {}).get("normal", ())[:1]:
        share = percent_text(rule["kept_share"])
        tiles.append(Tile(f"Kept by {rule['rule']}", share, _held(found, rule)))
    return tiles


def _held(found: Evaluated, rule: Mapping[str, Any]) -> str:
    recall = percent_text(rule["recall"])
    return f"with {recall} of the true top {found.decision['top_percent']:g} %"


# ------------------------------------------------------------------------------ the sections


def _task(found: Evaluated, normal: pd.DataFrame) -> list[Block]:
    flags = found.flags
    inputs = {
        "Taxonomies": flags.get("taxonomies"),
        "Categories": flags.get("categoricals"),
        "Numbers": flags.get("numerics"),
        "Texts": flags.get("texts"),
        "Images": flags.get("images"),
        "Vectors": flags.get("vectors"),
    }
    dates = found.record.get("split_dates", {})
    dated = not pd.api.types.is_numeric_dtype(normal["period"])
    clicks, truth = normal["clicks"], normal["share_rate"]
    pairs = [
        ("Predicted", f"{found.rate}, in percent"),
        ("Length of a period", flags.get("period") if dated else None),
        ("Periods ahead", _horizons(flags.get("horizon"))),
        ("Periods of history read", flags.get("window")),
        *((name, ", ".join(map(str, values))) for name, values in inputs.items() if values),
        ("Test rows", f"{len(normal):,}, of {normal['item_id'].nunique():,} items"),
        ("Test periods", _span(normal["period"])),
        ("Split", f"{found.own['split']}, taxonomy means {found.own['taxonomy_mean']}"),
        *((f"{SPLITS[name]} targets from", date) for name, date in dates.items()),
        (f"{found.denominator} per test row".capitalize(), f"median {clicks.median():,.0f}"),
        ("True rate", f"mean {_rate(truth.mean())}, highest {_rate(truth.max())}"),
    ]
    texts = dict(SCENARIO_TEXTS)
    if "test_missing_rate" in flags:
        texts["noisy"] += f" ({percent_text(flags['test_missing_rate'], 0)} of its steps)"
    scenarios = [[plots.TITLES[name], text] for name, text in texts.items()]
    return [
        facts("Task", pairs),
        Text(
            "Every system is tested in three scenarios, on the same rows: "
            + "; ".join(f"{title}, {text}" for title, text in scenarios)
            + "."
        ),
    ]


def _horizons(given: int | list[int] | None) -> int | str | None:
    """The horizon, or all of them, the main one first."""
    return ", ".join(map(str, given)) if isinstance(given, list) else given


def _card(found: Evaluated, normal: pd.DataFrame) -> list[Block]:
    """What the model is for, what it was made from, and where it should not be trusted."""
    record = found.record
    fitted = record.get("fitted", {})
    worst = max(
        (
            (row["normal"], f"{title} {row['group']}", row["n"])
            for title, table in found.errors.items()
            for row in table.to_dict("records")
            if row["n"] >= FEWEST
        ),
        default=None,
    )
    bias = {
        plots.TITLES[scenario]: (part["predicted_share_rate"] - part["share_rate"]).mean()
        for scenario, part in plots.by_scenario(found.rows).items()
    }
    pairs = [
        ("Model", f"{found.system}, seed {found.own['seed']}"),
        ("Parameters", f"{record['parameters']:,}" if record.get("parameters") else None),
        ("Best epoch", fitted.get("best_epoch")),
        (
            "Meant for",
            f"ranking and filtering items by the rate ({found.rate}) expected in a coming period, "
            "with or without a history, on the log that it was trained on",
        ),
        (
            "Not meant for",
            "other logs or periods much later without training again; decisions about people; "
            "conclusions on cause: a rate in a log depends on who was shown the item",
        ),
        ("Training examples", _training_rows(record)),
        (
            "Missing history",
            f"{percent_text(record['missing_share'])} of the training steps"
            if record.get("missing_share") is not None
            else None,
        ),
        (
            "Mean error, predicted − true",
            ", ".join(f"{name} {signed(value, False)}" for name, value in bias.items())
            + " percentage points",
        ),
        (
            "Largest error",
            f"{worst[1]}: MSE {number_text(worst[0])} over {worst[2]:,} rows" if worst else None,
        ),
        ("Monitoring", "python -m mmnet.drift compares new periods with the training data"),
    ]
    return [facts("Model card", pairs)]


def _training_rows(record: Mapping[str, Any]) -> str | None:
    rows = [
        f"{number:,} ({rule.removeprefix('examples: ')})"
        for rule, number in record.get("rows_per_rule", {}).items()
        if rule.startswith("examples: train")
    ]
    return rows[0] if rows else None


def provenance(record: Mapping[str, Any]) -> list[Block]:
    """Show the code, machine, data and settings of a record; nothing without one."""
    if not record:
        return []
    machine = record.get("machine", {})
    commit = record.get("git_commit")
    if commit and record.get("git_clean") is False:
        commit += ", with uncommitted changes"
    seconds = record.get("stage_seconds", {})
    memory = record.get("peak_memory_bytes")
    pairs = [
        *((name, version) for name, version in record.get("versions", {}).items()),
        ("Commit", commit),
        ("Machine", ", ".join(str(machine[n]) for n in ("system", "processor") if machine.get(n))),
        ("Cores", machine.get("cores")),
        ("Accelerators", ", ".join(machine.get("accelerators", ()))),
        ("Seconds", ", ".join(f"{name} {spent:.0f}" for name, spent in seconds.items())),
        ("Peak memory", f"{memory / 2**30:.2f} GiB" if memory else None),
    ]
    found: list[Block] = [facts("Code and machine", pairs)]
    for caption, name in {
        "Input files and their SHA-256": "inputs",
        "Rows after each rule of the ledger": "rows_per_rule",
        "Every flag": "flags",
    }.items():
        if record.get(name):
            shown = ((key, _value(value)) for key, value in sorted(record[name].items()))
            found.append(facts(caption, shown, folded=True))
    return found


def _value(value: Any) -> str | None:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return f"{value:,}" if type(value) is int else None if value is None else str(value)


def _terms() -> list[Block]:
    return [
        facts(
            "Terms",
            {
                "MSE": "mean squared error, in percent²: the mean of (predicted − true rate)², so "
                "large errors count most; its root is an error in percentage points",
                "P@5, P@10": "part of the true top 5 or 10 % that is in the predicted top 5 "
                "or 10 %",
                "Row": "one item in one period; an item has a row for every test period in which "
                "it was seen often enough",
                "History": "the rates of the periods before, which the model reads",
                "Recall": "part of the true top that the filter keeps",
                "Oracle, regret": "the rate that the best possible filter of the same size would "
                "have reached, and how far the model stays below it",
                "95 % interval": "range that would hold the true value in 95 of 100 such tests, as "
                "far as the choice of test items decides",
            }.items(),
        )
    ]
