import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.headlines import within
from experiments.neighbours import neighbours
from experiments.pool_quality import pool
from experiments.posters import tables
from experiments.significance import decidable
from mmnet.checks import InputError
from mmnet.config import TrainConfig
from mmnet.data.calendars import Calendar
from mmnet.data.counts import Panel
from mmnet.experiments.claims import Contrast
from mmnet.flags import parse

ROOT = Path(__file__).parents[1]
GRIDS = {"experiment.txt", "tables.txt"}  # of the experiment driver
FLAGFILES = [
    path
    for path in sorted([*ROOT.glob("experiments/**/*.txt"), *ROOT.glob("mmnet/**/rows/*.txt")])
    # The second system's flagfiles are read in tests/mma4ctr.
    if path.name not in GRIDS and "mma4ctr" not in path.parts
]
ROWS = sorted([*ROOT.glob("experiments/**/rows/*.txt"), *ROOT.glob("mmnet/**/rows/*.txt")])


def read(path, monkeypatch):
    monkeypatch.chdir(ROOT)  # flagfiles name each other from the repository's root
    return parse(TrainConfig, [f"--flagfile={path}"])


@pytest.mark.parametrize("path", FLAGFILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_flagfile_is_read(path, monkeypatch):
    read(path, monkeypatch)


@pytest.mark.parametrize("path", ROWS, ids=lambda path: path.stem)
def test_a_row_says_what_it_is_and_differs_in_five_lines_at_most(path):
    first, *flags = path.read_text(encoding="utf-8").splitlines()
    assert re.fullmatch(r"# [^:]+: .+", first)
    assert path.stem.endswith("_tuned") or len(flags) <= 5


@pytest.mark.parametrize("tau", ["0.01", "0.05", *(f"0.{tenth}" for tenth in range(1, 10))])
def test_a_row_of_table_4_is_the_full_model_at_another_tau(tau, monkeypatch):
    full = read("experiments/full/flags.txt", monkeypatch)
    row = read(f"experiments/rows/tau_{tau}.txt", monkeypatch)
    assert row == full.model_copy(update={"noisy_rate": float(tau)})


@pytest.mark.parametrize(
    ("name", "weights", "coarse"),
    [
        ("mmnet_m", (1, 0, 0), True),
        ("mmnet_c", (1, 0, 0), False),
        ("norm_noisy", (1, 0, 1), True),
        ("norm_cold", (1, 1, 0), True),
    ],
)
def test_an_ablation_is_the_full_model_but_for_its_own_lines(name, weights, coarse, monkeypatch):
    full = read("experiments/full/flags.txt", monkeypatch)
    ablation = read(f"experiments/rows/{name}.txt", monkeypatch)
    expected = full.model_copy(update={"mode_weights": weights, "coarse_granularity": coarse})
    assert ablation == expected


def test_the_full_model_is_the_default_model(monkeypatch):
    full = read("experiments/full/flags.txt", monkeypatch)
    assert full.model_copy(update={"mode_weights": ()}) == TrainConfig()


ROW = re.compile(r"^\| (?P<system>[^|]+) \|(?P<numbers>( \**[\d.]+\** \|){6})$", re.MULTILINE)
SYSTEMS = {
    "MMNet, options chosen on validation": "mmnet",
    "MMNet": "mmnet",
    "HA": "ha",
    "HA with taxonomy fallback": "ha_taxonomy",
    "last rate": "last_rate",
    "taxonomy mean": "taxonomy_mean",
}


def printed(section):
    """System -> its six numbers, of one section of the results page."""
    return {
        row["system"]: [float(number) for number in re.findall(r"[\d.]+", row["numbers"])]
        for row in ROW.finditer(section)
    }


def stored(results, system):
    systems = json.loads((ROOT / "experiments" / results / "systems.json").read_text())
    return [
        round(systems[system][scenario][key], digits)
        for scenario in ("normal", "cold_start", "noisy")
        for key, digits in (("mse", 2), ("precision_at_5", 3))
    ]


@pytest.mark.parametrize(
    ("title", "results"),
    [
        ("Github-Ranking:", "github_ranking/results"),
        ("Github-Ranking by item:", "github_ranking/results_by_item"),
        ("KuaiRand-Pure:", "kuairand/results"),
        ("The paper's size", "full_size/results"),
        ("KuaiRand-Pure CTR:", "kuairand/results_ctr"),
        ("KuaiRand-Pure like rate:", "kuairand/results_like_rate"),
        ("KuaiRand-Pure complete rate:", "kuairand/results_complete_rate"),
    ],
)
def test_the_results_page_prints_what_the_runs_wrote(title, results):
    page = (ROOT / "experiments" / "README.md").read_text(encoding="utf-8")
    (section,) = (part for part in page.split("\n## ") if part.startswith(title))
    rows = printed(section)
    for name, numbers in rows.items():
        paper = name.startswith("MMNet, nothing beyond")
        folder = f"{results}{'_paper' if paper else ''}"
        assert numbers == stored(folder, "mmnet" if paper else SYSTEMS[name]), name
    assert len(rows) >= 5


def test_the_results_page_repeats_the_lines_that_the_experiments_wrote():
    page = (ROOT / "experiments" / "README.md").read_text(encoding="utf-8")
    checked = 0
    for section in page.split("\n## "):
        pages = set(re.findall(r"\((\w+/results/(?:results|recovered)\.md)\)", section))
        if pages and not section.startswith(("Summary\n", "Conclusions\n")):  # see test_trace
            stored = [(ROOT / "experiments" / page).read_text("utf-8") for page in pages]
            rows = [line for line in section.splitlines() if line.startswith("| ")]
            assert rows
            assert set(rows) <= set("\n".join(stored).splitlines()), section.partition("\n")[0]
            checked += 1
    assert checked >= 3


def test_no_page_takes_a_shared_letter_for_equality():
    """A test that does not reject its hypothesis has not shown it."""
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("experiments/**/*.md")]
    said = {path: path.read_text(encoding="utf-8") for path in pages}
    assert not [path for path, text in said.items() if "not differ" in text]
    letters = [text for text in said.values() if "share a letter" in text]
    assert len(letters) > 3
    assert all("share a letter cannot be told apart at the" in text for text in letters)


