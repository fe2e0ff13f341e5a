import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmnet.mma4ctr.evaluation import metrics

reference = pytest.importorskip("sklearn.metrics")


def drawn(seed, rows=60, levels=8):
    draw = np.random.default_rng(seed)
    label = draw.integers(0, 2, rows)
    label[:2] = 0, 1
    return label, draw.integers(0, levels, rows) / levels, draw.integers(0, 6, rows)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=50)
def test_ranking_metrics_agree_with_scikit_learn_ties_and_all(seed):
    label, score, user = drawn(seed)
    assert metrics.auc(label, score) == pytest.approx(reference.roc_auc_score(label, score))
    assert metrics.pr_auc(label, score) == pytest.approx(
        reference.average_precision_score(label, score)
    )
    own = [
        reference.roc_auc_score(label[user == one], score[user == one])
        for one in np.unique(user)
        if 0 < label[user == one].sum() < (user == one).sum()
    ]
    mean, users = metrics.user_auc(label, score, user)
    assert (mean, users) == (pytest.approx(np.mean(own)), len(own))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_ranking_metrics_are_what_their_definitions_count(seed):
    label, score, _ = drawn(seed)
    positive, negative = score[label == 1], score[label == 0]
    pairs = [(p > n) + (p == n) / 2 for p in positive for n in negative]
    assert metrics.auc(label, score) == pytest.approx(np.mean(pairs), rel=1e-12)
    # The precision among the rows that score at least as much, at each positive.
    precision = [label[score >= p].mean() for p in positive]
    assert metrics.pr_auc(label, score) == pytest.approx(np.mean(precision), rel=1e-12)


@given(st.integers(0, 2**32 - 1))
def test_log_loss_agrees_with_scikit_learn(seed):
    label, score, _ = drawn(seed, levels=10**6)
    least = float(np.finfo(np.float32).eps)
    expected = reference.log_loss(label, np.clip(score, least, 1 - least))
    assert metrics.log_loss(label, score) == pytest.approx(expected, rel=1e-9)


def test_a_certain_error_costs_what_was_published():
    # -ln of float32's epsilon; and for RecBole's clipping at 1e-15.
    assert metrics.log_loss(np.array([0]), np.array([1.0])) == pytest.approx(15.942, abs=5e-4)
    assert metrics.log_loss(np.array([1]), np.array([0.0])) == pytest.approx(15.942, abs=5e-4)
    found = metrics.log_loss(np.array([1]), np.array([0.0]), metrics.RECBOLE_EPSILON)
    assert found == pytest.approx(15 * np.log(10))


def test_a_constant_scores_chance():
    label = np.array([1, 0, 0, 0])
    assert metrics.auc(label, np.ones(4)) == 0.5
    assert metrics.pr_auc(label, np.ones(4)) == 0.25
    assert metrics.user_auc(label, np.ones(4), np.array([1, 1, 2, 2])) == (0.5, 1)


def test_what_is_not_defined_is_nan():
    assert np.isnan(metrics.auc(np.zeros(3), np.arange(3)))
    assert np.isnan(metrics.pr_auc(np.zeros(3), np.arange(3)))
    assert metrics.user_auc(np.array([0, 1]), np.arange(2), np.arange(2))[1] == 0


def test_a_score_of_users_alone_is_worth_nothing_within_them():
    user = np.repeat(np.arange(50), 20)
    rate = np.linspace(0.05, 0.95, 50)
    label = np.random.default_rng(0).random(1000) < rate[user]
    assert metrics.auc(label, rate[user]) > 0.75
    assert metrics.user_auc(label, rate[user], user)[0] == 0.5


def test_logistic_regression_agrees_with_scikit_learn():
    linear = pytest.importorskip("sklearn.linear_model")
    draw = np.random.default_rng(0)
    columns = draw.normal(size=(500, 3)) * [1, 10, 0.1]
    label = draw.random(500) < 1 / (1 + np.exp(-columns @ [1, -0.1, 5] + 2))
    found = metrics.logistic(columns, label, ridge=0)
    theirs = linear.LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(columns, label)
    np.testing.assert_allclose(found[1:], theirs.coef_[0], rtol=1e-3)
    np.testing.assert_allclose(found[0], theirs.intercept_[0], rtol=1e-3)


@pytest.mark.parametrize("ridge", [0, 1e-6, 1e-2])
def test_the_likelihood_of_a_logistic_regression_is_flat_where_it_ends(ridge):
    draw = np.random.default_rng(1)
    columns = draw.normal(size=(400, 2)) * [3, 0.2] + [5, -1]
    label = draw.random(400) < 0.1
    found = metrics.logistic(columns, label, ridge=ridge)
    residual = metrics.predict_logistic(found, columns) - label
    standard = (columns - columns.mean(axis=0)) / columns.std(axis=0)
    pull = ridge * len(label) * found[1:] * columns.std(axis=0)
    np.testing.assert_allclose(residual.sum(), 0, atol=1e-6)
    np.testing.assert_allclose(residual @ standard + pull, 0, atol=1e-6)


def test_separable_rows_stay_finite():
    found = metrics.logistic(np.arange(20.0)[:, None], np.arange(20) > 9)
    assert np.isfinite(found).all()


def test_calibration_finds_the_level_that_the_loss_does_not_know():
    draw = np.random.default_rng(0)
    truth = draw.beta(1, 30, 200_000)
    label = draw.random(200_000) < truth
    shifted = 1 / (1 + np.exp(-(2 * metrics.logit(truth) + 6)))
    calibrated = metrics.platt(label, shifted)(shifted)
    # Where each probability is right, LogLoss is least; 200,000 rows fix two numbers well.
    best = metrics.log_loss(label, truth)
    assert metrics.log_loss(label, shifted) > 2 * best
    assert metrics.log_loss(label, calibrated) == pytest.approx(best, rel=2e-3)
    constant = metrics.platt(label, np.full(200_000, 0.7))
    assert constant(np.array([0.7]))[0] == pytest.approx(label.mean())


def test_recboles_log_loss_takes_any_output_for_a_probability():
    user, calibration = np.zeros(4, int), metrics.Platt(1.0, 0.0)
    label = np.array([1, 0, 1, 0])

    def raw(output):
        found = metrics.report(label, np.full(4, 0.5), user, calibration, np.array(output))
        return found[metrics.RAW]

    # As many positives as negatives: outputs of 1 or more cost a half of ln 1e15 everywhere.
    assert raw([5.0, 5.0, 7.0, 1.0]) == pytest.approx(np.log(1e15) / 2, abs=1e-3)
    assert raw([0.5] * 4) == pytest.approx(np.log(2))
    # One by one: 1 + 1e-15 has no loss, and 1 - 1e-15 is known to 1e-16 only, a tenth of it.
    expected = np.mean([np.log(1e15), -np.log(1 - 0.25), -np.log(0.75), 0.0])
    assert raw([-3.0, 0.25, 0.75, -8.0]) == pytest.approx(expected)


def test_outputs_rank_the_rows_where_they_are_given():
    label, user, calibration = np.array([1, 0, 1, 0]), np.zeros(4, int), metrics.Platt(1.0, 0.0)
    saturated = np.ones(4)
    plain = metrics.report(label, saturated, user, calibration)
    assert plain["auc"] == 0.5
    assert metrics.RAW not in plain
    found = metrics.report(label, saturated, user, calibration, np.array([40.0, 30.0, 50.0, 45.0]))
    assert found["auc"] == found["user_auc"] == 0.75
