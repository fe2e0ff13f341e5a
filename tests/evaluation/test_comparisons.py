"""Corrections and letters against statsmodels and loops; the tables of a simulated experiment."""

import itertools
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from mmnet.evaluation.comparisons import compare, holm, letters, pairs, step_down
from mmnet.evaluation.metrics import mse
from mmnet.evaluation.significance import Predictions, measure, measure_mse
from tests.evaluation.test_significance import simulated, upper


def test_holm_is_that_of_statsmodels():
    p = np.random.default_rng(0).random(50) ** 4
    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1], rtol=1e-12)


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_is_that_of_a_loop(p):
    expected, largest = np.zeros(len(p)), 0.0
    for step, position in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        largest = max(largest, (len(p) - step) * p[position])
        expected[position] = min(1, largest)
    np.testing.assert_allclose(holm(p), expected, rtol=1e-12)


def independent(sizes):
    """Standard errors of all differences of independent systems."""
    errors = np.hypot(*np.meshgrid(sizes, sizes))
    np.fill_diagonal(errors, 0)
    return errors


@pytest.mark.parametrize("systems", [3, 7])
def test_the_smallest_p_of_equal_systems_is_that_of_tukey(systems):
    errors, top = independent(np.ones(systems)), np.triu_indices(systems, 1)
    p = np.full((systems, systems), 0.9)
    p[0, 1] = p[1, 0] = 0.004
    z = stats.norm.isf(0.002)
    expected = stats.studentized_range.sf(z * 2**0.5, systems, np.inf)
    found = step_down(p, errors)[list(zip(*top, strict=True)).index((0, 1))]
    # Four standard errors of a share of 10,000 draws.
    assert found == pytest.approx(expected, abs=4 * np.sqrt(expected / 10_000))
    assert found < holm(p[top]).min()


def test_step_down_is_that_of_a_loop():
    rng, sizes = np.random.default_rng(5), np.array([0.5, 1.0, 2.0, 0.1])
    pairs_of = list(itertools.combinations(range(4), 2))
    p = np.ones((4, 4))
    for (one, other), value in zip(pairs_of, [0.2, 0.003, 0.03, 0.02, 0.4, 0.9], strict=True):
        p[one, other] = p[other, one] = value
    found = step_down(p, independent(sizes))
    order = sorted(pairs_of, key=lambda pair: p[pair])
    systems = rng.normal(size=(4000, 4)) * sizes
    largest = 0.0
    for place, pair in enumerate(order):
        exceeded = 0
        for drawn in systems:
            own = [
                stats_sf(abs(drawn[i] - drawn[j]) / np.hypot(sizes[i], sizes[j]))
                for i, j in order[place:]
            ]
            exceeded += min(own) <= p[pair]
        largest = max(largest, exceeded / 4000)
        # Four standard errors of two shares, of 4,000 and of 10,000 draws.
        tolerance = 4 * np.sqrt(0.25 * (1 / 4000 + 1 / 10_000))
        assert found[pairs_of.index(pair)] == pytest.approx(largest, abs=tolerance)


def stats_sf(z):
    return math.erfc(z / 2**0.5)  # two-sided normal


@given(differences_of=st.integers(0, 2**32 - 1), size=st.integers(2, 6))
@settings(max_examples=20, deadline=None)
def test_adjusted_values_lie_between_p_and_holms(differences_of, size):
    rng = np.random.default_rng(differences_of)
    p = rng.random((size, size)) ** 3
    p = np.triu(p, 1) + np.triu(p, 1).T
    own = p[np.triu_indices(size, 1)]
    found = step_down(p, independent(rng.gamma(1, 1, size)), draws=200)
    assert (found >= own).all()
    assert (found <= holm(own)).all()
    order = np.argsort(own, kind="stable")
    assert (np.diff(found[order]) >= 0).all()


def test_pairs_that_say_the_same_are_counted_once():
    # The second system is the first one again, so both differences from the third are one.
    p = np.array([[1, 1, 0.02], [1, 1, 0.02], [0.02, 0.02, 1]])
    errors = np.array([[0, 0, 1.0], [0, 0, 1.0], [1.0, 1.0, 0]])
    # One share of 10,000 draws; Holm's is 0.06.
    assert step_down(p, errors)[1:] == pytest.approx(0.02, abs=0.006)
    assert step_down(p, errors, np.array([[0, 0, 1], [0, 0, 0], [0, 0, 0]], bool)) == [0.02]


def test_adjustment_keeps_the_chance_of_any_false_difference():
    rng, tries, systems = np.random.default_rng(10), 200, dict.fromkeys("abcde", 0)
    falsely = {"p": 0, "p_adjusted": 0}
    for _ in range(tries):
        found = pairs({("normal", "mse"): measure_mse(simulated(rng, systems))})
        for column in falsely:
            falsely[column] += found[column].min() <= 0.05
    assert falsely["p_adjusted"] / tries < upper(0.05, tries)
    assert falsely["p"] / tries > 0.15


@st.composite
def differences(draw):
    size = draw(st.integers(1, 8))
    upper_part = np.triu(draw(st.integers(0, 2**32 - 1).map(
        lambda seed: np.random.default_rng(seed).random((size, size))
    )) < draw(st.sampled_from([0.2, 0.5, 0.8])), 1)  # fmt: skip
    return upper_part | upper_part.T


