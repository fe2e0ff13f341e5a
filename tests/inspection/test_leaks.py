import numpy as np
import pandas as pd
import pytest

from mmnet.inspection import leaks
from tests.inspection.generated import alarms, clean, look

NAMES = ("shares", "clicks")


def outcomes(clicks, shares, cuts=(0,)):
    clicks, shares = np.asarray(clicks, float), np.asarray(shares, float)
    first = np.where((clicks > 0).any(axis=1), (clicks > 0).argmax(axis=1), clicks.shape[1])
    later = [np.stack([array[:, cut:].sum(axis=1) for cut in cuts]) for array in (clicks, shares)]
    return leaks.Outcomes(first, clicks.shape[1], cuts, *later, tuple(f"from {c}" for c in cuts))


def few_clicks(seed=0, items=600):
    """Items of one category with four clicks each: nearly all that differs is chance."""
    draw = np.random.default_rng(seed)
    clicks = np.full((items, 2), 2)
    return clicks, draw.binomial(clicks, draw.beta(3, 6, items)[:, None]), draw


@pytest.mark.parametrize("seed", range(20))
def test_clean_tables_raise_no_alarm(seed, tmp_path):
    counts, items, _, _ = clean(seed)
    assert not alarms(look(tmp_path, counts, items))


@pytest.mark.parametrize("start", [0, 0.5, 0.9])
def test_a_total_of_later_clicks_is_named(start):
    _, _, clicks, shares = clean(1)
    cuts = (0, len(clicks[0]) // 2, int(0.9 * len(clicks[0])))
    total = clicks[:, int(start * len(clicks[0])) :].sum(axis=1)
    (found,) = leaks.of_number("plays", total.astype(float), outcomes(clicks, shares, cuts), NAMES)
    assert "clicks" in found.reason


def test_a_noisy_total_in_another_unit_has_its_order():
    _, _, clicks, shares = clean(2)
    total = 0.37 * clicks.sum(axis=1) * np.random.default_rng(0).uniform(0.9, 1.1, len(clicks))
    (found,) = leaks.of_number("views", total, outcomes(clicks, shares), NAMES)
    assert found.reason.startswith("has the order of the clicks")


def test_a_rate_in_percent_is_named():
    _, _, clicks, shares = clean(3)
    rate = np.round(100 * shares.sum(axis=1) / np.maximum(clicks.sum(axis=1), 1), 3)
    (found,) = leaks.of_number("ctr", rate, outcomes(clicks, shares), NAMES)
    assert found.reason.startswith("equals the shares per clicks")


@pytest.mark.parametrize("parts", [2, 4])
def test_a_category_assigned_by_few_clicks_knows_their_chance(parts):
    clicks, shares, draw = few_clicks()
    rate = shares.sum(axis=1) + 1e-6 * draw.random(len(shares))
    codes = pd.qcut(rate, parts, labels=False)
    found = leaks.of_groups("hot", codes, outcomes(clicks, shares), NAMES, tiles=False)
    assert "more finely than sampling noise" in found[0].reason


def test_a_category_of_true_rates_does_not_know_chance():
    draw = np.random.default_rng(4)
    true = draw.beta(2, 6, 2000)
    clicks = np.full((2000, 1), 4)
    shares = draw.binomial(clicks[:, 0], true)[:, None]
    codes = pd.qcut(true, 10, labels=False)
    assert not leaks.of_groups("tier", codes, outcomes(clicks, shares), NAMES)


def test_shares_computed_from_rates_have_no_noise_to_know():
    # 10 % of clicks to the digit: nothing varies by chance, so nothing can be said of it.
    clicks = np.random.default_rng(0).integers(10, 40, (200, 10))
    category = np.arange(200) % 2
    shares = clicks * (1 + category[:, None]) // 10
    assert not leaks.outcomes_are_noisy(*leaks.halves(clicks, shares))


@pytest.mark.parametrize("part", [0.1, 0.5])
def test_a_category_that_cuts_the_rates_of_many_clicks_is_named(part):
    draw = np.random.default_rng(5)
    clicks = np.full((300, 1), 100_000)
    shares = draw.binomial(100_000, draw.beta(2, 20, 300))[:, None]
    codes = (shares[:, 0] > np.quantile(shares, 1 - part)).astype(int)
    (found,) = leaks.of_groups("hot", codes, outcomes(clicks, shares), NAMES)
    assert found.reason.startswith(
        "its values are ranges of the items ordered by shares per clicks"
    )


def test_a_tiny_category_with_the_most_clicks_is_no_run():
    clicks = np.random.default_rng(6).integers(1, 9, (500, 1))
    codes = np.zeros(500, int)
    codes[:12] = 1  # twelve items of any size
    assert not leaks.of_groups("kind", codes, outcomes(clicks, clicks // 2), NAMES)


@pytest.mark.parametrize("part", [0.05, 0.2])
def test_a_column_empty_for_the_newest_items_is_named(part):
    age = np.random.default_rng(0).permutation(400).astype(float)
    (found,) = leaks.empty_for_newest("tags", age >= 400 * (1 - part), age)
    assert "newest" in found.reason


def test_a_column_empty_here_and_there_is_not_named():
    draw = np.random.default_rng(1)
    age = draw.random(400)
    for share in (0.01, 0.3, 0.9):
        assert not leaks.empty_for_newest("tags", draw.random(400) < share, age)
    assert not leaks.empty_for_newest("tags", age < 0.2, age)  # of the oldest
