"""Every figure of the results pages is that of a record, and a changed digit is noticed."""

import random
import re

import pytest

from experiments import trace
from experiments.tracing import markdown, pages
from experiments.tracing.records import Directory, expected

ROOT = trace.ROOT
MMA4CTR = "experiments/mma4ctr/README.md"


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def problems(name, old, new, count=1):
    """What is wrong with a page in which a text was replaced."""
    text = read(name)
    assert text.count(old) >= count
    return trace.trace(name, text.replace(old, new), trace.pinned().get(name, "")).problems


@pytest.mark.parametrize("name", trace.names())
def test_every_figure_is_traced(name):
    assert trace.trace(name, digest=trace.pinned().get(name, "")).problems == []


def test_nothing_is_allowed_or_pinned_for_a_page_that_is_not_there():
    assert set(trace.allowed()) <= set(trace.HAND_WRITTEN)
    assert set(trace.pinned()) <= set(trace.names())


def test_a_changed_digit_in_a_table_is_noticed():
    names = random.Random(0).sample(trace.names()[3:], 9)
    for name in (*trace.HAND_WRITTEN, *names):
        hit, tried, missed = trace.noticed(name, "table", 1, seed=0)
        assert (hit, tried) == (1, 1), missed


def test_a_changed_digit_in_an_allowed_phrase_is_noticed():
    for name, phrases in trace.allowed().items():
        phrase = random.Random(0).choice(list(phrases))
        digit = re.search(r"\d", phrase)[0]
        changed = phrase.replace(digit, str((int(digit) + 1) % 10), 1)
        prose = r"\s+".join(map(re.escape, phrase.split()))
        text = re.sub(prose, lambda _, changed=changed: changed, read(name))
        found = trace.trace(name, text).problems
        assert any("allowed.lst has" in one for one in found)


def test_most_changed_digits_in_prose_are_noticed(record_property):
    hit, tried, _ = trace.noticed(MMA4CTR, "prose", 4, seed=2)
    record_property("changed digits in prose that are noticed", f"{hit} of {tried}")
    assert tried == 4
    assert hit > tried / 2  # the others happen to be elsewhere in the records


def test_a_number_that_no_record_has_is_named_with_its_place():
    (found,) = problems(MMA4CTR, "C1 scores .828 and", "C1 scores .8281 and")
    assert found.startswith(f"{MMA4CTR}:20: .8281 is in no linked record")


def test_a_table_needs_a_link_to_its_source():
    found = problems(MMA4CTR, "[Table](baselines/results/results.md), ", "")
    assert found == []  # the table beside the linked results.csv
    found = problems(MMA4CTR, "(baselines/results/results", "(elsewhere/results", count=2)
    assert any("GCSAN: not in a page that this section links" in one for one in found)


def test_exchanged_rows_are_noticed():
    found = problems("README.md", "| LightGBM + three modes | 129.3", "| Smoothed history | 129.3")
    assert any("Smoothed history" in one for one in found)


def test_a_claim_and_the_heading_are_those_of_the_records():
    name = "experiments/simulated_content/results/results.md"
    (found,) = problems(name, "= 1.18 [0.458, 3.02]: not", "= 1.19 [0.458, 3.02]: not")
    assert "claims.json or cells.csv has other numbers" in found
    (found,) = problems(name, "114 cells, 151 minutes", "114 cells, 152 minutes")
    assert "claims.json or cells.csv has other numbers" in found


def test_shares_of_noise_agree_with_one_noise():
    name = "experiments/github_origins/results/results.md"
    found = problems(name, "| Smoothed history | 17% |", "| Smoothed history | 71% |")
    assert any("a share of one sampling noise for all rows" in one for one in found)


def test_cells_that_no_record_has_are_pinned():
    name = "experiments/nightly/results.md"
    (found,) = problems(name, "| 12.83 | 13.66 |", "| 12.84 | 13.66 |")
    assert found.startswith(f"{name}: cells that no record has are not those of pinned.sha256")


def test_noise_that_a_record_has_needs_no_pin(tmp_path):
    (tmp_path / "cells.csv").write_text(
        "row,normal_mse,normal_sampling_noise_mse,commit,seconds\nha,20,5,a,60\nha,25,5,a,60\n",
        "utf-8",
    )
    (tmp_path / "main.csv").write_text("system,scenario,metric,windows\nha,normal,mse,x\n", "utf-8")
    (tmp_path / "state.json").write_text('{"made_from": {"rows": {"ha": ["HA", ""]}}}', "utf-8")
    (table,) = markdown.tables("## Main\n\n| System | Normal noise |\n|---|---|\n| HA | 23% |\n")
    # (5 / 20 + 5 / 25) / 2 = .225, and half to even
    assert Directory(tmp_path).of_table(table)("HA", "normal noise").values == (0.225,)
    page = tmp_path / "results.md"
    text = "## Main\n\n| System | Normal noise |\n|---|---|\n| HA | 32% |\n"
    (found,), digest = pages.results_page(text, page)
    assert (found.kind, digest) == (pages.WRONG, "")


@pytest.mark.parametrize(
    ("shown", "value", "agrees"),
    [("1.2", 1.249, True), ("1.2", 1.251, False), ("1,000", 999.6, True), ("−3", -3.4, True)],
)
def test_a_number_shows_what_rounds_to_it(shown, value, agrees):
    (number,) = markdown.numbers(shown)
    assert pages.shows(number, value) == agrees


def test_the_last_digit_of_a_record_may_decide_the_rounding():
    assert expected([("{:.1f}".format, 0.25)]).texts == {"0.2", "0.3"}
    assert expected([("{:.1f}".format, 0.251)]).texts == {"0.3"}


def test_a_line_of_the_list_without_a_reason_is_named(tmp_path, monkeypatch):
    (tmp_path / "allowed.lst").write_text("[README.md]\nper 100\n", "utf-8")
    monkeypatch.setattr(trace, "FOLDER", tmp_path)
    with pytest.raises(ValueError, match=r"allowed.lst, line 2 must be .* Received: 'per 100'"):
        trace.allowed()
