"""Significance against naive loops, statsmodels, and simulations in which the truth is known."""

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from experiments.significance import level_and_power
from mmnet.evaluation.precision import precision_at
from mmnet.evaluation.significance import (
    ENOUGH,
    Clusters,
    Predictions,
    align,
    combine,
    half_width,
    measure_mse,
    measure_precision,
    repeated,
)


def upper(level, tries):
    """What a rejection rate of at most `level` stays below but in one of 700 simulations."""
    return level + 3 * np.sqrt(level * (1 - level) / tries)


def simulated(rng, systems, items=40, per_item=6, item_sd=1.0, seed_sd=0.1, shift=None):
    """Systems of one expected error, {name: seeds}; 0 seeds is a deterministic one.

    Every error is 1 + item + noise, so that squared errors rise and fall with the item; a seed
    makes all of its squared errors larger or smaller by a part of sd `seed_sd`. Their mean is
    2 + item_sd², plus the `shift` of a system.
    """
    item = np.repeat(np.arange(items), per_item)
    truth = np.full(len(item), 5.0)
    predicted = {}
    for name, seeds in systems.items():
        runs = max(seeds, 1)
        error = 1 + rng.normal(0, item_sd, items)[item] + rng.normal(0, 1, (runs, len(item)))
        larger = 1 + rng.normal(0, seed_sd if seeds else 0, (runs, 1))
        larger = larger * (1 + (shift or {}).get(name, 0) / (2 + item_sd**2))
        predicted[name] = truth + np.sqrt(larger) * error
    fixed = frozenset(name for name, seeds in systems.items() if not seeds)
    return Predictions(truth, item, np.tile(np.arange(per_item), items), predicted, fixed)


def small(**predicted):
    """Two items in two periods; hand-sized."""
    predicted = {name: np.array(runs, float) for name, runs in predicted.items()}
    item, period = np.array(["x", "x", "y", "y"]), np.array([0, 1, 0, 1])
    return Predictions(np.array([1.0, 2.0, 3.0, 4.0]), item, period, predicted)


# ------------------------------------------------------------------------------- same rows


def cell(predicted, scenarios=("normal", "cold_start"), **columns):
    base = {
        "item_id": ["x", "x", "y"],
        "period": pd.to_datetime(["2024-01-01", "2024-01-08", "2024-01-01"]),
        "share_rate": [1.0, 2.0, 3.0],
        "predicted_share_rate": predicted,
    }
    return pd.concat([pd.DataFrame({**base, **columns, "scenario": s}) for s in scenarios])


def test_aligns_cells_by_item_and_period_in_any_order_of_rows():
    cells = [("a", cell([1, 2, 3])), ("b", cell([4, 5, 6])), ("b", cell([7, 8, 9])[::-1])]
    found = align(iter(cells), deterministic={"a"})
    assert list(found) == ["normal", "cold_start"]
    for predictions in found.values():
        assert predictions.predicted["a"].tolist() == [[1, 2, 3]]
        assert predictions.predicted["b"].tolist() == [[4, 5, 6], [7, 8, 9]]
        assert predictions.truth.tolist() == [1, 2, 3]
        assert predictions.trained_once == set()


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (cell([1, 2, 3]).drop(columns="period"), "b lacks the column period"),
        (cell([1, 2, 3], scenarios=["normal"]), "same scenarios"),
        (cell([1, 2, 3]).iloc[1:], "b in normal has 2 rows, which include 2 of the first cell's 3"),
        (cell([1, 2, 3], item_id=["x", "x", "z"]), "b in normal has 3 rows, which include 2"),
        (cell([1, 2, 3], item_id=["x", "y", "y"], period=[0, 1, 1]), "two of .* in a cell of b"),
        (
            cell([1, 2, 3], share_rate=[1, 2.1, 3]),
            r"a different share_rate in 1 rows.*'x', .*01-08",
        ),
        (cell([1, 2, np.nan]), "finite"),
    ],
)
def test_refuses_cells_that_cannot_be_compared(other, message):
    with pytest.raises(ValueError, match=message):
        align([("a", cell([1, 2, 3])), ("b", other)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"predicted": {}}, "one system"),
        ({"predicted": {"a": np.ones(4)}}, "seeds, 4 rows"),
        ({"predicted": {"a": np.ones((0, 4))}}, "seeds, 4 rows"),
        ({"period": np.zeros(4)}, "a duplicate pair"),
        ({"item": np.zeros(3)}, "one shape"),
        ({"predicted": {"a": np.eye(4)}, "deterministic": {"a"}}, "a, whose runs differ"),
    ],
)
def test_refuses_predictions_that_contradict_themselves(change, message):
    base = {
        "truth": np.ones(4),
        "item": np.array([0, 0, 1, 1]),
        "period": np.array([0, 1, 0, 1]),
        "predicted": {"a": np.ones((1, 4))},
    }
    with pytest.raises(ValueError, match=message):
        Predictions(**base | change)


