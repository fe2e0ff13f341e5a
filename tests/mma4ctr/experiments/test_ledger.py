import runpy
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from mmnet.mma4ctr.experiments import ledger, paper
from mmnet.mma4ctr.experiments.ledger import (
    DIFFERS,
    EARLIER,
    EQUAL,
    NOT_COMPARABLE,
    NOT_RECORDED,
    NOT_RUN,
    OPEN,
    REFERENCE,
    SAME,
)
from mmnet.mma4ctr.experiments.records import Change
from tests.mma4ctr.experiments.kept import keep

FOLDER = Path(__file__).parents[3] / "experiments" / "mma4ctr"


def write(monkeypatch, *arguments):
    """Runs the command."""
    monkeypatch.setattr(sys, "argv", ["ledger.py", *arguments])
    runpy.run_path(str(FOLDER / "ledger.py"), run_name="__main__")


def test_the_page_in_the_repository_is_the_one_that_the_command_writes(monkeypatch, tmp_path):
    write(monkeypatch, f"--output={tmp_path}")
    for name in ("ledger.md", "claims.json"):
        assert (tmp_path / name).read_bytes() == (FOLDER / name).read_bytes(), (
            "run python experiments/mma4ctr/ledger.py"
        )


def test_a_damaged_record_ends_the_command_with_a_sentence(monkeypatch, tmp_path):
    keep(tmp_path, "wechat_length", {("length_5", 10): ["high"]})
    with pytest.raises(SystemExit, match=r"error: .*results.csv, line 2: auc must be") as ended:
        write(monkeypatch, f"--records={tmp_path}", f"--output={tmp_path}")
    assert isinstance(ended.value.code, str)  # Python prints it, and its exit code is 1
    assert not (tmp_path / "ledger.md").exists()


def test_without_records_nothing_has_been_run(tmp_path):
    found = ledger.lines(ledger.Repository(tmp_path))
    assert ledger.counts(found) == {NOT_RUN: 544}
    assert "544 have no counterpart" in ledger.markdown(ledger.Repository(tmp_path), "")


def test_every_published_number_has_one_line_with_a_status_of_the_list():
    found = ledger.lines(ledger.Repository(FOLDER))
    places = Counter((id(line.table), line.row, line.epoch) for line in found)
    assert set(places.values()) == {1}
    assert len(found) == 544
    assert ledger.counts(found).keys() <= ledger.STATUSES.keys()
    for line in found:
        assert line.table.at(line.row, line.epoch) == line.published


def naive_noise(dataset):
    """Variance of a published difference, by a loop."""
    squares, freedom = 0.0, 0
    for values in paper.repeats(dataset):
        for value in values:
            squares += (value - sum(values) / len(values)) ** 2
        freedom += len(values) - 1
    return 2 * squares / freedom, freedom


@pytest.mark.parametrize("dataset", paper.DATASETS)
def test_the_noise_is_pooled_over_repeated_configurations(dataset):
    found = ledger.noise(dataset)
    assert (found.variance, found.freedom) == pytest.approx(naive_noise(dataset), rel=1e-12)


def naive_status(published, changes, variance, freedom):
    """The rule, written as it is read."""
    width = stats.t.ppf(0.975, freedom) * variance**0.5
    mean, error = np.mean(changes), np.std(changes, ddof=1) / len(changes) ** 0.5
    reach = stats.t.ppf(0.975, len(changes) - 1) * error
    if published < -width and mean + reach <= -width:
        return SAME
    if published > width and mean - reach >= width:
        return SAME
    if abs(published) <= width and mean - reach >= -width and mean + reach <= width:
        return SAME
    total = variance + error**2
    welch = total**2 / (variance**2 / freedom + error**4 / (len(changes) - 1))
    test = abs(published - mean) / total**0.5
    return DIFFERS if 2 * stats.t.sf(test, welch) < 0.05 else OPEN


def test_the_status_of_a_change_is_that_of_the_rule():
    draw = np.random.default_rng(0)
    variance, freedom = naive_noise("wechat")
    error, seen = Change(0.0, variance, freedom), Counter()
    for _ in range(400):
        published, mean = draw.normal(0, 0.04, 2)
        changes = draw.normal(mean, draw.choice([0.001, 0.01, 0.05]), draw.integers(2, 8))
        found = ledger.status_of_change(published, Change.of(dict(enumerate(changes))), error)
        assert found == naive_status(published, changes, variance, freedom)
        seen[found] += 1
    assert min(seen[status] for status in (SAME, DIFFERS, OPEN)) > 40


def test_one_seed_and_no_seed_decide_no_change():
    error = ledger.noise("wechat")
    assert ledger.status_of_change(0.3, Change.of({0: -0.3}), error) == OPEN
    assert ledger.status_of_change(0.3, None, error) == NOT_RUN


@pytest.mark.parametrize(
    ("published", "changes", "status"),
    [
        ([0.1, 0.2], [0.04, 0.05, 0.06], SAME),
        ([-0.1, -0.2], [0.04, 0.05, 0.06], DIFFERS),
        ([0.1, 0.2], [-0.5, 0.5, 0.0], OPEN),
        ([0.1], [0.04], OPEN),
        ([0.1, -0.2], [0.04, 0.05, 0.06], f"{NOT_COMPARABLE}: the README's two tables disagree"),
        ([0.1], [], NOT_RUN),
    ],
)
def test_baselines_are_compared_by_their_sign(published, changes, status):
    assert ledger.status_of_order(published, Change.of(dict(enumerate(changes)))) == status


