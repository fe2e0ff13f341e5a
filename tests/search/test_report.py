import json
import math

import numpy as np

from mmnet.config import TrainConfig
from mmnet.flags import parse
from mmnet.search import choosing, report
from mmnet.search.candidates import Candidate, Entry
from mmnet.search.halving import Outcome, Search

SCORES = {"normal_mse": 1.0, "cold_start_mse": 4.0, "noisy_mse": 2.0}
ENTRIES = [
    Entry(Candidate(name, f"the {name} one", (), rank), TrainConfig())
    for rank, name in enumerate(["plain", "best", "late", "broken"])
]
FOUND = Search(
    outcomes={
        "plain": Outcome(0.8, 4, 3, 10.0, 2.0, True, scores=SCORES),
        "best": Outcome(0.7, 0, 0, 3.0, 0.0, True, scores=SCORES),
        "broken": Outcome(math.inf, 0, 0, 1.0, 0.0, True, failed="the loss is nan"),
    },
    stopped={"plain": "all epochs", "best": "fitted", "late": "no time left", "broken": "failed"},
    budget=90.0,
    rungs=(1, 4),
    remarks=["no time was left for late"],
)


def told():
    rows = {"plain": np.full((3, 4), 2.0), "best": np.array([[1.0, 2, 3, 1]] * 3)}
    best, compared = choosing.compare(rows, np.array([0, 0, 1, 1]))
    return report.numbers(
        ENTRIES,
        FOUND,
        compared,
        best=best,
        chosen="plain",
        left_out={"trees": "not installed"},
        remarks=["validation is not cut in two"],
    )


def test_the_page_has_a_row_per_candidate_and_says_who_was_taken():
    page = report.page(told())
    assert page.startswith("# Recipe: plain\n")
    assert (
        "is the simplest candidate within one standard error, and 2 %, of the best one, best"
        in page
    )
    rows = [line for line in page.splitlines() if line.startswith("| ")][1:]
    assert [row.split("|")[1].strip() for row in rows] == ["best", "plain", "late", "broken"]
    assert all(row.count("|") == rows[0].count("|") for row in rows)
    assert "| 1 | 4 | 2 |" in rows[1]
    assert "| 4 (3) | 10 | all epochs |" in rows[1]
    for said in ("validation is not cut", "no time was left for late", "- trees: not installed"):
        assert said in page


def test_a_failed_candidate_makes_no_invalid_json():
    json.dumps(told(), allow_nan=False)


def test_the_flagfile_has_what_was_given_and_what_was_chosen():
    flags = TrainConfig(counts="c.csv", epochs=4, set=("evidence=true",), run_dir="here")
    text = report.flagfile(flags, {"counts", "epochs", "set"}, told())
    lines = text.splitlines()
    assert lines[0].startswith("# plain, found by --recipe=auto")
    assert parse(TrainConfig, lines[1:]) == flags.model_copy(update={"run_dir": ""})