# --------------------------------------------------------------------------- test rows' luck


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_clustered_variances_are_those_of_statsmodels(seed):
    rng = np.random.default_rng(seed)
    item, period = rng.integers(0, 12, 90), rng.integers(0, 7, 90)
    rows = np.unique(np.column_stack([item, period]), axis=0)  # one row per item and period
    item, period = rows.T
    # Strong effects of both ways, so that the two-way variance seldom needs its floor.
    values = rng.normal(0, 2, 12)[item] + rng.normal(0, 2, 7)[period] + rng.normal(size=len(rows))

    def theirs(groups):
        ols = sm.OLS(values, np.ones(len(values)))
        return ols.fit(cov_type="cluster", cov_kwds={"groups": groups}).cov_params()[0, 0]

    assert Clusters(item).variance(values) == pytest.approx(theirs(item), rel=1e-9)
    expected = max(theirs(rows), theirs(item), theirs(period))
    assert Clusters(item, period).variance(values) == pytest.approx(expected, rel=1e-9)


def test_two_way_variance_is_the_sum_where_both_ways_matter():
    # Items by periods, value = item + period: V_both is what both ways count twice.
    item, period = (axis.ravel() for axis in np.indices((2, 2)))
    values = np.array([0.0, 1.0, 1.0, 2.0])
    # Residuals -1 0 0 1: sums by item ∓1, so 2 · 2 / 16; by period the same; rows 4/3 · 2 / 16.
    one_way, both = 2 * 2 / 16, 4 / 3 * 2 / 16
    assert Clusters(item).variance(values) == pytest.approx(one_way)
    assert Clusters(item, period).variance(values) == pytest.approx(2 * one_way - both)


def test_two_way_variance_below_zero_becomes_the_larger_one_way_variance():
    item, period = (axis.ravel() for axis in np.indices((2, 2)))
    values = np.array([1.0, -1.0, -1.0, 1.5])  # rows cancel within items and periods
    rows = Clusters(np.arange(4)).variance(values)
    by_item, by_period = Clusters(item).variance(values), Clusters(period).variance(values)
    assert by_item + by_period - rows < 0
    assert Clusters(item, period).variance(values) == max(by_item, by_period)


def test_degrees_of_freedom_count_clusters_of_one_size_and_fewer_of_unequal_ones():
    assert Clusters(np.repeat(np.arange(10), 3)).freedom == pytest.approx(9)
    assert Clusters(np.repeat([0, 1, 2], [1, 1, 100])).freedom < 0.01
    item, period = (axis.ravel() for axis in np.indices((50, 4)))
    assert Clusters(item, period).freedom == pytest.approx(3)


def test_refuses_a_single_cluster():
    with pytest.raises(ValueError, match="`item` must have at least two"):
        Clusters(np.zeros(3))
    with pytest.raises(ValueError, match="`period` must have at least two values"):
        Clusters(np.arange(3), np.zeros(3))


# ------------------------------------------------------------------------------- intervals


def test_a_single_variance_gives_the_t_test():
    values = np.array([0.3, 1.2, -0.4, 0.9, 1.1])
    theirs = stats.ttest_1samp(values, 0)
    low, high = theirs.confidence_interval(0.9)
    ours = combine(values.mean(), [values.var(ddof=1) / 5], [4], confidence=0.9)
    assert [ours.low, ours.high] == pytest.approx([low, high])
    assert ours.p == pytest.approx(theirs.pvalue)