@pytest.mark.parametrize(
    ("published", "losses", "status"),
    [
        (17.2, [16.9, 17.0, 17.1], SAME),
        (0.6, [16.9, 17.0, 17.1], DIFFERS),
        (0.6, [0.4, 0.5, 0.6], SAME),
        (0.6, [0.1, 0.9, 2.0], OPEN),
        (0.6, [], NOT_RUN),
    ],
)
def test_losses_of_raw_scores_are_compared_by_their_side_of_1(published, losses, status):
    assert ledger.status_of_loss(published, Change.of(dict(enumerate(losses)))) == status


def statuses(folder, kind, metric="auc", dataset="wechat"):
    found = ledger.lines(ledger.Repository(folder))
    return {
        (line.row, line.epoch): line.status
        for line in found
        if (line.table.dataset, line.table.kind, line.table.metric) == (dataset, kind, metric)
    }


def test_lengths_are_compared_with_21_at_the_same_epoch(tmp_path):
    aucs = {
        ("length_21", 10): [0.90, 0.92],
        ("length_0", 10): [0.50, 0.52],  # published .34 lower
        ("length_5", 10): [0.50, 0.52],  # published level
        ("length_11", 10): [0.901, 0.921],
        ("length_15", 10): [0.80, 1.0],
    }
    keep(tmp_path, "wechat_length", aucs)
    found = statuses(tmp_path, "length")
    names = ("length_21", "length_0", "length_5", "length_11", "length_15", "length_30")
    assert [found[row, 10] for row in names] == [REFERENCE, SAME, DIFFERS, SAME, OPEN, NOT_RUN]
    assert {found[row, 30] for row in names} == {NOT_RUN}


def test_epochs_are_compared_with_epoch_10(tmp_path):
    aucs = {("vat_concat", 10): [0.90, 0.92], ("vat_concat", 100): [0.86, 0.88]}
    keep(tmp_path, "wechat_epochs", aucs)
    found = statuses(tmp_path, "epochs")
    assert found["vat_concat", 10] == REFERENCE
    assert found["vat_concat", 100] == SAME  # published .042 lower
    assert found["vat_concat", 50] == NOT_RUN


def test_modalities_are_compared_with_the_published_length_21(tmp_path):
    aucs = {("vat_concat", 10): [0.90, 0.92], ("textual", 10): [0.80, 0.82]}
    keep(tmp_path, "wechat_fusion", aucs)
    (line,) = (
        line
        for line in ledger.lines(ledger.Repository(tmp_path))
        if (line.table.dataset, line.row, line.epoch) == ("wechat", "textual", 10)
    )
    assert line.published_change == pytest.approx(0.8862324331783548 - 0.9527299209116211)
    assert (line.change.value, line.status) == (pytest.approx(-0.1), SAME)


def test_counts_are_equal_or_differ_or_are_of_other_columns(tmp_path):
    row = {("mma4ctr", "chosen"): [0.9]}
    for columns, parameters, status in (
        (194, 29_225, EQUAL),
        (194, 29_226, DIFFERS),
        (190, 28_713, f"{NOT_COMPARABLE}: 190 columns instead of the published ones"),
    ):
        keep(tmp_path, "wechat_comparison", row, in_features=columns, parameters=parameters)
        assert statuses(tmp_path, "cost", "parameters")["mma4ctr", None] == status


@pytest.mark.parametrize("state", [False, True])
def test_baselines_of_before_are_said_to_be_of_an_earlier_definition(tmp_path, state):
    aucs = {("bpr", "chosen"): [0.5, 0.6], ("mma4ctr", "chosen"): [0.8, 0.9]}
    keep(tmp_path, "baselines", aucs, state=state)
    found, table = ledger.Repository(tmp_path), paper.table("wechat", "comparison")
    status = ledger.labelled(table, "bpr", found)[1]
    assert status.startswith(NOT_COMPARABLE if state else EARLIER)
    assert ledger.labelled(table, "mma4ctr", found)[1].startswith(NOT_COMPARABLE)
    assert ledger.labelled(table, "din", found) == (None, NOT_RUN)


def test_the_comparison_by_recboles_definitions(tmp_path):
    aucs = {
        ("BPR", "chosen"): [0.60, 0.61, 0.62],
        ("FPMC", "chosen"): [0.70, 0.71, 0.72],  # published higher in both tables
        ("DIN", "chosen"): [0.50, 0.51, 0.52],  # published higher in both
        ("LightGCN", "chosen"): [0.70, 0.71, 0.72],  # published lower in both
        ("MMa4CTR", "chosen"): [0.5, 0.5, 0.5],
    }
    keep(tmp_path, "recbole", aucs, state=True, log_loss_raw=17.0, training_seconds=2.5)
    found = statuses(tmp_path, "comparison")
    assert [found[row, 30] for row in ("bpr", "fpmc", "din", "lightgcn", "dien")] == [
        *(REFERENCE, SAME, DIFFERS, DIFFERS, NOT_RUN)
    ]
    assert found["fpmc", 10] == f"{NOT_COMPARABLE}: validation chose our epoch"
    losses = statuses(tmp_path, "comparison", "log_loss")
    assert [losses[row, 30] for row in ("fpmc", "din")] == [SAME, DIFFERS]
    assert statuses(tmp_path, "cost", "train_seconds")["din", None].startswith(NOT_COMPARABLE)
    assert statuses(tmp_path, "cost", "test_seconds")["din", None] == NOT_RECORDED
    assert set(statuses(tmp_path, "comparison", dataset="tiktok").values()) == {NOT_RUN}