def test_the_record_of_the_tests_between_systems_has_the_level_that_they_promise():
    pairs, tables = (
        pd.read_csv(ROOT / "experiments" / "significance" / f"{name}.csv")
        for name in ("pairs", "tables")
    )
    settings = [(i, s, r) for i in (215, 400, 1171) for s in (3, 5, 10) for r in (0.03, 10)]
    assert set(settings) <= set(pairs[["items", "seeds", "ratio"]].itertuples(index=False))
    # Standard errors of a level of .05 and of .01.
    assert (0.05 * 0.95 / tables["runs"].min()) ** 0.5 <= 0.005
    assert (0.01 * 0.99 / tables["runs"].min()) ** 0.5 <= 0.0025
    assert pairs["runs"].min() >= tables["runs"].min()
    alike = pairs[(pairs["law"] == "both") & (pairs["method"] == "now")]
    most = alike.groupby("level")["rejected"].max()
    assert most[0.05] <= 1.15 * 0.05
    assert most[0.01] <= 1.5 * 0.01
    equal = tables[(tables["law"] == "both") & (tables["method"] == "now") & ~tables["shifted"]]
    assert equal["any_letter_05"].max() <= 1.15 * 0.05
    assert equal["any_reference_01"].max() <= 1.5 * 0.01
    keys = ["law", "items", "seeds", "ratio", "pair", "level", "method"]
    power = pairs[pairs["seeds"] == 5].set_index(keys)["power"].unstack("method")
    assert (power["now"] >= power["before"]).all()
    assert (power["now"] - power["before"]).max() > 0.05


def test_a_known_variance_decides_what_the_normal_law_says():
    found = decidable.Simulated(np.array([0.04]), np.array([1e9]))
    # 99 % on both sides, four of five: quantiles 2.576 and .842. A share of 20,000 has an error of
    # .0028, over a density of .28 that is .01 sd of the estimate.
    assert found.smallest() == pytest.approx(0.2 * (2.5758 + 0.8416), abs=0.2 * 0.03)
    assert found.decided(-0.9) == found.decided(0.9) > 0.95