@given(
    st.floats(-20, 20),
    st.lists(st.tuples(st.floats(0.01, 10), st.floats(1, 100)), min_size=1, max_size=3),
)
def test_p_is_where_the_interval_meets_zero(value, parts):
    variances, freedoms = zip(*parts, strict=True)
    p = combine(value, variances, freedoms).p
    if 1e-9 < p < 1 - 1e-6:  # beyond, 1 - p is rounded away
        edge = combine(value, variances, freedoms, confidence=1 - p)
        assert min(abs(edge.low), abs(edge.high)) == pytest.approx(0, abs=1e-4 * abs(value))


def test_no_difference_and_no_variance_are_certain():
    assert combine(0.0, [0.0], [5]).p == 1
    assert combine(0.1, [0.0], [5]).p == 0


@pytest.mark.parametrize(("seeds", "worst_of_satterthwaite"), [(3, 0.07), (5, 0.055)])
def test_the_level_holds_for_any_mix_of_variances_where_satterthwaite_breaks_it(
    seeds, worst_of_satterthwaite
):
    rng, tries = np.random.default_rng(0), 100_000
    z = np.abs(rng.standard_normal(tries))
    worst = {"ours": 0.0, "satterthwaite": 0.0}
    for share in (0.1, 0.5, 0.75, 0.9):
        # `share` of the variance is the seeds', the rest is that of many items.
        items_part = (1 - share) * rng.chisquare(500, tries) / 500
        seeds_part = share * rng.chisquare(seeds - 1, tries) / (seeds - 1)
        parts = np.stack([items_part, seeds_part], axis=-1)
        total = parts.sum(axis=-1)
        freedom = total**2 / (items_part**2 / 500 + seeds_part**2 / (seeds - 1))
        satterthwaite = np.sqrt(total) * stats.t.isf(0.025, freedom)
        for name, width in (
            ("ours", half_width(parts, [500, seeds - 1], 0.05)),
            ("satterthwaite", satterthwaite),
        ):
            worst[name] = max(worst[name], np.mean(z > width))
    assert worst["ours"] < upper(0.05, tries)
    assert worst["satterthwaite"] > worst_of_satterthwaite


PARTS = st.lists(st.tuples(st.floats(0, 10), st.floats(1, 1000)), min_size=1, max_size=4).filter(
    lambda parts: sum(v for v, _ in parts) > 1e-6
)


@given(PARTS, st.floats(1e-6, 0.5))
def test_half_widths_are_those_of_a_loop_and_below_the_bound(parts, level):
    (found,) = half_width([[v for v, _ in parts]], [f for _, f in parts], [level])
    total = sum(v for v, _ in parts)
    if min(f for _, f in parts) >= ENOUGH:
        freedom = total / sum(v / f for v, f in parts)
        expected = total**0.5 * stats.t.isf(level / 2, freedom)
    else:
        expected = sum(v * stats.t.isf(level / 2, f) for v, f in parts) / total**0.5
    assert found == pytest.approx(expected, rel=1e-6)
    # That of Banerjee (1960), which holds for normal values whatever the variances.
    bound = sum(v * stats.t.isf(level / 2, f) ** 2 for v, f in parts) ** 0.5
    assert found <= bound * (1 + 1e-9)
    least = total**0.5 * stats.norm.isf(level / 2)
    assert found >= least * (1 - 1e-9)


def test_without_any_variance_the_interval_is_a_point():
    assert half_width([0.0, 0.0], [100, 4], 0.05) == 0
    assert half_width([0.0, 0.0], [100, 2], 0.05) == 0


# ------------------------------------------------------------------------------------- MSE


