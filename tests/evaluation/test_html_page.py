"""A page of tables and figures: escaped, complete, and working in a browser."""

import base64
import hashlib
import json
import re
import shutil
import subprocess

import pytest
from matplotlib.figure import Figure

from mmnet.evaluation import html_page
from mmnet.evaluation.html_page import Facts, Items, Page, Plot, Section, Table, Text, count, number
from tests import pages

# The control character that is tested is in no font.
pytestmark = pytest.mark.filterwarnings("ignore:Glyph 127")
HOSTILE = '</script><script>document.title = "hostile"</script>'


def figure():
    made = Figure(figsize=(4, 3), layout="constrained")
    axes = made.subplots()
    axes.plot([0, 1], [0, 1], "o-", color="#0072B2", label=HOSTILE)
    axes.legend()
    axes.set_title("a\x7fb -->")
    return made


@pytest.fixture(scope="module")
def page():
    rows = [["b", number(10.0), count(3)], ["a", number(9.5), count(20)], ["c", number(None), ""]]
    table = Table(f"Rates of {HOSTILE}", ["Name", "Rate", "Rows"], rows, [("", 1), ("All", 2)])
    blocks = [Text(HOSTILE), table, Plot("one.png", HOSTILE, figure())]
    blocks.append(Facts("Flags", [("text", HOSTILE)], folded=True))
    return Page(HOSTILE, "a subtitle", [HOSTILE], [], [Section("One", blocks)])


def test_texts_are_escaped_wherever_they_are(page):
    text = html_page.render(page)
    found = pages.Page(text)
    assert found.scripts == 1
    assert found.text.count(HOSTILE) == 8  # title and heading, summary, four blocks, the legend
    assert "\x7f" not in text


def test_only_the_script_of_the_page_may_run(page):
    text = html_page.render(page)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in text


def test_a_drawing_has_the_colours_of_the_page_and_is_the_same_every_time():
    first, second = (html_page.svg(figure(), "one.png") for _ in range(2))
    assert first == second
    assert "var(--blue)" in first
    assert "#0072b2" not in first
    assert "<metadata" not in first
    ids = re.findall(r'id="([^"]*)"', first)
    assert not set(ids) & set(re.findall(r'id="([^"]*)"', html_page.svg(figure(), "two.png")))


def test_sections_with_one_title_are_one():
    sections = [Section("One", [Text("first")]), Section("Two", []), Section("Three", [Text("a")])]
    text = html_page.render(Page("title", "", sections=sections))
    assert re.findall(r'<h2 id="section-(\w+)"', text) == ["one", "three"]


def test_a_page_of_results_keeps_its_tables_figures_and_texts():
    markdown = (
        "# Results\n\n3 cells; [every cell](cells.csv).\n\n- **C1**: holds\n  - more\n\n"
        "## Table 1\n\nOf all.\n\n"
        "| System | MSE |\n| --- | ---: |\n| **a** &lt;b> | **1,234.5** ± 2 a |\n| cc\\|d | – |\n\n"
        "![Table 1, bars](bars.png)\n\nThe paper's, as printed:\n\n| a |\n| --- |\n| b |\n"
    )
    first, second = html_page.of_markdown(markdown, {"bars.png": figure()})
    assert first.blocks == [Text("3 cells; every cell."), Items(["C1: holds", "more"])]
    text, table, plot, _, other_table = second.blocks
    assert other_table.caption == "Table 1: The paper's"
    assert (table.texts, other_table.texts) == ({0}, {0})
    assert (second.title, text) == ("Table 1", Text("Of all."))
    assert table.caption == "Table 1"
    (name, mse), (other, unknown) = table.cells
    assert (name.text, name.strong) == ("a <b>", True)
    assert (mse.text, mse.value, mse.strong) == ("1,234.5 ± 2 a", 1234.5, True)
    assert (other.text, unknown.value) == ("cc|d", None)
    assert (plot.name, plot.caption) == ("bars.png", "Table 1, bars")


DRIVE = """
const seen = { title: document.title, errors: window.errors };
const names = () => [...document.querySelectorAll("tbody th")].map((one) => one.textContent);
const heads = [...document.querySelectorAll("thead tr:last-child th")];
seen.before = names();
heads[1].querySelector("button").click();
seen.falling = names();
heads[1].querySelector("button").click();
seen.rising = names();
seen.sort = heads.map((one) => one.getAttribute("aria-sort"));
heads[0].querySelector("button").click();
seen.text = names();
const background = () => getComputedStyle(document.body).backgroundColor;
const first = background();
document.getElementById("theme").click();
seen.themes = [first !== background(), document.documentElement.dataset.theme];
seen.width = document.querySelector("svg").getBoundingClientRect().width;
const out = document.createElement("output");
out.textContent = JSON.stringify(seen);
document.body.append(out);
"""
"""Clicks through a page, and writes what it has seen."""


@pytest.mark.skipif(not shutil.which("chromium"), reason="Chromium is not installed")
def test_it_works_in_a_browser_without_an_error(page, tmp_path):
    early = "window.errors = []; addEventListener('error', (one) => errors.push(one.message));"
    text = html_page.render(page)
    for place, script in (("<style>", early), ("</body>", DRIVE)):  # which the policy must allow
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        text = text.replace("script-src '", f"script-src 'sha256-{digest}' '")
        text = text.replace(place, f"<script>{script}</script>{place}")
    path = tmp_path / "report.html"
    path.write_text(text, encoding="utf-8")
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", path.as_uri()]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
    seen = json.loads(pages.unescaped(re.search("<output>(.*)</output>", ran.stdout)[1]))
    assert ":CONSOLE" not in ran.stderr
    assert seen["errors"] == []
    assert seen["title"] == HOSTILE
    assert seen["before"] == ["b", "a", "c"]
    assert seen["falling"] == ["b", "a", "c"]  # the largest number first, what is unknown last
    assert seen["rising"] == ["a", "b", "c"]
    assert seen["sort"] == [None, "ascending", None]
    assert seen["text"] == ["a", "b", "c"]
    assert seen["themes"] == [True, "dark"]
    assert seen["width"] > 200