def test_more_seeds_and_rows_lower_the_variances_by_their_number():
    contrast = Contrast(0.1, (0.8, 0.3, 0.6), (300.0, 4.0, 9.0), seed_variance_known=True)
    variances, freedoms = decidable.grown(contrast, 20, 4)
    np.testing.assert_allclose(variances, [0.2, 0.3 * 5 / 20, 0.6 * 10 / 20])
    np.testing.assert_allclose(freedoms, [1200, 19, 19])
    assert decidable.grown(contrast, 7, 1)[1].tolist() == [300, 6, 9]


def test_every_open_part_of_a_claim_has_a_line(tmp_path, monkeypatch):
    asked = ["decidable.py", f"--output={tmp_path / 'page.md'}"]
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("sys.argv", asked)
    monkeypatch.setattr(decidable.Simulated.__init__, "__defaults__", (50,))
    assert decidable.main() == 0
    page = (tmp_path / "page.md").read_text()
    for name in ("published_github", "published_kuairand"):
        claims = json.loads((ROOT / "experiments" / name / "results/claims.json").read_text())
        for claim in claims:
            for part in claim["parts"]:
                ratio = re.search(r"MSE (\w+ / \w+) =", part["text"])
                if part["verdict"] == "not decidable" and ratio:
                    assert f"{claim['claim']}, {part['text'].split(':')[0].lower()}: " in page
                    assert ratio[1] in page
    monkeypatch.setattr("sys.argv", [*asked, f"--experiments={tmp_path}"])
    assert decidable.main() == 1


# -------------------------------------------------------------------- quality of a filter's pool

IMPRESSIONS = (
    "user_id,video_id,date,is_like,is_rand,play_time_ms,duration_ms\n"
    "1,7,20220426,0,0,4000,8000\n"
    "1,7,20220426,1,0,12000,8000\n"
    "2,7,20220501,0,0,2000,8000\n"
    "2,8,20220501,0,0,500,0\n"
    "1,7,20220503,1,0,3000,8000\n"
    "3,8,20220503,0,1,5000,10000\n"
    "3,9,20220503,0,1,,10000\n"
)


def test_the_history_of_a_pool_is_of_the_six_days_before(tmp_path):
    (tmp_path / "log_pure.csv").write_text(IMPRESSIONS)
    log = pool.read_log(tmp_path)
    days = ["2022-05-02", "2022-05-03"]
    found = {
        name: sorted(map(tuple, pool.history(log, rate, days)[["day", "item", "score"]].to_numpy()))
        for name, rate in pool.RATES.items()
    }
    # On May 3, April 26 is seven days ago. Of 8 s, 4 and 8 were played, and then 2.
    assert found["likes"] == [
        ("2022-05-02", "7", 25.0),
        ("2022-05-02", "8", 0.0),
        ("2022-05-03", "7", 0.0),
        ("2022-05-03", "8", 0.0),
    ]
    assert found["complete"] == [("2022-05-02", "7", 50.0), ("2022-05-03", "7", 25.0)]


def test_candidates_of_a_pool_are_what_was_shown_and_scored(tmp_path):
    (tmp_path / "log_pure.csv").write_text(IMPRESSIONS)
    scored = pd.DataFrame({"item": ["7", "8", "9"], "day": "2022-05-03", "score": [2.0, 1.0, 3.0]})
    shown, keys = pool.candidates(pool.read_log(tmp_path), scored)
    assert keys["item"].tolist() == ["7", "8"]  # no time of a user is known with 9
    assert shown.rate.tolist() == [100.0, 0.0]
    assert shown.total_seconds.tolist() == [3.0, 5.0]
    assert pool.of_candidates(keys, scored[:1]).tolist() == [2.0, 0.0]


def test_the_pool_script_prints_its_plan_and_names_what_is_missing(tmp_path, monkeypatch, capsys):
    where = [f"--source_dir={tmp_path}", f"--work={tmp_path}", "--seeds=0,1"]
    monkeypatch.setattr("sys.argv", ["pool.py", *where])
    assert pool.main() == 1
    told = capsys.readouterr()
    assert told.out.count("to do") == 6
    assert told.err.startswith(f"error: {tmp_path}/log_*: no such file")


