"""The page of a run of MMa4CTR has the numbers of metrics.json."""

import numpy as np
import pytest

from mmnet.evaluation import html_page
from mmnet.mma4ctr.evaluation import html_report, metrics
from mmnet.mma4ctr.evaluation.html_report import METRICS, Evaluated, auc_interval
from mmnet.mma4ctr.evaluation.metrics import Platt
from mmnet.mma4ctr.evaluation.report import Report
from tests.pages import Page

USER = np.repeat(np.arange(50), 8)
LABEL = np.arange(400) % 2
SCORE = np.clip(0.3 + 0.2 * LABEL + 0.2 * np.random.default_rng(0).normal(size=400), 0.01, 0.99)


def rows(label=LABEL, user=USER):
    return {
        "label": label,
        "probability": SCORE,
        "calibrated_probability": SCORE,
        "user_id": user,
    }


def report(label=LABEL):
    test = metrics.report(label, SCORE, USER, Platt(1.0, 0.0))
    worse = metrics.report(label, np.full(400, 0.5), USER, Platt(1.0, 0.0))
    return Report(
        protocol="c1",
        seed=3,
        model="mma4ctr",
        in_features=194,
        parameters=29_225,
        epoch=2,
        test=test,
        references={"user rate": worse, "planted probability": test},
        at_epoch={"1": worse},
    )


def test_every_number_is_that_of_the_report():
    found = report()
    made = html_report.page(Evaluated(found, rows(), "like", {}, {}))
    page = Page(html_page.render(made))
    shown = page.values("The model and rates that need no network, on the same test rows")
    for name, scores in {"MMa4CTR, c1": found.test, **found.references}.items():
        assert shown[name] == [*(scores[metric] for metric in METRICS), 400, 200]
    assert page.values("Test metrics by epoch")["1"][0] == 0.5
    tenths = page.values("Predicted and observed share of positives by tenth")
    assert [row[0] for row in tenths.values()] == [40] * 10
    # The planted probability is no competitor, so the best rate is chance.
    assert f"AUC is {found.test['auc']:.4f}" in made.summary[0]
    assert "above the best of the rates (user rate, 0.5000)" in made.summary[0]


def test_the_interval_of_one_row_per_user_is_that_of_delong():
    value = metrics.auc(LABEL, SCORE)
    found = auc_interval(rows(user=np.arange(400)), value)
    below = [(SCORE[LABEL == 1][:, None] > SCORE[LABEL == 0]).mean(axis=n) for n in (1, 0)]
    error = np.sqrt(sum(np.var(part, ddof=1) / 200 for part in below))
    assert found.low < value < found.high
    # Another divisor, of users rather than of the rows of a label.
    assert found.error == pytest.approx(error, rel=0.005)


def test_rows_of_one_label_have_no_interval():
    found = report(np.zeros(400, int))
    made = html_report.page(Evaluated(found, rows(np.zeros(400, int)), "like", {}, {}, ["note: a"]))
    text = html_page.render(made)
    assert made.summary[-1] == "Note: a"
    assert "nan" not in Page(text).text