@given(differences())
def test_systems_share_a_letter_if_and_only_if_they_do_not_differ(different):
    found = letters(different)
    for one, other in itertools.combinations(range(len(found)), 2):
        assert bool(set(found[one]) & set(found[other])) != different[one, other]
    assert "a" in found[0]
    # No letter is superfluous: none covers only systems that another covers too.
    groups = {
        letter: {i for i, own in enumerate(found) if letter in own} for letter in "".join(found)
    }
    assert not any(groups[one] <= groups[other] for one, other in itertools.permutations(groups, 2))


def test_letters_by_hand():
    none = np.zeros((3, 3), bool)
    assert letters(none) == ["a", "a", "a"]
    assert letters(~np.eye(3, dtype=bool)) == ["a", "b", "c"]
    assert len(set(letters(~np.eye(60, dtype=bool)))) == 60  # more than the alphabet holds
    with pytest.raises(ValueError, match="symmetric"):
        letters(np.array([[0, 1], [0, 0]]))


# ---------------------------------------------------------------------------------- tables


@pytest.fixture(scope="module")
def case():
    predictions = simulated(
        np.random.default_rng(11),
        {"good": 5, "bad": 5, "floor": 0, "once": 1},
        items=300,
        seed_sd=0.02,
        shift={"bad": 3.0},
    )
    rng = np.random.default_rng(12)
    truth = predictions.truth + rng.gamma(1, 1, len(predictions.truth))
    predictions = Predictions(
        truth,
        predictions.item,
        predictions.period,
        {s: r + truth - predictions.truth for s, r in predictions.predicted.items()},
        predictions.deterministic,
    )
    measures = measure({"normal": predictions, "noisy": predictions}, replicates=100)
    return SimpleNamespace(predictions=predictions, measures=measures)


def test_the_table_holds_every_system_of_every_column(case):
    table = compare(case.measures, "floor")
    assert len(table) == 2 * 3 * 4
    assert list(table.columns) == [
        "scenario", "metric", "system", "n_seeds", "value", "sd_over_seeds", "low", "high",
        "letters", "difference", "difference_low", "difference_high", "p", "p_adjusted",
        "seed_variance_known",
    ]  # fmt: skip
    assert set(table["metric"]) == {"mse", "precision_at_5", "precision_at_10"}
    rows = table.set_index(["scenario", "metric", "system"])
    for system, runs in case.predictions.predicted.items():
        row = rows.loc[("noisy", "mse", system)]
        expected = [mse(case.predictions.truth, run) for run in runs]
        assert row["value"] == pytest.approx(np.mean(expected))
        assert row["n_seeds"] == len(runs)
        assert row["low"] < row["value"] < row["high"]
        assert row["seed_variance_known"] == (system != "once")
    floor = rows.xs("floor", level="system")
    assert floor[["difference", "p", "p_adjusted"]].isna().all(axis=None)


def test_the_best_comes_first_and_letters_follow_all_pairs(case):
    table, every = compare(case.measures, "good", alpha=0.01), pairs(case.measures)
    assert len(every) == 2 * 3 * 6
    for (scenario, metric), rows in table.groupby(["scenario", "metric"]):
        ascending = metric == "mse"
        assert rows["value"].is_monotonic_increasing if ascending else (
            rows["value"].is_monotonic_decreasing
        )  # fmt: skip
        assert "a" in rows["letters"].iloc[0]
        own = rows.set_index("system")["letters"]
        chosen = every[(every["scenario"] == scenario) & (every["metric"] == metric)]
        assert (chosen["p_adjusted"] >= chosen["p"]).all()
        assert (chosen["p_adjusted"] <= holm(chosen["p"])).all()
        for pair in chosen.itertuples():
            assert bool(set(own[pair.system]) & set(own[pair.other])) == (pair.p_adjusted > 0.01)
    worst = table[(table["metric"] == "mse") & (table["system"] == "bad")]
    assert (worst["p_adjusted"] < 0.01).all()
    assert not worst["letters"].str.contains("a").any()


def test_differences_are_system_minus_reference_corrected_among_themselves(case):
    table = compare(case.measures, "good")
    rows = table[(table["scenario"] == "normal") & (table["metric"] == "mse")]
    good = rows.set_index("system")["value"]["good"]
    others = rows[rows["system"] != "good"]
    np.testing.assert_allclose(others["difference"], others["value"] - good)
    assert (others["p_adjusted"] >= others["p"]).all()
    assert (others["p_adjusted"] <= holm(others["p"])).all()
    assert (others["difference_low"] < others["difference"]).all()
    # Three comparisons, not six pairs.
    every = pairs(case.measures)
    every = every[(every["scenario"] == "normal") & (every["metric"] == "mse")]
    with_good = every[(every["system"] == "good") | (every["other"] == "good")]
    assert (others["p_adjusted"].sum()) < with_good["p_adjusted"].sum()


def test_adjusted_values_do_not_depend_on_names_order(case):
    measured = case.measures["normal", "mse"]
    turned = {
        field: dict(reversed(getattr(measured, field).items()))
        for field in ("seeds", "num_seeds", "samples")
    }
    keys = ["system", "other"]
    before = pairs({("normal", "mse"): measured}).set_index(keys)
    after = pairs({("normal", "mse"): replace(measured, **turned)}).set_index(keys)
    pd.testing.assert_frame_equal(before, after)


def test_refuses_a_reference_that_is_not_there(case):
    with pytest.raises(ValueError, match="Did you mean floor"):
        compare(case.measures, "flor")


def test_a_table_of_one_system_has_nothing_to_compare():
    measures = measure({"normal": simulated(np.random.default_rng(0), {"a": 3})}, replicates=10)
    table = compare(measures, "a")
    assert table["letters"].tolist() == ["a"] * 3
    assert table["p"].isna().all()
    assert pairs(measures).empty