# ------------------------------------------------------------------- a granularity of neighbours


def panel_of_neighbours(rng, items=9, periods=5):
    clicks = rng.integers(0, 6, (items, periods))
    release = rng.integers(0, periods, items)
    clicks[np.arange(periods) < release[:, None]] = 0
    shares = rng.integers(0, clicks + 1)
    days = Calendar(kind="integer")
    return Panel(np.array([*"abcdefghi"]), clicks, shares, release, days, first_period=0)


def naive_mean(panel, vectors, k, item, period):
    """The pooled rate of an item's neighbours in a period, or of all others; and the flag."""
    cosine = vectors @ vectors[item]
    present = [j for j in range(len(vectors)) if vectors[j].any() and j != item]
    others = sorted(present, key=lambda j: (-cosine[j], j)) if vectors[item].any() else []
    chosen = [j for j in others if panel.release[j] <= period][:k]
    everyone = [j for j in range(len(vectors)) if j != item]
    known = bool(panel.clicks[chosen, period].sum())
    of = chosen if known else everyone
    below = panel.clicks[of, period].sum()
    return (100 * panel.shares[of, period].sum() / below if below else 0), not known


@pytest.mark.parametrize("k", [1, 3])
def test_neighbours_are_alike_released_and_not_the_item_itself(k):
    rng = np.random.default_rng(k)
    panel, vectors = panel_of_neighbours(rng), rng.normal(size=(9, 4)).astype("float32")
    vectors[7] = 0  # without content it neither has neighbours nor is one
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    rate, missing = neighbours.means(panel, vectors, k)
    expected = [
        [naive_mean(panel, vectors, k, item, period) for period in range(5)] for item in range(9)
    ]
    np.testing.assert_allclose(rate, [[one for one, _ in row] for row in expected], rtol=1e-6)
    assert missing.astype(bool).tolist() == [[flag for _, flag in row] for row in expected]
    assert missing[7].all()
    assert not missing.all()


def test_what_comes_later_moves_no_neighbour():
    rng = np.random.default_rng(5)
    panel, vectors = panel_of_neighbours(rng), rng.normal(size=(9, 4)).astype("float32")
    clicks, shares, release = panel.clicks.copy(), panel.shares.copy(), panel.release.copy()
    clicks[:, 3:], shares[:, 3:] = 7, 2
    late = np.flatnonzero(release > 2)
    release[late] = 3 + (release[late] == 3)
    changed = dataclasses.replace(panel, clicks=clicks, shares=shares, release=release)
    before, after = (neighbours.means(one, vectors, 2) for one in (panel, changed))
    for one, other in zip(before, after, strict=True):
        assert (one[:, :3] == other[:, :3]).all()
        assert (one[:, 3:] != other[:, 3:]).any()


def test_folds_keep_equal_content_together_and_leave_the_test_closed(tmp_path):
    vectors = np.repeat(np.eye(6, dtype="float32"), 2, axis=0)
    vectors[-2:] = 0
    found = neighbours.folds(vectors, 3)
    assert (found[:10:2] == found[1:10:2]).all()
    assert set(found) == {0, 1, 2}


def test_the_neighbours_script_prints_its_plan_and_says_what_is_missing(
    tmp_path, monkeypatch, capsys
):
    asked = ["--log=experiments/neighbours/youtube.txt", f"--work={tmp_path}", "--seeds=0,1"]
    monkeypatch.setattr("sys.argv", ["neighbours.py", *asked, "--plan"])
    assert neighbours.main() == 0
    assert capsys.readouterr().out.startswith("8 cells of 5 trainings")
    monkeypatch.setattr("sys.argv", ["neighbours.py", *asked, f"--source_dir={tmp_path}/no"])
    assert neighbours.main() == 1
    assert f"{tmp_path}/no" in capsys.readouterr().err