def test_mse_and_its_errors_by_hand():
    # Squared errors of a's two seeds: 0 0 0 0 and 4 0 0 0; of b: 1 1 1 1 in every run.
    found = measure_mse(small(a=[[1, 2, 3, 4], [3, 2, 3, 4]], b=[[2, 3, 4, 5]] * 3))
    a, b, d = found.interval("a"), found.interval("b"), found.difference("a", "b")
    assert [a.value, b.value, d.value] == [0.5, 1.0, -0.5]
    # Means over seeds 2 0 0 0, residuals' sums by item ±1: 2 (1 + 1) / 16 = 0.25. Each seed differs
    # from that mean by ∓2 0 0 0, sums by item ∓1 and ±1 again: (0.25 + 0.25) / (2 · 1) of it is the
    # seeds' as well. Seeds 0 and 1: 0.5 / 2.
    assert a.error == d.error == pytest.approx(np.sqrt(0.25 - 0.25 + 0.25))
    # Two items and two seeds leave one degree of freedom each, so both variances share one t.
    assert d.high - d.value == pytest.approx(stats.t.isf(0.025, 1) * np.sqrt(0.25))
    assert b.error == 0
    assert found.sd_over_seeds("a") == pytest.approx(np.sqrt(0.5))
    assert found.sd_over_seeds("b") == 0
    assert a.low == 0  # an MSE below 0 cannot be
    assert found.ranking() == ["a", "b"]


def test_runs_that_repeat_themselves_change_nothing():
    once, thrice = small(a=[[1, 3, 3, 4.1]]), small(a=[[1, 3, 3, 4.1]] * 3)
    for predictions in (once, thrice):
        again = small(**predictions.predicted, b=[[1.3, 2, 2.2, 4]])
        assert measure_mse(again).difference("a", "b").value == pytest.approx(
            measure_mse(small(a=[[1, 3, 3, 4.1]], b=[[1.3, 2, 2.2, 4]])).difference("a", "b").value
        )
    both = measure_mse(small(a=[[1, 3, 3, 4.1]] * 3, b=[[1, 3, 3, 4.1]]))
    assert both.difference("a", "b").p == 1


def test_a_system_trained_once_says_that_its_seed_variance_is_not_known():
    predictions = simulated(np.random.default_rng(0), {"a": 3, "once": 1, "fixed": 0})
    found = measure_mse(predictions)
    known = {pair: found.difference(*pair).seed_variance_known for pair in
             itertools.permutations(["a", "once", "fixed"], 2)}  # fmt: skip
    assert known == {pair: "once" not in pair for pair in known}
    assert np.isnan(found.sd_over_seeds("once"))


def test_what_item_and_seed_do_together_is_that_of_an_analysis_of_variance():
    errors = np.random.default_rng(0).gamma(1, 2, (4, 30))  # [seeds, items]
    mean, square = errors.mean(), 0.0
    for seed in range(4):
        for item in range(30):
            own = errors[seed, item] - errors[seed].mean() - errors[:, item].mean() + mean
            square += own**2 / (3 * 29)  # the mean square of the interaction
    clusters = Clusters(np.arange(30))
    assert repeated(clusters.variance, errors) == pytest.approx(square / (4 * 30))
    assert repeated(clusters.variance, errors[:1]) == 0
    # In each part by itself, it is there once.
    of_items, of_seeds = np.zeros(30), np.zeros(4)
    for item in range(30):
        of_items[item] = errors[:, item].mean() - mean
    for seed in range(4):
        of_seeds[seed] = errors[seed].mean() - mean
    both = sum(of_items**2) / (29 * 30) + sum(of_seeds**2) / (3 * 4)
    predictions = Predictions(np.zeros(30), np.arange(30), np.zeros(30), {"a": np.sqrt(errors)})
    found = measure_mse(predictions).interval("a")
    assert found.error**2 == pytest.approx(both - square / 120)


def test_a_system_is_never_told_apart_from_itself():
    predictions = simulated(np.random.default_rng(1), {"a": 5})
    runs = predictions.predicted["a"]
    twice = replace(predictions, predicted={"a": runs, "again": runs.copy()})
    found = measure_mse(twice).difference("a", "again")
    assert (found.value, found.p) == (0, 1)


@pytest.mark.parametrize("seeds", [3, 5])
def test_the_order_of_items_and_seeds_changes_nothing(seeds):
    rng = np.random.default_rng(2)
    predictions = simulated(rng, {"a": seeds, "b": seeds, "c": 0})
    rows, runs = rng.permutation(len(predictions.truth)), rng.permutation(seeds)
    other = Predictions(
        predictions.truth[rows],
        predictions.item[rows],
        predictions.period[rows],
        {s: r[:, rows][runs if len(r) > 1 else [0]] for s, r in predictions.predicted.items()},
        predictions.deterministic,
    )
    for pair in itertools.combinations("abc", 2):
        before, after = (measure_mse(one).difference(*pair) for one in (predictions, other))
        for name in ("value", "error", "low", "high", "p"):
            assert getattr(after, name) == pytest.approx(getattr(before, name), rel=1e-9)


