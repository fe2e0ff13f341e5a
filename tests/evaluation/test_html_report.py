"""The page of an evaluation: its numbers are those of the other files, and users' text is text."""

import json

import numpy as np
import pytest

from mmnet.evaluation import filtering, html_page, html_report, intervals, plots
from mmnet.evaluation.html_sections import Evaluated
from mmnet.evaluation.report import Probes, Told, metrics, write_report
from mmnet.evaluation.scenarios import SCENARIOS
from tests.evaluation.test_report import OUTAGE, SETTING, predictions, small
from tests.pages import Page

HOSTILE = "<script>alert(1)</script>"
METRICS = ("mse", "precision_at_5", "precision_at_10")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    directory = tmp_path_factory.mktemp("evaluation")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "write_figure", lambda path, figure: None)  # the page draws its own
        return directory, write(directory)


def write(directory):
    rows = predictions(n=120)
    rows["taxonomy_kind"] = np.where(rows["category"] == "music", HOSTILE, "ordinary")
    rows["seen_clicks"] = 100
    floors = {"ha": rows.assign(predicted_share_rate=3.0)}
    coverage = [dict(scenario="normal", clicks="all", n=120, items=120, coverage=0.9)]
    coverage = rows.head(0).from_records([coverage[0] | dict(standard_error=0.01, mean_width=2.5)])
    decision, figure = filtering.write(
        *(directory, rows, floors, {"keep=0.5": filtering.Applied(3.0)}, coverage),
        system="MMNet",
        level=0.9,
        replicates=20,
    )
    write_report(
        directory,
        rows,
        SETTING,
        Probes(outage=OUTAGE, degradation=[dict(missing_rate=0, mse=1.0, precision_at_5=0.5)]),
        system="MMNet",
        others={name: metrics(frame, SETTING) for name, frame in floors.items()},
        taxonomies=["taxonomy_kind"],
        numerator="shares\x1b[2J",
        denominator="stars",
        told=Told(
            decision=decision,
            intervals=intervals.estimate(rows, floors, "MMNet"),
            record={
                "flags": {"model": "mmnet", "texts": [HOSTILE], "test_missing_rate": 0.3},
                "inputs": {"a.csv": "12ab"},
            },
            figures={"decision.png": figure},
            columns={"creator": np.array([f"c{n % 20}" for n in range(120)], object)},
        ),
    )
    return (directory / "report.html").read_text(encoding="utf-8")


def read(directory, name):
    return json.loads((directory / name).read_text())


def test_every_metric_is_that_of_the_files(written):
    directory, text = written
    page = Page(text)
    systems = read(directory, "systems.json")
    shown = page.values("The system and simple baselines on the same test rows")
    for name, row in zip(("MMNet", "ha"), shown.values(), strict=True):
        expected = [systems[name][s][metric] for s in SCENARIOS for metric in METRICS]
        assert row == [*expected, 120]
    assert systems["MMNet"] == read(directory, "metrics.json")
    shown = page.values("Test score with one input removed")
    for name, scores in read(directory, "outage.json").items():
        assert shown[name] == [scores[s][metric] for s in SCENARIOS for metric in METRICS]


def test_intervals_are_those_of_their_file(written):
    directory, text = written
    shown = Page(text).tables["95 % intervals, and differences from each simple baseline"]
    found, own = read(directory, "intervals.json"), read(directory, "metrics.json")
    rows = [(s, metric) for s in SCENARIOS for metric in METRICS]
    for (scenario, metric), (_, (told, value), (_, difference)) in zip(
        rows, shown[1:], strict=True
    ):
        assert value == own[scenario][metric]
        assert difference == found[scenario][metric]["difference"]["ha"]["value"]
        ends = [float(end) for end in told.partition("[")[2].rstrip("]").split(", ")]
        expected = [found[scenario][metric][end] for end in ("low", "high")]
        assert ends == pytest.approx(expected, rel=0.005, abs=0.0005)  # as rounded for reading