def test_the_page_of_neighbours_is_that_of_its_records():
    place = ROOT / "experiments/neighbours"
    page = neighbours.page(place / "results")
    assert page == (place / "results.md").read_text()
    for log in ("github", "youtube"):
        record = json.loads((place / f"results/{log}.json").read_text())
        lines = [one for one in record["lines"] if one["metric"] == "mse"]
        for one in lines:
            assert f"| {one['value']:.4g} |" in page
        # The rule by its own words: with, at most .95 of without, and the interval below 0.
        cold = [one for one in lines if one["scenario"] == "cold_start"]
        of = {one["system"]: one for one in cold if one["row"] == "mmnet_mixed"}
        helps = of["with"]["value"] <= 0.95 * of["without"]["value"]
        assert not (helps and of["with"]["difference_high"] < 0)


def test_the_films_of_the_posters_need_a_year():
    with pytest.raises(InputError, match=r"must end with its year\. Received: 'Toy Story'"):
        tables.film("1::Toy Story::Comedy")


# ----------------------------------------------------------------- headlines in randomised tests


def test_errors_within_tests_equal_those_by_definition():
    rng = np.random.default_rng(3)
    test = np.repeat([0, 1, 2, 3], [4, 3, 1, 2])
    text = np.array([*"abacaaxzz", "q"])
    truth, predicted = rng.random(10), rng.integers(0, 3, 10).astype(float)
    found = within.measures(truth, predicted, test, text)
    errors, variance, right, number = 0.0, 0.0, 0.0, 0
    for one in (0, 1, 3):  # a test of a single variant says nothing about differences
        rows = [row for row in range(10) if test[row] == one]
        shift = np.mean([truth[row] - predicted[row] for row in rows])
        errors += sum((truth[row] - predicted[row] - shift) ** 2 for row in rows)
        variance += sum((truth[row] - np.mean(truth[rows])) ** 2 for row in rows)
        for i in rows:
            for j in rows:
                if i < j and text[i] != text[j]:
                    number += 1
                    same = predicted[i] == predicted[j]
                    alike = (truth[i] > truth[j]) == (predicted[i] > predicted[j])
                    right += 0.5 if same else float(alike)
    expected = {
        "all": np.mean((truth - predicted) ** 2),
        "within": errors / 9,
        "explained": 1 - errors / variance,
        "pairs": right / number,
    }
    for name, (above, below) in found.items():
        assert within.value(name, above.sum(), below.sum()) == pytest.approx(expected[name])


PLACES = {"cells": "", "items": "items.parquet", "output": "within.md"}


def test_the_page_of_headlines_has_a_line_per_row(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    ids = [f"t{number // 4}/{number % 4}" for number in range(80)]
    truth = rng.random(80)
    for row in ("level", "tokens"):
        for seed in range(2):
            place = tmp_path / f"{row}-{seed}-0-0123456789ab" / "evaluation"
            place.mkdir(parents=True)
            predicted = truth + rng.normal(0, 0.1, 80) if row == "tokens" else 0.5
            frame = {"scenario": "normal", "item_id": ids, "period": "2014-11-17", "clicks": 1000}
            frame |= {"share_rate": truth, "predicted_share_rate": predicted}
            pd.DataFrame(frame).to_parquet(place / "predictions.parquet")
    texts = pd.DataFrame({"item_id": ids, "headline": ids, "lede": ""})
    texts.to_parquet(tmp_path / "items.parquet")
    asked = [f"--{name}={tmp_path / file}" for name, file in PLACES.items()]
    monkeypatch.setattr("sys.argv", ["within.py", *asked])
    assert within.main() == 0
    lines = (tmp_path / "within.md").read_text().splitlines()
    cells = {line.split(" | ")[0]: line for line in lines if line.startswith("| ")}
    assert "80 variants of 20 tests" in "\n".join(lines)
    for row, (least, most) in {"| level": (0, 0), "| tokens": (0.7, 1)}.items():
        explained = [float(one) for one in re.findall(r"-?\d\.\d+", cells[row].split(" | ")[4])]
        value, low, high = explained
        assert low <= value <= high
        assert least <= value <= most
    monkeypatch.setattr("sys.argv", ["within.py", f"--cells={tmp_path}/no", *asked[1:]])
    with pytest.raises(InputError, match="has no predictions; train the experiment first"):
        within.main()