def test_a_constant_error_shifts_the_interval():
    predictions = simulated(np.random.default_rng(3), {"a": 5, "b": 5})
    errors = predictions.predicted["a"] - predictions.truth
    worse = predictions.truth + np.sqrt(errors**2 + 0.7)
    other = replace(predictions, predicted={**predictions.predicted, "a": worse})
    before, after = (measure_mse(one).difference("a", "b") for one in (predictions, other))
    assert after.error == pytest.approx(before.error)
    for name in ("value", "low", "high"):
        assert getattr(after, name) == pytest.approx(getattr(before, name) + 0.7)


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("level", [0.05, 0.01])
def test_skewed_errors_of_both_systems_keep_the_level(seeds, level):
    runs, items = 4000, 215
    draw = np.random.default_rng(4)
    value, of_items = level_and_power.item_parts(draw, "both", items, runs)
    true = level_and_power.item_variance("both") / items  # seeds add as much again
    value = value + draw.normal(0, true**0.5, runs)
    of_seeds = true / 2 * draw.chisquare(seeds - 1, (runs, 2)) / (seeds - 1)
    parts = np.column_stack([of_items, of_seeds])
    width = half_width(parts, [items - 1, seeds - 1, seeds - 1], level)
    assert np.mean(np.abs(value) > width) < upper(level, runs)
    # A difference of four standard errors is found, so the test is not empty.
    far = np.abs(value + 4 * np.sqrt(2 * true)) > width
    assert far.mean() > (0.4 if level == 0.05 else 0.1)


def naive_p(predictions, a, b):
    """The paired t-test over rows that takes every row for independent."""
    mean = {
        s: ((r - predictions.truth) ** 2).mean(axis=0) for s, r in predictions.predicted.items()
    }
    return stats.ttest_rel(mean[a], mean[b]).pvalue


def rejections(systems, tries, seed, p_of, **options):
    rng = np.random.default_rng(seed)
    found = [p_of(simulated(rng, systems, **options)) for _ in range(tries)]
    return np.mean(np.array(found) <= 0.05)


def mse_p(predictions):
    return measure_mse(predictions).difference("a", "b").p


LUCK = pytest.mark.parametrize(
    ("a", "b", "options"),
    [
        (0, 0, {}),
        (3, 0, {"items": 200, "seed_sd": 0.2}),
        (5, 5, {"items": 200, "seed_sd": 0.2}),
        (5, 3, {"items": 200, "seed_sd": 0.2, "item_sd": 0.1}),
    ],
    ids=["items", "three seeds", "five seeds", "mostly seeds"],
)


@LUCK
def test_equal_systems_are_told_apart_no_more_often_than_said(a, b, options):
    rate = rejections({"a": a, "b": b}, 300, 1, mse_p, **options)
    naive = rejections({"a": a, "b": b}, 150, 1, lambda p: naive_p(p, "a", "b"), **options)
    assert rate < upper(0.05, 300)
    assert naive > 0.2  # so the rows do hold luck that can be mistaken for skill


@pytest.mark.slow
@LUCK
@pytest.mark.parametrize("items", [15, 400])
def test_equal_systems_are_told_apart_no_more_often_than_said_at_length(a, b, options, items):
    rate = rejections({"a": a, "b": b}, 3000, 2, mse_p, **options | {"items": items})
    assert rate < upper(0.05, 3000)


