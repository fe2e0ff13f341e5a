from mmnet.promotion import night_report
from mmnet.promotion.history import Event

EVENT = Event(
    number=3,
    at="2024-03-02T01:00:00",
    outcome="promoted",
    night="2024-03-01",
    period="2024-03-01",
    champion_before=2,
    champion=3,
    ratio=0.9,
    low=0.85,
    high=0.95,
    reasons=("normal: MSE 9 is 0.9 times <b>the champion's</b> 10",),
)
RATIO = {"value": 0.9, "low": 0.85, "high": None}
TOLD = {"champion_mse": 10.0, "challenger_mse": 9.0, "ratio": RATIO}
WEIGHTS = dict.fromkeys(("decided", "let_through", "explored", "clipped", "dropped"), 0.25)
DOCUMENT = {
    "remarks": ["counts: in a complete period: 9 in, 1 dropped"],
    "comparison": {
        "rows": 1234,
        "items": 567,
        "periods": ["2024-02-28", "2024-02-29", "2024-03-01"],
        "scenarios": {"normal": {"unweighted": TOLD, "weighted": TOLD}},
        "weighting": WEIGHTS | {"largest": 50.0, "clip": 20.0, "effective_rows": 99.5},
    },
    "outages": {"rows": 9, "lost": {"a|b": {"champion": 1.0, "challenger": 2.0, "growth": None}}},
    "changed_fields": {"editor_label": 0.125},
    "refit": {"scores": 0.05, "error": -0.125},
    "trained_until": "2024-02-27",
    "refitted_until": "2024-03-01",
    "seconds": {"train": 12.34},
    "scores": {"output": "scores.parquet"},
}
NOTHING = {
    **dict.fromkeys(("comparison", "outages", "refit", "refitted_until", "scores")),
    **{"remarks": [], "changed_fields": {}, "trained_until": "", "seconds": {}},
}


def test_a_page_shows_what_was_compared_and_decided():
    page = night_report.page(EVENT, DOCUMENT)
    for line in (
        "**Promoted: version 3 replaces version 2.**",
        "| normal, weighted | 10 | 9 | 0.9000 [0.8500, ∞] |",
        "1,234 rows of 567 items, periods 2024-02-28 to 2024-03-01.",
        "| test items that the filter let through | 25.0% |",
        "| rows clipped at 20 | 25.0% |",
        r"| a\|b | 1 | 2 | – |",
        "| editor_label | 12.50 |",
        "| change of the MSE on the compared periods | -12.5% |",
        "| challenger trained until | 2024-02-27 |",
        "| served weights refitted until | 2024-03-01 |",
        "- counts: in a complete period: 9 in, 1 dropped",
        "| seconds: train | 12.3 |",
    ):
        assert line in page
    assert "<b>" not in page


def test_the_same_as_a_page_that_loads_nothing():
    page = night_report.html(EVENT, DOCUMENT)
    assert "<b>" not in page
    titles = ("Why", "Remarks", "Comparison", "Without one input", "Refit on all periods")
    assert all(f"{title}</h2>" in page for title in titles)
    assert "0.9000" in page


def test_a_night_without_a_comparison_has_a_page_too():
    kept = EVENT.model_copy(update={"outcome": "kept", "champion": 2, "ratio": None})
    page = night_report.page(kept, NOTHING)
    assert "**Kept: version 2 stays the champion.**" in page
    assert "## Comparison" not in page
    assert "Without one input" not in night_report.html(kept, NOTHING)
