import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mmnet.evaluation import classification
from mmnet.evaluation.classification import Scored
from mmnet.evaluation.significance import Measure
from mmnet.mma4ctr.evaluation import metrics
from mmnet.mma4ctr.experiments.tables import INFLUENCES

sklearn = pytest.importorskip("sklearn.metrics")


def drawn(seed, rows=40, levels=8, users=6):
    """Rows of both labels, many of equal scores."""
    draw = np.random.default_rng(seed)
    label = draw.integers(0, 2, rows)
    label[:2] = 0, 1
    score = draw.integers(1, levels, rows) / levels
    return Scored(label, score, score**2, draw.integers(0, users, rows))


def change(metric, rows, at, step=1e-4):
    """d metric / d weight of one row, by scikit-learn's sample weights."""

    def value(by):
        weights = np.ones(len(rows.label))
        weights[at] += by
        return metric(rows.label, rows.probability, sample_weight=weights)

    return (value(step) - value(-step)) / (2 * step)


@pytest.mark.parametrize(
    ("influence", "metric"),
    [
        (classification.auc_influence, sklearn.roc_auc_score),
        (classification.average_precision_influence, sklearn.average_precision_score),
        (INFLUENCES["log_loss"], sklearn.log_loss),
    ],
)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=5, deadline=None)
def test_an_influence_is_the_derivative_by_the_weight_of_a_row(influence, metric, seed):
    rows = drawn(seed)
    found = influence(rows)
    expected = [change(metric, rows, at) for at in range(len(rows.label))]
    # Central differences of smooth functions at 1e-4 are right to about 1e-8.
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.sum() == pytest.approx(0, abs=1e-12)  # a weight for all changes nothing


def test_the_influence_on_user_auc_is_that_of_whole_users():
    rows = drawn(3)
    aucs = metrics.aucs_by_user(rows.label, rows.probability, rows.user)
    by_user = np.bincount(rows.user, INFLUENCES["user_auc"](rows))
    both = ~np.isnan(aucs)
    np.testing.assert_allclose(by_user[both], (aucs[both] - aucs[both].mean()) / both.sum())
    assert not by_user[~both].any()


def measured(runs, metric="auc", value=sklearn.roc_auc_score):
    values = {
        metric: {name: [value(r.label, r.probability) for r in mine] for name, mine in runs.items()}
    }
    return classification.measures(runs, values, {metric: INFLUENCES[metric]})["test", metric]


def test_with_a_row_per_user_the_variance_of_auc_is_delongs():
    draw = np.random.default_rng(0)
    label = np.repeat([0, 1], [300, 60])
    score = draw.normal(label)
    rows = Scored(label, score, score, np.arange(360))
    above = (score[label == 1][:, None] > score[label == 0]).astype(float)
    delong = np.var(above.mean(axis=1), ddof=1) / 60 + np.var(above.mean(axis=0), ddof=1) / 300
    found = measured({"one": [rows]})
    # They divide by the number of positives less one, the jackknife does not: 1 part in 60.
    assert found.interval("one").error ** 2 == pytest.approx(delong, rel=0.02)
    assert not found.interval("one").seed_variance_known


def test_rows_that_a_user_repeats_are_worth_no_more_than_once():
    once = drawn(1, rows=200, users=50)
    twice = Scored(*(np.repeat(part, 2) for part in _arrays(once)))
    assert measured({"a": [twice]}).interval("a").error == pytest.approx(
        measured({"a": [once]}).interval("a").error
    )


def _arrays(rows):
    return rows.label, rows.probability, rows.calibrated, rows.user


def test_equal_users_of_two_logs_are_two_clusters():
    first, second = drawn(1, rows=200, users=50), drawn(2, rows=200, users=50)
    apart = [Scored(*_arrays(first), "a"), Scored(*_arrays(second), "b")]
    variance = {
        name: (found := measured({name: runs})).variance(found.samples[name].mean(axis=0))
        for name, runs in {"one": [first], "other": [second], "both": apart}.items()
    }
    # The mean of two independent values; G / (G - 1) is of 100 users instead of 50.
    expected = (variance["one"] + variance["other"]) / 4
    assert variance["both"] == pytest.approx(expected, rel=0.02)


def test_what_all_systems_share_of_a_seed_is_not_in_their_difference():
    logs = [drawn(seed, rows=300, users=60) for seed in range(4)]
    lower = [
        Scored(r.label, r.probability * 0.9 + 0.1 * (1 - r.label), *_arrays(r)[2:]) for r in logs
    ]
    runs = {"a": logs, "b": lower}
    found = measured(runs)
    paired = found.difference("a", "b")
    assert paired.value == pytest.approx(np.mean(found.seeds["a"]) - np.mean(found.seeds["b"]))
    assert paired.error < Measure.difference(found, "a", "b").error
    # A system with fewer seeds is compared by user alone.
    fewer = measured({"a": logs, "b": lower[:2]})
    assert fewer.difference("a", "b") == Measure.difference(fewer, "a", "b")


def test_seeds_with_a_log_each_leave_a_paired_t_test_over_seeds():
    """All that users differ in is then in the seeds, and is not added a second time."""
    draw = np.random.default_rng(0)
    first = [drawn(seed, rows=300, users=60) for seed in range(5)]
    runs = {"a": [], "b": []}
    for number, rows in enumerate(first):
        other = np.clip(rows.probability + draw.normal(0, 0.1, 300), 0, 1)
        runs["a"].append(Scored(*_arrays(rows), f"log {number}"))
        runs["b"].append(Scored(rows.label, other, other, rows.user, f"log {number}"))
    found = measured(runs)
    change = found.seeds["a"] - found.seeds["b"]
    paired = found.difference("a", "b")
    assert paired.error == pytest.approx(np.std(change, ddof=1) / 5**0.5)
    assert paired.p == pytest.approx(stats.ttest_1samp(change, 0).pvalue, rel=1e-3)


def test_an_interval_covers_the_true_auc_where_users_are_few_and_differ():
    draw = np.random.default_rng(0)
    inside = 0
    truth = 0.7509  # of two users with shifts of sd 0.3: Φ(1 / √(2 + 2 · 0.09))
    for _ in range(400):
        user = np.repeat(np.arange(40), 12)
        label = (draw.random(480) < 0.15).astype(int)
        score = draw.normal(label) + 0.3 * draw.normal(size=40)[user]
        probability = 1 / (1 + np.exp(-score))
        found = measured({"a": [Scored(label, probability, probability, user)]}).interval("a")
        inside += found.low <= truth <= found.high
    # Binomial error of 400 draws at 95 % is 1.1 points; the linearisation costs about one more.
    assert 0.92 <= inside / 400 <= 0.98


def test_rows_of_one_label_are_refused():
    one = np.ones(3)
    with pytest.raises(ValueError, match="must contain both 0 and 1"):
        Scored(one, one, one, one)