@pytest.mark.slow
def test_three_seeds_of_a_skewed_error_are_the_limit_of_the_method():
    # A seed's error has the mean square 1 + (1 + u)², u ~ N(0, 1): the middle one of three runs is
    # far below the mean of all, and says nothing of it. The docstring's "about twice too often".
    rng, tries, rejected = np.random.default_rng(3), 2000, 0
    for _ in range(tries):
        error = 1 + rng.normal(0, 1, (3, 1)) + rng.normal(0, 1, (3, 600))
        fixed = np.sqrt(2) * (1 + rng.normal(0, np.sqrt(0.5), (1, 600)))
        predicted = {"a": error, "b": fixed}  # both of the mean square 3
        item = np.repeat(np.arange(200), 3)
        truth, period = np.zeros(600), np.tile(np.arange(3), 200)
        rejected += mse_p(Predictions(truth, item, period, predicted, frozenset("b"))) <= 0.05
    assert 0.07 < rejected / tries < 0.16


def test_clusters_of_items_alone_use_their_level_up():
    # Else a test that never rejects would pass all others.
    assert rejections({"a": 0, "b": 0}, 600, 3, mse_p) > 0.05 - 3 * np.sqrt(0.05 * 0.95 / 600)


def test_periods_of_common_luck_need_the_two_way_variance():
    rng, tries = np.random.default_rng(4), 300
    item, period = (axis.ravel() for axis in np.indices((30, 12)))
    p = {False: [], True: []}
    for _ in range(tries):
        # In some periods everyone is hard to predict for a, in others for b.
        errors = 1 + rng.normal(0, 0.5, (2, 12))[:, period] + rng.normal(0, 0.5, (2, len(item)))
        predicted = {"a": errors[:1], "b": errors[1:]}
        predictions = Predictions(np.zeros(len(item)), item, period, predicted)
        for by_period in p:
            p[by_period].append(
                measure_mse(predictions, by_period=by_period).difference("a", "b").p
            )
    assert np.mean(np.array(p[True]) <= 0.05) < upper(0.05, tries)
    assert np.mean(np.array(p[False]) <= 0.05) > 0.3


def test_intervals_cover_the_expected_error():
    rng, tries, expected = np.random.default_rng(5), 300, 1 + 1 + 1
    inside = {"a": 0, "b": 0}
    for _ in range(tries):
        found = measure_mse(simulated(rng, {"a": 5, "b": 0}, items=100, seed_sd=0.2))
        for system in inside:
            estimate = found.interval(system)
            inside[system] += estimate.low <= expected <= estimate.high
    for count in inside.values():
        assert 1 - count / tries < upper(0.05, tries)


def test_a_real_difference_is_found():
    # The expected squared error is 3; a third more is six standard errors of 0.15.
    rate = rejections({"a": 5, "b": 5}, 50, 6, mse_p, items=800, seed_sd=0.01, shift={"b": 1.0})
    assert rate > 0.95


# --------------------------------------------------------------------------- precision at N %


def ranked(rng, seeds, items=150, per_item=4, deterministic=False):
    """Systems of one expected P@N: the truth plus errors of item, seed and row."""
    item = np.repeat(np.arange(items), per_item)
    truth = rng.gamma(1, 2, items)[item] + rng.normal(0, 0.5, len(item))
    predicted = {}
    for name in ("a", "b"):
        error = rng.normal(0, 1.5, items)[item] + rng.normal(0, 0.3, (seeds, len(item)))
        # A seed that hides a part of the items' skill moves P@N as a whole.
        skill = 1 - rng.uniform(0, 0 if deterministic else 0.6, (seeds, 1))
        predicted[name] = skill * truth + error
    fixed = frozenset(predicted) if deterministic else frozenset()
    return Predictions(truth, item, np.tile(np.arange(per_item), items), predicted, fixed)


def test_bootstrap_of_precision_is_that_of_a_naive_loop():
    predictions = ranked(np.random.default_rng(0), seeds=2)
    found = measure_precision(predictions, [5, 10], replicates=2000, seed=1)
    rng, naive = np.random.default_rng(2), {5: [], 10: []}
    rows_of = [np.flatnonzero(predictions.item == item) for item in range(150)]
    for _ in range(300):
        rows = np.concatenate([rows_of[item] for item in rng.integers(0, 150, 150)])
        for percent, values in naive.items():
            score = {
                s: np.mean([precision_at(percent, predictions.truth[rows], run[rows]) for run in r])
                for s, r in predictions.predicted.items()
            }
            values.append([score["a"], score["a"] - score["b"]])
    for percent, values in naive.items():
        samples = {name: one.mean(axis=0) for name, one in found[percent].samples.items()}
        ours = np.column_stack([samples["a"], samples["a"] - samples["b"]])
        # A standard deviation of 300 values is known to 1 / √600 = 4 %; four times that.
        np.testing.assert_allclose(ours.std(axis=0), np.std(values, axis=0), rtol=0.17)
        tolerance = 4 * np.std(values) / np.sqrt(300)
        np.testing.assert_allclose(ours.mean(axis=0), np.mean(values, axis=0), atol=tolerance)
        expected = [
            precision_at(percent, predictions.truth, run) for run in predictions.predicted["a"]
        ]
        assert found[percent].interval("a").value == pytest.approx(np.mean(expected))


