"""The pages of a night, nightly.md and nightly.html."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmnet.checks import in_markdown
from mmnet.evaluation import html_page
from mmnet.evaluation.report import markdown_table
from mmnet.promotion.history import SAID, Event, headline, number_text

PAGE, HTML = "nightly.md", "nightly.html"


def page(event: Event, document: Mapping[str, Any]) -> str:
    """Formats the content of `nightly.json` as Markdown.

    Args:
        event: the night's event.
        document: the content of `nightly.json`.
    """
    parts = [f"# Night of {in_markdown(event.period)}", f"**{headline(event).capitalize()}.**"]
    parts += ["## Why", _listed(event.reasons)]
    if document["remarks"]:
        parts += ["## Remarks", _listed(document["remarks"])]
    if comparison := document["comparison"]:
        parts += ["## Comparison", _compared(comparison), _scenarios(comparison)]
        if weighting := comparison["weighting"]:
            parts += ["### Weights from logged decisions", _weights(weighting)]
    if outages := document["outages"]:
        parts += ["## Without one input", _outages(outages)]
    if changed := document["changed_fields"]:
        rows = [[name, f"{100 * share:.2f}"] for name, share in changed.items()]
        parts += [
            "## Fields that change after items are first seen",
            "Models are compared on values as they were first seen.",
            markdown_table(["field", "items (%)"], rows),
        ]
    if refit := document["refit"]:
        parts += ["## Refit on all periods", _table(_refit(refit))]
    parts += ["## Dates and times", _table(_dates(event, document))]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def html(event: Event, document: Mapping[str, Any]) -> str:
    """Formats the content of `nightly.json` as a page that loads nothing.

    Args:
        event: the night's event.
        document: the content of `nightly.json`.
    """
    sections = html_page.of_markdown(page(event, document), {})
    return html_page.render(
        html_page.Page(
            title=f"Night of {event.period}",
            subtitle=headline(event).capitalize(),
            tiles=_tiles(event),
            sections=[one for one in sections if one.title != "Results"],
        )
    )


def _tiles(event: Event) -> list[html_page.Tile]:
    found = [html_page.Tile("Champion", f"version {event.champion}", SAID[event.outcome])]
    if event.ratio is not None:
        between = f"{number_text(event.low)} to {number_text(event.high)}"
        note = f"challenger / champion; 95 % interval {between}"
        found.append(html_page.Tile("MSE ratio", number_text(event.ratio), note))
    return found


def _listed(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {in_markdown(one)}" for one in sentences)


def _compared(comparison: Mapping[str, Any]) -> str:
    first, last = comparison["periods"][0], comparison["periods"][-1]
    return (
        f"{comparison['rows']:,} rows of {comparison['items']:,} items, periods {first} to {last}. "
        "Neither model has learned from them. MSE in percent²; the ratio is challenger / champion, "
        "with a 95 % interval paired by row and clustered by item."
    )


def _scenarios(comparison: Mapping[str, Any]) -> str:
    rows = []
    for scenario, found in comparison["scenarios"].items():
        for kind, told in found.items():
            value, low, high = (number_text(told["ratio"][end]) for end in ("value", "low", "high"))
            rows.append(
                [
                    scenario if kind == "unweighted" else f"{scenario}, weighted",
                    f"{told['champion_mse']:.4g}",
                    f"{told['challenger_mse']:.4g}",
                    f"{value} [{low}, {high}]",
                ]
            )
    return markdown_table(["scenario", "MSE champion", "MSE challenger", "ratio"], rows)


def _weights(weighting: Mapping[str, Any]) -> str:
    return _table(
        [
            ("test rows with a decision", f"{weighting['decided']:.1%}"),
            ("test items that the filter let through", f"{weighting['let_through']:.1%}"),
            ("test items that were explored", f"{weighting['explored']:.1%}"),
            ("largest weight", f"{weighting['largest']:.3g}"),
            (f"rows clipped at {weighting['clip']:g}", f"{weighting['clipped']:.1%}"),
            ("rows that the log cannot explain", f"{weighting['dropped']:.1%}"),
            ("effective rows", f"{weighting['effective_rows']:,.0f}"),
        ]
    )


def _outages(outages: Mapping[str, Any]) -> str:
    rows = [
        [
            name,
            f"{one['champion']:.4g}",
            f"{one['challenger']:.4g}",
            "–" if one["growth"] is None else f"{100 * one['growth']:+.1f}",
        ]
        for name, one in outages["lost"].items()
    ]
    return markdown_table(["input gone", "MSE champion", "MSE challenger", "growth (%)"], rows)


def _refit(refit: Mapping[str, float]) -> list[tuple[str, str]]:
    return [
        ("difference of golden scores, sds of rates", f"{refit['scores']:.3f}"),
        ("change of the MSE on the compared periods", f"{refit['error']:+.1%}"),
    ]


def _dates(event: Event, document: Mapping[str, Any]) -> list[tuple[str, str]]:
    pairs = [
        ("last period of the data", event.period),
        ("challenger trained until", document["trained_until"]),
        ("served weights refitted until", document["refitted_until"] or ""),
        ("decided at", f"{event.at} UTC"),
        ("scores", (document["scores"] or {}).get("output", "")),
    ]
    pairs += [(f"seconds: {name}", f"{spent:.1f}") for name, spent in document["seconds"].items()]
    return [(name, value) for name, value in pairs if value]


def _table(pairs: Sequence[tuple[str, str]]) -> str:
    return markdown_table(["", "value"], pairs)
