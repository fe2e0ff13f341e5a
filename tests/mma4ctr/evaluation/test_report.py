import json

import numpy as np
import pytest
from pydantic import ValidationError

from mmnet.mma4ctr.evaluation import metrics
from mmnet.mma4ctr.evaluation.metrics import Platt
from mmnet.mma4ctr.evaluation.report import Report

LABEL, SCORE, USER = np.array([0, 1, 0]), np.array([0.2, 0.6, 0.6]), np.array([5, 5, 7])
SCORES = metrics.report(LABEL, SCORE, USER, Platt(1.0, 0.0))
DOCUMENT = {
    "protocol": "c1",
    "seed": 3,
    "model": "mma4ctr",
    "in_features": 194,
    "parameters": 29_225,
    "epoch": 2,
    "test": SCORES,
    "references": {"user rate": SCORES | {"auc": float("nan"), "validation_auc": 0.5}},
    "at_epoch": {"1": SCORES},
}


def test_the_document_is_written_as_it_has_always_been():
    report = Report.model_validate(json.loads(json.dumps(DOCUMENT)))
    assert json.dumps(report.model_dump(), indent=1) == json.dumps(DOCUMENT, indent=1)


def test_a_record_without_epochs_reads_and_one_without_metrics_is_refused():
    without = {name: value for name, value in DOCUMENT.items() if name != "at_epoch"}
    assert Report.model_validate(without).at_epoch == {}
    with pytest.raises(ValidationError, match="test"):
        Report.model_validate({name: without[name] for name in without if name != "test"})


def test_the_table_has_the_model_first_and_then_its_references():
    _, _, first, second = Report.model_validate(DOCUMENT).table().splitlines()
    # One of two pairs is right and one ties; the only user with both kinds has the order right.
    assert first.startswith("| MMa4CTR, c1 | 0.7500 | 1.0000 | 0.5000 | ")
    assert first.endswith(" | 3 | 1 |")
    assert second.startswith("| user rate | nan | 1.0000 | ")


@pytest.mark.parametrize(("model", "title"), [("mma4ctr", "MMa4CTR, p0"), ("bpr", "bpr, p0")])
def test_a_baseline_has_its_own_name(model, title):
    assert Report.model_validate(DOCUMENT | {"model": model, "protocol": "p0"}).title == title


def test_recboles_log_loss_has_a_column_where_it_was_computed():
    scores = metrics.report(LABEL, SCORE, USER, Platt(1.0, 0.0), np.array([2.0, 0.5, 0.25]))
    header, _, first, second = (
        Report.model_validate(DOCUMENT | {"test": scores}).table().splitlines()
    )
    assert header.endswith("| calibrated | raw LogLoss | rows | positives |")
    # -(ln 1e-15 + ln 0.5 + ln 0.75) / 3, where 1 - (1 - 1e-15) is 9.99e-16.
    assert first.endswith("| 11.8401 | 3 | 1 |")
    assert second.endswith("|  | 3 | 1 |")