def test_bootstrap_repeats_itself_by_seed_whatever_the_chunk(monkeypatch):
    predictions = ranked(np.random.default_rng(0), seeds=1, items=30)
    for by_period in (False, True):
        options = {"replicates": 50, "by_period": by_period}
        whole = measure_precision(predictions, seed=3, **options)[5].samples["a"]
        other = measure_precision(predictions, seed=4, **options)[5].samples["a"]
        with monkeypatch.context() as patch:
            patch.setattr("mmnet.evaluation.significance.CHUNK", 7 * 120)
            parts = measure_precision(predictions, seed=3, **options)[5].samples["a"]
        np.testing.assert_array_equal(whole, parts)
        assert (whole != other).any()


def test_resampled_weights_are_products_of_an_items_and_a_periods_draws():
    item, period = (axis.ravel() for axis in np.indices((5, 3)))
    (one_way,) = Clusters(item).resample(200, seed=0)
    (two_way,) = Clusters(item, period).resample(200, seed=0)
    assert (one_way.reshape(5, 3, -1) == one_way.reshape(5, 3, -1)[:, :1]).all()
    assert (one_way.reshape(5, 3, -1)[:, 0].sum(axis=0) == 5).all()
    assert (two_way.sum(axis=0) == 15).all()
    table = two_way[:, 0].reshape(5, 3)
    assert np.linalg.matrix_rank(table) == 1


def test_constants_are_ties_and_not_different():
    truth = np.arange(40.0)
    predicted = {"a": np.full((1, 40), 2.0), "b": np.full((1, 40), 7.0)}
    item = np.repeat(np.arange(20), 2)
    predictions = Predictions(truth, item, np.arange(40), predicted, frozenset(predicted))
    found = measure_precision(predictions, [5, 10], replicates=20)
    for percent, measured in found.items():
        assert measured.interval("a").value == percent / 100  # chance, exactly
        assert measured.difference("a", "b").p == 1


def test_equal_precision_is_told_apart_no_more_often_than_said():
    rng, tries = np.random.default_rng(7), 150
    for deterministic, seeds in ((True, 1), (False, 3)):
        rejected = 0
        for _ in range(tries):
            predictions = ranked(rng, seeds, deterministic=deterministic)
            found = measure_precision(predictions, [10], replicates=100)[10]
            rejected += found.difference("a", "b").p <= 0.05
        assert rejected / tries < upper(0.05, tries)


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "deterministic"), [(1, True), (3, False), (5, False)])
@pytest.mark.parametrize("percent", [5, 10])
def test_equal_precision_is_told_apart_no_more_often_than_said_at_length(
    seeds, deterministic, percent
):
    rng, tries, rejected = np.random.default_rng(8), 1000, 0
    for _ in range(tries):
        predictions = ranked(rng, seeds, deterministic=deterministic)
        found = measure_precision(predictions, [percent], replicates=200)[percent]
        rejected += found.difference("a", "b").p <= 0.05
    assert rejected / tries < upper(0.05, tries)


def test_a_real_difference_of_precision_is_found():
    predictions = ranked(np.random.default_rng(9), seeds=5, items=500)
    worse = predictions.truth + np.random.default_rng(0).normal(0, 6, (5, 2000))
    both = {"a": predictions.predicted["a"], "worse": worse}
    predictions = Predictions(predictions.truth, predictions.item, predictions.period, both)
    for measured in measure_precision(predictions, replicates=200).values():
        estimate = measured.difference("a", "worse")
        assert estimate.low > 0
        assert estimate.p < 0.01