def test_the_intervals_of_all_systems_are_in_every_file(written):
    directory, _ = written
    found, systems = read(directory, "intervals.json"), read(directory, "systems.json")
    table = (directory / "table.md").read_text(encoding="utf-8").partition("## 95 % intervals")[2]
    for name, own in systems.items():
        for scenario in SCENARIOS:
            for metric in METRICS:
                known = found[scenario][metric]
                known = known if name == "MMNet" else known["others"][name]
                ends = [own[scenario][f"{metric}_{end}"] for end in ("low", "high")]
                assert ends == [known["low"], known["high"]]
                low, high = (html_page.number_text(end, metric != "mse") for end in ends)
                (line,) = (one for one in table.splitlines() if one.startswith(f"| {name} | ["))
                assert f"[{low}, {high}]" in line
    assert "The variance between seeds is not in them." in table


def test_the_filter_is_that_of_decision_json(written):
    directory, text = written
    page, decision = Page(text), read(directory, "decision.json")
    captions = ("The filter rules in items; an item is lost if none of its rows is kept",)
    rows = list(page.values(*captions).values())
    for scenario, row in zip(SCENARIOS, rows, strict=True):
        (rule,) = decision["rules"][scenario]
        names = ("threshold", "kept_rows", "lost_rows", "kept_items", "lost_items", "pool_rate")
        assert row[:6] == [rule[name] for name in names]
        assert rule["kept_rows"] + rule["lost_rows"] == 120
    every = page.tables["Every threshold: how much is kept, and what that holds"]
    swept = [row["kept_share"] for s in SCENARIOS for row in decision["sweep"][s]]
    assert [row[2][1] for row in every[1:]] == swept


def test_groups_of_every_column_cover_all_rows(written):
    page = Page(written[1])
    for name in ("stars of the target period", "kind", "creator"):
        groups = page.values(f"By {name}")
        assert sum(row[0] for row in groups.values()) == 120
        # Groups' kept rows are those of the filter.
        kept = sum(row[0] * row[-3] for row in groups.values())
        (rule,) = read(written[0], "decision.json")["rules"]["normal"]
        assert kept == pytest.approx(rule["kept_rows"])
    assert list(page.values("By creator"))[-1] == "all others (5 values)"


def test_what_users_wrote_stays_text(written):
    _, text = written
    page = Page(text)
    assert page.scripts == 1
    assert HOSTILE not in text
    assert HOSTILE in page.values("By kind")
    assert HOSTILE in page.text
    assert "\x1b" not in text
    assert r"shares\x1b[2J per 100 stars" in page.text


def test_it_is_complete_and_small(written):
    _, text = written
    assert "http" not in text.replace("http-equiv", "").replace("http://www.w3.org", "")
    assert len(text) < 3e6
    assert "12ab" in text  # a checksum of an input file
    assert "a random part of every history is missing (30\xa0% of its steps)" in text


def test_what_is_not_known_has_no_section():
    frame = small()
    found = Evaluated("a", {"a": metrics(frame, SETTING)}, frame, "shares", "clicks")
    page = html_report.page(found)
    empty = {section.title for section in page.sections if not section.blocks}
    assert {"What the filter keeps and loses", "Provenance", "When an input is missing"} <= empty
    # Four rows, off by 1, 2 and 0; nothing to compare with.
    assert [tile.value for tile in page.tiles] == ["1.000", "4.000", "100.0 %"]


def test_the_summary_compares_with_the_best_baseline():
    frame = small()
    other = metrics(frame.assign(predicted_share_rate=frame["share_rate"] + 2), SETTING)
    systems = {"a": metrics(frame, SETTING), "ha": other}
    page = html_report.page(Evaluated("a", systems, frame, "shares", "clicks"))
    first, second, *_ = page.summary
    assert "is 1.000 percent²: 75 % below the best simple baseline" in first
    assert "“mean rate so far” (4.000)" in first
    assert "is 4.000 percent²: the same as the best" in second
